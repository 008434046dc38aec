"""A process that has imported the command, and whose children become it.

Python takes most of a second to start and import what the command needs; a fork some milliseconds.
What comes of it is a process as any other, with descriptors, signals and an exit status of its own.

Started with the descriptor of a socket. Who holds the other end sends a byte for each process that
is wanted, and with it four descriptors: a socket, and what will be standard input, output and
error. On that socket come arguments, environment and folder, as JSON to the end of what is sent,
and go two numbers of four bytes: the process's, and the status with which it has ended.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
from collections.abc import Sequence

import aiosmrt.cli

# Imported only where they are needed, beside the command's own.
_LATE = ("aiosmrt.client", "aiosmrt.local", "aiohttp.web", "botocore.credentials")


def main() -> None:
    """Make processes until nobody is there who could want one."""
    own = (module.name for module in pkgutil.iter_modules(aiosmrt.cli.__path__, "aiosmrt.cli."))
    for module in (*_LATE, *own):
        importlib.import_module(module)
    gc.freeze()  # or each child would copy what its collector looks at
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is for the tests
    watchers: list[int] = []
    while True:
        asked, descriptors, _, _ = socket.recv_fds(control, 1, 4)
        # Those that have ended are waited for, so that what they took counts as taken here.
        watchers = [watcher for watcher in watchers if os.waitpid(watcher, os.WNOHANG) == (0, 0)]
        if not asked:
            return
        watchers.append(os.fork())
        if watchers[-1] == 0:
            control.close()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the suite may be run by nohup
            _become_command(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _become_command(connection: int, *streams: int) -> None:
    """Fork once more: one becomes the command, the other tells how that ends."""
    with socket.socket(fileno=connection) as asking:
        process = os.fork()
        if process != 0:
            for stream in streams:
                os.close(stream)
            asking.sendall(process.to_bytes(4))
            _, status = os.waitpid(process, 0)
            asking.sendall(status.to_bytes(4))
            os._exit(0)
        given = json.loads(b"".join(iter(lambda: asking.recv(65536), b"")))
    _open(streams)
    os.chdir(given["folder"])
    os.environ.clear()
    os.environ.update(given["environment"])
    sys.path[0] = given["folder"]
    sys.argv[1:] = given["arguments"]
    runpy.run_module("aiosmrt", run_name="__main__", alter_sys=True)  # which exits


def _open(streams: Sequence[int]) -> None:
    """Open the standard streams as Python does when it starts."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    main()
