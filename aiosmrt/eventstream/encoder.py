"""Messages to frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from zlib import crc32

from aiosmrt.eventstream.headers import EncodableHeaderValue, encode_headers

__all__ = ["encode_message"]

_OVERHEAD: Final = 16  # bytes of a frame that are neither headers nor payload
_MAX_LENGTH: Final = 2**32 - 1  # the total length is a u32


def encode_message(
    headers: Mapping[str, EncodableHeaderValue], payload: bytes | bytearray | memoryview
) -> bytes:
    """Give the frame of a message, by the Amazon Event Stream Specification, "Message Format".

    A plain `int` is written as 32 bits if it fits and as 64 if not; `Byte`, `Short`, `Integer` and
    `Long` say it themselves. An aware `datetime` is written as a timestamp in milliseconds.
    The limits that services have (24 MiB of payload, 128 KiB of headers) are not checked.

    Args:
        headers: names of 1 to 255 UTF-8 bytes; strings and bytes of at most 32,767 bytes.
        payload: the message's bytes.

    Raises:
        TypeError: a name is not a `str`, a value has none of the ten types, or the payload is not
            bytes.
        ValueError: a name, a value or the whole message is too long, a name is empty, a number does
            not fit, text has no UTF-8, or a `datetime` has no time zone.
    """
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise TypeError(f"a payload is bytes, not {type(payload).__name__}")
    payload = bytes(payload)
    block = encode_headers(headers)
    length = _OVERHEAD + len(block) + len(payload)
    if length > _MAX_LENGTH:
        raise ValueError(f"a message of {length} bytes, {_MAX_LENGTH} are the most")
    prelude = length.to_bytes(4) + len(block).to_bytes(4)
    head = b"".join((prelude, crc32(prelude).to_bytes(4), block))
    return b"".join((head, payload, crc32(payload, crc32(head)).to_bytes(4)))
