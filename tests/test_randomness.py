"""Ids and jitter are no business of the program's own random numbers, nor theirs of ours."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest

from aiosmrt import RetryPolicy

if TYPE_CHECKING:
    from tests.conftest import Connect, SeenRequest, Serve


async def _throttled_once(
    serve: Serve, connect: Connect, respond: Callable[..., bytes]
) -> AsyncIterator[tuple[str, float | None]]:
    """Make two calls from the same seed; give the id of each, and its delay."""

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        first = len(server.requests) % 2
        writer.write(respond(429 if first else 200))

    policy = RetryPolicy(throttle_base_delay=0.01)
    async with serve(answer) as server, connect(server, retry=policy) as client:
        for _ in range(2):
            random.seed(0)
            before = random.getstate()
            response = await client.invoke_endpoint(endpoint_name="e", body=b"x")
            assert random.getstate() == before
            sent = server.requests[-1].headers["amz-sdk-invocation-id"]
            yield sent, response.metadata.attempts[0].delay


@pytest.mark.asyncio
async def test_a_seed_changes_neither_ours_nor_theirs(
    serve: Serve, connect: Connect, respond: Callable[..., bytes]
) -> None:
    calls = [call async for call in _throttled_once(serve, connect, respond)]
    (first, delay), (second, other_delay) = calls
    assert first != second
    assert delay != other_delay


_FORKS = """
import os
from aiosmrt.randomness import generator

for _ in range(2):
    child = os.fork()
    if not child:
        break
    os.waitpid(child, 0)
os.write(1, b"%d " % generator.getrandbits(128))
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_child_process_does_not_repeat_its_parent() -> None:
    # In a process without threads, which a fork would break.
    run = subprocess.run([sys.executable, "-c", _FORKS], stdout=subprocess.PIPE, check=True)
    drawn = run.stdout.split()
    assert len(drawn) == len(set(drawn)) == 3
