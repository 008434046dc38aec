"""What is known of a session: its id, its end, and how it has ended. Pure."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable

import attrs

from aiosmrt.errors import SessionEnd
from aiosmrt.http import parse_date
from aiosmrt.models import InvokeEndpointResponse
from aiosmrt.plain_text import to_line

__all__ = ["NEW_SESSION", "SessionState"]

_log = logging.getLogger("aiosmrt")

NEW_SESSION = "NEW_SESSION"
"""What the service takes for the id of a session that is to be opened, and so is no id."""

# Seconds by which what is left of a session may seem too much: dates over HTTP have whole ones.
_MARGIN = 1.0


@attrs.define
class SessionState:
    """A session as its answers show it.

    How long it lasts is told by the answer alone, which has both dates; neither this machine's
    clock nor what happens to it counts.

    Attributes:
        clock: seconds of a clock that nobody sets.
        session_id: `None` as long as none was opened.
        expires_at: when it ends, in UTC; `None` where the container has not said.
    """

    clock: Callable[[], float] = time.monotonic
    session_id: str | None = attrs.field(default=None, init=False)
    expires_at: datetime.datetime | None = attrs.field(default=None, init=False)
    _deadline: float | None = attrs.field(default=None, init=False)  # by the clock
    _end: SessionEnd | None = attrs.field(default=None, init=False)

    @property
    def end(self) -> SessionEnd | None:
        """How it has ended, `None` while nothing is known of an end."""
        if self._end is None and self._deadline is not None and self.clock() >= self._deadline:
            self._end = "expired"
        return self._end

    @property
    def is_open(self) -> bool:
        """Whether there is a session that has not ended."""
        return self.session_id is not None and self.end is None

    def note(self, response: InvokeEndpointResponse) -> str | None:
        """Learn from an answer which session was opened, prolonged or closed.

        Returns:
            The id of the one that was opened or prolonged, `None` without one.
        """
        named = response.new_session_id
        if named == NEW_SESSION:  # of a container that sends back what it is sent
            named = None
        if named is not None:
            self.session_id = named
            self.expires_at = response.new_session_expires_at
            self._deadline = self._find_deadline(response)
            self._end = None
        if response.closed_session_id == self.session_id is not None:
            self._end = "closed"
        return named

    def refuse(self, session_id: str) -> None:
        """Take note that the container has no session of that id."""
        if session_id == self.session_id and self.end is None:
            self._end = "refused"

    def _find_deadline(self, response: InvokeEndpointResponse) -> float | None:
        end = response.new_session_expires_at
        if end is None:
            return None
        now = parse_date(response.metadata.headers.get("date", ""))
        left = (end - (now or datetime.datetime.now(datetime.UTC))).total_seconds()
        if left <= 0:
            _log.warning(
                "session %s was opened with an end in the past, %s, which is not believed: look at "
                "the container's clock and time zone",
                to_line(response.new_session_id or ""),
                end.isoformat(),
            )
            return None
        return self.clock() + max(left - _MARGIN, 0.0)
