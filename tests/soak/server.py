"""A scripted endpoint in a process of its own, which keeps books.

It prints its URL and the port of its books as JSON. A connection to that one sends a list of call
ids on a line, and is given how often each was received whole, and how often it reached the model;
then they are forgotten.
"""

from __future__ import annotations

import asyncio
import collections
import json
import logging
import random
import ssl
import sys
from collections.abc import AsyncIterator

from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelResponse
from aiosmrt.local.received import ReceivedRequests
from tests.soak.faults import WAYS, has_run, script

_PAUSE = 1.0  # seconds between two faults that are no single request's
_SAID = " ".join(["word"] * 30)  # by a model that chats


class _Books(ReceivedRequests):
    """Counts requests, and keeps none."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: collections.Counter[str] = collections.Counter()
        self.ran: collections.Counter[str] = collections.Counter()

    def append(self, request: InvocationRequest) -> None:
        call_id = request.headers.get("amz-sdk-invocation-id", "")
        self.whole[call_id] += 1
        self.ran[call_id] += has_run(request)

    def lacks(self, request: InvocationRequest) -> bool:
        """Take note that there is no capacity for a request."""
        self.ran[request.headers.get("amz-sdk-invocation-id", "")] -= has_run(request)
        return True

    async def tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ids = json.loads(await reader.readline())
        told = {each: (self.whole.pop(each, 0), self.ran.pop(each, 0)) for each in ids}
        writer.write(json.dumps(told).encode())
        await writer.drain()
        writer.close()


async def _model(request: InvocationRequest) -> ModelResponse:
    if request.operation == "InvokeEndpointWithResponseStream":
        return ModelResponse(_stream(), content_type="application/jsonlines")
    closed = request.session_id if b"CLOSE" in request.body else None
    return ModelResponse(request.body[: random.randrange(20_000)], closed_session_id=closed)


async def _stream() -> AsyncIterator[bytes]:
    for number in range(random.randrange(1, 20)):
        if random.random() < 0.2:
            await asyncio.sleep(random.random() * 0.02)
        yield b'{"number": %d}\n' % number * random.randrange(1, 20)


def _strike(endpoint: LocalEndpoint, books: _Books) -> None:
    """Have the next connection be reset; at times none answered, or an endpoint scaled to zero."""
    chance = random.random()
    if chance < 0.08:
        endpoint.hang(at="connect", seconds=random.uniform(0.2, 1.5))
    elif chance < 0.2:
        name = random.choice(WAYS)
        seconds = random.uniform(0.2, 1)
        endpoint.no_capacity(
            seconds, on=lambda each: each.endpoint_name == name and books.lacks(each)
        )
    else:
        endpoint.reset(at="connect")


async def _serve(context: ssl.SSLContext | None) -> None:
    # An invocation that hangs would keep one of a few workers for ever.
    endpoint = LocalEndpoint(_model, tls=context, workers=64)
    endpoint.requests = books = _Books()
    script(endpoint)
    endpoint.answer(chat=_SAID, on="openai", times=None)
    books_server = await asyncio.start_server(books.tell, "127.0.0.1", limit=1 << 26)
    async with endpoint, books_server:
        port = books_server.sockets[0].getsockname()[1]
        sys.stdout.write(json.dumps({"url": endpoint.url, "books": port}) + "\n")
        sys.stdout.flush()
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        while not ended.done():  # until whoever started it is gone
            await asyncio.wait([ended], timeout=_PAUSE)
            _strike(endpoint, books)


def main() -> None:
    """Serve; the argument is a certificate's file, or none."""
    logging.basicConfig(level=logging.ERROR)  # nothing, as long as nothing is wrong
    context = None
    if len(sys.argv) > 1:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1])
    asyncio.run(_serve(context))


if __name__ == "__main__":
    main()
