"""The command, in processes of its own that cost little."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

import pytest

StartCommand: TypeAlias = Callable[..., subprocess.Popen[Any]]
RunCommand: TypeAlias = Callable[..., subprocess.CompletedProcess[Any]]

_FORKING = Path(__file__).with_name("forking.py")


@pytest.fixture(autouse=True)
def _no_signal_is_ignored() -> Iterator[None]:
    """What a shell starts in its background ignores SIGINT, and what `nohup` starts SIGHUP."""
    kept = [
        (number, signal.signal(number, usual))
        for number, usual in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGHUP, signal.SIG_DFL),
        )
    ]
    yield
    for number, before in kept:
        signal.signal(number, before)


class _Fork(subprocess.Popen[Any]):
    """A process of the command that `forking.py` makes, where `Popen` would start Python."""

    def __init__(self, control: socket.socket, arguments: tuple[str, ...], **options: Any) -> None:
        self._control = control
        super().__init__(arguments, **options)

    def _execute_child(self, arguments: tuple[str, ...], *options: Any) -> None:
        _, _, _, _, folder, environment, _, _, _, *pipes = options[:15]
        given = {
            "arguments": arguments,
            "environment": dict(os.environ if environment is None else environment),
            "folder": str(folder or Path.cwd()),
        }
        ends = (pipes[0], pipes[3], pipes[5])
        streams = [own if end == -1 else end for own, end in enumerate(ends)]
        self._watcher, other = socket.socketpair()
        with other:
            socket.send_fds(self._control, [b"+"], [other.fileno(), *streams])
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]
        self._watcher.sendall(json.dumps(given).encode())
        self._watcher.shutdown(socket.SHUT_WR)
        self.pid = int.from_bytes(self._watcher.recv(4))
        self._child_created = True

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._watcher.settimeout(timeout)
            try:
                status = self._watcher.recv(4)
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self.returncode = os.waitstatus_to_exitcode(int.from_bytes(status))
            self._watcher.close()
        return self.returncode


@pytest.fixture(scope="session")
def start_command() -> Iterator[StartCommand]:
    """Give what starts `aiosmrt` with these arguments, and takes the options of `Popen`."""
    if not hasattr(os, "fork"):
        command = (sys.executable, "-m", "aiosmrt")
        yield lambda *arguments, **options: subprocess.Popen([*command, *arguments], **options)
        return
    control, other = socket.socketpair()
    with other:
        forking = subprocess.Popen(
            [sys.executable, "-W", "error", _FORKING, str(other.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[other.fileno()],
        )
    with forking, control:  # it ends when the socket is closed
        yield lambda *arguments, **options: _Fork(control, arguments, **options)


@pytest.fixture(scope="session")
def run_command(start_command: StartCommand) -> RunCommand:
    """Give what runs `aiosmrt` to its end: arguments, standard input, more of the environment."""

    def run(
        *arguments: str,
        given: bytes | str = b"",
        stdout: IO[bytes] | int = subprocess.PIPE,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[Any]:
        with start_command(
            *arguments,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=isinstance(given, str),
            env={**os.environ, "PYTHONWARNINGS": "error", **(environment or {})},
        ) as process:
            try:
                out, err = process.communicate(given, timeout=30)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run
