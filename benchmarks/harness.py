"""What the questions share: a server of their own, pairs in turn, medians of ratios, a report."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import ssl
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias, TypeVar

import attrs

from benchmarks.peers import ASYNC_PEERS, Peer, Work, connect, explain_absence

__all__ = [
    "LOOPS",
    "OURS",
    "WIRES",
    "Goal",
    "Options",
    "Ratios",
    "calibrate",
    "choose_peers",
    "connected",
    "interleave",
    "parse_options",
    "print_report",
    "ratio",
    "run",
    "serve",
    "serve_tls",
    "tabulate",
]

OURS = "aiosmrt"
LOOPS = ("asyncio", "uvloop")
WIRES = ("plain", "tls")

T = TypeVar("T")
Ratios: TypeAlias = dict[str, float]


@attrs.frozen
class Goal:
    """What a ratio should be, and what it might be at best."""

    ratio: str
    kind: Literal["at least", "at most"]
    wanted: float
    hoped: float | None = None

    def describe(self, measured: float) -> str:
        """Say what was wanted and what there is."""
        met = measured >= self.wanted if self.kind == "at least" else measured <= self.wanted
        beyond = "" if self.hoped is None else f", hoped for {self.hoped:g}"
        return (
            f"{self.ratio}: {measured:.2f}, wanted {self.kind} {self.wanted:g}{beyond}: "
            f"{'met' if met else 'MISSED'}"
        )


@attrs.frozen
class Options:
    """What a question was asked on its command line."""

    rounds: int
    loops: tuple[str, ...]
    peers: tuple[str, ...]
    wires: tuple[str, ...]


def parse_options(
    description: str,
    *,
    rounds: int,
    peers: Sequence[str] = ASYNC_PEERS,
    default_peers: Sequence[str] | None = None,
    default_loops: Sequence[str] = LOOPS,
    wires: Sequence[str] = WIRES[:1],
) -> Options:
    """Read the command line.

    Args:
        description: what `--help` says.
        rounds: how many pairs, unless it says otherwise.
        peers: whom it may name.
        default_peers: whom it need not name, `None` for all of them.
        default_loops: the same of event loops.
        wires: on which it is asked, plain HTTP or TLS.
    """
    peers = [peer for peer in peers if peer != OURS]
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds, help=f"pairs, {rounds} by default")
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=default_loops)
    parser.add_argument("--peers", nargs="*", choices=peers, default=default_peers or peers)
    parser.add_argument("--wires", nargs="+", choices=wires, default=wires)
    given = parser.parse_args()
    return Options(
        rounds=given.rounds,
        loops=tuple(loop for loop in given.loops if _is_there(loop)),
        peers=(OURS, *given.peers),
        wires=tuple(wire for wire in given.wires if wire != "tls" or _is_there("trustme", "tls")),
    )


def _is_there(module: str, needed_for: str | None = None) -> bool:
    there = find_spec(module) is not None
    if not there:
        print(f"{needed_for or module}: skipped, {module} is not installed")
    return there


def run(main: Callable[[], Awaitable[T]], loop: str) -> T:
    """Run to its end on a fresh loop of that kind."""

    async def begin() -> T:
        return await main()

    if loop == "uvloop":
        import uvloop  # noqa: PLC0415 - it need not be there

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(begin())
    return asyncio.run(begin())


@contextmanager
def serve(*arguments: str, module: str = "benchmarks.server") -> Iterator[str]:
    """Run the server in a process of its own, and give its URL."""
    # A file for every stream, here and there.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()


@contextmanager
def serve_tls() -> Iterator[tuple[str, ssl.SSLContext]]:
    """Do so over TLS, and give also the context that trusts it."""
    import trustme  # noqa: PLC0415 - it need not be there

    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with TemporaryDirectory() as folder:
        certificate = Path(folder, "certificate.pem")
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
        with serve(str(certificate)) as url:
            yield url, context


def choose_peers(names: Sequence[str]) -> list[str]:
    """Leave out whom there is not, and say so."""
    chosen = []
    for name in names:
        absent = explain_absence(name)
        if absent is None:
            chosen.append(name)
        else:
            print(f"{name}: skipped, {absent}")
    return chosen


@asynccontextmanager
async def connected(
    names: Sequence[str], url: str, connections: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[dict[str, Peer]]:
    """Make these clients, and close them."""
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(connect(name, url, connections, tls))
            for name in names
        }


async def calibrate(peer: Peer, work: Work, in_flight: int, seconds: float) -> int:
    """Warm up, connections too, and give the calls that take about so many seconds."""
    await peer.repeat(work, in_flight, in_flight)
    sample = await peer.repeat(work, in_flight, in_flight)
    turns = round(seconds / sample.wall * sample.calls / in_flight)
    return max(turns, 1) * in_flight


async def interleave(
    measures: Mapping[str, Callable[[], Awaitable[T]]], rounds: int
) -> dict[str, list[T]]:
    """Take a sample of each in turn, round after round, each round with another one first."""
    names = list(measures)
    samples: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            samples[name].append(await measures[name]())
    return samples


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Give the median of the ratios of the pairs."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def tabulate(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def print_report(question: str, ratios: Mapping[str, Ratios], goals: Sequence[Goal] = ()) -> None:
    """Print how the goals stand, and as the last line the ratios, by event loop."""
    print()
    for loop, found in ratios.items():
        for goal in goals:
            if goal.ratio in found:
                print(f"{loop}: {goal.describe(found[goal.ratio])}")
    rounded = {
        loop: {name: round(value, 3) for name, value in found.items()}
        for loop, found in ratios.items()
    }
    print(json.dumps({"question": question, "ratios": rounded}))
