"""Plain HTTP values, and the one callable that carries them.

`Transport` is small enough that a nested function stands in for it in a test::

    async def send(request: Request, progress: Progress) -> Response: ...
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Protocol

import attrs

from aiosmrt.redaction import redact
from aiosmrt.value import Value

__all__ = [
    "Delivery",
    "Progress",
    "Request",
    "Response",
    "ResponseHead",
    "Session",
    "Transport",
    "parse_date",
]


@attrs.define(eq=False, repr=False)
class Request(Value):
    """A request as it goes out; the body is whole because the signature covers it."""

    method: str
    origin: str  # scheme, host and port: "https://runtime.sagemaker.us-east-1.amazonaws.com"
    path: str  # percent-encoded as on the wire, begins with "/"
    # names in lower case; without host and content-length
    headers: dict[str, str] = attrs.field(repr=redact)
    body: bytes = attrs.field(default=b"", repr=redact)
    query: str = ""  # percent-encoded, without "?"
    body_hash: str | None = None  # SHA-256 in hexadecimal digits, where somebody has it already

    @property
    def host(self) -> str:
        """The `Host` header's value: the default port of the scheme left out."""
        return _find_host(self.origin)


@functools.lru_cache(256)
def _find_host(origin: str) -> str:
    scheme, _, host = origin.partition("://")
    return host.removesuffix(":443" if scheme == "https" else ":80")


@attrs.frozen(eq=False, repr=False)
class ResponseHead(Value):
    """Status and headers of an answer."""

    status: int
    # names in lower case, repeated ones joined by ", "
    headers: Mapping[str, str] = attrs.field(repr=redact)


def parse_date(text: str) -> datetime.datetime | None:
    """Read a date as HTTP writes it (RFC 9110, section 5.6.7); `None` for what is none."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=datetime.UTC)


class Delivery(Protocol):
    """A request on its way, as far as its peer may have it."""

    @property
    def may_be_whole(self) -> bool:
        """Whether the peer may have the whole request; `False` is a proof that it has not."""


class Progress(Protocol):
    """What the sender of a request tells while it works."""

    def connecting(self, delivery: Delivery) -> None:
        """A connection is being looked for or made; `delivery` knows what goes over it."""

    def writing(self) -> None:
        """The connection is there, or the socket took more of the request."""

    def sent(self) -> None:
        """The socket took the request's last byte."""


class Response(Protocol):
    """An answer whose body is still on its way."""

    head: ResponseHead

    async def receive(self) -> bytes:
        """Give the next bytes of the body as soon as they are there, `b""` at its proven end.

        Raises:
            TransportError: the body broke off, or a time limit fired, after all that came before
                was given.
        """

    def close(self) -> None:
        """Close the connection, unless the body was read to its end, and free the slot.

        Idempotent, and never waits.
        """


class Session(Protocol):
    """An `aiohttp.ClientSession`, as far as one can be described without knowing aiohttp."""

    @property
    def closed(self) -> bool:
        """Whether it is closed."""

    @property
    def connector(self) -> object:
        """What makes and keeps its connections."""


class Transport(Protocol):
    """Send one request and wait for the head of its answer."""

    async def __call__(self, request: Request, progress: Progress) -> Response:
        """Raise `TransportError` where no answer came."""
