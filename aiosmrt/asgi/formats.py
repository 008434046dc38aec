"""How a stream is written for a browser: as server-sent events or as JSON lines."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final, Protocol, TypeAlias

from aiosmrt.errors import PayloadTooLarge
from aiosmrt.payload import DEFAULT_MAX_LENGTH, ServerSentEvent, encode, encode_comment
from aiosmrt.response_stream import ResponseStream

__all__ = ["EventFormat", "Format", "LineFormat", "ViewOf", "choose_format"]

# Of the open stream, what is to be written: `ResponseStream.iter_text`, for instance.
ViewOf: TypeAlias = Callable[[ResponseStream], AsyncIterator[object]]

_EVENTS: Final = "text/event-stream"
# JSON Lines has no registered name; these are in use.
_LINES: Final = frozenset(
    f"application/{name}" for name in ("jsonl", "x-ndjson", "ndjson", "jsonlines", "x-jsonlines")
)


class Format(Protocol):
    """What a media type looks like; all in whole pieces, between which others may stand."""

    @property
    def heartbeat(self) -> bytes:
        """What says nothing and keeps a connection alive; empty where there is no such thing."""

    def write(self, stream: ResponseStream) -> AsyncGenerator[bytes, None]:
        """Give the stream's payload, piece by piece, to its proven end."""

    def fail(self, text: str) -> bytes:
        """Give what tells of a failure behind the pieces that were written."""


class EventFormat:
    """Server-sent events.

    A model's own events are passed on byte by byte, but event by event: what is behind the last
    whole one is kept until it is whole or the end is proven. Text becomes events of that text, with
    an event `done` at the end.

    Args:
        view: gives texts or events; `None` chooses by the content type of the stream.
    """

    heartbeat: Final = encode_comment()

    def __init__(self, view: ViewOf | None) -> None:
        self._view = view

    async def write(self, stream: ResponseStream) -> AsyncGenerator[bytes, None]:
        """Give the stream's events.

        Raises:
            AiosmrtError: what the view raises.
            TypeError: the view gives something else than texts and events.
        """
        view = self._view
        if view is None and _name_type(stream.content_type or "") == _EVENTS:
            async for events in _pass_on(stream):
                yield events
            return
        last_id = ""
        async with _closing((view or ResponseStream.iter_text)(stream)) as values:
            async for value in values:
                yield _encode(value, last_id)
                last_id = getattr(value, "id", last_id)
        yield encode("", event="done")

    def fail(self, text: str) -> bytes:
        """Give an event of the type `error`."""
        return encode(text, event="error")


class LineFormat:
    """JSON lines: the model's own, or the values of a view.

    Args:
        view: gives what `json.dumps` takes; `None` passes the model's lines on.
    """

    heartbeat: Final = b""

    def __init__(self, view: ViewOf | None) -> None:
        self._view = view

    async def write(self, stream: ResponseStream) -> AsyncGenerator[bytes, None]:
        """Give the stream's lines.

        Raises:
            AiosmrtError: what the view raises.
            TypeError, ValueError: the view gives what JSON cannot hold.
        """
        view = self._view
        async with _closing((view or ResponseStream.iter_lines)(stream)) as values:
            async for value in values:
                yield f"{value if view is None else json.dumps(value)}\n".encode()

    def fail(self, text: str) -> bytes:
        """Give a line of an object whose only member is `error`."""
        return f"{json.dumps({'error': text})}\n".encode()


def choose_format(media_type: str, view: ViewOf | None) -> Format:
    """Give the format of a media type.

    Raises:
        ValueError: it is none that can be written.
    """
    name = _name_type(media_type)
    if name == _EVENTS:
        return EventFormat(view)
    if name in _LINES:
        return LineFormat(view)
    known = ", ".join([_EVENTS, *sorted(_LINES)])
    raise ValueError(f"media_type={media_type!r}: one of {known}")


def _name_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _encode(value: object, last_id: str) -> bytes:
    if isinstance(value, str):
        return encode(value)
    if isinstance(value, ServerSentEvent):
        # What every event has unless it is said is not said.
        name = None if value.event == "message" else value.event
        known = None if value.id == last_id else value.id
        return encode(value.data, event=name, id=known, retry=value.retry)
    raise TypeError(
        f"the view gave a {type(value).__name__}, not a str or a ServerSentEvent: json.dumps makes "
        "a str of it"
    )


async def _pass_on(stream: ResponseStream) -> AsyncIterator[bytes]:
    """Give a model's events as they are, whole ones at a time."""
    rest = bytearray()
    async for part in stream:
        known = max(len(rest) - 1, 0)
        rest += part.bytes
        if whole := _measure_events(rest, known):
            yield bytes(rest[:whole])
            del rest[:whole]
        if len(rest) > DEFAULT_MAX_LENGTH:
            raise PayloadTooLarge(
                f"an event is longer than {DEFAULT_MAX_LENGTH} bytes",
                offset=stream.bytes_received - len(rest),
                limit=DEFAULT_MAX_LENGTH,
            )
    if rest:
        yield bytes(rest)


def _measure_events(data: bytearray, begin: int) -> int:
    """Give the length up to the last blank line that ends behind `begin`, 0 where there is none."""
    # Two breaks in a row, each LF, CR LF or CR: any two of these bytes but CR LF itself.
    end = max(data.rfind(breaks, begin) for breaks in (b"\n\n", b"\n\r", b"\r\r")) + 2
    if end == 1:
        return 0
    return end + 1 if data[end - 1 : end + 1] == b"\r\n" else end


@contextlib.asynccontextmanager
async def _closing(values: AsyncIterator[object]) -> AsyncIterator[AsyncIterator[object]]:
    """Close a view or a generator when it is left; other iterators have nothing to close."""
    try:
        yield values
    finally:
        close = getattr(values, "aclose", None)
        if close is not None:
            await close()
