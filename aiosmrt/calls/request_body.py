"""A request's body: made whole before it is signed, since the signature covers it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable

from aiosmrt.errors import ParameterError
from aiosmrt.threads import run_in_thread

__all__ = ["OneTimeBody", "collect_body"]

# How much is asked of a file at a time, in bytes.
_CHUNK = 1 << 16


class OneTimeBody(bytes):
    """A body whose source cannot be read again: it is sent once, whatever comes of that."""

    __slots__ = ()


async def collect_body(body: object, limit: int | None, advice: str = "") -> object:
    """Turn a body of any accepted kind into bytes; give back as it is what is of no such kind.

    Args:
        body: bytes, bytearray, memoryview, str (as UTF-8), an open file (read from where it
            stands, in a thread) or an async iterable of bytes or str.
        limit: bytes after which a file or iterable is given up, `None` for no limit.
        advice: what the error of that says beside it.

    Returns:
        A `OneTimeBody` for an async iterable and for a file that cannot seek.

    Raises:
        ParameterError: the source gave more than `limit`, or something that is no bytes or str;
            or text holds a lone surrogate, which UTF-8 has no bytes for.
    """
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return _encode(body)
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    if isinstance(body, AsyncIterable):
        collected = _Collected(limit, advice)
        async for chunk in body:
            collected.add(chunk)
        return OneTimeBody(collected.data)
    read = getattr(body, "read", None)
    if callable(read):
        collected = _Collected(limit, advice)
        await run_in_thread(lambda: _read_file(read, collected))
        return bytes(collected.data) if _is_seekable(body) else OneTimeBody(collected.data)
    return body


def _is_seekable(file: object) -> bool:
    seekable = getattr(file, "seekable", None)
    return callable(seekable) and bool(seekable())


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ParameterError(f"body: its text cannot be written in UTF-8: {error}") from error


class _Collected:
    def __init__(self, limit: int | None, advice: str) -> None:
        self.data = bytearray()
        self._limit = limit
        self._advice = advice

    def add(self, chunk: object) -> None:
        if isinstance(chunk, str):
            chunk = _encode(chunk)
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise ParameterError(
                f"body: its source gave a {type(chunk).__qualname__}, not bytes or str"
            )
        self.data += chunk
        if self._limit is not None and len(self.data) > self._limit:
            raise ParameterError(
                f"body must be at most {self._limit} bytes; its source gave more{self._advice}"
            )


def _read_file(read: Callable[[int], object], collected: _Collected) -> None:
    while chunk := read(_CHUNK):
        collected.add(chunk)
