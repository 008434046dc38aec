"""One clock that is moved on from wait to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import attrs
import pytest

from aiosmrt.config import Timeout
from aiosmrt.errors import (
    AiosmrtError,
    ClientClosed,
    ConnectError,
    ConnectTimeout,
    FirstByteTimeout,
    IdleTimeout,
    SlotTimeout,
    TimeLimitError,
    TotalTimeout,
    WriteTimeout,
)
from aiosmrt.transport.limits import Limits, Wait

pytestmark = pytest.mark.usefixtures("quiet_loop")

_WAITS: dict[Wait, type[TimeLimitError]] = {
    "slot": SlotTimeout,
    "connect": ConnectTimeout,
    "write": WriteTimeout,
    "first_byte": FirstByteTimeout,
    "idle": IdleTimeout,
    "total": TotalTimeout,
}
_UNLIMITED = Timeout(connect=None, write=None, first_byte=None, idle=None)


def _only(wait: Wait, seconds: float) -> Timeout:
    limits: dict[str, float | None] = dict.fromkeys(_WAITS)
    return Timeout(**{**limits, wait: seconds})


async def _hang(limits: Limits, begin: Callable[[Limits], None] | None = None) -> None:
    """Wait for what never comes."""
    with limits:
        if begin is not None:
            begin(limits)
        await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(("write", "kind"), [(60, TotalTimeout), (4, WriteTimeout)])
@pytest.mark.asyncio
async def test_a_loop_that_rings_a_little_early_changes_no_name(
    write: float, kind: type[TimeLimitError]
) -> None:
    limits = Limits(Timeout(write=write, total=5))

    def begin(limits: Limits) -> None:
        limits.await_("write")
        asyncio.get_running_loop().call_soon(limits.ring)

    with pytest.raises(kind):
        await _hang(limits, begin)


@pytest.mark.parametrize("wait", _WAITS)
@pytest.mark.asyncio
async def test_each_limit_has_its_own_error(wait: Wait) -> None:
    limits = Limits(_only(wait, 0.05))
    with pytest.raises(TimeoutError, match=rf"within 0\.05 s \(Timeout\.{wait}\)") as caught:
        await _hang(limits, lambda limits: limits.await_(wait))
    error = caught.value
    assert type(error) is _WAITS[wait]
    assert (error.limit, error.seconds) == (wait, 0.05)
    assert not error.may_have_run
    assert isinstance(error, ConnectError) == (wait == "connect")


@pytest.mark.parametrize("wait", sorted(_WAITS.keys() - {"total"}))
@pytest.mark.asyncio
async def test_a_limit_holds_for_its_own_wait_alone(wait: Wait) -> None:
    limits = Limits(_only(wait, 0.02))
    with limits:
        for other in _WAITS.keys() - {wait}:
            limits.await_(other)
            await asyncio.sleep(0.03)


@attrs.frozen
class _Delivery:
    may_be_whole: bool


def _connect(limits: Limits, *, may_be_whole: bool = False) -> None:
    limits.connecting(_Delivery(may_be_whole))


@pytest.mark.parametrize("may_have_run", [False, True])
@pytest.mark.parametrize(
    ("begin", "wait"),
    [(_connect, "connect"), (Limits.writing, "write"), (Limits.sent, "first_byte")],
)
@pytest.mark.asyncio
async def test_progress_names_the_wait(
    *, begin: Callable[[Limits], None], wait: Wait, may_have_run: bool
) -> None:
    def progress(limits: Limits) -> None:
        _connect(limits, may_be_whole=may_have_run)
        if begin is not _connect:
            begin(limits)

    limits = Limits(_only(wait, 0.02))
    with pytest.raises(_WAITS[wait]) as caught:
        await _hang(limits, progress)
    # Whoever has the evidence is asked, whatever was awaited.
    assert caught.value.may_have_run is may_have_run


@pytest.mark.asyncio
async def test_progress_begins_its_wait_anew() -> None:
    limits = Limits(_only("write", 0.4))
    began = asyncio.get_running_loop().time()
    with limits:
        for _ in range(5):
            limits.writing()
            await asyncio.sleep(0.1)
    assert asyncio.get_running_loop().time() - began > 0.4


@pytest.mark.asyncio
async def test_a_wait_that_was_begun_anew_is_bounded_too() -> None:
    limits = Limits(_only("write", 0.1))
    began = asyncio.get_running_loop().time()

    async def write_twice() -> None:
        with limits:
            limits.writing()
            await asyncio.sleep(0.05)
            limits.writing()
            await asyncio.sleep(10)

    with pytest.raises(WriteTimeout):
        await asyncio.wait_for(write_twice(), 5)
    assert asyncio.get_running_loop().time() - began > 0.14


@pytest.mark.asyncio
async def test_the_total_comes_before_a_longer_limit() -> None:
    limits = Limits(Timeout(first_byte=5, total=0.05))
    with pytest.raises(TotalTimeout, match=r"0\.05 s \(Timeout\.total\)"):
        await _hang(limits, Limits.sent)


@pytest.mark.parametrize(
    ("begin", "awaited"),
    [
        (lambda limits: limits.await_("slot"), "a place in the connection pool"),
        (lambda limits: limits.note("the body"), "the body"),
        (_connect, "a connection to http://peer"),
        (Limits.writing, "the server to take more of the request"),
        (Limits.sent, "the first byte of the answer"),
        (lambda limits: limits.await_("idle"), "more of the answer"),
    ],
)
@pytest.mark.asyncio
async def test_the_total_names_what_was_awaited(
    begin: Callable[[Limits], None], awaited: str
) -> None:
    limits = Limits(Timeout(total=0.01))
    limits.peer = "http://peer"
    with pytest.raises(TotalTimeout, match=rf"\(Timeout\.total\); it was waiting for {awaited}$"):
        await _hang(limits, begin)


@pytest.mark.asyncio
async def test_what_was_awaited_is_forgotten_afterwards() -> None:
    limits = Limits(Timeout(total=0.05))
    with limits:
        limits.note("the body")
    with pytest.raises(TotalTimeout, match=r"Timeout\.total\)$"):
        await _hang(limits)


@pytest.mark.asyncio
async def test_a_shorter_limit_comes_before_the_total() -> None:
    limits = Limits(Timeout(first_byte=0.05, total=5))
    with pytest.raises(FirstByteTimeout):
        await _hang(limits, Limits.sent)
    assert not limits.are_over()


@pytest.mark.asyncio
async def test_the_total_runs_on_from_scope_to_scope() -> None:
    limits = Limits(Timeout(total=0.1))
    with limits:
        await asyncio.sleep(0.06)
    with pytest.raises(TotalTimeout):
        await _hang(limits)
    await asyncio.sleep(0.002)  # a loop may ring a little early
    assert limits.are_over()
    with pytest.raises(TotalTimeout):
        await _hang(limits)


@pytest.mark.asyncio
async def test_an_attempt_knows_nothing_of_the_one_before() -> None:
    limits = Limits(Timeout(slot=0.02))
    with limits:
        _connect(limits, may_be_whole=True)
    with pytest.raises(SlotTimeout) as caught:
        await _hang(limits, lambda limits: limits.await_("slot"))
    assert not caught.value.may_have_run


@pytest.mark.asyncio
async def test_when_a_wait_has_lasted_too_long() -> None:
    now = asyncio.get_running_loop().time()
    limits = Limits(Timeout(idle=3, total=10, first_byte=None))
    limits.await_("idle")
    assert limits.expires_at(now) == now + 3
    assert limits.expires_at(now + 9) == pytest.approx(now + 10, abs=1)
    limits.await_("first_byte")
    assert limits.expires_at(now) == pytest.approx(now + 10, abs=1)
    unlimited = Limits(_UNLIMITED)
    assert unlimited.expires_at(now) is None
    unlimited.await_("idle")
    assert unlimited.expires_at(now) is None


@pytest.mark.asyncio
async def test_a_pause_must_end_before_the_call_must() -> None:
    assert Limits(_UNLIMITED).allows(1e9)
    limits = Limits(Timeout(total=10))
    assert limits.allows(5)
    assert not limits.allows(11)


@pytest.mark.asyncio
async def test_a_request_that_is_still_going_out_does_not_disturb_the_wait_for_the_body() -> None:
    limits = Limits(Timeout())
    with limits:
        limits.writing()
    limits.await_("idle")
    limits.writing()
    assert limits.awaited == "idle"
    limits.sent()
    assert limits.awaited == "idle"


@pytest.mark.asyncio
async def test_errors_and_cancellation_pass() -> None:
    limits = Limits(Timeout(total=5))
    with pytest.raises(ZeroDivisionError), limits:
        raise ZeroDivisionError
    own = TimeoutError("not ours")
    with pytest.raises(TimeoutError) as caught, limits:
        raise own
    assert caught.value is own

    task = asyncio.create_task(_hang(limits))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.asyncio
async def test_a_call_can_be_ended_in_the_middle() -> None:
    limits = Limits(Timeout())
    error = ClientClosed("closed")

    task = asyncio.create_task(_hang(limits, lambda limits: _connect(limits, may_be_whole=True)))
    await asyncio.sleep(0)
    limits.end(error)
    with pytest.raises(ClientClosed) as caught:
        await task
    assert str(caught.value) == "closed [the model may have run]"
    assert caught.value.may_have_run


@pytest.mark.asyncio
async def test_a_call_can_be_ended_between_its_waits() -> None:
    limits = Limits(Timeout())
    limits.end(ClientClosed("closed"))
    with pytest.raises(ClientClosed):
        await _hang(limits, lambda limits: limits.await_("slot"))
    # Nothing was begun any more.
    assert limits.awaited == "total"


async def _expire(limits: Limits, then: Callable[[], None]) -> AiosmrtError:
    """Do something between the moment a limit fires and that in which its task notices."""

    def fire() -> None:
        limits.ring()
        then()

    task = asyncio.create_task(_hang(limits, lambda limits: limits.await_("write")))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(fire)
    with pytest.raises(AiosmrtError) as caught:
        await task
    return caught.value


@pytest.mark.parametrize("then", [Limits.writing, Limits.sent, _connect])
@pytest.mark.asyncio
async def test_progress_after_a_limit_has_fired_is_harmless(
    then: Callable[[Limits], None],
) -> None:
    for timeout, kind in ((Timeout(total=9), TotalTimeout), (Timeout(write=9), WriteTimeout)):
        limits = Limits(timeout)
        assert isinstance(await _expire(limits, lambda: then(limits)), kind)  # noqa: B023 - called here


@pytest.mark.asyncio
async def test_ending_a_call_whose_limit_has_fired_is_harmless() -> None:
    limits = Limits(Timeout(total=9))
    error = await _expire(limits, lambda: limits.end(ClientClosed("closed")))
    assert isinstance(error, ClientClosed)
    limits.end(ClientClosed("closed"))


@pytest.mark.asyncio
async def test_who_is_no_task_cannot_be_cancelled() -> None:
    limits = Limits(Timeout())
    outcome = asyncio.get_running_loop().create_future()

    def enter() -> None:
        try:
            with limits:
                outcome.set_result(None)
        except RuntimeError as error:
            outcome.set_result(error)

    asyncio.get_running_loop().call_soon(enter)
    assert "must be made in a task" in str(await outcome)
