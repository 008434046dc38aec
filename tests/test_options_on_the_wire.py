"""What each option changes in the request that goes out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import botocore
import botocore.session
import pytest

import aiosmrt
from aiosmrt.option_names import check_option_names

Respond = Callable[..., bytes]
KEYS: dict[str, Any] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "AKID",
    "aws_secret_access_key": "secret",
}


async def _ask(
    serve: Any, respond: Respond, options: dict[str, Any], derived: dict[str, Any] | None = None
) -> Any:
    """The request that a client with these options sends, asked for with few parameters."""

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(respond())

    async with serve(answer) as server:
        options = {"endpoint_url": server.url, **KEYS, **options}
        async with aiosmrt.SageMakerRuntimeClient(**options) as client:
            asked = client if derived is None else client.with_options(**derived)
            await asked.invoke_endpoint(endpoint_name="mine", body="x")
        (request,) = server.requests
        return request


def _sent(name: str, pattern: str) -> Callable[[Any], bool]:
    return lambda request: re.fullmatch(pattern, request.headers.get(name, "")) is not None


ROWS = [
    ("params", {"accept": "text/csv"}, _sent("accept", "text/csv")),
    ("params", {"target_variant": "v2"}, _sent("x-amzn-sagemaker-target-variant", "v2")),
    ("headers", {"X-Next-Year": "1"}, _sent("x-next-year", "1")),
    ("region_name", "eu-west-1", _sent("authorization", r".*/eu-west-1/sagemaker/.*")),
    ("signature_version", aiosmrt.UNSIGNED, lambda request: "authorization" not in request.headers),
    ("signature_version", botocore.UNSIGNED, lambda request: "x-amz-date" not in request.headers),
    ("signature_version", "v4", _sent("authorization", r"AWS4-HMAC-SHA256 .*")),
    ("api_version", "2017-05-13", lambda request: request.target.startswith("/endpoints/mine/")),
    (
        "credentials",
        aiosmrt.Credentials("OTHER", "secret", "token"),
        lambda request: (
            "Credential=OTHER/" in request.headers["authorization"]
            and request.headers["x-amz-security-token"] == "token"
        ),
    ),
    ("user_agent_extra", "my/1.0", _sent("user-agent", r"aiosmrt/.* my/1\.0")),
    ("user_agent_appid", "my app", _sent("user-agent", r"aiosmrt/.* app/my-app.*")),
    ("system_clock_offset", -86_400 * 365, _sent("x-amz-date", r"(?!2026).*")),
    ("retry", aiosmrt.RetryPolicy(max_attempts=7), _sent("amz-sdk-request", "attempt=1; max=7")),
    ("retry", aiosmrt.RetryPolicy(mode="off"), _sent("amz-sdk-request", "attempt=1; max=1")),
    ("hooks", None, _sent("amz-sdk-request", "attempt=1; max=3")),
    ("timeout", aiosmrt.Timeout(total=9), _sent("content-length", "1")),
    ("parameter_validation", False, _sent("content-length", "1")),
]


@pytest.mark.parametrize(("name", "value", "holds"), ROWS, ids=lambda value: str(value)[:30])
@pytest.mark.asyncio
async def test_an_option_shows_on_the_wire(
    name: str, value: object, holds: Callable[[Any], bool], serve: Any, respond: Respond
) -> None:
    options = {name: value}
    if name == "credentials":
        options |= {"aws_access_key_id": None, "aws_secret_access_key": None}
    assert holds(await _ask(serve, respond, options))


@pytest.mark.parametrize(
    ("name", "value", "holds"),
    [row for row in ROWS if row[0] not in ("region_name", "api_version")],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.asyncio
async def test_a_derived_client_has_it_too(
    name: str, value: object, holds: Callable[[Any], bool], serve: Any, respond: Respond
) -> None:
    assert holds(await _ask(serve, respond, {}, {name: value}))


@pytest.mark.asyncio
async def test_a_calls_own_words_win(serve: Any, respond: Respond) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(respond())

    async with (
        serve(answer) as server,
        aiosmrt.SageMakerRuntimeClient(
            endpoint_url=server.url,
            params={"endpoint_name": "bound", "accept": "text/csv"},
            headers={"x-a": "1", "x-b": "1"},
            **KEYS,
        ) as client,
    ):
        await client.invoke_endpoint(body="x", accept="text/plain", headers={"x-b": "2"})
        await client.with_options(params={"endpoint_name": "other"}).invoke_endpoint(body="x")
        first, second = server.requests
        assert first.target == "/endpoints/bound/invocations"
        assert (first.headers["accept"], first.headers["x-a"]) == ("text/plain", "1")
        assert first.headers["x-b"] == "2"
        assert second.target == "/endpoints/other/invocations"


@pytest.mark.asyncio
async def test_the_services_own_spelling(serve: Any, respond: Respond) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(
            respond(202, b'{"InferenceId": "i"}') if "async" in request.target else respond()
        )

    async with (
        serve(answer) as server,
        aiosmrt.SageMakerRuntimeClient(endpoint_url=server.url, **KEYS) as client,
    ):
        response = await client.call(
            "InvokeEndpoint", {"EndpointName": "e", "Body": b"x", "ContentType": "text/csv"}
        )
        assert isinstance(response, aiosmrt.InvokeEndpointResponse)
        invocation = await client.call(
            "InvokeEndpointAsync", {"EndpointName": "e", "InputLocation": "s3://b/k"}
        )
        assert invocation.inference_id == "i"
        assert server.requests[0].headers["content-type"] == "text/csv"
        with pytest.raises(TypeError, match="did you mean 'EndpointName'"):
            await client.call("InvokeEndpoint", {"EndpointNam": "e"})
        wrong: Any = "InvokeEndpoints"
        with pytest.raises(TypeError, match="there is no operation 'InvokeEndpoints'"):
            await client.call(wrong, {})


@pytest.mark.asyncio
async def test_a_lambda_functions_trace_goes_on(
    serve: Any, respond: Respond, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988;Parent=53995c3f é")
    assert "x-amzn-trace-id" not in (await _ask(serve, respond, {})).headers
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "mine")
    request = await _ask(serve, respond, {})
    assert request.headers["x-amzn-trace-id"] == "Root=1-5759e988;Parent=53995c3f%20%C3%A9"
    assert "x-amzn-trace-id" not in request.headers["authorization"]


@pytest.mark.parametrize("name", ["use_fips_endpoint", "use_dualstack_endpoint"])
@pytest.mark.asyncio
async def test_fips_and_dual_stack_exclude_a_custom_endpoint(name: str) -> None:
    options: dict[str, Any] = {name: True}
    async with aiosmrt.SageMakerRuntimeClient(region_name="us-east-1", **options) as client:
        assert client.endpoint_url.startswith("https://runtime")
    async with aiosmrt.SageMakerRuntimeClient(
        endpoint_url="http://localhost", **KEYS, **options
    ) as client:
        with pytest.raises(aiosmrt.ConfigurationError, match=name):
            await client.warm_up()


@pytest.mark.asyncio
async def test_call_constructor_environment_profile_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\nregion = eu-west-3\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    async def resolve(**options: Any) -> str:
        async with aiosmrt.SageMakerRuntimeClient(
            aws_access_key_id="a", aws_secret_access_key="b", **options
        ) as client:
            await client.warm_up()
            return client.region_name

    assert await resolve() == "eu-west-3"
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    assert await resolve() == "eu-west-2"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert await resolve() == "eu-west-1"
    assert await resolve(region_name="us-west-2") == "us-west-2"


def test_no_option_is_without_a_test() -> None:
    here = Path(__file__).parent
    tested = "".join(path.read_text() for path in here.rglob("test_*.py"))
    for field in attrs.fields(aiosmrt.Config):
        assert re.search(rf"\b{field.name}\b", tested), field.name
    with pytest.raises(TypeError):
        check_option_names(["maxRetries"], [field.name for field in attrs.fields(aiosmrt.Config)])
