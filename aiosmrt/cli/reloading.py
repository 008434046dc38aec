"""`aiosmrt serve --reload`: a process that serves, and a new one whenever a file has changed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from aiosmrt.cli.terminal import warn

__all__ = ["serve_again"]

_PAUSE = 0.3  # seconds between looks
_ENDING = 5.0  # seconds that a process has to end
_FOREIGN = ("node_modules", "site-packages", "__pycache__")


def serve_again(arguments: Sequence[str], files: Sequence[Path]) -> int:
    """Serve until SIGINT or SIGTERM, anew at the same port when a file has changed.

    Watched are the Python files under the current folder, and those that are named. A process that
    has ended, for a mistake in one of them, is followed by the next when that is mended.

    Args:
        arguments: of the command.
        files: to be watched beside the others.
    """
    command = [sys.executable, "-m", "aiosmrt", *(word for word in arguments if word != "--reload")]
    known = _look(files)
    process, port = _start(command), ""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)  # what a shell starts in its background ignores SIGINT
    try:
        while True:
            port = port or _read_port(process)
            changed = _await_change(files, known)
            warn(f"{changed} has changed")
            _end(process)
            known = _look(files)
            process = _start([*command, *(("--port", port) if port else ())])
            if port and process.stdout is not None:
                process.stdout.readline()  # the URL is known
    except KeyboardInterrupt:
        return 0
    finally:
        _end(process)


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own


def _read_port(process: subprocess.Popen[str]) -> str:
    """Pass the URL on; nothing came where the process has ended before it served."""
    url = process.stdout.readline() if process.stdout is not None else ""
    sys.stdout.write(url)
    sys.stdout.flush()
    return str(urlsplit(url.strip()).port or "")


def _end(process: subprocess.Popen[str]) -> None:
    with process:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING)
        process.kill()


def _await_change(files: Sequence[Path], known: dict[str, int]) -> str:
    """Wait until a file is another one than it was, and give its path."""
    while True:
        time.sleep(_PAUSE)
        found = _look(files)
        if found != known:
            changed = known.items() ^ found.items()
            return min(path for path, _ in changed)


def _look(files: Sequence[Path]) -> dict[str, int]:
    """Give the times of the last changes, in nanoseconds."""
    times = {}
    for path in (*files, *_walk(Path())):
        with contextlib.suppress(OSError):
            times[str(path)] = path.stat().st_mtime_ns
    return times


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and name not in _FOREIGN
            and not (Path(root) / name / "pyvenv.cfg").exists()
        ]
        yield from (Path(root) / name for name in names if name.endswith(".py"))


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
