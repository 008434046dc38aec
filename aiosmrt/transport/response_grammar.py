"""What the lines around an answer's body may hold: the grammar of RFC 9110 and 9112, and limits.

Each function takes whole pieces of them and raises `MalformedResponse`.
"""

from __future__ import annotations

import functools
import re
from typing import Final

__all__ = [
    "BEGINNING",
    "FRAMING",
    "MAX_LINE",
    "MAX_WORD",
    "STATUS_SIZE",
    "MalformedResponse",
    "check_beginning",
    "find_status",
    "lower",
    "read_length",
    "read_name",
    "read_size",
    "split_lines",
]

BEGINNING: Final = b"HTTP/1."

# Bytes of a line, as aiohttp and Apache have it.
MAX_LINE: Final = 8190
# Characters of what is remembered, or a peer would decide how much memory that takes: the name of a
# header, the line before a chunk, and what states a length. What is refused is not remembered.
MAX_WORD: Final = 256

# What tells where an answer ends, or whether another follows.
FRAMING: Final = frozenset({"connection", "content-length", "transfer-encoding"})

# Bytes of a status line up to the words behind the status, which may be left out, space and all.
STATUS_SIZE: Final = 13
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})[ \r]?")
# A token (RFC 9110, section 5.6.2).
_NAME: Final = re.compile(rf"[!#$%&'*+\-.^_`|~0-9A-Za-z]{{1,{MAX_WORD}}}")
_LENGTH: Final = re.compile(r"[0-9]{1,15}")  # below a petabyte
# The size of a chunk and its extensions (RFC 9112, section 7.1); some servers pad the size.
_CHUNK_LINE: Final = re.compile(rb"(0*[0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
# What a field may hold (RFC 9110, section 5.5): everything but controls.
_VISIBLE: Final = bytes(byte for byte in range(256) if byte == 9 or (byte > 31 and byte != 127))  # noqa: PLR2004 - as in ASCII
# What no line holds: a control, and a CR or LF without the other. At the end a CR may wait for it.
_FORBIDDEN: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n|\Z)|(?<!\r)\n")


class MalformedResponse(ValueError):
    """These bytes are no answer of HTTP/1.1."""


def split_lines(data: bytes) -> list[str]:
    """Give whole lines as text: each in UTF-8 if it is, else in Latin-1, as HTTP once had it.

    Args:
        data: the lines, without the line break behind the last.
    """
    try:
        lines = data.decode().split("\r\n")
    except UnicodeDecodeError:
        lines = [_decode(line) for line in data.split(b"\r\n")]
    if len(data.translate(None, _VISIBLE)) != 2 * len(lines) - 2:
        raise _refuse_controls()
    if len(data) > MAX_LINE and max(map(len, data.split(b"\r\n"))) > MAX_LINE:
        raise _refuse_size(MAX_LINE)
    return lines


def _decode(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def check_beginning(data: bytes, start: int, limit: int, seen: int) -> None:
    """Refuse what cannot become a line of at most `limit` bytes, however it goes on.

    Args:
        data: ends with the beginning of a line.
        start: where that begins, or the line break before it.
        limit: bytes, line breaks not counted.
        seen: up to here it was looked at before, but for three bytes.
    """
    if len(data) - start > limit + len(b"\r\n\r"):
        raise _refuse_size(limit)
    # Of two looks the first is cheap, and mostly enough.
    if data[seen:].translate(None, _VISIBLE) and _FORBIDDEN.search(data, seen):
        raise _refuse_controls()


def _refuse_controls() -> MalformedResponse:
    return MalformedResponse("a line has a control character, or ends in LF or CR alone")


def _refuse_size(limit: int) -> MalformedResponse:
    return MalformedResponse(f"a line has more than {limit} bytes")


@functools.lru_cache(maxsize=64)
def find_status(beginning: bytes) -> tuple[int, int] | None:
    """Find the minor version and the status in the first `STATUS_SIZE` bytes of a head."""
    found = _STATUS.fullmatch(beginning)
    return None if found is None else (int(found[1]), int(found[2]))


@functools.lru_cache(maxsize=1024)
def read_name(name: str) -> str:
    """Give a header's name in lower case: always the same text, so that heads share it."""
    if not _NAME.fullmatch(name):
        raise MalformedResponse(
            f"{name[:80]!r} is no name of a header, or has more than {MAX_WORD} characters"
        )
    return name.lower()


def lower(name: str, value: str) -> str:
    """Give a framing header's value in lower case: some letters' lower case alone is in ASCII."""
    if not value.isascii():
        raise MalformedResponse(f"{name} is {value[:80]!r}, which is not ASCII")
    return value.lower()


@functools.lru_cache(maxsize=256)
def read_length(value: str) -> int:
    """Read a content length, which may be stated more than once but not in two ways."""
    if len(value) <= MAX_WORD:
        lengths = {length.strip(" \t") for length in value.split(",")}
        length = lengths.pop()
        if not lengths and _LENGTH.fullmatch(length):
            return int(length)
    raise MalformedResponse(f"the content length is {value[:80]!r}")


@functools.lru_cache(maxsize=256)
def read_size(line: bytes) -> int:
    """Read the line before a chunk, its line break included, and give the chunk's size."""
    found = None if len(line) > MAX_WORD else _CHUNK_LINE.fullmatch(line)
    if found is None:
        raise MalformedResponse(f"before a chunk is {line[:80]!r} and no size")
    return int(found[1], 16)
