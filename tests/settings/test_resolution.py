"""Options, environment and profile, made one thing, off the loop."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import re
import ssl
import subprocess
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import pytest
import trustme

import aiosmrt.settings.resolution
from aiosmrt.config import UNSIGNED, Config, RetryPolicy
from aiosmrt.errors import ConfigurationError
from aiosmrt.settings.resolution import Resolution, Resolved
from aiosmrt.transport import Pool, PooledResponse, PoolOptions
from aiosmrt.version import __version__


class _Server(Protocol):
    url: str


class _Tls(Protocol):
    server: ssl.SSLContext
    client: ssl.SSLContext


Serve = Callable[..., AbstractAsyncContextManager[_Server]]
Exchange = Callable[..., Coroutine[None, None, PooledResponse]]

_BASE = Config(region_name="eu-west-1")


def _resolve(**options: object) -> Resolved:
    config = Config(**{"region_name": "eu-west-1", **options})  # type: ignore[arg-type]  # any
    return Resolution(config).resolve_now()


# --- how it resolves


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads that resolve."""
    resolving = []
    resolve = aiosmrt.settings.resolution._resolve

    def spy(config: Config) -> Resolved:
        resolving.append(threading.current_thread())
        return resolve(config)

    monkeypatch.setattr(aiosmrt.settings.resolution, "_resolve", spy)
    return resolving


@pytest.mark.asyncio
async def test_everybody_resolves_once_and_reads_files_off_the_loop(
    threads: list[threading.Thread], bundle: str
) -> None:
    resolution = Resolution(Config(region_name="eu-west-1", verify=bundle))
    first, second = await asyncio.gather(resolution.resolve(), resolution.resolve())
    assert first is second is await resolution.resolve() is resolution.resolve_now()
    assert resolution.resolved is first
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


@pytest.mark.asyncio
async def test_without_a_file_nobody_waits_for_a_thread(threads: list[threading.Thread]) -> None:
    resolution = Resolution(_BASE)
    assert await resolution.resolve() is await resolution.resolve() is resolution.resolved
    assert threads == [threading.current_thread()]


@pytest.mark.asyncio
async def test_an_error_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    resolution = Resolution(Config())
    with pytest.raises(ConfigurationError, match="No AWS region is set"):
        await resolution.resolve()
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert (await resolution.resolve()).region_name == "us-west-2"


def test_without_a_loop_it_resolves_at_once(threads: list[threading.Thread]) -> None:
    resolution = Resolution(_BASE)
    assert resolution.resolve_now() is resolution.resolve_now()
    assert threads == [threading.main_thread()]


@pytest.mark.asyncio
async def test_on_a_loop_it_resolves_at_once_what_needs_no_file() -> None:
    assert Resolution(_BASE).resolve_now().region_name == "eu-west-1"
    assert Resolution(Config(region_name="eu-west-1", verify=False)).resolve_now().tls is False


@pytest.fixture
def bundle(tmp_path: Path, authority: trustme.CA) -> str:
    """A CA bundle's path."""
    path = tmp_path / "bundle.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def client_cert(tmp_path: Path, authority: trustme.CA) -> str:
    """The path of a client certificate and its key."""
    path = tmp_path / "client.pem"
    authority.issue_cert("client@example").private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


@pytest.mark.parametrize(
    "files",
    ["config", "variable", "requests", "verify", "cert", "proxy_verify", "proxy_client_cert"],
)
@pytest.mark.asyncio
async def test_on_a_loop_it_reads_no_files(
    files: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: str, client_cert: str
) -> None:
    config = _BASE
    if files == "config":
        (tmp_path / "config").write_text("[default]\nregion = us-east-2\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        config = Config()
    elif files == "variable":
        monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    elif files == "requests":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    elif files == "verify":
        config = Config(region_name="eu-west-1", verify=bundle)
    elif files == "proxy_verify":
        config = Config(region_name="eu-west-1", proxy_verify=bundle)
    elif files == "proxy_client_cert":
        config = Config(region_name="eu-west-1", proxy_client_cert=client_cert)
    else:
        config = Config(region_name="eu-west-1", client_cert=client_cert)
    resolution = Resolution(config)
    with pytest.raises(ConfigurationError, match=r"await client\.warm_up\(\) first"):
        resolution.resolve_now()
    resolved = await resolution.resolve()
    assert resolution.resolve_now() is resolved


@pytest.mark.asyncio
async def test_on_a_loop_a_profile_is_not_looked_for() -> None:
    with pytest.raises(ConfigurationError, match="warm_up"):
        Resolution(Config(profile_name="mine")).resolve_now()


# --- what it resolves to


def test_the_endpoint() -> None:
    resolved = _resolve()
    assert resolved.endpoint_url == "https://runtime.sagemaker.eu-west-1.amazonaws.com"
    assert resolved.origin == resolved.endpoint_url
    assert resolved.base_path == ""
    assert resolved.region_name == "eu-west-1"
    assert resolved.signer is not None
    assert resolved.signer.region == "eu-west-1"
    assert resolved.tls is True


def test_a_custom_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "http://localhost:8080/base/path/")
    resolved = _resolve()
    assert resolved.endpoint_url == "http://localhost:8080/base/path"
    assert (resolved.origin, resolved.base_path) == ("http://localhost:8080", "/base/path")
    assert resolved.settings.endpoint_url.source.endswith("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME")


@pytest.mark.parametrize(
    ("options", "host"),
    [
        ({"use_ssl": False}, "http://runtime.sagemaker.eu-west-1.amazonaws.com"),
        ({"use_fips_endpoint": True}, "https://runtime-fips.sagemaker.eu-west-1.amazonaws.com"),
        ({"use_dualstack_endpoint": True}, "https://runtime.sagemaker.eu-west-1.api.aws"),
    ],
)
def test_options_of_the_endpoint(options: dict[str, object], host: str) -> None:
    assert _resolve(**options).endpoint_url == host


def test_where_endpoints_are_looked_for_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = "https://runtime.sagemaker.eu-west-1.amazonaws.com (the rules for the region)"
    place = _resolve().describe_place()
    assert place == f"region_name eu-west-1 (argument), endpoint_url {url}"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    place = _resolve(region_name=None).describe_place()
    assert place == f"region_name eu-west-1 (environment variable AWS_REGION), endpoint_url {url}"
    custom = {"endpoint_url": "http://host", "signature_version": UNSIGNED}
    monkeypatch.delenv("AWS_REGION")
    place = _resolve(region_name=None, **custom).describe_place()
    assert place.startswith("region_name is not set (default), endpoint_url http://host")
    assert place.endswith("(argument)")


@pytest.mark.parametrize("region", [None, "", "no region", "us-east-1-fips"])
def test_a_signature_needs_a_region(region: str | None) -> None:
    with pytest.raises(ConfigurationError, match="region"):
        _resolve(region_name=region, endpoint_url="http://localhost:8080")


def test_without_a_signature_no_region_is_needed() -> None:
    resolved = _resolve(
        region_name=None, endpoint_url="http://localhost:8080", signature_version=UNSIGNED
    )
    assert resolved.signer is None
    assert resolved.region_name == ""


@pytest.mark.parametrize(
    ("variables", "policy"),
    [
        ({}, RetryPolicy()),
        ({"AWS_MAX_ATTEMPTS": "5"}, RetryPolicy(max_attempts=5)),
        ({"AWS_RETRY_MODE": "standard"}, RetryPolicy()),
        ({"AWS_RETRY_MODE": "legacy"}, RetryPolicy()),
        ({"AWS_RETRY_MODE": "adaptive"}, RetryPolicy(mode="adaptive")),
        (
            {"AWS_RETRY_MODE": "adaptive", "AWS_MAX_ATTEMPTS": "2"},
            RetryPolicy(mode="adaptive", max_attempts=2),
        ),
    ],
)
def test_the_retry_policy(
    variables: dict[str, str], policy: RetryPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _resolve().retry == policy


def test_a_policy_that_is_given_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "9")
    monkeypatch.setenv("AWS_RETRY_MODE", "adaptive")
    policy = RetryPolicy(max_attempts=2, mode="off", retry_may_have_run=True)
    resolved = _resolve(retry=policy)
    assert resolved.retry is policy
    assert resolved.settings.max_attempts.value == 2
    assert resolved.settings.retry_mode.value == "off"


def test_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _resolve().proxy.value is None
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    found = _resolve().proxy
    assert (found.value, found.source) == (
        "http://proxy.example:3128",
        "environment variable HTTPS_PROXY",
    )
    given = _resolve(proxy="http://user:secret@other").proxy
    assert (given.value, given.source) == ("http://user:secret@other", "argument")
    monkeypatch.setenv("NO_PROXY", ".amazonaws.com")
    assert _resolve().proxy.value is None
    shown = repr(_resolve(proxy="http://user:secret@other", s3_endpoint_url="http://u:secret@s3"))
    assert "secret" not in shown
    assert "'http://****@other'" in shown
    assert "'http://****@s3'" in shown


def test_the_user_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = f"aiosmrt/{__version__} Python/{platform.python_version()} {platform.system()}"
    assert _resolve().user_agent == agent
    assert _resolve(user_agent_extra="ours/1").user_agent == f"{agent} ours/1"
    monkeypatch.setenv("AWS_SDK_UA_APP_ID", "my app/2")
    assert _resolve(user_agent_extra="x").user_agent == f"{agent} app/my-app-2 x"
    assert _resolve(user_agent_appid="mine").user_agent == f"{agent} app/mine"


# --- certificates


def test_whether_certificates_are_checked() -> None:
    assert _resolve(verify=True).tls is True
    assert _resolve(verify=False).tls is False
    context = ssl.create_default_context()
    assert _resolve(verify=context).tls is context


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_a_bundle_of_the_environment(
    name: str, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, bundle)
    context = _resolve().tls
    assert isinstance(context, ssl.SSLContext)
    assert len(context.get_ca_certs()) == 1
    assert _resolve(verify=False).tls is False


async def _say_ok(request: object, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


def _folder_of(bundle: str) -> str:
    """Make a folder as OpenSSL looks things up in, certificates named by their hashes."""
    folder = Path(bundle).parent / "authorities"
    folder.mkdir()
    command = ["openssl", "x509", "-hash", "-noout", "-in", bundle]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("needs the openssl command")
    (folder / f"{found.stdout.strip()}.0").write_bytes(Path(bundle).read_bytes())
    return str(folder)


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.asyncio
async def test_a_bundle_is_trusted(
    kind: str, bundle: str, tls: _Tls, serve: Serve, exchange: Exchange
) -> None:
    verify = bundle if kind == "file" else _folder_of(bundle)
    resolved = await Resolution(Config(region_name="eu-west-1", verify=verify)).resolve()
    async with (
        serve(_say_ok, tls=tls.server) as server,
        contextlib.aclosing(Pool(PoolOptions(tls=resolved.tls))) as pool,
    ):
        assert await (await exchange(pool, server.url)).read() == b"ok"


@pytest.mark.parametrize("verify", ["bundle", False])
@pytest.mark.parametrize("files", [1, 2])
@pytest.mark.asyncio
async def test_a_client_certificate(
    files: int,
    verify: str | bool,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    authority: trustme.CA,
) -> None:
    serve: Serve = request.getfixturevalue("serve")
    exchange: Exchange = request.getfixturevalue("exchange")
    one: str = request.getfixturevalue("client_cert")
    two = _split(Path(one), tmp_path)
    bundle = request.getfixturevalue("bundle") if verify else False
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_tls)
    authority.configure_trust(server_tls)
    server_tls.verify_mode = ssl.CERT_REQUIRED
    config = Config(region_name="eu-west-1", verify=bundle, client_cert=one if files == 1 else two)
    resolved = await Resolution(config).resolve()
    async with (
        serve(_say_ok, tls=server_tls) as server,
        contextlib.aclosing(Pool(PoolOptions(tls=resolved.tls))) as pool,
    ):
        assert await (await exchange(pool, server.url)).read() == b"ok"


def test_a_client_certificate_leaves_the_checks_as_they_are(client_cert: str) -> None:
    context = _resolve(client_cert=client_cert).tls
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def _split(pem: Path, folder: Path) -> tuple[str, str]:
    text = pem.read_text()
    key = re.search(
        "-----BEGIN [A-Z ]*PRIVATE KEY.*?END [A-Z ]*PRIVATE KEY-----\n", text, re.DOTALL
    )
    assert key is not None
    (folder / "cert").write_text(text.replace(key[0], ""))
    (folder / "key").write_text(key[0])
    return str(folder / "cert"), str(folder / "key")


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        _resolve(verify=str(tmp_path / "missing.pem"))
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    with pytest.raises(ConfigurationError, match=r"the CA bundle '.*garbage\.pem' cannot be read"):
        _resolve(verify=str(garbage))


def test_a_client_certificate_that_is_none(tmp_path: Path, client_cert: str) -> None:
    with pytest.raises(ConfigurationError, match=r"client_cert '.*missing' cannot be read"):
        _resolve(client_cert=str(tmp_path / "missing"))
    with pytest.raises(ConfigurationError, match=r"client_cert \('.*', '.*'\) cannot be"):
        _resolve(client_cert=(client_cert, str(tmp_path / "missing")))
    with pytest.raises(ConfigurationError, match="exclude each other"):
        _resolve(client_cert=client_cert, verify=ssl.create_default_context())


def test_a_key_with_a_password_is_refused_and_not_asked_for(
    tmp_path: Path, client_cert: str
) -> None:
    cert, key = _split(Path(client_cert), tmp_path)
    command = ["openssl", "pkcs8", "-topk8", "-in", key, "-passout", "pass:secret"]
    try:
        locked = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("needs the openssl command")
    Path(key).write_bytes(locked.stdout)
    with pytest.raises(ConfigurationError, match="without a password"):
        _resolve(client_cert=(cert, key))
