"""What people get wrong: each is a clear error that names what to change, and leaves nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest

from aiosmrt import (
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    CredentialsError,
    SageMakerRuntimeClient,
    ServiceError,
    Timeout,
    UnexpectedResponse,
    WriteTimeout,
)
from aiosmrt.service.model import OPERATIONS

if TYPE_CHECKING:
    from tests.conftest import (
        Answer,
        Converse,
        EventStreams,
        Leftovers,
        SeenRequest,
        Serve,
        ServeRaw,
        Tls,
    )

    Events: TypeAlias = type[EventStreams]

Respond: TypeAlias = Callable[..., bytes]
Until: TypeAlias = Callable[..., Awaitable[None]]

PAGE = b"<!DOCTYPE html><title>Blocked</title>\n<p>Your administrator says no."
STREAM = "InvokeEndpointWithResponseStream"

each_operation = pytest.mark.parametrize("operation", OPERATIONS)


def _send(data: bytes) -> Answer:
    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return answer


# --- settings and credentials


@each_operation
@pytest.mark.asyncio
async def test_no_region(operation: str, leftovers: Leftovers) -> None:
    client = SageMakerRuntimeClient(max_connections=1)
    error = await leftovers.fail(client, operation)
    assert isinstance(error, ConfigurationError)
    assert "region_name= to the client" in str(error)
    assert "AWS_REGION" in str(error)
    await leftovers.check(client)


@each_operation
@pytest.mark.asyncio
async def test_no_credentials(operation: str, leftovers: Leftovers) -> None:
    client = SageMakerRuntimeClient(region_name="eu-west-1", max_connections=1)
    error = await leftovers.fail(client, operation)
    assert isinstance(error, CredentialsError)
    for words in ("aws_access_key_id=", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "role"):
        assert words in str(error)
    assert not error.may_have_run
    await leftovers.check(client)


@pytest.mark.asyncio
async def test_half_a_key(monkeypatch: pytest.MonkeyPatch, leftovers: Leftovers) -> None:
    with pytest.raises(ConfigurationError, match="aws_secret_access_key= belong together"):
        SageMakerRuntimeClient(aws_access_key_id="AKIDEXAMPLE")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    client = SageMakerRuntimeClient(region_name="eu-west-1", max_connections=1)
    error = await leftovers.fail(client)
    assert "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY" in str(error)
    await leftovers.check(client)


@pytest.mark.asyncio
async def test_a_profile_that_there_is_not(leftovers: Leftovers) -> None:
    client = SageMakerRuntimeClient(profile_name="nobody", max_connections=1)
    error = await leftovers.fail(client)
    assert isinstance(error, ConfigurationError)
    assert "The profile 'nobody' does not exist (argument)" in str(error)
    await client.aclose()


@each_operation
@pytest.mark.asyncio
async def test_an_expired_token(
    operation: str, serve: Serve, respond: Respond, leftovers: Leftovers
) -> None:
    refusal = respond(
        403,
        b'{"message": "The security token included in the request is expired"}',
        x_amzn_errortype="ExpiredTokenException:http://internal.amazon.com/coral/",
        x_amzn_requestid="7-7-7",
    )
    async with serve(_send(refusal)) as server:
        client = leftovers.connect(server.url)
        error = await leftovers.fail(client, operation)
        assert isinstance(error, ServiceError)
        assert (error.code, error.status) == ("ExpiredTokenException", 403)
        assert error.request_id == "7-7-7"
        assert not error.may_have_run
        assert "is expired" in str(error)
        assert "fetch new credentials" in str(error)
        await leftovers.check(client, server)


# --- addresses


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8080",
        "localhost",
        "ftp://127.0.0.1",
        "https://",
        "https://user:hidden@host",
        "https://host/?a=1",
        "https://host:99999",
        "https://ho st",
    ],
)
@pytest.mark.asyncio
async def test_a_url_that_is_none(url: str, leftovers: Leftovers) -> None:
    client = leftovers.connect(url)
    error = await leftovers.fail(client)
    assert isinstance(error, ConfigurationError)
    assert "Give scheme and host" in str(error)
    assert "hidden" not in str(error)
    await leftovers.check(client)


@pytest.mark.asyncio
async def test_fips_and_a_url(leftovers: Leftovers) -> None:
    client = leftovers.connect("http://127.0.0.1:9", use_fips_endpoint=True)
    error = await leftovers.fail(client)
    assert isinstance(error, ConfigurationError)
    assert "use_fips_endpoint cannot be combined with the custom endpoint" in str(error)
    await leftovers.check(client)


@each_operation
@pytest.mark.asyncio
async def test_a_host_that_there_is_not(
    operation: str, monkeypatch: pytest.MonkeyPatch, leftovers: Leftovers
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", fail)
        client = leftovers.connect("https://nowhere.invalid")
        error = await leftovers.fail(client, operation)
    assert isinstance(error, ConnectError)
    assert "nowhere.invalid has no address" in str(error)
    assert "check region_name and endpoint_url" in str(error)
    assert not error.may_have_run
    await leftovers.check(client)


@each_operation
@pytest.mark.asyncio
async def test_a_port_where_nobody_listens(operation: str, leftovers: Leftovers) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        client = leftovers.connect(url)
        error = await leftovers.fail(client, operation)
    assert isinstance(error, ConnectError)
    assert url in str(error)
    assert "check endpoint_url" in str(error)
    assert not error.may_have_run
    await leftovers.check(client)


@pytest.mark.asyncio
async def test_http_spoken_to_a_port_of_tls(
    serve: Serve, tls: Tls, respond: Respond, leftovers: Leftovers
) -> None:
    async with serve(_send(respond()), tls=tls.server) as server:
        client = leftovers.connect(f"http://127.0.0.1:{server.port}")
        error = await leftovers.fail(client)
        assert isinstance(error, ConnectionLost | UnexpectedResponse)
        assert "endpoint_url" in str(error)
        assert "TLS" in str(error) or "scheme" in str(error)
        await leftovers.check(client, server)


@pytest.mark.asyncio
async def test_tls_spoken_to_a_port_of_http(serve_raw: ServeRaw, leftovers: Leftovers) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async with serve_raw(refuse) as server:
        client = leftovers.connect(f"https://127.0.0.1:{server.port}")
        error = await leftovers.fail(client)
        assert isinstance(error, ConnectError)
        assert "endpoint_url begins with http://" in str(error)
        assert not error.may_have_run
        await leftovers.check(client, server)


@pytest.mark.asyncio
async def test_a_certificate_that_nobody_vouches_for(
    serve: Serve, tls: Tls, respond: Respond, leftovers: Leftovers
) -> None:
    async with serve(_send(respond()), tls=tls.server) as server:
        client = leftovers.connect(server.url)
        error = await leftovers.fail(client)
        assert isinstance(error, ConnectError)
        assert "name its bundle with verify= or AWS_CA_BUNDLE" in str(error)
        assert not error.may_have_run
        await leftovers.check(client, server)


# --- answers that are not the service's


@each_operation
@pytest.mark.parametrize("status", [403, 502])
@pytest.mark.asyncio
async def test_a_proxys_page_in_place_of_an_error(
    status: int, operation: str, serve: Serve, respond: Respond, leftovers: Leftovers
) -> None:
    async with serve(_send(respond(status, PAGE, content_type="text/html"))) as server:
        client = leftovers.connect(server.url)
        error = await leftovers.fail(client, operation)
        assert type(error) is ServiceError
        assert (error.code, error.status) == (str(status), status)
        assert "<title>Blocked</title> <p>Your administrator says no." in str(error)
        assert error.headers["content-type"] == "text/html"
        # A gateway may well have passed the request on before it failed.
        assert error.may_have_run is (status == 502)
        await leftovers.check(client, server)


@pytest.mark.asyncio
async def test_a_page_in_place_of_an_acknowledgement(
    serve: Serve, respond: Respond, leftovers: Leftovers
) -> None:
    async with serve(_send(respond(200, PAGE, content_type="text/html"))) as server:
        client = leftovers.connect(server.url)
        error = await leftovers.fail(client, "InvokeEndpointAsync")
        assert isinstance(error, UnexpectedResponse)
        assert "neither an inference id nor an output location" in str(error)
        assert repr(PAGE) in str(error)
        assert len(error.attempts) == 1
        assert error.may_have_run
        await leftovers.check(client, server)


@pytest.mark.asyncio
async def test_only_the_beginning_of_a_page_is_shown(
    serve: Serve, respond: Respond, leftovers: Leftovers
) -> None:
    for status, operation in ((200, STREAM), (502, "InvokeEndpoint")):
        async with serve(_send(respond(status, PAGE * 10_000, content_type="text/html"))) as server:
            client = leftovers.connect(server.url)
            error = await leftovers.fail(client, operation)
            assert "<title>Blocked</title>" in str(error)
            assert len(str(error)) < 1000
            await leftovers.check(client, server)


@each_operation
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.asyncio
async def test_a_redirect_is_not_followed(
    status: int, operation: str, serve: Serve, respond: Respond, leftovers: Leftovers
) -> None:
    async with serve(_send(respond())) as elsewhere:
        place = f"{elsewhere.url}/login?from=here"
        async with serve(_send(respond(status, b"", location=place))) as server:
            client = leftovers.connect(server.url)
            error = await leftovers.fail(client, operation)
            assert isinstance(error, UnexpectedResponse)
            assert error.status == status
            assert place in str(error)
            assert "redirects are never followed" in str(error)
            assert "endpoint_url" in str(error)
            await leftovers.check(client, server)
        assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b"220 mail\r\n\r\n"]
)
@pytest.mark.asyncio
async def test_a_server_of_something_else(
    answer: bytes, serve: Serve, leftovers: Leftovers
) -> None:
    async with serve(_send(answer)) as server:
        client = leftovers.connect(server.url)
        error = await leftovers.fail(client)
        assert isinstance(error, UnexpectedResponse)
        assert "did not answer in HTTP" in str(error)
        assert "check the scheme and the port of endpoint_url" in str(error)
        await leftovers.check(client, server)


@each_operation
@pytest.mark.asyncio
async def test_a_server_that_stops_reading(
    operation: str, serve_raw: ServeRaw, read_nothing: Converse, leftovers: Leftovers
) -> None:
    async with serve_raw(read_nothing) as server:
        client = leftovers.connect(
            server.url, timeout=Timeout(write=0.2), parameter_validation=False
        )
        error = await leftovers.fail(client, operation, body=bytes(6_291_456))
        assert isinstance(error, WriteTimeout)
        assert (error.limit, error.seconds) == ("write", 0.2)
        assert "Timeout.write" in str(error)
        assert not error.may_have_run
        await leftovers.check(client, server)
