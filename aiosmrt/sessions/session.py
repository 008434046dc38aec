"""A stateful session as its users have it: its calls, in order."""

from __future__ import annotations

import asyncio
import logging
import warnings
import weakref
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from aiosmrt.config import Timeout
from aiosmrt.errors import ClientClosed, ParameterError, ServiceError
from aiosmrt.models import InvokeEndpointResponse
from aiosmrt.plain_text import to_line
from aiosmrt.redaction import Redacted
from aiosmrt.response_stream import ResponseStream, ResponseStreamOpening
from aiosmrt.service import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_WITH_RESPONSE_STREAM,
    InvokeEndpointParameters,
    InvokeEndpointWithResponseStreamParameters,
    Operation,
    SessionBody,
    SessionParameters,
    refuses_session,
)
from aiosmrt.sessions.call import SessionCall, bind, check_common, check_options, lay, write_body
from aiosmrt.sessions.lifetime import Invoker, Lifetime
from aiosmrt.sessions.state import NEW_SESSION, SessionState
from aiosmrt.sessions.turn import Turn, Turns
from aiosmrt.tracebacks import hides_locals

if TYPE_CHECKING:
    import datetime

__all__ = ["StatefulSession"]

_log = logging.getLogger("aiosmrt")

T = TypeVar("T")


class StatefulSession:
    """A session of one model instance, which remembers it: `client.session(...)` gives it.

    The first call opens it, every further one sends its id. It is for one event loop at a time.
    """

    _closed = True  # until there is something to close

    @hides_locals
    def __init__(
        self,
        invoker: Invoker,
        parameters: SessionParameters,
        *,
        timeout: Timeout,
        open_body: SessionBody | None = None,
        close_body: SessionBody | None = None,
        reopen: bool = False,
        in_order: bool = True,
        close_timeout: float = 5.0,
        state: SessionState | None = None,
    ) -> None:
        check_options(reopen, in_order, close_timeout)
        self._invoker = invoker
        self._common = common = check_common(parameters)
        self._timeout = lay(parameters.get("timeout"), timeout)
        self._in_order = in_order
        self._close_timeout = close_timeout
        self._lifetime = Lifetime(
            invoker,
            opening=write_body("open_body", open_body, common),
            closing=write_body("close_body", close_body, common),
            reopen=reopen,
            state=SessionState() if state is None else state,
        )
        self._turns = Turns(self.endpoint_name)
        self._streams: weakref.WeakSet[ResponseStream] = weakref.WeakSet()
        self._is_over = asyncio.Event()
        self._closed = False

    @property
    def endpoint_name(self) -> str:
        """The endpoint whose session it is."""
        return str(self._common.value["endpoint_name"])

    @property
    def session_id(self) -> str | None:
        """The id, `None` before a call has opened the session; another one when it was reopened."""
        return self._lifetime.state.session_id

    @property
    def expires_at(self) -> datetime.datetime | None:
        """When the session ends, in UTC; `None` where it was not opened, or has no known end."""
        return self._lifetime.state.expires_at

    async def invoke_endpoint(
        self, **parameters: Unpack[InvokeEndpointParameters]
    ) -> InvokeEndpointResponse:
        """Invoke the model in this session, in the order of the calls.

        Args:
            parameters: as for the client's method of that name, but no `session_id`. The wait for
                the call's turn, and for the session to be opened, counts to its total time.

        Raises:
            TypeError: a keyword that the operation does not have.
            SessionExpired: the session has ended, and is not to be reopened.
            UnexpectedResponse: the answer to the first call opens no session; it has the answer.
            ClientClosed: the session, or the client, was closed.
            AiosmrtError: else as the client's method.
        """
        given = Redacted[dict[str, Any]]({**parameters})
        del parameters
        call = self._begin(INVOKE_ENDPOINT, bind(INVOKE_ENDPOINT, given, self._common))
        try:
            return await self._make(call, self._invoke)
        finally:
            call.turn.release()

    def invoke_endpoint_with_response_stream(
        self, **parameters: Unpack[InvokeEndpointWithResponseStreamParameters]
    ) -> ResponseStreamOpening:
        """Invoke the model in this session, for an answer in parts.

        The stream keeps the call's turn until it has ended or is closed. The service opens no
        session for a stream: as a first call it needs the session's `open_body`.

        Args:
            parameters: as for the client's method of that name, but no `session_id`.

        Raises:
            TypeError: a keyword that the operation does not have; everything else when opened, as
                `invoke_endpoint`.
        """
        operation = INVOKE_ENDPOINT_WITH_RESPONSE_STREAM
        given = bind(operation, Redacted({**parameters}), self._common)
        del parameters

        async def open_it() -> ResponseStream:
            call = self._begin(operation, given)
            try:
                stream = await self._make(call, self._open_stream)
            except BaseException:
                call.turn.release()
                raise
            stream._call_when_over(call.turn.release)  # noqa: SLF001 - of this very package
            self._streams.add(stream)
            if self._closed:
                await stream.aclose()
            return stream

        return ResponseStreamOpening(open_it)

    def _begin(self, operation: Operation, given: Redacted[dict[str, Any]]) -> SessionCall:
        timeout = lay(given.value.pop("timeout", None), self._timeout)
        return SessionCall(operation, given, timeout, Turn(self._turns))

    async def _make(self, call: SessionCall, send: Callable[[SessionCall, str], Awaitable[T]]) -> T:
        """Make a call in its turn, which it may have given back when this ends."""
        lifetime = self._lifetime
        repeated = False
        while True:
            await call.take_turn()
            if self._closed:
                raise call.place(ClientClosed("the session was closed: open another one"))
            session_id = lifetime.find_id(call)
            if session_id is None:
                if lifetime.opening is None:
                    return await send(call, NEW_SESSION)
                session_id = await lifetime.open(call)
            if not self._in_order:
                call.turn.release()
            try:
                return await send(call, session_id)
            except ServiceError as error:
                if not refuses_session(error, session_id):
                    raise
                lifetime.state.refuse(session_id)
                # Who asked for another session has asked for the call to be made there, too.
                if repeated or not lifetime.reopen or not call.is_repeatable:
                    raise lifetime.report_end(call, session_id, "refused", error) from error
            repeated = True

    async def _invoke(self, call: SessionCall, session_id: str) -> InvokeEndpointResponse:
        response = await self._invoker.invoke_endpoint(
            **call.given.value, session_id=session_id, timeout=call.limit()
        )
        if session_id == NEW_SESSION:
            self._lifetime.note_opening(call, response)
        elif session_id == self.session_id:  # and not of one that another has replaced
            self._lifetime.state.note(response)
        return response

    async def _open_stream(self, call: SessionCall, session_id: str) -> ResponseStream:
        if session_id == NEW_SESSION:
            problem = (
                "the service opens no session for a stream: make the first call with "
                "invoke_endpoint, or give the session its open_body="
            )
            raise call.place(ParameterError(problem))
        return await self._invoker.invoke_endpoint_with_response_stream(
            **call.given.value, session_id=session_id, timeout=call.limit()
        )

    async def aclose(self) -> None:
        """Close the session by `close_body`, where it is open and there is one. Idempotent.

        Streams that are open, or open meanwhile, are closed before, and of calls in order the one
        under way is waited for. It takes `close_timeout` seconds at most, after a cancellation,
        too, and never fails: what goes wrong is a warning in the log, and the session then ends at
        its time. Later calls raise `ClientClosed`. Who closes it meanwhile waits for that, too,
        since what comes behind may be the end of the client.
        """
        if self._closed:
            await self._is_over.wait()
            return
        self._closed = True
        try:
            for stream in tuple(self._streams):
                await stream.aclose()
            if self._lifetime.closing is not None:
                await self._close()
        finally:
            self._is_over.set()

    async def _close(self) -> None:
        """Have the container close the session, in its turn."""
        turn, problem = Turn(self._turns), ""
        try:
            async with asyncio.timeout(self._close_timeout):
                await turn.take()
                problem = await self._lifetime.close(self._timeout)
        except TimeoutError as error:
            problem = str(error) or f"it took more than {self._close_timeout:g} s"
        except Exception as error:  # noqa: BLE001 - it must not hide what the block has raised
            problem = f"{type(error).__name__}: {error}"
        finally:
            turn.release()
        if problem:
            _log.warning("%r was not closed: %s", self, to_line(problem))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if not hasattr(self, "_lifetime"):
            return f"<{type(self).__name__}>"  # its constructor has failed
        what = "not open" if self.session_id is None else to_line(self.session_id)
        until = "" if self.expires_at is None else f" until {self.expires_at.isoformat()}"
        return f"<{type(self).__name__} {what} on {to_line(self.endpoint_name)}{until}>"

    def __del__(self) -> None:
        if not self._closed and self._lifetime.needs_closing:
            warnings.warn(
                f"{self!r} was never closed, and takes up its container until its end: use it in "
                "an async with block, or await its aclose()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
