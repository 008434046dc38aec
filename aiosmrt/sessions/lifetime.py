"""How a session begins and ends: opened, found to be no more, closed."""

from __future__ import annotations

import logging
from typing import Any, Protocol, Unpack

import attrs

from aiosmrt.config import Timeout
from aiosmrt.errors import ServiceError, SessionEnd, SessionExpired, UnexpectedResponse
from aiosmrt.models import InvokeEndpointResponse
from aiosmrt.plain_text import to_line
from aiosmrt.redaction import Redacted
from aiosmrt.response_stream import ResponseStreamOpening
from aiosmrt.service import (
    InvokeEndpointParameters,
    InvokeEndpointWithResponseStreamParameters,
    refuses_session,
)
from aiosmrt.sessions.call import SessionCall
from aiosmrt.sessions.state import NEW_SESSION, SessionState

__all__ = ["Invoker", "Lifetime"]

_log = logging.getLogger("aiosmrt")

_ENDS: dict[SessionEnd, str] = {
    "expired": "ended at its time, {}",
    "closed": "was closed by its container",
    "refused": "is not known to its container any longer",
}
_UNOPENED = (
    "the answer to NEW_SESSION names no session: the container keeps none, or is to be asked for "
    "one in words of its own, open_body=; AWS's containers with vLLM (that have "
    "SAGEMAKER_ENABLE_STATEFUL_SESSIONS=true in their environment) and LMI want "
    '{"requestType": "NEW_SESSION"}'
)


class Invoker(Protocol):
    """What makes calls: a client; or a session of one, for the OpenAI SDK."""

    async def invoke_endpoint(
        self, **parameters: Unpack[InvokeEndpointParameters]
    ) -> InvokeEndpointResponse:
        """Invoke a model and wait for its whole answer."""

    def invoke_endpoint_with_response_stream(
        self, **parameters: Unpack[InvokeEndpointWithResponseStreamParameters]
    ) -> ResponseStreamOpening:
        """Invoke a model that answers in parts."""


@attrs.define(eq=False)
class Lifetime:
    """Opens a session, knows whether there is one, and closes it.

    Attributes:
        invoker: who makes the calls.
        opening: the parameters of a call that does nothing but open a session, if it takes one.
        closing: the parameters of the call that closes it, if there is one.
        reopen: whether there is to be another session when one has ended.
        state: what is known of the session.
    """

    invoker: Invoker
    opening: Redacted[dict[str, Any]] | None
    closing: Redacted[dict[str, Any]] | None
    reopen: bool
    state: SessionState

    @property
    def needs_closing(self) -> bool:
        """Whether there is a session, and a way to close it."""
        return self.closing is not None and self.state.is_open

    def find_id(self, call: SessionCall) -> str | None:
        """Give the id of the session that a call is of, `None` where one has to be opened.

        Raises:
            SessionExpired: it has ended, and there is to be no other.
        """
        state = self.state
        session_id, end = state.session_id, state.end
        if session_id is None or end is None:
            return session_id
        if not self.reopen:
            raise self.report_end(call, session_id, end)
        _log.info("session %s %s: another is opened", to_line(session_id), self._describe(end))
        return None

    async def open(self, call: SessionCall) -> str:
        """Open the session that a call needs, by `opening`, and give its id.

        Raises:
            UnexpectedResponse: the answer names none.
            AiosmrtError: the call that opens it has failed.
        """
        opening = self.opening or Redacted({})
        response = await self.invoker.invoke_endpoint(
            **opening.value, session_id=NEW_SESSION, timeout=call.limit()
        )
        return self.note_opening(call, response)

    def note_opening(self, call: SessionCall, response: InvokeEndpointResponse) -> str:
        """Learn from the answer to NEW_SESSION which session it has opened, and give its id.

        Raises:
            UnexpectedResponse: none; it has the answer.
        """
        opened = self.state.note(response)
        if opened is not None:
            return opened
        metadata = response.metadata
        error = UnexpectedResponse(
            _UNOPENED, status=metadata.status, headers=metadata.headers, body=response.body
        )
        error.request_id, error.attempts = metadata.request_id, metadata.attempts
        error.may_have_run = True
        raise call.place(error)

    async def close(self, timeout: Timeout) -> str:  # noqa: ASYNC109 - it is passed on
        """Have the container close the session, if it is open, and say what speaks against that.

        Raises:
            AiosmrtError: the call has failed.
        """
        closing, session_id = self.closing, self.state.session_id
        if closing is None or session_id is None or not self.needs_closing:
            return ""
        try:
            response = await self.invoker.invoke_endpoint(
                **closing.value, session_id=session_id, timeout=timeout
            )
        except ServiceError as error:
            if refuses_session(error, session_id):
                return ""  # there is none any longer
            raise
        self.state.note(response)
        confirmed = response.closed_session_id == session_id
        return "" if confirmed else "the answer to close_body does not name it (ClosedSessionId)"

    def report_end(
        self, call: SessionCall, session_id: str, end: SessionEnd, said: ServiceError | None = None
    ) -> SessionExpired:
        """Build the error of a call whose session has ended.

        Args:
            call: that needs it.
            session_id: the session's.
            end: how it has ended.
            said: what the container has answered to the call, if it was sent.
        """
        advice = "open another one, and tell its model again what it is to know"
        if not self.reopen:
            advice += "; reopen=True opens one by itself"
        elif not call.is_repeatable:
            advice = "the body can be read only once: make the call again, in a new session"
        sent = "" if said is not None else ", and nothing was sent"
        error = SessionExpired(
            f"session {session_id} {self._describe(end)}{sent}: {advice}",
            session_id=session_id,
            expires_at=self.state.expires_at,
            reason=end,
        )
        if said is not None:
            error.request_id, error.attempts = said.request_id, said.attempts
            error.may_have_run = said.may_have_run
        call.place(error)
        return error

    def _describe(self, end: SessionEnd) -> str:
        ends_at = self.state.expires_at
        return _ENDS[end].format("which is over" if ends_at is None else ends_at.isoformat())
