from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

StartCommand: TypeAlias = Callable[..., subprocess.Popen[Any]]
Serve: TypeAlias = Callable[..., AbstractContextManager[str]]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there it ends without a signal")


@pytest.fixture
def serve(start_command: StartCommand, tmp_path: Path) -> Serve:
    """Run `aiosmrt serve` in a folder of its own, and give its URL."""

    @contextmanager
    def _serve(*words: str) -> Iterator[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with start_command(
            *("serve", "--no-auth", *words),
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment,
        ) as process:
            try:
                assert process.stdout is not None
                yield process.stdout.readline().strip()
            finally:
                process.send_signal(signal.SIGTERM)
                rest, _ = process.communicate(timeout=20)
        assert (process.returncode, rest) == (0, "")

    return _serve


def _ask(url: str) -> str:
    request = urllib.request.Request(f"{url}/endpoints/e/invocations", b"x", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            text: str = response.read().decode()
            return text
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()
    except OSError:
        return "not there"


def _ask_until(url: str, wanted: str) -> None:
    deadline = time.monotonic() + 20
    while wanted not in _ask(url):
        assert time.monotonic() < deadline, f"never answered {wanted!r}"
        time.sleep(0.05)


def test_a_script_is_followed_and_what_comes_is_recorded(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text('[{"answer": {"text": "as written"}}]')
    (tmp_path / "mine.py").write_text("def model(request): return 'the model'")
    options = ("--script", "script.json", "--model", "mine:model", "--record", "recorded.json")
    with serve(*options) as url:
        assert [_ask(url) for _ in range(2)] == ["as written", "the model"]
    [step] = json.loads((tmp_path / "recorded.json").read_text())
    assert step["answer"]["text"] == "the model"
    with serve("--script", "recorded.json") as url:
        assert _ask(url) == "the model"
        assert "The script has no answer for InvokeEndpoint of 'e'" in _ask(url)


def test_a_change_is_served_at_the_same_address(serve: Serve, tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('[{"answer": {"text": "first", "times": null}}]')
    with serve("--reload", "--script", "script.json") as url:
        assert _ask(url) == "first"
        script.write_text("[nonsense")  # it has ended then, until this is mended
        _ask_until(url, "not there")
        script.write_text('[{"answer": {"text": "second", "times": null}}]')
        _ask_until(url, "second")


def test_it_ends_in_the_background_of_a_shell_too(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "aiosmrt", "serve", "--no-auth", "--reload"]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a child has it from such a shell
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path, env=environment)
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"http://")
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=10) == 0
        finally:
            process.terminate()
