"""Where botocore's chain has found credentials."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from aiosmrt import CredentialsError, SageMakerRuntimeClient
from aiosmrt.signing.chain import Chain, find_credentials
from aiosmrt.signing.clock import Clock

if TYPE_CHECKING:
    from tests.conftest import SeenRequest, Serve

Respond = Callable[..., bytes]


@pytest.fixture(autouse=True)
def nothing_but_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    shared = tmp_path / "credentials"
    shared.write_text("[mine]\naws_access_key_id = key\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


def test_what_is_found_says_where() -> None:
    found = find_credentials("mine", "us-east-1")
    assert getattr(found, "method", None) == "shared-credentials-file"


def test_what_cannot_be_had_is_not_found() -> None:
    assert find_credentials(None, "us-east-1") is None
    assert find_credentials("not there", "us-east-1") is None


def test_the_chain_says_where_it_is() -> None:
    chain = Chain("mine", lambda: None, Clock())
    assert chain.describe() == ""
    found = chain.get_credentials()
    assert chain.method == "shared-credentials-file"
    assert chain.describe() == "the shared credentials file"
    assert chain.get_credentials() is found
    chain.forget()
    assert chain.get_credentials() is not found


def test_a_profile_that_was_not_given_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain(None, lambda: None, Clock())
    assert chain.get_credentials() is None
    assert chain.describe() == ""
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert chain.get_credentials() is not None
    assert chain.describe() == "the shared credentials file of profile 'mine'"


@pytest.mark.parametrize("source", ["argument", "AWS_REGION", "AWS_DEFAULT_REGION", "profile"])
@pytest.mark.parametrize("kind", ["AssumeRole", "AssumeRoleWithWebIdentity"])
@pytest.mark.asyncio
async def test_sts_is_asked_in_the_clients_region(
    *,
    kind: str,
    source: str,
    serve: Serve,
    respond: Respond,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
) -> None:
    region = "eu-south-2"
    role = "role_arn = arn:aws:iam::123456789012:role/r\n"
    (tmp_path / "identity").write_text("hidden")
    who = (
        "source_profile = mine"
        if kind == "AssumeRole"
        else f"web_identity_token_file = {tmp_path / 'identity'}"
    )
    where = f"region = {region}" if source == "profile" else ""
    (tmp_path / "config").write_text(f"[profile p]\n{role}{who}\n{where}\n[profile mine]\n")
    if source.startswith("AWS_"):
        monkeypatch.setenv(source, region)
    options: dict[str, Any] = {"region_name": region} if source == "argument" else {}

    async def refuse(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(403, b""))

    # A proxy is told whom botocore asks, which is a host of the region.
    async with serve(refuse) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        client = SageMakerRuntimeClient(profile_name="p", **options)
        with pytest.raises(CredentialsError, match=kind):
            await client.warm_up()
        await client.aclose()
        assert client.region_name == region
        assert {seen.target for seen in proxy.requests} == {f"sts.{region}.amazonaws.com:443"}
