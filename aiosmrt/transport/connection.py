"""A connection that carries one request after another, and those that lie idle between two."""

from __future__ import annotations

import asyncio
import functools
import select
from collections.abc import Callable
from time import monotonic

from aiosmrt.transport.adapter import Connection, Protocol, find_protocol, has_read

__all__ = ["IdleConnections", "PooledConnection"]

# Not on Windows. Errors and the end of a connection are readable, too.
_poll = getattr(select, "poll", None)
_READABLE = getattr(select, "POLLIN", 1)


class PooledConnection:
    """A connection of the pool, to be released or closed, once, by whoever has taken it.

    Attributes:
        origin: where it leads.
        protocol: aiohttp's, which has it while no exchange is under way.
        idle_since: when it was released, on the monotonic clock.
    """

    __slots__ = ("_connection", "_idle", "_look", "idle_since", "origin", "protocol")

    def __init__(
        self, connection: Connection, origin: str, idle: IdleConnections | None = None
    ) -> None:
        self.origin = origin
        self.protocol: Protocol = find_protocol(connection)
        self.idle_since = 0.0
        self._connection = connection
        self._idle = idle  # where it goes; without, to the connector that it was taken from
        self._look: Callable[[], object] | None = None

    @property
    def transport(self) -> asyncio.Transport | None:
        """What is written to, `None` once it is lost."""
        return self.protocol.transport

    @property
    def lost(self) -> bool:
        """Whether nothing can be sent on it any longer."""
        transport = self.protocol.transport
        return transport is None or transport.is_closing()

    @property
    def spoilt(self) -> bool:
        """Whether the loop has read from it what nobody asked for."""
        return has_read(self.protocol)

    def has_news(self) -> bool:
        """Tell whether something has happened to it: bytes, its end, or an error.

        It is looked for in the socket, whether the loop has had time to read it or not. That is one
        system call, about a microsecond. Over TLS any byte counts, though it might say nothing:
        what it says is enciphered.
        """
        transport = self.protocol.transport
        if transport is None or transport.is_closing() or has_read(self.protocol):
            return True
        look = self._look
        if look is None:
            look = self._look = _make_look(transport)
        return bool(look())

    def release(self) -> None:
        """Give it back, for another request."""
        if self._idle is None:
            self._connection.release()
        else:
            self._idle.add(self)

    def close(self) -> None:
        """Close it in peace. Idempotent, but not for one that was released."""
        self._connection.close()

    def abort(self) -> None:
        """Close it at once: TLS would wait for the goodbye of a peer that may be gone."""
        transport = self.protocol.transport
        if transport is not None:
            transport.abort()
        self._connection.close()


class IdleConnections:
    """Connections that nobody uses, each closed when it was not used for some time.

    aiohttp's connector takes as long to give a connection, and to take it back, as it takes here to
    write a request. That one knows of all that are here, and closes them when it is closed.

    Args:
        seconds: for which one is kept.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._connections: dict[str, list[PooledConnection]] = {}
        # Keeps this alive, and all that is here, while the pool may be garbage: what is left of
        # that one closes them.
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._connections.values()))

    def add(self, connection: PooledConnection) -> None:
        """Take a connection back."""
        if self._closed:
            connection.close()
            return
        connection.idle_since = monotonic()
        try:
            self._connections[connection.origin].append(connection)
        except KeyError:
            self._connections[connection.origin] = [connection]
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._sweep)

    def take(self, origin: str) -> PooledConnection | None:
        """Give the connection that was used last: the others may be left to their end."""
        connections = self._connections.get(origin)
        while connections:
            connection = connections.pop()
            if monotonic() - connection.idle_since <= self._seconds:
                return connection
            connection.close()
        return None

    def _sweep(self) -> None:
        """Close what was not used for so long, and what was lost."""
        now = monotonic()
        self._timer = None
        oldest = now
        for origin, connections in tuple(self._connections.items()):
            kept = []
            for connection in connections:
                if connection.lost or now - connection.idle_since >= self._seconds:
                    connection.close()
                else:
                    kept.append(connection)
                    oldest = min(oldest, connection.idle_since)
            if kept:
                connections[:] = kept
            else:
                del self._connections[origin]
        if self._connections:
            self._timer = self._loop.call_later(oldest + self._seconds - now, self._sweep)

    def close(self) -> None:
        """Close all that are here, and from now on all that come. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connections in self._connections.values():
            for connection in connections:
                connection.close()
        self._connections.clear()


def _make_look(transport: asyncio.Transport) -> Callable[[], object]:
    """Give what looks into the socket, and gives something that is true where there is news."""
    raw = transport.get_extra_info("socket")
    descriptor = -1 if raw is None else raw.fileno()
    if descriptor < 0:
        return lambda: True
    if _poll is None:
        return lambda: select.select([descriptor], [], [], 0)[0]
    poll = _poll()
    poll.register(descriptor, _READABLE)
    look: Callable[[], object] = functools.partial(poll.poll, 0)
    return look
