"""What `aiosmrt stream --as` prints of a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import attrs

from aiosmrt.models import PayloadPart
from aiosmrt.payload import ServerSentEvent
from aiosmrt.response_stream import ResponseStream

__all__ = ["read_view"]


async def read_view(stream: ResponseStream, view: str | None) -> AsyncIterator[bytes]:
    """Give the bytes to print, piece by piece: `None` is the payload as it is."""
    name, _, path = (view or "").partition(":")
    views: dict[str, tuple[Callable[[], AsyncIterator[object]], Callable[[object], bytes]]] = {
        "text": (stream.iter_text, _encode_text),
        "lines": (stream.iter_lines, lambda line: _encode_text(line) + b"\n"),
        "json": (stream.iter_json, _encode_json),
        "sse": (stream.iter_events, _encode_json),
        "tokens": (lambda: stream.iter_tokens(path or "openai-chat"), _encode_text),
    }
    choose, encode = views.get(name, (lambda: stream, _encode_text))
    async for value in choose():
        yield encode(value)


def _encode_text(value: object) -> bytes:
    if isinstance(value, PayloadPart):
        return value.bytes
    return str(value).encode("utf-8", "replace")  # JSON may hold half of a surrogate pair


def _encode_json(value: object) -> bytes:
    if isinstance(value, ServerSentEvent):
        # What the event did not say is left out.
        value = {name: said for name, said in attrs.asdict(value).items() if said not in ("", None)}
    return _encode_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
