"""Call for long while everything goes wrong: `python -m tests.soak --minutes 10`.

On asyncio and uvloop, plain and over TLS, a quarter of the time each; the server is a process of
its own. At the end nothing may be left, and the server's books and the client's agree. Writes the
table to `benchmarks/SOAK.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import datetime
import gc
import itertools
import json
import os
import platform
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final

import attrs
import trustme

import aiosmrt
from tests.soak.books import Books
from tests.soak.faults import WAYS
from tests.soak.load import Load
from tests.soak.watch import LONGEST, LOOPS, Complaints, Memory, Stopwatch, count_leftovers

__all__ = ["Finding", "soak"]

ROOT: Final = Path(__file__).parents[2]
_WIRES: Final = ("plain", "TLS")
_PATIENCE: Final = 15.0  # seconds until threads that have nothing to do end by themselves
_LAP: Final = 30.0  # seconds between two looks at memory


@attrs.frozen
class Finding:
    """What a run has shown.

    Attributes:
        loop: whose it was.
        wire: `plain` or `TLS`.
        seconds: how long it took.
        books: what became of the calls.
        left: how many sockets, tasks, threads and timers there are more than before.
        stopwatch: how long callbacks have taken.
        memory: what there was between laps.
        wrong: all that is not as it should be, in words.
    """

    loop: str
    wire: str
    seconds: float
    books: Books
    left: dict[str, int]
    stopwatch: Stopwatch
    memory: Memory
    wrong: list[str]


@contextlib.contextmanager
def _serve(certificate: Path | None, log: IO[str]) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.soak.server"]
    with subprocess.Popen(
        [*command, *([] if certificate is None else [str(certificate)])],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline())
        finally:
            server.kill()


async def _begin(load: Load, stopwatch: Stopwatch) -> dict[str, int]:
    before = count_leftovers(stopwatch)
    await load.begin()
    stopwatch.forget()
    return before


async def _end(load: Load, stopwatch: Stopwatch, before: dict[str, int]) -> dict[str, int]:
    await load.end()
    # Whose threads the loop would keep: the OpenAI SDK uses it.
    await asyncio.get_running_loop().shutdown_default_executor()
    deadline = time.monotonic() + _PATIENCE
    while True:
        gc.collect()
        now = count_leftovers(stopwatch)
        left = {name: count - before[name] for name, count in now.items()}
        if not any(left.values()) or time.monotonic() > deadline:
            return left
        await asyncio.sleep(0.2)


def soak(loop: str, wire: str, seconds: float, tasks: int = 200) -> Finding:
    """Call for so many seconds, and look at what is left.

    Args:
        loop: `asyncio` or `uvloop`.
        wire: `plain` or `TLS`.
        seconds: how long.
        tasks: how many call at a time.
    """
    stopwatch, memory, complaints = Stopwatch(), Memory(), Complaints()
    laps = max(1, round(seconds / _LAP))

    def make_loop() -> Any:
        made = LOOPS[loop]()
        made.stopwatch = stopwatch
        return made

    with TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        trust = certificate = None
        if wire == "TLS":
            authority, certificate = trustme.CA(), Path(folder, "certificate.pem")
            authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
                certificate
            )
            trust = ssl.create_default_context()
            authority.configure_trust(trust)
        log = stack.enter_context(Path(folder, "log").open("w+"))
        server = stack.enter_context(_serve(certificate, log))
        load = Load(server["url"], trust, Books(server["books"]))
        stack.enter_context(stopwatch.run())
        stack.enter_context(complaints.listen())
        runner = stack.enter_context(asyncio.Runner(loop_factory=make_loop))
        before = runner.run(_begin(load, stopwatch))
        for _ in range(laps):
            runner.run(load.run(seconds / laps, tasks))
            memory.rest(load.books.outcomes.total())
        left = runner.run(_end(load, stopwatch, before))
        timers = stopwatch.name_timers()  # before the loop sets one to close itself
        log.seek(0)
        said = log.read()
    wrong = [*load.books.wrong, *load.wrong]
    wrong += [f"logged: {each}, {number} times" for each, number in complaints.told.items()]
    wrong += [f"the server says: {said}"] if said else []
    wrong += [f"{count} {name} are left" for name, count in left.items() if count > 0]
    wrong += [f"a timer is left: {name}" for name in timers]
    wrong += [f"{name} held the loop too long" for name in stopwatch.late]
    if memory.grows:
        wrong.append("memory grows by {:.0f} ± {:.0f} bytes a call".format(*memory.find_slope()))
    return Finding(loop, wire, seconds, load.books, left, stopwatch, memory, wrong)


def _describe(finding: Finding) -> list[str]:
    outcomes, counted = finding.books.outcomes, finding.books.counted
    watch, slope = finding.stopwatch, finding.memory.find_slope()

    def count(*outcome: str, ways: Iterable[str] = WAYS) -> int:
        return sum(outcomes[each] for each in itertools.product(ways, outcome or _OUTCOMES))

    return [
        f"{finding.loop}, {finding.wire}",
        f"{finding.seconds:.0f} s",
        *(f"{count(outcome):,}" for outcome in _OUTCOMES),
        f"{count('ok') / max(1, count()):.0%}",
        *(f"{count('ok', ways=[way]):,} of {count(ways=[way]):,}" for way in (*WAYS, "s3")),
        *(f"{counted[name]:,}" for name in ("attempts", "whole", "ran")),
        *(str(finding.left[name]) for name in ("sockets", "tasks", "threads", "timers")),
        str(sum("slots" in wrong for wrong in finding.wrong)),
        "{:.1f} to {:.1f}".format(*finding.memory.find_span()),
        "{:+.0f} ± {:.0f}".format(*slope) if any(slope) else "too few laps",
        f"{watch.longest[0] * 1000:.1f} ms",
        f"{watch.longest_wall[0] * 1000:.0f} ms",
        f"{watch.longest_pause * 1000:.0f} ms",
        f"{len(finding.wrong)}",
    ]


_OUTCOMES: Final = ("ok", "error", "cancelled", "left")
_COLUMNS: Final = (
    *("loop, wire", "time", *_OUTCOMES, "of all, ok"),
    *(f"ok, {way}" for way in WAYS),
    "ok, requests to S3",
    *("attempts", "received whole", "ran", "sockets", "tasks", "threads", "timers", "slots"),
    *("MiB at rest", "growth, bytes a call", "longest callback, CPU", "by the wall"),
    *("collector", "wrong"),
)


_HOW: Final = """\
{tasks} tasks invoke, stream, wait for asynchronous inference, map batches, hold sessions and chat
by the OpenAI SDK, against a scripted endpoint in a process of its own. A quarter of the calls meets
one of some thirty faults; connections are reset or hang, endpoints have no capacity; calls are
broken off, clients closed under them and replaced, keys renewed every few seconds, wrong or not to
be had at times."""
_WHAT: Final = """\
Sockets to slots are what is left when all is closed. A callback may take {longest:.0f} ms of the
processor, the collector's pauses apart; what it took by the clock on the wall has the waits of a
busy machine in it. Memory is that of a process in which nothing is under way and garbage is
collected, after each lap of {lap:.0f} seconds, the first third of them apart: what is resident, the
least and the most; and how what allocators have given out grows, in bytes a call, with twice their
standard error. Wrong is whatever is not as it should be, an error in a log, and books that do not
agree: for each call that ended, how often the server has received it whole and how often it reached
the model, beside its attempts and its `may_have_run`."""


def _tabulate(rows: Iterable[Iterable[str]]) -> list[str]:
    header, *lines = (f"| {' | '.join(row)} |" for row in rows)
    rule = "|".join([" --- ", *(" ---: " for _ in range(header.count("|") - 2))])
    return [header, f"|{rule}|", *lines]


def _count_errors(findings: list[Finding]) -> Iterator[list[str]]:
    yield ["error", *(f"{finding.loop}, {finding.wire}" for finding in findings)]
    each = [finding.books.errors for finding in findings]
    for name, _ in sum(each, collections.Counter[str]()).most_common():
        yield [f"`{name}`", *(f"{errors[name]:,}" for errors in each)]


def _report(findings: list[Finding], tasks: int) -> str:
    rows = zip(_COLUMNS, *map(_describe, findings), strict=True)
    machine = (
        f"Python {platform.python_version()}, aiohttp {version('aiohttp')}, uvloop "
        f"{version('uvloop')}, {os.cpu_count()} cores ({platform.machine()}), load average "
        f"{os.getloadavg()[0]:.1f} at the end."
    )
    minutes = sum(finding.seconds for finding in findings) / 60
    today = datetime.datetime.now(datetime.UTC)
    return "\n".join(
        [
            "# Soak",
            "",
            f"{minutes:.3g} minutes, {today:%Y-%m-%d}, aiosmrt {aiosmrt.__version__}. {machine}",
            "",
            _HOW.format(tasks=tasks),
            "",
            *_tabulate(rows),
            "",
            _WHAT.format(longest=LONGEST * 1000, lap=_LAP),
            "",
            "What those ended with that failed, by the service's code where there is one:",
            "",
            *_tabulate(_count_errors(findings)),
            "",
        ]
    )


def main() -> int:
    """Run all four, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=10, help="of all four together")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "SOAK.md")
    arguments = parser.parse_args()
    findings = []
    for loop in LOOPS:
        for wire in _WIRES:
            finding = soak(loop, wire, arguments.minutes * 15, arguments.tasks)
            findings.append(finding)
            sys.stdout.write(f"{dict(zip(_COLUMNS, _describe(finding), strict=True))}\n")
            sys.stdout.writelines(f"  WRONG: {wrong}\n" for wrong in finding.wrong[:20])
            sys.stdout.flush()
    arguments.output.write_text(_report(findings, arguments.tasks))
    return int(any(finding.wrong for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
