"""The connections of one event loop."""

from __future__ import annotations

import asyncio
import base64
import copy
import logging
import ssl
import sys
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus

import aiohttp
import attrs
from yarl import URL

from aiosmrt.config import Timeout
from aiosmrt.errors import AiosmrtError, ClientClosed, ConfigurationError
from aiosmrt.http import Request, ResponseHead, Session
from aiosmrt.models import ClientStats
from aiosmrt.redaction import Redacted, redact, show_url
from aiosmrt.tracebacks import drop_tracebacks, forget_locals, hides_locals, walk_chain
from aiosmrt.transport.adapter import HttpProcessingError
from aiosmrt.transport.alarm import Alarm
from aiosmrt.transport.border import refuse_proxying, translate
from aiosmrt.transport.connector import Connector, Route, admit
from aiosmrt.transport.exchange import Exchange, encode_head
from aiosmrt.transport.limits import Limits
from aiosmrt.transport.proxies import find_proxy
from aiosmrt.transport.response import PooledResponse
from aiosmrt.transport.slot import Slot, Slots
from aiosmrt.transport.tracing import Tracing
from aiosmrt.value import Shown

__all__ = ["Pool", "PoolOptions"]

_log = logging.getLogger("aiosmrt")

# Seconds after which a call that has no place yet says so.
_PATIENCE = 5.0

# What is raised where no answer comes.
_FOREIGN = (
    aiohttp.ClientError,
    HttpProcessingError,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
)


@attrs.frozen(eq=False, repr=False)
class PoolOptions(Shown):
    """What shapes a pool; `tls` is aiohttp's `ssl` argument: a context, or False for no check."""

    max_connections: int = 100
    keep_alive: float | None = 12.0  # seconds
    max_connection_age: float | None = None  # seconds
    tls: ssl.SSLContext | bool = True
    # What gives the context in place of True, but on connections of a session that is given.
    load_tls: Callable[[], Awaitable[ssl.SSLContext]] | None = attrs.field(default=None, repr=False)
    proxy_tls: ssl.SSLContext | None = None  # for proxies, in place of `tls`
    session: Session | None = attrs.field(default=None, repr=False)
    proxy: str | None = attrs.field(default=None, repr=show_url)
    proxy_headers: Mapping[str, str] = attrs.field(factory=dict, repr=redact)
    # Where a proxy is looked for if none is given, for each origin anew: NO_PROXY tells them apart.
    environ: Mapping[str, str] = attrs.field(factory=dict, repr=False)


class Pool:
    """The connections of one event loop, made inside it.

    Attributes:
        limit: model calls that there can be at a time.
    """

    def __init__(self, options: PoolOptions) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.alarm: Alarm = Alarm(self.loop)
        self._options = options
        self._routes: dict[str, Route] = {}
        self._given_route = None if options.proxy is None else _plan_route(options, options.proxy)
        self._connector = Connector(
            options.session,
            tls=options.tls,
            load_tls=options.load_tls,
            proxy_tls=options.proxy_tls,
            keep_alive=options.keep_alive,
            max_age=options.max_connection_age,
        )
        limit = min(options.max_connections, self._connector.limit or options.max_connections)
        self.limit: int = limit
        self._slots = Slots(limit)
        self._slots_apart = Slots(limit)
        self._told_of_waiting = False
        self._calls: set[Limits] = set()
        # Weak, so that a stream nobody holds any longer can be noticed and closed.
        self._responses: weakref.WeakSet[PooledResponse] = weakref.WeakSet()
        self._keeper: AsyncGenerator[None] | None = None
        self._idle: asyncio.Event | None = None  # set when no call is left, if somebody waits
        self._finishing = asyncio.Lock()

    @property
    def closed(self) -> bool:
        """Whether the pool, or the loop it belongs to, is gone."""
        return self._connector.closed or self.loop.is_closed()

    def count(self) -> ClientStats:
        """Tell what it is busy with; in any thread."""
        slots = self._slots
        return ClientStats(
            in_flight=self.limit - slots.free,
            waiting_for_slot=slots.waiting,
            open_streams=sum(
                response.is_left_to_its_reader(slots, self._calls)
                for response in self._list_responses()
            ),
            idle_connections=self._connector.idle,
        )

    def _list_responses(self) -> list[PooledResponse]:
        while True:
            with suppress(RuntimeError):  # the loop, in another thread, has got one more meanwhile
                return list(self._responses)

    async def keep(self) -> None:
        """Arrange for the pool to be closed when `asyncio.run` shuts its loop down.

        A client at module level is closed by nobody. The loop finishes every suspended
        asynchronous generator before it goes, and this one closes the pool.
        """
        self._keeper = self._wait_for_the_end()
        await anext(self._keeper)

    async def _wait_for_the_end(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self._close()

    def enter(self, limits: Limits) -> None:
        """Note a call that `aclose` would have to end."""
        self._calls.add(limits)

    def leave(self, limits: Limits) -> None:
        """Forget a call that has ended."""
        self._calls.discard(limits)
        if self._idle is not None and not self._calls:
            self._idle.set()

    def find_slot(self, *, apart: bool = False) -> Slot | None:
        """Give a place that is free now; `apart` as for `acquire`."""
        return (self._slots_apart if apart else self._slots).take()

    async def acquire(self, limits: Limits, *, apart: bool = False) -> Slot:
        """Wait for a place, in the order of arrival, for at most `Timeout.slot` seconds.

        Args:
            limits: of the call.
            apart: whether it is one of as many places that model calls never have.
        """
        slot = self.find_slot(apart=apart)
        if slot is None:
            slots = self._slots_apart if apart else self._slots
            limits.await_("slot")
            impatience = _Impatience(self)
            if not self._told_of_waiting:
                self.alarm.set(impatience, self.alarm.time() + _PATIENCE)
            try:
                slot = await slots.wait()
            finally:
                self.alarm.unset(impatience)
            limits.await_("total")
        return slot

    def tell_of_waiting(self) -> None:
        """Say in the log that somebody waits for a place; once."""
        if not self._told_of_waiting:
            self._told_of_waiting = True
            _log.warning(
                "a call has waited %g s for one of the %d places in the connection pool; answers "
                "that are being read hold %d of them: close streams as soon as they are of no use, "
                "or raise max_connections",
                _PATIENCE,
                self.limit,
                len(self._responses),
            )

    async def send(self, request: Request, slot: Slot, limits: Limits) -> PooledResponse:
        """Send one request in its slot and wait for the answer's head.

        The response takes the slot over; when none comes, the caller keeps it.

        Raises:
            TransportError: no answer; `may_have_run` says whether the peer may have the whole
                request.
            UnexpectedResponse: the answer is no HTTP.
        """
        route = self._given_route or self._find_route(request.origin)
        limits.peer = request.origin
        if route.proxy is not None:
            limits.peer += f" through the proxy {route.proxy.host}:{route.proxy.port}"
        exchange = Exchange(request, limits)
        limits.connecting(exchange)
        handled = sys.exception()
        try:
            head = await self._exchange(exchange, request, route)
        except BaseException as error:
            # Of aiohttp's frames, which have the password of a proxy, and of those with the bytes.
            forget_locals(*walk_chain(error, handled))
            if not isinstance(error, _FOREIGN):
                raise
            if isinstance(error, aiohttp.ClientError):
                # A frame of aiohttp's keeps it, and by its traceback what is called here.
                drop_tracebacks(error)
            raise self._explain(error, request, exchange, route) from error
        if head.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            proxy = _find_reader(request, route)
            if proxy is not None:
                exchange.close()
                raise refuse_proxying(request, proxy, head.status, exchange.answer.reason)
        response = PooledResponse(head, exchange, slot, limits, self.alarm)
        if not exchange.answer.complete:
            self._responses.add(response)
        return response

    async def open(self, origin: str, number: int, limits: Timeout) -> None:
        """Have as many connections to an origin idle, as far as there are places for them.

        Raises:
            TransportError: one of them could not be made; those that were are kept.
        """
        missing = min(number, self.limit) - self._connector.count_idle(origin)
        opening = (self._open_one(origin, limits) for _ in range(missing))
        for outcome in await asyncio.gather(*opening, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise copy.copy(outcome) from outcome.__cause__

    async def _open_one(self, origin: str, seconds: Timeout) -> None:
        limits = Limits(seconds, self.alarm)
        route = self._given_route or self._find_route(origin)
        request = Request("POST", origin, "/", {})
        exchange = Exchange(request, limits)
        with limits:
            slot = await self.acquire(limits)
            limits.connecting(exchange)
            try:
                connection = await self._connector.make(origin, route)
            except _FOREIGN as error:
                raise self._explain(error, request, exchange, route) from error
            finally:
                slot.release()
            connection.release()

    def _explain(
        self, error: Exception, request: Request, exchange: Exchange, route: Route
    ) -> AiosmrtError:
        """Build the error of a request that got no answer."""
        explained: AiosmrtError
        if self._connector.closed:
            explained = ClientClosed("the client, or its session, was closed during the call")
        else:
            explained = translate(error, request, exchange, route.proxy)
        explained.may_have_run = exchange.may_be_whole
        return explained

    async def _exchange(self, exchange: Exchange, request: Request, route: Route) -> ResponseHead:
        encoded = _encode_head(request, route)
        connector = self._connector
        if not connector.trace_configs:
            connection = connector.take_idle(request.origin) or await connector.take(
                request.origin, route, ()
            )
            return await exchange.begin(connection, encoded)
        tracing = Tracing(connector.session, connector.trace_configs, request)
        await tracing.begin()
        try:
            connection = await connector.take(request.origin, route, tracing.traces)
            try:
                await tracing.send()
                # Who was told of it may have taken their time.
                await admit(connection)
            except BaseException:
                connection.close()
                raise
            head = await exchange.begin(connection, encoded)
            await tracing.end(head, exchange.answer.reason)
        except BaseException as error:
            exchange.close()
            await tracing.fail(error)
            raise
        return head

    def _find_route(self, origin: str) -> Route:
        route = self._routes.get(origin)
        if route is None:
            route = self._routes[origin] = self._plan_found_route(origin)
        return route

    def _plan_found_route(self, origin: str) -> Route:
        found = Redacted(find_proxy(origin, self._options.environ))
        if found.value is None:
            return Route()
        if self._options.session is not None and not _speaks_http(found.value[0]):
            # Such as a SOCKS proxy: connections of other people's sessions may well pass it.
            return Route()
        return _plan_route(self._options, found.value[0])

    async def aclose(self, grace: float = 0.0) -> None:
        """End what is in flight with `ClientClosed` and close the connections. Idempotent.

        Args:
            grace: seconds that calls and open answers are given to finish before.
        """
        try:
            if grace > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(grace):
                        await self._finish()
        finally:
            keeper, self._keeper = self._keeper, None
            if keeper is not None:
                await keeper.aclose()
            else:
                await self._close()

    async def _finish(self) -> None:
        """Wait until no call is under way and no answer open."""
        async with self._finishing:
            self._idle = asyncio.Event()
            while self._calls:
                self._idle.clear()
                await self._idle.wait()
            # An open answer has a place, which comes free when it ends.
            taken: list[Slot] = []
            try:
                while len(taken) < self.limit:
                    taken.append(self._slots.take() or await self._slots.wait())
            finally:
                for slot in taken:
                    slot.release()

    async def _close(self) -> None:
        for limits in tuple(self._calls):
            limits.end(ClientClosed("the client was closed during the call"))
        for response in tuple(self._responses):
            response.fail(ClientClosed("the client was closed during the call"))
        self.alarm.close()
        await self._connector.aclose()


class _Impatience:
    """A call that has waited long enough for a place to say so."""

    __slots__ = ("_pool",)

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def ring(self) -> None:
        """Say so."""
        self._pool.tell_of_waiting()


def _encode_head(request: Request, route: Route) -> bytes:
    if _find_reader(request, route) is None:
        return encode_head(request)
    return encode_head(request, absolute=True, extra=route.headers)


def _find_reader(request: Request, route: Route) -> URL | None:
    """Give the proxy that reads the request itself, as it does where no tunnel is asked for."""
    return route.proxy if request.origin.startswith("http:") else None


@hides_locals
def _plan_route(options: PoolOptions, proxy: str) -> Route:
    """Take user and password out of the proxy's URL, which aiohttp prints in its errors."""
    headers = {name.lower(): value for name, value in options.proxy_headers.items()}
    url = _parse_proxy(proxy)
    if url.user is not None:
        credentials = f"{url.user}:{url.password or ''}".encode()
        basic = f"Basic {base64.b64encode(credentials).decode()}"
        headers.setdefault("proxy-authorization", basic)
    return Route(url.with_user(None), headers)


def _speaks_http(proxy: str) -> bool:
    return proxy.lower().startswith(("http://", "https://"))


def _parse_proxy(proxy: str) -> URL:
    try:
        url = URL(proxy)
    except ValueError:
        url = URL()
    if not _speaks_http(proxy) or not url.host:
        # What could be said of it in detail may be a part of the password.
        raise ConfigurationError(
            "the proxy (proxy= or HTTPS_PROXY) has no usable URL: it must be as in "
            "'http://user:password@host:3128', with what is special in user and password "
            "percent-encoded; SOCKS is for the connector of a session= of your own"
        )
    return url
