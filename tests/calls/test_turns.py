"""Turns among the calls to an endpoint: in the order of asking, given back in every case."""

from __future__ import annotations

import asyncio

import pytest

from aiosmrt.calls.turns import Line, Turn
from aiosmrt.config import RetryPolicy
from aiosmrt.errors import (
    AiosmrtError,
    InternalFailure,
    ServiceUnavailable,
    ThrottlingException,
    ValidationError,
)

pytestmark = pytest.mark.asyncio

_PATIENT = RetryPolicy(max_attempts=5, throttle_base_delay=0.1, quota=None)


def _refusal(**headers: str) -> AiosmrtError:
    return ThrottlingException("too many", status=429, headers=headers)


async def _fill(line: Line) -> list[Turn]:
    turns = [Turn(line) for _ in range(line.concurrency.limit.calls)]
    for turn in turns:
        await turn.enter()
    return turns


async def test_turns_come_in_the_order_of_asking() -> None:
    line = Line(100)
    inside = await _fill(line)
    came: list[int] = []

    async def enter(number: int) -> None:
        await Turn(line).enter()
        came.append(number)

    tasks = [asyncio.create_task(enter(number)) for number in range(3)]
    await asyncio.sleep(0)
    assert came == []
    inside[0].leave()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert came == [0]
    inside[1].leave(answered=True)
    inside[2].leave()
    inside[2].leave()  # once is enough
    await asyncio.gather(*tasks)
    assert came == [0, 1, 2]
    assert line.concurrency.in_flight == 4


async def test_who_is_cancelled_takes_no_turn() -> None:
    line = Line(100)
    inside = await _fill(line)
    early, late = Turn(line), Turn(line)
    first, second = asyncio.create_task(early.enter()), asyncio.create_task(late.enter())
    await asyncio.sleep(0)
    inside[0].leave()  # the first has it now, and does not know yet
    first.cancel()
    await asyncio.wait([first])
    await asyncio.wait_for(second, 5)
    second = asyncio.create_task(Turn(line).enter())
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    for turn in (*inside, late):
        turn.leave()
    assert line.concurrency.in_flight == 0


async def test_a_throttled_call_pauses_as_long_as_a_call_takes_while_others_get_through() -> None:
    line = Line(100)
    turns = await _fill(line)
    other = turns.pop()
    for _ in range(50):
        turns.pop().leave(answered=True)
        pause = other.plan_attempt(_refusal(), _PATIENT)
        assert pause is not None
        assert 0.01 <= pause <= 0.04  # 20 ms count at least, though those calls took no time
        turns.append(Turn(line))
        await turns[-1].enter()
    assert not other.is_stuck


async def test_while_nobody_gets_through_the_policy_says_how_long_and_how_often() -> None:
    line = Line(100)
    (turn, *_) = await _fill(line)
    error = _refusal()
    pauses = [turn.plan_attempt(error, _PATIENT) for _ in range(6)]
    assert None not in pauses[:-1]
    assert pauses[-1] is None
    assert turn.is_stuck
    assert "no call got through" in error.not_retried


async def test_who_pauses_as_nobody_gets_through_goes_on_when_somebody_does() -> None:
    slow = RetryPolicy(max_attempts=30, throttle_base_delay=20, quota=None)
    line = Line(100)
    first, *turns = await _fill(line)
    refusals = (_refusal(), _refusal(), _refusal(**{"retry-after": "3"}))
    resting = []
    for turn, error in zip(turns, refusals, strict=True):
        pauses = [turn.plan_attempt(error, slow) for _ in range(9)]
        assert pauses[-1] is not None
        resting.append(asyncio.create_task(turn.rest(max(pauses[-1], 3.0))))
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in resting)
    resting[0].cancel()
    await asyncio.sleep(0)
    first.leave(answered=True)
    await asyncio.wait_for(resting[1], 1)
    # What the service asks for is waited.
    assert not resting[2].done()
    resting[2].cancel()
    await asyncio.wait(resting)


async def test_a_503_is_a_refusal_too() -> None:
    line = Line(100)
    turns = await _fill(line)
    turns[0].leave(answered=True)
    pause = turns[1].plan_attempt(ServiceUnavailable("no", status=503), _PATIENT)
    assert pause is not None
    assert pause < 0.04


async def test_what_the_service_asks_for_is_waited() -> None:
    line = Line(100)
    turns = await _fill(line)
    turns[0].leave(answered=True)
    asked = {"retry-after": "3"}
    pause = turns[1].plan_attempt(_refusal(**asked), _PATIENT)
    assert pause is not None
    assert 3 <= pause < 8.1


@pytest.mark.parametrize(
    ("error", "policy"),
    [
        (ValidationError("no", status=400), _PATIENT),
        (InternalFailure("no", status=500), _PATIENT),
        (_refusal(), RetryPolicy(mode="off")),
        (_refusal(), RetryPolicy(backoff=lambda attempt, error: None)),
    ],
)
async def test_else_it_is_for_the_policy_alone(error: AiosmrtError, policy: RetryPolicy) -> None:
    line = Line(100)
    (turn, *_) = await _fill(line)
    assert turn.plan_attempt(error, policy) is None
    assert not turn.is_stuck
