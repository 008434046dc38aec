"""Work in threads that live on for the next work; one flight for everybody."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import hashlib
import os
import random
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator

import pytest

import aiosmrt.threads
from aiosmrt.threads import Flight, run_in_thread

pytestmark = pytest.mark.usefixtures("quiet_loop")

_BOTH = pytest.mark.parametrize("brief", [False, True])


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[threading.Thread]]:
    """Begin without a thread, and tell which there are since."""
    for name, limit in (("_many", float("inf")), ("_few", aiosmrt.threads._FEW)):
        monkeypatch.setattr(aiosmrt.threads, name, aiosmrt.threads._Threads(limit))
    before = set(threading.enumerate())
    return lambda: [thread for thread in threading.enumerate() if thread not in before]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """See to it that only references that are gone let go of something."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


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


def test_a_loop_that_was_closed_meanwhile_is_no_error(
    threads: Callable[[], list[threading.Thread]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiosmrt.threads, "_IDLE", 0.001)
    work = _Work()

    async def leave() -> None:
        task = asyncio.create_task(run_in_thread(work))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    (thread,) = threads()
    work.go.set()
    thread.join(5)  # an exception in a thread is a warning, and that is an error here
    assert not thread.is_alive()


@_BOTH
@pytest.mark.asyncio
async def test_a_thread_lives_on_for_the_next_work(
    threads: Callable[[], list[threading.Thread]], brief: bool
) -> None:
    ran_in = {await run_in_thread(threading.get_ident, brief=brief) for _ in range(50)}
    assert ran_in == {thread.ident for thread in threads()}
    assert len(ran_in) == 1


def test_who_is_told_may_have_more_for_the_same_thread(
    threads: Callable[[], list[threading.Thread]],
) -> None:
    done = threading.Event()

    def go_on(number: int) -> None:
        if number < 20:
            aiosmrt.threads._many.submit(lambda: number + 1, go_on)
        else:
            done.set()

    go_on(0)
    assert done.wait(5)
    assert len(threads()) == 1


@_BOTH
@pytest.mark.asyncio
async def test_idle_threads_end(
    threads: Callable[[], list[threading.Thread]],
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[..., Awaitable[None]],
    brief: bool,
) -> None:
    monkeypatch.setattr(aiosmrt.threads, "_IDLE", 0.02)
    for _ in range(2):
        work = _Work()
        tasks = [asyncio.create_task(run_in_thread(work, brief=brief)) for _ in range(3)]
        await asyncio.sleep(0.03)
        assert len(threads()) == 3
        work.go.set()
        await asyncio.gather(*tasks)
        await until(lambda: not threads())


@pytest.mark.asyncio
async def test_no_work_waits_for_another_that_hangs() -> None:
    work = _Work()
    hanging = [asyncio.create_task(run_in_thread(work)) for _ in range(20)]
    await asyncio.sleep(0)
    assert await run_in_thread(lambda: "blocks") == "blocks"
    assert await run_in_thread(lambda: "computes", brief=True) == "computes"
    assert not any(task.done() for task in hanging)
    work.go.set()
    assert len(set(await asyncio.gather(*hanging))) == 20


@pytest.mark.asyncio
async def test_brief_work_takes_turns_in_a_few_threads(
    threads: Callable[[], list[threading.Thread]],
) -> None:
    body = bytes(1 << 20)
    digest = hashlib.sha256(body).hexdigest()
    works = (run_in_thread(lambda: hashlib.sha256(body).hexdigest(), brief=True) for _ in range(50))
    assert await asyncio.gather(*works) == [digest] * 50
    assert 1 <= len(threads()) <= aiosmrt.threads._FEW


def test_no_work_is_lost_while_idle_threads_end(
    threads: Callable[[], list[threading.Thread]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiosmrt.threads, "_IDLE", 0.0005)
    results: list[int] = []

    async def ask(chance: random.Random) -> None:
        for number in range(100):
            brief = chance.random() < 0.5
            results.append(await run_in_thread(functools.partial(int, number), brief=brief))
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.001)

    async def ask_in_turns(seed: int) -> None:
        async with asyncio.timeout(10):
            await asyncio.gather(*(ask(random.Random(f"{seed} {n}")) for n in range(5)))

    loops = [
        threading.Thread(target=lambda seed=seed: asyncio.run(ask_in_turns(seed)))
        for seed in range(3)
    ]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
    assert sorted(results) == sorted(list(range(100)) * 15)
    deadline = time.monotonic() + 5
    time.sleep(0.05)
    while threads() and time.monotonic() < deadline:
        # One whose time ended while another took what it was woken for waits for the next work.
        for brief in (True, False):
            asyncio.run(run_in_thread(int, brief=brief))
        time.sleep(0.05)
    assert not threads()


class _Heavy:
    """What is noticed when it is gone."""


@_BOTH
@pytest.mark.usefixtures("no_collector")
@pytest.mark.asyncio
async def test_an_idle_thread_keeps_nothing_of_its_last_work(
    threads: Callable[[], list[threading.Thread]], brief: bool
) -> None:
    kept: list[weakref.ref[_Heavy]] = []
    variable: contextvars.ContextVar[_Heavy] = contextvars.ContextVar("variable")

    def work(given: _Heavy, fail: bool) -> _Heavy:
        result, local = _Heavy(), _Heavy()
        variable.set(local)
        kept.extend(map(weakref.ref, (given, result, local)))
        if fail:
            raise OSError
        return result

    for fail in (False, True):
        given = _Heavy()
        with contextlib.suppress(OSError):
            await run_in_thread(functools.partial(work, given, fail), brief=brief)
        del given
        # A thread tells of its result before it lets go of it.
        await run_in_thread(lambda: None, brief=brief)
    assert len(threads()) == 1
    assert len(kept) == 6
    assert not any(reference() for reference in kept)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.asyncio
async def test_an_error_is_gone_with_whoever_got_it(
    until: Callable[..., Awaitable[None]],
) -> None:
    class Failure(Exception):
        pass

    kept: list[weakref.ref[Failure]] = []

    def work() -> None:
        kept.append(weakref.ref(failure := Failure()))
        try:
            raise failure
        finally:
            del failure

    async def get(way: Callable[[], Awaitable[None]]) -> None:
        with contextlib.suppress(Failure):
            await way()

    flight = Flight(work)
    for way in (lambda: run_in_thread(work), flight.join):
        await asyncio.gather(*(get(way) for _ in range(3)))
    assert len(kept) == 4
    # The thread that told of it lets it go a moment later.
    await until(lambda: not any(reference() for reference in kept))


@pytest.mark.asyncio
async def test_work_sees_the_callers_context_and_leaves_nothing_in_it() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    def work() -> str:
        seen = variable.get()
        variable.set("left behind")
        return seen

    async def ask(value: str) -> str:
        variable.set(value)
        return await run_in_thread(work)

    assert await run_in_thread(work) == "none"
    asked = [await asyncio.create_task(ask(value)) for value in ("a", "b")]
    assert asked == ["a", "b"]
    assert await run_in_thread(work) == variable.get() == "none"


@_BOTH
@pytest.mark.asyncio
async def test_a_thread_that_cannot_start_is_an_error_of_that_work_alone(
    monkeypatch: pytest.MonkeyPatch, brief: bool
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with asyncio.timeout(5):
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            for _ in range(5):
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    await run_in_thread(lambda: 1, brief=brief)
        assert await run_in_thread(lambda: 2, brief=brief) == 2


def _run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")
def test_a_fork_has_threads_of_its_own() -> None:
    # Idle threads, busy ones, works that wait for one, and a lock that is held.
    program = """
import asyncio, os, sys, threading
from aiosmrt import threads

async def ask(number):
    return [
        await asyncio.wait_for(threads.run_in_thread(lambda: number, brief=brief), 5)
        for brief in (False, True)
    ]

async def main():
    hang = threading.Event().wait
    [asyncio.ensure_future(threads.run_in_thread(hang, brief=brief))
     for brief in (False, True) for _ in range(9)]
    await threads.run_in_thread(lambda: 0)

asyncio.run(main())
with threads._many._lock, threads._few._lock:
    child = os.fork()
    if child == 0:
        print(asyncio.run(ask(1)), flush=True)
        os._exit(0)
sys.exit(os.waitpid(child, 0)[1])
"""
    assert _run(program) == "[1, 1]\n"


def test_the_interpreter_does_not_wait_for_work_that_hangs() -> None:
    program = """
import asyncio, threading
from aiosmrt.threads import run_in_thread

async def main():
    hang = threading.Event().wait
    works = [asyncio.ensure_future(run_in_thread(hang, brief=brief)) for brief in (False, True)]
    await asyncio.sleep(0)
    await run_in_thread(lambda: None)

asyncio.run(main())
print("left")
"""
    assert _run(program) == "left\n"


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
