"""The client: what it sends and gives back, its options, its life."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import copy
import datetime
import gc
import http.server
import io
import json
import logging
import os
import pickle
import socket
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

import aiohttp
import pytest
from starlette.datastructures import UploadFile

from aiosmrt import (
    AsyncInvocation,
    ClientClosed,
    ClientStats,
    Config,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    Credentials,
    CredentialsError,
    FirstByteTimeout,
    Hooks,
    InvokeEndpointResponse,
    ModelError,
    ParameterError,
    ResponseStream,
    RetryPolicy,
    SageMakerRuntimeClient,
    ServiceError,
    Timeout,
    TotalTimeout,
    ValidationError,
)
from aiosmrt.config import UNSIGNED
from aiosmrt.eventstream import encode_message
from aiosmrt.local import InvocationRequest, LocalEndpoint
from aiosmrt.service.model import (
    INVOKE_ENDPOINT_ASYNC,
    OPERATIONS,
    Operation,
    spell,
)

if TYPE_CHECKING:
    from tests.conftest import Answer, Connect, EventStreams, SeenRequest, Serve

    Events: TypeAlias = type[EventStreams]

Respond: TypeAlias = Callable[..., bytes]
Until: TypeAlias = Callable[..., Awaitable[None]]

# One value for every member of every request.
VALUES: dict[str, object] = {
    "endpoint_name": "my-endpoint-1",
    "body": b'{"inputs": "h\xc3\xa4"}',
    "content_type": "application/x-novel; a=1",
    "accept": "text/csv",
    "custom_attributes": "trace=77; user=me",
    "target_model": "model-1.tar.gz",
    "target_variant": "Variant-B",
    "target_container_hostname": "second",
    "inference_id": "inference/1 2",
    "enable_explanations": "`true`",
    "inference_component_name": "component-1",
    "session_id": "session-9",
    "prefix_aware_id": "prefix 1",
    "input_location": "s3://bucket/key/1",
    "s3_output_path_extension": "out/put",
    "filename": "result.json",
    "request_ttl_seconds": 61,
    "invocation_timeout_seconds": 3599,
}


def _answer(respond: Respond, events: Events) -> Answer:
    """Answer each operation with a small success."""

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        if request.target.endswith("/invocations-response-stream"):
            writer.write(events.whole(b"a", b"b"))
        elif request.target.endswith("/async-invocations"):
            writer.write(respond(202, b'{"InferenceId": "i"}', x_amzn_requestid="7-7-7"))
        else:
            writer.write(respond(200, b"[1]", x_amzn_requestid="7-7-7"))

    return answer


@pytest.fixture
def answer(respond: Respond, events: Events) -> Answer:
    return _answer(respond, events)


async def _hang(request: SeenRequest, _: asyncio.StreamWriter) -> None:
    await request.reader.read()


async def _call(
    client: SageMakerRuntimeClient,
    operation: Operation,
    **parameters: Any,
) -> InvokeEndpointResponse | AsyncInvocation | list[bytes]:
    """Call an operation, reading a stream to its end."""
    outcome = await getattr(client, spell(operation.name))(**parameters)
    if isinstance(outcome, ResponseStream):
        async with outcome:
            return [part.bytes async for part in outcome]
    assert isinstance(outcome, InvokeEndpointResponse | AsyncInvocation)
    return outcome


# --- what is sent, and what comes back


def _values_of(operation: Operation) -> dict[str, object]:
    values = {name: VALUES[name] for name in operation.parameters}
    if operation is INVOKE_ENDPOINT_ASYNC:
        del values["body"]  # it and input_location exclude each other
    return values


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.asyncio
async def test_every_member_of_a_request_arrives_where_the_service_looks_for_it(
    operation: Operation, serve: Serve, connect: Connect, answer: Answer
) -> None:
    values = _values_of(operation)
    async with serve(answer) as server, connect(server) as client:
        await _call(client, operation, **values)
        (request,) = server.requests
        assert request.method == "POST"
        assert request.target == f"/endpoints/my-endpoint-1{operation.path}"
        for name, value in values.items():
            member = operation.parameters[name]
            if member.location == "header":
                assert member.header is not None
                assert request.headers[member.header.lower()] == str(value), name
        assert request.body == values.get("body", b"")


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.asyncio
async def test_every_member_alone_sets_its_header_alone(
    operation: Operation, serve: Serve, connect: Connect, answer: Answer
) -> None:
    least = {"endpoint_name": "e", "body": b"x"}
    async with serve(answer) as server, connect(server) as client:
        await _call(client, operation, **least)
        plain = set(server.requests[-1].headers)
        for member in operation.request:
            if member.location != "header":
                continue
            values = {**least, member.parameter: VALUES[member.parameter]}
            if member.parameter == "input_location":
                del values["body"]
            await _call(client, operation, **values)
            headers = server.requests[-1].headers
            assert set(headers) - plain == {(member.header or "").lower()}


@pytest.mark.asyncio
async def test_no_header_is_made_up(serve: Serve, connect: Connect, answer: Answer) -> None:
    async with serve(answer) as server, connect(server) as client:
        for operation in OPERATIONS.values():
            await _call(client, operation, endpoint_name="e", body=b"x", accept=None)
            assert set(server.requests[-1].headers) == {
                "accept-encoding",
                "amz-sdk-invocation-id",
                "amz-sdk-request",
                "authorization",
                "content-length",
                "host",
                "user-agent",
                "x-amz-date",
            }
            assert server.requests[-1].headers["user-agent"].startswith("aiosmrt/")
            assert server.requests[-1].headers["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.asyncio
async def test_the_path_of_the_endpoint_url_is_kept(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    async with serve(answer) as server:
        async with connect(server, endpoint_url=f"{server.url}/a/b/") as client:
            await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert server.requests[0].target == "/a/b/endpoints/e/invocations"


@pytest.mark.asyncio
async def test_a_name_is_quoted_into_the_path(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    async with serve(answer) as server, connect(server, parameter_validation=False) as client:
        name = "a/b c%2Fä..~"
        await client.invoke_endpoint(endpoint_name=name, body=b"")
        assert server.requests[0].target == f"/endpoints/{quote(name, safe='~')}/invocations"


@pytest.mark.asyncio
async def test_every_member_of_a_response_is_given(
    serve: Serve, connect: Connect, respond: Respond
) -> None:
    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(
            respond(
                200,
                b'{"a": 1}',
                content_type="application/json; charset=utf-8",
                x_Amzn_Invoked_Production_Variant="AllTraffic",
                X_Amzn_SageMaker_Custom_Attributes="trace=1",
                X_Amzn_SageMaker_New_Session_Id="s-1; Expires=2026-11-22T10:00:00Z",
                X_Amzn_SageMaker_Closed_Session_Id="s-0",
                x_amzn_requestid="7-7-7",
            )
        )

    async with serve(answer) as server, connect(server) as client:
        response = await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert response.body == b'{"a": 1}'
        assert type(response.body) is bytes
        assert response.json() == {"a": 1}
        assert response.text() == '{"a": 1}'
        assert response.content_type == "application/json; charset=utf-8"
        assert response.invoked_production_variant == "AllTraffic"
        assert response.custom_attributes == "trace=1"
        assert response.new_session_id == "s-1"
        assert response.new_session_expires_at == datetime.datetime(
            2026, 11, 22, 10, tzinfo=datetime.UTC
        )
        assert response.closed_session_id == "s-0"
        metadata = response.metadata
        assert (metadata.request_id, metadata.status) == ("7-7-7", 200)
        assert metadata.headers["x-amzn-requestid"] == "7-7-7"
        assert [attempt.status for attempt in metadata.attempts] == [200]
        assert 0 <= metadata.slot_wait <= metadata.total
        assert 0 < metadata.time_to_first_byte <= metadata.total
        assert pickle.loads(pickle.dumps(response)) == response


@pytest.mark.asyncio
async def test_a_header_in_latin_1_is_text_that_can_be_sent_on(
    serve: Serve, connect: Connect, respond: Respond
) -> None:
    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        text = respond(x_amzn_sagemaker_custom_attributes="CAFE").replace(b"CAFE", b"caf\xe9")
        writer.write(text)

    async with serve(answer) as server, connect(server) as client:
        response = await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert response.custom_attributes == "café"
        await client.invoke_endpoint(
            endpoint_name="e", body=b"", headers={"x-was": response.custom_attributes}
        )
        sent_on = "x-was: café\r\n".encode()
        assert sent_on in server.requests[1].raw_head.lower()


@pytest.mark.asyncio
async def test_an_acknowledgement_says_where_the_output_will_be(
    serve: Serve, connect: Connect, respond: Respond
) -> None:
    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(
            respond(
                202,
                b'{"InferenceId": "i-1"}',
                X_Amzn_SageMaker_OutputLocation="s3://b/out",
                X_Amzn_SageMaker_FailureLocation="s3://b/fail",
                x_amzn_requestid="7-7-7",
            )
        )

    async with serve(answer) as server, connect(server) as client:
        invocation = await client.invoke_endpoint_async(
            endpoint_name="e", input_location="s3://b/in"
        )
        assert invocation.inference_id == "i-1"
        assert invocation.output_location == "s3://b/out"
        assert invocation.failure_location == "s3://b/fail"
        assert invocation.metadata is not None
        assert invocation.metadata.request_id == "7-7-7"
        assert invocation.metadata.status == 202
        assert len(invocation.metadata.attempts) == 1


async def _chunks(*chunks: object) -> AsyncIterator[Any]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


def _text_file(tmp_path: Path) -> io.TextIOBase:
    path = tmp_path / "text"
    path.write_text("gräßlich", encoding="latin-1")
    return path.open(encoding="latin-1")


def _binary_file(tmp_path: Path) -> io.BufferedIOBase:
    path = tmp_path / "bytes"
    path.write_bytes("gräßlich".encode())
    return path.open("rb")


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize(
    "make",
    [
        lambda _: "gräßlich".encode(),
        lambda _: bytearray("gräßlich".encode()),
        lambda _: memoryview(b"--" + "gräßlich".encode())[2:],
        lambda _: "gräßlich",
        lambda _: io.BytesIO("gräßlich".encode()),
        lambda _: io.StringIO("gräßlich"),
        _text_file,
        _binary_file,
        lambda _: _chunks("gräß", b"lich"),
        lambda _: UploadFile(io.BytesIO("gräßlich".encode())),
    ],
)
@pytest.mark.asyncio
async def test_a_body_may_be_of_many_kinds(
    *,
    make: Callable[[Path], Any],
    operation: Operation,
    tmp_path: Path,
    serve: Serve,
    connect: Connect,
    answer: Answer,
) -> None:
    body = make(tmp_path)
    async with serve(answer) as server, connect(server) as client:
        await _call(client, operation, endpoint_name="e", body=body)
        assert server.requests[0].body == "gräßlich".encode()
        assert server.requests[0].headers["content-length"] == "10"
    if isinstance(body, UploadFile):
        await body.close()
    elif hasattr(body, "close"):
        body.close()


@pytest.mark.asyncio
async def test_a_source_without_end_is_given_up_at_the_limit(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    class Endless:
        asked = 0

        def read(self, size: int, /) -> bytes:
            self.asked += size
            return bytes(size)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 16)

    async with serve(answer) as server, connect(server) as client:
        file = Endless()
        with pytest.raises(ParameterError, match="6291456"):
            await client.invoke_endpoint(endpoint_name="e", body=file)
        assert file.asked < 7_000_000
        with pytest.raises(ParameterError, match="128000"):
            await client.invoke_endpoint_async(endpoint_name="e", body=endless())
        assert server.connections == 0


# --- names


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("endpoint", "endpoint_name"),
        ("EndpointName", "endpoint_name"),
        ("boddy", "body"),
        ("contenttype", "content_type"),
        ("CustomAttributes", "custom_attributes"),
        ("header", "headers"),
    ],
)
@pytest.mark.asyncio
async def test_an_unknown_parameter_names_the_nearest(
    operation: Operation, name: str, near: str
) -> None:
    client = SageMakerRuntimeClient()
    with pytest.raises(TypeError, match=rf"{spell(operation.name)}\(\).*{name}.*{near!r}"):
        await _call(client, operation, **{name: "x"})
    with pytest.raises(TypeError, match="it takes endpoint_name, "):
        await _call(client, operation, zzz="x")


def test_a_stream_need_not_be_opened_to_find_a_typing_mistake() -> None:
    with pytest.raises(TypeError, match="'body'"):
        SageMakerRuntimeClient().invoke_endpoint_with_response_stream(boddy=b"")  # type: ignore[call-arg]  # the mistake


def test_an_unknown_option_names_the_nearest() -> None:
    client = SageMakerRuntimeClient()
    for make in (SageMakerRuntimeClient, client.with_options):
        with pytest.raises(TypeError, match=r"'region'.*'region_name'"):
            make(region="eu-west-1")  # type: ignore[call-arg]  # the mistake
        with pytest.raises(TypeError, match=r"'max_pool_connections'.*max_connections"):
            make(max_pool_connections=3)  # type: ignore[call-arg]  # the mistake
        with pytest.raises(TypeError, match=r"params: .*'endpoint_nam'.*'endpoint_name'"):
            make(params={"endpoint_nam": "e"})
        with pytest.raises(TypeError, match=r"params: .*'zzz'.*there are accept, body, "):
            make(params={"zzz": "e"})


def test_only_a_config_comes_by_position() -> None:
    with pytest.raises(TypeError, match=r"not 'us-east-1'.*region_name='us-east-1'"):
        SageMakerRuntimeClient("us-east-1")  # type: ignore[arg-type]  # the mistake
    client = SageMakerRuntimeClient(
        Config(region_name="us-east-1", endpoint_url="https://a"), endpoint_url="https://b"
    )
    assert (client.region_name, client.endpoint_url) == ("us-east-1", "https://b")


@pytest.mark.parametrize("value", ["max", ["max", "maximum"], {"enums"}])
def test_a_constraint_that_there_is_not_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"parameter_validation=.*enum, max, min, pattern"):
        SageMakerRuntimeClient(parameter_validation=value)


def test_hooks_are_an_object_of_hooks() -> None:
    hooks: Any = print
    with pytest.raises(
        ConfigurationError, match=r"hooks=<built-in function print>.*aiosmrt\.Hooks"
    ):
        SageMakerRuntimeClient(hooks=hooks)


@pytest.mark.asyncio
async def test_parameter_validation_can_be_switched(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    long_and_odd = "-" * 64
    async with serve(answer) as server, connect(server) as client:
        with pytest.raises(ParameterError) as caught:
            await client.invoke_endpoint(endpoint_name=long_and_odd, body=b"")
        assert len(caught.value.problems) == 2
        for chosen in ({"max"}, ["pattern"], ("max", "min", "enum")):
            with pytest.raises(ParameterError) as caught:
                await client.with_options(parameter_validation=chosen).invoke_endpoint(
                    endpoint_name=long_and_odd, body=b""
                )
            assert len(caught.value.problems) == 1
        assert server.requests == []
        loose = client.with_options(parameter_validation=False)
        await loose.invoke_endpoint(endpoint_name=long_and_odd, body=bytes(6_300_000))
        await loose.with_options(parameter_validation={"min"}).invoke_endpoint(
            endpoint_name=long_and_odd, body=_chunks(bytes(6_300_000))
        )
        assert [len(request.body) for request in server.requests] == [6_300_000] * 2
        with pytest.raises(ParameterError, match="endpoint_name is required"):
            await loose.invoke_endpoint(body=b"")


# --- options


@pytest.mark.asyncio
async def test_a_derived_client_shares_the_pool_and_closes_nothing(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    async with serve(answer) as server, connect(server, max_connections=1) as client:
        await client.invoke_endpoint(endpoint_name="e", body=b"")
        derived = client.with_options(headers={"x-who": "derived"}, timeout=30)
        async with derived:
            await derived.invoke_endpoint(endpoint_name="e", body=b"")
        await derived.invoke_endpoint(endpoint_name="e", body=b"")
        await derived.with_options(region_name="us-east-2").invoke_endpoint(
            endpoint_name="e", body=b""
        )
        await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert server.connections == 1
        assert [request.headers.get("x-who") for request in server.requests] == [
            None,
            "derived",
            "derived",
            "derived",
            None,
        ]
        assert "/us-east-2/" in server.requests[3].headers["authorization"]
        await client.aclose()
        with pytest.raises(ClientClosed):
            await derived.invoke_endpoint(endpoint_name="e", body=b"")


@pytest.mark.parametrize(
    "name",
    [
        *("session", "max_connections", "verify", "client_cert"),
        *("proxy", "proxy_verify", "proxy_client_cert"),
    ],
)
def test_a_derived_client_has_no_pool_of_its_own(name: str) -> None:
    client = SageMakerRuntimeClient()
    options: Any = {name: None, "zzz": 1}
    with pytest.raises(TypeError, match=rf"with_options\(\) cannot change {name},.*pool"):
        client.with_options(**options)


@pytest.mark.asyncio
async def test_a_client_is_neither_pickled_nor_copied(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    async with serve(answer) as server, connect(server) as client:
        for one in (client, client.with_options(timeout=3)):
            for away in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(TypeError, match=r"holds sockets.* one .*in each process"):
                    away(one)
        # What one is made of travels.
        config = Config(region_name="eu-west-1", timeout=3)
        assert pickle.loads(pickle.dumps(config)) == config


def test_clients_cost_little() -> None:
    client = SageMakerRuntimeClient(region_name="eu-west-1")

    def measure(make: Callable[[], object]) -> float:
        began = time.perf_counter()
        for _ in range(100):
            make()
        return (time.perf_counter() - began) / 100

    # Measured: 20 to 60 µs. The least of several, since anybody may be interrupted.
    assert min(measure(SageMakerRuntimeClient) for _ in range(5)) < 0.001
    assert min(measure(lambda: client.with_options(timeout=5)) for _ in range(5)) < 0.001


def test_making_a_client_does_no_io(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_CA_BUNDLE", "/no/such/file")

    def fail(*_: object, **__: object) -> Any:
        raise AssertionError("I/O")

    for place, name in [
        (builtins, "open"),
        (io, "open"),
        (os, "open"),
        (os, "stat"),
        (socket, "socket"),
        (socket, "getaddrinfo"),
        (subprocess, "Popen"),
        (threading.Thread, "start"),
    ]:
        monkeypatch.setattr(place, name, fail)
    client = SageMakerRuntimeClient(
        profile_name="nobody",
        verify="/no/such/bundle",
        endpoint_url="not a url",
        region_name="no region",
        credentials=lambda: pytest.fail("asked for credentials"),
    )
    client.with_options(profile_name="somebody", region_name=None, credentials=None)
    repr(client)
    monkeypatch.undo()


@pytest.mark.asyncio
async def test_parameters_and_headers_are_bound_and_overridden(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    bound = {
        "endpoint_name": "bound",
        "target_model": "bound.tar.gz",
        "target_variant": "Bound",
        "accept": "text/bound",
    }
    async with (
        serve(answer) as server,
        connect(server, params=bound, headers={"X-One": "1", "X-Two": "2"}) as client,
    ):
        await client.invoke_endpoint(
            body=b"",
            target_variant="Own",
            accept=None,
            headers={"x-two": "own", "User-Agent": "me/1"},
        )
        seen = server.requests[-1]
        assert seen.target == "/endpoints/bound/invocations"
        assert seen.headers["x-amzn-sagemaker-target-model"] == "bound.tar.gz"
        assert seen.headers["x-amzn-sagemaker-target-variant"] == "Own"
        assert "accept" not in seen.headers
        assert seen.headers["x-one"] == "1"
        assert seen.headers["x-two"] == "own"
        assert seen.headers["user-agent"] == "me/1"
        # InvokeEndpointAsync has neither a target model nor a variant.
        await client.invoke_endpoint_async(input_location="s3://b/k", headers=None)
        seen = server.requests[-1]
        assert seen.target == "/endpoints/bound/async-invocations"
        assert seen.headers["x-amzn-sagemaker-accept"] == "text/bound"
        assert "x-amzn-sagemaker-target-model" not in seen.headers
        assert (seen.headers["x-one"], seen.headers["x-two"]) == ("1", "2")
        derived = client.with_options(params={"endpoint_name": "other"}, headers={})
        await derived.invoke_endpoint(body=b"")
        seen = server.requests[-1]
        assert seen.target == "/endpoints/other/invocations"
        assert "x-one" not in seen.headers
        with pytest.raises(ParameterError, match="Accept is already set by a parameter"):
            await client.invoke_endpoint(body=b"", headers={"Accept": "x"})


@pytest.mark.asyncio
async def test_a_new_identity_leaves_nothing_of_the_old_one(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    async def fetch() -> Credentials:
        return Credentials("AKIDFUNCTION", "x")

    async with (
        serve(answer) as server,
        connect(server, aws_session_token="old-token") as client,
    ):
        others = [
            client,
            client.with_options(aws_access_key_id="AKIDOTHER", aws_secret_access_key="x"),
            client.with_options(credentials=fetch),
            client.with_options(credentials=fetch).with_options(
                aws_access_key_id="AKIDLAST", aws_secret_access_key="x", aws_session_token="new"
            ),
            client.with_options(aws_session_token="renewed"),
            client.with_options(timeout=3),
        ]
        for other in others:
            await other.invoke_endpoint(endpoint_name="e", body=b"")
        signed = [
            (
                request.headers["authorization"].partition("Credential=")[2].partition("/")[0],
                request.headers.get("x-amz-security-token"),
            )
            for request in server.requests
        ]
        assert signed == [
            ("AKIDEXAMPLE", "old-token"),
            ("AKIDOTHER", None),
            ("AKIDFUNCTION", None),
            ("AKIDLAST", "new"),
            ("AKIDEXAMPLE", "renewed"),
            ("AKIDEXAMPLE", "old-token"),
        ]
        with pytest.raises(ConfigurationError, match="belong together"):
            client.with_options(aws_access_key_id="AKIDOTHER")
        gc.collect()  # and what could not be derived does not warn


@pytest.mark.asyncio
async def test_a_number_as_the_time_limit_is_the_total(serve: Serve, connect: Connect) -> None:
    async with (
        serve(_hang) as server,
        connect(server, timeout=Timeout(first_byte=0.1)) as client,
    ):
        limited = {
            "its own": (client, None),
            "a call's total": (client, 0.05),
            "a call's total, but longer": (client, 50),
            "a call's limits": (client, Timeout(first_byte=0.03)),
            "a call's limits, but one of them": (client, Timeout(total=50)),
            "a call's limit as it is by default": (client, Timeout(first_byte=70, total=0.05)),
            "a derived client's total": (client.with_options(timeout=0.05), None),
            "a derived client's total, but longer": (client.with_options(timeout=50), None),
            "a derived client's limits": (client.with_options(timeout=Timeout(total=0.06)), None),
        }
        fired = {}
        for name, (caller, timeout) in limited.items():
            with pytest.raises(TimeoutError) as caught:
                await caller.invoke_endpoint(endpoint_name="e", body=b"", timeout=timeout)
            assert isinstance(caught.value, FirstByteTimeout | TotalTimeout)
            fired[name] = (caught.value.limit, caught.value.seconds)
        assert fired == {
            "its own": ("first_byte", 0.1),
            "a call's total": ("total", 0.05),
            "a call's total, but longer": ("first_byte", 0.1),
            "a call's limits": ("first_byte", 0.03),
            "a call's limits, but one of them": ("first_byte", 0.1),
            "a call's limit as it is by default": ("total", 0.05),
            "a derived client's total": ("total", 0.05),
            "a derived client's total, but longer": ("first_byte", 0.1),
            "a derived client's limits": ("total", 0.06),
        }


@pytest.mark.asyncio
async def test_what_was_resolved_can_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    client = SageMakerRuntimeClient()
    assert repr(client) == "<SageMakerRuntimeClient not resolved yet>"
    assert client.region_name == "eu-central-1"
    assert client.endpoint_url == "https://runtime.sagemaker.eu-central-1.amazonaws.com"
    assert repr(client) == f"<SageMakerRuntimeClient {client.endpoint_url}>"
    other = client.with_options(region_name="us-gov-west-1", use_fips_endpoint=True)
    assert other.endpoint_url == "https://runtime.sagemaker.us-gov-west-1.amazonaws.com"
    assert client.region_name == "eu-central-1"
    (tmp_path / "config").write_text("[profile p]\nregion = ap-south-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    client = SageMakerRuntimeClient(profile_name="p", credentials=Credentials("AKIDEXAMPLE", "x"))
    with pytest.raises(ConfigurationError, match=r"await client\.warm_up\(\) first"):
        _ = client.region_name
    await client.warm_up()
    assert client.region_name == "ap-south-1"
    await client.aclose()


@pytest.mark.asyncio
async def test_the_total_names_what_was_awaited(
    serve: Serve, connect: Connect, respond: Respond
) -> None:
    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        if request.body == b"busy":
            writer.write(respond(503))
        elif request.body == b"half":
            writer.write(respond(200, b"12345")[:-1])
        else:
            await _hang(request, writer)

    async def never() -> AsyncIterator[bytes]:
        await asyncio.sleep(60)
        yield b""

    async def fetch() -> Credentials:
        await asyncio.sleep(60)
        raise AssertionError

    async def look_on(_: object) -> None:
        await asyncio.sleep(0.21)

    async with serve(answer) as server, connect(server, timeout=0.2, max_connections=1) as client:

        async def fail(client: SageMakerRuntimeClient, body: Any) -> str:
            with pytest.raises(TotalTimeout) as caught:
                await client.invoke_endpoint(endpoint_name="e", body=body)
            return str(caught.value).partition("it was waiting for ")[2].partition(" [")[0]

        assert await fail(client, never()) == "the body"
        assert await fail(client.with_options(credentials=fetch), b"") == "credentials"
        assert await fail(client, b"") == "the first byte of the answer"
        assert await fail(client, b"half") == "more of the answer"
        slow = client.with_options(hooks=Hooks(on_retry=look_on))
        assert await fail(slow, b"busy") == "the back-off before attempt 2"
        patient = client.with_options(timeout=Timeout(total=None))
        last = asyncio.create_task(patient.invoke_endpoint(endpoint_name="e", body=b"last"))
        await asyncio.sleep(0)
        assert await fail(client, b"") == "a place in the connection pool"
        last.cancel()


@pytest.mark.asyncio
async def test_warming_up_does_all_but_connect(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    fetched = 0

    async def fetch() -> Credentials:
        nonlocal fetched
        fetched += 1
        return Credentials("AKIDEXAMPLE", "x")

    async with (
        serve(answer) as server,
        SageMakerRuntimeClient(
            region_name="eu-west-1", endpoint_url=server.url, credentials=fetch
        ) as client,
    ):
        await client.warm_up()
        assert (fetched, server.connections) == (1, 0)
        await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert fetched == 1
        await client.aclose()
        with pytest.raises(ClientClosed):
            await client.warm_up()


@pytest.mark.asyncio
async def test_warming_up_shows_what_is_missing() -> None:
    with pytest.raises(ConfigurationError, match="region"):
        await SageMakerRuntimeClient().warm_up()
    async with SageMakerRuntimeClient(region_name="eu-west-1") as client:
        with pytest.raises(CredentialsError, match="AWS_ACCESS_KEY_ID"):
            await client.warm_up()


@pytest.mark.asyncio
async def test_a_derived_client_may_have_a_clock_of_its_own(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    async with serve(answer) as server, connect(server, system_clock_offset=86400.0) as client:
        derived = client.with_options(system_clock_offset=-86400.0)
        later = derived.with_options(timeout=3)
        offsets = [other.clock_offset for other in (client, derived, later)]
        assert offsets == [86400.0, -86400.0, -86400.0]
        for other in (client, derived, later):
            await other.invoke_endpoint(endpoint_name="e", body=b"")
        now = datetime.datetime.now(datetime.UTC)
        signed = [
            datetime.datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%S%z")
            for request in server.requests
        ]
        days = [round((moment - now) / datetime.timedelta(days=1)) for moment in signed]
        assert days == [1, -1, -1]


@pytest.mark.asyncio
async def test_a_server_that_checks_no_signature_needs_no_credentials(
    serve: Serve, answer: Answer
) -> None:
    async with (
        serve(answer) as server,
        SageMakerRuntimeClient(endpoint_url=server.url, signature_version=UNSIGNED) as client,
    ):
        await client.warm_up()
        await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert "authorization" not in server.requests[0].headers
        assert client.region_name == ""


@pytest.mark.parametrize(
    ("function", "trace", "sent"),
    [
        (
            "f",
            "Root=1-5759e988;Parent=53995c3f;Sampled=1",
            "Root=1-5759e988;Parent=53995c3f;Sampled=1",
        ),
        ("f", "a b\n\u00e4", "a%20b%0A%C3%A4"),
        ("f", "", None),
        ("f", None, None),
        (None, "Root=1", None),
    ],
)
@pytest.mark.asyncio
async def test_a_lambda_function_passes_its_trace_on(
    *,
    function: str | None,
    trace: str | None,
    sent: str | None,
    serve: Serve,
    connect: Connect,
    answer: Answer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("AWS_LAMBDA_FUNCTION_NAME", function), ("_X_AMZN_TRACE_ID", trace)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    async with serve(answer) as server, connect(server) as client:
        await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert server.requests[0].headers.get("x-amzn-trace-id") == sent
        await client.invoke_endpoint(
            endpoint_name="e", body=b"", headers={"X-Amzn-Trace-Id": "own"}
        )
        assert server.requests[1].headers["x-amzn-trace-id"] == "own"


# --- the service's own spelling


@pytest.mark.asyncio
async def test_operations_are_called_in_the_services_spelling(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    async with serve(answer) as server, connect(server) as client:
        given = {"EndpointName": "e", "Body": b"x", "CustomAttributes": "a=1"}
        response = await client.call("InvokeEndpoint", given)
        assert response.json() == [1]
        invocation = await client.call(
            "InvokeEndpointAsync",
            {"EndpointName": "e", "InputLocation": "s3://b/k", "RequestTTLSeconds": 60},
        )
        assert invocation.inference_id == "i"
        async with await client.call("InvokeEndpointWithResponseStream", given) as stream:
            assert [part.bytes async for part in stream] == [b"a", b"b"]
        assert [request.target.rpartition("/")[2] for request in server.requests] == [
            "invocations",
            "async-invocations",
            "invocations-response-stream",
        ]
        assert server.requests[0].headers["x-amzn-sagemaker-custom-attributes"] == "a=1"
        assert server.requests[1].headers["x-amzn-sagemaker-requestttlseconds"] == "60"
        with pytest.raises(TypeError, match=r"'InvokeEndpont'.*InvokeEndpoint"):
            await client.call("InvokeEndpont", {})  # type: ignore[call-overload]  # the mistake
        with pytest.raises(TypeError, match=r"'endpoint_name'.*'EndpointName'"):
            await client.call("InvokeEndpoint", {"endpoint_name": "e"})


# --- errors before the first byte


@pytest.mark.asyncio
async def test_an_error_before_the_first_byte_belongs_to_its_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where one resolution fails for several calls at once."""
    client = SageMakerRuntimeClient(params={"endpoint_name": "bound"})
    calls: list[Awaitable[object]] = [
        client.invoke_endpoint(endpoint_name="one", body=b""),
        client.invoke_endpoint_async(endpoint_name="two", body=b"x"),
        client.invoke_endpoint_with_response_stream(body=b""),
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for outcome, name, endpoint_name in zip(
        outcomes, OPERATIONS.values(), ("one", "two", "bound"), strict=True
    ):
        assert isinstance(outcome, ConfigurationError)
        assert outcome.operation == name.name
        assert outcome.endpoint_name == endpoint_name
        assert outcome.attempts == ()
        assert not outcome.may_have_run
        assert str(outcome).endswith(f"[{name.name}, endpoint {endpoint_name!r}]")
    with pytest.raises(ParameterError) as caught:
        await SageMakerRuntimeClient().invoke_endpoint(body=b"")
    assert caught.value.operation == "InvokeEndpoint"
    assert caught.value.endpoint_name is None
    assert caught.value.problems == ("endpoint_name is required",)


# --- life


@pytest.mark.asyncio
async def test_a_client_works_without_async_with_and_is_closed_once_and_again(
    serve: Serve, connect: Connect, answer: Answer, until: Until
) -> None:
    async with serve(answer) as server:
        client = connect(server)
        await client.invoke_endpoint(endpoint_name="e", body=b"")
        await asyncio.gather(client.aclose(), client.aclose())
        await client.aclose()
        async with client:
            pass
        await until(lambda: server.open_connections == 0)
        for operation in OPERATIONS.values():
            with pytest.raises(ClientClosed, match="make another one") as caught:
                await _call(client, operation, endpoint_name="e", body=b"")
            assert caught.value.operation == operation.name
            assert caught.value.endpoint_name == "e"
        assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_closing_ends_what_is_in_flight_wherever_it_is(
    serve: Serve, connect: Connect, events: Events, respond: Respond, until: Until
) -> None:
    beginnings = {
        "body": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        "part": events.head() + events.chunk(events.part(b"a")),
        "head": events.head(),
        "again": respond(503, x_amz_retry_after="9000"),
    }

    async def begin(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        name = request.target.split("/")[2]
        writer.write(beginnings.get(name, b""))
        if name != "again":
            await _hang(request, writer)

    async def never() -> Credentials:
        await asyncio.Event().wait()
        raise AssertionError

    async def read(client: SageMakerRuntimeClient) -> None:
        stream = await client.invoke_endpoint_with_response_stream(endpoint_name="part", body=b"")
        async for _ in stream:
            pass

    tasks = asyncio.all_tasks()
    async with serve(begin) as server:
        client = connect(server, max_connections=6, retry=RetryPolicy(base_delay=20.0))
        stranger = client.with_options(credentials=never)  # it waits for no place
        calls: dict[str, Awaitable[object]] = {
            "answer": client.invoke_endpoint(endpoint_name="e", body=b""),
            "body": client.invoke_endpoint(endpoint_name="body", body=b""),
            "first part": client.invoke_endpoint_with_response_stream(
                endpoint_name="head", body=b""
            ),
            "later part": read(client),
            "acknowledgement": client.invoke_endpoint_async(endpoint_name="e", body=b"x"),
            "credentials": stranger.invoke_endpoint(endpoint_name="e", body=b""),
            "a pause": client.invoke_endpoint(endpoint_name="again", body=b""),
        }
        flying = {name: asyncio.ensure_future(call) for name, call in calls.items()}
        await until(lambda: len(server.requests) == 6)
        for name in ("the slot of the paused", "no slot"):
            call = client.invoke_endpoint(endpoint_name="e", body=b"")
            flying[name] = asyncio.ensure_future(call)
        await until(lambda: len(server.requests) == 7)
        await asyncio.sleep(0.05)
        assert not any(call.done() for call in flying.values())
        await client.aclose()
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(*flying.values(), return_exceptions=True)
        for name, outcome in zip(flying, outcomes, strict=True):
            assert isinstance(outcome, ClientClosed), name
            assert outcome.endpoint_name is not None
            nothing_ran = ("credentials", "a pause", "no slot")
            assert outcome.may_have_run is (name not in nothing_ran), name
        await until(lambda: server.open_connections == 0)
        await until(lambda: asyncio.all_tasks() == tasks)


def _expect_warning(drop: Callable[[], object]) -> None:
    with pytest.warns(ResourceWarning, match="SageMakerRuntimeClient.*was never closed"):
        drop()


@pytest.mark.asyncio
async def test_closing_with_grace_lets_calls_and_streams_finish(
    serve: Serve, connect: Connect, respond: Respond, events: Events
) -> None:
    busy = 0

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        nonlocal busy
        if request.body == b"stream":
            for number in range(4):
                writer.write((b"" if number else events.head()) + events.chunk(events.part(b"x")))
                await asyncio.sleep(0.03)
            writer.write(events.END)
        else:
            busy += 1
            writer.write(respond(503 if busy == 1 else 200, b"[1]"))

    async with serve(answer) as server:
        # The call's back-off has no place in the pool, and counts all the same.
        retry = RetryPolicy(backoff=lambda attempt, error: 0.2)
        client = connect(server, retry=retry)
        call = asyncio.create_task(client.invoke_endpoint(endpoint_name="e", body=b""))
        async with client.invoke_endpoint_with_response_stream(
            endpoint_name="e", body=b"stream"
        ) as stream:
            closing = asyncio.create_task(client.aclose(grace=5))
            await asyncio.sleep(0)
            with pytest.raises(ClientClosed):
                await client.invoke_endpoint(endpoint_name="e", body=b"")
            assert await stream.read() == b"xxxx"
            assert not closing.done()
            assert (await call).body == b"[1]"
            await asyncio.wait_for(closing, 1)
        assert len(server.requests) == 3


@pytest.mark.asyncio
async def test_a_client_left_open_warns(serve: Serve, connect: Connect, answer: Answer) -> None:
    async with serve(answer) as server:
        clients = [connect(server)]
        await clients[0].invoke_endpoint(endpoint_name="e", body=b"")
        _expect_warning(clients.clear)


@pytest.mark.asyncio
async def test_the_owner_of_a_pool_lives_as_long_as_who_shares_it(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    async with serve(answer) as server:
        derived = [connect(server).with_options(timeout=5).with_options(timeout=6)]
        gc.collect()
        await derived[0].invoke_endpoint(endpoint_name="e", body=b"")
        gc.collect()
        await derived[0].invoke_endpoint(endpoint_name="e", body=b"")
        assert server.connections == 1
        _expect_warning(derived.clear)


@pytest.mark.asyncio
async def test_a_client_that_needs_no_closing_does_not_warn(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SageMakerRuntimeClient()
        with pytest.raises(TypeError):
            SageMakerRuntimeClient(zzz=1)  # type: ignore[call-arg]  # the mistake
        async with serve(answer) as server:
            client = connect(server)
            with pytest.raises(ParameterError):
                await client.invoke_endpoint()
            del client
            client = connect(server)
            derived = client.with_options(timeout=3)
            await derived.invoke_endpoint(endpoint_name="e", body=b"")
            del derived
            await client.aclose()
            del client
        gc.collect()


@pytest.fixture
def threaded_server() -> Iterator[list[object]]:
    """Give the URL of a server that outlives any loop, and the connections it has seen."""
    connections: list[object] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            connections.append(self.client_address)
            super().setup()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    connections.append(f"http://127.0.0.1:{server.server_address[1]}")
    yield connections
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_client_at_module_level_serves_one_asyncio_run_after_another(
    threaded_server: list[Any],
) -> None:
    client = SageMakerRuntimeClient(
        region_name="eu-west-1",
        endpoint_url=threaded_server[0],
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="x",
    )

    async def call_twice() -> list[bytes]:
        return [(await client.invoke_endpoint(endpoint_name="e", body=b"")).body for _ in range(2)]

    for run in (1, 2, 3):
        assert asyncio.run(call_twice()) == [b"ok", b"ok"]
        assert len(threaded_server) - 1 == run  # connections: a pool for each loop
    asyncio.run(client.aclose())
    with pytest.raises(ClientClosed):
        asyncio.run(call_twice())


def test_a_first_call_with_keys_in_the_environment_needs_no_sdk(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import asyncio, os, sys
        import aiosmrt
        from aiosmrt.eventstream import encode_message

        EVENTS = "content-type: application/vnd.amazon.eventstream"
        part = encode_message({":message-type": "event", ":event-type": "PayloadPart"}, b"ok")

        async def answer(reader, writer):
            while head := await reader.readuntil(b"\\r\\n\\r\\n"):
                await reader.readexactly(1)
                body = part if b"-stream " in head else b"ok"
                head = f"HTTP/1.1 200 OK\\r\\n{EVENTS}\\r\\ncontent-length: {len(body)}\\r\\n\\r\\n"
                writer.write(head.encode() + body)

        async def main():
            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            host, port = server.sockets[0].getsockname()
            os.environ["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
            client = aiosmrt.SageMakerRuntimeClient()
            response = await client.invoke_endpoint(endpoint_name="e", body="x")
            assert response.body == b"ok"
            async with client.invoke_endpoint_with_response_stream(
                endpoint_name="e", body="x"
            ) as stream:
                assert [part.bytes async for part in stream] == [b"ok"]
            await client.aclose()
            print(*sorted({name.partition(".")[0] for name in sys.modules}))
            os._exit(0)

        asyncio.run(main())
        """
    ).replace("os._exit(0)", "sys.stdout.flush(); os._exit(0)")
    environment = {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "eu-west-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert "aiohttp" in imported
    assert not imported & {"boto3", "aiobotocore", "botocore", "s3transfer"}


# --- secrets

SECRETS = ("hidden-key", "hidden-token", "hidden-body", "hidden-attribute", "hidden-answer")


def _is_told(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def test_nothing_shows_a_secret() -> None:
    client = SageMakerRuntimeClient(
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="hidden-key",
        aws_session_token="hidden-token",
        params={"body": b"hidden-body", "custom_attributes": "hidden-attribute"},
        headers={"x-token": "hidden-token"},
        region_name="eu-west-1",
    )
    others = [
        client,
        client.with_options(timeout=1),
        client._builder.credentials,
        client._builder.config,
    ]
    client.endpoint_url  # noqa: B018 - it resolves
    for shown in others:
        assert _is_told(f"{shown!r} {shown}") == []


@pytest.mark.parametrize("source", ["arguments", "environment", "shared file"])
@pytest.mark.asyncio
async def test_no_secret_body_or_custom_attribute_is_logged(
    *,
    source: str,
    serve: Serve,
    respond: Respond,
    events: Events,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        refused = "again" in request.target and len(server.requests) % 3
        attributes = {"x_amzn_sagemaker_custom_attributes": "hidden-attribute"}
        if refused or "refused" in request.target:
            status = 503 if refused else 424
            writer.write(respond(status, b'{"Message": "hidden-answer"}', **attributes))
        elif request.target.endswith("-stream"):
            body = events.chunk(events.part(b"hidden-answer"), events.part(b"hidden-answer", "New"))
            writer.write(events.head(**attributes) + body + events.END)
        else:
            writer.write(respond(200, b'{"InferenceId": "hidden-answer"}', **attributes))

    options: Any = {}
    if source == "arguments":
        options = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "hidden-key"}
        options["aws_session_token"] = "hidden-token"
    elif source == "environment":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-key")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "hidden-token")
    else:
        file = tmp_path / "credentials"
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
        file.write_text(
            "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = hidden-key\n"
            "aws_session_token = hidden-token\n"
        )
    policy = RetryPolicy(base_delay=0.0)
    caplog.set_level(logging.DEBUG)
    async with (
        serve(answer) as server,
        SageMakerRuntimeClient(
            region_name="eu-west-1", endpoint_url=server.url, retry=policy, **options
        ) as client,
    ):
        for endpoint_name in ("good", "again", "refused"):
            for operation in OPERATIONS.values():
                try:
                    await _call(
                        client,
                        operation,
                        endpoint_name=endpoint_name,
                        body="hidden-body",
                        custom_attributes="hidden-attribute",
                    )
                except ServiceError:
                    assert endpoint_name == "refused"
        assert server.requests[0].headers["x-amz-security-token"] == "hidden-token"
        assert server.requests[0].body == b"hidden-body"
    assert any(record.name == "aiosmrt" for record in caplog.records)
    told = [f"{record.name}: {record.getMessage()}" for record in caplog.records]
    assert _is_told("\n".join(told)) == []


@pytest.mark.parametrize("operation", ["InvokeEndpoint", "InvokeEndpointAsync"])
@pytest.mark.asyncio
async def test_an_endpoint_that_is_not_there(
    operation: Any,
    serve: Serve,
    connect: Connect,
    respond: Respond,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    said = b'{"Message": "Endpoint e of account 123456789012 not found."}'

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(400, said, x_amzn_errortype="ValidationError"))

    async with serve(answer) as server, connect(server, region_name=None) as client:
        with pytest.raises(ValidationError) as caught:
            await client.call(operation, {"EndpointName": "e", "Body": b"x"})
    assert (
        "Endpoint e of account 123456789012 not found. It was looked for at region_name ap-south-1 "
        f"(environment variable AWS_REGION), endpoint_url {server.url} (argument): check its name, "
        "the region, and the account of the credentials."
    ) in str(caught.value)


@pytest.mark.asyncio
async def test_stats_tell_what_goes_on(until: Until) -> None:
    go_on = asyncio.Event()

    async def model(request: InvocationRequest) -> AsyncIterator[str]:
        yield "first"
        await go_on.wait()
        yield "last"

    async with LocalEndpoint(model) as endpoint, endpoint.client(max_connections=2) as client:
        assert client.stats() == ClientStats(0, 0, 0, 0)
        derived = client.with_options(params={"endpoint_name": "e"})
        stream = await derived.invoke_endpoint_with_response_stream(body="x")
        assert client.stats() == ClientStats(1, 0, 1, 0)
        calls = [asyncio.ensure_future(derived.invoke_endpoint(body="x")) for _ in range(3)]
        await until(lambda: client.stats().waiting_for_slot == 2)
        assert client.stats() == ClientStats(2, 2, 1, 0)
        # In another thread too, where there is no loop.
        assert await asyncio.to_thread(derived.stats) == client.stats()
        calls[-1].cancel()
        await asyncio.wait(calls[-1:])
        assert client.stats() == ClientStats(2, 1, 1, 0)
        await stream.aclose()
        await until(lambda: not client.stats().waiting_for_slot)
        assert client.stats() == ClientStats(2, 0, 0, 0)
        go_on.set()
        await asyncio.gather(*calls[:-1])
        assert client.stats() == ClientStats(0, 0, 0, 2)
    assert client.stats() == ClientStats(0, 0, 0, 0)


def test_stats_are_of_all_loops(threaded_server: list[Any]) -> None:
    client = SageMakerRuntimeClient(
        region_name="us-east-1",
        endpoint_url=threaded_server[0],
        signature_version=UNSIGNED,
    )

    async def call_and_look(idle: int) -> None:
        await client.invoke_endpoint(endpoint_name="mine", body="x")
        assert client.stats() == ClientStats(0, 0, 0, idle)

    async def call_in_two_loops() -> None:
        await call_and_look(1)
        await asyncio.to_thread(asyncio.run, call_and_look(2))
        assert client.stats() == ClientStats(0, 0, 0, 1)  # the other one is closed
        await client.aclose()

    asyncio.run(call_in_two_loops())


@pytest.mark.parametrize("waited", [True, False])
@pytest.mark.asyncio
async def test_a_model_is_said_to_have_had_its_time_where_that_passed(
    *,
    waited: bool,
    serve: Serve,
    connect: Connect,
    respond: Respond,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aiosmrt.service.failures._MODEL_SECONDS", 0.05 if waited else 59.0)
    said = b'{"Message": "Received server error from primary", "OriginalStatusCode": 0}'

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.06)
        writer.write(respond(424, said, x_amzn_errortype="ModelError"))

    async with serve(answer) as server, connect(server) as client:
        with pytest.raises(ModelError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
        assert ("The model had 60 seconds" in str(caught.value)) is waited
        opening = client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x")
        with pytest.raises(ModelError) as caught:
            await opening
        assert "60 seconds" not in str(caught.value)


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"],
    ids=["HTTP/1.0", "HTTP/1.1"],
)
@pytest.mark.parametrize(
    "operation", ["InvokeEndpoint", "InvokeEndpointAsync", "InvokeEndpointWithResponseStream"]
)
@pytest.mark.asyncio
async def test_an_answer_without_a_length_says_what_the_server_has_to_send(
    operation: Any, head: bytes, serve: Serve, connect: Connect
) -> None:
    stream = b"content-type: application/vnd.amazon.eventstream\r\n\r\n"
    body = b'{"InferenceId": "i"}'
    if operation == "InvokeEndpointWithResponseStream":
        head = head.removesuffix(b"\r\n") + stream
        body = encode_message({":message-type": "event", ":event-type": "PayloadPart"}, b"x")

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(head + body)
        writer.close()

    async def ask(client: SageMakerRuntimeClient) -> None:
        response = await client.call(operation, {"EndpointName": "e", "Body": b"x"})
        await response.read()  # of a stream

    async with serve(answer) as server, connect(server) as client:
        with pytest.raises(ConnectionLost) as caught:
            await ask(client)
    assert "whether the answer is whole cannot be known" in str(caught.value)
    assert "send Content-Length or, in HTTP/1.1, Transfer-Encoding: chunked" in str(caught.value)
    assert caught.value.may_have_run


@pytest.mark.asyncio
async def test_an_error_without_a_length_is_told_as_far_as_it_came(
    serve: Serve, connect: Connect
) -> None:
    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.0 400 No\r\n\r\n{"message": "bad tensor"}')
        writer.close()

    async with serve(answer) as server, connect(server) as client:
        with pytest.raises(ServiceError, match="bad tensor"):
            await client.invoke_endpoint(endpoint_name="e", body=b"x")


_METHODS = (
    "invoke_endpoint",
    "invoke_endpoint_async",
    "invoke_endpoint_with_response_stream",
)


@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.asyncio
async def test_a_value_is_sent_as_json(method: str) -> None:
    seen: list[InvocationRequest] = []

    async def model(request: InvocationRequest) -> bytes:
        seen.append(request)
        return b"ok"

    async with LocalEndpoint(model) as endpoint, endpoint.client() as client:
        others = {"body": b"of all", "content_type": "text/csv"}
        for caller in (client, client.with_options(params=others)):
            answer = await getattr(caller, method)(endpoint_name="e", json={"inputs": "ä"})
            if method == "invoke_endpoint_async":
                await answer.result(timeout=5)
            elif method != "invoke_endpoint":
                await answer.read()
        assert [request.content_type for request in seen] == ["application/json", "text/csv"]
        assert [json.loads(request.body) for request in seen] == [{"inputs": "ä"}] * 2


@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"json": [float("nan")]}, "which JSON cannot say"),
        ({"json": {1j}}, "Object of type set"),
        ({"json": 1, "body": b"x"}, "body and json exclude each other"),
        ({"json": "x" * 7_000_000}, "body must be at most"),
    ],
    ids=["NaN", "set", "both", "large"],
)
@pytest.mark.asyncio
async def test_json_that_cannot_be_sent_is_refused_before_a_byte_goes_out(
    method: str, given: Any, problem: str, serve: Serve, connect: Connect
) -> None:
    async with serve(None) as server, connect(server) as client:
        call = getattr(client, method)
        with pytest.raises(ParameterError, match=problem) as caught:
            await call(endpoint_name="e", **given)
        assert server.connections == 0
    assert caught.value.endpoint_name == "e"
    assert not caught.value.may_have_run


@pytest.mark.asyncio
async def test_an_input_location_takes_no_json_beside_it(serve: Serve, connect: Connect) -> None:
    async with serve(None) as server, connect(server) as client:
        with pytest.raises(ParameterError, match="exclude each other"):
            await client.invoke_endpoint_async(endpoint_name="e", json=1, input_location="s3://b/k")


@pytest.mark.asyncio
async def test_json_is_no_parameter_of_the_service(connect: Connect, serve: Serve) -> None:
    async with serve(None) as server, connect(server) as client:
        with pytest.raises(TypeError, match="InvokeEndpoint has no parameter 'json'"):
            await client.call("InvokeEndpoint", {"EndpointName": "e", "json": 1})
        with pytest.raises(TypeError, match="did you mean 'json'"):
            await client.invoke_endpoint(endpoint_name="e", jsn=1)  # type: ignore[call-arg]


# --- connections that are opened beforehand


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("borrowed", [False, True], ids=["own", "borrowed"])
@pytest.mark.asyncio
async def test_connections_are_opened_beforehand(
    *, secure: bool, borrowed: bool, serve: Any, connect: Any, respond: Any, tls: Any
) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(respond(200, b"ok"))

    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(answer, tls=tls.server if secure else None))
        session = await stack.enter_async_context(aiohttp.ClientSession()) if borrowed else None
        client = await stack.enter_async_context(
            connect(server, verify=tls.client, session=session, max_connections=3)
        )
        await client.warm_up(connections=2)
        assert server.connections == 2
        if not borrowed:  # of another connector nobody can tell what it has
            await client.warm_up(connections=2)
            assert client.stats().idle_connections == 2
            await client.warm_up(connections=9)  # no more than there are places
            assert client.stats().idle_connections == 3
        before = server.connections
        await asyncio.gather(
            *(client.invoke_endpoint(endpoint_name="e", body=b"x") for _ in range(2))
        )
        assert server.connections == before
        assert client.stats().in_flight == 0


@pytest.mark.asyncio
async def test_connections_that_cannot_be_opened_are_told_of(connect: Any, serve: Any) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("nobody is asked")

    async with serve(answer) as server:
        client = connect(server)
    async with client:
        with pytest.raises(ConnectError, match="check endpoint_url"):
            await client.warm_up(connections=2)
        for wrong in (-1, True, 1.5):
            with pytest.raises(ConfigurationError, match="connections="):
                await client.warm_up(connections=wrong)
        assert client.stats().in_flight == 0
