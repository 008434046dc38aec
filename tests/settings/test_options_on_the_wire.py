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


def _host(request: Any) -> str:
    return str(request.target.split("/")[2])


def _key(request: Any) -> str:
    return str(request.headers["authorization"].partition("Credential=")[2].partition("/")[0])


def _attempts(request: Any) -> str:
    return str(request.headers["amz-sdk-request"].partition("max=")[2])


def _appid(request: Any) -> str:
    return str(request.headers["user-agent"].partition(" app/")[2])


REGIONAL = "runtime.sagemaker.{}.amazonaws.com".format
FIPS = "runtime-fips.sagemaker.us-east-1.amazonaws.com"
DUAL = "runtime.sagemaker.us-east-1.api.aws"
# What to look at; the profile, the variables and the argument that change it, and into what; what
# it is when nobody says anything.
SOURCES: dict[str, tuple[Callable[[Any], str], dict[str, tuple[dict[str, Any], str]]]] = {
    "region": (
        _host,
        {
            "profile": ({"region": "eu-west-3"}, REGIONAL("eu-west-3")),
            "environment, as Lambda has it": ({"AWS_REGION": "eu-west-2"}, REGIONAL("eu-west-2")),
            "environment": ({"AWS_DEFAULT_REGION": "eu-west-1"}, REGIONAL("eu-west-1")),
            "argument": ({"region_name": "us-west-2"}, REGIONAL("us-west-2")),
        },
    ),
    "endpoint": (
        _host,
        {
            "default": ({}, REGIONAL("us-east-1")),
            "profile": ({"endpoint_url": "http://profile.example"}, "profile.example"),
            "environment": ({"AWS_ENDPOINT_URL": "http://any.example"}, "any.example"),
            "environment, for this service": (
                {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "http://its.example"},
                "its.example",
            ),
            "argument": ({"endpoint_url": "http://argument.example"}, "argument.example"),
        },
    ),
    "FIPS": (
        _host,
        {
            "default": ({}, REGIONAL("us-east-1")),
            "profile": ({"use_fips_endpoint": "true"}, FIPS),
            "environment": ({"AWS_USE_FIPS_ENDPOINT": "false"}, REGIONAL("us-east-1")),
            "argument": ({"use_fips_endpoint": True}, FIPS),
        },
    ),
    "dual-stack": (
        _host,
        {
            "default": ({}, REGIONAL("us-east-1")),
            "profile": ({"use_dualstack_endpoint": "true"}, DUAL),
            "environment": ({"AWS_USE_DUALSTACK_ENDPOINT": "false"}, REGIONAL("us-east-1")),
            "argument": ({"use_dualstack_endpoint": True}, DUAL),
        },
    ),
    "attempts": (
        _attempts,
        {
            "default": ({}, "3"),
            "profile": ({"max_attempts": "4"}, "4"),
            "environment": ({"AWS_MAX_ATTEMPTS": "5"}, "5"),
            "argument": ({"retry": aiosmrt.RetryPolicy(max_attempts=6)}, "6"),
        },
    ),
    "application": (
        _appid,
        {
            "default": ({}, ""),
            "profile": ({"sdk_ua_app_id": "profile"}, "profile"),
            "environment": ({"AWS_SDK_UA_APP_ID": "variable"}, "variable"),
            "argument": ({"user_agent_appid": "argument"}, "argument"),
        },
    ),
    "credentials": (
        _key,
        {
            "profile": ({"aws_access_key_id": "PROFILE", "aws_secret_access_key": "s"}, "PROFILE"),
            "environment": ({"AWS_ACCESS_KEY_ID": "VAR", "AWS_SECRET_ACCESS_KEY": "s"}, "VAR"),
            "argument": ({"aws_access_key_id": "ARG", "aws_secret_access_key": "s"}, "ARG"),
        },
    ),
}


@pytest.mark.parametrize("setting", SOURCES)
@pytest.mark.asyncio
async def test_constructor_before_environment_before_profile_before_default(
    setting: str, serve: Any, respond: Respond, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    look, sources = SOURCES[setting]

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(respond())

    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    # A proxy sees all of it: the host, too.
    options: dict[str, Any] = {"use_ssl": False}
    if setting != "region":
        monkeypatch.setenv("AWS_REGION", "us-east-1")
    if setting != "credentials":
        options |= {"aws_access_key_id": "AKID", "aws_secret_access_key": "secret"}
    async with serve(answer) as proxy:
        for source, (given, expected) in sources.items():
            if source == "profile":
                lines = "".join(f"{name} = {value}\n" for name, value in given.items())
                (tmp_path / "config").write_text(f"[default]\n{lines}")
            elif source == "argument":
                options |= given
            for name, value in given.items() if source.startswith("environment") else ():
                monkeypatch.setenv(name, value)
            async with aiosmrt.SageMakerRuntimeClient(proxy=proxy.url, **options) as client:
                await client.invoke_endpoint(endpoint_name="mine", body="x")
            assert look(proxy.requests[-1]) == expected, source


@pytest.mark.asyncio
async def test_the_s3_of_a_call_of_the_constructor_of_the_environment_and_of_the_profile(
    serve: Any, respond: Respond, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        invoked = "async-invocations" in request.target
        writer.write(respond(202, b'{"InferenceId": "i"}') if invoked else respond())

    async def put(**options: Any) -> str:
        parameters = options.pop("call", {})
        async with aiosmrt.SageMakerRuntimeClient(
            endpoint_url="http://e.example",
            proxy=proxy.url,
            use_ssl=False,
            **{"s3_input_prefix": "s3://bucket/in/", **KEYS, **options},
        ) as client:
            await client.invoke_endpoint_async(
                endpoint_name="mine", body=bytes(128_001), **parameters
            )
        return str(proxy.requests[-2].target.rpartition("/")[0])

    async with serve(answer) as proxy:
        assert await put() == "http://bucket.s3.us-east-1.amazonaws.com/in"
        (tmp_path / "config").write_text("[default]\nendpoint_url = http://profile.example\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        assert await put() == "http://profile.example/bucket/in"
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://any.example")
        assert await put() == "http://any.example/bucket/in"
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example")
        assert await put() == "http://s3.example/bucket/in"
        own = {"s3_endpoint_url": "http://argument.example"}
        assert await put(**own) == "http://argument.example/bucket/in"
        own["s3_input_prefix"] = "s3://mine/"
        assert await put(**own) == "http://argument.example/mine"
        call = {"s3_input_prefix": "s3://bucket/call/"}
        assert await put(**own, call=call) == "http://argument.example/bucket/call"


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
            use_ssl=False,
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
