"""A request's body: made whole before it is signed, since the signature covers it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable

from aiosmrt.errors import ParameterError
from aiosmrt.http import Request
from aiosmrt.redaction import Redacted
from aiosmrt.service import Arguments
from aiosmrt.threads import run_in_thread
from aiosmrt.tracebacks import hides_locals
from aiosmrt.value import write_json

__all__ = ["HASHED_APART", "OneTimeBody", "collect_body", "hash_body", "write_json_body"]

HASHED_APART = 1 << 17
"""Bytes above which a body is hashed in a thread.

So many hold the loop up for 66 µs, about as long as the rest of a call, and for 180 without the
processor's SHA instructions; handing them over holds it up for 10. Below, what a thread costs
outweighs what it saves (benchmarks/README.md).
"""

# How much is asked of a file at a time, in bytes.
_CHUNK = 1 << 16


class OneTimeBody(bytes):
    """A body whose source cannot be read again: it is sent once, whatever comes of that."""

    __slots__ = ()


@hides_locals
def write_json_body(arguments: Arguments, header_names: Iterable[str]) -> None:
    """Make the body of what a call was given as `json`, if anything.

    It is written here and now: a thread would hold the event loop up as long, because Python's
    writer lets no other one run.

    Args:
        arguments: of the call; they become those with a body, of `application/json` unless the
            call's type is given.
        header_names: of the headers that the client sends with every call.

    Raises:
        ParameterError: there is a body, too; or JSON has no words for something in the value.
    """
    if arguments.json is None:
        return
    if arguments.parameters.get("body") is not None:
        raise ParameterError("body and json exclude each other")
    try:
        problem, body = "", write_json(arguments.json).encode()
    except ParameterError as error:
        problem, body = str(error), b""
    except (TypeError, ValueError, RecursionError) as error:
        problem, body = f"{error}: make JSON's values of it, or give it written, as body=", b""
    if problem:
        raise ParameterError(f"json: {problem}")  # not above: the frames there have its parts
    arguments.json = None
    arguments.parameters["body"] = body
    named = {str(name).lower() for name in (*header_names, *arguments.headers)}
    if arguments.parameters.get("content_type") is None and "content-type" not in named:
        arguments.parameters["content_type"] = "application/json"


async def collect_body(body: object, limit: int | None, advice: str = "") -> object:
    """Turn a body of any accepted kind into bytes; give back as it is what is of no such kind.

    Args:
        body: bytes, bytearray, memoryview, str (as UTF-8), an open file (read from where it
            stands: in a thread, or awaited where its `read` is to be) or an async iterable of bytes
            or str.
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
        body, problem = _encode(body)
        if problem:
            raise ParameterError(problem)
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    read = getattr(body, "read", None)
    # One that gives lines, too, gives them one by one.
    awaited = inspect.iscoroutinefunction(read) and _takes_a_size(read)
    if isinstance(body, AsyncIterable) and not awaited:
        collected = _Collected(limit, advice)
        async for chunk in body:
            collected.add(chunk)
            del chunk  # the traceback of what the next one raises would show it
            if collected.problem:
                break
        return OneTimeBody(collected.give())
    if callable(read):
        collected = _Collected(limit, advice)
        begun = (
            read(_CHUNK) if awaited else await run_in_thread(lambda: _read_file(read, collected))
        )
        while begun is not None and collected.add(await begun):
            begun = read(_CHUNK)
        kind = bytes if await _is_seekable(body) else OneTimeBody
        return kind(collected.give())
    return body


async def hash_body(request: Request) -> str:
    """Give the SHA-256 of a request's body, hexadecimal, and note it in the request."""
    if request.body_hash is None:
        if len(request.body) > HASHED_APART:
            request.body_hash = await run_in_thread(lambda: _hash(request), brief=True)
        else:
            request.body_hash = _hash(request)
    return request.body_hash


def _hash(request: Request) -> str:
    return hashlib.sha256(request.body).hexdigest()


def _takes_a_size(read: Callable[..., object]) -> bool:
    try:
        inspect.signature(read).bind(_CHUNK)
    except TypeError:
        return False
    return True


async def _is_seekable(file: object) -> bool:
    seekable = getattr(file, "seekable", None)
    if not callable(seekable):
        return callable(getattr(file, "seek", None))
    can = seekable()
    return bool(await can if inspect.isawaitable(can) else can)


def _encode(text: str) -> tuple[bytes, str]:
    """Give the text as UTF-8, or what is wrong: an error raised from here would show the text."""
    try:
        return text.encode(), ""
    except UnicodeEncodeError as error:
        return b"", f"body: its text cannot be written in UTF-8: {error}"


class _Collected:
    """What a source has given, and what is wrong with it.

    That is kept, not raised, until nothing that a traceback shows holds a part of the body.
    """

    def __init__(self, limit: int | None, advice: str) -> None:
        self.problem = ""
        self._data = bytearray()
        self._limit = limit
        self._advice = advice

    def add(self, chunk: object) -> bool:
        """Take what the source gave, and tell whether it should be asked for more."""
        if isinstance(chunk, str):
            chunk, self.problem = _encode(chunk)
        if not isinstance(chunk, bytes | bytearray | memoryview):
            self.problem = f"body: its source gave a {type(chunk).__qualname__}, not bytes or str"
            return False
        self._data += chunk
        if self._limit is not None and len(self._data) > self._limit:
            self.problem = (
                f"body must be at most {self._limit} bytes; its source gave more{self._advice}"
            )
        return bool(chunk) and not self.problem

    def give(self) -> bytearray:
        """Give all of it.

        Raises:
            ParameterError: something is wrong.
        """
        if self.problem:
            raise ParameterError(self.problem)
        return self._data


def _read_file(read: Callable[[int], object], collected: _Collected) -> Awaitable[object] | None:
    """Read the file to its end; one that shows to be awaited is only begun, and that is given."""
    while True:
        chunk = Redacted(read(_CHUNK))
        if inspect.isawaitable(chunk.value):
            return chunk.value
        if not collected.add(chunk.value):
            return None
