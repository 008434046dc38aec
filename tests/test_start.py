"""What a fresh process pays until its first answer: modules and CPU time, beside plain aiohttp."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import aiosmrt

# What only mistakes, streams, asynchronous inference, shared config files and observers need.
_NOT_NEEDED = {
    "aiosmrt.async_inference.client",
    "aiosmrt.eventstream",
    "aiosmrt.payload.documents",
    "aiosmrt.payload.lines",
    "aiosmrt.payload.text",
    "aiosmrt.response_stream",
    "aiosmrt.async_inference.s3",
    "aiosmrt.sessions",
    "aiosmrt.sse",
    "aiosmrt.payload.tokens",
    "aiosmrt.payload.view",
    "botocore",
    "concurrent.futures.thread",
    "difflib",
    "jmespath",
}

# An answer, and what was imported until then; then one more, by a stream.
_FIRST_CALL = """
import asyncio, sys, threading
import aiosmrt

started = []
start = threading.Thread.start
threading.Thread.start = lambda thread: (started.append(thread.name), start(thread))

async def main():
    async def answer(reader, writer):
        await reader.readuntil(b"\\r\\n\\r\\n")
        writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with aiosmrt.SageMakerRuntimeClient(endpoint_url=url) as client:
        response = await client.invoke_endpoint(endpoint_name="e", body=b"x", accept="text/csv")
        assert response.body == b"{}"
        assert response.json() == {}
        print(*sys.modules)
        print(*started)
        client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x")
        print(*sys.modules)
    server.close()

asyncio.run(main())
"""

_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "PATH": os.environ["PATH"],
}


def test_a_first_call_imports_no_more_than_it_needs_and_starts_no_thread() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FIRST_CALL],
        check=True,
        capture_output=True,
        text=True,
        env=_ENVIRONMENT,
    )
    modules, threads, later = (set(line.split()) for line in done.stdout.split("\n")[:3])
    assert {"aiosmrt.client", "aiosmrt.calls.caller"} <= modules
    assert not modules & _NOT_NEEDED
    assert not threads
    assert "aiosmrt.response_stream" in later
    # An expression is parsed where text is taken out of JSON by one.
    assert "jmespath" not in later


def test_every_public_name_can_be_imported_by_a_fresh_process() -> None:
    names = ", ".join(aiosmrt.__all__)
    program = f"from aiosmrt import {names}\nprint(eventstream.__name__, sse.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["aiosmrt.eventstream", "aiosmrt.sse"]


def test_late_names_are_listed_before_they_are_imported() -> None:
    program = "import aiosmrt, sys; print(*dir(aiosmrt)); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    names, modules = (set(line.split()) for line in done.stdout.splitlines())
    assert set(aiosmrt.__all__) <= names
    assert "aiosmrt.response_stream" not in modules


def _measure(module: str) -> float:
    """Give the CPU seconds, user and system, of a process that imports a module."""
    # Without byte code left behind, every one of them would be the first.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    process = subprocess.Popen([sys.executable, "-c", f"import {module}"], env=environment)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime


def test_the_import_costs_little_more_than_that_of_aiohttp() -> None:
    # In turns, and the least of each: what else runs on the machine can only add. It is 1.12 by
    # instructions; with botocore it would be 1.9.
    ours = theirs = math.inf
    for _ in range(5):
        ours, theirs = min(ours, _measure("aiosmrt")), min(theirs, _measure("aiohttp"))
        if ours <= 1.4 * theirs:
            break
    assert ours <= 1.6 * theirs
