"""How many calls at a time `map` finds out, beside numbers that people would give.

    python -m benchmarks.concurrency

Three endpoints, each a process of its own: one that admits 16 calls of 50 ms at a time, one that
admits 300 a second, and one whose 16 places become 8 in the middle. Rows per second with several
fixed numbers in turn, without their first second, and with `"auto"`, from its first call on.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import Sequence
from typing import Literal

import attrs

import aiosmrt
from benchmarks.harness import Goal, Ratios, print_report, serve, tabulate
from benchmarks.peers import aiosmrt as ours

_CONNECTIONS = 100
_WARM_UP = 1.0  # seconds
_AS_GOOD = 0.98  # of the most rows per second: noise
_NEAR = 0.25  # of the best number
_CASES = {
    "slots": ("slots-16-50", (8, 12, 16, 20, 24, 32)),
    "rate": ("rate-300-50", (8, 12, 16, 20, 24, 32)),
    "halving": ("slots-8-50", (4, 6, 8, 10, 12, 16)),  # what is left, for fixed numbers
}
_GOALS = [
    Goal("{}_number_vs_best", "at least", 1 - _NEAR),
    Goal("{}_number_vs_best", "at most", 1 + _NEAR),
    Goal("{}_rows_per_second_vs_best", "at least", 0.9),
    Goal("{}_rows_lost", "at most", 0),
]


@attrs.define
class Run:
    """What became of rows, for some seconds.

    Attributes:
        began: when, as all times by `time.perf_counter`.
        ends: when each row was done.
        lost: rows that failed.
        limits: how many calls there could be from when on, and whether that was settled.
    """

    began: float
    ends: list[float] = attrs.field(factory=list)
    lost: int = 0
    limits: list[tuple[float, int, bool]] = attrs.field(factory=list)

    def count_rate(self, begin: float = 0, end: float | None = None) -> float:
        """Give the rows per second, from so many seconds behind its beginning on."""
        until = self.ends[-1] - self.began if end is None else end
        rows = sum(begin <= one - self.began < until for one in self.ends)
        return rows / (until - begin)

    def find_number(self, begin: float, end: float) -> float:
        """Give the number that was kept between two times, the median by time."""
        kept = [
            min(until - self.began, end) - max(since - self.began, begin)
            for (since, _, _), (until, _, _) in itertools.pairwise(
                [*self.limits, (self.ends[-1], 0, True)]
            )
        ]
        numbers = sorted(
            (calls, seconds)
            for seconds, (_, calls, settled) in zip(kept, self.limits, strict=True)
            if settled and seconds > 0
        )
        half, passed = sum(seconds for _, seconds in numbers) / 2, 0.0
        for calls, seconds in numbers:
            passed += seconds
            if passed >= half:
                return calls
        return 0

    def find_settled(self, begin: float = 0, near: float | None = None) -> float:
        """Give the seconds from then on until a number was settled, near that one."""
        for since, calls, settled in self.limits:
            passed = since - self.began - begin
            if settled and passed >= 0 and (near is None or abs(calls - near) <= _NEAR * near):
                return passed
        return float("inf")


async def _run(url: str, endpoint: str, number: int | Literal["auto"], seconds: float) -> Run:
    request: aiosmrt.InvokeEndpointParameters = {"endpoint_name": endpoint, "body": b"x" * 1024}
    async with ours.connect(url, _CONNECTIONS) as peer:
        run = Run(time.perf_counter())
        batch = peer.client.map(itertools.repeat(request), max_in_flight=number)
        async with batch:
            async for outcome in batch:
                now = time.perf_counter()
                if outcome.error is None:
                    run.ends.append(now)
                else:
                    run.lost += 1
                limit = peer.client.stats().limits.get(endpoint)
                if limit is not None:
                    found = (limit.calls, limit.settled)
                    if not run.limits or run.limits[-1][1:] != found:
                        run.limits.append((now, *found))
                if now - run.began >= seconds:
                    break
        return run


def _compare_numbers(
    endpoint: str, numbers: Sequence[int], seconds: float, rounds: int = 2
) -> tuple[int, float]:
    """Give the best of the numbers, the least that is as good as any, and the most rows/s."""
    rates: dict[int, list[float]] = {number: [] for number in numbers}
    with serve(module="benchmarks.admission") as url:
        for _ in range(rounds):
            for number in numbers:
                run = asyncio.run(_run(url, endpoint, number, seconds / rounds))
                rates[number].append(run.count_rate(_WARM_UP))
    found = {number: statistics.mean(rates[number]) for number in numbers}
    rows = [(str(number), f"{rate:,.0f}") for number, rate in found.items()]
    print(f"\n{tabulate((endpoint, 'rows/s'), rows)}", flush=True)
    most = max(found.values())
    return next(number for number in numbers if found[number] >= _AS_GOOD * most), most


def _run_auto(endpoint: str, seconds: float) -> Run:
    with serve(module="benchmarks.admission") as url:
        run = asyncio.run(_run(url, endpoint, "auto", seconds))
    told = [
        (f"{since - run.began:.1f}", str(calls), "kept" if settled else "tried")
        for since, calls, settled in run.limits
    ]
    print(f"\n{tabulate((f'{endpoint}, auto: s', 'calls', ''), told)}", flush=True)
    return run


def _judge_steady(name: str, endpoint: str, best: int, most: float, seconds: float) -> Ratios:
    run = _run_auto(endpoint, seconds)
    number, rate = run.find_number(0, seconds), run.count_rate()
    print(
        f"\n{name}: best {best} with {most:,.0f} rows/s; auto kept {number:g} first after "
        f"{run.find_settled():.1f} s, {rate:,.0f} rows/s over {seconds:g} s, {run.lost} lost"
    )
    return {
        f"{name}_number_vs_best": number / best,
        f"{name}_rows_per_second_vs_best": rate / most,
        f"{name}_rows_lost": run.lost,
    }


def _judge_halving(name: str, best: int, most: float, seconds: float) -> Ratios:
    half = seconds / 2
    run = _run_auto(f"slots-16-50-{half:.0f}", seconds)
    number, rate = run.find_number(half + 10, seconds), run.count_rate(half, seconds)
    took = run.find_settled(half, best)
    print(
        f"\n{name}: best of half {best} with {most:,.0f} rows/s; auto kept {number:g}, near that "
        f"after {took:.1f} s, {rate:,.0f} rows/s since the halving, {run.lost} lost"
    )
    return {
        f"{name}_number_vs_best": number / best,
        f"{name}_rows_per_second_vs_best": rate / most,
        f"{name}_rows_lost": run.lost,
        f"{name}_seconds": took,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=_CASES, default=_CASES)
    parser.add_argument("--seconds", type=int, default=60, help="of each run with auto")
    parser.add_argument("--fixed-seconds", type=int, default=12, help="of each number, in all")
    given = parser.parse_args()
    print(__doc__.partition("\n")[0])
    ratios: Ratios = {}
    for name in given.cases:
        endpoint, numbers = _CASES[name]
        best, most = _compare_numbers(endpoint, numbers, given.fixed_seconds)
        if name == "halving":
            ratios.update(_judge_halving(name, best, most, given.seconds))
        else:
            ratios.update(_judge_steady(name, endpoint, best, most, given.seconds))
    goals = [
        attrs.evolve(goal, ratio=goal.ratio.format(name)) for name in given.cases for goal in _GOALS
    ]
    goals.append(Goal("halving_seconds", "at most", 10))
    print_report("concurrency", {"asyncio": ratios}, goals)


if __name__ == "__main__":
    main()
