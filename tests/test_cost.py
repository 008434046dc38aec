"""What a call costs beside a plain post of aiohttp's, in figures that no busy machine moves."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType

import aiohttp
import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider

from aiosmrt import SageMakerRuntimeClient, otel

_BODY = b"x" * 1024
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1024\r\n"
    b"x-amzn-requestid: 7-7-7\r\nx-amzn-invoked-production-variant: AllTraffic\r\n\r\n" + _BODY
)
_CALLS = 50
# Bytes that asyncio sets aside for whatever comes in.
_READ_BUFFER = 256 * 1024
_IS_OLD = tuple(map(int, aiohttp.__version__.split(".")[:2])) < (3, 14)

Call = Callable[[], Awaitable[object]]


# In a process of its own, so that what it does is not counted. It answers every request whose head
# and body come in one piece, or in two, until its input ends.
_SERVER = """
import asyncio, sys

class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if data.endswith(BODY):
            self.transport.write(ANSWER)

async def main():
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture
def url() -> Iterator[str]:
    program = _SERVER.replace("BODY", repr(_BODY)).replace("ANSWER", repr(_ANSWER))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.stdin.close()


async def _count(call: Call) -> float:
    """Give the function calls that a call makes, Python's and C's."""
    counted = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        for _ in range(_CALLS):
            await call()
    finally:
        sys.setprofile(None)
    return counted / _CALLS


async def _weigh(call: Call) -> int:
    """Give the most memory that one call takes beside the read buffer at any time, in bytes."""
    tracemalloc.start()
    try:
        peaks = []
        for _ in range(10):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            await call()
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return min(peaks) - _READ_BUFFER


@pytest.mark.skipif(sys.gettrace() is not None, reason="whoever traces changes what is counted")
@pytest.mark.asyncio
async def test_a_call_does_little_more_than_a_plain_post(url: str) -> None:
    async with (
        SageMakerRuntimeClient(
            region_name="us-east-1",
            endpoint_url=url,
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="not-a-secret",
        ) as client,
        aiohttp.ClientSession() as session,
    ):

        async def invoke() -> None:
            await client.invoke_endpoint(
                endpoint_name="e", body=_BODY, content_type="application/json"
            )

        async def post() -> None:
            headers = {"content-type": "application/json"}
            place = f"{url}/endpoints/e/invocations"
            async with session.post(place, data=_BODY, headers=headers) as response:
                await response.read()

        for call in (invoke, post):
            # Two connections, so that one is idle at any time: aiohttp frees with the last one what
            # it keeps them in, and would seem to take less than it does.
            for _ in range(10):
                await asyncio.gather(call(), call())
        functions = await _count(invoke), await _count(post)
        memory = await _weigh(invoke), await _weigh(post)
    # Measured: 306 of 348, and 4.6 KiB of 4.4; of aiohttp 3.12.6, whose own post does less, 323 of
    # 316. Python 3.13 counts 314 of 280, though the share of CPU is 0.85 there, as on 3.11.
    bound = (1.15 if sys.version_info >= (3, 12) else 1.0) * (1.05 if _IS_OLD else 1.0)
    assert functions[0] < bound * functions[1]
    assert memory[0] < 1.2 * memory[1]


@pytest.mark.skipif(sys.gettrace() is not None, reason="whoever traces changes what is counted")
@pytest.mark.asyncio
async def test_telemetry_that_nobody_wants_costs_next_to_nothing(url: str) -> None:
    async with SageMakerRuntimeClient(
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="not-a-secret",
    ) as client:
        instrumented = client.with_options()
        otel.instrument(
            instrumented, tracer_provider=NoOpTracerProvider(), meter_provider=NoOpMeterProvider()
        )

        async def invoke() -> None:
            await client.invoke_endpoint(endpoint_name="e", body=_BODY)

        async def invoke_instrumented() -> None:
            await instrumented.invoke_endpoint(endpoint_name="e", body=_BODY)

        for call in (invoke, invoke_instrumented):
            await call()
        functions = await _count(invoke_instrumented), await _count(invoke)
    assert functions[0] < (1.05 if _IS_OLD else 1.02) * functions[1]
