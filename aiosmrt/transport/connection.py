"""A connection that carries one request after another, and those that lie idle between two."""

from __future__ import annotations

import asyncio
import functools
import math
import re
import select
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

from aiosmrt.transport.adapter import (
    Connection,
    ConnectionProtocol,
    find_protocol,
    forget_connection,
    has_read,
)

__all__ = ["IdleConnections", "LentConnections", "PooledConnection"]

# Parameters of the header Keep-Alive (RFC 2068, section 19.7.1.1, as Apache, Node and others spell
# them): seconds that the server keeps an idle connection, and requests that it still takes.
_TIMEOUT: Final = re.compile(r"\btimeout\s*=\s*\"?([0-9]{1,9}(?:\.[0-9]{1,9})?)", re.IGNORECASE)
_NO_MORE: Final = re.compile(r"\bmax\s*=\s*\"?0+(?![0-9])", re.IGNORECASE)
_LONGEST: Final = 256  # characters that are looked at
# Seconds by which a server is believed less, as in undici: its clock began before what it said was
# here, and the next request takes its time, too.
_MARGIN: Final = 2.0

# Not on Windows. Errors and the end of a connection are readable, too.
_poll = getattr(select, "poll", None)
_READABLE = getattr(select, "POLLIN", 1)


class PooledConnection:
    """A connection of the pool, to be released or closed, once, by whoever has taken it.

    Attributes:
        origin: where it leads.
        protocol: aiohttp's, which has it while no exchange is under way.
        old_at: when it is too old to be used again, on the monotonic clock.
        stays: seconds that its server keeps it idle, as far as it has said so.
        ends_at: while it is idle, when it is to be closed, on the monotonic clock.
    """

    __slots__ = (
        "_connection",
        "_keeper",
        "_look",
        "ends_at",
        "old_at",
        "origin",
        "protocol",
        "stays",
    )

    def __init__(
        self, connection: Connection, origin: str, keeper: Keeper, max_age: float = math.inf
    ) -> None:
        self.origin: str = origin
        self.protocol: ConnectionProtocol = find_protocol(connection)
        self.old_at: float = monotonic() + max_age
        self.stays: float = math.inf
        self.ends_at: float = 0.0
        self._connection = connection
        self._keeper = keeper
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

    def heed(self, said: str) -> None:
        """Take note of the header Keep-Alive of its last answer."""
        self.stays = _read_stay(said)

    def release(self) -> None:
        """Give it back, for another request."""
        self._keeper.add(self)

    def give_back(self) -> None:
        """Leave it to the connector that it was taken from."""
        self._connection.release()

    def close(self) -> None:
        """Close it in peace. Idempotent, but not for one that was released."""
        self._connection.close()

    def abort(self) -> None:
        """Close it at once: TLS would wait for the goodbye of a peer that may be gone."""
        transport = self.protocol.transport
        if transport is not None:
            transport.abort()
        self._connection.close()

    def forget(self) -> None:
        """Drop it where its loop is closed, so that nothing can be closed in peace."""
        forget_connection(self._connection)


class Keeper(Protocol):
    """Where connections go that nobody uses."""

    def add(self, connection: PooledConnection) -> None:
        """Take a connection back."""


class LentConnections:
    """Connections of somebody else's connector, which keeps them by rules of its own."""

    def __init__(self) -> None:
        # By aiohttp's protocol, which a connection keeps as long as it lives.
        self._ends: weakref.WeakKeyDictionary[ConnectionProtocol, float]
        self._ends = weakref.WeakKeyDictionary()

    def add(self, connection: PooledConnection) -> None:
        """Give a connection back to its connector."""
        if connection.stays < math.inf:
            self._ends[connection.protocol] = monotonic() + connection.stays
        connection.give_back()

    def are_over(self, connection: PooledConnection) -> bool:
        """Tell whether the server may have closed a connection, by what it has said."""
        return monotonic() >= self._ends.get(connection.protocol, math.inf)


class IdleConnections:
    """Connections that nobody uses, each closed when it was not used for some time.

    aiohttp's connector takes as long to give a connection, and to take it back, as it takes here to
    write a request. That one knows of all that are here, and closes them when it is closed.

    Args:
        seconds: for which one is kept, less where its server says so; `None` is no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = math.inf if seconds is None else seconds
        self._loop = asyncio.get_running_loop()
        self._connections: dict[str, list[PooledConnection]] = {}
        # Keeps this alive, and all that is here, while the pool may be garbage: what is left of
        # that one closes them.
        self._timer: asyncio.TimerHandle | None = None
        self._aimed_at = math.inf
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._connections.values()))

    def count(self, origin: str) -> int:
        """Tell how many to an origin are here, and have not been lost."""
        return sum(not each.lost for each in self._connections.get(origin, ()))

    def add(self, connection: PooledConnection) -> None:
        """Take a connection back."""
        now = monotonic()
        ends_at = min(now + self._seconds, now + connection.stays, connection.old_at)
        if self._closed or ends_at <= now:
            connection.close()
            return
        connection.ends_at = ends_at
        try:
            self._connections[connection.origin].append(connection)
        except KeyError:
            self._connections[connection.origin] = [connection]
        if ends_at < self._aimed_at:
            self._aim(ends_at, now)

    def take(self, origin: str) -> PooledConnection | None:
        """Give the connection that was used last: the others may be left to their end."""
        connections = self._connections.get(origin)
        while connections:
            connection = connections.pop()
            if monotonic() < connection.ends_at:
                return connection
            connection.close()
        return None

    def _aim(self, when: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(when - now, self._sweep)
        self._aimed_at = when

    def _sweep(self) -> None:
        """Close what was not used for so long, and what was lost."""
        now = max(monotonic(), self._aimed_at)  # a loop may call a little early
        self._timer, self._aimed_at = None, math.inf
        soonest = math.inf
        for origin, connections in tuple(self._connections.items()):
            kept = []
            for connection in connections:
                if connection.lost or connection.ends_at <= now:
                    connection.close()
                else:
                    kept.append(connection)
                    soonest = min(soonest, connection.ends_at)
            if kept:
                connections[:] = kept
            else:
                del self._connections[origin]
        if soonest < math.inf:
            self._aim(soonest, now)

    def close(self) -> None:
        """Close all that are here, and from now on all that come. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._clear(PooledConnection.close)

    def forget(self) -> None:
        """Drop all that are here: their loop is closed."""
        self._closed = True
        self._timer = None
        self._clear(PooledConnection.forget)

    def _clear(self, end: Callable[[PooledConnection], None]) -> None:
        for connections in self._connections.values():
            for connection in connections:
                end(connection)
        self._connections.clear()


@functools.lru_cache(maxsize=64)
def _read_stay(said: str) -> float:
    """Give the seconds that a connection may be kept by a header Keep-Alive, infinity if any."""
    if len(said) > _LONGEST:
        return math.inf
    if _NO_MORE.search(said):
        return 0.0
    seconds = min(map(float, _TIMEOUT.findall(said)), default=math.inf)
    return max(seconds - _MARGIN, seconds / 2)


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
