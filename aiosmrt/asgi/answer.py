"""One browser's answer: asks the model, writes what comes, and stops it when the browser leaves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import Final, TypeAlias

from aiosmrt.asgi.formats import Format, ViewOf, choose_format
from aiosmrt.asgi.refusal import refuse
from aiosmrt.errors import AiosmrtError
from aiosmrt.response_stream import ResponseStream, ResponseStreamOpening

__all__ = ["Application", "Headers", "Message", "Receive", "Relay", "Scope", "Send", "relay"]

_log = logging.getLogger("aiosmrt")

# ASGI's own shapes: https://asgi.readthedocs.io/en/latest/specs/main.html
Scope: TypeAlias = MutableMapping[str, object]
Message: TypeAlias = MutableMapping[str, object]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

# Seconds. The HTML standard, 9.2.7: "include a comment line every 15 seconds or so".
DEFAULT_HEARTBEAT: Final = 15.0

_LEFT: Final = 499  # nginx's status for a client that closed its request; nobody reads it
_LAST_WORDS: Final = 0.1  # seconds that a server which is stopped waits for them


def relay(
    opening: ResponseStreamOpening,
    view: ViewOf | None = None,
    *,
    media_type: str = "text/event-stream",
    heartbeat: float | None = DEFAULT_HEARTBEAT,
    headers: Mapping[str, str] | None = None,
) -> Application:
    """Give an ASGI application that answers one request with a model's stream.

    It opens the stream when it is called, and closes it as soon as the browser has left. What fails
    before the first part is answered with a status of its own: 400 for `ParameterError`, 429 for
    throttling and 503 for a model, an endpoint or a client that is busy (both with `Retry-After`),
    504 for time limits, 500 for what this program lacks, 502 for all else; the body is
    `{"error": public_text}`. When the server cancels it, which is how a server stops, a last event
    `error` says so, or browsers would ask again. HEAD, whose answer nobody reads, is not worth a
    call: it is answered with the headers alone.

    Args:
        opening: what `invoke_endpoint_with_response_stream` gave, not opened yet.
        view: gives what is written, out of the open stream: `ResponseStream.iter_text`,
            `lambda stream: stream.iter_tokens("openai-chat")`, or a generator function of yours.
            For events it gives texts or `ServerSentEvent`s, and an event `done` follows; for JSON
            lines any JSON value. Without it, a model's own events and lines are passed on as they
            are, and other text becomes events.
        media_type: of the answer: `text/event-stream`, or `application/jsonl` (or another name of
            JSON lines), in which a failure on the way is a last line `{"error": public_text}`.
        heartbeat: seconds of silence after which a comment is sent, `None` for never. If the model
            is silent for so long at the beginning, the answer begins with status 200, and a failure
            behind it is an event. JSON lines have no comments, and wait for the first part.
        headers: more of them, for answers and refusals.

    Raises:
        ValueError: a media type that cannot be written, or a heartbeat that is not above 0.
    """
    written = build_headers(media_type, headers)
    return Relay(opening, choose_format(media_type, view), heartbeat, written)


def build_headers(media_type: str, headers: Mapping[str, str] | None) -> Headers:
    """Give an answer's headers, those that keep proxies from holding it back included."""
    given = {"content-type": media_type, "cache-control": "no-store", "x-accel-buffering": "no"}
    given.update({name.lower(): value for name, value in (headers or {}).items()})
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]


class Relay:
    """What `relay` gives; its arguments as there.

    Attributes:
        headers: of the answer, which may be changed until it begins.
    """

    def __init__(
        self,
        opening: ResponseStreamOpening,
        written: Format,
        heartbeat: float | None,
        headers: Headers,
    ) -> None:
        if heartbeat is not None and not heartbeat > 0:
            raise ValueError(f"heartbeat={heartbeat}: seconds, above 0, or None")
        self._opening = opening
        self._format = written
        self._heartbeat = heartbeat if written.heartbeat else None
        self.headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request of this scope.

        Raises:
            Exception: what a view or an observer raises that is no `AiosmrtError`.
        """
        answer = _Answer(self._format, self.headers, send)
        if scope.get("method") == "HEAD":  # where a server takes GET, it takes this, too
            self._opening._open = None  # noqa: SLF001 - of this very package; never to be opened
            await answer.send_head(200)
            return
        answering = asyncio.create_task(answer.write(self._opening))
        tasks = [answering, asyncio.create_task(_wait_until_left(receive))]
        if self._heartbeat is not None:
            tasks.append(asyncio.create_task(answer.keep_alive(self._heartbeat)))
        try:
            await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await _cancel(tasks)
            await answer.break_off()
            raise
        await _cancel(tasks)
        for task in tasks:
            if not task.cancelled() and not isinstance(task.exception(), _Left):
                task.result()
        if answering.cancelled() or answering.exception() is not None:
            _log.debug("a browser left its relayed stream: the stream was closed")
            await answer.send_head(_LEFT)  # a middleware may wait for it


class _Left(Exception):
    """The server says that nobody takes what is sent."""


class _Answer:
    """What is sent, by one task at a time."""

    def __init__(self, written: Format, headers: Headers, send: Send) -> None:
        self._format = written
        self._headers = headers
        self._send_message = send
        self._begun = self._ended = False
        self._sending = asyncio.Lock()
        self._sent_at = asyncio.get_running_loop().time()

    async def write(self, opening: ResponseStreamOpening) -> None:
        """Ask the model, and send its stream or its failure."""
        try:
            async with opening as stream:
                await self._write(stream)
            async with self._sending:
                await self._end()
        except AiosmrtError as error:
            _log.warning("a relayed stream failed: %s", error)
            async with self._sending:
                await self._fail(error)
        except _Left:
            raise
        except Exception:
            # Or the browser would take it for a connection that was lost, and ask again.
            async with self._sending:
                if self._begun:
                    await self._end(self._format.fail("InternalServerError"))
            raise

    async def _write(self, stream: ResponseStream) -> None:
        async with self._sending:
            await self._begin()
        async with contextlib.aclosing(self._format.write(stream)) as pieces:
            async for piece in pieces:
                async with self._sending:
                    await self._send_body(piece)

    async def keep_alive(self, heartbeat: float) -> None:
        """Send a comment whenever nothing was sent for `heartbeat` seconds."""
        clock = asyncio.get_running_loop().time
        while not self._ended:
            if (rest := self._sent_at + heartbeat - clock()) > 0:
                await asyncio.sleep(rest)
                continue
            async with self._sending:
                # A browser that reads slowly may have held up what was being sent.
                if self._sent_at + heartbeat <= clock() and not self._ended:
                    await self._begin()
                    await self._send_body(self._format.heartbeat)

    async def send_head(self, status: int) -> None:
        """Give an answer without a body, if none has begun."""
        if not self._begun:
            with contextlib.suppress(_Left):
                await self._begin(status)
                await self._end()

    async def break_off(self) -> None:
        """Say that the server stops, which is no end of the stream."""
        if self._begun and not self._ended:
            with contextlib.suppress(TimeoutError, _Left):
                async with asyncio.timeout(_LAST_WORDS):
                    await self._end(self._format.fail("ServerStopped"))

    async def _fail(self, error: AiosmrtError) -> None:
        if self._begun:
            await self._end(self._format.fail(error.public_text))
            return
        refusal = refuse(error)
        replaced = {name for name, _ in refusal.headers}
        self._headers = [pair for pair in self._headers if pair[0] not in replaced]
        self._headers += refusal.headers
        await self._begin(refusal.status)
        await self._end(refusal.body)

    async def _begin(self, status: int = 200) -> None:
        if not self._begun:
            self._begun = True
            await self._send(
                {"type": "http.response.start", "status": status, "headers": self._headers}
            )

    async def _end(self, body: bytes = b"") -> None:
        self._ended = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _send_body(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def _send(self, message: Message) -> None:
        try:
            await self._send_message(message)
        except OSError as error:  # ASGI 2.4: "if send is called after the client has disconnected"
            raise _Left from error
        self._sent_at = asyncio.get_running_loop().time()


async def _wait_until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their end, however often the waiting is cancelled."""
    was_cancelled = False
    for task in tasks:
        task.cancel()
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            was_cancelled = True
    if was_cancelled:
        raise asyncio.CancelledError()  # noqa: RSE102 - a name alone looks like an error that is kept
