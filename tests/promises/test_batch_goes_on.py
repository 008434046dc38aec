"""A batch that is killed at any moment goes on: each key once, and no more paid twice than were
in flight.

The endpoint is in a process of its own and counts; so is the command, which gets SIGKILL. Here it
is killed a few times; `AIOSMRT_KILLED_ROWS` is how many rows there are when it is killed ten times
at random moments (`make promises`: 20,000).
"""

from __future__ import annotations

import collections
import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

_ROWS: Final = int(os.environ.get("AIOSMRT_KILLED_ROWS", "0"))
_KILLS: Final = 10 if _ROWS else 2
_IN_FLIGHT: Final = 32 if _ROWS else 4
_COMMAND: Final = [sys.executable, "-m", "aiosmrt"]

_MODEL: Final = """
import asyncio, collections
counts = collections.Counter()

async def run(request):
    if request.body == b"counts":
        return counts
    counts[request.body.decode()] += 1
    await asyncio.sleep(0.01)
    return {"said": request.body.decode()}
"""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Where the endpoint is."""
    (tmp_path / "counting.py").write_text(_MODEL)
    with subprocess.Popen(
        [*_COMMAND, "serve", "--model", "counting:run", "--no-auth"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.kill()


def _count(url: str) -> collections.Counter[str]:
    """Give how often the model has run for each row."""
    request = urllib.request.Request(
        f"{url}/endpoints/e/invocations", data=b"counts", method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return collections.Counter(json.loads(answer.read()))


def _wait(process: subprocess.Popen[str], output: Path, size: int) -> None:
    """Wait until the output has so many bytes."""
    while not output.exists() or output.stat().st_size < size:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def test_each_key_is_there_once_and_no_more_is_paid_twice_than_was_in_flight(
    url: str, tmp_path: Path
) -> None:
    rows = _ROWS or 150
    keys = [f"row {number}" for number in range(rows)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps({'id': key})}\n" for key in keys))
    output = tmp_path / "out.jsonl"
    command = [
        *(*_COMMAND, "batch", "--endpoint-name", "e", "--endpoint-url", url),
        *("--region", "us-east-1", "--no-sign", "--resume"),
        *("--input", "rows.jsonl", "--output", "out.jsonl"),
        *("--key-path", "id", "--body-path", "id", "--max-in-flight", str(_IN_FLIGHT)),
    ]
    chance = random.Random(_ROWS)
    line = 240  # bytes, about
    for kill in range(_KILLS):
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            _wait(process, output, round((kill + chance.random()) / (_KILLS + 1) * rows * line))
            time.sleep(chance.random() * 0.02)
            process.kill()
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    written = [json.loads(line) for line in output.read_text().splitlines()]
    assert sorted(line["key"] for line in written) == sorted(keys)
    assert all(line["response"] == {"said": line["key"]} for line in written)
    counts = _count(url)
    assert set(counts) == set(keys)
    twice = counts.total() - rows
    told = re.search(r"([\d,]+) calls? made again", done.stderr)
    again = int(told[1].replace(",", "")) if told else 0
    sys.stdout.write(
        f"{rows} rows, {_KILLS} kills, {_IN_FLIGHT} in flight: {counts.total()} runs, of which "
        f"{twice} were the second of a row; {again} were said to be possible\n"
    )
    assert twice <= again <= _IN_FLIGHT * _KILLS
    assert not list(tmp_path.glob("*.reserve"))
