"""How long the loop's callbacks hold it, and what is left of a process when all is closed."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import uvloop

from aiosmrt.transport.exchange import Exchange

__all__ = ["LOOPS", "Memory", "Stopwatch", "count_leftovers"]

LONGEST: Final = 0.02  # seconds of the processor that a callback may take
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TOLD: Final = ("data_received", "connection_lost", "eof_received", "resume_writing")


@attrs.define
class Stopwatch:
    """Times callbacks, the collector's pauses apart.

    The bar is on the processor's time of the loop's thread, which a machine that others keep busy
    does not lengthen. Beside it stands how long the loop was held up as a clock on the wall has it.

    Attributes:
        longest: seconds of the processor, of the callback that took the most, and its name.
        longest_wall: the same by the clock on the wall.
        longest_pause: seconds of the processor that the collector took at once.
        late: callbacks that took too much, by name.
    """

    longest: tuple[float, str] = (0.0, "")
    longest_wall: tuple[float, str] = (0.0, "")
    longest_pause: float = 0.0
    late: collections.Counter[str] = attrs.field(factory=collections.Counter)
    timers: dict[int, tuple[asyncio.TimerHandle, float, str]] = attrs.field(factory=dict)
    _collected: float = 0.0
    _began: float = 0.0
    _depth: int = 0

    def time(self, callback: Callable[..., Any], *arguments: Any) -> Any:
        """Call, and take the time."""
        if self._depth:
            return callback(*arguments)
        self._depth = 1
        collected, wall, began = self._collected, time.perf_counter(), time.thread_time()
        try:
            return callback(*arguments)
        finally:
            spent = time.thread_time() - began - (self._collected - collected)
            self._depth = 0
            if spent > self.longest[0] or spent > LONGEST:
                name = _name(callback)
                self.longest = max(self.longest, (spent, name))
                if spent > LONGEST:
                    self.late[name] += 1
            held = time.perf_counter() - wall
            if held > self.longest_wall[0]:
                self.longest_wall = held, _name(callback)

    def forget(self) -> None:
        """Forget how long callbacks have taken so far."""
        self.longest = self.longest_wall = (0.0, "")
        self.longest_pause = 0.0
        self.late.clear()

    def _collect(self, phase: str, _: object) -> None:
        if phase == "start":
            self._began = time.thread_time()
            return
        pause = time.thread_time() - self._began
        self._collected += pause
        self.longest_pause = max(self.longest_pause, pause)

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        """Time what connections are told by the loop, too, and collections."""
        methods = {name: getattr(Exchange, name) for name in _TOLD}

        def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *arguments: self.time(method, *arguments)

        for name, method in methods.items():
            setattr(Exchange, name, wrap(method))
        gc.callbacks.append(self._collect)
        try:
            yield
        finally:
            gc.callbacks.remove(self._collect)
            for name, method in methods.items():
                setattr(Exchange, name, method)

    def count_timers(self, now: float) -> int:
        """Count the timers that are still to come."""
        self.timers = {
            key: (handle, when, name)
            for key, (handle, when, name) in self.timers.items()
            # uvloop itself leaves those of a handshake that was broken off.
            if when > now and not handle.cancelled() and not name.startswith("SSLProtocol.")
        }
        return len(self.timers)

    def name_timers(self) -> dict[str, int]:
        """Say whose the timers are that were left."""
        return collections.Counter(name for _, _, name in self.timers.values())

    def note(
        self, handle: asyncio.TimerHandle, callback: Callable[..., Any], when: float, now: float
    ) -> asyncio.TimerHandle:
        """Remember a timer."""
        if len(self.timers) % 1000 == 999:
            self.count_timers(now)
        self.timers[id(handle)] = handle, when, _name(callback)
        return handle


def _name(callback: Callable[..., Any]) -> str:
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        coroutine: Any = task.get_coro()
        return f"a step of {coroutine.__qualname__}"
    return str(getattr(callback, "__qualname__", callback))


class _Asyncio(asyncio.SelectorEventLoop):
    stopwatch: Stopwatch

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        return super().call_soon(self.stopwatch.time, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        watch = self.stopwatch
        handle = super().call_at(when, watch.time, callback, *args, context=context)
        return watch.note(handle, callback, when, self.time())


class _Uvloop(uvloop.Loop):
    stopwatch: Stopwatch

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        return super().call_soon(self.stopwatch.time, callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        watch, now = self.stopwatch, self.time()
        handle = super().call_later(delay, watch.time, callback, *args, context=context)
        return watch.note(handle, callback, now + delay, now)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        return self.call_later(when - self.time(), callback, *args, context=context)


LOOPS: Final[dict[str, Any]] = {"asyncio": _Asyncio, "uvloop": _Uvloop}


def count_leftovers(stopwatch: Stopwatch) -> dict[str, int]:
    """Count this process's sockets, tasks, threads and timers, the loop's own ones included."""
    descriptors = 0
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            descriptors += str(path.readlink()).startswith("socket:")
    return {
        "sockets": descriptors,
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "timers": stopwatch.count_timers(asyncio.get_running_loop().time()),
    }


@attrs.define
class Memory:
    """The process's resident memory, once a second."""

    samples: list[tuple[float, float]] = attrs.field(factory=list)  # seconds, MiB

    async def watch(self) -> None:
        """Take samples until cancelled."""
        while True:
            await asyncio.sleep(1)
            pages = int(Path("/proc/self/statm").read_text().split()[1])  # noqa: ASYNC240 - no disk
            self.samples.append((time.monotonic(), pages * _PAGE / (1 << 20)))

    def find_slope(self) -> tuple[float, float]:
        """Give the growth in MiB a minute, and its noise: what the halves of it differ by.

        The first half of the time is for the allocator to find what it needs at the most.
        """
        later = self.samples[len(self.samples) // 2 :]
        if len(later) < 4:
            return 0.0, 0.0
        times, sizes = zip(*later, strict=True)
        slope, start = statistics.linear_regression(times, sizes)
        spread = statistics.pstdev(
            size - start - slope * at for at, size in zip(times, sizes, strict=True)
        )
        minutes = (times[-1] - times[0]) / 60
        return slope * 60, 2 * spread / minutes
