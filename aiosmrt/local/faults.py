"""What goes wrong with an answer on its way: where, and how it looks on the wire."""

from __future__ import annotations

import re
from typing import Literal, Protocol, TypeAlias

import attrs

from aiosmrt.errors import ConfigurationError, ServiceError
from aiosmrt.local.answers import encode_exception

__all__ = ["Corrupt", "Cut", "Damage", "Fault", "Hang", "Inside", "Reset", "StreamFailure", "Wire"]

Inside: TypeAlias = Literal["frame", "prelude", "chunk"]
"""Where a stream is cut."""

Damage: TypeAlias = Literal["prelude", "headers", "payload", "crc"]
"""Which bytes of a frame are wrong."""

_PRELUDE = 12  # bytes of a frame before its headers, their checksum included
_PLACE = re.compile(r"part ([1-9][0-9]{0,8})")


class Wire(Protocol):
    """A connection on which the head of an answer may have gone out."""

    async def write(self, piece: bytes) -> None:
        """Send a piece of the body as HTTP frames it."""

    async def write_torn(self, piece: bytes) -> None:
        """Send the announcement of a piece, and half of it."""

    async def hang(self) -> None:
        """Send nothing more, until the client leaves."""

    async def end(self) -> None:
        """Say properly that the body is at its end."""

    async def close(self) -> None:
        """Close the connection."""

    async def reset(self) -> None:
        """Close the connection with a reset (RST)."""


class Fault(Protocol):
    """Something that strikes once in an answer."""

    @property
    def position(self) -> int:
        """When: 0 is before the head, n before the n-th part, or at the end if there are fewer."""

    async def strike(self, wire: Wire, frame: bytes) -> bytes | None:
        """Strike in place of a frame.

        Args:
            wire: what the answer goes out on.
            frame: which would be sent now: of a whole answer a piece of its body, and nothing at
                the end.

        Returns:
            What is sent in its place; `None` where the answer is over.
        """


@attrs.frozen
class Hang:
    """Nothing more comes."""

    position: int

    async def strike(self, wire: Wire, frame: bytes) -> None:  # noqa: ARG002 - see Fault
        """Send nothing until the client leaves."""
        await wire.hang()


@attrs.frozen
class Reset:
    """The connection is reset."""

    position: int

    async def strike(self, wire: Wire, frame: bytes) -> None:  # noqa: ARG002 - see Fault
        """Reset the connection."""
        await wire.reset()


@attrs.frozen
class Cut:
    """The stream breaks off.

    Inside a frame or its prelude HTTP ends properly, as behind a proxy that has lost its server;
    between frames, and inside a chunk, the connection is closed under HTTP.
    """

    position: int
    inside: Inside | None

    async def strike(self, wire: Wire, frame: bytes) -> None:
        """Send what comes before the cut."""
        if self.inside == "chunk":
            await wire.write_torn(frame)
        elif self.inside is not None:
            length = len(frame) // 2 if self.inside == "frame" else _PRELUDE // 2
            await wire.write(frame[:length])
            await wire.end()
        await wire.close()


@attrs.frozen
class Corrupt:
    """One bit of a frame is wrong; checksums stay as they were."""

    position: int
    where: Damage

    async def strike(self, wire: Wire, frame: bytes) -> bytes:  # noqa: ARG002 - see Fault
        """Give the frame with its wrong bit."""
        headers = _PRELUDE + int.from_bytes(frame[4:8])
        # Of a payload that is empty the next byte is the checksum's.
        place = {"prelude": 3, "headers": _PRELUDE, "payload": headers, "crc": len(frame) - 1}
        damaged = bytearray(frame)
        damaged[place[self.where]] ^= 1
        return bytes(damaged)


@attrs.frozen
class StreamFailure:
    """The service says in the stream that it has failed."""

    position: int
    error: ServiceError

    async def strike(self, wire: Wire, frame: bytes) -> None:  # noqa: ARG002 - see Fault
        """Send the exception, and the end."""
        await wire.write(encode_exception(self.error))
        await wire.end()


def find_position(at: str) -> int:
    """Read a place: `head`, `first_part` or `part n`.

    Raises:
        ConfigurationError: it is none of these.
    """
    if at == "head":
        return 0
    match = _PLACE.fullmatch("part 1" if at == "first_part" else str(at))
    if match is None:
        raise ConfigurationError(
            f"at must be 'connect', 'head', 'first_part' or 'part n', not {at!r}"
        )
    return int(match[1])
