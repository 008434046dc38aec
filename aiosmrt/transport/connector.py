"""Where connections are made, kept while they are idle, and taken from."""

from __future__ import annotations

import asyncio
import math
import socket
import weakref
from asyncio import sleep
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import aiohttp
import attrs
from yarl import URL

from aiosmrt.errors import ConfigurationError, ConnectionLost
from aiosmrt.http import Session
from aiosmrt.transport.adapter import (
    Destination,
    Reuse,
    Trace,
    TwoWayConnector,
    check_aiohttp,
    connect,
    find_loop,
    make_destination,
)
from aiosmrt.transport.connection import IdleConnections, LentConnections, PooledConnection
from aiosmrt.transport.resolver import Resolver

if TYPE_CHECKING:
    import ssl


__all__ = ["Connector", "Route", "admit"]

# Probes of an idle connection (seconds, seconds, count), because load balancers and NAT gateways
# drop idle flows silently after about 350 s.
_KEEPALIVE = (60, 15, 3)
# Seconds that a server is given, once, to close a connection behind its answer. Those that close
# each one, and do not say so, take tens of microseconds to do it, and on a machine with other work
# some milliseconds; a call that follows at once comes sooner.
_GRACE = 0.005

# Passes of the loop in which a connection that something has come on may prove to be sound.
_PASSES = 8


@attrs.frozen(eq=False, repr=False)
class Route:
    """The way to an origin: through which proxy, and with which headers for that one."""

    proxy: URL | None = None
    headers: dict[str, str] = attrs.field(factory=dict, repr=False)


class Connector:
    """The connections of one event loop: those of a session that is given, or of one of our own.

    Attributes:
        session: whose connector it is. It sends nothing.
        trace_configs: of the session, whoever has put them there.
        limit: how many connections the session that was given has at most, 0 where it has no limit.
    """

    def __init__(
        self,
        session: Session | None,
        *,
        tls: ssl.SSLContext | bool,
        load_tls: Callable[[], Awaitable[ssl.SSLContext]] | None = None,
        proxy_tls: ssl.SSLContext | None = None,
        keep_alive: float | None = None,
        max_age: float | None = None,
    ) -> None:
        check_aiohttp()
        self._loop = asyncio.get_running_loop()
        self._tls = tls
        # Of a session that is given, the connector has an opinion of its own of what True means.
        self._load_tls = load_tls if tls is True and session is None else None
        self._destinations: dict[str, Destination] = {}
        self._lasting: set[str] = set()  # origins that leave connections open behind an answer
        self.trace_configs: list[aiohttp.TraceConfig] = []
        self.limit: int = 0
        given = None if session is None else _check_session(session, self._loop)
        # Those of a session that was given go back to its own connector, for whoever else uses it.
        self._idle = IdleConnections(keep_alive)
        self._lent = LentConnections()
        self._keeper = self._idle if given is None else self._lent
        self._max_age = math.inf if max_age is None else max_age
        connector: aiohttp.BaseConnector | None
        if given is None:
            # Slots come before connections, so that a call signs after it has waited.
            connector = TwoWayConnector(limit=0, socket_factory=_make_socket, resolver=Resolver())
            connector.proxy_tls = proxy_tls
        else:
            connector, self.trace_configs = given.connector, given.trace_configs
            limits = [] if connector is None else [connector.limit, connector.limit_per_host]
            self.limit = min(filter(None, limits), default=0)  # most clients call one host
        self._own = aiohttp.ClientSession(
            connector=connector,
            connector_owner=given is None,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self.session: aiohttp.ClientSession = given or self._own
        if given is None:
            # What instrumentation adds to every session that is made.
            self.trace_configs = self._own.trace_configs
            weakref.finalize(self, _forget, self._own, self._idle, self._loop)

    @property
    def closed(self) -> bool:
        """Whether it, or the session that was given, is closed."""
        return self._own.closed

    async def aclose(self) -> None:
        """Close the connections that are our own. Idempotent."""
        try:
            await self._own.close()  # of all that it has made, and waits for TLS to say goodbye
        finally:
            self._idle.close()

    @property
    def idle(self) -> int:
        """How many connections of our own nobody uses."""
        return len(self._idle)

    def count_idle(self, origin: str) -> int:
        """Tell how many connections to an origin nobody uses."""
        return self._idle.count(origin)

    def take_idle(self, origin: str) -> PooledConnection | None:
        """Give an idle connection, `None` where that takes waiting or another has to be made.

        What the peer did to it meanwhile (closed it, reset it, wrote to it) is looked for, and such
        a connection is closed and not given: what is written to it would be lost, and what lies in
        it would be taken for the answer.
        """
        if origin not in self._lasting:
            return None
        connection = self._idle.take(origin)
        if connection is None or not connection.has_news():
            return connection
        self._lasting.discard(origin)
        connection.abort()
        return None

    async def take(self, origin: str, route: Route, traces: Sequence[Trace]) -> PooledConnection:
        """Take a connection that is idle, as `take_idle` does, or make one.

        An origin that was not yet seen to leave a connection open is given a moment for it first,
        so that one that closes behind each answer is known by the second call.

        Raises:
            ConnectionResetError: a new connection was closed at once.
            ConnectionLost: on a new connection the peer spoke first.
            aiohttp.ClientError, OSError, RuntimeError, ValueError: none could be made.
            ConfigurationError: there is nobody to trust.
        """
        while True:
            connection, used = await self._find(origin, route, traces)
            if not used:
                return await admit(connection)
            if self._lent.are_over(connection):
                connection.abort()
                continue
            # Before the loop reads: what TLS has read of a record that is not whole shows nowhere.
            sound = not connection.has_news()
            if sound and origin not in self._lasting:
                await _let_pass(connection, _GRACE)
                sound = not connection.has_news()
                self._lasting.add(origin)
            if sound:
                return connection
            self._lasting.discard(origin)
            connection.abort()

    async def _find(
        self, origin: str, route: Route, traces: Sequence[Trace]
    ) -> tuple[PooledConnection, bool]:
        """Give an idle connection or a new one, and whether it was used before."""
        connector = self._own.connector
        if connector is None:
            raise RuntimeError("the session is closed")
        idle = self._idle.take(origin)
        if idle is not None:
            try:
                for trace in traces:
                    await trace.send_connection_reuseconn()
            except BaseException:
                idle.abort()
                raise
            return idle, True
        return await self._connect(connector, origin, route, traces)

    async def make(self, origin: str, route: Route) -> PooledConnection:
        """Make a connection, though others may be idle; errors as `take`."""
        connector = self._own.connector
        if connector is None:
            raise RuntimeError("the session is closed")
        connection, used = await self._connect(connector, origin, route, ())
        return connection if used else await admit(connection)

    async def _connect(
        self,
        connector: aiohttp.BaseConnector,
        origin: str,
        route: Route,
        traces: Sequence[Trace],
    ) -> tuple[PooledConnection, bool]:
        destination = self._destinations.get(origin) or await self._make_destination(origin, route)
        reuse = Reuse()
        connection = await connect(connector, destination, (reuse, *traces))
        made = PooledConnection(connection, origin, self._keeper, self._max_age)
        return made, reuse.told

    async def _make_destination(self, origin: str, route: Route) -> Destination:
        if self._load_tls is not None and "https" in (
            origin[:5],
            route.proxy and route.proxy.scheme,
        ):
            self._tls = await self._load_tls()
        destination = make_destination(
            origin,
            self._own,
            tls=self._tls,
            proxy=route.proxy,
            proxy_headers=route.headers,
        )
        if route.proxy is None:  # or the connector would write something into it
            self._destinations[origin] = destination
        return destination


def _forget(
    session: aiohttp.ClientSession, idle: IdleConnections, loop: asyncio.AbstractEventLoop
) -> None:
    """Drop what is open where nobody can close it: its loop was closed, without a word.

    On a loop that goes on, what is left of the pool closes it.
    """
    if loop.is_closed() and not session.closed:
        idle.forget()
        session.detach()


async def _let_pass(connection: PooledConnection, seconds: float) -> None:
    """Wait with a connection in hand."""
    try:
        await sleep(seconds)
    except BaseException:
        connection.abort()
        raise


async def admit(connection: PooledConnection) -> PooledConnection:
    """Give a connection back that can be written to; where something came, let the loop read it.

    Over TLS it may be no more than tickets for later sessions (RFC 8446, section 4.6.1).

    Raises:
        ConnectionResetError: the peer closed it.
        ConnectionLost: the peer spoke first.
    """
    # What the loop reads may be of no matter, and more of it may come. The end of a connection
    # stays in its socket, and over TLS is told some passes after it was read.
    for _ in range(_PASSES):
        if not connection.has_news():
            return connection
        if connection.lost or connection.spoilt:
            break
        await _let_pass(connection, 0)
    spoke = connection.spoilt and not connection.lost
    connection.abort()
    if spoke:
        raise ConnectionLost(f"{connection.origin} spoke before it was asked; nothing was sent")
    raise ConnectionResetError("the connection was closed before it was used")


def _check_session(session: Session, loop: asyncio.AbstractEventLoop) -> aiohttp.ClientSession:
    """Give the session that connections are to be taken from, unless they cannot."""
    if not isinstance(session, aiohttp.ClientSession):
        raise ConfigurationError(f"session={session!r}: an aiohttp.ClientSession, or None")
    if session.closed or session.connector is None:
        raise ConfigurationError("session: this aiohttp session is closed")
    if find_loop(session) is not loop:
        raise ConfigurationError(
            "session: this aiohttp session belongs to another event loop; make it inside the loop "
            "that makes the calls, or leave session= out and let the client make its own"
        )
    return session


def _make_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # The names differ between systems; where one is missing, the system's own value holds.
    for option, value in zip(
        ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"), _KEEPALIVE, strict=True
    ):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made
