"""What the client promises under load, counted at a server on the other side of real sockets."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import datetime
import os
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

import aiohttp
import aiohttp.abc
import pytest

import aiosmrt

Respond = Callable[..., bytes]

# `make soak` has the whole number of them: 12 GB through the loopback take their time.
DROPPED_CALLS = int(os.environ.get("AIOSMRT_DROPPED_CALLS", "64"))
KEYS: dict[str, Any] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
}


@pytest.mark.asyncio
async def test_a_thousand_read_timeouts_are_a_thousand_invocations(serve: Any) -> None:
    async def never(request: Any, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with (
        serve(never) as server,
        aiosmrt.SageMakerRuntimeClient(
            endpoint_url=server.url,
            max_connections=250,
            timeout=aiosmrt.Timeout(first_byte=0.5),
            **KEYS,
        ) as client,
    ):
        outcomes = await asyncio.gather(
            *(client.invoke_endpoint(endpoint_name="e", body=b"x") for _ in range(1000)),
            return_exceptions=True,
        )
        assert all(isinstance(outcome, aiosmrt.FirstByteTimeout) for outcome in outcomes)
        assert all(
            isinstance(outcome, aiosmrt.AiosmrtError) and outcome.may_have_run
            for outcome in outcomes
        )
        assert len(server.requests) == 1000


async def _run(
    count: int,
    call: Callable[[int], Awaitable[aiosmrt.InvokeEndpointResponse]],
    in_flight: int = 32,
) -> list[aiosmrt.InvokeEndpointResponse]:
    """Make `count` calls, so many of them at a time."""
    gate = asyncio.Semaphore(in_flight)

    async def pass_gate(number: int) -> aiosmrt.InvokeEndpointResponse:
        async with gate:
            return await call(number)

    return await asyncio.gather(*(pass_gate(number) for number in range(count)))


_resolved: contextvars.ContextVar[list[str]] = contextvars.ContextVar("_resolved")


class _RefusedFirst(aiohttp.abc.AbstractResolver):
    """Sends the first connection of each call to an address where nobody listens."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        address = "127.0.0.1" if _resolved.get() else "127.0.0.2"
        _resolved.get().append(address)
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": 0,
            }
        ]

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.asyncio
async def test_refused_and_then_accepted_no_call_fails_and_none_runs_twice(
    serve: Any, respond: Respond
) -> None:
    runs: collections.Counter[str] = collections.Counter()

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        runs[request.headers["x-amzn-sagemaker-inference-id"]] += 1
        writer.write(respond())

    # A connection for each attempt, so that every call meets the refusal.
    connector = aiohttp.TCPConnector(
        resolver=_RefusedFirst(), use_dns_cache=False, force_close=True
    )
    async with (
        serve(answer) as server,
        aiohttp.ClientSession(connector=connector) as session,
        aiosmrt.SageMakerRuntimeClient(
            endpoint_url=f"http://endpoint.test:{server.port}",
            session=session,
            max_connections=32,
            retry=aiosmrt.RetryPolicy(base_delay=0.001),
            **KEYS,
        ) as client,
    ):

        async def call(number: int) -> aiosmrt.InvokeEndpointResponse:
            _resolved.set([])
            return await client.invoke_endpoint(
                endpoint_name="e", body=b"x", inference_id=f"call-{number}"
            )

        answers = await _run(1000, call)
        assert {len(answer.metadata.attempts) for answer in answers} == {2}
        assert {answer.metadata.attempts[0].error for answer in answers} == {"ConnectError"}
        assert len(runs) == 1000
        assert set(runs.values()) == {1}


@pytest.mark.asyncio
async def test_dropped_while_sending_and_then_accepted(serve_raw: Any, respond: Respond) -> None:
    """Every call's first connection is dropped in the middle of a large body."""
    begun: set[bytes] = set()
    runs: collections.Counter[bytes] = collections.Counter()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            name = next(line for line in lines if line.startswith(b"x-amzn-sagemaker-inference"))
            length = next(line for line in lines if line.startswith(b"content-length"))
            if name not in begun:
                begun.add(name)
                await reader.readexactly(1000)
                writer.transport.abort()
                return
            await reader.readexactly(int(length.partition(b":")[2]))
            runs[name] += 1
            writer.write(respond())

    async with (
        serve_raw(converse) as server,
        aiosmrt.SageMakerRuntimeClient(
            endpoint_url=server.url, retry=aiosmrt.RetryPolicy(base_delay=0.001), **KEYS
        ) as client,
    ):
        # More than the sockets' buffers hold: the last byte cannot have gone out.
        body = bytes(6_200_000)

        async def call(number: int) -> aiosmrt.InvokeEndpointResponse:
            return await client.invoke_endpoint(
                endpoint_name="e", body=body, inference_id=f"call-{number}"
            )

        answers = await _run(DROPPED_CALLS, call)
        assert {len(answer.metadata.attempts) for answer in answers} == {2}
        assert len(runs) == DROPPED_CALLS
        assert set(runs.values()) == {1}


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


@pytest.mark.asyncio
async def test_queued_calls_never_carry_stale_signatures(serve: Any, respond: Respond) -> None:
    """A signature holds for a minute of a clock that runs sixty times as fast."""
    stale = 0

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        nonlocal stale
        await asyncio.sleep(0.004)
        signed = datetime.datetime.strptime(
            request.headers["x-amz-date"] + "+0000", "%Y%m%dT%H%M%SZ%z"
        )
        # The signature's time is cut to the second.
        age = datetime.datetime.now(datetime.UTC) - signed
        stale += age > datetime.timedelta(seconds=2)
        writer.write(respond())

    async with (
        serve(answer) as server,
        aiosmrt.SageMakerRuntimeClient(
            endpoint_url=server.url, max_connections=10, **KEYS
        ) as client,
    ):
        answers = await asyncio.gather(
            *(client.invoke_endpoint(endpoint_name="e", body=b"x") for _ in range(5000))
        )
        waited = max(answer.metadata.slot_wait for answer in answers)
        assert waited > 1.0, "the calls did not queue long enough to show anything"
        assert stale == 0
