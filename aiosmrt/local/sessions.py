"""Stateful sessions: which are open, until when, and what is said of those that are not."""

from __future__ import annotations

import contextlib
import datetime
import uuid
from collections.abc import AsyncIterator

import attrs

from aiosmrt.local.answers import Answer, make_model_error
from aiosmrt.local.limits import Backend
from aiosmrt.local.model import InvocationRequest, ModelResponse
from aiosmrt.service import parse_session

__all__ = ["SessionBackend", "Sessions"]

_NEW = "NEW_SESSION"
_REFUSED = 400  # what the containers of AWS say of a session that they do not have


@attrs.define
class Sessions:
    """The open sessions of each endpoint. Pure: it is told what time it is.

    Attributes:
        seconds: how long a session lasts whose model does not say when it ends.
    """

    seconds: float
    # by endpoint and id
    _ends: dict[tuple[str, str], datetime.datetime] = attrs.field(factory=dict, init=False)

    def check(self, request: InvocationRequest, now: datetime.datetime) -> None:
        """Let a request pass that is of no session, of an open one, or that opens one.

        Raises:
            ModelError: there is no such session at this endpoint, or there is none any longer. In
                the service it is the container that says so, in the words that are given here.
        """
        if request.session_id in (None, _NEW):
            return
        key = (request.endpoint_name, request.session_id or "")
        end = self._ends.get(key)
        if end is not None and end > now:
            return
        self._ends.pop(key, None)
        what = "not found" if end is None else "expired"
        said = f"Bad request: session {what}: {request.session_id}"
        raise make_model_error(request.endpoint_name, _REFUSED, said)

    def note(
        self, request: InvocationRequest, head: ModelResponse, now: datetime.datetime
    ) -> ModelResponse:
        """Take note of what an answer opens and closes, and give it with what it leaves out."""
        if head.new_session_id is not None or request.session_id == _NEW:
            head = attrs.evolve(head, new_session_id=self._open(request, head, now))
        if head.closed_session_id is not None:
            self._ends.pop((request.endpoint_name, head.closed_session_id), None)
        return head

    def _open(
        self, request: InvocationRequest, head: ModelResponse, now: datetime.datetime
    ) -> str | None:
        self._ends = {key: end for key, end in self._ends.items() if end > now}
        session_id, end = parse_session(head.new_session_id)
        session_id = session_id or str(uuid.uuid4())
        told = head.new_session_id
        if end is None:
            end = now + datetime.timedelta(seconds=self.seconds)
            told = f"{session_id}; Expires={end:%Y-%m-%dT%H:%M:%SZ}"
        self._ends[request.endpoint_name, session_id] = end
        return told


@attrs.frozen
class SessionBackend:
    """Refuses what is of no open session; a container does so itself."""

    backend: Backend
    sessions: Sessions

    async def is_ready(self) -> bool:
        """Say whether calls can be taken."""
        return await self.backend.is_ready()

    @contextlib.asynccontextmanager
    async def answer(self, request: InvocationRequest) -> AsyncIterator[Answer]:
        """Call the model.

        Raises:
            ServiceError: as the model, or that there is no such session; the parts raise it too.
        """
        self.sessions.check(request, datetime.datetime.now(datetime.UTC))
        async with self.backend.answer(request) as answer:
            now = datetime.datetime.now(datetime.UTC)
            yield attrs.evolve(answer, head=self.sessions.note(request, answer.head, now))
