"""What was recorded answers again as the original did."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import aiosmrt
from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.local import (
    InvocationRequest,
    LocalEndpoint,
    ModelFailure,
    ModelResponse,
    StoredObject,
)

pytestmark = pytest.mark.asyncio


async def _model(request: InvocationRequest) -> object:
    asked = request.text
    if asked == "fail":
        raise ModelFailure(507, "full")
    if asked == "refuse":
        raise aiosmrt.ServiceError("never", code="AccessDeniedException", status=403)
    if asked == "at once":
        raise aiosmrt.ModelStreamError("broken", fields={"ErrorCode": "StreamBroken"})
    if request.operation == "InvokeEndpointWithResponseStream":
        return ModelResponse(_stream(asked), content_type="text/x", custom_attributes="a=1")
    if asked == "bytes":
        return b"\xff\x00"
    return {"asked": asked}


async def _stream(asked: str) -> AsyncIterator[bytes]:
    yield "é".encode()[:1]
    await asyncio.sleep(0.05)
    yield "é".encode()[1:]
    if asked == "break":
        raise aiosmrt.ModelStreamError("broken", fields={"ErrorCode": "StreamBroken"})
    if asked == "crash":
        raise aiosmrt.InternalStreamFailure("crashed")


async def _ask_for_all(client: SageMakerRuntimeClient) -> list[Any]:
    """Give all that a caller sees of each answer."""
    seen: list[Any] = []
    for body in ("x", '{"a": 1}', "bytes", "fail", "refuse"):
        try:
            answer = await client.invoke_endpoint(body=body)
            seen.append((answer.body, answer.content_type))
        except aiosmrt.ServiceError as error:
            seen.append((error.code, error.message, error.status))
    for body in ("x", "break", "crash", "at once", "fail"):
        parts: list[bytes] = []
        try:
            async with client.invoke_endpoint_with_response_stream(body=body) as stream:
                seen.append((stream.content_type, stream.custom_attributes))
                async for part in stream:
                    parts.append(part.bytes)  # noqa: PERF401 - those before a fault count
        except aiosmrt.ServiceError as error:
            seen.append((error.code, error.message))
        seen.append(parts)
    queued = await client.invoke_endpoint_async(body="later")
    seen.append((await queued.result(timeout=10)).body)
    queued = await client.invoke_endpoint_async(body="fail")
    with pytest.raises(aiosmrt.AsyncInferenceError) as failed:
        await queued.result(timeout=10)
    seen.append(failed.value.message)
    return seen


async def test_a_recording_answers_as_the_original_did(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    options: dict[str, Any] = {
        "params": {"endpoint_name": "e", "custom_attributes": "hidden-0"},
        "poll_interval": 0.01,
        "retry": aiosmrt.RetryPolicy(mode="off"),
    }
    async with LocalEndpoint(_model) as endpoint, endpoint.client(**options) as client:
        endpoint.record(to=path)
        endpoint.throttle()  # what a step answers is in a script already
        with pytest.raises(aiosmrt.ThrottlingException):
            await client.invoke_endpoint(body=b"x")
        original = await _ask_for_all(client)
    assert len(json.loads(path.read_text())) == 12
    async with LocalEndpoint(strict=True) as endpoint, endpoint.client(**options) as client:
        endpoint.follow(path)
        assert await _ask_for_all(client) == original
        endpoint.assert_complete()
    text = path.read_text()
    for secret in ("hidden-0", "AWS4-HMAC", "local-secret"):
        assert secret not in text


async def test_pauses_between_parts_are_recorded(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    async with LocalEndpoint(_model) as endpoint, endpoint.client() as client:
        endpoint.record(to=path)
        async with client.invoke_endpoint_with_response_stream(
            endpoint_name="e", body=b"x"
        ) as stream:
            assert await stream.read() == "é".encode()
    [step] = json.loads(path.read_text())
    assert step["answer"]["pace"][1] >= 0.05
    assert step["answer"]["stream"] == [{"base64": "ww=="}, {"base64": "qQ=="}]


async def test_many_at_a_time_are_recorded_whole(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    async with LocalEndpoint(_model) as endpoint, endpoint.client() as client:
        endpoint.record(to=path)
        await asyncio.gather(
            *(client.invoke_endpoint(endpoint_name="e", body=str(n)) for n in range(50))
        )
    steps = json.loads(path.read_text())
    assert sorted(step["answer"]["on"]["json"] for step in steps) == list(range(50))


async def test_the_endpoint_behind_may_be_a_real_one(tmp_path: Path) -> None:
    """Which is another local one here, called by a client as SageMaker would be."""
    path = tmp_path / "recorded.json"
    options: dict[str, Any] = {
        "params": {"endpoint_name": "e", "session_id": None},
        "poll_interval": 0.01,
        "retry": aiosmrt.RetryPolicy(mode="off"),
    }
    async with LocalEndpoint(_model, access_key_id="real") as real, real.client(**options) as there:
        original = await _ask_for_all(there)
        async with LocalEndpoint(upstream=there) as front, front.client(**options) as client:
            front.record(to=path)
            assert await _ask_for_all(client) == original
            real.cut(1, stream=["a", "b"], times=None)
            with pytest.raises(aiosmrt.ModelStreamError, match="stream from SageMaker was lost"):
                async with client.invoke_endpoint_with_response_stream(body=b"x") as stream:
                    await stream.read()
            real.reset(times=None)
        async with LocalEndpoint(strict=True) as replayed, replayed.client(**options) as client:
            replayed.follow(path)
            assert await _ask_for_all(client) == original


async def test_a_failure_of_what_was_queued_comes_as_a_file_again(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    async with LocalEndpoint(_model) as endpoint, endpoint.client(poll_interval=0.01) as client:
        endpoint.record(to=path)
        queued = await client.invoke_endpoint_async(endpoint_name="e", body="refuse")
        with pytest.raises(aiosmrt.AsyncInferenceError, match="never"):
            await queued.result(timeout=10)
    async with (
        LocalEndpoint(strict=True) as endpoint,
        endpoint.client(poll_interval=0.01) as client,
    ):
        endpoint.follow(path)
        queued = await client.invoke_endpoint_async(endpoint_name="e", body="refuse")
        with pytest.raises(aiosmrt.AsyncInferenceError, match="AccessDeniedException: never"):
            await queued.result(timeout=10)


async def test_what_may_have_run_behind_is_not_told_as_not_reached() -> None:
    """A caller would ask again, and the model be paid for twice."""
    retry = aiosmrt.RetryPolicy(mode="off")
    async with (
        LocalEndpoint(strict=True) as real,
        real.client(retry=retry) as there,
        LocalEndpoint(upstream=there) as front,
        front.client() as client,
    ):
        real.reset(times=None)
        with pytest.raises(aiosmrt.InternalFailure, match="answer of SageMaker was lost") as lost:
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
        assert lost.value.may_have_run
        with pytest.raises(aiosmrt.InternalFailure):
            await client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x")
        assert len(real.requests) == 2


async def test_a_real_endpoint_that_is_not_reached_is_unavailable() -> None:
    client = SageMakerRuntimeClient(
        endpoint_url="http://127.0.0.1:9",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        region_name="us-east-1",
    )
    retry = aiosmrt.RetryPolicy(mode="off")
    async with (
        client,
        LocalEndpoint(upstream=client.with_options(retry=retry)) as front,
        front.client(retry=retry) as own,
    ):
        with pytest.raises(aiosmrt.ServiceUnavailable, match="SageMaker was not reached"):
            await own.invoke_endpoint(endpoint_name="e", body=b"x")


@pytest.mark.parametrize(
    "body",
    [
        b'{"image": {"base64": "aGVsbG8="}}',
        b'{"base64": "aGVsbG8="}',  # as a script writes bytes
        b'{"half of a pair": "\\ud83d"}',
        b'{"number": NaN}',
        b"[" * 100_000,
        b"\xff\x00",
        b"",
    ],
    ids=["base64 within", "base64", "surrogate", "NaN", "deep", "bytes", "empty"],
)
async def test_a_request_is_known_again_whatever_its_body(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "recorded.json"
    async with LocalEndpoint(lambda _: "said") as endpoint, endpoint.client() as client:
        endpoint.record(to=path)
        response = await client.invoke_endpoint(endpoint_name="e", body=body)
        assert response.text() == "said"
    async with LocalEndpoint(strict=True) as endpoint, endpoint.client() as client:
        endpoint.follow(path)
        response = await client.invoke_endpoint(endpoint_name="e", body=body)
        assert response.text() == "said"
        endpoint.assert_complete()


@pytest.mark.parametrize(
    "error",
    [
        aiosmrt.ModelError("too long", status=424, fields={"OriginalStatusCode": 200}),
        aiosmrt.ModelError("no words", status=424, fields={"OriginalStatusCode": 500}),
        aiosmrt.ModelError("half", fields={"OriginalStatusCode": 500, "OriginalMessage": "\ud83d"}),
        aiosmrt.ServiceError("half \ud83d", code="ValidationError", status=400),
        aiosmrt.ModelStreamError("half \ud83d"),
    ],
    ids=str,
)
async def test_any_failure_can_be_followed(tmp_path: Path, error: aiosmrt.ServiceError) -> None:
    path = tmp_path / "recorded.json"

    def fail(request: InvocationRequest) -> object:
        raise error

    async def ask(endpoint: LocalEndpoint) -> list[str]:
        seen = []
        async with endpoint.client(retry=aiosmrt.RetryPolicy(mode="off")) as client:
            with pytest.raises(aiosmrt.ServiceError) as caught:
                await client.invoke_endpoint(endpoint_name="e", body=b"x")
            seen.append(caught.value.code)
            with pytest.raises(aiosmrt.ServiceError) as caught:
                await client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x")
            seen.append(caught.value.code)
        return seen

    async with LocalEndpoint(fail) as endpoint:
        endpoint.record(to=path)
        original = await ask(endpoint)
    async with LocalEndpoint(strict=True) as endpoint:
        endpoint.follow(path)
        assert await ask(endpoint) == original
        endpoint.assert_complete()


async def test_an_invocation_is_known_again_by_what_is_at_its_location(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"

    async def ask(endpoint: LocalEndpoint) -> bytes:
        endpoint.objects.put("s3://inputs/here", StoredObject(b'{"a": 1}'))
        async with endpoint.client(poll_interval=0.01) as client:
            queued = await client.invoke_endpoint_async(
                endpoint_name="e", input_location="s3://inputs/here"
            )
            return (await queued.result(timeout=10)).body

    async with LocalEndpoint(lambda request: request.body) as endpoint:
        endpoint.record(to=path)
        assert await ask(endpoint) == b'{"a": 1}'
    async with LocalEndpoint(strict=True) as endpoint:
        endpoint.follow(path)
        assert await ask(endpoint) == b'{"a": 1}'
        endpoint.assert_complete()
        assert endpoint.requests.only(input_location="s3://inputs/here").json == {"a": 1}


async def test_an_answer_that_cannot_be_written_down_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "recorded.json"
    async with LocalEndpoint(_model) as endpoint, endpoint.client() as client:
        endpoint.record(to=path)
        path.unlink()
        with pytest.raises(aiosmrt.InternalFailure, match="its log says why"):
            await client.invoke_endpoint(endpoint_name="e", body="x")
        with pytest.raises(aiosmrt.StreamConnectionLost) as caught:
            async with client.invoke_endpoint_with_response_stream(
                endpoint_name="e", body="x"
            ) as stream:
                assert await stream.read() == "é".encode()
        assert caught.value.parts_received == 2
    told = [record.name for record in caplog.records if record.levelname == "ERROR"]
    assert told == ["aiosmrt.local.dispatcher"] * 2
