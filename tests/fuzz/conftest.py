"""Answers of HTTP, sound and damaged."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias

import pytest

Mutate: TypeAlias = Callable[[random.Random], bytes]

_HEAD = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _HEAD + b"transfer-encoding: chunked\r\n"

# One of each kind, small, so that what is changed is seldom only the body.
SOUND = (
    _HEAD + b"content-length: 5\r\n\r\nhello",
    _HEAD + b"Content-Type: application/json\r\nDate: Tue, 14 Oct 2025 09:21:33 GMT\r\n"
    b"x-Amzn-Invoked-Production-Variant: AllTraffic\r\nContent-Length: 2\r\n\r\n{}",
    _HEAD + b"connection: keep-alive, x\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nok",
    _HEAD + b"a: b \r\n\tc\r\n d\r\ncontent-length: 0\r\n\r\n",
    _HEAD + "x: é\r\nX: \udce9\r\ncontent-length: 1\r\n\r\nx".encode(errors="surrogateescape"),
    _HEAD + b"connection: close\r\n\r\nto the end",
    _CHUNKED + b"vary: a\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    _CHUNKED + b'\r\n3;a=b;c="d"\r\nhel\r\n00002  \r\nlo\r\n0\r\nx-check: 1\r\nb: c\r\n\r\n',
    _CHUNKED + b"Connection: close\r\n\r\na\r\n0123\r\n6789\r\n00\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello",
    b"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n",
    b'HTTP/1.1 304 As Before\r\nEtag: "a"\r\n\r\n',
    b"HTTP/1.1 100 Continue\r\n\r\n" + _HEAD + b"content-length: 2\r\n\r\nok",
    b"HTTP/1.1 103 Hints\r\nlink: a\r\n\r\n" + _CHUNKED + b"\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 424 Failed Dependency\r\ncontent-length: 13\r\n\r\n{'Message':1}",
    b"HTTP/1.1 503\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n",
)

# What means something to a parser, or nearly does.
_WORDS = (
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"\r\n ", b"\r\n\t", b" ", b"\t", b"   "),
    *(b":", b",", b";", b'"', b"=", b"+", b"-", b"_", b"0x", b"0", b"1", b"a", b"x"),
    *(b"\0", b"\x01", b"\x0b", b"\x0c", b"\x1f", b"\x7f", b"\x80", b"\xa0", b"\xff"),
    # KELVIN SIGN, dotless i, long s, a full-width digit, blanks of Unicode, a byte-order mark.
    *(text.encode() for text in ("\u212a", "\u0131", "\u017f", "\uff15", "\u00a0", "\u2028")),
    *("\ufeff".encode(), "\u0662".encode(), "é".encode()),
    *(b"HTTP/1.1 ", b"HTTP/1.0 ", b"HTTP/1.2 ", b"HTTP/2 ", _HEAD, b"100", b"101", b"199", b"204"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 2\r\n", b"content-length:", b"9" * 16),
    *(b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:", b"chunked", b"gzip, ", b"identity"),
    *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"connection:", b"close", b", "),
    *(b"0\r\n\r\n", b"0\r\n", b"1\r\nx\r\n", b"1;a\r\nx\r\n", b"f" * 16, b"a: b\r\n", b"a:\r\n"),
)

# Up to how many bytes a part is repeated, and in how many of a thousand answers.
_LARGE = 1 << 16
_LARGE_SHARE = 2


def _change(data: bytearray, chance: random.Random) -> None:
    """Damage the data in one place."""
    at = chance.randrange(len(data) + 1)
    match chance.randrange(9):
        case 0:
            data[at : at + 1] = chance.randbytes(1)
        case 1 | 2 | 3:
            data[at:at] = chance.choice(_WORDS)
        case 4:
            word = chance.choice(_WORDS)
            data[at : at + len(word)] = word
        case 5:
            del data[at : at + chance.choice((1, 1, 2, 3, 10))]
        case 6:
            data[at:at] = data[at : at + chance.randint(1, 30)] * chance.choice((1, 1, 2, 9))
        case 7:
            other = chance.choice(SOUND)
            data[at:] = other[chance.randrange(len(other)) :]
        case _:
            lines = data.split(b"\r\n")
            chance.shuffle(lines)
            data[:] = b"\r\n".join(lines)


def mutate_answer(chance: random.Random) -> bytes:
    """Give a sound answer that was damaged in one to five places."""
    data = bytearray(chance.choice(SOUND))
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5))):
        _change(data, chance)
    if chance.randrange(1000) < _LARGE_SHARE and data:
        at = chance.randrange(len(data))
        part = data[at : at + chance.choice((1, 1, 2, 3, 5, 20))]
        data[at:at] = part * (chance.choice((300, 9000, _LARGE)) // len(part))
    return bytes(data)


@pytest.fixture
def mutate() -> Mutate:
    return mutate_answer


@pytest.fixture
def sound() -> tuple[bytes, ...]:
    return SOUND
