"""The AWS SDK for JavaScript v3, in a process of node that takes orders line by line."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.peers.peer import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Peer, Sample, Work

# Where `make bench` has npm install it.
FOLDER = Path(__file__).parents[2] / ".venv-bench" / "node"

_SDK = "@aws-sdk/client-sagemaker-runtime"
_PROGRAM = Path(__file__).with_name("javascript.cjs")


def read_version() -> str | None:
    """Name the versions of node and of the SDK, `None` where one of them is missing."""
    node, package = shutil.which("node"), FOLDER / "node_modules" / _SDK / "package.json"
    if node is None or not package.exists():
        return None
    done = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    return f"node {done.stdout.strip()}, {_SDK} {json.loads(package.read_text())['version']}"


class Client(Peer):
    def __init__(self, process: Process) -> None:
        self._process = process

    async def repeat(self, work: Work, calls: int, in_flight: int) -> Sample:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {
            "operation": work.operation,
            "endpoint": work.endpoint,
            "size": work.size,
            "calls": calls,
            "inFlight": in_flight,
        }
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        answer = json.loads(await self._process.stdout.readline())
        return Sample(calls, answer["wall"], answer["cpu"])


@asynccontextmanager
async def connect(url: str, connections: int) -> AsyncIterator[Client]:
    process = await asyncio.create_subprocess_exec(
        "node",
        _PROGRAM,
        FOLDER,
        url,
        str(connections),
        stdin=PIPE,
        stdout=PIPE,
        env={
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_REGION": REGION,
            "NODE_NO_WARNINGS": "1",
        },
    )
    try:
        yield Client(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
