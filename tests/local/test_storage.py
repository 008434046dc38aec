"""An endpoint whose S3 is elsewhere: moto's, or that of another local endpoint."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from aiosmrt.async_inference.s3_protocol import S3Location
from aiosmrt.errors import AsyncInferenceError, ConnectError, ServiceError
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure, StoredObject

_INPUT = "s3://inputs/some/input"


def _model(request: InvocationRequest) -> object:
    if request.body == b"fail":
        raise ModelFailure(400, "as asked")
    return {"length": len(request.body)}


@pytest.mark.asyncio
async def test_everything_goes_through_motos_s3(moto: str) -> None:
    keys: dict[str, Any] = {"access_key_id": "mine", "secret_access_key": "my-secret"}
    for _ in range(2):  # the second time the bucket is there
        async with (
            LocalEndpoint(_model, s3_endpoint_url=moto, **keys) as endpoint,
            endpoint.client(poll_interval=0.02, s3_input_prefix="s3://inputs/p/") as client,
        ):
            await client._async_inference.s3.put(S3Location("inputs", ""), b"")
            large = await client.invoke_endpoint_async(endpoint_name="e", body=bytes(200_000))
            output = await large.result(timeout=30)
            assert json.loads(output.body) == {"length": 200_000}
            assert output.content_type == "application/json"
            assert "werkzeug" in output.metadata.headers["server"].lower()
            failing = await client.invoke_endpoint_async(endpoint_name="e", body=b"fail")
            with pytest.raises(AsyncInferenceError, match="as asked"):
                await failing.result(timeout=30)
            for location, why in (
                ("s3://inputs/missing", "NoSuchKey"),
                ("s3://nowhere/at-all", "NoSuchBucket"),
                ("https://inputs/missing", "no place in S3"),
            ):
                missing = await client.invoke_endpoint_async(
                    endpoint_name="e", input_location=location
                )
                with pytest.raises(AsyncInferenceError, match=f"cannot be read.*{why}"):
                    await missing.result(timeout=30)
        assert endpoint.requests[0].input_location is not None


@pytest.mark.asyncio
async def test_its_credentials_are_those_a_client_finds(
    monkeypatch: pytest.MonkeyPatch, http: aiohttp.ClientSession
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    async with LocalEndpoint(access_key_id="a", secret_access_key="b") as storage:
        url = f"{storage.url}/s3"
        storage.objects.put(_INPUT, StoredObject(b"input"))
        async with (
            LocalEndpoint(_model, s3_endpoint_url=url) as endpoint,
            # The endpoint itself knows the usual pair, its S3 the other.
            endpoint.client() as client,
            storage.client() as reader,
        ):
            placed = await client.invoke_endpoint_async(endpoint_name="e", input_location=_INPUT)
            invocation = reader.resume_async_invocation(placed.to_json())
            assert json.loads((await invocation.result(timeout=30)).body) == {"length": 5}
            assert str(invocation.output_location) in storage.objects
            # It serves no S3 of its own beside it.
            async with http.get(f"{endpoint.url}/s3/inputs/some/input") as answer:
                assert answer.status == 404
                assert "NoSuchBucket" not in await answer.text()


@pytest.mark.asyncio
async def test_an_s3_that_cannot_be_used_is_told_at_once() -> None:
    before = asyncio.all_tasks()
    wrong: dict[str, Any] = {"access_key_id": "local", "secret_access_key": "wrong"}
    async with LocalEndpoint() as storage:
        with pytest.raises(ServiceError, match="SignatureDoesNotMatch"):
            await LocalEndpoint(s3_endpoint_url=f"{storage.url}/s3", **wrong).__aenter__()
    with pytest.raises(ConnectError):
        await LocalEndpoint(s3_endpoint_url="http://127.0.0.1:1", **wrong).__aenter__()
    assert asyncio.all_tasks() == before


@pytest.mark.asyncio
async def test_an_output_that_cannot_be_written_is_a_failure(
    serve: Any, respond: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    failures = []
    refuse = False

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        if "outputs" in request.target or (refuse and "failures" in request.target):
            writer.write(respond(403, b"<Error><Code>AccessDenied</Code></Error>"))
            return
        if "failures" in request.target:
            failures.append(request.body.decode())
        code = b"<Error><Code>BucketAlreadyOwnedByYou</Code></Error>"
        bucket = request.target == "/aiosmrt-local"
        writer.write(respond(409, code) if bucket else respond(200))

    keys: dict[str, Any] = {"access_key_id": "a", "secret_access_key": "b"}
    async with (
        serve(answer) as server,
        LocalEndpoint(_model, s3_endpoint_url=server.url, **keys) as endpoint,
        endpoint.client() as client,
    ):
        placed = await client.invoke_endpoint_async(endpoint_name="e", body=b"x")
        await until(lambda: failures)
        assert str(placed.output_location) in failures[0]
        refuse = True
        await client.invoke_endpoint_async(endpoint_name="e", body=b"fail")
        await until(lambda: "as asked" in caplog.text)
        assert "AccessDenied" in caplog.text


@pytest.mark.asyncio
async def test_somebody_elses_bucket_is_left_alone(serve: Any, respond: Any) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(409, b"<Error><Code>BucketAlreadyExists</Code></Error>"))

    async with serve(answer) as server:
        endpoint = LocalEndpoint(
            s3_endpoint_url=server.url, access_key_id="a", secret_access_key="b"
        )
        with pytest.raises(ServiceError, match="BucketAlreadyExists"):
            await endpoint.__aenter__()
