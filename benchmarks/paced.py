"""200 response streams with an event every 20 ms each: CPU per event.

    python -m benchmarks.paced

Here every event wakes the client up, so most of the cost is the loop's and the socket's; plain
aiohttp tells how much. What opening the streams takes is not counted.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from functools import partial

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
from benchmarks.server import make_frame

_STREAMS = 200
_WORK = Work("stream", "paced-20-32")
_SECONDS = 0.8  # of a sample
_GOALS = [Goal("cpu_vs_aiohttp", "at most", 1.25, 1.1)]


async def _measure_peer(name: str, url: str) -> float:
    """Give the CPU seconds per event of one client whose streams are all under way."""
    async with connect(name, url, _STREAMS) as peer:
        assert isinstance(peer, AsyncPeer)
        size = len(make_frame(32)) if name == "aiohttp" else 32
        streams = [
            asyncio.create_task(peer.stream(_WORK.endpoint, _WORK.body)) for _ in range(_STREAMS)
        ]
        while peer.received < 5 * _STREAMS * size:  # noqa: ASYNC110 - it only counts, the cheapest it can do
            await asyncio.sleep(0.01)
        received, cpu = peer.received, time.process_time()
        await asyncio.sleep(_SECONDS)
        cost = (time.process_time() - cpu) / (peer.received - received) * size
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
    return cost


async def _measure(names: Sequence[str], url: str, rounds: int) -> dict[str, list[float]]:
    return await interleave({name: partial(_measure_peer, name, url) for name in names}, rounds)


def main() -> None:
    options = parse_options(__doc__, rounds=5)
    print(__doc__.partition("\n")[0])
    names = choose_peers(options.peers)
    ratios: dict[str, Ratios] = {}
    with serve() as url:
        for loop in options.loops:
            costs = run(partial(_measure, names, url, options.rounds), loop)
            ratios[loop] = {
                f"cpu_vs_{name}": ratio(costs[OURS], costs[name]) for name in names if name != OURS
            }
            rows = [
                (
                    name,
                    f"{statistics.median(costs[name]) * 1e6:,.1f}",
                    f"{ratio(costs[OURS], costs[name]):.2f}",
                )
                for name in names
            ]
            print(f"\n{tabulate((loop, 'CPU µs/event', f'{OURS}: CPU x'), rows)}")
    print_report("paced", ratios, _GOALS)


if __name__ == "__main__":
    main()
