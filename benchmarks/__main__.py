"""Ask every question in turn, and write RESULTS.md.

python -m benchmarks
"""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.peers.javascript import read_version

QUESTIONS = (
    "invoke",
    "burst",
    "paced",
    "decoder",
    "cold_start",
    "memory",
    "latency",
    "hashing",
    "batch",
    "growth",
    "telemetry",
    "openai_sdk",
)

_RESULTS = Path(__file__).with_name("RESULTS.md")
_DISTRIBUTIONS = (
    "aiosmrt",
    "aiohttp",
    "aiobotocore",
    "botocore",
    "boto3",
    "capo-sagemaker-runtime",
    "opentelemetry-sdk",
    "openai",
    "httpx2",
    "uvloop",
)


def _describe_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _describe_commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "--no-optional-locks", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=_RESULTS.parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _describe_versions() -> list[str]:
    found = [f"{platform.python_implementation()} {platform.python_version()}"]
    for name in _DISTRIBUTIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    node = read_version()
    found.append("node not installed" if node is None else node)
    return found


def _describe_machine() -> str:
    load = os.getloadavg()[0]
    lines = [
        f"- date: {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        f"- commit: {_describe_commit()}",
        f"- machine: {os.cpu_count()} x {_describe_processor()}, load before {load:.1f}",
        f"- system: {platform.system()} {platform.release()}",
        f"- versions: {', '.join(_describe_versions())}",
    ]
    return "\n".join(lines)


def _ask(question: str) -> str:
    """Give what the question prints, while it also goes to the terminal."""
    command = [sys.executable, "-m", f"benchmarks.{question}"]
    printed = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            printed.append(line)
    if process.returncode != 0:
        raise SystemExit(f"benchmarks.{question} failed")
    return "".join(printed).rstrip()


def main() -> None:
    machine = _describe_machine()
    sections = []
    for question in QUESTIONS:
        print(f"\n== {question}")
        sections.append(f"## {question}\n\n```text\n{_ask(question)}\n```")
    introduction = (
        "# Results\n\nWritten by `make bench`; README.md says how to read them. Ratios count, "
        "absolute times belong to the machine.\n"
    )
    _RESULTS.write_text("\n\n".join((f"{introduction}\n{machine}", *sections)) + "\n")
    print(f"\nwritten to {_RESULTS}")


if __name__ == "__main__":
    main()
