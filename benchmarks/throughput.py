"""How fast calls go and what CPU they take, of every client: the core of two questions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial

from benchmarks.harness import (
    OURS,
    Goal,
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
from benchmarks.peers import PEERS, Sample, Work

__all__ = ["ask"]

_IN_FLIGHT = 32
_SECONDS = 0.35  # of a sample
# Their processes and threads do not depend on our loop.
_LOOPLESS = ("boto3", "javascript")


async def _measure(
    names: Sequence[str], url: str, work: Work, rounds: int
) -> dict[str, list[Sample]]:
    async with connected(names, url, _IN_FLIGHT) as peers:
        measures = {}
        for name, peer in peers.items():
            calls = await calibrate(peer, work, _IN_FLIGHT, _SECONDS)
            measures[name] = partial(peer.repeat, work, calls, _IN_FLIGHT)
        return await interleave(measures, rounds)


def ask(
    question: str,
    description: str,
    *,
    work: Work,
    unit: str,
    per_call: int = 1,
    goals: Sequence[Goal],
    rounds: int = 9,
) -> None:
    """Measure that work, and print rows and ratios.

    Args:
        question: its name.
        description: what the first line of the report says.
        work: what is measured.
        unit: what is counted: calls, events.
        per_call: how many of them a call has.
        goals: what the ratios should be.
        rounds: pairs by default.
    """
    options = parse_options(description, rounds=rounds, peers=PEERS)
    print(description.strip())
    names = choose_peers(options.peers)
    ratios: dict[str, Ratios] = {}
    with serve() as url:
        for loop in options.loops:
            chosen = [n for n in names if loop == options.loops[0] or n not in _LOOPLESS]
            samples = run(partial(_measure, chosen, url, work, options.rounds), loop)
            rates = {n: [s.calls * per_call / s.wall for s in samples[n]] for n in chosen}
            costs = {n: [s.cpu / s.calls / per_call * 1e6 for s in samples[n]] for n in chosen}
            found = ratios[loop] = {}
            rows = []
            for name in chosen:
                faster, cheaper = ratio(rates[OURS], rates[name]), ratio(costs[OURS], costs[name])
                if name != OURS:
                    found[f"{unit}_per_second_vs_{name}"] = faster
                    found[f"cpu_vs_{name}"] = cheaper
                rows.append(
                    (
                        name,
                        f"{statistics.median(rates[name]):,.0f}",
                        f"{statistics.median(costs[name]):,.1f}",
                        f"{faster:.2f}",
                        f"{cheaper:.2f}",
                    )
                )
            head = (loop, f"{unit}/s", "CPU µs each", f"{OURS}: {unit}/s x", f"{OURS}: CPU x")
            print(f"\n{tabulate(head, rows)}")
    print_report(question, ratios, goals)
