"""Who may call an endpoint next, where only so many calls are to be in flight there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

from aiosmrt.calls.concurrency import Concurrency
from aiosmrt.calls.retries import FailureKind, Stop, choose_delay, classify, read_retry_after
from aiosmrt.config import RetryPolicy
from aiosmrt.errors import AiosmrtError, ServiceError
from aiosmrt.models import ConcurrencyLimit
from aiosmrt.plain_text import to_line
from aiosmrt.randomness import generator

__all__ = ["Line", "Turn"]

_log = logging.getLogger("aiosmrt")

# Seconds of the shortest pause behind a refusal, and the weight of an answer in the mean latency.
_SHORTEST, _WEIGHT = 0.02, 0.1

_UNAVAILABLE = 503


class Line:
    """The calls that one endpoint is given in turn, on one event loop; as many as it takes.

    Args:
        most: calls that there can be at a time.

    Attributes:
        endpoint_name: whom they call.
        concurrency: how many it is given.
        answers: how many there were.
    """

    def __init__(self, most: int) -> None:
        self.endpoint_name: str = ""
        self.concurrency: Concurrency = Concurrency(most)
        self._told = 0  # how many calls the log knows of
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._stalled: set[asyncio.Future[None]] = set()  # of those who wait for an answer
        self.answers: int = 0
        self._latency: float | None = None  # seconds, smoothed

    async def enter(self) -> None:
        """Wait for a place, in the order of asking."""
        concurrency = self.concurrency
        if concurrency.has_room and not self._waiting:
            concurrency.begin(time.monotonic())
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.leave()  # it was given in the very moment
            turn.cancel()  # for one that is thrown away while it waits
            raise

    def leave(self, held: float | None = None, worked: float = 0.0) -> None:
        """Give a place back, and let the next one in.

        Args:
            held: of a call that was answered, the seconds that it had its place.
            worked: and those of the attempt that was answered.
        """
        now = time.monotonic()
        if held is None:
            self.concurrency.leave(now)
        else:
            self.answers += 1
            latency = worked if self._latency is None else self._latency
            self._latency = latency + _WEIGHT * (worked - latency)
            self.concurrency.succeed(held, worked, now)
            self._tell()
            for stalled in self._stalled:
                if not stalled.done():
                    stalled.set_result(None)
        while self._waiting and (self.concurrency.has_room or self._waiting[0].done()):
            turn = self._waiting.popleft()
            if not turn.done():
                self.concurrency.begin(now)
                turn.set_result(None)

    def _tell(self) -> None:
        limit = self.concurrency.limit
        if limit.settled and limit.calls != self._told:
            self._told = limit.calls
            _log.info(
                "batches give %s %d calls at a time: %s",
                to_line(self.endpoint_name),
                limit.calls,
                limit.reason,
            )

    async def wait_for_answer(self, seconds: float) -> None:
        """Wait until somebody is answered, and then as behind a refusal; for at most so long."""
        stalled = asyncio.get_running_loop().create_future()
        self._stalled.add(stalled)
        try:
            await asyncio.wait([stalled], timeout=seconds)
        finally:
            self._stalled.discard(stalled)
        if stalled.done():
            await asyncio.sleep(self.choose_pause() or 0.0)

    def choose_pause(self) -> float | None:
        """Choose the pause behind a refusal while others get through: about as long as a call."""
        if self._latency is None:
            return None
        return max(self._latency, _SHORTEST) * generator.uniform(0.5, 1)


class Turn:
    """The place of one call in a line, which it keeps through all of its attempts.

    Attributes:
        line: in which it waits.
        is_stuck: whether it was refused as often as its policy bears, and nobody got through.
    """

    __slots__ = (
        "_answers",
        "_attempt_at",
        "_entered_at",
        "_hurries",
        "_refused",
        "_stalled",
        "is_stuck",
        "line",
    )

    def __init__(self, line: Line) -> None:
        self.line: Line = line
        self._entered_at: float | None = None
        self._attempt_at = 0.0
        self._refused = self._stalled = 0
        self._hurries = False  # whether the pause is for want of answers alone
        self._answers = -1  # of all calls, when this one was last refused
        self.is_stuck: bool = False

    @property
    def limit(self) -> ConcurrencyLimit:
        """How many calls the endpoint is given at a time now."""
        return self.line.concurrency.limit

    async def enter(self) -> None:
        """Wait for the place; once."""
        await self.line.enter()
        self._entered_at = self._attempt_at = time.monotonic()

    def begin_attempt(self) -> None:
        """Note that an attempt is sent."""
        self._attempt_at = time.monotonic()

    def leave(self, *, answered: bool = False) -> None:
        """Give the place back; idempotent."""
        if self._entered_at is not None:
            now = time.monotonic()
            if answered:
                self.line.leave(now - self._entered_at, now - self._attempt_at)
            else:
                self.line.leave()
            self._entered_at = None

    async def rest(self, seconds: float) -> None:
        """Pause before the next attempt; no longer where all were refused, and one is answered."""
        if self._hurries:
            await self.line.wait_for_answer(seconds)
        else:
            await asyncio.sleep(seconds)

    def plan_attempt(self, error: AiosmrtError, policy: RetryPolicy) -> float | None:
        """Take note of a refusal, and choose the pause before the call is sent again.

        That is no retry of its policy while others get through: it pauses for about as long as a
        call takes. While nobody does, pauses and attempts are those of the policy.

        Returns:
            Seconds; `None` where it is not to be sent again, or was no refusal: neither throttled
            nor a 503, which runs nothing.

        Raises:
            Exception: what the policy's own function raises.
        """
        self._hurries = False
        kind = classify(error)
        unavailable = isinstance(error, ServiceError) and error.status == _UNAVAILABLE
        if kind is not FailureKind.THROTTLING and not unavailable:
            return None
        self.line.concurrency.refuse()
        if policy.attempt_limit == 1:
            return None
        self._refused += 1
        self._stalled = 0 if self.line.answers > self._answers else self._stalled + 1
        self._answers = self.line.answers
        pause = None if self._stalled else self.line.choose_pause()
        asked = read_retry_after(error.headers) if isinstance(error, ServiceError) else None
        if asked is None and policy.backoff is None:
            if pause is not None:
                return pause * min(self._refused, 2)
            self._hurries = True
        number = max(1, self._stalled)
        if number >= policy.attempt_limit:
            self.is_stuck = True
            error.not_retried = f"{Stop.MAX_ATTEMPTS.value}, and meanwhile no call got through"
            return None
        delay = choose_delay(error, number, policy, kind)
        if delay is None:
            error.not_retried = Stop.BACKOFF.value
        return delay
