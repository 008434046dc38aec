"""Places in the order of asking, whoever leaves the queue meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from aiosmrt.transport.slot import Slot, Slots


def _take(slots: Slots) -> Slot:
    slot = slots.take()
    assert slot is not None
    return slot


@pytest.mark.asyncio
async def test_places_are_given_in_the_order_of_asking() -> None:
    slots = Slots(1)
    first = _take(slots)
    got: list[int] = []

    async def ask(number: int) -> None:
        slot = await slots.wait()
        got.append(number)
        # Whoever comes now is behind those who wait.
        assert slots.take() is None
        await asyncio.sleep(0)
        slot.release()

    asking = [asyncio.create_task(ask(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert slots.take() is None
    first.release()
    await asyncio.gather(*asking)
    assert got == list(range(5))
    assert slots.free == 1


@pytest.mark.asyncio
async def test_a_place_is_given_back_once() -> None:
    slots = Slots(2)
    slot = _take(slots)
    assert slots.free == 1
    slot.release()
    slot.release()
    assert slots.free == 2


@pytest.mark.parametrize("given", [False, True], ids=["waiting", "just given"])
@pytest.mark.asyncio
async def test_who_is_cancelled_keeps_no_place_and_holds_nobody_up(*, given: bool) -> None:
    slots = Slots(1)
    first = _take(slots)
    left = asyncio.create_task(slots.wait())
    stays = asyncio.create_task(slots.wait())
    await asyncio.sleep(0)
    if given:
        first.release()
    left.cancel()
    await asyncio.wait([left])
    assert left.cancelled()
    first.release()
    (await asyncio.wait_for(stays, 1)).release()
    assert slots.free == 1


@pytest.mark.asyncio
async def test_a_queue_that_everybody_has_left_leaves_the_place_free() -> None:
    slots = Slots(1)
    first = _take(slots)
    asking = [asyncio.create_task(slots.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)
    first.release()
    assert slots.free == 1


@pytest.mark.asyncio
async def test_one_that_is_thrown_away_while_it_waits_swallows_no_place() -> None:
    slots = Slots(1)
    first = _take(slots)
    waiting = slots.wait()
    waiting.send(None)
    waiting.close()
    first.release()
    assert slots.free == 1
