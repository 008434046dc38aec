"""Awaiting asynchronous inference: outputs, failures, faults, deadlines, another process."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gc
import json
import logging
import os
import pickle
import random
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import attrs
import pytest

import aiosmrt
from aiosmrt import (
    AsyncInferenceError,
    AsyncInferenceTimeout,
    AsyncInvocation,
    ClientClosed,
    ConfigurationError,
    ConnectError,
    Credentials,
    ParameterError,
    RetryPolicy,
    SageMakerRuntimeClient,
    ServiceError,
    TotalTimeout,
    UnexpectedResponse,
    ValidationError,
)
from aiosmrt.async_inference.s3_protocol import S3Location
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure, StoredObject
from aiosmrt.randomness import generator

OUTPUT = "s3://bucket/out/i-1.out"
FAILURE = "s3://bucket/fail/i-1-error.out"
_ABSENT = b"<Error><Code>NoSuchKey</Code></Error>"


def _model(request: InvocationRequest) -> object:
    if request.body == b"fail":
        raise ModelFailure(400, "as asked")
    return {"length": len(request.body)}


def _options(**options: Any) -> Any:
    return {"poll_interval": 0.01, "retry": RetryPolicy(base_delay=0.0), **options}


def _invocation(client: SageMakerRuntimeClient, **changes: object) -> AsyncInvocation:
    saved = {"output_location": OUTPUT, "failure_location": FAILURE, "inference_id": "i-1"}
    return client.resume_async_invocation(json.dumps({**saved, **changes}))


class Bed:
    """A local endpoint, whose S3 the test fills by hand, and a client."""

    def __init__(self, endpoint: LocalEndpoint, client: SageMakerRuntimeClient) -> None:
        self.endpoint = endpoint
        self.client = client

    def put(self, location: str, body: bytes = b"done") -> None:
        self.endpoint.objects.put(location, StoredObject(body, "text/plain"))


@contextlib.asynccontextmanager
async def _bed(*, may_list: bool = True, **options: Any) -> AsyncIterator[Bed]:
    async with (
        LocalEndpoint(_model, s3_list_permission=may_list) as endpoint,
        endpoint.client(**_options(**options)) as client,
    ):
        endpoint.objects.make_bucket("bucket")
        yield Bed(endpoint, client)


# --- inputs


@pytest.mark.parametrize("size", [0, 3, 128_000, 128_001, 3_000_000])
@pytest.mark.asyncio
async def test_a_body_goes_inline_or_through_s3_by_its_size(size: int) -> None:
    async with _bed(s3_input_prefix="s3://inputs/a/b") as bed:
        invocation = await bed.client.invoke_endpoint_async(
            endpoint_name="e", body=bytes(size) or b" ", content_type="text/csv"
        )
        assert json.loads((await invocation.result()).body) == {"length": size or 1}
        request = bed.endpoint.requests[0]
        if size <= 128_000:
            assert request.input_location is None
        else:
            assert request.input_location is not None
            assert request.input_location.startswith("s3://inputs/a/b/")
            assert bed.endpoint.objects.get(request.input_location).content_type == "text/csv"


@pytest.mark.parametrize("size", [3, 200_000])
@pytest.mark.asyncio
async def test_json_goes_inline_or_through_s3_by_its_size(size: int) -> None:
    async with _bed(s3_input_prefix="s3://inputs/") as bed:
        invocation = await bed.client.invoke_endpoint_async(endpoint_name="e", json="x" * size)
        assert json.loads((await invocation.result()).body) == {"length": size + 2}
        place = bed.endpoint.requests[0].input_location
        assert (place is None) == (size == 3)
        if place is not None:
            assert bed.endpoint.objects.get(place).content_type == "application/json"


@pytest.mark.asyncio
async def test_a_call_whose_body_goes_through_s3_has_its_own_options() -> None:
    async with _bed(s3_input_prefix="s3://inputs/") as bed:
        invocation = await bed.client.invoke_endpoint_async(
            endpoint_name="e",
            body=bytes(200_000),
            headers={"x-amzn-sagemaker-custom-attributes": "mine"},
            timeout=30,
        )
        assert json.loads((await invocation.result()).body) == {"length": 200_000}
        assert bed.endpoint.requests[0].custom_attributes == "mine"
        puts = len(bed.endpoint.objects.find_keys("inputs"))
        with pytest.raises(ParameterError, match=r"headers"):
            await bed.client.invoke_endpoint_async(
                endpoint_name="e", body=bytes(200_000), headers={"x": "a\nb"}
            )
        # Nothing is uploaded for a call that cannot be made.
        assert len(bed.endpoint.objects.find_keys("inputs")) == puts
        # A rule that is switched off holds for the call with an upload no more than without.
        free = bed.client.with_options(parameter_validation=False)
        with pytest.raises(ValidationError):  # of the service
            await free.invoke_endpoint_async(
                endpoint_name="e", body=bytes(200_000), inference_id="i" * 65
            )


@pytest.mark.asyncio
async def test_the_calls_own_prefix_wins_and_any_source_will_do(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(200_000))
    async with _bed(s3_input_prefix="s3://inputs/", params={"endpoint_name": "e"}) as bed:
        with (tmp_path / "large").open("rb") as file:
            invocation = await bed.client.invoke_endpoint_async(
                body=file, s3_input_prefix="s3://mine/"
            )
        assert json.loads((await invocation.result()).body) == {"length": 200_000}
        assert str(bed.endpoint.requests[0].input_location).startswith("s3://mine/")


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(10_000)


@pytest.mark.parametrize("body", [bytes(128_001), _endless()])
@pytest.mark.asyncio
async def test_without_a_prefix_a_large_body_is_refused_with_the_way_out(body: Any) -> None:
    async with _bed() as bed:
        with pytest.raises(
            ParameterError, match=r"at most 128000 bytes.*s3_input_prefix"
        ) as caught:
            await bed.client.invoke_endpoint_async(endpoint_name="e", body=body)
        assert caught.value.endpoint_name == "e"
        assert bed.endpoint.requests == []


@pytest.mark.asyncio
async def test_nothing_is_uploaded_for_a_call_that_is_wrong() -> None:
    async with _bed() as bed:
        with pytest.raises(ParameterError, match="exclude each other"):
            await bed.client.invoke_endpoint_async(
                endpoint_name="e",
                body=bytes(200_000),
                input_location="s3://b/k",
                s3_input_prefix="s3://inputs/",
            )
        with pytest.raises(ServiceError, match="NoSuchBucket"):
            bed.endpoint.objects.find_keys("inputs")
        with pytest.raises(ParameterError, match="no place in S3"):
            await bed.client.invoke_endpoint_async(
                endpoint_name="e", body=bytes(200_000), s3_input_prefix="inputs"
            )
        for wrong in ("inputs", "s3://inputs", 7):
            with pytest.raises(ConfigurationError, match="s3_input_prefix"):
                bed.client.with_options(s3_input_prefix=wrong)  # type: ignore[arg-type]  # its point
        for pause in (0, -1, True, float("inf"), "1"):
            with pytest.raises(ConfigurationError, match="poll_interval"):
                bed.client.with_options(poll_interval=pause)  # type: ignore[arg-type]  # its point


@pytest.mark.asyncio
async def test_an_upload_that_fails_did_not_run_the_model() -> None:
    async with _bed(s3_endpoint_url="http://127.0.0.1:1", s3_input_prefix="s3://b/") as bed:
        with pytest.raises(ConnectError) as caught:
            await bed.client.invoke_endpoint_async(endpoint_name="e", body=bytes(200_000))
        assert caught.value.may_have_run is False
        assert not any(attempt.may_have_run for attempt in caught.value.attempts)
        assert "the endpoint was not called" in str(caught.value.__notes__)


@pytest.mark.asyncio
async def test_what_was_uploaded_is_named_when_the_call_fails(
    serve: Any, connect: Any, respond: Any
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(200 if request.method == "PUT" else 503))

    async with serve(answer) as server:
        options = _options(s3_input_prefix="s3://b/p/", s3_endpoint_url=server.url)
        async with connect(server, **options) as client:
            with pytest.raises(ServiceError) as caught:
                await client.invoke_endpoint_async(endpoint_name="e", body=bytes(200_000))
    assert "the body is at s3://b/p/" in str(caught.value.__notes__)


@pytest.mark.asyncio
async def test_an_endpoint_too_old_for_inline_bodies_is_explained(
    serve: Any, connect: Any, respond: Any
) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        refusal = b'{"message": "InputLocation must not be null"}'
        writer.write(respond(400, refusal, x_amzn_errortype="ValidationError"))

    async with serve(answer) as server, connect(server) as client:
        with pytest.raises(ValidationError, match=r"null\. .*too old .*input_location="):
            await client.invoke_endpoint_async(endpoint_name="e", body=b"x")
        with pytest.raises(ValidationError) as caught:
            await client.invoke_endpoint_async(endpoint_name="e", input_location="s3://b/k")
        assert "too old" not in str(caught.value)


# --- results


@pytest.mark.asyncio
async def test_an_output_is_awaited_and_a_failure_raised() -> None:
    async with _bed() as bed:
        for body in (b"1,2", b"fail"):
            invocation = await bed.client.invoke_endpoint_async(endpoint_name="e", body=body)
            assert invocation.endpoint_name == "e"
            assert invocation.submitted_at is not None
            if body == b"1,2":
                for _ in range(2):  # reading it takes nothing away
                    output = await invocation.result()
                    assert output.body == b'{"length": 3}'
                    assert output.text() == '{"length": 3}'
                    assert output.json() == {"length": 3}
                    assert list(output.iter_lines()) == ['{"length": 3}']
                    assert output.content_type == "application/json"
                    assert output.metadata.status == 200
                continue
            with pytest.raises(AsyncInferenceError, match="as asked") as caught:
                await invocation.result()
            error = caught.value
            assert (error.endpoint_name, error.may_have_run) == ("e", True)
            assert error.inference_id == invocation.inference_id
            assert error.failure_location == invocation.failure_location


@pytest.mark.asyncio
async def test_where_both_exist_the_output_counts() -> None:
    async with _bed() as bed:
        bed.put(OUTPUT)
        bed.put(FAILURE, b"an earlier attempt")
        assert (await _invocation(bed.client).result()).body == b"done"


@pytest.mark.asyncio
async def test_an_output_that_comes_while_the_failure_is_read_counts(
    serve: Any, connect: Any, respond: Any
) -> None:
    looks: list[str] = []

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        looks.append(f"{request.method} {request.target}")
        if len(looks) == 1:
            writer.write(respond(404, _ABSENT))
        else:
            writer.write(respond(200, b"" if request.method == "HEAD" else b"done"))

    async with serve(answer) as server, connect(server, s3_endpoint_url=server.url) as client:
        output = await _invocation(client).result()
    assert output.body == b"done"
    assert looks == [
        "GET /bucket/out/i-1.out",
        "HEAD /bucket/fail/i-1-error.out",
        "GET /bucket/out/i-1.out",
    ]


@pytest.mark.parametrize(
    ("status", "code"), [(403, None), (400, "AccessDenied"), (403, "AccessDenied")]
)
@pytest.mark.asyncio
async def test_a_failure_that_may_not_be_looked_for_is_waited_past(
    *, serve: Any, connect: Any, respond: Any, status: int, code: str | None
) -> None:
    """To HEAD S3 names no reason; where it is asked for by GET, it does."""
    waited = 0

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        nonlocal waited
        error = f"<Error><Code>{code}</Code></Error>".encode()
        if "/out/" in request.target:
            waited += 1
            done = waited > 3
            writer.write(respond(200, b"done") if done else respond(404, _ABSENT))
        elif request.method == "HEAD":
            writer.write(f"HTTP/1.1 {status} Because\r\n\r\n".encode())
        else:
            writer.write(respond(403, error))

    async with serve(answer) as server:  # noqa: SIM117 - the options need the server
        async with connect(server, s3_endpoint_url=server.url, **_options()) as client:
            with pytest.raises(ServiceError, match="s3:ListBucket") as caught:
                await _invocation(client).result(timeout=0)
            assert caught.value.status == 403
            assert (await _invocation(client).result(timeout=30)).body == b"done"


@pytest.mark.asyncio
async def test_a_wait_comes_to_its_deadline_and_can_go_on() -> None:
    async with _bed() as bed:
        with pytest.raises(AsyncInferenceTimeout, match=OUTPUT):
            await _invocation(bed.client).result(timeout=0)
        with pytest.raises(AsyncInferenceTimeout, match=OUTPUT) as caught:
            await _invocation(bed.client).result(timeout=0.15)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.seconds == 0.15
        assert caught.value.may_have_run is True
        invocation = caught.value.invocation
        assert invocation is not None
        waiting = asyncio.create_task(invocation.result(timeout=None))
        await asyncio.sleep(0.05)
        bed.put(OUTPUT)
        assert (await waiting).body == b"done"
        other = pickle.loads(pickle.dumps(caught.value)).invocation
        assert other == invocation
        with pytest.raises(ConfigurationError, match="resume_async_invocation"):
            await other.result()
        resumed = bed.client.resume_async_invocation(other.to_json())
        assert (await resumed.result()).body == b"done"


@pytest.mark.asyncio
async def test_closing_the_client_ends_a_wait_in_the_middle_of_its_pause() -> None:
    async with LocalEndpoint(_model) as endpoint:
        client = endpoint.client(poll_interval=60.0, max_poll_interval=60.0)
        missing = _invocation(client, output_location="s3://aiosmrt-local/never")
        one = asyncio.create_task(missing.result(timeout=None))
        many = asyncio.create_task(anext(client.wait_for_results([missing], timeout=None)))
        await asyncio.sleep(0.1)
        assert not one.done()
        assert not many.done()
        await client.aclose()
        async with asyncio.timeout(2):
            with pytest.raises(ClientClosed):
                await one
            assert isinstance((await many).error, ClientClosed)


@pytest.mark.asyncio
async def test_the_deadline_is_looked_at_once_more() -> None:
    async with _bed(poll_interval=60, max_poll_interval=60) as bed:
        waiting = asyncio.create_task(_invocation(bed.client).result(timeout=0.2))
        await asyncio.sleep(0.05)
        bed.put(OUTPUT)
        assert (await waiting).body == b"done"


@pytest.mark.asyncio
async def test_pauses_grow_and_are_jittered(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    spread: set[tuple[float, float]] = set()
    sleep = asyncio.sleep

    def draw(low: float, high: float) -> float:
        spread.add((low, high))
        return high

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async with _bed(poll_interval=0.5, max_poll_interval=15.0) as bed:
        with monkeypatch.context() as patched:
            patched.setattr(generator, "uniform", draw)
            patched.setattr("aiosmrt.async_inference.invocation.asyncio.sleep", note)
            waiting = asyncio.create_task(_invocation(bed.client).result())
            while len(pauses) < 12:
                await sleep(0.01)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
    pauses = [pause for pause in pauses if pause]
    assert pauses[:4] == pytest.approx([0.5, 0.8, 1.28, 2.048])
    assert max(pauses) == 15.0
    assert spread == {(0.5, 1)}


@pytest.mark.asyncio
async def test_denied_is_not_yet_until_the_deadline(caplog: pytest.LogCaptureFixture) -> None:
    async with _bed(may_list=False) as bed:
        invocation = _invocation(bed.client)
        with pytest.raises(ServiceError, match=r"AccessDenied.*s3:ListBucket") as caught:
            await invocation.result(timeout=0.1)
        assert caught.value.may_have_run is True
        warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert len(warnings) == 1
        assert "s3:ListBucket" in warnings[0].getMessage()
        bed.put(FAILURE, b"out of memory")
        with pytest.raises(AsyncInferenceError, match="out of memory"):
            await invocation.result()
        bed.put(OUTPUT)
        assert (await invocation.result()).body == b"done"


class _Storage:
    """An S3 of which each test says what it tells of what there is, and to whom."""

    def __init__(self, respond: Any) -> None:
        self.respond = respond
        self.objects: dict[str, bytes] = {}
        self.denial = ""  # of what is read
        self.readable = False
        self.listable = True
        self.reads: list[str] = []
        self.listings: list[str] = []

    async def __call__(self, request: Any, writer: asyncio.StreamWriter) -> None:
        path, _, query = request.target.partition("?")
        key = path.removeprefix("/bucket/")
        if query:
            prefix = parse_qs(query)["prefix"][0]
            self.listings.append(prefix)
            if not self.listable:
                writer.write(self.respond(403, b"<Error><Code>AccessDenied</Code></Error>"))
                return
            keys = sorted(there for there in self.objects if there.startswith(prefix))
            contents = "".join(f"<Contents><Key>{there}</Key></Contents>" for there in keys)
            body = f"<L><IsTruncated>false</IsTruncated>{contents}</L>"
            writer.write(self.respond(200, body.encode()))
            return
        self.reads.append(f"{request.method} {key}")
        if key in self.objects and self.readable:
            writer.write(self.respond(200, self.objects[key]))
            return
        error = f"<Error><Code>AccessDenied</Code><Message>{self.denial}</Message></Error>"
        # An answer to HEAD has no body.
        writer.write(self.respond(403, b"" if request.method == "HEAD" else error.encode()))


@contextlib.asynccontextmanager
async def _storage(
    serve: Any, connect: Any, respond: Any
) -> AsyncIterator[tuple[_Storage, SageMakerRuntimeClient]]:
    storage = _Storage(respond)
    async with serve(storage) as server:  # noqa: SIM117 - the options need the server
        async with connect(server, s3_endpoint_url=server.url, **_options()) as client:
            yield storage, client


_DENIED = "User: arn:aws:iam::1:user/u is not authorized to perform: "


@pytest.mark.parametrize("waiting", ["one", "many"])
@pytest.mark.parametrize(
    ("denial", "named"),
    [
        (f"{_DENIED}kms:Decrypt on resource: arn:aws:kms:eu-west-1:1:key/k", "kms:Decrypt"),
        (f"{_DENIED}s3:GetObject on resource: a with an explicit deny in a policy", "denies"),
        (f"{_DENIED}s3express:CreateSession on resource: a", "s3express:CreateSession"),
    ],
)
@pytest.mark.asyncio
async def test_a_denial_that_is_not_for_want_of_the_output_is_final(
    *, serve: Any, connect: Any, respond: Any, denial: str, named: str, waiting: str
) -> None:
    async with _storage(serve, connect, respond) as (storage, client):
        storage.denial = denial
        async with asyncio.timeout(5):
            with pytest.raises(ServiceError, match=f"AccessDenied.*{named}"):  # noqa: PT012 - two ways
                if waiting == "one":
                    await _invocation(client).result(timeout=60)
                (result,) = [
                    r async for r in client.wait_for_results([_invocation(client)], timeout=60)
                ]
                raise result.error or AssertionError
        assert storage.reads == ["GET out/i-1.out"]


@pytest.mark.asyncio
async def test_a_listing_that_shows_the_output_makes_a_denial_final(
    serve: Any, connect: Any, respond: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with _storage(serve, connect, respond) as (storage, client):
        storage.objects["out/i-1.out-of-another"] = b""
        waiting = asyncio.create_task(_invocation(client).result(timeout=60))
        await asyncio.sleep(0.1)
        # It is not there yet, as the listing says: nothing to warn of.
        assert not waiting.done()
        assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
        storage.objects["out/i-1.out"] = b"done"
        async with asyncio.timeout(5):
            with pytest.raises(ServiceError, match=r"it is there: allow s3:GetObject") as caught:
                await waiting
        assert caught.value.code == "AccessDenied"
        assert "ListBucket" not in str(caught.value)
        assert set(storage.listings) == {"out/i-1.out", "fail/i-1-error.out"}
        invocations = [_invocation(client, inference_id=str(number)) for number in range(4)]
        results = [r async for r in client.wait_for_results(invocations, timeout=60)]
        assert ["it is there" in str(result.error) for result in results] == [True] * 4


@pytest.mark.asyncio
async def test_an_output_that_comes_between_denial_and_listing_is_read(
    serve: Any, connect: Any, respond: Any
) -> None:
    async with _storage(serve, connect, respond) as (storage, client):
        listed = storage.__call__

        async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
            if "?" in request.target:
                storage.objects["out/i-1.out"] = b"done"
                storage.readable = True
            await listed(request, writer)

        async with serve(answer) as server:
            late = client.with_options(s3_endpoint_url=server.url)
            assert (await _invocation(late).result(timeout=60)).body == b"done"
        assert storage.reads == ["GET out/i-1.out"] * 2


@pytest.mark.asyncio
async def test_a_doubt_that_no_listing_settles_is_waited_out(
    serve: Any, connect: Any, respond: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with _storage(serve, connect, respond) as (storage, client):
        storage.listable = False
        storage.denial = f"{_DENIED}s3:ListBucket on resource: arn:aws:s3:::bucket"
        waiting = asyncio.create_task(_invocation(client).result(timeout=60))
        await asyncio.sleep(0.1)
        storage.objects["out/i-1.out"] = b"done"
        storage.readable = True
        assert (await waiting).body == b"done"
        # Each folder is asked for once.
        assert storage.listings == ["out/i-1.out", "fail/i-1-error.out"]
        assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1


@pytest.mark.asyncio
async def test_a_failure_that_a_listing_shows_is_one_though_it_may_not_be_read(
    serve: Any, connect: Any, respond: Any
) -> None:
    async with _storage(serve, connect, respond) as (storage, client):
        storage.objects["fail/i-1-error.out"] = b"out of memory"
        with pytest.raises(AsyncInferenceError, match=r"may not be read: AccessDenied"):
            await _invocation(client).result(timeout=60)


@pytest.mark.asyncio
async def test_who_is_not_s3_is_not_waited_for(serve: Any, connect: Any, respond: Any) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(403, b"<html>blocked by the proxy</html>"))

    async with serve(answer) as server, connect(server, s3_endpoint_url=server.url) as client:
        with pytest.raises(UnexpectedResponse, match="is not S3"):
            await _invocation(client).result(timeout=60)


@pytest.mark.parametrize("prefix", ["my results/", "a+b/", "100%/", "ü &<>/"])
@pytest.mark.asyncio
async def test_outputs_are_found_under_any_prefix(prefix: str) -> None:
    async with _bed() as bed:
        places = [f"s3://bucket/{prefix}{number}.out" for number in range(4)]
        for place in places:
            bed.put(place)
        invocations = [_invocation(bed.client, output_location=place) for place in places]
        results = [r async for r in bed.client.wait_for_results(invocations, timeout=0)]
        assert [result.output is not None for result in results] == [True] * 4
        assert (await invocations[0].result()).body == b"done"


@pytest.mark.parametrize(
    ("status", "code", "looks"),
    [
        (404, "NoSuchBucket", 1),
        (403, "InvalidAccessKeyId", 1),
        (403, "InvalidObjectState", 1),
        (400, "KMS.DisabledException", 1),
        (301, "PermanentRedirect", 1),
        (400, "ExpiredToken", 3),  # once passed over, which fetches new credentials
    ],
)
@pytest.mark.asyncio
async def test_what_will_not_pass_is_raised_at_once(
    *, serve: Any, connect: Any, respond: Any, status: int, code: str, looks: int
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(status, f"<Error><Code>{code}</Code></Error>".encode()))

    options = _options()
    async with serve(answer) as server:
        async with connect(server, s3_endpoint_url=server.url, **options) as client:
            with pytest.raises((ServiceError, UnexpectedResponse), match=code):
                await _invocation(client).result(timeout=30)
        assert len(server.requests) <= looks


@pytest.mark.asyncio
async def test_s3s_own_trouble_is_outlasted(serve: Any, connect: Any, respond: Any) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(
            respond(503, b"<Error><Code>SlowDown</Code></Error>")
            if len(server.requests) < 9
            else respond(200, b"done")
        )

    options = _options(retry=RetryPolicy(base_delay=0.0, throttle_base_delay=0.0))
    async with serve(answer) as server:  # noqa: SIM117 - the options need the server
        async with connect(server, s3_endpoint_url=server.url, **options) as client:
            assert (await _invocation(client).result(timeout=30)).body == b"done"
            assert len(server.requests) == 9  # three looks of three attempts
            server.requests.clear()
            with pytest.raises(AsyncInferenceTimeout) as caught:
                await _invocation(client).result(timeout=0)
            assert isinstance(caught.value.__cause__, ServiceError)
            assert "the last look into S3 failed: SlowDown (HTTP 503)" in str(caught.value)
            assert "neither" not in str(caught.value)
            assert "did not run" not in str(caught.value)


@pytest.mark.asyncio
async def test_a_wait_outlasts_its_credentials(serve: Any, connect: Any, respond: Any) -> None:
    fetched = 0

    async def fetch() -> Credentials:
        nonlocal fetched
        fetched += 1
        return Credentials(f"KEYS{fetched}", "secret")

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        expired = "=KEYS2/" not in request.headers["authorization"] or always
        error = b"<Error><Code>ExpiredToken</Code></Error>"
        writer.write(respond(400, error) if expired else respond(200, b"done"))

    always = False
    keys = {"aws_access_key_id": None, "aws_secret_access_key": None, "credentials": fetch}
    async with serve(answer) as server, connect(server, **keys) as made:
        client = made.with_options(s3_endpoint_url=server.url, **_options())
        assert (await _invocation(client).result(timeout=30)).body == b"done"
        assert fetched == 2
        always = True
        with pytest.raises(ServiceError, match="ExpiredToken"):
            await _invocation(client).result(timeout=30)


@pytest.mark.asyncio
async def test_what_s3_refuses_costs_the_models_calls_no_retries(
    serve: Any, connect: Any, respond: Any, until: Any
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        known = request.target == "/endpoints/e/invocations" and refused
        writer.write(respond(200) if known else respond(503))
        refused.append(request)

    refused: list[Any] = []
    options = _options(poll_interval=0.001, max_poll_interval=0.001)
    async with serve(answer) as server, connect(server) as made:
        client = made.with_options(s3_endpoint_url=server.url, **options)
        waiting = asyncio.create_task(_invocation(client).result(timeout=30))
        # A look costs 28 of 500 tokens, until there are none.
        await until(lambda: len(server.requests) >= 80)
        waiting.cancel()
        await asyncio.wait([waiting])
        refused.clear()
        response = await client.invoke_endpoint(endpoint_name="e", body=b"x")
        assert len(response.metadata.attempts) == 2


@pytest.mark.asyncio
async def test_an_s3_that_hangs_does_not_hold_up_the_deadline(
    serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        await request.reader.read()

    monkeypatch.setattr("aiosmrt.async_inference.invocation._LAST_LOOK", 0.1)
    async with serve(answer) as server, connect(server, s3_endpoint_url=server.url) as client:
        with pytest.raises(AsyncInferenceTimeout, match="waiting for S3's answer") as caught:
            await _invocation(client).result(timeout=0.1)
        assert "neither" not in str(caught.value)


@pytest.mark.asyncio
async def test_looks_do_not_wait_for_the_slots_of_streams(until: Any) -> None:
    async def forever(request: InvocationRequest) -> AsyncIterator[bytes]:
        yield b"1"
        await asyncio.sleep(3600)

    async with LocalEndpoint(forever) as endpoint:
        options = _options(max_connections=1, s3_input_prefix="s3://bucket/in/")
        async with endpoint.client(**options) as client:
            async with client.invoke_endpoint_with_response_stream(
                endpoint_name="e", body=b"x"
            ) as stream:
                await anext(stream)
                endpoint.objects.put(OUTPUT, StoredObject(b"done"))
                async with asyncio.timeout(5):
                    assert (await _invocation(client).result(timeout=3)).body == b"done"
                    assert (await _invocation(client.with_options()).result()).body == b"done"
                    results = [
                        r.output
                        async for r in client.wait_for_results([_invocation(client)] * 2, timeout=3)
                    ]
                    assert len(results) == 1
                    assert results[0] is not None
                # The input is put there, and the call itself waits for the stream.
                calling = asyncio.create_task(
                    client.invoke_endpoint_async(endpoint_name="e", body=bytes(200_000))
                )
                await until(lambda: endpoint.objects.find_keys("bucket", "in/"))
                assert not calling.done()
            await calling


@pytest.mark.asyncio
async def test_a_session_that_has_too_few_connections_for_looks_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def forever(request: InvocationRequest) -> AsyncIterator[bytes]:
        yield b"1"
        await asyncio.sleep(3600)

    monkeypatch.setattr("aiosmrt.async_inference.invocation._LAST_LOOK", 0.2)
    async with (
        LocalEndpoint(forever) as endpoint,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session,
        endpoint.client(**_options(session=session)) as client,
        client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x") as stream,
    ):
        await anext(stream)
        endpoint.objects.put(OUTPUT, StoredObject(b"done"))
        with pytest.raises(AsyncInferenceTimeout, match=r"waiting for a connection .*session="):
            await _invocation(client).result(timeout=0.2)


@pytest.mark.asyncio
async def test_model_calls_do_not_wait_for_the_slots_of_looks(
    serve: Any, connect: Any, respond: Any, until: Any
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        if request.target.startswith("/endpoints/"):
            writer.write(respond(200, b"ran"))
        else:
            await request.reader.read()

    async with serve(answer) as server, connect(server, max_connections=1) as made:
        client = made.with_options(s3_endpoint_url=server.url)
        waiting = asyncio.create_task(_invocation(client).result())
        await until(lambda: len(server.requests) == 1)
        async with asyncio.timeout(5):
            response = await client.invoke_endpoint(endpoint_name="e", body=b"x")
        assert response.body == b"ran"
        waiting.cancel()
        await asyncio.wait([waiting])


@pytest.mark.parametrize("slot", [None, 0.05])
@pytest.mark.parametrize("waiting", ["one", "many"])
@pytest.mark.asyncio
async def test_a_wait_for_want_of_a_slot_says_so(
    *, monkeypatch: pytest.MonkeyPatch, slot: float | None, waiting: str
) -> None:
    monkeypatch.setattr("aiosmrt.async_inference.invocation._LAST_LOOK", 0.1)
    async with _bed(max_connections=1, timeout=aiosmrt.Timeout(slot=slot)) as bed:
        bed.put(OUTPUT, bytes(8 << 20))
        async with contextlib.aclosing(_invocation(bed.client).iter_output()) as chunks:
            await anext(chunks)  # and no more: the slot stays taken
            error = await _find_error(bed.client, waiting, 0.2)
        assert isinstance(error, AsyncInferenceTimeout)
        assert re.search("place in the (connection )?pool|max_connections", str(error))
        assert "neither" not in str(error)


async def _find_error(
    client: SageMakerRuntimeClient, waiting: str, seconds: float
) -> BaseException | None:
    if waiting == "one":
        with pytest.raises(aiosmrt.AiosmrtError) as caught:
            await _invocation(client).result(timeout=seconds)
        return caught.value
    results = client.wait_for_results([_invocation(client)], timeout=seconds)
    (result,) = [result async for result in results]
    return result.error


@pytest.mark.parametrize("waiting", ["one", "many"])
@pytest.mark.asyncio
async def test_a_wait_for_want_of_credentials_says_so(
    monkeypatch: pytest.MonkeyPatch, waiting: str
) -> None:
    async def never() -> Credentials:
        await asyncio.sleep(3600)
        raise AssertionError

    monkeypatch.setattr("aiosmrt.async_inference.invocation._LAST_LOOK", 0.1)
    keys: Any = {"aws_access_key_id": None, "aws_secret_access_key": None, "credentials": never}
    async with _bed(**keys) as bed:
        error = await _find_error(bed.client, waiting, 0.1)
        assert isinstance(error, AsyncInferenceTimeout)
        assert "waiting for credentials" in str(error)
        assert "neither" not in str(error)


@pytest.mark.parametrize("waiting", ["one", "many"])
@pytest.mark.parametrize("url", [None, "http://127.0.0.1:1", "https://no-such-host.invalid"])
@pytest.mark.asyncio
async def test_an_s3_that_cannot_be_reached_is_told_of_at_once_and_named(
    *,
    until: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    url: str | None,
    waiting: str,
) -> None:
    look_up = socket.getaddrinfo

    def find_nobody_outside(host: str, *args: Any, **options: Any) -> Any:
        if host != "127.0.0.1":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *args, **options)

    # As a machine that asks nobody, in no time.
    monkeypatch.setattr(socket, "getaddrinfo", find_nobody_outside)
    options = _options(region_name="mars-1", s3_endpoint_url=url)
    async with SageMakerRuntimeClient(
        endpoint_url="http://127.0.0.1:1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        **options,
    ) as client:
        finding = asyncio.create_task(_find_error(client, waiting, 1))
        await until(lambda: caplog.records)
        assert not finding.done()
        error = await finding
    assert isinstance(error, AsyncInferenceTimeout)
    assert "neither" not in str(error)
    for text in (str(error), caplog.text):
        assert "s3_endpoint_url" in text
        assert re.search(r"(?<!s3_)endpoint_url", text) is None
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "the model" not in warnings[0].getMessage()


@pytest.mark.asyncio
async def test_each_kind_of_failed_look_is_told_once(
    serve: Any, connect: Any, respond: Any, caplog: pytest.LogCaptureFixture
) -> None:
    faults = ["SlowDown", "InternalError", "SlowDown", "ServiceUnavailable", "InternalError"]

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        if not faults:
            writer.write(respond(200, b"done"))
            return
        writer.write(respond(503, f"<Error><Code>{faults.pop(0)}</Code></Error>".encode()))

    options = _options(retry=RetryPolicy(mode="off"))
    async with serve(answer) as server:  # noqa: SIM117 - the options need the server
        async with connect(server, s3_endpoint_url=server.url, **options) as client:
            assert (await _invocation(client).result(timeout=30)).body == b"done"
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [line.count("repeated until the deadline") for line in warnings] == [1, 1, 1]
    for line, code in zip(warnings, ("SlowDown", "InternalError", "Unavailable"), strict=True):
        assert code in line


@pytest.mark.asyncio
async def test_failure_files_have_bounds_and_an_output_a_place() -> None:
    async with _bed() as bed:
        bed.put(FAILURE, b"x" * 200_000)
        with pytest.raises(AsyncInferenceError) as caught:
            await _invocation(bed.client).result()
        assert len(str(caught.value)) < 70_000
        bed.put(FAILURE, b"")
        with pytest.raises(AsyncInferenceError, match="is empty or gone"):
            await _invocation(bed.client).result()
        with pytest.raises(AsyncInferenceTimeout):
            await _invocation(bed.client, failure_location=None).result(timeout=0)
        with pytest.raises(AsyncInferenceError, match="no output location"):
            await _invocation(bed.client, output_location=None).result()


@pytest.mark.asyncio
async def test_what_is_wrong_with_the_failure_alone(serve: Any, connect: Any, respond: Any) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        if "/out/" in request.target:
            writer.write(respond(404, _ABSENT))
        elif request.method == "HEAD":
            writer.write(f"HTTP/1.1 {status} Because\r\n\r\n".encode())
        else:
            writer.write(respond(status, b"<Error><Code>InvalidRequest</Code></Error>"))

    async with serve(answer) as server, connect(server, s3_endpoint_url=server.url) as client:
        status = 400
        with pytest.raises(ServiceError, match="InvalidRequest"):
            await _invocation(client).result(timeout=30)
        status = 405
        with pytest.raises(ServiceError, match="405"):
            await _invocation(client).result(timeout=30)


@pytest.mark.asyncio
async def test_a_failure_that_is_deleted_meanwhile_is_still_one(
    serve: Any, connect: Any, respond: Any
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(200, b"") if request.method == "HEAD" else respond(404, _ABSENT))

    async with serve(answer) as server, connect(server, s3_endpoint_url=server.url) as client:
        with pytest.raises(AsyncInferenceError, match="is empty or gone"):
            await _invocation(client).result(timeout=30)


@pytest.mark.asyncio
async def test_a_large_body_of_any_source_is_sent_to_s3_as_often_as_it_takes(
    serve: Any, connect: Any, respond: Any
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        first = len(server.requests) == 1
        location = {"x_amzn_sagemaker_outputlocation": OUTPUT}
        writer.write(respond(500 if first else 200, b"{}", **location))

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(10_000)

    async with serve(answer) as server:
        options = _options(s3_input_prefix="s3://b/p/", s3_endpoint_url=server.url)
        async with connect(server, **options) as client:
            invocation = await client.invoke_endpoint_async(endpoint_name="e", body=parts())
    assert invocation.output_location == OUTPUT
    assert [request.method for request in server.requests] == ["PUT", "PUT", "POST"]
    assert server.requests[1].body == bytes(200_000)


@pytest.mark.asyncio
async def test_the_total_includes_the_wait_for_what_goes_to_s3() -> None:
    async def slow() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async with _bed(s3_input_prefix="s3://inputs/") as bed:
        with pytest.raises(TotalTimeout) as caught:
            await bed.client.invoke_endpoint_async(endpoint_name="e", body=slow(), timeout=0.05)
        assert caught.value.endpoint_name == "e"
        assert caught.value.may_have_run is False


# --- large outputs


@pytest.mark.asyncio
async def test_an_output_is_streamed_and_downloaded(tmp_path: Path) -> None:
    large = random.Random(7).randbytes(5_000_000)
    path = tmp_path / "output"
    path.write_bytes(b"old")
    async with _bed() as bed:
        invocation = _invocation(bed.client)
        bed.put(OUTPUT, large)
        assert b"".join([chunk async for chunk in invocation.iter_output()]) == large
        await invocation.download(path)
        assert path.read_bytes() == large
        async with contextlib.aclosing(invocation.iter_output()) as chunks:
            async for _ in chunks:
                break
        pool = bed.client._builder.pools.find()
        assert pool is not None
        assert pool._slots.free == 100
        bed.put(OUTPUT, b"")
        await invocation.download(path)
        assert path.read_bytes() == b""
        with pytest.raises(FileNotFoundError):
            await invocation.download(tmp_path / "nowhere" / "output")
    assert os.listdir(tmp_path) == ["output"]  # noqa: PTH208 - a Path would block the loop, says ruff


@pytest.mark.asyncio
async def test_a_download_that_fails_leaves_the_old_file(
    serve: Any, connect: Any, tmp_path: Path
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        etag, size = ('"1"', 3_000_000) if "range" not in request.headers else ('"2"', 1)
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\netag: {etag}\r\n\r\n"
        writer.write(head.encode() + bytes(size // 2))
        await writer.drain()
        writer.close()

    path = tmp_path / "output"
    path.write_bytes(b"old")
    async with serve(answer) as server, connect(server, s3_endpoint_url=server.url) as client:
        with pytest.raises(UnexpectedResponse, match="replaced") as caught:
            await _invocation(client).download(path)
        assert caught.value.may_have_run is True
    assert os.listdir(tmp_path) == ["output"]  # noqa: PTH208 - a Path would block the loop, says ruff
    assert path.read_bytes() == b"old"


@pytest.mark.asyncio
async def test_a_download_is_cancelled_cleanly(tmp_path: Path) -> None:
    async with _bed() as bed:
        bed.put(OUTPUT, bytes(4_000_000))
        for steps in range(0, 120, 4):
            task = asyncio.create_task(_invocation(bed.client).download(tmp_path / "output"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert set(os.listdir(tmp_path)) <= {"output"}  # noqa: PTH208 - as above
        await _invocation(bed.client).download(tmp_path / "output")
        assert (tmp_path / "output").stat().st_size == 4_000_000


# --- another process


def test_an_invocation_is_written_down_and_read_again() -> None:
    client = SageMakerRuntimeClient(region_name="us-east-1")
    at = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
    invocation = AsyncInvocation("i", OUTPUT, None, "e", at)
    saved = invocation.to_json()
    assert json.loads(saved) == {
        "inference_id": "i",
        "output_location": OUTPUT,
        "failure_location": None,
        "endpoint_name": "e",
        "submitted_at": "2026-11-22T00:00:00+00:00",
    }
    assert client.resume_async_invocation(saved) == invocation
    assert pickle.loads(pickle.dumps(invocation)) == invocation
    for wrong in (
        "",
        "[]",
        "{}",
        '{"output_location": 7}',
        '{"output_location": "o"}',
        '{"output_location": "s3://bucket/"}',
        json.dumps({"output_location": OUTPUT, "failure_location": "https://x/y"}),
        json.dumps({"output_location": OUTPUT, "failure_location": "s3://bucket/"}),
        json.dumps({"output_location": OUTPUT, "submitted_at": "today"}),
    ):
        with pytest.raises(ParameterError):
            client.resume_async_invocation(wrong)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.asyncio
async def test_a_listing_is_no_output(count: int) -> None:
    async with _bed() as bed:
        bed.endpoint.objects.put(OUTPUT, StoredObject(b"1"))
        invocations = [
            attrs.evolve(_invocation(bed.client), inference_id=str(n), output_location="s3://b/")
            for n in range(count)
        ]
        with pytest.raises(ParameterError, match="'s3://b/' is a bucket"):
            await invocations[0].result(0)
        results = [one async for one in bed.client.wait_for_results(invocations, timeout=5)]
        assert [type(one.error) for one in results] == [ParameterError] * count


@pytest.mark.parametrize("given", ["5", True, aiosmrt.Timeout(total=5)])
@pytest.mark.asyncio
async def test_a_wait_is_so_many_seconds(given: Any) -> None:
    async with _bed() as bed:
        invocation = _invocation(bed.client)
        with pytest.raises(ParameterError, match=r"timeout=.*: seconds, 0 to look once, or None"):
            await invocation.result(given)
        with pytest.raises(ParameterError, match=r"timeout="):
            await anext(bed.client.wait_for_results([invocation], timeout=given))


@pytest.mark.asyncio
async def test_another_process_goes_on_when_one_is_killed() -> None:
    program = (
        "import asyncio, sys, aiosmrt\n"
        "async def main():\n"
        "    client = aiosmrt.SageMakerRuntimeClient(region_name='us-east-1')\n"
        "    print('waiting', flush=True)\n"
        "    await client.resume_async_invocation(sys.argv[1]).result()\n"
        "asyncio.run(main())\n"
    )
    async with _bed() as bed:
        invocation = _invocation(bed.client)
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL_S3": f"{bed.endpoint.url}/s3",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local-secret",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, invocation.to_json(),
            env=environment, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert await process.stdout.readline() == b"waiting\n"
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        # asyncio's transport of the dead process goes with the garbage.
        del process
        gc.collect()
        bed.put(OUTPUT)
        later = bed.client.resume_async_invocation(invocation.to_json())
        assert (await later.result()).body == b"done"


# --- moto as the judge


@pytest.mark.asyncio
async def test_moto_agrees(moto: str, tmp_path: Path) -> None:
    results = json.dumps(
        {"results": [{"data": "first"}, {"is_failure": True, "data": "out of memory"}]}
    )
    queue = urllib.request.Request(
        f"{moto}/moto-api/static/sagemaker/async-endpoint-results",
        results.encode(),
        {"content-type": "application/json"},
    )
    await asyncio.to_thread(lambda: urllib.request.urlopen(queue, timeout=5).close())
    options: Any = _options(
        region_name="us-east-1",
        endpoint_url=moto,
        s3_endpoint_url=moto,
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    async with aiosmrt.SageMakerRuntimeClient(**options) as client:
        one = await client.invoke_endpoint_async(endpoint_name="e", input_location="s3://in/1")
        two = await client.invoke_endpoint_async(endpoint_name="e", input_location="s3://in/2")
        assert (await one.result(timeout=30)).body == b"first"
        await one.download(tmp_path / "one")
        assert (tmp_path / "one").read_bytes() == b"first"
        with pytest.raises(AsyncInferenceError, match="out of memory"):
            await two.result(timeout=30)
        with pytest.raises(ServiceError, match="NoSuchBucket"):
            await _invocation(client).result(timeout=30)
        place = S3Location.parse(one.output_location or "")
        folder = S3Location(place.bucket, "a b/")
        key = S3Location(place.bucket, "a b/ü+%&=.txt")
        await client._async_inference.s3.put(key, bytes(300_000), "text/plain")
        assert await client._async_inference.s3.list(folder, pages=1) == {key.key}
        found = await client._async_inference.s3.open(key, start=299_990)
        assert found is not None
        assert await found.receive() == bytes(10)
        found.close()
        assert await client._async_inference.s3.exists(key)
        assert not await client._async_inference.s3.exists(folder)
