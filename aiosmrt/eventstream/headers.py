"""Header blocks: ten types of values, to and from bytes.

The types and their numbers are those of the Amazon Event Stream Specification (part of Smithy),
section "Headers Format"; integers are big endian.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from aiosmrt.errors import InvalidHeader

__all__ = [
    "Byte",
    "HeaderValue",
    "Integer",
    "Long",
    "Short",
    "Timestamp",
    "decode_headers",
    "encode_headers",
]

MAX_NAME_LENGTH: Final = 255  # UTF-8 bytes; the specification's utf8 name<1..255>
# The grammar's upper bound for strings and byte arrays, narrower than their u16 length. It is not
# among the "additional size restrictions" that the specification forbids clients to check. The
# grammar's lower bound of 1 is kept by nobody: empty values are fine.
MAX_VALUE_LENGTH: Final = 2**15 - 1  # bytes

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND = datetime.timedelta(milliseconds=1)


class _Number(int):
    """An integer that knows its type on the wire; in all else an `int`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({int(self)})"

    def __str__(self) -> str:
        return int.__repr__(self)


class Byte(_Number):
    """A signed integer of 8 bits."""

    __slots__ = ()


class Short(_Number):
    """A signed integer of 16 bits."""

    __slots__ = ()


class Integer(_Number):
    """A signed integer of 32 bits."""

    __slots__ = ()


class Long(_Number):
    """A signed integer of 64 bits."""

    __slots__ = ()


class Timestamp(_Number):
    """Milliseconds since 1970-01-01T00:00:00Z, signed, 64 bits."""

    __slots__ = ()

    @classmethod
    def from_datetime(cls, moment: datetime.datetime) -> Timestamp:
        """Take an aware datetime; what is finer than a millisecond is cut off.

        Raises:
            ValueError: `moment` has no time zone.
        """
        if moment.utcoffset() is None:
            raise ValueError(f"{moment!r} has no time zone, so it is no point in time")
        return cls((moment - _EPOCH) // _MILLISECOND)

    def to_datetime(self) -> datetime.datetime:
        """Give the moment as an aware datetime in UTC.

        Raises:
            OverflowError: the moment is outside the years 1 to 9999.
        """
        return _EPOCH + self * _MILLISECOND


HeaderValue: TypeAlias = bool | Byte | Short | Integer | Long | bytes | str | Timestamp | uuid.UUID
"""What a decoded header holds."""

EncodableHeaderValue: TypeAlias = HeaderValue | int | datetime.datetime
"""What can be encoded: a plain `int` goes as an Integer, or a Long where it does not fit."""

_TRUE, _FALSE, _BYTES, _STRING, _UUID = 0, 1, 6, 7, 9
_FIXED: dict[int, tuple[int, Callable[[bytes], HeaderValue]]] = {  # type: (length, reader)
    _TRUE: (0, lambda _: True),
    _FALSE: (0, lambda _: False),
    2: (1, lambda value: Byte(int.from_bytes(value, signed=True))),
    3: (2, lambda value: Short(int.from_bytes(value, signed=True))),
    4: (4, lambda value: Integer(int.from_bytes(value, signed=True))),
    5: (8, lambda value: Long(int.from_bytes(value, signed=True))),
    8: (8, lambda value: Timestamp(int.from_bytes(value, signed=True))),
    _UUID: (16, lambda value: uuid.UUID(bytes=value)),
}
_NUMBERS: dict[type[int], tuple[int, int]] = {  # class: (type, length)
    Byte: (2, 1),
    Short: (3, 2),
    Integer: (4, 4),
    Long: (5, 8),
    Timestamp: (8, 8),
}


def decode_headers(block: bytes, *, offset: int = 0) -> dict[str, HeaderValue]:
    """Read a whole header block strictly.

    Args:
        block: exactly the bytes that the prelude calls headers.
        offset: bytes of the stream before the frame, for the error.

    Raises:
        InvalidHeader: a name is empty, repeated or not UTF-8, a type is unknown, or a value is cut
            off by the block's end, longer than 32,767 bytes, or a string that is not UTF-8.
    """
    headers: dict[str, HeaderValue] = {}
    position = 0
    while position < len(block):
        try:
            position = _decode_header(block, position, headers)
            continue
        except ValueError as error:
            problem = str(error)
        # Raised out here, the error keeps no frame, and with it no payload, alive as its context.
        raise InvalidHeader(
            f"header {len(headers) + 1} (byte {position} of the {len(block)} bytes of headers)"
            f" of the frame at byte {offset}: {problem}",
            offset=offset,
        )
    return headers


def _decode_header(block: bytes, position: int, headers: dict[str, HeaderValue]) -> int:
    """Add the header at `position` and give its end."""
    name_start = position + 1
    kind_at = name_start + block[position]
    if kind_at == name_start:
        raise ValueError("the name is empty")
    if kind_at >= len(block):
        raise ValueError(f"a name of {block[position]} bytes goes past the end of the headers")
    name = block[name_start:kind_at].decode()
    if name in headers:
        raise ValueError(f"the name {name!r} was there before")
    kind = block[kind_at]
    start = kind_at + 1
    if kind in _FIXED:
        length, read = _FIXED[kind]
    elif kind in (_BYTES, _STRING):
        length = int.from_bytes(block[start : start + 2])
        start += 2
        if length > MAX_VALUE_LENGTH:
            raise ValueError(f"{name!r} has {length} bytes, {MAX_VALUE_LENGTH} are allowed")
        read = bytes if kind == _BYTES else bytes.decode
    else:
        raise ValueError(f"{name!r} has the type {kind}, the types are 0 to 9")
    stop = start + length
    if stop > len(block):
        raise ValueError(f"{name!r} goes past the end of the headers by {stop - len(block)} bytes")
    headers[name] = read(block[start:stop])
    return stop


def encode_headers(headers: Mapping[str, EncodableHeaderValue]) -> bytes:
    """Write a header block, in the mapping's order.

    Raises:
        TypeError: a name is not a `str`, or a value has none of the ten types.
        ValueError: a name or a value cannot be told in the bytes that the format has for it.
    """
    return b"".join(part for name, value in headers.items() for part in _encode_header(name, value))


def _encode_header(name: str, value: EncodableHeaderValue) -> tuple[bytes, bytes, bytes]:
    if not isinstance(name, str):
        raise TypeError(f"a header's name is a str, not {type(name).__name__}: {name!r}")
    name_bytes = _encode_text(name, name)
    if not 1 <= len(name_bytes) <= MAX_NAME_LENGTH:
        raise ValueError(
            f"a header's name has 1 to {MAX_NAME_LENGTH} bytes, not {len(name_bytes)}: {name!r}"
        )
    return bytes((len(name_bytes),)), name_bytes, _encode_value(name, value)


def _encode_value(name: str, value: EncodableHeaderValue) -> bytes:
    match value:
        case bool():
            return bytes((_TRUE if value else _FALSE,))
        case int():
            return _encode_number(name, value)
        case bytes():
            return _encode_sized(name, _BYTES, value)
        case str():
            return _encode_sized(name, _STRING, _encode_text(name, value))
        case uuid.UUID():
            return bytes((_UUID,)) + value.bytes
        case datetime.datetime():
            return _encode_number(name, Timestamp.from_datetime(value))
    raise TypeError(
        f"header {name!r} is a {type(value).__name__}; a header is a bool, an int, bytes, a str,"
        " a datetime, a UUID, or one of the number classes of aiosmrt.eventstream"
    )


def _encode_number(name: str, value: int) -> bytes:
    layout = _NUMBERS.get(type(value))
    if layout is None:  # a plain int, or a subclass from elsewhere
        layout = _NUMBERS[Integer if -(2**31) <= value < 2**31 else Long]
    kind, length = layout
    try:
        return bytes((kind,)) + value.to_bytes(length, signed=True)
    except OverflowError:
        raise ValueError(
            f"header {name!r}: {value!r} does not fit into {8 * length} bits with a sign"
        ) from None


def _encode_sized(name: str, kind: int, value: bytes) -> bytes:
    if len(value) > MAX_VALUE_LENGTH:
        raise ValueError(f"header {name!r} has {len(value)} bytes, {MAX_VALUE_LENGTH} are allowed")
    return bytes((kind,)) + len(value).to_bytes(2) + value


def _encode_text(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"header {name!r}: no UTF-8 for {text!r}: {error.reason}") from None
