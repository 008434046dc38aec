"""What aiohttp raises, and what our reader is told instead."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import pickle
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import aiohttp
import pytest
import pytest_asyncio
import trustme

from aiosmrt.errors import (
    AiosmrtError,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    UnexpectedResponse,
)
from aiosmrt.transport import Pool, PooledResponse, PoolOptions
from aiosmrt.transport.response_parser import MalformedResponse

pytestmark = pytest.mark.usefixtures("quiet_loop")


class _Server(Protocol):
    url: str
    port: int


class _Tls(Protocol):
    server: ssl.SSLContext
    client: ssl.SSLContext


Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ServeRaw = Callable[..., AbstractAsyncContextManager[_Server]]
Exchange = Callable[..., Coroutine[None, None, PooledResponse]]


@pytest_asyncio.fixture
async def pool(tls: _Tls) -> AsyncIterator[Pool]:
    options = PoolOptions(max_connections=1, tls=tls.client)
    async with contextlib.aclosing(Pool(options)) as pool:
        yield pool
        assert pool._slots.free > 0


async def _fail(call: Coroutine[None, None, PooledResponse]) -> AiosmrtError:
    with pytest.raises(AiosmrtError) as caught:
        await call
    error = caught.value
    assert error.__cause__ is not None
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    return error


def _answer(data: bytes, size: int = 2) -> Converse:
    """Converse by reading a head and a body, and saying something."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(size)
        writer.write(data)
        await writer.drain()

    return converse


@pytest.mark.asyncio
async def test_a_refused_port(pool: Pool, exchange: Exchange) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = await _fail(exchange(pool, f"http://127.0.0.1:{port}"))
    assert type(error) is ConnectError
    assert isinstance(error.__cause__, aiohttp.ClientConnectorError)
    assert f"no connection to http://127.0.0.1:{port}: " in str(error)
    assert "check endpoint_url" in str(error)
    assert not error.may_have_run


@pytest.mark.asyncio
async def test_a_host_without_an_address(pool: Pool, exchange: Exchange) -> None:
    error = await _fail(exchange(pool, "http://nosuch.invalid"))
    assert type(error) is ConnectError
    assert isinstance(error.__cause__, aiohttp.ClientConnectorDNSError)
    assert "the host nosuch.invalid has no address" in str(error)
    assert "check region_name and endpoint_url" in str(error)
    assert not error.may_have_run


@pytest.mark.parametrize("url", ["http://", "http://127.1:80", "http://a b"])
@pytest.mark.asyncio
async def test_a_url_that_cannot_be_called(url: str, pool: Pool, exchange: Exchange) -> None:
    error = await _fail(exchange(pool, url))
    assert isinstance(error, ConfigurationError | ConnectError)
    assert url.removeprefix("http://") in str(error)
    assert not error.may_have_run


@pytest.mark.asyncio
async def test_a_header_that_cannot_be_sent(
    pool: Pool, exchange: Exchange, serve_raw: ServeRaw
) -> None:
    async with serve_raw(_answer(b"")) as server:
        error = await _fail(exchange(pool, server.url, headers={"x": "a\r\nb: c"}))
    assert type(error) is ConfigurationError
    assert "/invocations cannot be called: ValueError: " in str(error)
    assert not error.may_have_run


@pytest.mark.asyncio
async def test_tls_to_a_plain_port(pool: Pool, exchange: Exchange, serve_raw: ServeRaw) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(5)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with serve_raw(converse) as server:
        error = await _fail(exchange(pool, f"https://127.0.0.1:{server.port}"))
    assert type(error) is ConnectError
    assert isinstance(error.__cause__, aiohttp.ClientConnectorSSLError)
    assert "does this port speak TLS? If not, endpoint_url begins with http://" in str(error)
    assert not error.may_have_run


@pytest.mark.asyncio
async def test_a_handshake_that_is_cut(pool: Pool, exchange: Exchange, serve_raw: ServeRaw) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(5)

    async with serve_raw(converse) as server:
        error = await _fail(exchange(pool, f"https://127.0.0.1:{server.port}"))
    assert type(error) is ConnectError
    assert not error.may_have_run


@pytest.mark.asyncio
async def test_plain_http_to_a_tls_port(
    pool: Pool, exchange: Exchange, serve_raw: ServeRaw, tls: _Tls
) -> None:
    async with serve_raw(_answer(b""), tls=tls.server) as server:
        error = await _fail(exchange(pool, f"http://127.0.0.1:{server.port}"))
    assert type(error) is ConnectionLost
    assert "endpoint_url begins with https://" in str(error)
    assert error.may_have_run


@pytest.mark.asyncio
async def test_the_hint_at_tls_is_not_given_where_tls_is_spoken(
    pool: Pool, exchange: Exchange, serve_raw: ServeRaw, tls: _Tls
) -> None:
    async with serve_raw(_answer(b""), tls=tls.server) as server:
        error = await _fail(exchange(pool, server.url))
    assert type(error) is ConnectionLost
    assert "begins with" not in str(error)
    assert error.may_have_run


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nlong: " + b"x" * 10_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
    ],
    ids=["ssh", "tls alert", "status", "too long a header", "length"],
)
@pytest.mark.parametrize("size", [2, 100_000])
@pytest.mark.asyncio
async def test_garbage_instead_of_http(
    garbage: bytes, size: int, pool: Pool, exchange: Exchange, serve_raw: ServeRaw
) -> None:
    async with serve_raw(_answer(garbage, size)) as server:
        error = await _fail(exchange(pool, server.url, b"x" * size))
    assert isinstance(error, UnexpectedResponse)
    assert isinstance(error.__cause__, MalformedResponse)
    assert f"{server.url} did not answer in HTTP: " in str(error)
    assert "message:;" not in str(error)
    assert "check the scheme and the port of endpoint_url" in str(error)
    assert "\n" not in str(error)
    assert error.status == 0
    assert error.may_have_run


@pytest.mark.parametrize("data", [b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\ncontent-type: a"])
@pytest.mark.asyncio
async def test_a_connection_that_ends_in_the_middle_of_the_head(
    data: bytes, pool: Pool, exchange: Exchange, serve_raw: ServeRaw
) -> None:
    async with serve_raw(_answer(data)) as server:
        error = await _fail(exchange(pool, server.url))
    assert type(error) is ConnectionLost
    assert "closed the connection in the middle of an answer's head [" in str(error)
    assert error.may_have_run


@pytest.mark.parametrize("url", ["http://host.example", "https://host.example"])
@pytest.mark.asyncio
async def test_a_proxy_that_is_not_there(url: str, exchange: Exchange) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    options = PoolOptions(proxy=f"http://user:secret@127.0.0.1:{port}")
    async with contextlib.aclosing(Pool(options)) as pool:
        error = await _fail(exchange(pool, url))
    assert type(error) is ConnectError
    assert f"no connection to the proxy 127.0.0.1:{port}: ConnectionRefused" in str(error)
    assert "check proxy= and HTTPS_PROXY" in str(error)
    assert not error.may_have_run


@pytest.mark.asyncio
async def test_a_proxy_without_an_address(exchange: Exchange) -> None:
    options = PoolOptions(proxy="http://user:secret@nosuch.invalid:80")
    async with contextlib.aclosing(Pool(options)) as pool:
        error = await _fail(exchange(pool, "https://host.example"))
    assert "the host nosuch.invalid has no address" in str(error)
    assert "or the proxy if it is that one's name" in str(error)


@pytest.mark.asyncio
async def test_a_proxy_that_refuses(exchange: Exchange, serve_raw: ServeRaw) -> None:
    refusal = b"HTTP/1.1 407 Who Are You\r\ncontent-length: 0\r\n\r\n"
    heads = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(refusal)
        await reader.read()

    async with serve_raw(converse) as server:
        options = PoolOptions(proxy=server.url.replace("//", "//user:secret@"))
        async with contextlib.aclosing(Pool(options)) as pool:
            error = await _fail(exchange(pool, "https://host.example"))
    assert type(error) is ConnectError
    proxy = server.url.removeprefix("http://")
    refused = f"the proxy {proxy} did not connect to https://host.example: HTTP 407 Who Are You; "
    assert refused in str(error)
    assert "check user and password in its URL (proxy= or HTTPS_PROXY)" in str(error)
    assert not error.may_have_run
    # The whole traceback may be logged, causes included.
    assert "secret" not in "".join(traceback.format_exception(error))
    assert b"proxy-authorization: Basic dXNlcjpzZWNyZXQ=\r\n" in heads[0].replace(b"P", b"p")


def _serve_certificate(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    leaf.configure_cert(context)
    return context


async def _refuse_certificate(
    leaf: trustme.LeafCert, client: ssl.SSLContext, exchange: Exchange, serve_raw: ServeRaw
) -> str:
    async with (
        serve_raw(_answer(b""), tls=_serve_certificate(leaf)) as server,
        contextlib.aclosing(Pool(PoolOptions(tls=client))) as pool,
    ):
        error = await _fail(exchange(pool, server.url))
    assert type(error) is ConnectError
    assert isinstance(error.__cause__, aiohttp.ClientConnectorCertificateError)
    assert f"the certificate of {server.url} was refused: " in str(error)
    assert not error.may_have_run
    return str(error)


@pytest.mark.asyncio
async def test_an_unknown_authority(tls: _Tls, exchange: Exchange, serve_raw: ServeRaw) -> None:
    leaf = trustme.CA().issue_cert("127.0.0.1")
    said = await _refuse_certificate(leaf, tls.client, exchange, serve_raw)
    assert "name its bundle with verify= or AWS_CA_BUNDLE" in said


@pytest.mark.parametrize("begins", [-2, 1], ids=["expired", "not yet valid"])
@pytest.mark.asyncio
async def test_a_certificate_out_of_its_time(
    begins: int, authority: trustme.CA, tls: _Tls, exchange: Exchange, serve_raw: ServeRaw
) -> None:
    not_before = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=begins)
    leaf = authority.issue_cert(
        "127.0.0.1",
        not_before=not_before,
        not_after=not_before + datetime.timedelta(days=1),
    )
    said = await _refuse_certificate(leaf, tls.client, exchange, serve_raw)
    assert "the server needs a new one, unless this machine's clock is wrong" in said


@pytest.mark.asyncio
async def test_a_certificate_of_another_host(
    authority: trustme.CA, tls: _Tls, exchange: Exchange, serve_raw: ServeRaw
) -> None:
    leaf = authority.issue_cert("elsewhere.example")
    said = await _refuse_certificate(leaf, tls.client, exchange, serve_raw)
    assert "endpoint_url must have a host name that the certificate is for" in said


@pytest.mark.asyncio
async def test_certificates_need_not_be_checked(exchange: Exchange, serve_raw: ServeRaw) -> None:
    leaf = trustme.CA().issue_cert("elsewhere.example")
    answer = _answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    async with (
        serve_raw(answer, tls=_serve_certificate(leaf)) as server,
        contextlib.aclosing(Pool(PoolOptions(tls=False))) as pool,
    ):
        assert await (await exchange(pool, server.url)).read() == b"ok"


@pytest.mark.asyncio
async def test_a_fingerprint_that_a_borrowed_session_insists_on(
    tls: _Tls, exchange: Exchange, serve_raw: ServeRaw
) -> None:
    connector = aiohttp.TCPConnector(ssl=aiohttp.Fingerprint(bytes(32)))
    async with (
        serve_raw(_answer(b""), tls=tls.server) as server,
        aiohttp.ClientSession(connector=connector) as session,
        contextlib.aclosing(Pool(PoolOptions(session=session))) as pool,
    ):
        error = await _fail(exchange(pool, server.url))
    assert type(error) is ConnectError
    assert "no connection to " in str(error)
    assert "ServerFingerprintMismatch: " in str(error)
