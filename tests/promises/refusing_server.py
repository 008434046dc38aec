"""A server in a process of its own that refuses, and counts what it has carried out.

Run as a script. It prints its ports as JSON, one for each way to refuse; a GET is answered with the
number of times that each call was carried out, by its header `x-call`, and of refusals.
"""

from __future__ import annotations

import asyncio
import collections
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Final

RATE: Final = 300.0  # calls a second that the port "rate" admits

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


class Connection(asyncio.Protocol):
    """Answers one request after another; a body is short and comes with its head."""

    def __init__(self, books: Books, refuse: Callable[[dict[str, str]], bytes | None]) -> None:
        self._books = books
        self._refuse = refuse
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
            self._transport.write(self._answer(lines[0], headers))

    def _answer(self, line: str, headers: dict[str, str]) -> bytes:
        if line.startswith("get"):
            told = json.dumps([self._books.runs, self._books.refusals]).encode()
            return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(told), told)
        refusal = self._refuse(headers)
        if refusal is not None:
            self._books.refusals += 1
            return refusal
        self._books.runs[headers["x-call"]] += 1
        return _DONE


def _refuse_by_chance(refusal: bytes) -> Callable[[dict[str, str]], bytes | None]:
    return lambda _: refusal if random.random() < 0.5 else None


def _refuse_once() -> Callable[[dict[str, str]], bytes | None]:
    seen: set[str] = set()

    def refuse(headers: dict[str, str]) -> bytes | None:
        call = headers["amz-sdk-invocation-id"]
        if call in seen:
            return None
        seen.add(call)
        return _THROTTLED

    return refuse


def _refuse_above(rate: float) -> Callable[[dict[str, str]], bytes | None]:
    free, filled_at = rate, time.monotonic()

    def refuse(_: dict[str, str]) -> bytes | None:
        nonlocal free, filled_at
        now = time.monotonic()
        free, filled_at = min(rate, free + (now - filled_at) * rate), now
        if free < 1:
            return _THROTTLED
        free -= 1
        return None

    return refuse


async def _main() -> None:
    loop = asyncio.get_running_loop()
    ways = {
        "once": _refuse_once(),
        "rate": _refuse_above(RATE),
        "throttled by chance": _refuse_by_chance(_THROTTLED),
        "unavailable by chance": _refuse_by_chance(_UNAVAILABLE),
    }
    ports = {}
    for name, refuse in ways.items():
        books = Books()

        def make(books: Books = books, refuse: object = refuse) -> Connection:
            assert callable(refuse)
            return Connection(books, refuse)

        server = await loop.create_server(make, "127.0.0.1", 0, backlog=512)
        ports[name] = server.sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    # Until whoever started it is gone.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main())
