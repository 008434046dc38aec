"""Rows through Ray Data on two actors, beside one process with as many calls in flight.

    python -m benchmarks.ray_data

Where a model takes no time, and where it takes 50 ms; with one batch of an actor after another, and
with four at a time. Rows per second over the whole job, actors' start included, and from the first
answer to the last. Then the CPU of all processes that took part. It needs the extra `aiosmrt[ray]`.
Ray gives its workers a niceness of 15, which starves them beside other work: here it is 0.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import aiosmrt
from benchmarks.harness import Ratios, print_report, serve, tabulate
from benchmarks.peers import Work
from benchmarks.peers import aiosmrt as ours
from benchmarks.peers.peer import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

_WORKS = {0: Work("invoke", "bytes-1024"), 50: Work("invoke", "bytes-1024-50")}  # by ms
_ACTORS, _IN_FLIGHT, _BATCH = 2, 32, 256
_TICKS = os.sysconf("SC_CLK_TCK")  # a second
_Rates = tuple[float, float]  # rows/s: over all, and from the first answer to the last


def _rate(rows: int, took: float, ends: list[float]) -> _Rates:
    assert len(ends) == rows
    return rows / took, rows / (max(ends) - min(ends))


async def _run_alone(url: str, work: Work, rows: int) -> _Rates:
    request: aiosmrt.InvokeEndpointParameters = {"endpoint_name": work.endpoint, "body": work.body}
    in_flight = _ACTORS * _IN_FLIGHT
    async with ours.connect(url, in_flight) as peer:
        began, ends = time.time(), []
        inputs = (request for _ in range(rows))
        async for outcome in peer.client.map(inputs, max_in_flight=in_flight):
            assert outcome.error is None
            ends.append(time.time())
        return _rate(rows, time.time() - began, ends)


def _run_on_ray(work: Work, rows: int, calls: int) -> _Rates:
    import ray.data  # noqa: PLC0415 - it need not be there

    from aiosmrt.ray import Invoke  # noqa: PLC0415 - it imports what this module does not use

    began = time.time()
    dataset = ray.data.from_items([{"id": row, "body": work.body} for row in range(rows)])
    answered = dataset.map_batches(
        Invoke,
        fn_constructor_kwargs={
            "endpoint_name": work.endpoint,
            "max_in_flight": _IN_FLIGHT,
            "response": lambda _: time.time(),
        },
        compute=ray.data.ActorPoolStrategy(size=_ACTORS, max_concurrent_calls_per_actor=calls),
        batch_size=_BATCH,
        num_cpus=0.5,
    ).take_all()
    took = time.time() - began
    assert {row["id"] for row in answered} == set(range(rows))
    return _rate(rows, took, [row["response"] for row in answered])


def _read_cpu() -> dict[int, tuple[str, float]]:
    """Give the kind of each process, and the seconds of CPU that it has used until now."""
    used = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(entry.name) == os.getpid():
            kind = "this process"
        elif "MapWorker" in command:
            kind = "actors"
        elif int(fields[1]) == os.getpid() and "benchmarks.server" in command:
            kind = "server"
        elif "ray::" in command or "/ray/" in command:
            kind = "Ray's other processes"
        else:
            continue
        used[int(entry.name)] = kind, (int(fields[11]) + int(fields[12])) / _TICKS
    return used


def _tell_cpu(before: dict[int, tuple[str, float]]) -> str:
    """Tell what processes that are there have used since."""
    spent: defaultdict[str, float] = defaultdict(float)
    for number, (kind, seconds) in _read_cpu().items():
        spent[kind] += seconds - before.get(number, ("", 0.0))[1]
    return ", ".join(f"{kind} {seconds:.1f}" for kind, seconds in spent.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    given = parser.parse_args()
    try:
        import ray.data  # noqa: PLC0415 - it need not be there
    except ImportError:
        print("ray_data: skipped, ray is not installed")
        return
    print(__doc__.partition("\n")[0])
    found: Ratios = {}
    with serve() as url:
        variables = {
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        }
        os.environ.setdefault("RAY_worker_niceness", "0")
        began = time.time()
        ray.init(
            num_cpus=2,
            runtime_env={"env_vars": variables},
            include_dashboard=False,
            log_to_driver=False,
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        print(f"\nray.init() took {time.time() - began:.1f} s")
        try:
            for milliseconds, work in _WORKS.items():
                rates = {}
                runs: dict[str, Callable[[Work], _Rates]] = {
                    "one process": lambda work: asyncio.run(_run_alone(url, work, given.rows)),
                    "two actors": partial(_run_on_ray, rows=given.rows, calls=1),
                    "two actors, 4 batches each": partial(_run_on_ray, rows=given.rows, calls=4),
                }
                for name, run in runs.items():
                    before = _read_cpu()
                    rates[name] = run(work)
                    told = _tell_cpu(before)
                    print(f"{milliseconds} ms, {name}: CPU seconds: {told}", flush=True)
                alone, *_ = rates.values()
                rows = [
                    (name, f"{whole:,.0f}", f"{moving:,.0f}", f"{moving / alone[1]:.2f}")
                    for name, (whole, moving) in rates.items()
                ]
                head = (f"{milliseconds} ms", "rows/s", "rows/s moving", "x one process")
                print(f"\n{tabulate(head, rows)}\n", flush=True)
                found[f"at_{milliseconds}_ms_vs_one_process"] = (
                    rates["two actors, 4 batches each"][1] / alone[1]
                )
        finally:
            ray.shutdown()
    print_report("ray_data", {"asyncio": found})


if __name__ == "__main__":
    main()
