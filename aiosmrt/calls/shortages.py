"""Want of capacity: of the calls that a place has none for, one probes at a time.

A refusal starts the scale-out of a component that was scaled to zero, which takes minutes; a model
that is being loaded takes as long. Meanwhile one call after another would only be refused.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from typing import TypeAlias

from aiosmrt.errors import AiosmrtError

__all__ = ["CapacityWait", "Place", "Shortage", "Shortages", "find_place"]

Place: TypeAlias = tuple[asyncio.AbstractEventLoop, str, tuple[str | None, ...]]
"""What has capacity of its own: of an endpoint what the headers name, for one event loop."""

Shortages: TypeAlias = "dict[Place, Shortage]"

_PARTS = (
    "x-amzn-sagemaker-inference-component",
    "x-amzn-sagemaker-target-container-hostname",
    "x-amzn-sagemaker-target-model",
    "x-amzn-sagemaker-target-variant",
)


def find_place(endpoint_name: str, headers: Mapping[str, str]) -> Place:
    """Tell where a request asks for capacity."""
    return asyncio.get_running_loop(), endpoint_name, tuple(map(headers.get, _PARTS))


class Shortage:
    """A want of capacity, and the calls that wait for its end.

    Attributes:
        refusals: how many probes in a row were refused.
        refusal: the last one.
        probe_at: when the next probe may go, in the loop's time.
        over: whether a call was let through.
        turn: whoever holds it probes.
        calls: how many wait or probe.
    """

    __slots__ = ("calls", "over", "probe_at", "refusal", "refusals", "turn")

    def __init__(self) -> None:
        self.refusals: int = 0
        self.refusal: AiosmrtError | None = None
        self.probe_at: float = 0.0
        self.over: bool = False
        self.turn: asyncio.Lock = asyncio.Lock()
        self.calls: int = 0


class CapacityWait:
    """A call's part in a shortage: it waits for its turn to probe, or for the shortage's end.

    Args:
        shortages: all that are known; the place's own is made where there is none.
        place: where the call asks for capacity.
        seconds: how long the call may wait from now on.
    """

    def __init__(self, shortages: Shortages, place: Place, seconds: float) -> None:
        self._shortages = shortages
        self._place = place
        self._loop = place[0]
        self._until = self._loop.time() + seconds
        self._probes = False
        self._shortage = self._join()

    def _join(self) -> Shortage:
        shortage = self._shortages.setdefault(self._place, Shortage())
        shortage.calls += 1
        return shortage

    @property
    def is_over(self) -> bool:
        """Whether the call has waited as long as it may."""
        return self._loop.time() >= self._until

    @property
    def may_send(self) -> bool:
        """Whether the shortage is over, or it is time for this call to probe."""
        known = self._shortages.get(self._place)
        if known is None:
            return True
        return known is self._shortage and self._probes and self._seconds_left <= 0

    @property
    def _seconds_left(self) -> float:
        """How long a probe still waits; the last one of the call goes when its time is over."""
        return min(self._shortage.probe_at, self._until) - self._loop.time()

    def count_refusal(self) -> int | None:
        """Give the number of refused probes in a row, `None` if this was not the turn of its call.

        Then others have been refused already, and one of them probes.
        """
        self._meet_the_latest()
        shortage = self._shortage
        if shortage.refusals and not self._probes:
            return None
        shortage.refusals += 1
        return shortage.refusals

    def plan_probe(self, refusal: AiosmrtError, delay: float) -> None:
        """Have the next probe go in so many seconds; the last one was refused with `refusal`."""
        self._shortage.refusal = copy.copy(refusal)
        self._shortage.probe_at = self._loop.time() + delay

    async def wait(self) -> AiosmrtError | None:
        """Wait until this call is to probe, or the shortage is over.

        Returns:
            The last refusal, where neither came in time.
        """
        self._meet_the_latest()
        shortage = self._shortage
        if not self._probes:
            try:
                async with asyncio.timeout_at(self._until):
                    await shortage.turn.acquire()
            except TimeoutError:
                self._until = self._loop.time()  # an alarm may be a little early
                return copy.copy(shortage.refusal)
            self._probes = True
        if shortage.over:
            self._pass_on()
        else:
            await asyncio.sleep(self._seconds_left)
        return None

    def _meet_the_latest(self) -> None:
        """Take part in a new shortage, where the call's own is over."""
        if self._shortage.over:
            self.leave()
            self._shortage = self._join()

    def leave(self, *, let_through: bool = False) -> None:
        """Take no part any longer; `let_through` ends the shortage for the others, too."""
        shortage = self._shortage
        shortage.calls -= 1
        shortage.over = shortage.over or let_through
        if (shortage.over or not shortage.calls) and self._shortages.get(self._place) is shortage:
            del self._shortages[self._place]
        self._pass_on()

    def _pass_on(self) -> None:
        # A loop that was closed under its calls has nobody who waits.
        if self._probes and not self._loop.is_closed():
            self._shortage.turn.release()
        self._probes = False
