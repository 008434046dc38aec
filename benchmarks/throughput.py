"""How fast calls go and what CPU they take, of every client: the core of two questions."""

from __future__ import annotations

import ssl
import statistics
from collections.abc import Sequence
from functools import partial

import attrs

from benchmarks.harness import (
    OURS,
    WIRES,
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
    serve_tls,
    tabulate,
)
from benchmarks.peers import PEERS, TLS_PEERS, Sample, Work

__all__ = ["ask"]

_IN_FLIGHT = 32
_SECONDS = 0.35  # of a sample
# Their processes and threads do not depend on our loop.
_LOOPLESS = ("boto3", "javascript")


@attrs.frozen
class _Question:
    """What is measured, and in which words."""

    work: Work
    unit: str  # what is counted: calls, events
    per_call: int  # how many of them a call has
    rounds: int


async def _measure(
    question: _Question, names: Sequence[str], url: str, tls: ssl.SSLContext | None
) -> dict[str, list[Sample]]:
    work = question.work
    async with connected(names, url, _IN_FLIGHT, tls) as peers:
        measures = {}
        for name, peer in peers.items():
            calls = await calibrate(peer, work, _IN_FLIGHT, _SECONDS)
            measures[name] = partial(peer.repeat, work, calls, _IN_FLIGHT)
        return await interleave(measures, question.rounds)


def _compare(
    question: _Question,
    names: Sequence[str],
    loop: str,
    url: str,
    tls: ssl.SSLContext | None = None,
) -> Ratios:
    """Measure on one loop, print the rows, and give the ratios."""
    unit, per_call = question.unit, question.per_call
    samples = run(partial(_measure, question, names, url, tls), loop)
    rates = {n: [s.calls * per_call / s.wall for s in samples[n]] for n in names}
    costs = {n: [s.cpu / s.calls / per_call * 1e6 for s in samples[n]] for n in names}
    found: Ratios = {}
    rows = []
    for name in names:
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
    title = loop if tls is None else f"{loop}, TLS"
    head = (title, f"{unit}/s", "CPU µs each", f"{OURS}: {unit}/s x", f"{OURS}: CPU x")
    print(f"\n{tabulate(head, rows)}")
    return found


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
    """Measure that work, plain and over TLS, and print rows and ratios.

    Args:
        question: its name.
        description: what the first line of the report says.
        work: what is measured.
        unit: what is counted: calls, events.
        per_call: how many of them a call has.
        goals: what the ratios should be; those over TLS begin with `tls_`.
        rounds: pairs by default.
    """
    options = parse_options(description, rounds=rounds, peers=PEERS, wires=WIRES)
    print(description.strip())
    names = choose_peers(options.peers)
    asked = _Question(work, unit, per_call, options.rounds)
    ratios: dict[str, Ratios] = {loop: {} for loop in options.loops}
    if "plain" in options.wires:
        with serve() as url:
            for loop in options.loops:
                chosen = [n for n in names if loop == options.loops[0] or n not in _LOOPLESS]
                ratios[loop] |= _compare(asked, chosen, loop, url)
    if "tls" in options.wires:
        with serve_tls() as (url, tls):
            for loop in options.loops:
                found = _compare(asked, [n for n in names if n in TLS_PEERS], loop, url, tls)
                ratios[loop] |= {f"tls_{name}": value for name, value in found.items()}
    print_report(question, ratios, goals)
