"""Work in threads of its own, one flight for everybody."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from aiosmrt.threads import Flight, run_in_thread

pytestmark = pytest.mark.usefixtures("quiet_loop")


class _Work:
    """Work that lasts until it is let go, and counts how often it ran."""

    def __init__(self, *errors: BaseException) -> None:
        self.runs = 0
        self.go = threading.Event()
        self._errors = list(errors)
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            self.runs += 1
            run = self.runs
        assert self.go.wait(5)
        if self._errors:
            raise self._errors.pop(0)
        return run


async def _raised_by(work: Callable[[], object]) -> BaseException:
    try:
        await run_in_thread(work)
    except BaseException as error:  # noqa: BLE001 - the very point
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.asyncio
async def test_the_result_comes_from_a_daemon_thread() -> None:
    thread = await run_in_thread(threading.current_thread)
    assert thread is not threading.main_thread()
    assert thread.daemon
    nothing: int | None = None
    assert await run_in_thread(lambda: nothing) is None


@pytest.mark.parametrize("error", [OSError(2, "no"), SystemExit(3), KeyboardInterrupt()])
@pytest.mark.asyncio
async def test_what_it_raises_is_raised_where_it_is_awaited(error: BaseException) -> None:
    def fail() -> None:
        raise error

    assert await _raised_by(fail) is error


@pytest.mark.asyncio
async def test_a_stop_iteration_does_not_hang() -> None:
    def fail() -> None:
        raise StopIteration

    assert isinstance(await asyncio.wait_for(_raised_by(fail), 5), RuntimeError)


@pytest.mark.asyncio
async def test_the_loop_goes_on_meanwhile() -> None:
    work = _Work()
    task = asyncio.create_task(run_in_thread(work))
    ticks = 0
    while ticks < 3 or not work.runs:
        await asyncio.sleep(0.001)
        ticks += 1
    assert not task.done()
    work.go.set()
    assert await task == 1


@pytest.mark.asyncio
async def test_cancelled_waiting_drops_the_result() -> None:
    work = _Work()
    task = asyncio.create_task(run_in_thread(work))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    work.go.set()
    assert await run_in_thread(lambda: work.runs) == 1
    await asyncio.sleep(0.01)  # the dropped result arrives, and nothing complains


def test_a_loop_that_was_closed_meanwhile_is_no_error() -> None:
    work = _Work()

    async def leave() -> None:
        task = asyncio.create_task(run_in_thread(work))
        await asyncio.sleep(0)
        task.cancel()

    before = set(threading.enumerate())
    asyncio.run(leave())
    (thread,) = set(threading.enumerate()) - before
    work.go.set()
    thread.join(5)  # an exception in a thread is a warning, and that is an error here
    assert not thread.is_alive()


@pytest.mark.asyncio
async def test_everybody_joins_one_flight() -> None:
    work = _Work()
    flight = Flight(work)
    tasks = [asyncio.create_task(flight.join()) for _ in range(5)]
    await asyncio.sleep(0.01)
    work.go.set()
    assert await asyncio.gather(*tasks) == [1] * 5
    assert work.runs == 1
    assert await flight.join() == 2


@pytest.mark.asyncio
async def test_who_is_cancelled_leaves_the_others_in_peace() -> None:
    work = _Work()
    flight = Flight(work)
    first, second, third = [asyncio.create_task(flight.join()) for _ in range(3)]
    await asyncio.sleep(0.01)
    first.cancel()
    second.cancel()
    await asyncio.sleep(0.01)
    assert first.cancelled()
    assert second.cancelled()
    work.go.set()
    assert await third == 1
    assert work.runs == 1


@pytest.mark.asyncio
async def test_a_flight_that_everybody_left_goes_on_for_who_comes() -> None:
    work = _Work()
    flight = Flight(work)
    task = asyncio.create_task(flight.join())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    late = asyncio.create_task(flight.join())
    await asyncio.sleep(0)
    work.go.set()
    assert await late == 1


@pytest.mark.asyncio
async def test_an_error_that_nobody_awaits_any_longer_is_silent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = _Work(OSError("gone"))
    flight = Flight(work)
    task = asyncio.create_task(flight.join())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    work.go.set()
    assert flight._task is not None
    await asyncio.wait([flight._task])
    del flight, task
    await asyncio.sleep(0)
    assert not caplog.records


@pytest.mark.asyncio
async def test_everybody_gets_the_error_and_the_next_starts_anew() -> None:
    error = OSError("not yet")
    work = _Work(error)
    flight = Flight(work)
    tasks = [asyncio.create_task(flight.join()) for _ in range(3)]
    await asyncio.sleep(0.01)
    work.go.set()
    assert await asyncio.gather(*tasks, return_exceptions=True) == [error] * 3
    assert await flight.join() == 2


def test_a_flight_of_another_loop_is_not_joined() -> None:
    work = _Work()
    flight = Flight(work)

    async def leave() -> None:
        task = asyncio.create_task(flight.join())
        await asyncio.sleep(0.01)
        assert not task.done()

    asyncio.run(leave())
    work.go.set()
    assert asyncio.run(flight.join()) == 2


def test_two_loops_at_once_have_a_flight_each() -> None:
    work = _Work()
    flight = Flight(work)
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(asyncio.run(flight.join())))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 5
    while work.runs < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    work.go.set()
    for thread in threads:
        thread.join(5)
    assert sorted(results) == [1, 2]
