"""A hundred agents on one client, each cancelled at a random moment: no model is left running.

`AIOSMRT_CANCELLED_AGENTS` is how many rounds of them there are; `make promises` has a thousand.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import openai
import pytest

import aiosmrt
from aiosmrt.local import InvocationRequest, LocalEndpoint

if TYPE_CHECKING:
    from tests.openai.conftest import Chats

Until: TypeAlias = Callable[..., Awaitable[None]]

_ROUNDS: Final = int(os.environ.get("AIOSMRT_CANCELLED_AGENTS", "1"))
_AGENTS: Final = 100
_SLOTS: Final = 20


class _Container:
    """A model that takes its time, and counts what it has under way and each of its steps."""

    def __init__(self, chats: type[Chats], chance: random.Random) -> None:
        self.running = self.steps = 0
        self._chats = chats
        self._chance = chance

    async def __call__(self, request: InvocationRequest) -> object:
        self.running += 1
        try:
            await self._pause()
            if request.operation == "InvokeEndpoint":
                return self._chats.whole("a")
            return self._stream()
        finally:
            self.running -= 1

    async def _stream(self) -> AsyncIterator[bytes]:
        self.running += 1
        try:
            for part in self._chats.stream("a", "b", "c"):
                yield part
                await self._pause()
        finally:
            self.running -= 1

    async def _pause(self) -> None:
        self.steps += 1
        await asyncio.sleep(self._chance.choice([0, 0.001, 0.02]))


async def _act(ai: openai.AsyncOpenAI, chats: type[Chats], chance: random.Random) -> None:
    """Ask again and again, as agents do, whole or as a stream, which is left early or not."""
    while True:
        if chance.random() < 0.3:
            await ai.chat.completions.create(**chats.ASK)
            continue
        stream: Any = await ai.chat.completions.create(**chats.ASK, stream=True)
        async with stream:
            async for _ in stream:
                if chance.random() < 0.1:
                    break


async def _cancel(
    agents: list[asyncio.Task[None]], container: _Container, chance: random.Random
) -> None:
    """Cancel one agent after the other, with steps of the model in between, and moments."""
    chance.shuffle(agents)
    for agent in agents:
        steps = container.steps + chance.randrange(4)
        while container.steps < steps:  # noqa: ASYNC110 - it is what others do
            await asyncio.sleep(0)
        await asyncio.sleep(chance.choice([0, 0, chance.random() * 0.002]))
        agent.cancel()


@pytest.mark.asyncio
async def test_agents_that_are_cancelled_leave_nothing_behind(
    chats: type[Chats], until: Until
) -> None:
    chance = random.Random(2026)
    container = _Container(chats, chance)
    async with LocalEndpoint(container) as endpoint:
        tasks = asyncio.all_tasks()
        # No limit is to fire where the machine has other things to do.
        patient = aiosmrt.Timeout(connect=None, write=None, first_byte=None, idle=None)
        client = endpoint.client(max_connections=_SLOTS, timeout=patient)
        ai = aiosmrt.openai.connect(client, endpoint_name="llm")
        # What the SDK wants to know of the machine before its first request takes it a while.
        await ai.chat.completions.create(**chats.ASK)
        for _ in range(_ROUNDS):
            agents = [asyncio.create_task(_act(ai, chats, chance)) for _ in range(_AGENTS)]
            await _cancel(agents, container, chance)
            outcomes = await asyncio.gather(*agents, return_exceptions=True)
            others = [one for one in outcomes if not isinstance(one, asyncio.CancelledError)]
            assert not others
            stats = client.stats()
            assert (stats.in_flight, stats.waiting_for_slot, stats.open_streams) == (0, 0, 0)
            await until(lambda: container.running == 0)
            gc.collect()  # what was left open would warn
            endpoint.requests.clear()
        # Every slot is free.
        async with asyncio.timeout(10):
            await asyncio.gather(*(ai.chat.completions.create(**chats.ASK) for _ in range(_SLOTS)))
        await ai.close()
        await client.aclose()
        await until(lambda: container.running == 0)
        await until(lambda: len(asyncio.all_tasks() - tasks) == 0)
