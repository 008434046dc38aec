"""1,000 open response streams, one event received of each: memory of the client's process.

    python -m benchmarks.memory

Every sample is a fresh process with one client in it. It opens one stream, and then 1,000 more;
what the resident set has grown by is theirs. What the kernel holds for a socket is not in it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import attrs

from benchmarks.harness import (
    OURS,
    Goal,
    Ratios,
    choose_peers,
    interleave,
    parse_options,
    print_report,
    ratio,
    run,
    serve,
    tabulate,
)
from benchmarks.peers import AsyncPeer, Work, connect

__all__ = ["Held", "measure_peer"]

_STREAMS = 1000
_AT_A_TIME = 50  # are opened
_WORK = Work("stream", "held-32")
_PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
_GOALS = [Goal("memory_vs_aiohttp", "at most", 1.25, 1.15)]


@attrs.frozen
class Held:
    """What each of the open streams takes."""

    resident: float  # bytes of the resident set
    cpu: float  # seconds to open it and receive its first event


def _read_resident() -> int:
    """Give the resident set in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


async def _hold(name: str, url: str, streams: int) -> None:
    """Open the streams and print what each of them takes."""
    async with connect(name, url, streams + _AT_A_TIME) as peer:
        assert isinstance(peer, AsyncPeer)
        held: list[object] = []

        async def open_some(number: int) -> None:
            held.extend(
                await asyncio.gather(
                    *(peer.hold(_WORK.endpoint, _WORK.body) for _ in range(number))
                )
            )

        await open_some(_AT_A_TIME)
        gc.collect()
        before, cpu = _read_resident(), time.process_time()
        for first in range(0, streams, _AT_A_TIME):
            await open_some(min(_AT_A_TIME, streams - first))
        cpu = time.process_time() - cpu
        gc.collect()
        print((_read_resident() - before) / streams, cpu / streams, flush=True)
        # What closing takes is no part of the question.
        os._exit(0)


async def measure_peer(name: str, url: str, loop: str, streams: int) -> Held:
    """Hold so many streams open in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.memory", "--hold", name, url, loop, str(streams)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    printed, _ = await process.communicate()
    return Held(*map(float, printed.split()))


async def _measure(names: Sequence[str], url: str, loop: str, rounds: int) -> dict[str, list[Held]]:
    return await interleave(
        {name: partial(measure_peer, name, url, loop, _STREAMS) for name in names}, rounds
    )


def main() -> None:
    options = parse_options(__doc__, rounds=5)
    print(__doc__.partition("\n")[0])
    names = choose_peers(options.peers)
    ratios: dict[str, Ratios] = {}
    with serve() as url:
        for loop in options.loops:
            held = asyncio.run(_measure(names, url, loop, options.rounds))
            sizes = {name: [sample.resident for sample in held[name]] for name in names}
            ratios[loop] = {
                f"memory_vs_{name}": ratio(sizes[OURS], sizes[name])
                for name in names
                if name != OURS
            }
            rows = [
                (
                    name,
                    f"{statistics.median(sizes[name]) / 1024:,.1f}",
                    f"{ratio(sizes[OURS], sizes[name]):.2f}",
                )
                for name in names
            ]
            print(f"\n{tabulate((loop, 'KiB/stream', f'{OURS}: memory x'), rows)}")
    print_report("memory", ratios, _GOALS)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--hold"]:
        run(partial(_hold, sys.argv[2], sys.argv[3], int(sys.argv[5])), sys.argv[4])
    else:
        main()
