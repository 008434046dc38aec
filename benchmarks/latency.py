"""InvokeEndpoint, one call at a time: the median and the 99th percentile of the time it takes.

python -m benchmarks.latency
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from functools import partial

import attrs

from benchmarks.harness import (
    OURS,
    Goal,
    Ratios,
    choose_peers,
    connected,
    interleave,
    parse_options,
    print_report,
    ratio,
    run,
    serve,
    tabulate,
)
from benchmarks.peers import AsyncPeer, Work

_WORK = Work("invoke", "bytes-1024")
_CALLS = 400  # of a sample
_GOALS = [
    Goal("p50_vs_aiohttp", "at most", 1.2, 1.1),
    Goal("p99_vs_aiohttp", "at most", 1.2, 1.1),
]


@attrs.frozen
class _Latency:
    p50: float  # seconds
    p99: float  # seconds


async def _time_calls(peer: AsyncPeer) -> _Latency:
    endpoint, body = _WORK.endpoint, _WORK.body
    took = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        await peer.invoke(endpoint, body)
        took.append(time.perf_counter() - began)
    percentiles = statistics.quantiles(took, n=100)
    return _Latency(percentiles[49], percentiles[98])


async def _measure(names: Sequence[str], url: str, rounds: int) -> dict[str, list[_Latency]]:
    async with connected(names, url, 1) as peers:
        measures = {}
        for name, peer in peers.items():
            assert isinstance(peer, AsyncPeer)
            await peer.repeat(_WORK, 50, 1)
            measures[name] = partial(_time_calls, peer)
        return await interleave(measures, rounds)


def main() -> None:
    options = parse_options(__doc__, rounds=11)
    print(__doc__.partition("\n")[0])
    names = choose_peers(options.peers)
    ratios: dict[str, Ratios] = {}
    with serve() as url:
        for loop in options.loops:
            samples = run(partial(_measure, names, url, options.rounds), loop)
            p50 = {name: [sample.p50 for sample in samples[name]] for name in names}
            p99 = {name: [sample.p99 for sample in samples[name]] for name in names}
            found = ratios[loop] = {}
            rows = []
            for name in names:
                slower = ratio(p50[OURS], p50[name]), ratio(p99[OURS], p99[name])
                if name != OURS:
                    found[f"p50_vs_{name}"], found[f"p99_vs_{name}"] = slower
                rows.append(
                    (
                        name,
                        f"{statistics.median(p50[name]) * 1e6:,.0f}",
                        f"{statistics.median(p99[name]) * 1e6:,.0f}",
                        f"{slower[0]:.2f}",
                        f"{slower[1]:.2f}",
                    )
                )
            head = (loop, "p50 µs", "p99 µs", f"{OURS}: p50 x", f"{OURS}: p99 x")
            print(f"\n{tabulate(head, rows)}")
    print_report("latency", ratios, _GOALS)


if __name__ == "__main__":
    main()
