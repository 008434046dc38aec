"""Many rows, 32 at a time, 1 KiB there and back: `client.map` and what people write themselves.

    python -m benchmarks.batch

Rows per second of a hand-written pool of workers over `invoke_endpoint`, of `map`, of `map` that
finds out how many calls to make, and of boto3 in a pool of threads, where a model takes no time,
and where it takes 20 ms. Then, each in a fresh process, the resident set behind 10,000 rows and
behind 200,000, which a generator makes.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import aiosmrt
from benchmarks.harness import (
    Goal,
    Ratios,
    calibrate,
    choose_peers,
    interleave,
    parse_options,
    print_report,
    ratio,
    run,
    serve,
    tabulate,
)
from benchmarks.peers import Peer, Sample, Work, connect
from benchmarks.peers import aiosmrt as ours

_WORKS = {0: Work("invoke", "bytes-1024"), 20: Work("invoke", "bytes-1024-20")}  # by ms
_IN_FLIGHT = 32
_SECONDS = 0.35  # of a sample
_MANY, _FEW = 200_000, 10_000  # rows
_PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
_POOL, _MAP = "pool of workers", "map"
_GOALS = [
    Goal("rows_per_second_vs_pool", "at least", 0.95),
    Goal("rows_per_second_vs_pool_at_20_ms", "at least", 0.95),
    Goal("rows_per_second_vs_boto3", "at least", 4),
    Goal("memory_of_many_vs_few", "at most", 1.05),
]


def _make_rows(work: Work, rows: int) -> Iterator[aiosmrt.InvokeEndpointParameters]:
    body = work.body
    for _ in range(rows):
        yield {
            "endpoint_name": work.endpoint,
            "body": body,
            "content_type": "application/json",
        }


class Pool(Peer):
    """Workers that take rows in turn, as one writes them by hand."""

    def __init__(self, client: aiosmrt.SageMakerRuntimeClient) -> None:
        self._client = client

    async def repeat(self, work: Work, calls: int, in_flight: int) -> Sample:
        wall, cpu = time.perf_counter(), time.process_time()
        rows, failed = enumerate(_make_rows(work, calls)), []
        done = 0

        async def take_turns() -> None:
            nonlocal done
            for index, row in rows:
                try:
                    response = await self._client.invoke_endpoint(**row)
                except aiosmrt.AiosmrtError as error:
                    failed.append((index, error))
                else:
                    done += response.metadata.status == 200

        await asyncio.gather(*(take_turns() for _ in range(in_flight)))
        assert done == calls
        return Sample(calls, time.perf_counter() - wall, time.process_time() - cpu)


class Mapped(Peer):
    """`client.map`."""

    def __init__(
        self, client: aiosmrt.SageMakerRuntimeClient, auto: Literal["auto"] | None = None
    ) -> None:
        self._client = client
        self._auto = auto

    async def repeat(self, work: Work, calls: int, in_flight: int) -> Sample:
        wall, cpu = time.perf_counter(), time.process_time()
        done = 0
        rows = _make_rows(work, calls)
        async for outcome in self._client.map(rows, max_in_flight=self._auto or in_flight):
            done += outcome.error is None
        assert done == calls
        return Sample(calls, time.perf_counter() - wall, time.process_time() - cpu)


async def _measure(url: str, work: Work, rounds: int, *, threads: bool) -> dict[str, list[Sample]]:
    async with ours.connect(url, 100) as peer, connect("boto3", url, _IN_FLIGHT) as boto3:
        peers: dict[str, Peer] = {
            _POOL: Pool(peer.client),
            _MAP: Mapped(peer.client),
            "map, auto": Mapped(peer.client, "auto"),
        }
        if threads:
            peers["boto3"] = boto3
        measures = {}
        for name, one in peers.items():
            calls = await calibrate(one, work, _IN_FLIGHT, _SECONDS)
            measures[name] = partial(one.repeat, work, calls, _IN_FLIGHT)
        return await interleave(measures, rounds)


def _compare(loop: str, url: str, rounds: int, milliseconds: int, *, threads: bool) -> Ratios:
    work = _WORKS[milliseconds]
    samples = run(partial(_measure, url, work, rounds, threads=threads), loop)
    rates = {name: [s.calls / s.wall for s in samples[name]] for name in samples}
    costs = {name: [s.cpu / s.calls * 1e6 for s in samples[name]] for name in samples}
    rows = [
        (
            name,
            f"{statistics.median(rates[name]):,.0f}",
            f"{statistics.median(costs[name]):,.1f}",
            f"{ratio(rates[_MAP], rates[name]):.2f}",
            f"{ratio(costs[_MAP], costs[name]):.2f}",
        )
        for name in samples
    ]
    title = f"{loop}, {milliseconds} ms"
    print(f"\n{tabulate((title, 'rows/s', 'CPU µs each', 'map: rows/s x', 'map: CPU x'), rows)}")
    found = {
        "rows_per_second_vs_pool": ratio(rates[_MAP], rates[_POOL]),
        "cpu_vs_pool": ratio(costs[_MAP], costs[_POOL]),
    }
    if threads:
        found["rows_per_second_vs_boto3"] = ratio(rates[_MAP], rates["boto3"])
    suffix = f"_at_{milliseconds}_ms" if milliseconds else ""
    return {f"{name}{suffix}": value for name, value in found.items()}


def _read_resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


async def _hold(url: str, rows: int) -> None:
    """Carry so many rows out, and print the resident set."""
    async with ours.connect(url, _IN_FLIGHT) as peer:
        await Mapped(peer.client).repeat(_WORKS[0], rows, _IN_FLIGHT)
        print(_read_resident())


def _measure_memory(url: str, loop: str, rows: int) -> int:
    command = [sys.executable, "-m", "benchmarks.batch", "--hold", url, loop, str(rows)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    options = parse_options(
        __doc__, rounds=9, peers=("aiosmrt", "boto3"), default_loops=("asyncio", "uvloop")
    )
    print(__doc__.partition("\n")[0])
    threads = "boto3" in choose_peers(options.peers)
    ratios: dict[str, Ratios] = {}
    with serve() as url:
        for loop in options.loops:
            ratios[loop] = {}
            for milliseconds in _WORKS:
                found = _compare(loop, url, options.rounds, milliseconds, threads=threads)
                ratios[loop].update(found)
            sizes = {rows: _measure_memory(url, loop, rows) for rows in (_FEW, _MANY)}
            ratios[loop]["memory_of_many_vs_few"] = sizes[_MANY] / sizes[_FEW]
            told = [(f"{rows:,}", f"{size / 2**20:.1f}") for rows, size in sizes.items()]
            print(f"\n{tabulate(('rows', 'resident MiB'), told)}")
    print_report("batch", ratios, _GOALS)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--hold"]:
        run(partial(_hold, sys.argv[2], int(sys.argv[4])), sys.argv[3])
    else:
        main()
