"""UTF-8 bytes to the values of the JSON documents in them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from aiosmrt.errors import InvalidJSON, PayloadError
from aiosmrt.payload.bounds import DEFAULT_MAX_LENGTH, name_too_large
from aiosmrt.payload.large_document import LARGE, LargeDocument
from aiosmrt.payload.text import BYTE_ORDER_MARK, DECODED_MARK, name_invalid_text
from aiosmrt.tracebacks import drop_tracebacks

if TYPE_CHECKING:
    from aiosmrt.value import JSONValue

__all__ = ["JSONDocumentDecoder"]

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

    Attributes:
        large: a document whose steps are to be taken before the next call, which gives its value.
    """

    __slots__ = (
        "_begin",
        "_begins",
        "_behind",
        "_depth",
        "_document",
        "_error",
        "_in_string",
        "_leaves_large",
        "_max_document_length",
        "_offset",
        "_skip",
        "large",
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
        self._leaves_large = False
        self.large: LargeDocument | None = None
        self._begin = 0  # bytes of the payload before it
        self._behind = b""  # bytes that came behind it

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

    def leave_large(self) -> None:
        """Leave documents that are too long for one step in `large`, from now on."""
        self._leaves_large = True

    def locate(self, index: int) -> int:
        """Give the bytes of the payload before the document of a value that came last.

        Args:
            index: of the value in what `receive` or `finish` gave last.
        """
        return self._begins[index]

    def _take(self, data: bytes, values: list[JSONValue]) -> None:
        if self.large is not None:
            data = self._behind + data
            self._behind = b""
            large, self.large = self.large, None
            try:
                values.append(large.finish())
            except (ValueError, RecursionError) as error:
                raise _name_invalid_json(error, large.text, self._begin) from error
            self._begins.append(self._begin)
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
                raise name_too_large(
                    "JSON document",
                    "max_document_length",
                    self._max_document_length,
                    self._offset,
                )
            if stop is not None and not self._complete(values):
                self._behind = data[stop:]
                return

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

    def _complete(self, values: list[JSONValue]) -> bool:
        """Parse the document, and tell whether it is not left in `large` for that."""
        document, self._document = self._document, bytearray()
        offset = self._offset
        self._offset += len(document)
        try:
            text = document.decode()
        except UnicodeDecodeError as error:
            raise name_invalid_text(error, offset) from error
        if text[0] == DECODED_MARK:
            text = text[1:]
            offset += len(BYTE_ORDER_MARK)
            if not text:  # the document is still to come
                return True
        if self._leaves_large and len(text) > LARGE:
            self.large, self._begin = LargeDocument(text), offset
            return False
        try:
            values.append(_parse(text))
            self._begins.append(offset)
        except (ValueError, RecursionError) as error:  # or a number of too many digits, or too deep
            raise _name_invalid_json(error, text, offset) from error
        return True


def _name_invalid_json(error: Exception, text: str, offset: int) -> InvalidJSON:
    """Say what is wrong with the document at that byte of the payload, and where."""
    position, reason = 0, str(error)
    if isinstance(error, json.JSONDecodeError):
        position, reason = error.pos, error.msg
    offset += len(text[:position].encode())
    return InvalidJSON(
        f"malformed JSON at byte {offset} of the payload: {reason}; it goes on with"
        f" {text[position : position + _EXCERPT]!r}",
        offset=offset,
    )
