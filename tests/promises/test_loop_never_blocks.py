"""The loop never blocks.

Credentials are looked up in a thread of their own, once for everybody; what a large part holds is
decoded in slices.
"""

from __future__ import annotations

import asyncio
import datetime
import gc
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pytest

import aiosmrt
from aiosmrt import (
    ResponseStream,
)

if TYPE_CHECKING:
    from tests.conftest import (
        Connect,
        EventStreams,
        Serve,
    )

    Events: TypeAlias = type[EventStreams]

Respond = Callable[..., bytes]

KEYS: dict[str, Any] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
}


@pytest.mark.asyncio
async def test_a_thousand_calls_share_one_refresh(serve: Any, respond: Respond) -> None:
    fetched = 0

    async def fetch() -> aiosmrt.Credentials:
        nonlocal fetched
        fetched += 1
        await asyncio.sleep(0.1)
        return aiosmrt.Credentials(
            "key",
            "secret",
            expires_at=datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5),
        )

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(respond())

    async with (
        serve(answer) as server,
        aiosmrt.SageMakerRuntimeClient(
            region_name="us-east-1", endpoint_url=server.url, credentials=fetch
        ) as client,
    ):
        await asyncio.gather(
            *(client.invoke_endpoint(endpoint_name="e", body=b"x") for _ in range(1000))
        )
        assert fetched == 1
        # Credentials that live five minutes are not fetched anew by every call.
        for _ in range(10):
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
        assert fetched == 1


async def _measure_stall(work: Coroutine[Any, Any, object]) -> float:
    """Seconds of the loop's longest stall while the work is done."""
    longest = 0.0
    done = asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not done.is_set():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest = max(longest, now - last)
            last = now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.01)
    try:
        await work
    finally:
        done.set()
        await watching
    return longest


class _Frozen(NamedTuple):
    access_key: str
    secret_key: str
    token: str | None


class _BlockingCredentials:
    """What a botocore credentials object does when a metadata service is slow."""

    def get_frozen_credentials(self) -> _Frozen:
        time.sleep(2)
        return _Frozen("key", "secret", None)


@pytest.mark.asyncio
async def test_a_provider_that_blocks_for_two_seconds_does_not_stall_the_loop(
    serve: Any, respond: Respond
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(respond())

    async def call(client: aiosmrt.SageMakerRuntimeClient) -> None:
        await asyncio.gather(
            *(client.invoke_endpoint(endpoint_name="e", body=b"x") for _ in range(1000))
        )

    async with serve(answer) as server:
        differences: list[float] = []
        # The machine has other work to do: one undisturbed pair of runs is enough.
        while not differences or (min(differences) > 0.02 and len(differences) < 5):
            async with aiosmrt.SageMakerRuntimeClient(endpoint_url=server.url, **KEYS) as static:
                static_stall = await _measure_stall(call(static))
            async with aiosmrt.SageMakerRuntimeClient(
                region_name="us-east-1",
                endpoint_url=server.url,
                credentials=_BlockingCredentials(),
            ) as blocking:
                differences.append(await _measure_stall(call(blocking)) - static_stall)
        assert min(differences) <= 0.02


@pytest.fixture
def _frozen_heap() -> None:
    """Keep the collector from what other tests have left: it may take a fifth of a second."""
    gc.collect()
    gc.freeze()


@pytest.mark.parametrize(
    ("unit", "choose"),
    [
        (b"{}", lambda s: s.iter_json()),
        (b"\n", lambda s: s.iter_lines()),
        (b"data\n\n", lambda s: s.iter_events()),
        (b'{"t":"a"}', lambda s: s.iter_tokens("t")),
        (b'{"token":{"text":"a"}}', lambda s: s.iter_chat("lmi", require_done=False)),
    ],
)
@pytest.mark.parametrize("length", [16 << 20, 1000])
@pytest.mark.usefixtures("_frozen_heap")
@pytest.mark.asyncio
async def test_no_part_keeps_others_waiting(
    *,
    unit: bytes,
    choose: Callable[[ResponseStream], AsyncIterator[object]],
    length: int,
    serve: Serve,
    connect: Connect,
    events: Events,
) -> None:
    # One part that would take seconds, or as many short ones as one look into the socket gives.
    payloads = [unit * (length // len(unit))] * (1 if length > 1000 else 1000)
    answer = events.play(events.head() + events.chunk(*map(events.part, payloads)) + events.END)
    waits: list[float] = []

    async def tick() -> None:
        # Of the processor: how long this thread was at work, whatever else the machine does.
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            waits.append(time.thread_time() - before)

    async with serve(answer) as server, connect(server) as client, events.open(client) as stream:
        ticker = asyncio.create_task(tick())
        await asyncio.sleep(0.002)  # what follows may be there already, and wait for nothing
        until = time.monotonic() + 0.1
        async for _ in choose(stream):
            if time.monotonic() > until:
                break
        await asyncio.sleep(0.01)
        ticker.cancel()
    assert max(waits) < 0.1  # measured: 0.01 to 0.03; without slices up to 10 s
