"""Payload bytes to text, lines and JSON documents, incrementally.

A part of a response stream may end anywhere: inside a character, a line break, a number. Each
decoder here takes the payload in any split and gives what it would give for the whole; each is
usable alone::

    decoder = LineDecoder()
    for part in parts:
        for line in decoder.receive(part):
            ...
    for line in decoder.finish():  # when the end of the payload is proven
        ...

What is sound before a fault is given first: then `receive` returns it, and the next call raises
the fault. A decoder that has met a fault raises it at every further call. Whatever the bytes are,
nothing but `PayloadError` comes out; anything else is a bug. The work is linear in the bytes,
however they are split.

A call does all the work that its bytes make, and meanwhile nothing else runs on an event loop. With
`slice_length` bytes a call at most, as the views have it, that is some milliseconds, whatever the
bytes are. Only what is longer than that itself, and complete now, may take more: a JSON document of
a MiB some 20 ms.

A byte order mark is no part of the text: it is passed over at the beginning of a payload, before
each JSON document, and before each field of an event.
"""

from __future__ import annotations

import codecs
import copy
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from aiosmrt.errors import (
    InvalidJSON,
    InvalidText,
    PayloadError,
    PayloadTooLarge,
)
from aiosmrt.tracebacks import drop_tracebacks

if TYPE_CHECKING:
    from aiosmrt.value import JSONValue

__all__ = ["JSONDocumentDecoder", "LineDecoder", "TextDecoder"]

# As for a frame of the event stream. No sane line or document is that long; it only bounds the
# memory that a broken model can claim.
DEFAULT_MAX_LENGTH: Final = 32 * 1024 * 1024  # bytes

_BYTE_ORDER_MARK: Final = "\ufeff"
BYTE_ORDER_MARK: Final = _BYTE_ORDER_MARK.encode()

# As numbers, because a byte is looked for several times faster so than as a bytes object.
_LF: Final = ord("\n")
_CR: Final = ord("\r")


class TextDecoder:
    """Turns UTF-8 bytes into text and never splits a character.

    Args:
        errors: what becomes of bytes that are not UTF-8, named as for `bytes.decode`: `strict`
            raises, `replace` puts U+FFFD in their place.

    Raises:
        LookupError: Python knows no such `errors`, or not for decoding.
    """

    __slots__ = ("_error", "_errors", "_pending", "_received")

    slice_length: Final = 64 * 1024  # bytes; measured: 0.1 ms, with `backslashreplace` 7 ms

    def __init__(self, errors: str = "strict") -> None:
        check_errors(errors)
        self._errors = errors
        self._pending = b""  # the first bytes of a character
        self._received = 0  # bytes of the payload
        self._error: PayloadError | None = None

    def receive(self, data: bytes) -> str:
        """Take the next bytes and give the text that they complete.

        Raises:
            InvalidText: the bytes are not UTF-8; all text before them was given.
        """
        if self._error is not None:
            raise copy.copy(self._error)
        self._received += len(data)
        if not self._pending and data.isascii():  # most text, and several times faster so
            return data.decode()
        return self._decode(data)

    def finish(self) -> str:
        """Take note that the payload has ended; there is text only where `errors` makes some.

        Raises:
            InvalidText: the payload ended inside a character, or was not UTF-8 before.
        """
        if self._error is not None:
            raise copy.copy(self._error)
        return self._decode(b"", final=True)

    def _decode(self, data: bytes, *, final: bool = False) -> str:
        data = self._pending + data
        if len(data) == self._received and data.startswith(BYTE_ORDER_MARK):
            data = data[len(BYTE_ORDER_MARK) :]
        try:
            text, decoded = codecs.utf_8_decode(data, self._errors, final)
            self._pending = data[decoded:]
        except UnicodeDecodeError as error:
            # The text before the error comes first, which is for the next call then.
            self._error = drop_tracebacks(_name_invalid_text(error, self._received - len(data)))
            text = data[: error.start].decode("utf-8", self._errors)
            if not text:
                raise copy.copy(self._error) from error
        return text


class LineDecoder:
    """Turns UTF-8 bytes into lines, without their breaks.

    LF, CR LF and CR are breaks, and nothing else is (`str.splitlines` knows more). A line that
    ends with CR is given at once; an LF that comes next belongs to the same break.

    Args:
        max_line_length: the most bytes of a line, its break not counted.
    """

    __slots__ = ("_after_cr", "_error", "_line", "_max_line_length", "_offset")

    slice_length: Final = 16 * 1024  # bytes; measured: 0.7 ms, of line feeds alone

    def __init__(self, *, max_line_length: int = DEFAULT_MAX_LENGTH) -> None:
        self._max_line_length = max_line_length
        self._offset = 0  # bytes of the payload before the line that is open
        self._line = bytearray()  # what has come of that line
        self._after_cr = False  # whether an LF may follow that belongs to the break before it
        self._error: PayloadError | None = None

    def receive(self, data: bytes) -> list[str]:
        """Take the next bytes and give the lines that they complete.

        Raises:
            InvalidText: a line is not UTF-8.
            PayloadTooLarge: a line is longer than `max_line_length`.
        """
        if self._error is not None:
            raise copy.copy(self._error)
        lines: list[str] = []
        try:
            if _LF in data or _CR in data:
                data = self._split(data, lines)
            self._line += data
            if len(self._line) > self._max_line_length:
                raise self._exceed(self._offset)
        except PayloadError as error:
            self._error = drop_tracebacks(copy.copy(error))
            if not lines:
                raise
        return lines

    def finish(self) -> list[str]:
        """Take note that the payload has ended, and give the last line where it has no break.

        Raises:
            InvalidText: that line is not UTF-8.
            PayloadError: what was wrong before.
        """
        if self._offset == 0 and self._line == BYTE_ORDER_MARK:
            self._line.clear()  # a mark alone is no line
        return self.receive(b"\n" if self._line else b"")

    def _split(self, data: bytes, lines: list[str]) -> bytes:
        """Add to `lines` all that have a break now, and give what is behind the last break."""
        if self._line:
            data = bytes(self._line + data)
            self._line = bytearray()
        elif self._after_cr and data[0] == _LF:
            data = data[1:]
            self._offset += 1
        found = data.splitlines()  # of bytes: at LF, CR LF and CR only
        rest = found.pop() if found and not data.endswith((b"\n", b"\r")) else b""
        self._after_cr = data.endswith(b"\r")
        try:
            for line in found:
                if len(line) > self._max_line_length:
                    raise self._exceed(self._offset + measure_lines(data, len(lines)))
                lines.append(line.decode())
        except UnicodeDecodeError as error:
            offset = self._offset + measure_lines(data, len(lines))
            raise _name_invalid_text(error, offset) from error
        finally:
            if self._offset == 0 and lines:
                lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
        self._offset += len(data) - len(rest)
        return rest

    def _exceed(self, offset: int) -> PayloadTooLarge:
        return _name_too_large("line", "max_line_length", self._max_line_length, offset)


# Runs of bytes that change nothing are passed over in C: each of these matches at every position,
# be it nothing. Their repetitions are bounded, because each one costs memory until the match ends.
_Match: TypeAlias = Callable[[bytes, int], re.Match[bytes]]
_match_space = cast("_Match", re.compile(rb"[ \t\n\r]*").match)  # RFC 8259, section 2
# Up to a byte order mark, too, whose first byte is in no number or literal.
_match_scalar = cast("_Match", re.compile(rb'[^ \t\n\r"\[\]{},:\xef]*').match)
_match_string = cast("_Match", re.compile(rb'[^"\\]*(?:\\.[^"\\]*){0,255}').match)
_match_flat = cast("_Match", re.compile(rb'[^"\[\]{}]*(?:"[^"\\]*"[^"\[\]{}]*){0,255}').match)

_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_OPENING: Final = b"[{"
_BEGINNING: Final = b'"[{'  # of what has an end of its own
_MISPLACED: Final = b"]},:"  # where a document should begin
_EXCERPT: Final = 24  # characters of a malformed document that its error shows

_parse: Final = cast("Callable[[str], JSONValue]", json.JSONDecoder().decode)


class JSONDocumentDecoder:
    """Turns UTF-8 bytes into the values of the JSON documents in them.

    JSON lines, pretty-printed documents, documents in a row: white space or nothing may stand
    between two. A container or a string is complete with its last byte, a number or a literal with
    the byte that follows it or the end of the payload. As for `json.loads`, NaN and the infinities
    are numbers, the last value counts where a name is twice in an object, and a string can hold
    half of a surrogate pair, which JSON writes and UTF-8 does not (RFC 8259, section 8.2). Byte
    order marks before a document are passed over (section 8.1), and count for its length.

    Args:
        max_document_length: the most bytes of a document.
    """

    __slots__ = (
        "_begins",
        "_depth",
        "_document",
        "_error",
        "_in_string",
        "_max_document_length",
        "_offset",
        "_skip",
    )

    slice_length: Final = 4 * 1024  # bytes; measured: 4 ms, of empty documents

    def __init__(self, *, max_document_length: int = DEFAULT_MAX_LENGTH) -> None:
        self._max_document_length = max_document_length
        self._offset = 0  # bytes of the payload before the document that is open
        self._document = bytearray()  # what has come of a document that is not complete
        self._depth = 0  # how many containers are open in it
        self._in_string = False  # whether a string is
        self._skip = 0  # bytes of an escape sequence still to come
        self._begins: list[int] = []  # of the documents that came complete last
        self._error: PayloadError | None = None

    def receive(self, data: bytes) -> list[JSONValue]:
        """Take the next bytes and give the values of the documents that they complete.

        Raises:
            InvalidJSON: a document is malformed.
            InvalidText: a document is not UTF-8.
            PayloadTooLarge: a document is longer than `max_document_length`.
        """
        if self._error is not None:
            raise copy.copy(self._error)
        if (
            self._in_string
            and not self._skip
            and _QUOTE not in data
            and _BACKSLASH not in data
            and len(self._document) + len(data) <= self._max_document_length
        ):
            # What a string goes on with is only collected: many streams come in small pieces.
            self._document += data
            return []
        values: list[JSONValue] = []
        self._begins.clear()
        try:
            self._take(data, values)
        except PayloadError as error:
            self._error = drop_tracebacks(copy.copy(error))
            if not values:
                raise
        return values

    def finish(self) -> list[JSONValue]:
        """Take note that the payload has ended, and give the number or literal at its end.

        Raises:
            InvalidJSON: the payload ended inside a document, or its last one is malformed.
            PayloadError: what was wrong before.
        """
        if self._error is None and (self._depth or self._in_string):
            length = len(self._document)
            self._error = InvalidJSON(
                f"the payload ended after {self._offset + length} bytes, {length} bytes into the"
                f" JSON document at byte {self._offset}",
                offset=self._offset,
            )
        return self.receive(b" ")  # white space is the end of a number or a literal

    def locate(self, index: int) -> int:
        """Give the bytes of the payload before the document of a value that came last.

        Args:
            index: of the value in what `receive` or `finish` gave last.
        """
        return self._begins[index]

    def _take(self, data: bytes, values: list[JSONValue]) -> None:
        end = len(data)
        position = 0
        while True:
            if not self._document:
                begin = _match_space(data, position).end()
                self._offset += begin - position
                position = begin
            if position == end:
                return
            stop = self._find_end(data, position)
            self._document += data[position:stop]
            position = end if stop is None else stop
            if len(self._document) > self._max_document_length:
                raise _name_too_large(
                    "JSON document",
                    "max_document_length",
                    self._max_document_length,
                    self._offset,
                )
            if stop is not None:
                self._complete(values)

    def _find_end(self, data: bytes, position: int) -> int | None:
        """Give the end of the document that goes on or begins at `position`, `None` for later."""
        end = len(data)
        depth, in_string = self._depth, self._in_string
        if depth or in_string:
            position += self._skip
        elif self._document or data[position] not in _BEGINNING:
            return self._find_scalar_end(data, position)
        elif data[position] == _QUOTE:
            in_string = True
            position += 1
        while position < end:
            position = (_match_string if in_string else _match_flat)(data, position).end()
            if position == end:
                break
            byte = data[position]
            position += 1
            if byte == _QUOTE:
                in_string = not in_string
            elif byte == _BACKSLASH:
                position += 1
            elif byte in _OPENING:
                depth += 1
            else:
                depth -= 1
            if not (depth or in_string):
                self._depth, self._in_string = depth, in_string
                return position
        self._depth, self._in_string, self._skip = depth, in_string, position - end
        return None

    def _find_scalar_end(self, data: bytes, position: int) -> int | None:
        if not self._document:
            if data[position] in _MISPLACED:
                raise InvalidJSON(
                    f"malformed JSON at byte {self._offset} of the payload: {chr(data[position])!r}"
                    " where a document should begin",
                    offset=self._offset,
                )
            position += 1
        end = _match_scalar(data, position).end()
        return None if end == len(data) else end

    def _complete(self, values: list[JSONValue]) -> None:
        """Parse the document."""
        document, self._document = self._document, bytearray()
        offset = self._offset
        self._offset += len(document)
        try:
            text = document.decode()
        except UnicodeDecodeError as error:
            raise _name_invalid_text(error, offset) from error
        if text[0] == _BYTE_ORDER_MARK:
            text = text[1:]
            offset += len(BYTE_ORDER_MARK)
            if not text:  # the document is still to come
                return
        try:
            values.append(_parse(text))
            self._begins.append(offset)
        except (ValueError, RecursionError) as error:  # or a number of too many digits, or too deep
            position, reason = 0, str(error)
            if isinstance(error, json.JSONDecodeError):
                position, reason = error.pos, error.msg
            offset += len(text[:position].encode())
            raise InvalidJSON(
                f"malformed JSON at byte {offset} of the payload: {reason}; it goes on with"
                f" {text[position : position + _EXCERPT]!r}",
                offset=offset,
            ) from error


def measure_lines(block: bytes, number: int) -> int:
    """Give the length of the first lines of a block with their breaks."""
    return sum(map(len, block.splitlines(keepends=True)[:number]))


def check_errors(errors: str) -> None:
    """See to it that `errors` names what can become of bytes that are not text.

    Raises:
        LookupError: Python knows no such name, or only for encoding.
    """
    codecs.lookup_error(errors)
    try:
        b"\xff".decode(errors=errors)
    except UnicodeDecodeError:
        pass
    except TypeError as error:
        raise LookupError(f"errors={errors!r}: {error}") from error


def _name_invalid_text(error: UnicodeDecodeError, offset: int) -> InvalidText:
    """Say where in the payload it is; `offset` is that of the bytes that were being decoded."""
    offset += error.start
    found = bytes(error.object[error.start : error.end])
    named = InvalidText(
        f"byte {offset} of the payload is not UTF-8: {error.reason} ({found!r})", offset=offset
    )
    named.__cause__ = error
    return named


def _name_too_large(what: str, option: str, limit: int, offset: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the {what} at byte {offset} of the payload is longer than {limit} bytes: give a larger"
        f" {option} if it is meant to be",
        offset=offset,
        limit=limit,
    )
