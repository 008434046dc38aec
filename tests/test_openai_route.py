"""What the client gives to OpenAI's own: a base URL and a bearer token."""

from __future__ import annotations

import asyncio
import base64
import datetime
import inspect
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest

from aiosmrt import (
    UNSIGNED,
    BearerToken,
    ClientClosed,
    ConfigurationError,
    Credentials,
    CredentialsError,
    ParameterError,
    SageMakerRuntimeClient,
)

KEYS = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}


def _fields(token: str) -> dict[str, str]:
    text = base64.b64decode(token.removeprefix("sagemaker-api-key-")).decode()
    return {name: value[0] for name, value in parse_qs(text.partition("?")[2]).items()}


def _region_of(token: str) -> str:
    return _fields(token)["X-Amz-Credential"].split("/")[2]


# --- where the route is


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east-1", "runtime.sagemaker.us-east-1.amazonaws.com"),
        ("us-gov-west-1", "runtime.sagemaker.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "runtime.sagemaker.cn-north-1.amazonaws.com.cn"),
        pytest.param(
            "eusc-de-east-1",
            "runtime.sagemaker.eusc-de-east-1.amazonaws.eu",
            marks=pytest.mark.newest_botocore,
        ),
    ],
)
def test_the_route_is_on_the_host_of_its_region(region: str, host: str) -> None:
    client = SageMakerRuntimeClient(region_name=region)
    assert client.openai_base_url("llm") == f"https://{host}/endpoints/llm/openai/v1"
    assert (
        client.openai_base_url("llm", "part-1")
        == f"https://{host}/endpoints/llm/inference-components/part-1/openai/v1"
    )
    judge = boto3.client("sagemaker-runtime", region_name=region, **KEYS)
    assert judge.meta.endpoint_url == f"https://{host}"
    judge.close()


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"use_fips_endpoint": True}, "https://runtime-fips.sagemaker.us-east-1.amazonaws.com"),
        ({"use_dualstack_endpoint": True}, "https://runtime.sagemaker.us-east-1.api.aws"),
        ({"use_ssl": False}, "http://runtime.sagemaker.us-east-1.amazonaws.com"),
        ({"endpoint_url": "http://127.0.0.1:8080"}, "http://127.0.0.1:8080"),
        ({"endpoint_url": "https://vpce.example/prefix/"}, "https://vpce.example/prefix"),
    ],
)
def test_the_route_is_where_the_operations_are(options: dict[str, Any], place: str) -> None:
    client = SageMakerRuntimeClient(region_name="us-east-1", **options)
    assert client.openai_base_url("llm") == f"{place}/endpoints/llm/openai/v1"


def test_names_of_the_route_are_checked_as_the_client_checks() -> None:
    client = SageMakerRuntimeClient(region_name="us-east-1")
    with pytest.raises(ParameterError, match="endpoint_name must match"):
        client.openai_base_url("a b")
    unchecked = client.with_options(parameter_validation=False)
    assert unchecked.openai_base_url("a b").endswith("/endpoints/a%20b/openai/v1")


@pytest.mark.asyncio
async def test_no_file_is_read_on_the_loop_for_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[default]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    client = SageMakerRuntimeClient(**KEYS)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"await client\.warm_up\(\) first"):
        client.openai_base_url("llm")
    assert _region_of(await client.bearer_token()) == "eu-west-1"
    assert ".eu-west-1." in client.openai_base_url("llm")


# --- tokens


@pytest.mark.asyncio
async def test_a_token_is_for_the_clients_region_and_for_a_quarter_of_an_hour() -> None:
    client = SageMakerRuntimeClient(region_name="cn-north-1", **KEYS)  # type: ignore[arg-type]
    began = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    token = await client.bearer_token()
    assert isinstance(token, BearerToken)
    assert _region_of(token) == "cn-north-1"
    assert _fields(token)["X-Amz-Expires"] == "900"
    assert 900 <= (token.expires_at - began).total_seconds() <= 930
    assert await client.bearer_token() is token
    other = await client.bearer_token(expires_in=43_200)
    assert _fields(other)["X-Amz-Expires"] == "43200"
    assert client.stats().idle_connections == 0
    await client.aclose()


def test_a_token_is_given_by_a_coroutine_function_that_needs_no_argument() -> None:
    given = SageMakerRuntimeClient(region_name="us-east-1").bearer_token
    assert inspect.iscoroutinefunction(given)
    inspect.signature(given).bind()


@pytest.mark.asyncio
async def test_a_derived_client_has_tokens_of_its_own() -> None:
    client = SageMakerRuntimeClient(region_name="us-east-1", **KEYS)  # type: ignore[arg-type]
    token = await client.bearer_token()
    elsewhere = client.with_options(region_name="eu-west-1")
    assert _region_of(await elsewhere.bearer_token()) == "eu-west-1"
    somebody = client.with_options(credentials=Credentials("c", "d"), **dict.fromkeys(KEYS))  # type: ignore[arg-type]
    assert _fields(await somebody.bearer_token())["X-Amz-Credential"].startswith("c/")
    assert await client.bearer_token() is token


@pytest.mark.asyncio
async def test_a_token_begins_by_the_services_clock() -> None:
    client = SageMakerRuntimeClient(
        region_name="us-east-1",
        system_clock_offset=-86_400,
        **KEYS,  # type: ignore[arg-type]
    )
    token = await client.bearer_token()
    age = datetime.datetime.now(datetime.UTC) - token.expires_at
    assert 86_400 - 900 - 5 < age.total_seconds() < 86_400


@pytest.mark.asyncio
async def test_closing_ends_the_wait_for_credentials() -> None:
    asked = asyncio.Event()

    async def fetch() -> Credentials:
        asked.set()
        await asyncio.sleep(3600)
        raise AssertionError

    client = SageMakerRuntimeClient(region_name="us-east-1", credentials=fetch)
    waiting = [asyncio.create_task(wait) for wait in (client.bearer_token(), client.warm_up())]
    await asked.wait()
    await client.aclose()
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [ClientClosed] * 2


@pytest.mark.asyncio
async def test_a_client_that_does_not_sign_gives_no_token() -> None:
    client = SageMakerRuntimeClient(region_name="us-east-1", signature_version=UNSIGNED)
    with pytest.raises(ConfigurationError, match="signature_version=UNSIGNED"):
        await client.bearer_token()


@pytest.mark.asyncio
async def test_no_token_without_a_region_or_credentials() -> None:
    with pytest.raises(ConfigurationError, match="No AWS region"):
        await SageMakerRuntimeClient(**KEYS).bearer_token()  # type: ignore[arg-type]
    client = SageMakerRuntimeClient(region_name="us-east-1")
    with pytest.raises(CredentialsError, match="No AWS credentials were found"):
        await client.bearer_token()
    with pytest.raises(ParameterError, match="expires_in=0"):
        await client.bearer_token(expires_in=0)
    await client.aclose()
