"""A call's place in the pool."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Slot", "Slots"]


class Slots:
    """The places of a pool, given in the order of asking.

    As an `asyncio.Semaphore`, which looks through its waiters twice where nobody waits.

    Attributes:
        free: how many nobody has.
    """

    __slots__ = ("_waiting", "free")

    def __init__(self, number: int) -> None:
        self.free: int = number
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return sum(not turn.done() for turn in tuple(self._waiting))

    def take(self) -> Slot | None:
        """Give a free place, `None` where it takes waiting."""
        if not self.free:
            return None
        self.free -= 1
        return Slot(self)

    async def wait(self) -> Slot:
        """Give the next place that is given back to whoever has waited longest."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            # It may have been given a place in the very moment.
            if turn.done() and not turn.cancelled():
                self.give_back()
            turn.cancel()  # for one that is thrown away while it waits
            raise
        return Slot(self)

    def give_back(self) -> None:
        """Hand a place to who waits, or leave it free: one that waits is never overtaken."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1


class Slot:
    """A call's place in the pool; given back once."""

    __slots__ = ("_slots",)

    def __init__(self, slots: Slots) -> None:
        self._slots: Slots | None = slots

    def belongs_to(self, slots: Slots) -> bool:
        """Tell whether it is one of these, and not given back yet."""
        return self._slots is slots

    def release(self) -> None:
        """Give the place back; idempotent."""
        if self._slots is not None:
            self._slots.give_back()
            self._slots = None
