from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

import aiosmrt
from aiosmrt.cli.command import main
from aiosmrt.local import LocalEndpoint
from aiosmrt.settings import is_exposed, is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

ELSEWHERE = "http://models.example:8080"
KEYS: dict[str, Any] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "AKID",
    "aws_secret_access_key": "secret",
    "retry": aiosmrt.RetryPolicy(mode="off"),
}
INPUT: dict[str, Any] = {"s3_input_prefix": "s3://bucket/in/", "body": bytes(128_001)}


def _list_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.8.7", "::1", "::ffff:127.0.0.1"],
)
def test_this_machine(host: str) -> None:
    assert is_loopback(host)
    assert not is_exposed(f"http://[{host}]:80" if ":" in host else f"http://{host}:80/x")


@pytest.mark.parametrize(
    "host",
    [
        *("", "127.0.0.1.example", "localhost.example", "notlocalhost", "127.1", "0.0.0.0"),
        *("10.0.0.1", "169.254.169.254", "::2", "::ffff:10.0.0.1", "2130706433"),
    ],
)
def test_another_machine(host: str) -> None:
    assert not is_loopback(host)


def test_a_proxy_elsewhere_takes_it_away_from_this_machine() -> None:
    assert not is_exposed("http://localhost", "http://127.0.0.1:3128")
    assert is_exposed("http://localhost", "http://proxy.example:3128")
    assert is_exposed("http://models.example", "http://127.0.0.1:3128")
    assert not is_exposed("https://models.example", "http://proxy.example:3128")


@pytest.mark.asyncio
async def test_a_signed_request_to_another_machine_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", ELSEWHERE)
    async with aiosmrt.SageMakerRuntimeClient(**KEYS) as client:
        with pytest.raises(aiosmrt.ConfigurationError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
        said = str(caught.value)
        assert said.startswith(f"{ELSEWHERE} is plain HTTP to another machine: ")
        assert "endpoint_url (environment variable AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME)" in said
        assert "use_ssl=False" in said
        assert not caught.value.may_have_run
        with pytest.raises(aiosmrt.ConfigurationError, match="plain HTTP"):
            await client.bearer_token()


@pytest.mark.asyncio
async def test_a_remote_proxy_is_named_without_its_password() -> None:
    proxy = "http://user:hidden@proxy.example:3128"
    async with aiosmrt.SageMakerRuntimeClient(
        endpoint_url="http://localhost:1", proxy=proxy, **KEYS
    ) as client:
        with pytest.raises(aiosmrt.ConfigurationError) as caught:
            await client.warm_up()
    assert "by the proxy http://****@proxy.example:3128: " in str(caught.value)


@pytest.mark.asyncio
async def test_it_is_sent_where_that_is_meant_and_said_once(
    serve: Any, respond: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        invoked = "async-invocations" in request.target
        writer.write(respond(202, b'{"InferenceId": "i"}') if invoked else respond())

    async with (
        serve(answer) as proxy,
        aiosmrt.SageMakerRuntimeClient(
            endpoint_url=ELSEWHERE,
            s3_endpoint_url="http://s3.example",
            proxy=proxy.url,
            use_ssl=False,
            **KEYS,
        ) as client,
    ):
        await client.invoke_endpoint(endpoint_name="e", body=b"x")
        (told,) = _list_warnings(caplog)
        assert told.startswith(f"use_ssl=False: requests to {ELSEWHERE} are signed and sent in")
        for _ in range(2):
            await client.invoke_endpoint_async(endpoint_name="e", **INPUT)
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
        _, told = _list_warnings(caplog)
        assert told.startswith("use_ssl=False: requests to http://s3.example are signed and sent")


@pytest.mark.asyncio
async def test_what_is_not_signed_or_stays_here_is_sent_without_a_word(
    serve: Any, respond: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(respond())

    async with serve(answer) as server:
        for options in (
            {"endpoint_url": server.url},
            {
                "endpoint_url": ELSEWHERE,
                "proxy": server.url,
                "signature_version": aiosmrt.UNSIGNED,
            },
        ):
            async with aiosmrt.SageMakerRuntimeClient(**{**KEYS, **options}) as client:
                await client.invoke_endpoint(endpoint_name="e", body=b"x")
    assert not _list_warnings(caplog)


@pytest.mark.asyncio
async def test_an_s3_elsewhere_is_refused_where_it_is_called_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://minio:9000")
    async with (
        LocalEndpoint() as endpoint,
        endpoint.client(s3_endpoint_url=None, use_ssl=True) as client,
    ):
        await client.invoke_endpoint(endpoint_name="e", body=b"x")
        with pytest.raises(aiosmrt.ConfigurationError) as caught:
            await client.invoke_endpoint_async(endpoint_name="e", **INPUT)
        assert "http://minio:9000 is plain HTTP" in str(caught.value)
        assert "s3_endpoint_url (environment variable AWS_ENDPOINT_URL_S3)" in str(caught.value)
        with pytest.raises(aiosmrt.ConfigurationError, match="plain HTTP"):
            await client.resume_async_invocation('{"output_location": "s3://bucket/out"}').result()


def test_an_endpoint_serves_its_own_clients_at_any_address() -> None:
    with LocalEndpoint(host="127.0.0.1") as endpoint:
        endpoint._url = endpoint.url.replace("127.0.0.1", "192.0.2.1")
        assert endpoint.client().endpoint_url.startswith("http://192.0.2.1:")


def test_an_endpoint_asks_an_s3_elsewhere_with_keys_of_its_own_alone() -> None:
    with (
        pytest.raises(aiosmrt.ConfigurationError, match="give it a key pair of its own"),
        LocalEndpoint(s3_endpoint_url="http://minio:9000"),
    ):
        pass


def test_the_command_has_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--endpoint-url", ELSEWHERE, "--region", "us-east-1")
    assert main(["config", *where]) == 1
    assert "or --allow-http where plain HTTP is meant" in capsys.readouterr().err
    assert main(["config", "--allow-http", *where]) == 0
    assert "use_ssl" in capsys.readouterr().out
