"""Server-sent events (`text/event-stream`), incrementally: bytes to events, and events to bytes.

The rules are those of the WHATWG's HTML standard, sections 9.2.5 and 9.2.6 ("Parsing an event
stream", "Interpreting an event stream"). Users import it as `aiosmrt.sse`.
"""

from __future__ import annotations

import copy
import re
from typing import Final

import attrs

from aiosmrt.errors import PayloadError, PayloadTooLarge
from aiosmrt.payload.bounds import DEFAULT_MAX_LENGTH, name_too_large
from aiosmrt.payload.lines import CR, LF, measure_lines
from aiosmrt.payload.text import BYTE_ORDER_MARK, check_errors, name_invalid_text
from aiosmrt.tracebacks import drop_tracebacks
from aiosmrt.value import Value

__all__ = ["EventDecoder", "ServerSentEvent", "encode", "encode_comment"]

_MAX_RETRY_DIGITS: Final = 18  # more milliseconds than anybody waits
_MARKS: Final = re.compile(rb"\A(?:%b)++" % BYTE_ORDER_MARK)


# Not frozen: one is made per event, and attrs' frozen slotted __init__ costs three times as much.
@attrs.define(eq=False, repr=False)
class ServerSentEvent(Value):
    """One event of a stream.

    Attributes:
        event: its type.
        data: the values of its data lines, joined by LF.
        id: the last id in the stream up to here.
        retry: milliseconds to wait before connecting again, the last ones said since the
            event before; else `None`.
    """

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None


class EventDecoder:
    """Turns the bytes of a `text/event-stream` into events.

    As the standard has it, a block of lines without `data` is no event: its `event` is forgotten,
    while its `id` and `retry` come with the next event. An event with an empty data line is one.
    Comments, unknown fields, an `id` with NUL and a `retry` that is not all digits count for
    nothing.

    It differs from the standard in three points, because a model's output is paid for. Byte order
    marks are passed over before every field, not just one at the beginning of the stream: there are
    servers that encode each event by itself, and a field whose name begins with a mark is never
    meant. The others can be had as there:

    Args:
        errors: what becomes of bytes that are not UTF-8, named as for `bytes.decode`. The
            standard's is `replace`, which puts U+FFFD in their place.
        drop_incomplete: whether an event that no blank line follows is dropped at the end of the
            stream, as the standard has it; else `finish` gives it.
        max_event_length: the most bytes of an event's data lines together with the line that is
            open, whatever that is.

    Raises:
        LookupError: Python knows no such `errors`, or not for decoding.
    """

    __slots__ = (
        "_after_cr",
        "_begin",
        "_begins",
        "_data",
        "_drop_incomplete",
        "_error",
        "_errors",
        "_event",
        "_id",
        "_length",
        "_line",
        "_max_event_length",
        "_offset",
        "_retry",
    )

    slice_length: Final = 8 * 1024  # bytes; measured: 0.7 ms, of events of no text

    def __init__(
        self,
        *,
        errors: str = "strict",
        drop_incomplete: bool = False,
        max_event_length: int = DEFAULT_MAX_LENGTH,
    ) -> None:
        check_errors(errors)
        self._errors = errors
        self._drop_incomplete = drop_incomplete
        self._max_event_length = max_event_length
        self._offset = 0  # bytes of the stream before the line that is open
        self._line = bytearray()  # what has come of that line
        self._after_cr = False  # whether an LF may follow that belongs to the break before it
        # Where an event begins: the offset of a block, it, and how many of its lines are before;
        # they are measured only where somebody asks.
        self._begin: tuple[int, bytes, int] | None = None  # of the event that is open
        self._begins: list[tuple[int, bytes, int]] = []  # of those that came complete last
        self._event = ""
        self._data: list[str] = []
        self._length = 0  # bytes of the event that is open, in whole lines
        self._id = ""
        self._retry: int | None = None
        self._error: PayloadError | None = None

    def receive(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and give the events that they complete.

        Raises:
            InvalidText: a field is not UTF-8.
            PayloadTooLarge: an event is longer than `max_event_length`.
        """
        if self._error is not None:
            raise copy.copy(self._error)
        events: list[ServerSentEvent] = []
        try:
            if LF in data or CR in data:
                data = self._split(data, events)
            self._line += data
            if self._length + len(self._line) > self._max_event_length:
                raise self._exceed(self._offset)
        except PayloadError as error:
            self._error = drop_tracebacks(copy.copy(error))
            if not events:
                raise
        return events

    def finish(self) -> list[ServerSentEvent]:
        """Take note that the stream has ended, and give an event that no blank line followed.

        Raises:
            InvalidText: a field of that event is not UTF-8.
            PayloadError: what was wrong before.
        """
        # As if a break for the line that is open came, and a blank line.
        return self.receive(b"" if self._drop_incomplete else b"\n\n")

    def skip(self, length: int) -> None:
        """Take note of bytes between two events, which were read elsewhere.

        Raises:
            PayloadError: what was wrong before.
        """
        if self._error is not None:
            raise copy.copy(self._error)
        self._offset += length

    def locate(self, index: int) -> int:
        """Give the bytes of the stream before an event that came last.

        Args:
            index: of the event in what `receive` or `finish` gave last.
        """
        offset, block, number = self._begins[index]
        return offset + measure_lines(block, number)

    # It finds lines as `LineDecoder` does, but as bytes, since a comment need not be text, and it
    # bounds events rather than lines: a common half would cost each part a call.
    def _split(self, data: bytes, events: list[ServerSentEvent]) -> bytes:
        """Interpret all lines that have a break now, and give what is behind the last break."""
        if self._line:
            data = bytes(self._line + data)
            self._line = bytearray()
        elif self._after_cr and data[0] == LF:
            data = data[1:]
            self._offset += 1
        lines = data.splitlines()  # of bytes: at LF, CR LF and CR only
        rest = lines.pop() if lines and not data.endswith((b"\n", b"\r")) else b""
        self._after_cr = data.endswith(b"\r")
        self._begins.clear()
        for number, line in enumerate(lines):
            if self._length + len(line) > self._max_event_length:
                raise self._exceed(self._offset + measure_lines(data, number))
            if not line:
                self._dispatch(events)
                self._begin = None
                continue
            if self._begin is None:
                self._begin = (self._offset, data, number)
            try:
                self._interpret(line)
            except UnicodeDecodeError as error:
                # What was being decoded is the end of the line.
                value = len(data.splitlines()[number]) - len(error.object)
                offset = self._offset + measure_lines(data, number) + value
                raise name_invalid_text(error, offset) from error
        self._offset += len(data) - len(rest)
        return rest

    def _interpret(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value.decode("utf-8", self._errors))
            self._length += len(line)
        elif name == b"event":
            self._event = value.decode("utf-8", self._errors)
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", self._errors)
        elif name == b"retry" and value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
            self._retry = int(value)
        elif name.startswith(BYTE_ORDER_MARK):
            self._interpret(_MARKS.sub(b"", line))
        elif name and name not in (b"id", b"retry"):
            self._pass_over(line)

    def _pass_over(self, line: bytes) -> None:
        """Take a line that is no field: for the standard, it says nothing."""

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        """End a block, and give the event in it."""
        if self._data:
            name, data = self._event or "message", "\n".join(self._data)
            self._give(events, ServerSentEvent(name, data, self._id, self._retry))
            self._data, self._retry = [], None
        self._event, self._length = "", 0

    def _give(self, events: list[ServerSentEvent], event: ServerSentEvent) -> None:
        events.append(event)
        self._begins.append(self._begin or (self._offset, b"", 0))

    def _exceed(self, offset: int) -> PayloadTooLarge:
        return name_too_large(
            "event that goes on", "max_event_length", self._max_event_length, offset
        )


_BREAK: Final = re.compile(r"\r\n|\n|\r")


def encode(
    data: str,
    *,
    event: str | None = None,
    id: str | None = None,  # noqa: A002 - the field's name
    retry: int | None = None,
) -> bytes:
    """Write one event; each break in `data` (LF, CR LF or CR) begins a new data line.

    Args:
        data: what the event says, may be empty.
        event: its type, `message` where there is none.
        id: what a client repeats as Last-Event-ID; empty takes back an earlier one.
        retry: milliseconds until a client that lost the connection tries again.

    Raises:
        ValueError: CR, LF or NUL in `event` or `id`, which no field can hold, `retry` below 0, or
            half of a surrogate pair, which UTF-8 cannot hold.
    """
    lines = [f"data: {line}" for line in _BREAK.split(data)]
    if retry is not None:
        if retry < 0:
            raise ValueError(f"retry={retry}: milliseconds, 0 or more")
        lines.insert(0, f"retry: {retry:d}")
    for name, value in (("id", id), ("event", event)):
        if value is not None:
            if any(character in value for character in "\r\n\0"):
                raise ValueError(f"{name}={value!r}: no CR, LF or NUL")
            lines.insert(0, f"{name}: {value}")
    return "\n".join([*lines, "", ""]).encode()


def encode_comment(text: str = "") -> bytes:
    """Write a comment, which clients pass over: it keeps a silent connection alive.

    Raises:
        ValueError: half of a surrogate pair, which UTF-8 cannot hold.
    """
    return "\n".join([*(f": {line}" for line in _BREAK.split(text)), "", ""]).encode()
