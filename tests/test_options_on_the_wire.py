"""Whose word counts, in the request that goes out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiosmrt

Respond = Callable[..., bytes]
KEYS: dict[str, Any] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "AKID",
    "aws_secret_access_key": "secret",
}


async def _ask(serve: Any, respond: Respond, options: dict[str, Any]) -> Any:
    """The request that a client with these options sends, asked for with few parameters."""

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(respond())

    async with serve(answer) as server:
        options = {"endpoint_url": server.url, **KEYS, **options}
        async with aiosmrt.SageMakerRuntimeClient(**options) as client:
            await client.invoke_endpoint(endpoint_name="mine", body="x")
        (request,) = server.requests
        return request


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


@pytest.mark.parametrize("near", ["the endpoint", "S3"])
@pytest.mark.asyncio
async def test_s3_and_the_endpoint_have_a_way_each(
    near: str, serve: Any, respond: Respond, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        invoked = "async-invocations" in request.target
        writer.write(respond(202, b'{"InferenceId": "i"}') if invoked else respond())

    far = "http://far.example"
    async with serve(answer) as direct, serve(answer) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with aiosmrt.SageMakerRuntimeClient(
            endpoint_url=direct.url if near == "the endpoint" else far,
            s3_endpoint_url=direct.url if near == "S3" else far,
            s3_input_prefix="s3://bucket/in/",
            **KEYS,
        ) as client:
            await client.invoke_endpoint_async(endpoint_name="mine", body=bytes(128_001))
        ((method, target),) = [(seen.method, seen.target) for seen in direct.requests]
        ((method_there, target_there),) = [(seen.method, seen.target) for seen in proxy.requests]
        put, post = ("PUT", "/bucket/in/"), ("POST", "/endpoints/mine/async-invocations")
        here, there = (post, put) if near == "the endpoint" else (put, post)
        assert method == here[0]
        assert target.startswith(here[1])
        assert method_there == there[0]
        assert target_there.startswith(far + there[1])
