"""UTF-8 bytes to text: what is none, and the byte order mark, which is no part of it."""

from __future__ import annotations

import codecs
import copy
from typing import Final

from aiosmrt.errors import InvalidText, PayloadError
from aiosmrt.tracebacks import drop_tracebacks

__all__ = ["TextDecoder"]

DECODED_MARK: Final = "\ufeff"
BYTE_ORDER_MARK: Final = DECODED_MARK.encode()
_REPLACEMENT: Final = "\ufffd"


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
            self._error = drop_tracebacks(name_invalid_text(error, self._received - len(data)))
            text = data[: error.start].decode("utf-8", self._errors)
            if not text:
                raise copy.copy(self._error) from error
        return text


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


def name_invalid_text(error: UnicodeDecodeError, offset: int) -> InvalidText:
    """Say where in the payload it is; `offset` is that of the bytes that were being decoded."""
    offset += error.start
    found = bytes(error.object[error.start : error.end])
    named = InvalidText(
        f"byte {offset} of the payload is not UTF-8: {error.reason} ({found!r})", offset=offset
    )
    named.__cause__ = error
    return named


class HalfJoiner:
    """Joins the halves of surrogate pairs in pieces of text, and replaces those that are alone.

    Attributes:
        half: of a pair, at the end of the last piece, whose other half may come.
    """

    __slots__ = ("half",)

    def __init__(self) -> None:
        self.half: str = ""

    def join(self, text: str) -> str:
        """Give a piece, which is not empty, as UTF-8 can hold it, what was kept before it."""
        text = self.half + text
        self.half = ""
        try:
            text.encode()
        except UnicodeEncodeError:
            if "\ud800" <= text[-1] <= "\udbff":
                self.half = text[-1]
                text = text[:-1]
            return replace_halves(text)
        return text

    def flush(self) -> str:
        """Give what stands for a half whose other half has not come."""
        half, self.half = self.half, ""
        return _REPLACEMENT if half else ""


def replace_halves(text: str) -> str:
    """Put U+FFFD for each half of a surrogate pair that is alone: UTF-8 has none."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
