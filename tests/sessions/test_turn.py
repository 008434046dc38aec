"""Turns, in order, on one loop and on several."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from aiosmrt.sessions.turn import Turn, Turns


@pytest.mark.asyncio
async def test_turns_come_in_the_order_in_which_they_are_asked_for() -> None:
    turns, order = Turns(), list[int]()

    async def take(number: int) -> None:
        turn = Turn(turns)
        await turn.take()
        await turn.take()  # it is there already
        order.append(number)
        await asyncio.sleep(0)
        assert order[-1] == number
        turn.release()
        turn.release()

    await asyncio.gather(*map(take, range(9)))
    assert order == list(range(9))


@pytest.mark.asyncio
async def test_who_is_cancelled_while_waiting_passes_the_turn_on() -> None:
    turns = Turns()
    first, second, third = (Turn(turns) for _ in range(3))
    await first.take()
    waiting = [asyncio.create_task(turn.take()) for turn in (second, third)]
    await asyncio.sleep(0)
    first.release()  # the second is to be woken
    waiting[0].cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting[0]
    second.release()
    await asyncio.wait_for(waiting[1], 5)


def test_each_loop_may_have_them_in_turn() -> None:
    turns = Turns()

    async def take(*, release: bool) -> None:
        turn = Turn(turns)
        await turn.take()
        if release:
            turn.release()

    asyncio.run(take(release=True))
    asyncio.run(take(release=False))  # its loop is closed with it
    asyncio.run(take(release=True))


@pytest.mark.asyncio
async def test_two_loops_at_a_time_are_refused() -> None:
    turns = Turns()
    turn = Turn(turns)
    await turn.take()
    with pytest.raises(RuntimeError, match="under way on another event loop"):
        await asyncio.to_thread(lambda: asyncio.run(Turn(turns).take()))
    turn.release()
    await asyncio.to_thread(lambda: asyncio.run(Turn(turns).take()))
