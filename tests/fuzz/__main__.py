"""Fuzz for long: `python -m tests.fuzz --minutes 10 [TARGET ...]`.

Guided by coverage where atheris is installed, else by chance. Each target runs in a process of its
own, as many at once as there are cores. Bytes that show a fault are put into the corpus, so that
the suite tries them from then on.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

CORPUS = Path(__file__).parent / "corpus"
_MAX_LENGTH = 600  # bytes: a fault that needs more is not found by chance


def main() -> int:
    """Fuzz the targets and print a table of what was tried."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=1, help="of all targets together")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    arguments = parser.parse_args()
    if arguments.one:
        return _fuzz(arguments.targets[0], arguments.minutes * 60)
    names = arguments.targets or sorted(path.name for path in CORPUS.iterdir())
    at_once = min(os.cpu_count() or 1, len(names))
    minutes = arguments.minutes * at_once / len(names)
    with ThreadPoolExecutor(at_once) as pool:
        outcomes = dict(zip(names, pool.map(lambda name: _run(name, minutes), names), strict=True))
    how = "by coverage" if _is_guided() else "by chance"
    sys.stdout.write(f"\n| target | inputs, chosen {how} | |\n| --- | ---: | --- |\n")
    for name, (tried, fault) in outcomes.items():
        sys.stdout.write(f"| {name} | {tried:,} | {fault or 'sound'} |\n")
    sys.stdout.write(f"| all | {sum(tried for tried, _ in outcomes.values()):,} | |\n")
    return int(any(fault for _, fault in outcomes.values()))


def _is_guided() -> bool:
    return importlib.util.find_spec("atheris") is not None


def _run(name: str, minutes: float) -> tuple[int, str]:
    """Run one target in a process of its own; how many inputs, and what is wrong."""
    command = [sys.executable, "-m", "tests.fuzz", "--one", "--minutes", str(minutes), name]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    said = done.stdout + done.stderr
    counts = [
        int(line.rpartition(":")[2])
        for line in said.splitlines()
        if line.startswith("stat::number_of_executed_units:")
    ]
    tried = sum(counts)
    if done.returncode == 0 and tried:
        return tried, ""
    sys.stderr.write(said)
    return tried, f"FAULT (exit {done.returncode})"


def _fuzz(name: str, seconds: float) -> int:
    if _is_guided():
        return _fuzz_by_coverage(name, seconds)
    return _fuzz_by_chance(name, seconds)


def _fuzz_by_coverage(name: str, seconds: float) -> int:
    import atheris

    with atheris.instrument_imports(include=["aiosmrt"]):
        from tests.fuzz.targets import TARGETS
    with TemporaryDirectory() as found:
        options = (
            f"-max_total_time={int(seconds)}",
            f"-max_len={_MAX_LENGTH}",
            "-print_final_stats=1",
            f"-artifact_prefix={CORPUS / name}{os.sep}",
        )
        atheris.Setup([sys.argv[0], *options, found, str(CORPUS / name)], TARGETS[name])
        atheris.Fuzz()  # ends the process
    return 0


def _fuzz_by_chance(name: str, seconds: float) -> int:
    from tests.fuzz.mutations import mutate
    from tests.fuzz.targets import TARGETS

    chance = random.Random(time.time_ns())
    seeds = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    tried, end = 0, time.monotonic() + seconds
    data = b""
    try:
        while time.monotonic() < end:
            data = mutate(chance.choice(seeds), seeds, chance)[:_MAX_LENGTH]
            TARGETS[name](data)
            tried += 1
    except BaseException:
        (CORPUS / name / f"crash-{chance.randrange(1 << 32):08x}").write_bytes(data)
        raise
    finally:
        sys.stdout.write(f"stat::number_of_executed_units: {tried}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
