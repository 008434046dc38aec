"""Whom a client trusts, and how it shows who it is, from its options to the handshake."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import aiohttp
import attrs
import botocore.httpsession
import pytest
import pytest_asyncio
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import aiosmrt.calls.builder
from aiosmrt import (
    AiosmrtError,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    RetryPolicy,
    SageMakerRuntimeClient,
)
from aiosmrt.settings.tls import DefaultContext

if TYPE_CHECKING:
    from tests.conftest import Answer, Connect, EventStreams, SeenRequest, Serve, ServeRaw, Tls

    Events: TypeAlias = type[EventStreams]

Respond: TypeAlias = Callable[..., bytes]
Until: TypeAlias = Callable[..., Awaitable[None]]

ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture
def answer(respond: Respond, events: Events) -> Answer:
    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        stream = request.target.endswith("-stream")
        writer.write(events.whole(b"a") if stream else respond(200, b"ok"))

    return answer


@attrs.frozen
class Files:
    """Certificates in files."""

    bundle: str  # the authority's
    other_bundle: str  # of one that has signed nothing here
    pair: str  # a client's certificate and its key
    certificate: str
    key: str


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Files:
    folder = tmp_path_factory.mktemp("certificates")

    def write(name: str, *blobs: trustme.Blob) -> str:
        (folder / name).write_bytes(b"".join(blob.bytes() for blob in blobs))
        return str(folder / name)

    client = authority.issue_cert("client@example")
    return Files(
        bundle=write("bundle.pem", authority.cert_pem),
        other_bundle=write("other.pem", trustme.CA().cert_pem),
        pair=write("pair.pem", client.private_key_and_cert_chain_pem),
        certificate=write("certificate.pem", *client.cert_chain_pems),
        key=write("key.pem", client.private_key_pem),
    )


def _serve_as(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    leaf.configure_cert(context)
    return context


async def _call(client: SageMakerRuntimeClient) -> None:
    response = await client.invoke_endpoint(endpoint_name="e", body=b"x")
    assert response.body == b"ok"
    async with client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x") as stream:
        assert await stream.read() == b"a"


# --- whom to trust


@pytest.mark.parametrize("form", ["path", "Path", "context", "False", "variable"])
@pytest.mark.asyncio
async def test_whom_to_trust_can_be_said(
    *,
    form: str,
    files: Files,
    tls: Tls,
    serve: Serve,
    answer: Answer,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verify: dict[str, Any] = {
        "path": files.bundle,
        "Path": Path(files.bundle),
        "context": tls.client,
        "False": False,
        "variable": None,
    }
    if form == "variable":
        monkeypatch.setenv("AWS_CA_BUNDLE", files.bundle)
    async with (
        serve(answer, tls=tls.server) as server,
        connect(server, verify=verify[form]) as client,
    ):
        await _call(client)
        assert server.connections == 1


@pytest.mark.asyncio
async def test_an_argument_is_trusted_before_the_environment(
    *,
    files: Files,
    tls: Tls,
    serve: Serve,
    answer: Answer,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", files.other_bundle)
    async with serve(answer, tls=tls.server) as server:
        async with connect(server, verify=files.bundle) as client:
            await _call(client)
        async with connect(server, retry=ONCE) as client:
            with pytest.raises(ConnectError, match="was refused"):
                await _call(client)
        monkeypatch.setenv("AWS_CA_BUNDLE", files.bundle)
        async with connect(server, retry=ONCE, verify=files.other_bundle) as client:
            with pytest.raises(ConnectError, match="was refused"):
                await _call(client)
        # The system's authorities, not those of the variable.
        async with connect(server, retry=ONCE, verify=ssl.create_default_context()) as client:
            with pytest.raises(ConnectError, match="was refused"):
                await _call(client)


@pytest.mark.asyncio
async def test_a_profile_names_a_bundle(
    *,
    files: Files,
    tls: Tls,
    serve: Serve,
    answer: Answer,
    connect: Connect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "config").write_text(f"[profile p]\nca_bundle = {files.bundle}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    async with (
        serve(answer, tls=tls.server) as server,
        connect(server, profile_name="p") as client,
    ):
        await _call(client)


def _sign_itself() -> trustme.LeafCert:
    """Make a certificate that nobody but its own key has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return trustme.LeafCert(pem, certificate.public_bytes(serialization.Encoding.PEM), [])


def _expire(authority: trustme.CA) -> trustme.LeafCert:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    return authority.issue_cert("127.0.0.1", not_after=yesterday)


REFUSED: dict[str, tuple[Callable[[trustme.CA], trustme.LeafCert], str, str]] = {
    "unknown authority": (
        lambda _: trustme.CA().issue_cert("127.0.0.1"),
        "unable to get local issuer certificate",
        "name its bundle with verify= or AWS_CA_BUNDLE",
    ),
    "self-signed": (
        lambda _: _sign_itself(),
        "self-signed certificate",
        "name its bundle with verify= or AWS_CA_BUNDLE",
    ),
    "expired": (
        _expire,
        "certificate has expired",
        "the server needs a new one, unless this machine's clock is wrong",
    ),
    "another host": (
        lambda authority: authority.issue_cert("elsewhere.example"),
        "IP address mismatch, certificate is not valid for '127.0.0.1'",
        "endpoint_url must have a host name that the certificate is for",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.asyncio
async def test_a_certificate_that_is_refused(
    *,
    name: str,
    files: Files,
    authority: trustme.CA,
    serve: Serve,
    answer: Answer,
    connect: Connect,
) -> None:
    make, reason, advice = REFUSED[name]
    async with (
        serve(answer, tls=_serve_as(make(authority))) as server,
        connect(server, verify=files.bundle, retry=ONCE, max_connections=1) as client,
    ):
        for _ in range(2):
            with pytest.raises(ConnectError) as caught:
                await client.invoke_endpoint(endpoint_name="e", body=b"x")
            said = str(caught.value)
            assert f"the certificate of {server.url} was refused: SSLCertVerification" in said
            assert reason in said
            assert advice in said
            assert not caught.value.may_have_run
            assert len(caught.value.attempts) == 1
        assert server.requests == []
        # Whoever does not look, is not told.
        async with connect(server, verify=False) as careless:
            await _call(careless)


@pytest.mark.asyncio
async def test_a_host_of_another_name(
    files: Files, tls: Tls, serve: Serve, answer: Answer, connect: Connect
) -> None:
    async with serve(answer, tls=tls.server) as server:
        url = f"https://localhost:{server.port}"
        async with connect(server, endpoint_url=url, verify=files.bundle, retry=ONCE) as client:
            with pytest.raises(ConnectError) as caught:
                await _call(client)
    assert "not valid for 'localhost'" in str(caught.value)
    assert "endpoint_url must have a host name" in str(caught.value)


# --- what boto3 takes


def _issue_without_identifiers(name: str) -> tuple[bytes, trustme.LeafCert]:
    """Make an authority as openssl's old recipes do, and a certificate by it.

    Neither says by which key it is signed (RFC 5280, section 4.2.1.1), as private authorities often
    do not.
    """
    key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)

    def begin(whose: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        number = x509.random_serial_number()
        builder = x509.CertificateBuilder(issuer, whose, public, number)
        return builder.not_valid_before(now - day).not_valid_after(now + day)

    root = begin(issuer, key.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    certificate = begin(subject, leaf_key.public_key()).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), critical=False
    )
    pem = leaf_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    encoded = certificate.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    bundle = root.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return bundle, trustme.LeafCert(pem, encoded, [])


@pytest.fixture
def fresh_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the default context made anew."""
    monkeypatch.setattr(aiosmrt.calls.builder, "default_context", DefaultContext())


@pytest.mark.parametrize("way", ["verify", "AWS_CA_BUNDLE", "the system's", "client_cert"])
@pytest.mark.usefixtures("strict_python", "fresh_default")
@pytest.mark.asyncio
async def test_a_private_authority_without_key_identifiers(
    *,
    way: str,
    files: Files,
    serve: Serve,
    answer: Answer,
    connect: Connect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle, leaf = _issue_without_identifiers("127.0.0.1")
    path = tmp_path / "old.pem"
    path.write_bytes(bundle)
    options: dict[str, Any] = {"verify": path} if way == "verify" else {}
    if way == "client_cert":
        options = {"verify": path, "client_cert": files.pair}
    elif way != "verify":
        monkeypatch.setenv("SSL_CERT_FILE" if way == "the system's" else way, str(path))
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(server_side)
    strange = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _issue_without_identifiers("127.0.0.1")[1].configure_cert(strange)
    async with serve(answer, tls=server_side) as server, serve(answer, tls=strange) as stranger:
        async with connect(server, **options) as client:
            await _call(client)
        # Verification stays on.
        async with connect(stranger, retry=ONCE, **options) as client:
            with pytest.raises(ConnectError, match="was refused"):
                await _call(client)
        url = f"https://localhost:{server.port}"
        async with connect(server, endpoint_url=url, retry=ONCE, **options) as client:
            with pytest.raises(ConnectError, match="not valid for 'localhost'"):
                await _call(client)


@pytest.mark.usefixtures("fresh_default")
@pytest.mark.asyncio
async def test_a_system_that_trusts_nobody(
    *,
    files: Files,
    tls: Tls,
    serve: Serve,
    answer: Answer,
    connect: Connect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "none.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    # What boto3 would trust then.
    monkeypatch.setattr(botocore.httpsession, "where", lambda: files.bundle)
    stranger = _serve_as(trustme.CA().issue_cert("127.0.0.1"))
    async with (
        serve(answer, tls=tls.server) as server,
        serve(answer, tls=stranger) as strange,
        connect(server, retry=ONCE) as client,
    ):
        await _call(client)
        with pytest.raises(ConnectError, match="was refused"):
            await _call(client.with_options(endpoint_url=strange.url))


@pytest.mark.asyncio
async def test_a_session_has_an_opinion_of_its_own(
    tls: Tls, serve: Serve, answer: Answer, connect: Connect
) -> None:
    connector = aiohttp.TCPConnector(ssl=tls.client)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        serve(answer, tls=tls.server) as server,
        connect(server, session=session) as client,
    ):
        await _call(client)


# --- files that are none


@pytest.mark.parametrize("option", ["verify", "AWS_CA_BUNDLE"])
@pytest.mark.parametrize("content", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\nx"])
@pytest.mark.asyncio
async def test_a_bundle_that_cannot_be_read(
    *,
    content: str | None,
    option: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve,
    answer: Answer,
    connect: Connect,
) -> None:
    file = tmp_path / "bundle.pem"
    if content is not None:
        file.write_text(content)
    options: dict[str, Any] = {}
    if option == "verify":
        options["verify"] = str(file)
    else:
        monkeypatch.setenv(option, str(file))
    async with serve(answer) as server, connect(server, **options) as client:
        # Making the client reads no files; the first call does, and so does every later one.
        for attempt in (client.warm_up, lambda: client.invoke_endpoint(endpoint_name="e", body="")):
            with pytest.raises(ConfigurationError, match=r"CA bundle") as caught:
                await attempt()
            assert str(file) in str(caught.value)
        assert server.connections == 0
        # Mended, it is read.
        file.write_bytes(trustme.CA().cert_pem.bytes())
        await client.invoke_endpoint(endpoint_name="e", body="")


@pytest.mark.parametrize("broken", ["missing", "no key", "garbage", "another key", "missing key"])
@pytest.mark.asyncio
async def test_a_client_certificate_that_cannot_be_read(
    broken: str, files: Files, tmp_path: Path
) -> None:
    (tmp_path / "garbage").write_text("nothing")
    (tmp_path / "other").write_bytes(trustme.CA().issue_cert("x@y").private_key_pem.bytes())
    given: dict[str, tuple[Any, str]] = {
        "missing": (str(tmp_path / "nowhere"), "nowhere"),
        "no key": (files.certificate, files.certificate),
        "garbage": (tmp_path / "garbage", "garbage"),
        "another key": ((files.certificate, str(tmp_path / "other")), "other"),
        "missing key": ((files.certificate, tmp_path / "gone"), "gone"),
    }
    client_cert, name = given[broken]
    client = SageMakerRuntimeClient(
        region_name="eu-west-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="x",
        client_cert=client_cert,
    )
    with pytest.raises(ConfigurationError, match="client_cert") as caught:
        await client.invoke_endpoint(endpoint_name="e", body=b"x")
    assert name in str(caught.value)
    assert caught.value.operation == "InvokeEndpoint"


# --- who one is


@pytest.fixture
def strict(authority: trustme.CA) -> ssl.SSLContext:
    """The context of a server that answers nobody without a certificate."""
    context = _serve_as(authority.issue_cert("127.0.0.1"))
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize("form", ["one file", "Path", "two files", "in the context"])
@pytest.mark.asyncio
async def test_a_client_shows_who_it_is(
    *,
    form: str,
    files: Files,
    strict: ssl.SSLContext,
    serve: Serve,
    answer: Answer,
    connect: Connect,
) -> None:
    context = ssl.create_default_context(cafile=files.bundle)
    context.load_cert_chain(files.pair)
    options: dict[str, dict[str, Any]] = {
        "one file": {"verify": files.bundle, "client_cert": files.pair},
        "Path": {"verify": Path(files.bundle), "client_cert": Path(files.pair)},
        "two files": {"verify": False, "client_cert": (files.certificate, files.key)},
        "in the context": {"verify": context},
    }
    shown: list[Any] = []

    async def look(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        shown.append(writer.get_extra_info("peercert"))
        await answer(request, writer)

    async with (
        serve(look, tls=strict) as server,
        connect(server, **options[form]) as client,
    ):
        await _call(client)
        await _call(client.with_options(timeout=9))
        assert server.connections == 1
    assert all(("email", "client@example") in peer["subjectAltName"] for peer in shown)


@pytest.mark.asyncio
async def test_who_does_not_show_it_is_refused(
    files: Files, strict: ssl.SSLContext, serve: Serve, answer: Answer, connect: Connect
) -> None:
    async with (
        serve(answer, tls=strict) as server,
        connect(server, verify=files.bundle, retry=ONCE) as client,
    ):
        # With TLS 1.3 the refusal comes after the client's side of the handshake is done.
        with pytest.raises(AiosmrtError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
        assert isinstance(caught.value, ConnectError | ConnectionLost)
        assert server.requests == []


def test_a_context_holds_its_certificates_itself(files: Files) -> None:
    client = SageMakerRuntimeClient(
        region_name="eu-west-1", verify=ssl.create_default_context(), client_cert=files.pair
    )
    with pytest.raises(ConfigurationError, match=r"load_cert_chain\(\)"):
        _ = client.endpoint_url


# --- proxies that speak TLS


@attrs.frozen
class Proxy:
    """A proxy with an authority of its own."""

    url: str
    bundle: str  # its authority's
    pair: str  # a client's certificate by that authority
    tunnels: list[str]  # request lines
    peers: list[Any]  # what clients have shown


@pytest_asyncio.fixture
async def proxy(serve_raw: ServeRaw, tmp_path: Path) -> AsyncIterator[Proxy]:
    """Serve as a proxy that lets nobody through without a certificate."""
    own = trustme.CA()
    bundle, pair = tmp_path / "proxies.pem", tmp_path / "towards-proxies.pem"
    own.cert_pem.write_to_path(str(bundle))
    own.issue_cert("me@proxies").private_key_and_cert_chain_pem.write_to_path(str(pair))
    context = _serve_as(own.issue_cert("127.0.0.1"))
    own.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    tunnels: list[str] = []
    peers: list[Any] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *_ = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        tunnels.append(line)
        peers.append(writer.get_extra_info("peercert"))
        host, _, port = line.split(" ")[1].rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")

        async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(1 << 16):
                    to.write(data)
            to.close()

        await asyncio.gather(copy(reader, back), copy(there, writer))

    async with serve_raw(tunnel, tls=context) as server:
        yield Proxy(server.url, str(bundle), str(pair), tunnels, peers)


@pytest.mark.parametrize("way", ["argument", "HTTPS_PROXY"])
@pytest.mark.parametrize("form", ["files", "context"])
@pytest.mark.asyncio
async def test_a_proxy_with_an_authority_of_its_own(
    *,
    way: str,
    form: str,
    proxy: Proxy,
    files: Files,
    strict: ssl.SSLContext,
    serve: Serve,
    answer: Answer,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    until: Until,
) -> None:
    options: dict[str, Any] = {"verify": files.bundle, "client_cert": files.pair}
    if form == "files":
        options |= {"proxy_verify": proxy.bundle, "proxy_client_cert": proxy.pair}
    else:
        options["proxy_verify"] = ssl.create_default_context(cafile=proxy.bundle)
        options["proxy_verify"].load_cert_chain(proxy.pair)
    if way == "argument":
        options["proxy"] = proxy.url
    else:
        monkeypatch.setenv(way, proxy.url)
    async with serve(answer, tls=strict) as server:
        async with connect(server, **options) as client:
            await _call(client)
        await until(lambda: server.open_connections == 0)
        assert proxy.tunnels == [f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"]
    # To each the certificate that is for it.
    assert ("email", "me@proxies") in proxy.peers[0]["subjectAltName"]


@pytest.mark.asyncio
async def test_the_authority_of_a_proxy_is_trusted_for_it_alone(
    *, proxy: Proxy, files: Files, tls: Tls, serve: Serve, answer: Answer, connect: Connect
) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        # The proxy's authority does not vouch for the endpoint, nor the endpoint's for the proxy.
        # TLS within TLS of Python 3.11.7 and 3.12.1 stumbles over it (gh-113214), and ends, too.
        ({"verify": proxy.bundle}, r"the certificate of https://127\.0\.0\.1|TypeError"),
        ({"proxy_verify": files.bundle, "verify": files.bundle}, "certificate of the proxy"),
        ({"proxy_verify": None, "verify": files.bundle}, "the proxy alone with proxy_verify="),
        # Who does not show who they are gets nowhere.
        ({"proxy_client_cert": None, "verify": files.bundle}, "proxy_client_cert="),
    ]
    async with serve(answer, tls=tls.server) as server:
        for options, words in wrong:
            way = {
                "proxy": proxy.url,
                "proxy_verify": proxy.bundle,
                "proxy_client_cert": proxy.pair,
                **options,
            }
            async with connect(server, retry=ONCE, **way) as client:
                with pytest.raises(ConnectError, match=words) as caught:
                    await client.invoke_endpoint(endpoint_name="e", body=b"x")
            assert not caught.value.may_have_run
        assert server.requests == []
        async with connect(
            server,
            proxy=proxy.url,
            proxy_verify=False,
            proxy_client_cert=proxy.pair,
            verify=files.bundle,
        ) as client:
            assert (await client.invoke_endpoint(endpoint_name="e", body=b"x")).body == b"ok"
