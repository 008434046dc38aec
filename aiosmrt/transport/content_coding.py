"""Content codings: which of them an answer's body has, and taking them off again. Pure.

A body comes as it was compressed, piece by piece, and is given in pieces of a bounded size: however
well it was compressed, whoever takes the pieces can stop, or let others run, after any of them.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

__all__ = ["ContentDecoder", "IncompleteContent", "MalformedContent", "read_codings"]

# Codings that compress (IANA's registry of HTTP content codings, RFC 9110 section 8.4.1, and what
# servers call others). Whatever else stands in `Content-Encoding`, such as `utf-8`, `aws-chunked`
# or nothing, has changed no byte.
_DECODABLE: Final = {"deflate": "deflate", "gzip": "gzip", "x-deflate": "deflate", "x-gzip": "gzip"}
_COMPRESSIONS: Final = frozenset(
    {
        *("br", "bzip2", "compress", "dcb", "dcz", "exi", "lz4", "lzma", "pack200-gzip", "sdch"),
        *("snappy", "x-bzip2", "x-compress", "x-lzma", "x-snappy-framed", "x-xz", "xz", "zstd"),
    }
)
# How many may be on top of each other; curl takes as many.
_MOST: Final = 5

# Bytes that are decoded in one step, of what comes and of what it becomes: some 1 ms.
_TAKEN: Final = 1 << 14
_GIVEN: Final = 1 << 18

_GZIP: Final = 31  # zlib's window bits: a gzip header and the largest window
_ZLIB: Final = 15
_RAW: Final = -15
_METHOD: Final = 8  # in zlib's header, which is a multiple of 31 (RFC 1950, section 2.2)


class MalformedContent(ValueError):
    """The bytes are not what their coding says."""


class IncompleteContent(MalformedContent):
    """The bytes stop before the end that their coding marks."""


def read_codings(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Give the codings of a body that compress it, in the order in which they were applied.

    Args:
        headers: of the answer, names in lower case.
    """
    value = headers.get("content-encoding")
    if value is None:
        return ()
    names = [name.partition(";")[0].strip(' \t"').lower() for name in value.split(",")]
    return tuple(
        _DECODABLE.get(name, name) for name in names if name in _DECODABLE or name in _COMPRESSIONS
    )


class ContentDecoder:
    """Takes codings off a body: bytes in by `receive_data`, bytes out by `take`.

    Args:
        codings: of the body, as `read_codings` gives them.

    Raises:
        MalformedContent: there is one among them that cannot be decoded, or there are too many.
    """

    def __init__(self, codings: Sequence[str]) -> None:
        unknown = [coding for coding in codings if coding not in _DECODABLE]
        if unknown:
            raise MalformedContent(f"{unknown[0]!r} cannot be decoded here; gzip and deflate can")
        if len(codings) > _MOST:
            raise MalformedContent(f"{len(codings)} codings on top of each other are too many")
        self._received = _Received()
        self._stages: list[_Inflater] = []
        for coding in reversed(codings):
            source = self._stages[-1] if self._stages else self._received
            self._stages.append(_Inflater(coding, source))

    @property
    def dry(self) -> bool:
        """Whether nothing can be taken until more is received."""
        return self._stages[-1].dry

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._received.add(data)

    def take(self) -> bytes:
        """Give the next decoded bytes, some 256 KiB at most; `b""`: ask again, or it is dry.

        Raises:
            MalformedContent: the bytes are not what their coding says.
        """
        return self._stages[-1].take()

    def receive_eof(self) -> None:
        """Take note that the body is at its end, when all was taken.

        Raises:
            IncompleteContent: its codings are not.
        """
        for stage in self._stages:
            stage.receive_eof()


class _Received:
    """What came and was not decoded yet."""

    def __init__(self) -> None:
        self._pieces: deque[memoryview] = deque()

    @property
    def dry(self) -> bool:
        return not self._pieces

    def add(self, data: bytes) -> None:
        if data:
            self._pieces.append(memoryview(data))

    def take(self) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces.popleft()
        if len(piece) > _TAKEN:
            self._pieces.appendleft(piece[_TAKEN:])
        return bytes(piece[:_TAKEN])


class _Inflater:
    """Takes one coding off.

    Each step is small, also where a piece has thousands of members that hold nothing: they are
    separate streams of gzip behind each other, which count as one (RFC 1952, section 2.2).
    """

    def __init__(self, coding: str, source: _Received | _Inflater) -> None:
        self._coding = coding
        self._source = source
        self._waiting = b""  # taken from the source, and not decoded yet
        self._held = b""  # too little to tell what begins with it
        self._full = False  # whether the last step had more to give
        self._member: zlib._Decompress | None = None  # that has begun
        self._members = 0  # that have ended
        self._fault = ""  # what is wrong behind what was given

    @property
    def dry(self) -> bool:
        working = self._full or self._waiting or self._fault
        return not working and self._source.dry

    def take(self) -> bytes:
        if self._fault:
            raise MalformedContent(self._fault)
        data, self._waiting = self._waiting, b""
        if not data and not self._full:
            data, self._held = self._held + self._source.take(), b""
        member = self._member
        if member is None:
            data = self._find_beginning(data)
            if not data:
                return b""
            member = self._member = zlib.decompressobj(self._choose_format(data))
        before = member.copy()
        try:
            given = member.decompress(data, _GIVEN)
        except zlib.error as error:
            self._fault = f"it is no {self._coding}: {error}"
            return _decode_sound_bytes(before, data)
        if member.eof:
            self._member, self._full, self._waiting = None, False, member.unused_data
            self._members += 1
        else:
            self._full, self._waiting = len(given) == _GIVEN, member.unconsumed_tail
        return given

    def _find_beginning(self, data: bytes) -> bytes:
        """Give what a member begins with, `b""` if there is none or too little of it yet."""
        if self._members:
            # Zeros fill what was written in blocks; gzip itself passes over them, too.
            data = data.lstrip(b"\0")
            if data and self._coding != "gzip":
                raise MalformedContent(f"there are bytes behind the end of its {self._coding}")
        if len(data) < 2:  # noqa: PLR2004 - the size of what tells formats apart
            self._held, data = data, b""
        return data

    def _choose_format(self, data: bytes) -> int:
        if self._coding == "gzip":
            return _GZIP
        # It should have zlib's header (RFC 9110, section 8.4.1.2); some servers send none.
        header = int.from_bytes(data[:2], "big")
        return _RAW if header >> 8 & 15 != _METHOD or header % 31 else _ZLIB

    def receive_eof(self) -> None:
        if self._member is not None or self._held:
            raise IncompleteContent(f"its {self._coding} stops before its end")


def _decode_sound_bytes(member: zlib._Decompress, data: bytes) -> bytes:
    """Decode up to the byte at fault: zlib gives nothing of what it was fed together with that."""
    given = bytearray()
    with suppress(zlib.error):
        for byte in data:
            given += member.decompress(bytes([byte]))
    return bytes(given)
