from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from aiosmrt.errors import ConfigurationError
from aiosmrt.local import serve

_PROGRAM = "import asyncio; from aiosmrt.local import serve; asyncio.run(serve())"


@pytest.mark.skipif(sys.platform == "win32", reason="the event loop watches no signals there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", _PROGRAM]
    # Standard output into a pipe is buffered unless somebody asked for less.
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().rstrip("\n")
        with urllib.request.urlopen(f"{url}/ping", timeout=10) as response:
            assert response.status == 200
        process.send_signal(number)
        rest, errors = process.communicate(timeout=30)
    # In development mode asyncio tells of steps that a busy machine has made long.
    said = [line for line in errors.splitlines() if not re.match("Executing .+ took", line)]
    assert (process.returncode, rest, said) == (0, "", [])


async def _read_line(capsys: pytest.CaptureFixture[str]) -> str:
    while not (line := capsys.readouterr().out):  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.001)
    return line


@pytest.mark.asyncio
async def test_cancelling_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    task = asyncio.create_task(serve(host="127.0.0.1"))
    line = await _read_line(capsys)
    port = int(line.removeprefix("http://127.0.0.1:"))
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(OSError, match=r"refused|failed"):
        await asyncio.open_connection("127.0.0.1", port)
    assert signal.getsignal(signal.SIGTERM) == before


def test_it_runs_in_another_thread_too(capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> str:
        task = asyncio.create_task(serve())
        line = await _read_line(capsys)
        task.cancel()
        await asyncio.wait([task])
        return line

    async def start() -> str:
        return await asyncio.to_thread(asyncio.run, run())

    assert asyncio.run(start()).startswith("http://127.0.0.1:")


@pytest.mark.asyncio
async def test_it_runs_where_the_loop_watches_no_signals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError  # as the event loops of Windows do

    monkeypatch.setattr(asyncio.get_running_loop(), "add_signal_handler", refuse)
    task = asyncio.create_task(serve())
    assert (await _read_line(capsys)).startswith("http://127.0.0.1:")
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@pytest.mark.asyncio
async def test_contradicting_arguments_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="exclude each other"):
        await serve(lambda request: b"", upstream="http://127.0.0.1:8080")
