"""How long the loop's callbacks hold it, and what is left of a process when all is closed."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ctypes
import gc
import logging
import math
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

import attrs
import uvloop

from aiosmrt.transport.exchange import Exchange

__all__ = ["LOOPS", "Complaints", "Memory", "Rest", "Stopwatch", "count_leftovers"]

LONGEST: Final = 0.02  # seconds of the processor that a callback may take
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_ONCE: Final = 2.0  # MiB that may come from what is made once, late
_BLOCK: Final = 80  # bytes of one of the interpreter's small objects, on average
_MIB: Final = 1 << 20
_RESTS: Final = 4  # from which on a slope says something
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
        # The end of a generator that was dropped has no name.
        return f"a step of {getattr(coroutine, '__qualname__', coroutine)}"
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


class Complaints(logging.Handler):
    """What is logged as an error, by whomever: nothing should be.

    Attributes:
        told: first lines, and how often.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: collections.Counter[str] = collections.Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of a record."""
        said = record.getMessage().partition("\n")[0]
        # uvloop's own, of a handshake that was broken off: plain aiohttp has it on uvloop, too.
        if said != "Fatal error on SSL protocol":
            self.told[f"{record.name}: {said}: {record.exc_info and record.exc_info[1]!r}"] += 1

    @contextlib.contextmanager
    def listen(self) -> Iterator[None]:
        """Listen to every logger."""
        logging.getLogger().addHandler(self)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(self)


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


@attrs.frozen
class Rest:
    """What the process has when nothing is under way.

    Attributes:
        calls: how many there were so far.
        given: MiB that allocators have given out.
        resident: MiB that the process has of the machine's memory.
    """

    calls: int
    given: float
    resident: float


@attrs.define
class Memory:
    """What the process still has lap after lap.

    While calls are under way it follows their number. What is resident follows the peaks of all
    laps: allocators keep, in pieces, what they had to have once. What they have given out tells of
    leaks.
    """

    rests: list[Rest] = attrs.field(factory=list)

    def rest(self, calls: int) -> None:
        """Take a sample; nothing may be under way."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.rests.append(Rest(calls, _count_given() / _MIB, pages * _PAGE / _MIB))

    @property
    def grows(self) -> bool:
        """Whether it leaks."""
        growth, noise = self.find_slope()
        calls = self._later[-1].calls - self._later[0].calls
        return (growth - noise) * calls > _ONCE * _MIB

    @property
    def _later(self) -> list[Rest]:
        # The first third is for what is made once.
        return self.rests[len(self.rests) // 3 :]

    def find_span(self) -> tuple[float, float]:
        """Give the least and the most that was resident, in MiB."""
        sizes = [rest.resident for rest in self._later]
        return min(sizes), max(sizes)

    def find_slope(self) -> tuple[float, float]:
        """Give the growth of what is given out, in bytes a call, and twice its standard error."""
        calls = [rest.calls for rest in self._later]
        sizes = [rest.given * _MIB for rest in self._later]
        if len(calls) < _RESTS:
            return 0.0, 0.0
        slope, start = statistics.linear_regression(calls, sizes)
        errors = (size - start - slope * at for at, size in zip(calls, sizes, strict=True))
        spread = math.sqrt(sum(error**2 for error in errors) / (len(calls) - 2))
        return slope, 2 * spread / (statistics.pstdev(calls) * math.sqrt(len(calls)))


class _Mallinfo(ctypes.Structure):
    """What GNU's C library tells of its allocator (`mallinfo2` of malloc.h)."""

    _fields_: ClassVar = [(f"field_{number}", ctypes.c_size_t) for number in range(10)]


def _count_given() -> int:
    """Count the bytes that the C library and the interpreter have given out."""
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _Mallinfo
    told = library.mallinfo2()
    # `uordblks` and `hblkhd`; the interpreter has arenas of its own for small objects.
    return int(told.field_7 + told.field_4 + sys.getallocatedblocks() * _BLOCK)
