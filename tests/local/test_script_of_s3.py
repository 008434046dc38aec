"""Steps of a script for the local S3: what boto3 and this package's client make of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import urllib3
from botocore import exceptions as boto3_errors
from botocore.exceptions import ClientError

import aiosmrt
from aiosmrt.errors import ConfigurationError
from aiosmrt.local import LocalEndpoint, StoredObject

DENIED = aiosmrt.ServiceError("Access Denied", code="AccessDenied", status=403)
BODY = b"0123456789"
HERE = "s3://bucket/here"


def _get(s3: Any) -> bytes:
    with s3.get_object(Bucket="bucket", Key="here")["Body"] as body:
        found: bytes = body.read()
    return found


@pytest.mark.parametrize(
    ("say", "status", "code"),
    [
        (lambda e: e.throttle(operation="GetObject"), 503, "SlowDown"),
        (lambda e: e.unavailable(operation="get_object"), 503, "ServiceUnavailable"),
        (lambda e: e.internal_failure(operation="GetObject"), 500, "InternalError"),
        (lambda e: e.expired_token(operation="GetObject"), 400, "ExpiredToken"),
        (lambda e: e.answer(error=DENIED, operation="GetObject"), 403, "AccessDenied"),
        (lambda e: e.throttle(on=HERE, operation="GetObject"), 503, "SlowDown"),
        (lambda e: e.proxy_page(502, operation="GetObject"), 502, "502"),
    ],
)
def test_a_refusal_is_in_the_words_of_s3(
    connect_s3: Callable[..., Any], say: Callable[[LocalEndpoint], None], status: int, code: str
) -> None:
    with LocalEndpoint(strict=True) as endpoint:
        endpoint.objects.put(HERE, StoredObject(BODY))
        s3 = connect_s3(endpoint)
        say(endpoint)
        with pytest.raises(ClientError) as caught:
            _get(s3)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        assert caught.value.response["Error"]["Code"] == code
        assert _get(s3) == BODY
        endpoint.assert_complete()


@pytest.mark.parametrize(
    ("say", "kind"),
    [
        (lambda e: e.reset(operation="GetObject"), boto3_errors.ConnectionClosedError),
        (lambda e: e.reset("first_part", operation="GetObject"), urllib3.exceptions.ProtocolError),
        (lambda e: e.hang(operation="GetObject"), boto3_errors.ReadTimeoutError),
        (
            lambda e: e.hang("first_part", operation="GetObject"),
            urllib3.exceptions.ReadTimeoutError,
        ),
        (lambda e: e.cut(operation="GetObject"), urllib3.exceptions.ProtocolError),
        (lambda e: e.cut(inside="chunk", operation="GetObject"), urllib3.exceptions.ProtocolError),
    ],
)
def test_an_object_is_lost_on_its_way(
    connect_s3: Callable[..., Any],
    say: Callable[[LocalEndpoint], None],
    kind: type[Exception],
) -> None:
    with LocalEndpoint(strict=True) as endpoint:
        endpoint.objects.put(HERE, StoredObject(BODY))
        s3 = connect_s3(endpoint, read_timeout=0.3)
        say(endpoint)
        with pytest.raises(kind):
            _get(s3)
        assert _get(s3) == BODY
        endpoint.assert_complete()


def test_a_slow_object_comes_late(connect_s3: Callable[..., Any]) -> None:
    with LocalEndpoint() as endpoint:
        endpoint.objects.put(HERE, StoredObject(BODY))
        s3 = connect_s3(endpoint)
        endpoint.slow(0.2, operation="GetObject")
        endpoint.hang(seconds=0.2, operation="HeadObject")
        for ask in (lambda: _get(s3), lambda: s3.head_object(Bucket="bucket", Key="here")):
            began = time.perf_counter()
            ask()
            assert time.perf_counter() - began >= 0.2
        endpoint.assert_complete()


def test_a_step_of_s3_is_for_what_it_says(connect_s3: Callable[..., Any]) -> None:
    with LocalEndpoint() as endpoint:
        endpoint.objects.put(HERE, StoredObject(BODY))
        s3 = connect_s3(endpoint)
        endpoint.throttle(optional=True)  # one of SageMaker Runtime's
        endpoint.throttle(operation="GetObject", on="s3://bucket/there")
        endpoint.throttle(operation="PutObject", on=lambda request: request.body == b"no")
        endpoint.reset(operation="HeadObject", on={"headers": {"x-test": "1"}}, optional=True)
        assert _get(s3) == BODY
        s3.put_object(Bucket="bucket", Key="new", Body=b"yes")
        s3.head_object(Bucket="bucket", Key="new")
        with pytest.raises(ClientError, match="SlowDown"):
            s3.put_object(Bucket="bucket", Key="new", Body=b"no")
        with pytest.raises(AssertionError, match=r"throttle\(operation='GetObject'") as caught:
            endpoint.assert_complete()
        assert "1 step" in str(caught.value)
        assert endpoint.requests == []


@pytest.mark.asyncio
async def test_a_result_is_waited_for_through_what_s3_does() -> None:
    async with (
        LocalEndpoint(strict=True) as endpoint,
        endpoint.client(
            poll_interval=0.01, retry=aiosmrt.RetryPolicy(backoff=lambda *_: 0.0)
        ) as client,
    ):
        endpoint.answer(json={"ok": True}, on="s3://inputs/a")
        endpoint.objects.put("s3://inputs/a", StoredObject(b"1,2"))
        endpoint.throttle(2, operation="GetObject")
        endpoint.reset(operation="GetObject")
        endpoint.cut(inside="chunk", operation="GetObject")
        queued = await client.invoke_endpoint_async(
            endpoint_name="e", input_location="s3://inputs/a"
        )
        await asyncio.sleep(0.1)  # the output is there: the faults are met with it
        assert (await queued.result(timeout=10)).json() == {"ok": True}
        endpoint.assert_complete()
        endpoint.answer(error=DENIED, times=None, operation="GetObject")
        with pytest.raises(aiosmrt.AiosmrtError, match="AccessDenied"):
            await queued.result(timeout=10)


@pytest.mark.parametrize(
    ("say", "told"),
    [
        (lambda e: e.not_ready(operation="GetObject"), "not_ready.. means nothing to GetObject"),
        (lambda e: e.corrupt(operation="GetObject"), "corrupt.. means nothing to GetObject"),
        (lambda e: e.answer(text="x", operation="GetObject"), "answer.. with text means nothing"),
        (lambda e: e.cut(pace=1, operation="GetObject"), "cut.. with pace means nothing"),
        (lambda e: e.throttle(on="e", operation="GetObject"), "on must be an object's place"),
        (lambda e: e.cut(operation="HeadObject"), "an answer to HeadObject is its head"),
        (lambda e: e.cut(1, operation="GetObject"), "an answer to GetObject is one part: at="),
        (lambda e: e.reset("part 2", operation="GetObject"), "is one part"),
        (lambda e: e.hang("part 1", operation="HeadBucket"), "an answer to HeadBucket is its"),
        (lambda e: e.throttle(operation="GetObjects"), "did you mean 'GetObject'"),
    ],
)
def test_what_s3_cannot_do_is_refused_where_it_is_written(
    say: Callable[[LocalEndpoint], None], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        say(LocalEndpoint())
