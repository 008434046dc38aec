"""Answers of HTTP/1.1, incrementally: bytes go in, in any split; head and body come out."""

from __future__ import annotations

import functools
import re
from typing import Final

from aiosmrt.http import ResponseHead

__all__ = ["IncompleteResponse", "MalformedResponse", "ResponseParser"]

# Bytes of a head, of all heads that only announce another, and of all lines behind the last chunk;
# of a line in a head, which is aiohttp's limit and Apache's; and of the line before a chunk. The
# service's own heads have less than one kilobyte.
_MAX_HEAD: Final = 1 << 16
_MAX_LINE: Final = 8190
_MAX_CHUNK_LINE: Final = 256

_BEGINNING: Final = b"HTTP/1."
_STATUS_LINE: Final = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (.*))?")
# A token (RFC 9110, section 5.6.2).
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# The size of a chunk and its extensions (RFC 9112, section 7.1); some servers pad the size.
_CHUNK_LINE: Final = rb"(0*[0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?"
# A line that goes on in the next, which a client has to read as a space (RFC 9112, section 5.2).
_FOLD: Final = r"[ \t]*\r\n[ \t]+"
# What a field may hold (RFC 9110, section 5.5): everything but controls.
_VISIBLE: Final = bytes(byte for byte in range(256) if byte == 9 or (byte > 31 and byte != 127))  # noqa: PLR2004 - as in ASCII

# Below, another head comes (RFC 9110, section 15.2), but after the one that ends HTTP.
_FINAL: Final = 200
_SWITCHING_PROTOCOLS: Final = 101
# Statuses whose answers have no body, whatever their headers say (RFC 9112, section 6.3).
_BODILESS: Final = frozenset({_SWITCHING_PROTOCOLS, 204, 304})

# What comes next.
_HEAD: Final = 0
_SIZED: Final = 1  # more of a body whose length was stated
_UNTIL_CLOSE: Final = 2  # more of a body that ends with the connection
_CHUNK: Final = 3  # the line before a chunk
_CHUNK_DATA: Final = 4
_CHUNK_END: Final = 5  # the line break behind a chunk
_TRAILER: Final = 6  # the lines behind the last chunk
_NOTHING: Final = 7


class MalformedResponse(ValueError):
    """These bytes are no answer of HTTP/1.1."""


class IncompleteResponse(EOFError):
    """The connection ended before the answer did."""


class ResponseParser:
    """Reads one answer (RFC 9112), strictly: what could be read in two ways is refused.

    Attributes:
        head: status and headers of the final answer, `None` so far.
        reason: the words behind the status.
        pieces: the body's bytes that came and were not taken yet; whoever takes them clears it.
        complete: whether the answer is there to its end.
        delimited: whether that end can be told from a cut, which one that only the connection's
            end shows cannot (RFC 9112, section 8).
        reusable: whether another request may follow on the connection, once it is complete.
    """

    __slots__ = (
        "_bodiless",
        "_held",
        "_missing",
        "_spent",
        "_state",
        "complete",
        "delimited",
        "head",
        "pieces",
        "reason",
        "reusable",
    )

    def __init__(self, method: str) -> None:
        self.head: ResponseHead | None = None
        self.reason = ""
        self.pieces: list[bytes] = []
        self.complete = False
        self.delimited = True
        self.reusable = False
        self._bodiless = method == "HEAD"
        self._state = _HEAD
        self._held = b""  # the beginning of a head, or of a line that is not there whole
        self._spent = 0  # bytes of heads and lines that said nothing
        self._missing = 0  # bytes of the body, or of the chunk

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            MalformedResponse: they are not what can come next. What came before stays in `pieces`.
        """
        if self._state == _HEAD:
            data = self._take_head(data)
            if not data:
                return
        if self._state >= _CHUNK:
            self._take_chunks(data)
        elif self._state == _UNTIL_CLOSE:
            self.pieces.append(data)
        elif len(data) < self._missing:
            self.pieces.append(data)
            self._missing -= len(data)
        else:
            rest = data[self._missing :]
            self.pieces.append(data[: self._missing] if rest else data)
            self._end(rest)

    def receive_eof(self) -> None:
        """Take note that the connection has ended.

        Raises:
            IncompleteResponse: in the middle of the answer, or before it.
        """
        if self.complete:
            return
        if self._state == _UNTIL_CLOSE:
            self._end(b"")
        elif self.head is not None:
            raise IncompleteResponse("the connection ended in the middle of the body")
        elif self._held:
            raise IncompleteResponse("the connection ended in the middle of the head")
        else:
            raise IncompleteResponse("the connection ended")

    @property
    def begun(self) -> bool:
        """Whether a part of an answer is there."""
        return self.head is not None or bool(self._held)

    def _end(self, rest: bytes) -> None:
        self.complete = True
        self._state = _NOTHING
        if rest:
            self.reusable = False  # nobody asked for what comes behind

    def _take_head(self, data: bytes) -> bytes:
        """Take the head, if it is there, and give what comes behind it."""
        while True:
            seen = 0
            if self._held:
                seen = max(0, len(self._held) - 3)
                data = self._held + data
            end = data.find(b"\r\n\r\n", seen)
            if end < 0:
                self._hold_head(data, seen)
                return b""
            self._held = b""
            status = self._read_head(data[:end])
            data = data[end + 4 :]
            if status >= _FINAL or status == _SWITCHING_PROTOCOLS:
                break
            self._spend(end + 4)
            if not data:
                return b""
        if self._state == _NOTHING or (self._state == _SIZED and not self._missing):
            self._end(data)
            return b""
        return data

    def _hold_head(self, data: bytes, seen: int) -> None:
        self._held = data
        if not data.startswith(_BEGINNING[: len(data)]):
            raise MalformedResponse(f"it begins with {data[:40]!r}, not with {_BEGINNING!r}")
        if b"\n\n" in data[seen:]:
            raise MalformedResponse("its lines end in LF alone, not in CR LF")
        if len(data) > _MAX_HEAD:
            raise MalformedResponse(f"the head has more than {_MAX_HEAD} bytes")

    def _spend(self, size: int) -> None:
        self._spent += size
        if self._spent > _MAX_HEAD:
            raise MalformedResponse(f"more than {_MAX_HEAD} bytes of it say nothing")

    def _read_head(self, data: bytes) -> int:
        """Read a head without the empty line behind it, and give its status."""
        if len(data) > _MAX_HEAD:
            raise MalformedResponse(f"the head has more than {_MAX_HEAD} bytes")
        text = data.decode("utf-8", "surrogateescape")
        lines = text.split("\r\n")
        minor, status, self.reason = _read_status_line(lines[0])
        if len(data.translate(None, _VISIBLE)) != 2 * len(lines) - 2:
            raise MalformedResponse("the head holds a control character")
        if "\r\n " in text or "\r\n\t" in text:
            lines = re.sub(_FOLD, " ", text).split("\r\n")
        if len(data) > _MAX_LINE and max(map(len, lines)) > _MAX_LINE:
            raise MalformedResponse(f"a line of the head has more than {_MAX_LINE} characters")
        headers: dict[str, str] = {}
        del lines[0]
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise MalformedResponse(f"the head has the line {line[:80]!r}, which is no header")
            name = _read_name(name)
            value = value.strip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if status >= _FINAL or status == _SWITCHING_PROTOCOLS:
            self._frame(status, headers)
            connection = headers.get("connection")
            if connection is None:
                lasting = minor == "1"
            else:
                options = [option.strip(" \t") for option in connection.lower().split(",")]
                lasting = "close" not in options and (minor == "1" or "keep-alive" in options)
            # What HTTP/1.0 says in chunks it does not know, its end included (section 6.1).
            lasting = lasting and (minor == "1" or self._state != _CHUNK)
            self.reusable = lasting and self.delimited
            self.head = ResponseHead(status, headers)
        return status

    def _frame(self, status: int, headers: dict[str, str]) -> None:
        """Find out how the body ends (RFC 9112, section 6.3)."""
        if self._bodiless or status in _BODILESS:
            self._state = _NOTHING
            self.delimited = status != _SWITCHING_PROTOCOLS
            return
        length = headers.get("content-length")
        coding = headers.get("transfer-encoding")
        if length is not None:
            if coding is not None:
                raise MalformedResponse("the head states a length and a transfer coding")
            self._missing = _read_length(length)
            self._state = _SIZED
        elif coding is not None and coding.lower() == "chunked":
            self._state = _CHUNK
        elif coding is not None and coding.lower().endswith("chunked"):
            raise MalformedResponse(f"nobody asked for the transfer coding {coding[:80]!r}")
        else:
            self._state = _UNTIL_CLOSE
            self.delimited = False

    def _take_chunks(  # noqa: C901, PLR0912, PLR0915 - a hot loop, whose calls would cost more than its work
        self, data: bytes
    ) -> None:
        state = self._state
        if self._held:
            data = self._held + data
            self._held = b""
        position, end = 0, len(data)
        pieces = self.pieces
        while position < end:
            if state == _CHUNK:
                line_end = data.find(b"\r\n", position)
                if line_end < 0:
                    self._hold_line(data[position:])
                    break
                size = _read_size(data[position:line_end])
                position = line_end + 2
                if not size:
                    state = _TRAILER
                    continue
                stop = position + size
                if data[stop : stop + 2] == b"\r\n":
                    pieces.append(data[position:stop])
                    position = stop + 2
                    continue
                self._missing = size
                state = _CHUNK_DATA
            elif state == _CHUNK_DATA:
                piece = data[position : position + self._missing]
                pieces.append(piece)
                position += len(piece)
                self._missing -= len(piece)
                if not self._missing:
                    state = _CHUNK_END
            elif state == _CHUNK_END:
                line_break = data[position : position + 2]
                if line_break == b"\r":
                    self._hold_line(line_break)
                    break
                if line_break != b"\r\n":
                    raise MalformedResponse(f"behind a chunk is {line_break!r} and no line break")
                position += 2
                state = _CHUNK
            elif state == _TRAILER:
                line_end = data.find(b"\r\n", position)
                if line_end < 0:
                    self._hold_line(data[position:])
                    break
                empty = line_end == position
                self._spend(line_end - position)
                position = line_end + 2
                if empty:
                    self._end(data[position:])
                    return
            else:
                self.reusable = False  # it is complete, and this is behind it
                return
        self._state = state

    def _hold_line(self, data: bytes) -> None:
        if len(data) > _MAX_LINE:
            raise MalformedResponse(f"a line between chunks has more than {_MAX_LINE} bytes")
        self._held = data


@functools.lru_cache(maxsize=64)
def _read_status_line(line: str) -> tuple[str, int, str]:
    """Give the minor version, the status and the words behind it."""
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise MalformedResponse(f"it begins with {line[:80]!r}, which is no status line")
    return found[1], int(found[2]), found[3] or ""


@functools.lru_cache(maxsize=1024)
def _read_name(name: str) -> str:
    """Give a header's name in lower case: always the same text, so that heads share it."""
    if not _TOKEN.fullmatch(name):
        raise MalformedResponse(f"{name[:80]!r} is no name of a header")
    return name.lower()


@functools.lru_cache(maxsize=256)
def _read_length(value: str) -> int:
    """Read a content length, which may be stated more than once but not in two ways."""
    lengths = {length.strip(" \t") for length in value.split(",")}
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdecimal() and len(length) < 16):  # noqa: PLR2004 - a petabyte
        raise MalformedResponse(f"the content length is {value[:80]!r}")
    return int(length)


@functools.lru_cache(maxsize=256)
def _read_size(line: bytes) -> int:
    """Read the line before a chunk, and give the chunk's size."""
    found = None if len(line) > _MAX_CHUNK_LINE else re.fullmatch(_CHUNK_LINE, line)
    if found is None:
        raise MalformedResponse(f"before a chunk is {line[:80]!r} and no size")
    return int(found[1], 16)
