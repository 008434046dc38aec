"""Blocking work, off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import math
import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeAlias, TypeVar

__all__ = ["Flight", "run_in_thread", "submit"]

T = TypeVar("T")
_Outcome: TypeAlias = tuple[T | None, BaseException | None]

# Seconds that a thread waits for its next work, as in trio and anyio.
_IDLE: Final = 10.0

# Threads for brief work. Each hashes up to 2 GB/s, and one loop does not send half of that.
_FEW: Final = 4


class _Threads:
    """Daemon threads that live on for the next work; the idle ones end after a while.

    Starting one holds its starter up until it runs, for 50 to 100 µs on an idle machine and for
    5 to 15 ms beside a thread that computes in Python, since it needs the interpreter for that.
    Handing work to one that lives takes 3 to 15 µs on either.

    Args:
        limit: how many there may be; work waits where all of them have some.
    """

    def __init__(self, limit: float = math.inf) -> None:
        self._limit = limit
        self._begin()
        if hasattr(os, "register_at_fork"):
            # The child has none of these threads, and perhaps a lock that one of them held.
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._works: SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]]] = SimpleQueue()
        self._count = 0
        self._spare = 0  # threads that are idle, or soon will be, less the works that wait

    def submit(self, work: Callable[[], T], tell: Callable[[T], None]) -> None:
        """Have `work` run, and `tell` called there with what it returned; neither may raise.

        Raises:
            RuntimeError: the system starts no more threads.
        """
        with self._lock:
            starts = self._spare <= 0 and self._count < self._limit
            if starts:
                self._count += 1
            else:
                self._spare -= 1
        if starts:
            try:
                threading.Thread(target=self._live, name="aiosmrt", daemon=True).start()
            except RuntimeError:
                with self._lock:
                    self._count -= 1
                raise
        self._works.put((work, tell))

    def _live(self) -> None:
        while True:
            try:
                # Woken just before its time for what another one takes, CPython's queue waits on
                # without end, until the next work: that is seldom, and costs an idle thread.
                work, tell = self._works.get(timeout=_IDLE)
            except Empty:
                with self._lock:
                    if self._spare > 0:  # else there is work on its way
                        self._spare -= 1
                        self._count -= 1
                        return
                continue
            outcome = work()
            # Before it is told: who is told may have more.
            with self._lock:
                self._spare += 1
            tell(outcome)
            del work, tell, outcome  # which may have megabytes


_many = _Threads()
_few = _Threads(_FEW)


def submit(work: Callable[[], T], tell: Callable[[T], None]) -> None:
    """Have `work` run, and `tell` called there with what it returned; neither may raise.

    Raises:
        RuntimeError: the system starts no more threads.
    """
    _many.submit(work, tell)


async def run_in_thread(work: Callable[[], T], *, brief: bool = False) -> T:
    """Run `work` in a thread, in the context of the caller, and give what it returns or raises.

    Not in the loop's default executor, which the application's own slow work may fill; and in a
    daemon, so that an interpreter that wants to exit does not wait for a server that does not
    answer. When the waiting is cancelled the work runs on, and its result is dropped.

    Args:
        work: what blocks.
        brief: whether it only computes, for milliseconds: then it takes its turn in a few threads.
            Else it waits for no other work.

    Raises:
        RuntimeError: the system starts no more threads.
    """
    result, error = await _hand_over(work, _few if brief else _many)
    try:
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # None only where there is an error
    finally:
        del error  # whose traceback refers to this frame


def _hand_over(work: Callable[[], T], threads: _Threads) -> asyncio.Future[_Outcome[T]]:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Outcome[T]] = loop.create_future()
    attempt = functools.partial(contextvars.copy_context().run, _attempt, work)
    threads.submit(attempt, functools.partial(_tell, loop, done))
    return done


def _attempt(work: Callable[[], T]) -> _Outcome[T]:
    try:
        return work(), None
    except BaseException as error:  # noqa: BLE001 - it is raised again where it is awaited
        return None, error


def _tell(
    loop: asyncio.AbstractEventLoop, done: asyncio.Future[_Outcome[T]], outcome: _Outcome[T]
) -> None:
    # A loop that was closed meanwhile has nobody waiting any longer.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_settle, done, outcome)


def _settle(done: asyncio.Future[_Outcome[T]], outcome: _Outcome[T]) -> None:
    if not done.cancelled():
        # As a result, since a future takes no StopIteration for an exception.
        done.set_result(outcome)


class Flight(Generic[T]):
    """One run of blocking work for everybody who waits for it.

    Whoever is cancelled leaves; the work goes on for the others. What it raises, everybody gets;
    who comes later starts it anew.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._task: asyncio.Task[T] | None = None

    async def join(self) -> T:
        """Wait for the run under way, or begin one."""
        # In no variable: the traceback of its exception refers to this frame.
        return await asyncio.shield(self._find())

    def _find(self) -> asyncio.Task[T]:
        task = self._task
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._task = asyncio.create_task(run_in_thread(self._work))
            task.add_done_callback(self._land)
        return task

    def _land(self, task: asyncio.Task[T]) -> None:
        if self._task is task:
            self._task = None
        if not task.cancelled():
            # Everybody may have been cancelled: then nobody asks for the exception.
            task.exception()
