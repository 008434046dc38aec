"""How the cost grows: with the body's size, a stream's events, calls in flight, open streams.

    python -m benchmarks.growth

CPU time of the client beside plain aiohttp's. A cost per call, event or stream that stays the same
down a table is a linear one.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from functools import partial

import attrs

from benchmarks.harness import (
    OURS,
    Ratios,
    calibrate,
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
from benchmarks.memory import Held, measure_peer
from benchmarks.peers import Peer, Sample, Work

_BASE = "aiohttp"
_SECONDS = 0.15  # of a sample
_STREAMS = (100, 1000, 5000)


@attrs.frozen
class _Point:
    """One row of a table."""

    label: str
    work: Work
    in_flight: int
    per_call: int = 1  # of what is counted


_TABLES: dict[str, tuple[_Point, ...]] = {
    "body_bytes": tuple(
        _Point(f"{size:,}", Work("invoke", f"bytes-{size}", size), 4)
        for size in (1_000, 10_000, 100_000, 1_000_000, 6_000_000)
    ),
    "events": tuple(
        _Point(f"{events:,}", Work("stream", f"burst-{events}-32"), 4, per_call=events)
        for events in (1, 10, 100, 1_000, 10_000)
    ),
    "in_flight": tuple(
        _Point(f"{calls:,}", Work("invoke", "bytes-1024"), calls) for calls in (1, 10, 100, 1_000)
    ),
}
_EACH = {"body_bytes": "call", "events": "event", "in_flight": "call"}


async def _measure_point(
    peers: Mapping[str, Peer], point: _Point, rounds: int
) -> dict[str, list[Sample]]:
    measures = {}
    for name, peer in peers.items():
        calls = await calibrate(peer, point.work, point.in_flight, _SECONDS)
        measures[name] = partial(peer.repeat, point.work, calls, point.in_flight)
    return await interleave(measures, rounds)


async def _measure_table(
    names: Sequence[str], url: str, points: Sequence[_Point], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Give the CPU seconds of each, by row and client."""
    connections = max(point.in_flight for point in points)
    costs = {}
    async with connected(names, url, connections) as peers:
        for point in points:
            samples = await _measure_point(peers, point, rounds)
            costs[point.label] = {
                name: [sample.cpu / sample.calls / point.per_call for sample in samples[name]]
                for name in names
            }
    return costs


async def _measure_streams(
    names: Sequence[str], url: str, loop: str, streams: int, rounds: int
) -> dict[str, list[Held]]:
    return await interleave(
        {name: partial(measure_peer, name, url, loop, streams) for name in names}, rounds
    )


def _render(
    title: str, unit: str, scale: float, costs: Mapping[str, Mapping[str, Sequence[float]]]
) -> tuple[str, Ratios]:
    """Give a table and its ratios."""
    found: Ratios = {}
    rows = []
    names: list[str] = []
    for label, by_name in costs.items():
        names = list(by_name)
        row = [label, *(f"{statistics.median(by_name[name]) * scale:,.1f}" for name in names)]
        for name in names:
            if name != OURS:
                times = ratio(by_name[OURS], by_name[name])
                found[f"{title}_{label.replace(',', '')}_vs_{name}"] = times
                row.append(f"{times:.2f}")
        rows.append(row)
    head = [
        title.replace("_", " "),
        *(f"{name} {unit}" for name in names),
        *(f"x {name}" for name in names if name != OURS),
    ]
    return tabulate(head, rows), found


def main() -> None:
    options = parse_options(__doc__, rounds=5, default_peers=(_BASE,), default_loops=("asyncio",))
    print(__doc__.partition("\n")[0])
    names = choose_peers(options.peers)
    ratios: dict[str, Ratios] = {}
    with serve() as url:
        for loop in options.loops:
            found = ratios[loop] = {}
            print(f"\n{loop}")
            for title, points in _TABLES.items():
                costs = run(partial(_measure_table, names, url, points, options.rounds), loop)
                table, more = _render(title, f"CPU µs/{_EACH[title]}", 1e6, costs)
                found |= more
                print(f"\n{table}")
            held = {
                f"{streams:,}": asyncio.run(
                    _measure_streams(names, url, loop, streams, max(1, options.rounds // 2))
                )
                for streams in _STREAMS
            }
            for title, unit, scale in (
                ("resident", "KiB/stream", 1 / 1024),
                ("cpu", "CPU µs/stream", 1e6),
            ):
                values = {
                    label: {
                        name: [float(getattr(sample, title)) for sample in by_name[name]]
                        for name in names
                    }
                    for label, by_name in held.items()
                }
                table, more = _render(f"open_streams_{title}", unit, scale, values)
                found |= more
                print(f"\n{table}")
    print_report("growth", ratios)


if __name__ == "__main__":
    main()
