"""No row of a batch is lost to refusals, with the policy that batches have.

The server is in a process of its own. Here it refuses a few hundred rows; `AIOSMRT_BATCH_ROWS` is
how many it refuses by chance (`make promises`: 20,000), a third of them with a limit to its rate.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import attrs
import pytest

import aiosmrt
from aiosmrt.batch.operations import PATIENT

_ROWS: Final = int(os.environ.get("AIOSMRT_BATCH_ROWS", "0"))
_SERVER: Final = Path(__file__).with_name("refusing_server.py")

# Adaptive mode takes its time to find the rate.
_MODES: Final[tuple[Literal["standard", "adaptive"], ...]] = (
    ("standard", "adaptive") if _ROWS else ("standard",)
)

Ports: TypeAlias = dict[str, int]


@pytest.fixture(scope="module")
def ports() -> Iterator[Ports]:
    """Where the server listens, for each way to refuse."""
    with subprocess.Popen(
        [sys.executable, str(_SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline())
        finally:
            server.kill()


@pytest.fixture
def policy() -> aiosmrt.RetryPolicy:
    """The one that batches have."""
    return PATIENT


@attrs.define
class _Sum:
    """What came of all rows."""

    lost: list[aiosmrt.AiosmrtError] = attrs.field(factory=list)
    attempts: list[aiosmrt.Attempt] = attrs.field(factory=list)


async def _map(
    port: int, rows: int, halve_at: int | None = None
) -> list[aiosmrt.Outcome[aiosmrt.InvokeEndpointResponse]]:
    """Have a batch find out how many calls a server takes, and hold its books against ours."""
    url = f"http://127.0.0.1:{port}"
    before = await asyncio.to_thread(_read_books, url)
    begun, came = time.perf_counter(), []
    options: dict[str, Any] = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    async with aiosmrt.SageMakerRuntimeClient(
        region_name="us-east-1", endpoint_url=url, **options
    ) as client:
        requests: list[aiosmrt.InvokeEndpointParameters] = [
            {"endpoint_name": "e", "body": b"x", "headers": {"x-call": f"{before} {row}"}}
            for row in range(rows)
        ]
        async for outcome in client.map(requests, max_in_flight="auto"):
            came.append(outcome)
            if len(came) == halve_at:
                await asyncio.to_thread(_read_books, f"{url}/halve")
    seconds = time.perf_counter() - begun
    runs, refusals = await asyncio.to_thread(_read_books, url)
    sys.stdout.write(
        f"{rows} rows, as many at a time as it takes: {seconds:.1f} s, {rows / seconds:.0f} a "
        f"second, {refusals - before[1]} refusals, then {came[-1].limit}: {came[-1].limit_reason}\n"
    )
    assert runs - before[0] == rows
    assert len({outcome.index for outcome in came}) == rows
    assert [outcome.error for outcome in came] == [None] * rows
    assert sum(len(outcome.attempts) for outcome in came) == rows + refusals - before[1]
    return came


async def _send(port: int, policy: aiosmrt.RetryPolicy, rows: int, in_flight: int) -> _Sum:
    """Send the rows, so many at a time, and hold the server's books against ours."""
    url = f"http://127.0.0.1:{port}"
    before = await asyncio.to_thread(_read_books, url)
    begun, came = time.perf_counter(), _Sum()
    waiting = iter(range(rows))
    options: dict[str, Any] = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    async with aiosmrt.SageMakerRuntimeClient(
        region_name="us-east-1", endpoint_url=url, retry=policy, max_connections=300, **options
    ) as client:

        async def work() -> None:
            for row in waiting:
                try:
                    response = await client.invoke_endpoint(
                        endpoint_name="e", body=b"x", headers={"x-call": f"{before} {row}"}
                    )
                except aiosmrt.AiosmrtError as error:
                    came.lost.append(error)
                else:
                    came.attempts += response.metadata.attempts

        await asyncio.gather(*(work() for _ in range(in_flight)))
    seconds = time.perf_counter() - begun
    runs, refusals = await asyncio.to_thread(_read_books, url)
    sys.stdout.write(
        f"{rows} rows, {in_flight} at a time: {seconds:.1f} s, {refusals - before[1]} refusals, "
        f"{sum(attempt.pace_wait for attempt in came.attempts):.0f} s of waiting for the pace, "
        f"{len(came.lost)} lost\n"
    )
    assert runs - before[0] == rows - len(came.lost)
    return came


def _read_books(url: str) -> tuple[int, int]:
    """Give how many calls were carried out, each once, and how many attempts refused."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        runs, refusals = json.loads(answer.read())
    assert set(runs.values()) <= {1}
    return len(runs), refusals


@pytest.mark.asyncio
async def test_three_hundred_calls_that_are_each_throttled_once(
    ports: Ports, policy: aiosmrt.RetryPolicy
) -> None:
    came = await _send(ports["once"], policy, 300, 300)
    assert not came.lost
    assert len(came.attempts) == 600


@pytest.mark.asyncio
async def test_by_default_the_quota_ends_some_of_them_and_they_say_so(ports: Ports) -> None:
    came = await _send(ports["once"], aiosmrt.RetryPolicy(throttle_base_delay=0.01), 300, 300)
    assert came.lost
    for error in came.lost:
        assert len(error.attempts) == 1
        assert "not attempted again: the retry quota is used up" in str(error)


@pytest.mark.parametrize("way", ["throttled by chance", "unavailable by chance"])
@pytest.mark.asyncio
async def test_a_server_that_refuses_half_of_all_attempts(
    way: str, ports: Ports, policy: aiosmrt.RetryPolicy
) -> None:
    if not _ROWS:  # the last rows would take half a minute
        policy = attrs.evolve(policy, max_delay=0.05)
    came = await _send(ports[way], policy, _ROWS or 300, 64)
    assert not came.lost


@pytest.mark.parametrize("in_flight", [16, 64])
@pytest.mark.parametrize("mode", _MODES)
@pytest.mark.asyncio
async def test_a_server_that_admits_so_many_a_second(
    mode: Literal["standard", "adaptive"], in_flight: int, ports: Ports, policy: aiosmrt.RetryPolicy
) -> None:
    policy = attrs.evolve(policy, mode=mode)
    came = await _send(ports["rate"], policy, _ROWS * 3 // 10 or 400, in_flight)
    assert not came.lost
    if mode == "adaptive" and any(attempt.status == 429 for attempt in came.attempts):
        assert any(attempt.pace_wait for attempt in came.attempts)


@pytest.mark.parametrize(
    "way", ["once", "throttled by chance", "unavailable by chance", "rate", "slow rate", "slots"]
)
@pytest.mark.asyncio
async def test_none_is_lost_where_it_is_found_out_how_many_calls_a_server_takes(
    way: str, ports: Ports
) -> None:
    came = await _map(ports[way], _ROWS * 3 // 10 or 150)
    if _ROWS and way in ("slow rate", "slots"):
        # 12 calls of 40 ms are 300 a second, and 16 are admitted at a time.
        best = 12 if way == "slow rate" else 16
        kept = statistics.median(outcome.limit for outcome in came[len(came) // 3 :])
        assert best * 0.75 <= kept <= best * 1.25


@pytest.mark.asyncio
async def test_it_follows_a_server_whose_capacity_halves(ports: Ports) -> None:
    rows = _ROWS * 3 // 10 or 300
    came = await _map(ports["slots"], rows, halve_at=rows // 2)
    if _ROWS:
        assert 6 <= came[-1].limit <= 10
