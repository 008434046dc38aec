"""aiohttp's inner side: all that is taken of it beyond what it documents.

Its connectors are made for its own sessions. Here they are asked for a connection in the words that
a session uses, and what they give is used by us. Seen working with aiohttp 3.12 to 3.14.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from aiohttp.tracing import Trace
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from aiosmrt.errors import ConfigurationError
from aiosmrt.http import ResponseHead

__all__ = [
    "Connection",
    "ConnectionProtocol",
    "Destination",
    "HttpProcessingError",
    "Reuse",
    "Trace",
    "TracedResponse",
    "TwoWayConnector",
    "check_aiohttp",
    "connect",
    "find_loop",
    "find_protocol",
    "forget_connection",
    "has_read",
    "make_destination",
    "make_trace",
]

_SEEN_WORKING = "3.12 to 3.14"

# Limits are kept by `Limits`.
_NO_LIMIT = aiohttp.ClientTimeout()

ConnectionProtocol = ResponseHandler


class Destination(aiohttp.ClientRequest):
    """Where to, in the words of a connector; the request to a proxy is one of aiohttp's own."""


class TwoWayConnector(aiohttp.TCPConnector):
    """A connector that may check proxies otherwise than what is behind them.

    Attributes:
        proxy_tls: the context for proxies; `None`: that of the destination serves for both.
    """

    proxy_tls: ssl.SSLContext | None = None

    def _get_ssl_context(self, req: aiohttp.ClientRequest) -> ssl.SSLContext | None:
        if self.proxy_tls is not None and req.is_ssl() and not isinstance(req, Destination):
            return self.proxy_tls
        return super()._get_ssl_context(req)


def check_aiohttp() -> None:
    """Refuse an aiohttp whose inner side is another one.

    Raises:
        ConfigurationError: naming its version.
    """
    wanted: tuple[tuple[Callable[..., object], tuple[str, ...]], ...] = (
        (aiohttp.ClientRequest.__init__, ("loop", "ssl", "session", "proxy", "proxy_headers")),
        (aiohttp.BaseConnector.connect, ("req", "traces", "timeout")),
        (Trace.__init__, ("session", "trace_config", "trace_config_ctx")),
    )
    missing = [
        f"{function.__qualname__}({name}=)"
        for function, names in wanted
        for name in names
        if name not in _list_parameters(function)
    ]
    missing += [
        f"{kind.__name__}.{name}"
        for kind, names in (
            (Connection, ("protocol", "transport", "close", "release")),
            (ResponseHandler, ("should_close", "connection_lost")),
            (Trace, ("send_connection_reuseconn",)),
            (aiohttp.TCPConnector, ("_get_ssl_context",)),
        )
        for name in names
        if not hasattr(kind, name)
    ]
    if missing:
        raise ConfigurationError(
            f"aiohttp {aiohttp.__version__} is another one inside than this release knows (it has "
            f"no {', '.join(missing)}): install one of {_SEEN_WORKING}, or a newer aiosmrt"
        )


def _list_parameters(function: Callable[..., object]) -> tuple[str, ...]:
    code = function.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def make_destination(
    origin: str,
    session: aiohttp.ClientSession,
    *,
    tls: ssl.SSLContext | bool,
    proxy: URL | None,
    proxy_headers: Mapping[str, str],
) -> Destination:
    """Say where to, in the words of a connector. Nothing of it is sent."""
    return Destination(
        "POST",
        URL(origin),
        loop=asyncio.get_running_loop(),
        ssl=tls,
        session=session,
        proxy=proxy,
        proxy_headers=CIMultiDict(proxy_headers) if proxy_headers else None,
    )


def connect(
    connector: aiohttp.BaseConnector, destination: Destination, traces: Sequence[Trace]
) -> Awaitable[Connection]:
    """Take a connection that is idle, or make one; errors as aiohttp's."""
    return connector.connect(destination, traces=list(traces), timeout=_NO_LIMIT)


def find_protocol(connection: Connection) -> ConnectionProtocol:
    """Give the protocol of a connection that was neither released nor closed."""
    return cast("ConnectionProtocol", connection.protocol)


def forget_connection(connection: Connection) -> None:
    """Drop a connection whose loop is closed: its transport can say nothing any more."""
    protocol = connection.protocol
    if protocol is not None:
        protocol.transport = None
    connection.close()


def has_read(protocol: ConnectionProtocol) -> bool:
    """Tell whether the protocol of an idle connection has read what nobody asked for."""
    return protocol.should_close


class Reuse(Trace):
    """Learns whether a connection was used before.

    Attributes:
        told: whether it was.
    """

    told: bool = False

    # What aiohttp's own constructor sets, once for all: one of these is made for every request, and
    # tells nobody of anything else.
    _trace_config = aiohttp.TraceConfig()
    _trace_config.freeze()
    _session: Any = None
    _trace_config_ctx = SimpleNamespace()

    def __init__(self) -> None:
        """Have nothing to set."""

    async def send_connection_reuseconn(self) -> None:
        """Take note of it."""
        self.told = True


def find_loop(session: aiohttp.ClientSession) -> asyncio.AbstractEventLoop:
    """Give the loop that a session belongs to; its own `loop` warns that it is deprecated."""
    return session._loop  # noqa: SLF001 - see above


def make_trace(session: aiohttp.ClientSession, config: aiohttp.TraceConfig) -> Trace:
    """Begin what a session tells one of its trace configurations of one request."""
    return Trace(session, config, config.trace_config_ctx())


class TracedResponse(aiohttp.ClientResponse):
    """An answer as far as a trace may look into it: all but its body."""

    def __init__(
        self, method: str, url: URL, sent: CIMultiDict[str], head: ResponseHead, reason: str
    ) -> None:
        self.method = method
        self.status: int = head.status
        self.reason: str = reason
        self._url = self._real_url = url
        self._headers = CIMultiDictProxy(CIMultiDict(head.headers))
        self._request_info = aiohttp.RequestInfo(url, method, CIMultiDictProxy(sent), url)
        self._cache = {}
