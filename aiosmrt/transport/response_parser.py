"""Answers of HTTP/1.1, incrementally: bytes go in, in any split; head and body come out."""

from __future__ import annotations

from typing import Final

from aiosmrt.http import ResponseHead
from aiosmrt.transport.response_grammar import (
    BEGINNING,
    FRAMING,
    MAX_LINE,
    MAX_WORD,
    STATUS_SIZE,
    MalformedResponse,
    check_beginning,
    find_status,
    lower,
    read_length,
    read_name,
    read_size,
    split_lines,
)

__all__ = ["IncompleteResponse", "MalformedResponse", "ResponseParser"]

# Bytes and lines of all that stands around a body: the heads that only announce another, the head,
# and what comes behind the last chunk. aiohttp takes half as many lines, Python's http.client 100;
# the service's own heads have ten, of half a kilobyte together.
_MAX_BYTES: Final = 1 << 16
_MAX_LINES: Final = 256

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


class IncompleteResponse(EOFError):
    """The connection ended before the answer did."""


class ResponseParser:
    """Reads one answer (RFC 9112), strictly: what could be read in two ways is refused.

    What it takes for an answer does not depend on how the bytes were split, and what has come is
    judged line by line. Its work is linear in the bytes, and a head costs at most some
    milliseconds, whatever is in it.

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
        "_bytes",
        "_headers",
        "_held",
        "_lines",
        "_minor",
        "_missing",
        "_name",
        "_state",
        "_status",
        "complete",
        "delimited",
        "head",
        "pieces",
        "reason",
        "reusable",
    )

    def __init__(self, method: str) -> None:
        self.head: ResponseHead | None = None
        self.reason: str = ""
        self.pieces: list[bytes] = []
        self.complete: bool = False
        self.delimited: bool = True
        self.reusable: bool = True
        self._bodiless = method == "HEAD"
        self._state = _HEAD
        self._bytes = 0  # of what stands around the body
        self._lines = 0
        self._minor: int  # version, status and headers of the head whose lines are being read
        self._status = 0
        self._headers: dict[str, str] = {}
        self._name = ""  # of the last header, which may go on in the next line
        # The beginning of a line that is not there whole. Where fields are read, it begins with
        # the line break behind the line before.
        self._held = b""
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
        """Whether a byte of an answer is there, be it of a head that only announces another."""
        return bool(self._bytes or self._held)

    def _end(self, rest: bytes) -> None:
        self.complete = True
        self._state = _NOTHING
        if rest:
            self.reusable = False  # nobody asked for what comes behind

    def _take_head(self, data: bytes) -> bytes:
        """Take the head, if it is there, and give what comes behind it."""
        position = seen = 0
        if self._held:
            seen = max(0, len(self._held) - 3)
            data = self._held + data
        while True:
            position = seen = self._take_lines(data, position, seen)
            if position < 0:
                return b""
            self._read_head()
            if self.head is not None:
                break
        rest = data[position:]
        if self._state == _NOTHING or (self._state == _SIZED and not self._missing):
            self._end(rest)
            return b""
        return rest

    def _take_lines(self, data: bytes, start: int, seen: int) -> int:
        """Read the lines from `start` to the empty one, and tell where that ends.

        Without an empty line it is -1, and what is there is read as far as it has whole lines.
        None of them ends before `seen`.
        """
        end = data.find(b"\r\n\r\n", seen)
        if end >= 0:
            self._held = b""
            if end > start or not self._status:  # mostly nothing stands behind the last chunk
                self._read_lines(data[start:end])
            return end + 4
        line_break = data.rfind(b"\r\n", seen)
        if line_break > start:
            self._read_lines(data[start:line_break])
            start = line_break
            seen = line_break + 2
        self._hold(data, start, seen, MAX_LINE)
        return -1

    def _hold(self, data: bytes, start: int, seen: int, limit: int) -> None:
        """Keep the beginning of a line, unless it cannot become one."""
        held = data[start:]
        if not self._status and not BEGINNING.startswith(held[: len(BEGINNING)]):
            raise MalformedResponse(f"it begins with {held[:40]!r}, not with {BEGINNING!r}")
        check_beginning(data, start, limit, seen)
        self._held = held

    def _read_lines(self, data: bytes) -> None:
        """Read lines of a head, or of what stands behind the last chunk.

        They begin with a status line or, if that was read before, with the line break behind the
        line before; the line break behind the last is not among them.
        """
        self._bytes += len(data)
        if self._bytes > _MAX_BYTES:
            raise MalformedResponse(f"more than {_MAX_BYTES} bytes of it are no body")
        begins = not self._status
        if begins:
            found = find_status(data[:STATUS_SIZE])
            if found is None:
                raise MalformedResponse(f"it begins with {data[:40]!r}, which is no status line")
            self._minor, self._status = found
        lines = split_lines(data)
        if begins:
            self.reason = lines[0][STATUS_SIZE:]
            self._lines += 1
        del lines[0]
        self._lines += len(lines)
        if self._lines > _MAX_LINES:
            raise MalformedResponse(f"more than {_MAX_LINES} lines of it are no body")
        headers, name = self._headers, self._name
        for line in lines:
            if line < "!":  # it begins with white space
                self._unfold(name, line)
                continue
            name, colon, value = line.partition(":")
            if not colon:
                raise MalformedResponse(f"it has the line {line[:80]!r}, which is no header")
            name = read_name(name)
            value = value.strip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self._name = name

    def _unfold(self, name: str, line: str) -> None:
        """Add a line to a header's value.

        A client has to read a space there (RFC 9112, section 5.2). Others read other things, so
        that nothing may follow.
        """
        if not name:
            raise MalformedResponse(f"no header goes on in the line {line[:80]!r}")
        self.reusable = False
        more = line.strip(" \t")
        if more:
            value = self._headers[name].rstrip(" ")
            self._headers[name] = f"{value} {more}" if value else more

    def _read_head(self) -> None:
        """Take what was read for the head of the answer, if it does not only announce one."""
        status, headers, modern = self._status, self._headers, self._minor == 1
        self._headers, self._name = {}, ""
        connection = headers.get("connection")
        if connection is not None:
            connection = lower("connection", connection)
            if "close" in connection or not (
                modern or "keep-alive" in map(str.strip, connection.split(","))
            ):
                self.reusable = False
        elif not modern:
            self.reusable = False
        if status < _FINAL and status != _SWITCHING_PROTOCOLS:
            self._status = 0
            return
        self._frame(status, headers)
        # What HTTP/1.0 says in chunks it does not know, its end included (section 6.1).
        if not self.delimited or (self._state == _CHUNK and not modern):
            self.reusable = False
        self.head = ResponseHead(status, headers)

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
            self._missing = read_length(length)
            self._state = _SIZED
            return
        if coding is not None:
            coding = lower("transfer-encoding", coding)
            if coding == "chunked":
                self._state = _CHUNK
                return
            if "chunked" in coding:
                raise MalformedResponse(f"nobody asked for the transfer coding {coding[:80]!r}")
        self._state = _UNTIL_CLOSE
        self.delimited = False

    def _take_chunks(  # noqa: C901, PLR0912, PLR0915 - a hot loop, whose calls would cost more than its work
        self, data: bytes
    ) -> None:
        state = self._state
        seen = 0
        if self._held:
            seen = max(0, len(self._held) - 3)
            data = self._held + data
            self._held = b""
        position, end = 0, len(data)
        pieces = self.pieces
        while position < end:
            if state == _CHUNK:
                line_end = data.find(b"\n", position) + 1
                if not line_end:
                    self._hold(data, position, max(position, seen), MAX_WORD)
                    break
                size = read_size(data[position:line_end])
                position = line_end
                if not size:
                    position -= 2  # the line break belongs to what is behind
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
                    self._held = line_break
                    break
                if line_break != b"\r\n":
                    raise MalformedResponse(f"behind a chunk is {line_break!r} and no line break")
                position += 2
                state = _CHUNK
            elif state == _TRAILER:
                position = self._take_lines(data, position, max(position, seen))
                if position < 0:
                    break
                # It tells nothing there (RFC 9110, section 6.5.1), if the peer thinks so too.
                if not FRAMING.isdisjoint(self._headers):
                    self.reusable = False
                self._end(data[position:])
                return
            else:
                self.reusable = False  # it is complete, and this is behind it
                return
        self._state = state
