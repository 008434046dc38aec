"""Damage to bytes, by chance."""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["mutate"]

# What means something to one of the formats, or nearly does.
_WORDS = (
    *(b"\r\n", b"\n", b"\r", b"\n\n", b"\0", b" ", b"\t", b":", b",", b'"', b"\\", b"\\u"),
    *(b"{", b"}", b"[", b"]", b"null", b"true", b"1e999", b"-", b"0", b"NaN", b"\\ud800"),
    *(b"data:", b"data: [DONE]\n\n", b"event: error\n", b"id:", b"retry:", b"\xef\xbb\xbf"),
    *(b'"choices"', b'"delta"', b'"error"', b'"finish_reason"', b'"index"', b'"content"'),
    *(b'"token"', b'"generated_text"', b'"details"', b'"usage"', b'"tool_calls"', b'"message"'),
    *(b"\xff", b"\x80", b"\xc3", b"\xf0\x9f\x98\x80", "\u212a\u0131\u2028\u00a0".encode()),
    *(b"<Key>", b"</Key>", b"&amp;", b"&#0;", b"<!DOCTYPE a>", b"<![CDATA[", b"Content-Length: 2"),
)


def mutate(data: bytes, seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """Change the data in one to five places."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5))):
        _change(changed, seeds, chance)
    return bytes(changed)


def _change(data: bytearray, seeds: Sequence[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    match chance.randrange(8):
        case 0 | 1:
            data[at : at + 1] = chance.randbytes(1)
        case 2:
            data[at:at] = chance.choice(_WORDS)
        case 3:
            word = chance.choice(_WORDS)
            data[at : at + len(word)] = word
        case 4:
            del data[at : at + chance.choice((1, 1, 2, 3, 10))]
        case 5:
            data[at:at] = data[at : at + chance.randint(1, 30)] * chance.choice((1, 1, 2, 9))
        case 6:
            other = chance.choice(seeds)
            data[at:] = other[chance.randrange(len(other) + 1) :]
        case _:
            if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
