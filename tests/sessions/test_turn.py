"""Turns, in order, on one loop and on several."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest

from aiosmrt.sessions.turn import Turn, Turns


@pytest.mark.asyncio
async def test_turns_come_in_the_order_in_which_they_are_asked_for() -> None:
    turns, order = Turns("e"), list[int]()

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
    turns = Turns("e")
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
    turns = Turns("e")

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
    turns = Turns("e")
    turn = Turn(turns)
    await turn.take()
    with pytest.raises(RuntimeError, match="under way on another event loop"):
        await asyncio.to_thread(lambda: asyncio.run(Turn(turns).take()))
    turn.release()
    await asyncio.to_thread(lambda: asyncio.run(Turn(turns).take()))


@pytest.mark.asyncio
async def test_who_waits_for_a_turn_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiosmrt.sessions.turn._PATIENCE", 0.02)
    turns = Turns("e")
    for pause in (0.0, 0.1):
        turn = Turn(turns)
        await turn.take()
        waiting = [asyncio.create_task(Turn(turns).take()) for _ in range(3)]
        await asyncio.sleep(pause)
        if not pause:
            turn.release()
            await waiting[0]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        if not pause:
            await asyncio.sleep(0.1)
            assert not caplog.records  # nobody has waited for so long
            turns = Turns("e")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "waited 0.02 s for its turn in a session on e" in record.getMessage()
    assert "in_order=False" in record.getMessage()
