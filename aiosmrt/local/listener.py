"""Where connections come in, and what a script does to them before there is a request."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from aiosmrt.errors import ConfigurationError
from aiosmrt.local.raw_answer import reset_connection
from aiosmrt.local.steps import Step, Steps, ignore_changes

__all__ = ["Listener"]

_BACKLOG = 128
_MARGIN = 0.01  # seconds that a timer may be early
# Connections of our own that fill a queue that is made as short as it can be: Linux takes one more
# than it is told, and then answers no other.
_FILLERS = 2


class Listener:
    """Listens for an aiohttp server, whose connections it can reset, or not take at all.

    Args:
        server: speaks HTTP on connections.
        steps: of the script.
        tls: the server's context, for https.
    """

    def __init__(self, server: web.Server, steps: Steps, tls: ssl.SSLContext | None) -> None:
        self._server = server
        self._steps = steps
        self._tls = tls
        self._busy: set[object] = set()
        self._listening: asyncio.Server | None = None
        self._blocked: list[socket.socket] = []
        self._fillers: list[socket.socket] = []
        self._hanging: Step | None = None  # that connections hang for, or did last
        self._timer: asyncio.TimerHandle | None = None
        self._resuming: asyncio.Task[None] | None = None

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and give the first address.

        Raises:
            ConfigurationError: the address cannot be used.
        """
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        try:
            self._listening = await self._loop.create_server(
                self._make_protocol, host, port, ssl=self._tls, backlog=_BACKLOG
            )
        except (OSError, OverflowError, UnicodeError) as error:  # no port, or no name of a host
            raise ConfigurationError(f"cannot listen on {host} port {port}: {error}") from error
        found: tuple[str, int] = self._listening.sockets[0].getsockname()[:2]
        self._steps.changed = self._notice
        self._review()
        return found

    async def aclose(self) -> None:
        """Take no further connection; those that there are stay."""
        self._steps.changed = ignore_changes
        if self._timer is not None:
            self._timer.cancel()
        if self._resuming is not None:
            await self._resuming
        for held in (*self._blocked, *self._fillers):
            held.close()
        self._blocked, self._fillers = [], []
        if self._listening is not None:
            self._listening.close()

    @contextlib.contextmanager
    def hold(self, connection: object) -> Iterator[None]:
        """Spare a connection while a request on it is answered."""
        self._busy.add(connection)
        try:
            yield
        finally:
            self._busy.discard(connection)

    def _make_protocol(self) -> asyncio.BaseProtocol:
        step = self._steps.find_connection_step()
        if step is None:
            return self._server()
        step.serve()
        self._review()
        return _Resetting()

    def _notice(self) -> None:
        """Have a change of the script be in force when this returns, whichever thread made it."""
        if threading.get_ident() == self._thread:
            self._review()
            return
        done = threading.Event()

        def review() -> None:
            self._review()
            done.set()

        self._loop.call_soon_threadsafe(review)
        done.wait()

    def _review(self) -> None:
        step = self._steps.find_connection_step()
        if step is not None:
            # A request on a kept connection would pass by.
            for connection in self._server.connections:
                if connection not in self._busy:
                    connection.force_close()
        if step is not None and step.play.connection == "hang":
            self._hang(step)
        elif self._blocked and self._resuming is None:
            self._resuming = self._loop.create_task(self._resume())

    def _hang(self, step: Step) -> None:
        """Have connections hang for a step, if they do not hang already for the one before it."""
        if step is not self._hanging:
            self._hanging = step
            step.serve()
            if self._timer is not None:
                self._timer.cancel()
            if step.seconds is not None:
                self._timer = self._loop.call_later(step.seconds + _MARGIN, self._review)
        if self._listening is not None and not self._blocked:
            self._block(self._listening)

    def _block(self, listening: asyncio.Server) -> None:
        """Have connections wait for an answer to their first packet."""
        # A copy goes on listening when asyncio closes its own; nobody takes what comes.
        self._blocked = [socket.socket(fileno=os.dup(each.fileno())) for each in listening.sockets]
        listening.close()
        for each in self._blocked:
            each.listen(0)
            for _ in range(_FILLERS):
                filler = socket.socket(each.family)
                filler.settimeout(0)
                filler.connect_ex(each.getsockname())
                self._fillers.append(filler)

    async def _resume(self) -> None:
        for filler in self._fillers:
            filler.close()
        self._fillers = []
        for each in self._blocked:
            self._listening = await self._loop.create_server(
                self._make_protocol, sock=each, ssl=self._tls, backlog=_BACKLOG
            )
        self._blocked, self._resuming = [], None
        self._review()  # another step may have come up meanwhile


class _Resetting(asyncio.Protocol):
    """Ends a connection as soon as there is one."""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvloop's are none of asyncio's
        reset_connection(transport)
