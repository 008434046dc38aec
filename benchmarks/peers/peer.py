"""What is asked of a client, and what it cost."""

from __future__ import annotations

import abc
import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Literal

import attrs

__all__ = [
    "ACCESS_KEY_ID",
    "REGION",
    "SECRET_ACCESS_KEY",
    "AsyncPeer",
    "Peer",
    "Sample",
    "Work",
]

REGION = "us-east-1"
ACCESS_KEY_ID = "AKIDEXAMPLE"
SECRET_ACCESS_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


@attrs.frozen
class Work:
    """One call: a whole answer, or a response stream to its end; the server knows the endpoints."""

    operation: Literal["invoke", "stream"]
    endpoint: str
    size: int = 1024  # bytes of the request's body

    @property
    def body(self) -> bytes:
        return b"x" * self.size


@attrs.frozen
class Sample:
    """What some calls took; CPU is that of the client's process, all threads."""

    calls: int
    wall: float  # seconds
    cpu: float  # seconds


class Peer(abc.ABC):
    """A client at work."""

    @abc.abstractmethod
    async def repeat(self, work: Work, calls: int, in_flight: int) -> Sample:
        """Make so many calls, so many at a time."""


class AsyncPeer(Peer):
    """A client of asyncio.

    Attributes:
        received: bytes of response streams: of their payloads, or for plain HTTP of their frames.
    """

    def __init__(self) -> None:
        self.received = 0

    @abc.abstractmethod
    async def invoke(self, endpoint: str, body: bytes) -> object:
        """Call, and read the whole answer."""

    @abc.abstractmethod
    async def stream(self, endpoint: str, body: bytes) -> object:
        """Call, and read the response stream to its end, counting bytes as they come."""

    @abc.abstractmethod
    async def hold(self, endpoint: str, body: bytes) -> object:
        """Call, read the first event, and give what keeps the stream open."""

    def choose(self, work: Work) -> Callable[[str, bytes], Awaitable[object]]:
        """Give the method for that work."""
        return self.invoke if work.operation == "invoke" else self.stream

    async def repeat(self, work: Work, calls: int, in_flight: int) -> Sample:
        call, endpoint, body = self.choose(work), work.endpoint, work.body
        turns = iter(range(calls))

        async def take_turns(turns: Iterator[int]) -> None:
            for _ in turns:
                await call(endpoint, body)

        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(take_turns(turns) for _ in range(min(in_flight, calls))))
        return Sample(calls, time.perf_counter() - wall, time.process_time() - cpu)
