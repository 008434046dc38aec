"""One timer for all waits: who is rung, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context

import attrs
import pytest

from aiosmrt.transport.alarm import Alarm

pytestmark = pytest.mark.usefixtures("quiet_loop")


@attrs.define(eq=False)
class _Waiting:
    rung: list[_Waiting] = attrs.field(repr=False)
    also: Alarm | None = None  # that it sets itself into again, when it is rung

    def ring(self) -> None:
        self.rung.append(self)
        if self.also is not None:
            self.also.set(self, self.also.time() + 0.01)
            self.also = None


@pytest.fixture
def rung() -> list[_Waiting]:
    return []


@pytest.mark.asyncio
async def test_each_is_rung_at_its_time_whatever_the_order_they_were_set_in(
    rung: list[_Waiting],
) -> None:
    alarm = Alarm(asyncio.get_running_loop())
    first, second, third = (_Waiting(rung) for _ in range(3))
    now = alarm.time()
    for waiting, when in ((second, 0.06), (first, 0.02), (third, 0.1)):
        alarm.set(waiting, now + when)
    await asyncio.sleep(0.04)
    assert rung == [first]
    await asyncio.sleep(0.1)
    assert rung == [first, second, third]


@pytest.mark.asyncio
async def test_who_does_not_wait_any_longer_is_not_rung(rung: list[_Waiting]) -> None:
    alarm = Alarm(asyncio.get_running_loop())
    unset, moved, kept = (_Waiting(rung) for _ in range(3))
    for waiting in (unset, moved, kept):
        alarm.set(waiting, alarm.time() + 0.02)
    alarm.unset(unset)
    alarm.unset(unset)
    alarm.set(moved, alarm.time() + 10)
    await asyncio.sleep(0.05)
    assert rung == [kept]
    alarm.close()


@pytest.mark.asyncio
async def test_a_wait_that_begins_when_another_ends_is_rung_too(rung: list[_Waiting]) -> None:
    alarm = Alarm(asyncio.get_running_loop())
    again = _Waiting(rung, also=alarm)
    alarm.set(again, alarm.time() + 0.01)
    await asyncio.sleep(0.05)
    assert rung == [again, again]


@pytest.mark.asyncio
async def test_what_is_closed_rings_nobody(rung: list[_Waiting]) -> None:
    alarm = Alarm(asyncio.get_running_loop())
    alarm.close()
    alarm.set(_Waiting(rung), alarm.time() + 0.01)
    alarm.close()
    await asyncio.sleep(0.03)
    assert rung == []


@pytest.mark.asyncio
async def test_many_that_end_one_shortly_after_the_other_are_looked_through_seldom(
    rung: list[_Waiting], until: Callable[..., Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    alarm = Alarm(loop)
    now, set_timer, timers = alarm.time(), loop.call_at, 0

    def count(
        when: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        nonlocal timers
        timers += 1
        return set_timer(when, callback, *args, context=context)

    monkeypatch.setattr(loop, "call_at", count)
    many = [_Waiting(rung) for _ in range(2000)]
    for number, waiting in enumerate(many):
        alarm.set(waiting, now + 0.01 + number * 1e-5)
    await until(lambda: len(rung) == len(many))
    assert rung == many
    # Those of `until` are among them.
    assert timers < 100


@pytest.mark.asyncio
async def test_a_timer_that_nobody_closes_stands_as_long_as_somebody_waits(
    rung: list[_Waiting], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []

    def call_at(when: float, callback: Callable[..., object], *arguments: object) -> object:
        timers.append(loop.call_later(when - loop.time(), callback, *arguments))
        return timers[-1]

    closed = Alarm(loop)
    closed.close()
    for alarm in (Alarm(loop, lasting=False), closed):
        with monkeypatch.context() as patched:
            patched.setattr(alarm, "_loop", _Loop(call_at, loop.time))
            first, second = (_Waiting(rung) for _ in range(2))
            alarm.set(first, loop.time() + 60)
            alarm.set(second, loop.time() + 50)
            alarm.unset(first)
            assert not timers[-1].cancelled()
            alarm.unset(second)
            alarm.unset(second)
        assert all(timer.cancelled() for timer in timers)
        assert len(timers) == 2
        timers.clear()


@attrs.frozen
class _Loop:
    """What an alarm asks of an event loop."""

    call_at: Callable[..., object]
    time: Callable[[], float]
