"""boto3 drives the endpoint, as any SDK would."""

from __future__ import annotations

import asyncio
import datetime
import json
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import pytest
from botocore import UNSIGNED
from botocore.exceptions import ClientError, EventStreamError

from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure, ModelResponse

Connect: TypeAlias = Callable[..., Any]


async def _invoke(client: Any, **parameters: object) -> dict[str, Any]:
    def invoke() -> dict[str, Any]:
        answer: dict[str, Any] = client.invoke_endpoint(**{"EndpointName": "e", **parameters})
        with answer["Body"] as body:
            return {**answer, "Body": body.read()}

    return await asyncio.to_thread(invoke)


async def _stream(client: Any, **parameters: object) -> dict[str, Any]:
    def stream() -> dict[str, Any]:
        answer: dict[str, Any] = client.invoke_endpoint_with_response_stream(
            **{"EndpointName": "e", "Body": b"", **parameters}
        )
        try:
            return {**answer, "Body": [event["PayloadPart"]["Bytes"] for event in answer["Body"]]}
        finally:
            answer["Body"].close()

    return await asyncio.to_thread(stream)


@pytest.mark.asyncio
async def test_invoke_endpoint(connect: Connect) -> None:
    async with LocalEndpoint() as endpoint:
        answer = await _invoke(connect(endpoint), Body=b"hello", CustomAttributes="trace=1")
    assert json.loads(answer["Body"]) == {"echo": "hello", "bytes": 5}
    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["CustomAttributes"] == "trace=1"
    assert "NewSessionId" not in answer
    metadata = answer["ResponseMetadata"]
    assert metadata["HTTPStatusCode"] == 200
    assert str(uuid.UUID(metadata["RequestId"])) == metadata["RequestId"]
    assert "date" in metadata["HTTPHeaders"]


@pytest.mark.asyncio
async def test_invoke_endpoint_with_response_stream(connect: Connect) -> None:
    async with LocalEndpoint() as endpoint:
        answer = await _stream(
            connect(endpoint),
            Body=b"one two three",
            ContentType="text/csv",
            TargetVariant="blue",
            CustomAttributes="trace=1",
        )
    assert answer["Body"] == [b"one ", b"two ", b"three"]
    assert answer["ContentType"] == "text/csv"
    assert answer["InvokedProductionVariant"] == "blue"
    assert answer["CustomAttributes"] == "trace=1"
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["content-type"] == "application/vnd.amazon.eventstream"
    assert headers["transfer-encoding"] == "chunked"
    assert "x-amzn-requestid" in headers


@pytest.mark.newest_botocore
@pytest.mark.asyncio
async def test_invoke_endpoint_async(connect: Connect) -> None:
    never = asyncio.Event()

    async def model(request: InvocationRequest) -> None:
        await never.wait()

    async with LocalEndpoint(model) as endpoint:
        client = connect(endpoint)
        answer = await asyncio.to_thread(
            client.invoke_endpoint_async, EndpointName="e", InputLocation="s3://bucket/key"
        )
        named = await asyncio.to_thread(
            client.invoke_endpoint_async, EndpointName="e", Body=b"{}", InferenceId="mine"
        )
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert str(uuid.UUID(answer["InferenceId"])) == answer["InferenceId"]
    assert answer["OutputLocation"].endswith(f"/e/{answer['InferenceId']}.out")
    assert answer["FailureLocation"].endswith(f"/e/{answer['InferenceId']}-error.out")
    assert named["InferenceId"] == "mine"
    assert [request.input_location for request in endpoint.requests] == ["s3://bucket/key", None]
    assert [request.body for request in endpoint.requests] == [b"", b"{}"]


@pytest.mark.newest_botocore
@pytest.mark.asyncio
async def test_every_member_arrives(connect: Connect) -> None:
    common = {
        "EndpointName": "my-endpoint",
        "Body": b"\x00\xff",
        "ContentType": "text/csv; header=present",
        "Accept": "application/json",
        "CustomAttributes": "a b;c=d",
        "InferenceId": "id 1",
    }
    routing = {
        "TargetVariant": "blue",
        "TargetContainerHostname": "second",
        "InferenceComponentName": "part-a",
        "SessionId": "session-1",
        "PrefixAwareId": "prefix 1",
    }
    session = ModelResponse(b"", new_session_id="session-1")
    async with LocalEndpoint(lambda request: session) as endpoint:
        client = connect(endpoint)
        await _invoke(client, EndpointName="my-endpoint", Body=b"", SessionId="NEW_SESSION")
        await _invoke(
            client, **common, **routing, TargetModel="a.tar.gz", EnableExplanations="`a`>1"
        )
        await _stream(client, **common, **routing)
        await asyncio.to_thread(
            client.invoke_endpoint_async,
            **common,
            S3OutputPathExtension="a/b",
            Filename="c.json",
            RequestTTLSeconds=60,
            InvocationTimeoutSeconds=3600,
        )
    invoked = InvocationRequest(
        operation="InvokeEndpoint",
        endpoint_name="my-endpoint",
        body=b"\x00\xff",
        content_type="text/csv; header=present",
        accept="application/json",
        custom_attributes="a b;c=d",
        inference_id="id 1",
        target_variant="blue",
        target_container_hostname="second",
        inference_component_name="part-a",
        session_id="session-1",
        prefix_aware_id="prefix 1",
        target_model="a.tar.gz",
        enable_explanations="`a`>1",
    )
    queued = InvocationRequest(
        operation="InvokeEndpointAsync",
        endpoint_name="my-endpoint",
        body=b"\x00\xff",
        content_type="text/csv; header=present",
        accept="application/json",
        custom_attributes="a b;c=d",
        inference_id="id 1",
        s3_output_path_extension="a/b",
        filename="c.json",
        request_ttl_seconds=60,
        invocation_timeout_seconds=3600,
    )
    streamed = InvocationRequest(
        operation="InvokeEndpointWithResponseStream",
        endpoint_name="my-endpoint",
        body=b"\x00\xff",
        content_type="text/csv; header=present",
        accept="application/json",
        custom_attributes="a b;c=d",
        inference_id="id 1",
        target_variant="blue",
        target_container_hostname="second",
        inference_component_name="part-a",
        session_id="session-1",
        prefix_aware_id="prefix 1",
    )
    assert endpoint.requests[1:] == [invoked, streamed, queued]


@pytest.mark.asyncio
async def test_a_response_sets_what_the_service_hands_on(connect: Connect) -> None:
    response = ModelResponse(
        b"x", "image/png", "k=v", closed_session_id="s1", invoked_production_variant="green"
    )
    async with LocalEndpoint(lambda request: response) as endpoint:
        answer = await _invoke(connect(endpoint), Body=b"")
        stream = await _stream(connect(endpoint))
    assert answer["Body"] == b"x"
    assert stream["Body"] == [b"x"]
    for found in (answer, stream):
        assert found["ContentType"] == "image/png"
        assert found["CustomAttributes"] == "k=v"
        assert found["InvokedProductionVariant"] == "green"
    assert answer["ClosedSessionId"] == "s1"


@pytest.mark.asyncio
async def test_new_session_opens_one(connect: Connect) -> None:
    async with LocalEndpoint() as endpoint:
        answer = await _invoke(connect(endpoint), Body=b"", SessionId="NEW_SESSION")
    session, _, expires = answer["NewSessionId"].partition("; Expires=")
    assert str(uuid.UUID(session)) == session
    end = datetime.datetime.fromisoformat(expires)
    assert end > datetime.datetime.now(datetime.UTC)


@pytest.mark.asyncio
async def test_a_failure_of_the_model_is_a_model_error(connect: Connect) -> None:
    def fail(request: InvocationRequest) -> bytes:
        raise ModelFailure(404, '{"message": "no such thing"}')

    async with LocalEndpoint(fail) as endpoint:
        client = connect(endpoint)
        for call in (_invoke, _stream):
            with pytest.raises(client.exceptions.ModelError) as caught:
                await call(client, Body=b"")
            answer = caught.value.response
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424
            assert answer["ResponseMetadata"]["RequestId"]
            assert answer["OriginalStatusCode"] == 404
            assert answer["OriginalMessage"] == '{"message": "no such thing"}'
            group = "/aws/sagemaker/Endpoints/e"
            arn = f"arn:aws:logs:eu-central-1:000000000000:log-group:{group}"
            assert answer["LogStreamArn"] == arn


@pytest.mark.asyncio
async def test_a_failure_after_the_first_part_ends_the_stream(connect: Connect) -> None:
    async def fail(request: InvocationRequest) -> AsyncIterator[str]:
        yield "one"
        raise ModelFailure(500, "out of memory")

    async with LocalEndpoint(fail) as endpoint:
        with pytest.raises(EventStreamError, match="out of memory") as caught:
            await _stream(connect(endpoint))
    assert caught.value.response["Error"]["Code"] == "ModelStreamError"


@pytest.mark.newest_botocore
@pytest.mark.asyncio
async def test_the_service_model_is_enforced(connect: Connect) -> None:
    async with LocalEndpoint() as endpoint:
        client = connect(endpoint, parameter_validation=False)
        with pytest.raises(client.exceptions.ValidationError, match="endpoint_name must match"):
            await _invoke(client, EndpointName="not_a_name", Body=b"")
        with pytest.raises(client.exceptions.ValidationError, match="one of body and input"):
            await asyncio.to_thread(client.invoke_endpoint_async, EndpointName="e")
        too_long = b"x" * 6_291_457
        with pytest.raises(client.exceptions.ValidationError, match="at most 6291456 bytes"):
            await _invoke(client, Body=too_long)
        with pytest.raises(client.exceptions.ValidationError, match="at most 128000 bytes"):
            await asyncio.to_thread(
                client.invoke_endpoint_async, EndpointName="e", Body=too_long[:128_001]
            )
        assert endpoint.requests == []
        await _invoke(client, Body=too_long[1:])
    assert [len(request.body) for request in endpoint.requests] == [6_291_456]


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"secret": "wrong"}, "InvalidSignatureException"),
        ({"key_id": "wrong"}, "UnrecognizedClientException"),
        ({"signature_version": UNSIGNED}, "MissingAuthenticationTokenException"),
    ],
    ids=["secret", "key id", "unsigned"],
)
@pytest.mark.asyncio
async def test_a_wrong_signature_is_refused(
    connect: Connect, keys: dict[str, str], code: str
) -> None:
    async with LocalEndpoint() as endpoint:
        with pytest.raises(ClientError) as caught:
            await _invoke(connect(endpoint, **keys), Body=b"")
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert endpoint.requests == []


@pytest.mark.asyncio
async def test_the_key_pair_can_be_chosen(connect: Connect) -> None:
    async with LocalEndpoint(access_key_id="AKIA", secret_access_key="s/+") as endpoint:
        assert await _invoke(connect(endpoint, key_id="AKIA", secret="s/+"), Body=b"")


@pytest.mark.asyncio
async def test_no_signature_is_needed_without_auth(connect: Connect) -> None:
    async with LocalEndpoint(auth=False) as endpoint:
        client = connect(endpoint, signature_version=UNSIGNED)
        assert (await _stream(client, Body=b"a b"))["Body"] == [b"a ", b"b"]
        assert (await _invoke(connect(endpoint, secret="wrong"), Body=b""))["Body"]
