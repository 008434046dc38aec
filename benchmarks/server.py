"""A SageMaker Runtime endpoint that answers from memory, so that clients are what is measured.

It prints its URL and serves until its standard input ends, over TLS where its argument is a file of
a key and its certificate. The endpoint's name says what comes:

- `bytes-1024`: an answer of 1,024 bytes; `bytes-1024-20`: the same, 20 ms later
- `burst-1000-32`: a response stream of 1,000 events of 32 bytes, all at once, a chunk each
- `paced-20-32`: a response stream with an event of 32 bytes every 20 ms until the client leaves
- `held-32`: a response stream with one event of 32 bytes and no end
- `chat-200-2`: a chat of 200 chunks, one every 2 ms (0 for all at once), as server-sent events in a
  response stream; at `/chat-200-2/v1/chat/completions` as a model server sends them
- `logprobs-200-2`: the same, with the probabilities of five tokens and a usage in each chunk
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import ssl
import sys
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import cast

from aiosmrt.eventstream import encode_message

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_ENDPOINT = re.compile(rb"POST /(?:endpoints/)?([a-z]+)-([0-9]+)(?:-([0-9]+))?/")
_EVENT = {
    ":event-type": "PayloadPart",
    ":content-type": "application/octet-stream",
    ":message-type": "event",
}
_HEAD = (
    "HTTP/1.1 200 OK\r\n"
    "x-amzn-RequestId: 7d1f4c1e-5f5c-4c86-9a3b-0f3f1f1d2c55\r\n"
    "x-Amzn-Invoked-Production-Variant: AllTraffic\r\n"
)
_STREAM = (
    "Content-Type: application/vnd.amazon.eventstream\r\n"
    "X-Amzn-SageMaker-Content-Type: application/jsonlines\r\n"
    "Transfer-Encoding: chunked\r\n"
)


_EVENTS = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"


def _finish_head(headers: str) -> bytes:
    return f"{_HEAD}{headers}Date: {formatdate(usegmt=True)}\r\n\r\n".encode()


@functools.cache
def make_answer(size: int) -> bytes:
    """Give a whole answer of `size` bytes."""
    head = _finish_head(f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n")
    return head + b"x" * size


@functools.cache
def make_stream_head() -> bytes:
    """Give the head of a response stream."""
    return _finish_head(_STREAM)


def make_frame(size: int) -> bytes:
    """Give an event of `size` bytes of payload, with the headers that the service sends."""
    return encode_message(_EVENT, b"x" * size)


@functools.cache
def make_event(size: int) -> bytes:
    """Give an event as a chunk of its own."""
    frame = make_frame(size)
    return b"%x\r\n%b\r\n" % (len(frame), frame)


@functools.cache
def make_burst(events: int, size: int) -> bytes:
    """Give a whole response stream."""
    return make_stream_head() + make_event(size) * events + b"0\r\n\r\n"


@functools.cache
def make_chat(chunks: int, *, framed: bool, has_more: bool = False) -> tuple[bytes, ...]:
    """Give the pieces of a chat's answer: its head, each chunk by itself, and its end.

    Args:
        chunks: of a text, before that of the reason to end.
        has_more: whether a chunk says more than its text, and something else each time.
        framed: whether they are events of a response stream, or a model server's own.
    """
    pieces = [
        b"data: %b\n\n" % json.dumps(chunk | (_count_tokens(index) if has_more else {})).encode()
        for index, chunk in enumerate(
            (
                *(
                    _make_chunk(" word", None, _make_logprobs(index) if has_more else None)
                    for index in range(chunks)
                ),
                _make_chunk("", "stop", None),
            )
        )
    ]
    pieces.append(b"data: [DONE]\n\n")
    if framed:
        pieces = [encode_message(_EVENT, piece) for piece in pieces]
    head = make_stream_head() if framed else _finish_head(_EVENTS)
    return head, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n"


def _make_chunk(text: str, reason: str | None, logprobs: object) -> dict[str, object]:
    delta = {"content": text}
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
    return {
        "id": "chatcmpl-7d1f4c1e5f5c4c869a3b0f3f1f1d2c55",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "served-model",
        "choices": [choice],
    }


def _make_logprobs(index: int) -> dict[str, object]:
    tokens = [
        {"token": f" word{place}", "logprob": -0.125 * place - index / 1024, "bytes": [32, 119]}
        for place in range(5)
    ]
    return {"content": [{**tokens[0], "top_logprobs": tokens}]}


def _count_tokens(index: int) -> dict[str, object]:
    counts = {"prompt_tokens": 12, "completion_tokens": index, "total_tokens": 12 + index}
    return {"usage": counts}


class Exchange(asyncio.Protocol):
    """One connection: a request, its answer, and the next."""

    def __init__(self) -> None:
        self._head = b""
        self._missing = 0  # bytes of the request's body
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._head += data
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = head
            length = _CONTENT_LENGTH.search(head)
            self._missing = (int(length[1]) if length else 0) - len(body)
        if not self._missing:
            self._answer()
            self._head = b""

    def _answer(self) -> None:
        found = _ENDPOINT.match(self._head)
        if found is None:
            self._transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        kind, first, second = found[1], int(found[2]), int(found[3] or 0)
        if kind == b"bytes" and second:
            answer = make_answer(first)
            self._timer = self._loop.call_later(second / 1000, self._transport.write, answer)
        elif kind == b"bytes":
            self._transport.write(make_answer(first))
        elif kind == b"burst":
            self._transport.write(make_burst(first, second))
        elif kind == b"held":
            self._transport.write(make_stream_head() + make_event(first))
        elif kind in (b"chat", b"logprobs"):
            framed = b"/endpoints/" in found[0]
            pieces = make_chat(first, framed=framed, has_more=kind == b"logprobs")
            self._hand_out(iter(pieces), second / 1000)
        else:
            self._transport.write(make_stream_head())
            self._pace(self._loop.time(), first / 1000, make_event(second))

    def _hand_out(self, pieces: Iterator[bytes], interval: float) -> None:
        if not interval:
            self._transport.writelines(pieces)
        elif piece := next(pieces, b""):
            self._transport.write(piece)
            self._timer = self._loop.call_later(interval, self._hand_out, pieces, interval)

    def _pace(self, due: float, interval: float, event: bytes) -> None:
        self._transport.write(event)
        due += interval
        self._timer = self._loop.call_at(due, self._pace, due, interval, event)


async def listen(
    protocol: Callable[[], asyncio.Protocol] = Exchange, certificate: str | None = None
) -> None:
    """Print the URL, and serve until standard input ends."""
    loop = asyncio.get_running_loop()
    tls = None
    if certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
    server = await loop.create_server(protocol, "127.0.0.1", 0, backlog=8192, ssl=tls)
    host, port = server.sockets[0].getsockname()
    print(f"{'http' if tls is None else 'https'}://{host}:{port}", flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(listen(Exchange, *sys.argv[1:2]))
