"""Blocking work, off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Flight", "run_in_thread"]

T = TypeVar("T")


async def run_in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own and give what it returns or raises.

    Not the loop's default executor, which the application's own slow work may fill; and a daemon,
    so that an interpreter that wants to exit does not wait for a server that does not answer.
    When the waiting is cancelled the work runs on, and its result is dropped.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if not done.cancelled():
            # As a result, since a future takes no StopIteration for an exception.
            done.set_result((result, error))

    def run() -> None:
        result = error = None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001 - it is raised again where it is awaited
            error = raised
        # A loop that was closed meanwhile has nobody waiting any longer.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="aiosmrt", daemon=True).start()
    result, error = await done
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # None only where there is an error


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
        task = self._task
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._task = asyncio.create_task(run_in_thread(self._work))
            # Everybody may have been cancelled: then nobody asks for the exception.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)
