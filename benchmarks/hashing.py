"""A body is hashed before it is sent: for how long that holds the event loop up.

    python -m benchmarks.hashing

Three ways: on the loop, in a thread that lives (the client's), and in a thread that is started for
it. Each on an idle machine, and beside a thread of the application that computes in Python, which
has to let go of the interpreter first. No server and no peer: SHA-256 alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from functools import partial

import attrs

from aiosmrt.threads import run_in_thread
from benchmarks.harness import (
    Ratios,
    interleave,
    parse_options,
    print_report,
    ratio,
    run,
    tabulate,
)

_SIZES = (64, 128, 256, 1024, 6144)  # KiB
_HASHES = 20  # of a sample


@attrs.frozen
class _Cost:
    """What one hash takes: medians and maxima of a sample."""

    held: float  # seconds for which the loop could do nothing else, the median
    longest: float  # the same, the longest
    waited: float  # seconds to the digest
    cpu: float  # seconds of the process


class _Steps:
    """A coroutine, and the seconds for which its steps hold the loop."""

    def __init__(self, coroutine: Awaitable[object]) -> None:
        self._coroutine = coroutine
        self.seconds = 0.0

    def __await__(self) -> Generator[object, None, None]:
        steps = self._coroutine.__await__()
        while True:
            began = time.perf_counter()
            try:
                awaited = next(steps)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - began
            yield awaited


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def _on_the_loop(body: bytes) -> str:
    return _hash(body)


async def _in_a_thread_that_lives(body: bytes) -> str:
    return await run_in_thread(partial(_hash, body), brief=True)


async def _in_a_thread_that_starts(body: bytes) -> str:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()
    threading.Thread(
        target=lambda: loop.call_soon_threadsafe(done.set_result, _hash(body)), daemon=True
    ).start()
    return await done


_WAYS: Mapping[str, Callable[[bytes], Awaitable[str]]] = {
    "loop": _on_the_loop,
    "lives": _in_a_thread_that_lives,
    "starts": _in_a_thread_that_starts,
}


@contextlib.contextmanager
def _computing(threads: int) -> Iterator[None]:
    """Have so many threads of the application compute in Python."""
    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            sum(range(1000))

    computing = [threading.Thread(target=compute) for _ in range(threads)]
    for thread in computing:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in computing:
            thread.join()


async def _measure_way(way: Callable[[bytes], Awaitable[str]], body: bytes) -> _Cost:
    held, waited = [], []
    cpu = time.process_time()
    for _ in range(_HASHES):
        steps = _Steps(way(body))
        began = time.perf_counter()
        await steps
        waited.append(time.perf_counter() - began)
        held.append(steps.seconds)
        await asyncio.sleep(0)
    cpu = (time.process_time() - cpu) / _HASHES
    return _Cost(statistics.median(held), max(held), statistics.median(waited), cpu)


async def _measure(size: int, rounds: int) -> dict[str, list[_Cost]]:
    body = bytes(size << 10)
    return await interleave(
        {name: partial(_measure_way, way, body) for name, way in _WAYS.items()}, rounds
    )


def main() -> None:
    options = parse_options(__doc__, rounds=5, peers=(), default_loops=("asyncio",))
    print(__doc__.partition("\n")[0])
    ratios: dict[str, Ratios] = {}
    for loop in options.loops:
        found = ratios[loop] = {}
        for threads in (0, 1):
            rows = []
            with _computing(threads):
                for size in _SIZES:
                    samples = run(partial(_measure, size, options.rounds), loop)
                    for name, costs in samples.items():
                        held = [cost.held for cost in costs]
                        times = ratio(held, [cost.held for cost in samples["lives"]])
                        if name != "lives":
                            found[f"{size}_KiB_beside_{threads}_held_{name}_vs_lives"] = times
                        rows.append(
                            (
                                f"{size:,} KiB, {name}",
                                f"{statistics.median(held) * 1e6:,.0f}",
                                f"{max(cost.longest for cost in costs) * 1e6:,.0f}",
                                f"{statistics.median(c.waited for c in costs) * 1e6:,.0f}",
                                "" if threads else f"{min(c.cpu for c in costs) * 1e6:,.0f}",
                                f"{times:.1f}",
                            )
                        )
            title = f"{loop}, {'beside a thread that computes' if threads else 'alone'}"
            head = (title, "held µs", "longest", "to the digest µs", "CPU µs", "held x lives")
            print(f"\n{tabulate(head, rows)}")
    print_report("hashing", ratios)


if __name__ == "__main__":
    main()
