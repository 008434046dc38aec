"""What TLS contexts options come to, on this Python and on those that are stricter by default."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import threading
from pathlib import Path
from typing import Any

import botocore.httpsession
import pytest
import trustme

from aiosmrt import ConfigurationError
from aiosmrt.config import Config
from aiosmrt.settings.tls import DefaultContext, load_proxy_tls, load_tls


@pytest.fixture
def bundle(tmp_path: Path, authority: trustme.CA) -> str:
    path = tmp_path / "bundle.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def pair(tmp_path: Path, authority: trustme.CA) -> str:
    path = tmp_path / "pair.pem"
    authority.issue_cert("client@example").private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the system trust nobody; the folder that is given is where it looks."""
    (tmp_path / "none.pem").touch()
    folder = tmp_path / "authorities"
    folder.mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    return folder


def _load_default() -> ssl.SSLContext:
    return asyncio.run(DefaultContext().load())


@pytest.mark.usefixtures("strict_python")
def test_no_context_of_ours_is_stricter_than_botocores(bundle: str, pair: str) -> None:
    folder = str(Path(bundle).parent)
    made = [
        _load_default(),
        load_tls(bundle, Config()),
        load_tls(folder, Config()),
        load_tls(True, Config(client_cert=pair)),
        load_proxy_tls(True, Config(proxy_verify=bundle)),
        load_proxy_tls(True, Config(proxy_verify=True)),
        load_proxy_tls(True, Config(proxy_client_cert=pair)),
    ]
    botocores = botocore.httpsession.create_urllib3_context()
    for context in made:
        assert isinstance(context, ssl.SSLContext)
        assert not context.verify_flags & ssl.VERIFY_X509_STRICT
        assert not botocores.verify_flags & ssl.VERIFY_X509_STRICT
        # Verification stays on.
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname


def test_whose_context_it_is_is_left_alone(bundle: str) -> None:
    context = ssl.create_default_context(cafile=bundle)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    assert load_tls(True, Config(verify=context)) is context
    assert load_proxy_tls(True, Config(proxy_verify=context)) is context
    assert context.verify_flags & ssl.VERIFY_X509_STRICT


# --- a system without authorities


def test_where_the_system_trusts_nobody_those_of_boto3_are_trusted(
    empty_store: Path, pair: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aiosmrt")
    theirs = botocore.httpsession.get_cert_path(True)
    expected = ssl.create_default_context(cafile=theirs).cert_store_stats()
    assert expected["x509"] > 50
    with_certificate = load_tls(True, Config(client_cert=pair))
    assert isinstance(with_certificate, ssl.SSLContext)
    for context in (_load_default(), with_certificate):
        assert context.cert_store_stats() == expected
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
    assert f"trusted are boto3's, {theirs}" in caplog.text


@pytest.mark.parametrize("place", ["file", "folder", "second folder"])
def test_authorities_of_the_system_are_enough(
    place: str, empty_store: Path, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "file":
        monkeypatch.setenv("SSL_CERT_FILE", bundle)
    else:
        # Read when they are needed: named by their hashes.
        (empty_store / "0123abcd.0").write_bytes(Path(bundle).read_bytes())
    if place == "second folder":
        folders = os.pathsep.join((str(empty_store.parent), str(empty_store)))
        monkeypatch.setenv("SSL_CERT_DIR", folders)
    assert _load_default().cert_store_stats()["x509"] == (place == "file")


def test_authorities_that_cannot_be_read_are_named(
    empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = str(empty_store / "missing.pem")
    monkeypatch.setattr(botocore.httpsession, "where", lambda: missing)
    default = DefaultContext()
    with pytest.raises(ConfigurationError, match="CA bundle True cannot be read"):
        asyncio.run(default.load())
    monkeypatch.undo()
    assert asyncio.run(default.load()).cert_store_stats()["x509"]


def test_the_default_is_made_once_and_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    makers: list[threading.Thread] = []
    make = ssl.create_default_context

    def spy(*args: Any, **options: Any) -> ssl.SSLContext:
        makers.append(threading.current_thread())
        return make(*args, **options)

    monkeypatch.setattr(ssl, "create_default_context", spy)
    default = DefaultContext()

    async def load_often() -> list[ssl.SSLContext]:
        return await asyncio.gather(*(default.load() for _ in range(9)))

    # In one loop after another.
    contexts = asyncio.run(load_often()) + asyncio.run(load_often())
    assert len({id(context) for context in contexts}) == 1
    assert len(makers) == 1
    assert makers[0] is not threading.current_thread()


# --- proxies


def test_for_proxies_alone(bundle: str, pair: str) -> None:
    assert load_proxy_tls(bundle, Config(verify=bundle)) is None
    as_the_endpoint = load_proxy_tls(bundle, Config(proxy_client_cert=pair))
    assert as_the_endpoint is not None
    assert len(as_the_endpoint.get_ca_certs()) == 1
    unchecked = load_proxy_tls(bundle, Config(proxy_verify=False, proxy_client_cert=pair))
    assert unchecked is not None
    assert unchecked.verify_mode is ssl.CERT_NONE


def test_options_for_proxies_that_cannot_be_used(bundle: str, pair: str, tmp_path: Path) -> None:
    context = ssl.create_default_context()
    gone = str(tmp_path / "gone.pem")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"proxy_verify": gone}, r"CA bundle '.*gone\.pem' of proxy_verify cannot be read"),
        ({"proxy_client_cert": gone}, r"proxy_client_cert '.*gone\.pem' cannot be read"),
        ({"proxy_client_cert": bundle}, "proxy_client_cert '.*' cannot be read"),
        ({"proxy_verify": context, "proxy_client_cert": pair}, r"load_cert_chain\(\)"),
        ({"verify": context, "proxy_client_cert": pair}, "say by proxy_verify whom to trust"),
        ({"session": object(), "proxy_verify": bundle}, "leave session out"),
        ({"session": object(), "proxy_client_cert": pair}, "leave session out"),
    ]
    for options, words in wrong:
        with pytest.raises(ConfigurationError, match=words):
            load_proxy_tls(True, Config(**options))
