"""Calls through a real proxy: another process, of another project."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import pytest
import trustme

from aiosmrt import (
    AiosmrtError,
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    RetryPolicy,
    SageMakerRuntimeClient,
    Timeout,
)

if TYPE_CHECKING:
    from tests.conftest import (
        Connect,
        EventStreams,
        SeenRequest,
        Serve,
        ServeRaw,
        Tls,
        WireServer,
    )

    Events: TypeAlias = type[EventStreams]

Until: TypeAlias = Callable[..., Awaitable[None]]
Respond: TypeAlias = Callable[..., bytes]
ServerOf: TypeAlias = Callable[[str], AbstractAsyncContextManager[Any]]

# What is special in a URL is percent-encoded there.
PASSWORD = "se:cret/#1"
ENCODED = "se%3Acret%2F%231"

ONCE = RetryPolicy(max_attempts=1)


@attrs.frozen
class ProxyProcess:
    port: int
    scheme: str
    log: Path

    @property
    def url(self) -> str:
        return self.name("")

    def name(self, user: str) -> str:
        """Give the URL with a user, and a password, in it."""
        return f"{self.scheme}://{user}127.0.0.1:{self.port}"

    def passed(self) -> list[str]:
        """Tell what was passed on, on connections that are closed by now."""
        return [
            line
            for line in self.log.read_text().splitlines()
            if " - POST" in line or "CONN" in line
        ]


def _start(stack: ExitStack, folder: Path, *options: str) -> ProxyProcess:
    folder.mkdir()
    port = folder / "port"
    command = [
        *(sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0"),
        *("--port-file", str(port), "--log-file", str(folder / "log")),
        *("--num-acceptors", "1", "--num-workers", "1", "--data-dir", str(folder)),
        *options,
    ]
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    process = subprocess.Popen(
        command,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def stop() -> None:
        # It has processes of its own, and takes a second to end them politely.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    stack.callback(stop)
    deadline = time.monotonic() + 30
    while not (port.exists() and port.read_text().strip()):
        assert process.poll() is None, "the proxy did not start"
        assert time.monotonic() < deadline, "the proxy did not start in time"
        time.sleep(0.01)
    scheme = "https" if "--cert-file" in options else "http"
    return ProxyProcess(int(port.read_text()), scheme, folder / "log")


@pytest.fixture(scope="module")  # they are busy for as long as they live
def processes(
    tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA
) -> Iterator[dict[str, ProxyProcess]]:
    """Three proxies: one for everybody, one that wants a password, one that speaks TLS."""
    pytest.importorskip("proxy", reason="needs the package proxy.py")
    folder = tmp_path_factory.mktemp("proxies")
    pem = str(folder / "proxy.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        yield {
            "open": _start(stack, folder / "open"),
            "guarded": _start(stack, folder / "guarded", "--basic-auth", f"user:{PASSWORD}"),
            "tls": _start(stack, folder / "tls", "--cert-file", pem, "--key-file", pem),
        }


@pytest.fixture
def bundle(tmp_path: Path, authority: trustme.CA) -> str:
    path = str(tmp_path / "bundle.pem")
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.fixture
def server_of(serve: Serve, tls: Tls, respond: Respond, events: Events) -> ServerOf:
    """Give a function that serves over a scheme."""

    @asynccontextmanager
    async def serve_over(scheme: str) -> AsyncIterator[WireServer]:
        writers = []

        async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            stream = request.target.endswith("-stream")
            writer.write(events.whole(b"a", b"b") if stream else respond(200, b"ok"))

        async with serve(answer, tls=tls.server if scheme == "https" else None) as server:
            yield server
        # TLS says goodbye, and the proxy between the two takes its time to pass that on.
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    return serve_over


WAYS = {
    "open": ("open", ""),
    "guarded": ("guarded", f"user:{ENCODED}@"),
    "tls": ("tls", ""),
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.asyncio
async def test_calls_and_streams_go_through_a_proxy(
    *,
    way: str,
    scheme: str,
    processes: dict[str, ProxyProcess],
    server_of: ServerOf,
    connect: Connect,
    bundle: str,
    until: Until,
) -> None:
    name, user = WAYS[way]
    proxy = processes[name]
    async with server_of(scheme) as server:
        async with connect(server, proxy=proxy.name(user), verify=bundle) as client:
            body = bytes(300_000)
            response = await client.invoke_endpoint(endpoint_name="e", body=body)
            assert response.body == b"ok"
            async with client.invoke_endpoint_with_response_stream(
                endpoint_name="e", body=b""
            ) as stream:
                assert await stream.read() == b"ab"
            assert [len(request.body) for request in server.requests] == [300_000, 0]
        # This proxy reads the first request of a connection, and passes later ones on as they are.
        for request in server.requests if scheme == "https" else server.requests[:1]:
            assert "proxy-authorization" not in request.headers
            assert ("via" in request.headers) is (scheme == "http")
        tunnelled = f"{'CONNECT ' if scheme == 'https' else 'POST '}127.0.0.1:{server.port}"
        await until(lambda: any(tunnelled in line for line in proxy.passed()))
        await until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("given", ["wrong password", "no password", "header"])
@pytest.mark.asyncio
async def test_a_password_that_a_proxy_does_not_take(
    *,
    scheme: str,
    given: str,
    processes: dict[str, ProxyProcess],
    server_of: ServerOf,
    connect: Connect,
    bundle: str,
) -> None:
    proxy = processes["guarded"]
    options: dict[str, Any] = {"proxy": proxy.url}
    if given == "wrong password":
        options["proxy"] = proxy.name("user:un%20true@")
    elif given == "header":
        options["proxy_headers"] = {"Proxy-Authorization": "Basic dXNlcjp1biB0cnVl"}
    async with (
        server_of(scheme) as server,
        connect(server, verify=bundle, retry=ONCE, **options) as client,
    ):
        with pytest.raises(ConnectError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert server.connections == 0
    said = str(caught.value)
    assert f"the proxy 127.0.0.1:{proxy.port} did not connect to {server.url}: HTTP 407" in said
    assert "check user and password in its URL (proxy= or HTTPS_PROXY)" in said
    _check(caught.value, "un true", "un%20true", "dXNlcjp1biB0cnVl")


def _check(error: AiosmrtError, *secrets: str) -> None:
    """See that nothing ran, and that no secret is in anything that may be logged."""
    assert not error.may_have_run
    assert error.operation == "InvokeEndpoint"
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__cause__)
    assert not [secret for secret in secrets if secret in shown]


@pytest.mark.asyncio
async def test_headers_for_the_proxy_alone_can_be_the_password(
    processes: dict[str, ProxyProcess], server_of: ServerOf, connect: Connect, bundle: str
) -> None:
    basic = {"Proxy-Authorization": "Basic dXNlcjpzZTpjcmV0LyMx"}
    for scheme in ("http", "https"):
        async with (
            server_of(scheme) as server,
            connect(
                server, proxy=processes["guarded"].url, proxy_headers=basic, verify=bundle
            ) as client,
        ):
            response = await client.invoke_endpoint(endpoint_name="e", body=b"")
            assert response.body == b"ok"
            assert "proxy-authorization" not in server.requests[0].headers


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.asyncio
async def test_a_proxy_that_nobody_listens_for(
    scheme: str, server_of: ServerOf, connect: Connect, free_port: int
) -> None:
    proxy = f"http://user:{ENCODED}@127.0.0.1:{free_port}"
    async with server_of(scheme) as server, connect(server, proxy=proxy, retry=ONCE) as client:
        with pytest.raises(ConnectError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert server.connections == 0
    said = str(caught.value)
    assert f"no connection to the proxy 127.0.0.1:{free_port}: ConnectionRefusedError" in said
    assert "check proxy= and HTTPS_PROXY" in said
    _check(caught.value, PASSWORD, ENCODED)


@pytest.mark.asyncio
async def test_a_proxy_that_says_nothing(
    serve_raw: ServeRaw, connect: Connect, server_of: ServerOf
) -> None:
    async def swallow(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serve_raw(swallow) as silent, server_of("https") as server:
        proxy = f"http://user:{ENCODED}@127.0.0.1:{silent.port}"
        async with connect(server, proxy=proxy, retry=ONCE, timeout=Timeout(connect=0.1)) as client:
            with pytest.raises(ConnectTimeout) as caught:
                await client.invoke_endpoint(endpoint_name="e", body=b"")
        way = f"{server.url} through the proxy 127.0.0.1:{silent.port}"
        assert f"no connection was made to {way} within 0.1 s" in str(caught.value)
        _check(caught.value, PASSWORD, ENCODED)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"HTTP/1.1 2"])
@pytest.mark.asyncio
async def test_a_proxy_that_is_none(
    answer: bytes, serve_raw: ServeRaw, connect: Connect, server_of: ServerOf
) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async with serve_raw(say) as stranger, server_of("https") as server:
        proxy = f"http://user:{ENCODED}@127.0.0.1:{stranger.port}"
        async with connect(server, proxy=proxy, retry=ONCE, aws_session_token="tok") as client:
            with pytest.raises(ConnectError) as caught:
                await client.invoke_endpoint(endpoint_name="e", body=b"")
        way = f"{server.url} through the proxy 127.0.0.1:{stranger.port}"
        assert f"no connection to {way}: " in str(caught.value)
        assert "proxy= and HTTPS_PROXY" in str(caught.value)
        _check(caught.value, PASSWORD, ENCODED, "dXNlcjpzZTpjcmV0LyMx")


@pytest.mark.asyncio
async def test_a_host_that_the_proxy_does_not_reach(
    processes: dict[str, ProxyProcess], free_port: int
) -> None:
    proxy = processes["open"]
    client = SageMakerRuntimeClient(
        endpoint_url=f"https://127.0.0.1:{free_port}",
        region_name="eu-west-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="x",
        proxy=proxy.url,
        retry=ONCE,
    )
    async with client:
        with pytest.raises(ConnectError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"")
    said = str(caught.value)
    assert f"the proxy 127.0.0.1:{proxy.port} did not connect to {client.endpoint_url}: " in said
    assert "HTTP 502" in said
    assert "check endpoint_url, and whether the proxy may go there" in said
    assert not caught.value.may_have_run


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.asyncio
async def test_the_certificate_of_a_proxy_is_checked(
    scheme: str, processes: dict[str, ProxyProcess], server_of: ServerOf, connect: Connect
) -> None:
    proxy = processes["tls"]
    async with (
        server_of(scheme) as server,
        connect(server, proxy=proxy.url, retry=ONCE) as client,
    ):
        with pytest.raises(ConnectError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert server.connections == 0
    said = str(caught.value)
    assert f"the certificate of the proxy 127.0.0.1:{proxy.port} was refused" in said
    assert "name its bundle with verify= or AWS_CA_BUNDLE" in said


@pytest.mark.asyncio
async def test_the_certificate_behind_a_proxy_is_checked_too(
    processes: dict[str, ProxyProcess], server_of: ServerOf, connect: Connect
) -> None:
    async with (
        server_of("https") as server,
        connect(server, proxy=processes["open"].url, retry=ONCE) as client,
    ):
        with pytest.raises(ConnectError, match=f"the certificate of {server.url} was refused"):
            await client.invoke_endpoint(endpoint_name="e", body=b"")


# --- from the environment


@pytest.mark.parametrize(
    ("scheme", "variable"),
    [
        ("https", "HTTPS_PROXY"),
        ("https", "https_proxy"),
        ("http", "HTTP_PROXY"),
        ("http", "http_proxy"),
    ],
)
@pytest.mark.asyncio
async def test_the_environment_names_the_proxy(
    *,
    scheme: str,
    variable: str,
    processes: dict[str, ProxyProcess],
    server_of: ServerOf,
    connect: Connect,
    bundle: str,
    monkeypatch: pytest.MonkeyPatch,
    until: Until,
) -> None:
    proxy = processes["guarded"]
    monkeypatch.setenv(variable, proxy.name(f"user:{ENCODED}@").partition("://")[2])
    monkeypatch.setenv("NO_PROXY", "elsewhere.example,10.0.0.0/8")
    async with server_of(scheme) as server:
        async with connect(server, verify=bundle) as client:
            await client.invoke_endpoint(endpoint_name="e", body=b"")
        await until(lambda: any(str(server.port) in line for line in proxy.passed()))


@pytest.mark.parametrize("no_proxy", ["127.0.0.0/8", "127.0.0.1", "x, 127.0.0.1:{port}", "*"])
@pytest.mark.asyncio
async def test_no_proxy_leads_past_it(
    *,
    no_proxy: str,
    server_of: ServerOf,
    connect: Connect,
    bundle: str,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nobody is there.
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port}")
    async with server_of("https") as server:
        monkeypatch.setenv("NO_PROXY", no_proxy.format(port=server.port))
        async with connect(server, verify=bundle, retry=ONCE) as client:
            await client.invoke_endpoint(endpoint_name="e", body=b"")
        # An argument is meant for this client, whatever the environment says.
        async with connect(
            server, verify=bundle, retry=ONCE, proxy=f"http://127.0.0.1:{free_port}"
        ) as client:
            # Whoever has taken the port since is no proxy.
            with pytest.raises(ConnectError, match=r"no connection to .*the proxy"):
                await client.invoke_endpoint(endpoint_name="e", body=b"")


@pytest.mark.asyncio
async def test_each_endpoint_of_one_pool_has_a_way_of_its_own(
    *,
    processes: dict[str, ProxyProcess],
    server_of: ServerOf,
    connect: Connect,
    bundle: str,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
    until: Until,
) -> None:
    """A derived client may call another endpoint, for which the environment says otherwise."""
    proxy = processes["open"]
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port}")
    async with server_of("https") as secure, server_of("http") as plain, server_of("http") as near:
        monkeypatch.setenv("NO_PROXY", f"127.0.0.1:{near.port}")
        async with connect(secure, verify=bundle, retry=ONCE) as client:
            await client.invoke_endpoint(endpoint_name="e", body=b"")
            await client.with_options(endpoint_url=near.url).invoke_endpoint(
                endpoint_name="e", body=b""
            )
            assert "via" not in near.requests[0].headers
            with pytest.raises(ConnectError, match=f"to the proxy 127.0.0.1:{free_port}"):
                await client.with_options(endpoint_url=plain.url).invoke_endpoint(
                    endpoint_name="e", body=b""
                )
        await until(lambda: any(str(secure.port) in line for line in proxy.passed()))
        assert not any(str(near.port) in line for line in proxy.passed())


@pytest.mark.parametrize("url", ["socks5://user:se-cret@127.0.0.1:1", "http://user:se-cret@[::1"])
@pytest.mark.asyncio
async def test_a_variable_that_names_no_proxy(
    url: str, server_of: ServerOf, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", url)
    async with server_of("http") as server, connect(server, max_connections=1) as client:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=r"proxy= or HTTPS_PROXY") as caught:
                await client.invoke_endpoint(endpoint_name="e", body=b"")
            _check(caught.value, "se-cret")


@pytest.mark.parametrize("url", ["127.0.0.1:3128", "socks5://127.0.0.1", "http://", 3128])
def test_an_argument_that_names_no_proxy(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="proxy: a URL such as"):
        SageMakerRuntimeClient(proxy=url)


def test_the_proxy_is_nowhere_shown_with_its_password() -> None:
    client = SageMakerRuntimeClient(
        region_name="eu-west-1",
        proxy="http://user:se-cret@127.0.0.1:3128",
        proxy_headers={"x-token": "se-cret"},
    )
    shown = repr([client, client._builder.config, client._builder.resolution.resolve_now()])
    assert "se-cret" not in shown
