"""Results of asynchronous invocations that rows wait for, all of them by the same listings."""

from __future__ import annotations

import asyncio
import math

import attrs

from aiosmrt.async_inference import (
    AsyncInferenceClient,
    AsyncInferenceResult,
    AsyncInvocation,
    Rounds,
)

__all__ = ["Results"]


@attrs.define(eq=False)
class _Waiter:
    """A row that waits.

    Attributes:
        until: when it has waited long enough, in the loop's time.
        told: its result; `None` has it look for all others, too.
    """

    until: float
    told: asyncio.Future[AsyncInferenceResult | None]


class Results:
    """Waits for the results of many invocations, which come one after another.

    One of the rows that wait looks for all of them; when it has its own result, or is cancelled,
    the next one does. So there is no task that nobody waits for.

    Args:
        inference: a client's part in asynchronous inference.
        seconds: that each may take; `None` is no limit.
    """

    def __init__(self, inference: AsyncInferenceClient, seconds: float | None) -> None:
        self._inference = inference
        self._seconds = math.inf if seconds is None else seconds
        self._rounds: Rounds | None = None
        self._waiters: dict[AsyncInvocation, _Waiter] = {}
        self._looking = False

    async def wait(self, invocation: AsyncInvocation) -> AsyncInferenceResult:
        """Wait for the result of one more."""
        loop = asyncio.get_running_loop()
        rounds = self._rounds = self._rounds or self._inference.begin_rounds()
        joined = rounds.join(invocation)
        rounds.wait.hurry()
        waiter = _Waiter(loop.time() + self._seconds, loop.create_future())
        self._waiters[joined] = waiter
        try:
            while True:
                if not self._looking:
                    return await self._look_until(waiter, rounds)
                result = await waiter.told
                if result is not None:
                    return result
                waiter.told = loop.create_future()
        finally:
            self._waiters.pop(joined, None)
            rounds.leave(joined)

    async def _look_until(self, waiter: _Waiter, rounds: Rounds) -> AsyncInferenceResult:
        """Look for all, until one has its result."""
        self._looking = True
        try:
            while not waiter.told.done():
                over = self._list_over()
                # All look together: what S3 does not answer is to hold none up for longer.
                rounds.wait.postpone(self._seconds)
                for batch in await rounds.find():
                    for result in await rounds.read(batch):
                        self._tell(result)
                for invocation in over:
                    if invocation in self._waiters:
                        self._tell(rounds.give_up(invocation, self._seconds))
                if not waiter.told.done():
                    await rounds.wait.rest(self._find_next_end())
            told = waiter.told.result()
            assert told is not None  # noqa: S101 - only one that does not look is told to
            return told
        finally:
            self._looking = False
            self._hand_over()

    def _tell(self, result: AsyncInferenceResult) -> None:
        waiter = self._waiters.pop(result.invocation, None)
        if waiter is not None and not waiter.told.done():
            waiter.told.set_result(result)

    def _hand_over(self) -> None:
        """Have another one look, where there is one."""
        for waiter in self._waiters.values():
            if not waiter.told.done():
                waiter.told.set_result(None)
                return

    def _list_over(self) -> list[AsyncInvocation]:
        """Give those that are looked for a last time."""
        now = asyncio.get_running_loop().time()
        return [one for one, waiter in self._waiters.items() if waiter.until <= now]

    def _find_next_end(self) -> float:
        """Give the seconds until one has waited long enough."""
        end = min(waiter.until for waiter in self._waiters.values())
        return max(0.0, end - asyncio.get_running_loop().time())
