"""A server in a process of its own that refuses, and counts what it has carried out.

Run as a script. It prints its ports as JSON, one for each way to refuse; a GET is answered with the
number of times that each call was carried out, by its header `x-call`, and of refusals. A GET of
`/halve` also halves what the port admits from then on.
"""

from __future__ import annotations

import asyncio
import collections
import json
import random
import sys
import time
from typing import Final

RATE: Final = 300.0  # calls a second that the ports "rate" and "slow rate" admit
SLOTS: Final = 16  # calls at a time that the port "slots" admits
SECONDS: Final = 0.04  # that a call takes there, and at "slow rate"

_THROTTLED: Final = (
    b"HTTP/1.1 429 Too Many Requests\r\nx-amzn-errortype: ThrottlingException\r\n"
    b'content-length: 17\r\n\r\n{"message": null}'
)
_UNAVAILABLE: Final = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
_DONE: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Books:
    """What became of the calls of one port."""

    def __init__(self) -> None:
        self.runs: collections.Counter[str] = collections.Counter()
        self.refusals = 0


class Way:
    """Refuses nothing, and takes no time.

    Attributes:
        seconds: that a call takes.
        capacity: the share of what it admits that is left.
        busy: calls that are being carried out.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.capacity = 1.0
        self.busy = 0

    def refuse(self, headers: dict[str, str]) -> bytes | None:
        """Give the answer to a call that is not carried out."""


class Connection(asyncio.Protocol):
    """Answers one request after another; a body is short and comes with its head."""

    def __init__(self, books: Books, way: Way) -> None:
        self._books = books
        self._way = way
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, rest = self._received.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").lower().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines[1:])
            size = int(headers.get("content-length", 0))
            if len(rest) < size:
                return
            self._received = rest[size:]
            self._answer(lines[0], headers)

    def _answer(self, line: str, headers: dict[str, str]) -> None:
        if line.startswith("get"):
            self._way.capacity *= 0.5 if line.startswith("get /halve") else 1
            told = json.dumps([self._books.runs, self._books.refusals]).encode()
            answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(told), told)
            self._transport.write(answer)
            return
        refusal = self._way.refuse(headers)
        if refusal is not None:
            self._books.refusals += 1
            self._transport.write(refusal)
        elif self._way.seconds:
            self._way.busy += 1
            asyncio.get_running_loop().call_later(self._way.seconds, self._finish, headers)
        else:
            self._book(headers)

    def _finish(self, headers: dict[str, str]) -> None:
        self._way.busy -= 1
        self._book(headers)

    def _book(self, headers: dict[str, str]) -> None:
        self._books.runs[headers["x-call"]] += 1
        self._transport.write(_DONE)


class ByChance(Way):
    """Refuses every second attempt, on an average."""

    def __init__(self, refusal: bytes) -> None:
        super().__init__()
        self._refusal = refusal

    def refuse(self, headers: dict[str, str]) -> bytes | None:
        return self._refusal if random.random() < 0.5 else None


class Once(Way):
    """Refuses the first attempt of each call."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def refuse(self, headers: dict[str, str]) -> bytes | None:
        call = headers["amz-sdk-invocation-id"]
        if call in self._seen:
            return None
        self._seen.add(call)
        return _THROTTLED


class Rate(Way):
    """Refuses what is above a rate; so many seconds of it can be made up for."""

    def __init__(self, seconds: float = 0.0, burst: float = 1.0) -> None:
        super().__init__(seconds)
        self._burst = burst  # seconds
        self._free, self._filled_at = RATE * burst, time.monotonic()

    def refuse(self, headers: dict[str, str]) -> bytes | None:
        now, rate = time.monotonic(), RATE * self.capacity
        self._free = min(rate * self._burst, self._free + (now - self._filled_at) * rate)
        self._filled_at = now
        if self._free < 1:
            return _THROTTLED
        self._free -= 1
        return None


class Slots(Way):
    """Refuses what is above a number at a time."""

    def refuse(self, headers: dict[str, str]) -> bytes | None:
        return _THROTTLED if self.busy >= SLOTS * self.capacity else None


async def _main() -> None:
    loop = asyncio.get_running_loop()
    ways: dict[str, Way] = {
        "once": Once(),
        "rate": Rate(),
        "slow rate": Rate(SECONDS, burst=0.1),
        "slots": Slots(SECONDS),
        "throttled by chance": ByChance(_THROTTLED),
        "unavailable by chance": ByChance(_UNAVAILABLE),
    }
    ports = {}
    for name, way in ways.items():

        def make(books: Books = Books(), way: Way = way) -> Connection:  # noqa: B008 - one a port
            return Connection(books, way)

        server = await loop.create_server(make, "127.0.0.1", 0, backlog=512)
        ports[name] = server.sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    # Until whoever started it is gone.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main())
