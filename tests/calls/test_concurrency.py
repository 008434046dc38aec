"""How many calls an endpoint is given: found, kept and followed, in a world without a clock."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import statistics
from collections.abc import Callable

import attrs
import pytest

from aiosmrt.calls.concurrency import Concurrency
from aiosmrt.models import ConcurrencyLimit

Seconds = Callable[[random.Random], float]
_REFUSAL = 0.001  # seconds


def _always(seconds: float) -> Seconds:
    return lambda _: seconds


def _about(seconds: float) -> Seconds:
    return lambda chance: seconds * math.exp(chance.gauss(0, 0.5))


@attrs.define
class Endpoint:
    """What calls are sent to.

    Attributes:
        seconds: what a call takes.
        slots: calls at a time; more are refused.
        rate: calls a second; more are refused.
        saved: seconds of the rate that can be made up for at once.
        workers: calls at a time; more wait in a queue.
        luck: the share of attempts that is refused, whatever is in flight.
    """

    seconds: Seconds
    slots: float = math.inf
    rate: float = math.inf
    saved: float = 0.1
    workers: int = 0
    luck: float = 0.0
    chance: random.Random = attrs.field(factory=lambda: random.Random(7))
    busy: int = 0
    _free: float = 0.0
    _filled_at: float = 0.0
    _free_at: list[float] = attrs.field(factory=list)

    def admit(self, now: float) -> float | None:
        """Give the seconds until the answer to a call, `None` where it is refused."""
        if self.busy >= self.slots or self.chance.random() < self.luck:
            return None
        if self.rate < math.inf:
            gained = (now - self._filled_at) * self.rate
            self._free, self._filled_at = min(self.rate * self.saved, self._free + gained), now
            if self._free < 1:
                return None
            self._free -= 1
        self.busy += 1
        begins = now
        while self.workers and len(self._free_at) >= self.workers:
            begins = max(now, heapq.heappop(self._free_at))
        ends = begins + self.seconds(self.chance)
        if self.workers:
            heapq.heappush(self._free_at, ends)
        return ends - now


@attrs.define
class World:
    """Calls that go on and on, as many as there may be, and the time that passes."""

    endpoint: Endpoint
    concurrency: Concurrency = attrs.field(factory=lambda: Concurrency(100))
    demand: int = 1000  # calls at a time that there are to be made
    now: float = 0.0
    answers: int = 0
    refusals: int = 0
    limits: list[tuple[float, ConcurrencyLimit]] = attrs.field(factory=list)  # each from when on
    _events: list[tuple[float, int, str, float, float]] = attrs.field(factory=list)
    _numbers: itertools.count[int] = attrs.field(factory=itertools.count)

    @property
    def kept(self) -> int:
        """The number that was kept last, whatever has been tried since."""
        return [limit.calls for _, limit in self.limits if limit.settled][-1]

    def run(self, seconds: float) -> float:
        """Let time pass, as long as there are calls, and give the answers a second."""
        concurrency, until, answers = self.concurrency, self.now + seconds, self.answers
        while self.now < until:
            while concurrency.has_room and concurrency.in_flight < self.demand:
                concurrency.begin(self.now)
                self._send(self.now)
            if not self._events:
                break
            self.now, _, what, began, sent = heapq.heappop(self._events)
            if what == "answer":
                self.endpoint.busy -= 1
                self.answers += 1
                concurrency.succeed(self.now - began, self.now - sent, self.now)
            elif what == "refusal":
                self.refusals += 1
                concurrency.refuse()
                pause = 0.05 * self.endpoint.chance.uniform(0.5, 1)
                self._plan(pause, "again", began)
            else:
                self._send(began)
            if not self.limits or self.limits[-1][1] is not concurrency.limit:
                self.limits.append((self.now, concurrency.limit))
        return (self.answers - answers) / seconds

    def _send(self, began: float) -> None:
        seconds = self.endpoint.admit(self.now)
        if seconds is None:
            self._plan(_REFUSAL, "refusal", began)
        else:
            self._plan(seconds, "answer", began)

    def _plan(self, seconds: float, what: str, began: float) -> None:
        event = (self.now + seconds, next(self._numbers), what, began, self.now)
        heapq.heappush(self._events, event)


@pytest.mark.parametrize("seconds", [_always(0.05), _about(0.05)])
@pytest.mark.parametrize("limits", [{"slots": 16}, {"rate": 300.0}, {"slots": 3}], ids=str)
def test_it_settles_at_what_is_not_refused(limits: dict[str, float], seconds: Seconds) -> None:
    chance = random.Random(1)
    mean = statistics.mean(seconds(chance) for _ in range(10_000))
    best = limits.get("slots") or limits["rate"] * mean
    world = World(Endpoint(seconds, **limits))  # type: ignore[arg-type]
    world.run(10)
    assert any(limit.settled for _, limit in world.limits)
    world.limits.clear()
    answers = world.run(20)
    kept = statistics.median(limit.calls for _, limit in world.limits if limit.settled)
    assert best * 0.75 <= kept <= best * 1.25
    assert answers >= 0.9 * best / mean


def test_what_was_saved_up_is_taken_for_a_capacity_only_while_it_lasts() -> None:
    for seed in range(4):
        endpoint = Endpoint(_about(0.05), rate=300.0, saved=2.0, chance=random.Random(seed))
        endpoint._free = 600
        world = World(endpoint)
        world.run(20)
        assert world.kept <= 1.4 * 300 * 0.0567
        assert world.run(10) >= 0.9 * 300


def test_it_doubles_to_the_most_where_nothing_is_in_the_way() -> None:
    world = World(Endpoint(_about(0.05)))
    world.run(5)
    assert world.concurrency.limit.calls == 100
    assert world.concurrency.limit.settled
    assert "max_connections" in world.concurrency.limit.reason


def test_it_does_not_fill_a_queue() -> None:
    world = World(Endpoint(_always(0.05), workers=8))
    world.run(10)
    assert world.kept <= 12
    assert any("gave no more" in limit.reason for _, limit in world.limits)
    assert world.run(20) >= 0.9 * 8 / 0.05


@pytest.mark.parametrize("limits", [{"slots": 16}, {"rate": 300.0}, {"workers": 16}])
def test_it_follows_a_capacity_that_halves_within_ten_seconds(limits: dict[str, int]) -> None:
    world = World(Endpoint(_always(0.05), **limits))  # type: ignore[arg-type]
    world.run(12)
    for name, value in limits.items():
        setattr(world.endpoint, name, value // 2)
    world.endpoint._free_at = [world.now] * 8
    world.run(10)
    assert 6 <= world.kept <= 10
    assert world.run(10) >= 0.9 * min(8 / 0.05, world.endpoint.rate)


def test_it_follows_a_capacity_that_doubles() -> None:
    world = World(Endpoint(_always(0.05), slots=8))
    world.run(12)
    world.endpoint.slots = 16
    world.run(30)
    assert 12 <= world.kept <= 20


def test_what_is_settled_is_kept_but_for_a_step_more_now_and_then() -> None:
    world = World(Endpoint(_always(0.05), slots=16))
    world.run(10)
    world.limits.clear()
    refused = world.refusals
    world.run(200)
    numbers = [limit.calls for _, limit in world.limits]
    assert set(numbers) <= {16, 20}
    steps = sum(one < other for one, other in itertools.pairwise(numbers))
    assert steps <= 8  # after 5 s, 10, 20, 40 and then each minute
    assert world.refusals - refused < 0.01 * world.answers


def test_refusals_by_chance_are_no_reason_for_fewer() -> None:
    world = World(Endpoint(_always(0.05), luck=0.02))
    world.run(20)
    assert world.concurrency.limit.calls == 100
    world = World(Endpoint(_always(0.05), luck=0.4))
    world.run(60)
    assert world.concurrency.limit.calls > 30


def test_no_more_is_given_than_is_asked_for() -> None:
    world = World(Endpoint(_always(0.05)), demand=10)
    world.run(30)
    found = world.concurrency.limit
    assert found == ConcurrencyLimit(16, "more are not asked for", settled=True)
    world.demand = 1000
    world.run(10)
    assert world.concurrency.limit.calls == 100


def test_one_short_batch_after_another_is_judged_by_the_time_they_take() -> None:
    world = World(Endpoint(_always(0.05)))
    for _ in range(40):
        world.demand = 1000
        world.run(0.15)
        world.demand = 0
        world.run(1)
        world.now += 2
    assert world.concurrency.limit.calls == 100


def test_the_most_may_be_one() -> None:
    world = World(Endpoint(_always(0.05)), Concurrency(1))
    world.run(5)
    assert world.concurrency.limit.calls == 1
    assert world.concurrency.limit.settled


def test_what_ends_without_an_answer_gives_its_place_back() -> None:
    concurrency = Concurrency(100)
    room = []
    for _ in range(4):
        room.append(concurrency.has_room)
        concurrency.begin(0.0)
    room.append(concurrency.has_room)
    concurrency.leave(1.0)
    assert [*room, concurrency.has_room] == [True] * 4 + [False, True]
    assert concurrency.in_flight == 3
