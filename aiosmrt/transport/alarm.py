"""One timer for all the waits of an event loop's calls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

__all__ = ["Alarm", "Waiting"]

# Seconds by which each open wait may put the next look off: with 5,000 of them a limit fires up to
# 50 ms late, and looking takes a hundredth of the time at most.
_SPACING = 1e-5


class Waiting(Protocol):
    """What must not wait for ever."""

    def ring(self) -> None:
        """End the wait: it has lasted too long."""


class Alarm:
    """Rings whoever has waited too long.

    A timer for each wait would cost more than the rest of what is done for it, and next to none
    ever fires. Here, to begin a wait is to put it into a dictionary; the one timer stands no later
    than the end of the wait that ends first, and when it fires it is set anew.

    Args:
        loop: whose calls wait.
        lasting: whether the timer stands while nobody waits, for those that come next, until this
            is closed.
    """

    __slots__ = ("_aimed_at", "_lasting", "_loop", "_timer", "_waits", "time")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, lasting: bool = True) -> None:
        self._loop = loop
        self._lasting = lasting
        self.time: Callable[[], float] = loop.time
        self._waits: dict[Waiting, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._aimed_at = math.inf

    def set(self, waiting: Waiting, when: float) -> None:
        """Have it rung at `when`, in the loop's time, and no longer at the time set before."""
        self._waits[waiting] = when
        if when < self._aimed_at:
            self._aim(when)

    def unset(self, waiting: Waiting) -> None:
        """Have it rung no more; idempotent."""
        self._waits.pop(waiting, None)
        if not (self._lasting or self._waits):
            self._disarm()

    def close(self) -> None:
        """Forget the timer and all waits; those that are set later have one while they last."""
        self._waits.clear()
        self._lasting = False
        self._disarm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._aimed_at = math.inf

    def _aim(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._look)
        self._aimed_at = when

    def _look(self) -> None:
        # A loop may call a little early.
        now = max(self._loop.time(), self._aimed_at)
        self._timer, self._aimed_at = None, math.inf
        due = [waiting for waiting, when in self._waits.items() if when <= now]
        for waiting in due:
            del self._waits[waiting]
        if self._waits:
            soonest = now + len(self._waits) * _SPACING
            self._aim(max(min(self._waits.values()), soonest))
        for waiting in due:
            waiting.ring()
