"""https with a certificate that is made for the run, or given."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trustme

from aiosmrt import ConfigurationError
from aiosmrt.local import LocalEndpoint, load_certificate, make_certificate


@pytest.mark.parametrize("given", [False, True], ids=["made", "given"])
@pytest.mark.asyncio
async def test_an_endpoint_by_https(given: bool, tmp_path: Path, authority: trustme.CA) -> None:
    context, bundle = make_certificate("127.0.0.1", tmp_path)
    if given:
        bundle, certificate = tmp_path / "ca.pem", tmp_path / "cert.pem"
        authority.cert_pem.write_to_path(str(bundle))
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            str(certificate)
        )
        context = load_certificate(str(certificate), None)
    async with (
        LocalEndpoint(tls=context) as endpoint,
        endpoint.client(verify=str(bundle)) as client,
    ):
        assert endpoint.url.startswith("https://127.0.0.1:")
        invocation = await client.invoke_endpoint_async(endpoint_name="e", body="hello")
        assert b"hello" in (await invocation.result(timeout=10)).body


def test_without_what_makes_one_it_is_said_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ConfigurationError, match=r"aiosmrt\[tls\]"):
        make_certificate("127.0.0.1", tmp_path)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "none.pem"
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"none\.pem"):
            load_certificate(str(wrong), None)
        wrong.write_text("nothing", encoding="ascii")
