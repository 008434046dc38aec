"""A thread with an event loop of its own, for those that have none."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager

__all__ = ["LoopThread"]


class LoopThread:
    """Holds an asynchronous context open, in a thread, until it is stopped.

    Args:
        context: entered and left there.
    """

    def __init__(self, context: AbstractAsyncContextManager[object]) -> None:
        self._context = context
        self._entered: Future[None] = Future()
        self._left: Future[None] = Future()
        # A daemon: an interpreter that exits under it is not to wait for it.
        self._thread = threading.Thread(target=self._run, name="aiosmrt-local", daemon=True)

    def start(self) -> None:
        """Enter the context, and wait until that is done.

        Raises:
            Exception: as entering does.
        """
        self._thread.start()
        self._entered.result()

    def stop(self) -> None:
        """Leave the context, and wait for the end of the thread.

        Raises:
            Exception: as leaving does.
        """
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._left.result()

    def _run(self) -> None:
        try:
            asyncio.run(self._hold())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            (self._left if self._entered.done() else self._entered).set_exception(error)
        else:
            self._left.set_result(None)

    async def _hold(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._context:
            self._entered.set_result(None)
            await self._stop.wait()
