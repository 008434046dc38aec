"""S3 as botocore speaks it, at real sockets, and with everything that can go wrong there."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import gzip
import hashlib
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias
from urllib.parse import quote, quote_plus, urlsplit

import attrs
import boto3
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from botocore.compat import unquote_str
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aiosmrt
from aiosmrt import (
    ConfigurationError,
    ConnectionLost,
    Credentials,
    ParameterError,
    RetryPolicy,
    SageMakerRuntimeClient,
    ServiceError,
    Timeout,
    UnexpectedResponse,
)
from aiosmrt.async_inference.s3 import S3
from aiosmrt.async_inference.s3_connection import S3State
from aiosmrt.async_inference.s3_protocol import (
    S3Endpoint,
    S3Location,
    build_error,
    find_region,
    may_be_absent,
    parse_listing,
    quote_key,
)
from aiosmrt.http import Request, ResponseHead
from aiosmrt.local import LocalEndpoint

Reply: TypeAlias = Callable[[Any, asyncio.StreamWriter], Awaitable[None]]

FAST = RetryPolicy(base_delay=0.0, throttle_base_delay=0.0)
PLACE = S3Location("bucket", "key")
_SIGNER = S3State().choose_signer("eu-west-1")


def _s3(client: SageMakerRuntimeClient) -> S3:
    return client._async_inference.s3


@contextlib.contextmanager
def _captured(**options: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Give boto3's S3 client, and a list of the requests that it would have sent."""
    sent: list[Any] = []

    def answer(request: Any, **_: Any) -> botocore.awsrequest.AWSResponse:
        sent.append(request)
        return botocore.awsrequest.AWSResponse(request.url, 200, {}, _Raw())

    config = {"s3": {"us_east_1_regional_endpoint": "regional"}, **options.pop("config", {})}
    client = boto3.client(
        "s3",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="not-a-secret",
        config=Config(ignore_configured_endpoint_urls=True, **config),
        **options,
    )
    client.meta.events.register("before-send.s3", answer)
    try:
        yield client, sent
    finally:
        client.close()


class _Raw:
    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        return iter(())

    def read(self, *_: object) -> bytes:
        return b""


# --- as botocore


REGIONS = [
    "us-east-1",
    "eu-west-1",
    "cn-north-1",
    "us-gov-west-1",
    "us-iso-east-1",
    "us-isob-east-1",
    pytest.param("eusc-de-east-1", marks=pytest.mark.newest_botocore),
    "mars-1",
]
BUCKETS = ["bucket", "my.bucket", "Up_Case", "ab", "-a-", "192.168.1.1", "a" * 63, "a" * 64]


@pytest.mark.parametrize("region", REGIONS)
def test_hosts_are_botocores(region: str) -> None:
    for fips in (False, True):
        for dualstack in (False, True):
            variants: dict[str, Any] = {
                "use_fips_endpoint": fips,
                "use_dualstack_endpoint": dualstack,
            }
            ours = S3Endpoint(region, **variants)
            with _captured(region_name=region, config=variants) as (client, sent):
                for bucket in BUCKETS:
                    try:
                        client.get_object(Bucket=bucket, Key="k")
                    except BotoCoreError:
                        # No FIPS in China; names that no bucket can have are S3's to refuse.
                        if len(bucket) > 2 and bucket.strip("-") == bucket and len(bucket) < 64:
                            with pytest.raises(ConfigurationError, match="no FIPS"):
                                ours.locate(bucket, region)
                        continue
                    origin, base = ours.locate(bucket, region)
                    assert f"{origin}{base}/k" == sent[-1].url.partition("?")[0]


def test_a_custom_endpoint_is_used_in_path_style() -> None:
    url = "http://localhost:9000/prefix"
    with _captured(region_name="eu-west-1", endpoint_url=url) as (client, sent):
        client.get_object(Bucket="bucket", Key="k")
        origin, base = S3Endpoint("eu-west-1", f"{url}/").locate("bucket", "eu-west-1")
        assert f"{origin}{base}/k" == sent[0].url.partition("?")[0]
    for variant in ("use_fips_endpoint", "use_dualstack_endpoint"):
        with pytest.raises(ConfigurationError, match="unset either"):
            S3Endpoint("eu-west-1", url, **{variant: True}).locate("b", "eu-west-1")
    for wrong in ("localhost:9000", "ftp://host", "http://", "http://user:password@host"):
        with pytest.raises(ConfigurationError, match="s3_endpoint_url") as caught:
            S3Endpoint("eu-west-1", wrong).locate("b", "eu-west-1")
        assert "password" not in str(caught.value)
    assert S3Endpoint("eu-west-1", use_ssl=False).locate("bucket", "eu-west-1")[0] == (
        "http://bucket.s3.eu-west-1.amazonaws.com"
    )


@settings(max_examples=settings().max_examples // 5, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_paths_and_signatures_are_botocores(data: st.DataObject) -> None:
    with _captured(region_name="eu-west-1") as (client, sent):
        for _ in range(5):
            key = data.draw(
                st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
            )
            bucket = data.draw(st.sampled_from(["bucket", "my.bucket"]))
            if key.startswith("/"):
                continue  # boto3 takes it for part of the path
            client.get_object(Bucket=bucket, Key=key)
            theirs = sent[-1]
            parts = urlsplit(theirs.url)
            origin, base = S3Endpoint("eu-west-1").locate(bucket, "eu-west-1")
            headers = {
                name.lower(): value.decode() if isinstance(value, bytes) else value
                for name, value in theirs.headers.items()
            }
            expected = headers.pop("authorization")
            path = f"{base}/{quote_key(key)}"
            assert (f"{parts.scheme}://{parts.netloc}", parts.path) == (origin, path)
            now = datetime.datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%S%z")
            signed = _SIGNER.sign(
                Request("GET", origin, path, headers, query=parts.query),
                Credentials("AKIDEXAMPLE", "not-a-secret"),
                now,
            )
            assert signed["authorization"] == expected


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    method=st.sampled_from(["GET", "HEAD", "PUT"]),
    key=_TEXT,
    query=st.dictionaries(st.sampled_from(["prefix", "list-type", "continuation-token"]), _TEXT),
    body=st.binary(max_size=40),
    content_type=st.sampled_from([None, "text/csv", "text/plain; charset=utf-8"]),
)
def test_signatures_are_those_of_botocores_signer(
    method: str, key: str, query: dict[str, str], body: bytes, content_type: str | None
) -> None:
    origin, path = "https://bucket.s3.eu-west-1.amazonaws.com", f"/{quote_key(key)}"
    encoded = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    theirs = botocore.awsrequest.AWSRequest(
        method,
        f"{origin}{path}" + (f"?{encoded}" if encoded else ""),
        headers={} if content_type is None else {"content-type": content_type},
        data=body,
    )
    credentials = botocore.credentials.Credentials("AKIDEXAMPLE", "not-a-secret", "token")
    botocore.auth.S3SigV4Auth(credentials, "s3", "eu-west-1").add_auth(theirs)
    headers = {} if content_type is None else {"content-type": content_type}
    signed = _SIGNER.sign(
        Request(method, origin, path, headers, body, query=encoded),
        Credentials("AKIDEXAMPLE", "not-a-secret", "token"),
        datetime.datetime.strptime(theirs.headers["x-amz-date"], "%Y%m%dT%H%M%S%z"),
    )
    assert signed["authorization"] == theirs.headers["authorization"]
    assert signed["x-amz-content-sha256"] == theirs.headers["x-amz-content-sha256"]


# --- places and answers


def test_a_location_is_a_bucket_and_a_key() -> None:
    assert S3Location.parse("s3://b/a/b c?#\n.txt") == S3Location("b", "a/b c?#\n.txt")
    assert str(PLACE) == "s3://bucket/key"
    known = ("b/k", "https://b/k", "s3://b", "s3:///k", "s3://../k", "s3://b@evil/k", "")
    for wrong in (*known, "s3://b/not\udcff"):
        with pytest.raises(ParameterError, match="no place in S3"):
            S3Location.parse(wrong)


HEAD = ResponseHead(200, {})
_PAGE = (
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{}'
    "<EncodingType>url</EncodingType>"
    "<Contents><Key>a%2Bb+c%20d</Key></Contents></ListBucketResult>"
)


def test_a_listing_is_read() -> None:
    last = _PAGE.format("<IsTruncated>false</IsTruncated>")
    assert parse_listing(HEAD, last.encode()) == (["a+b c d"], None)
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    assert parse_listing(HEAD, _PAGE.format(more).encode()) == (["a+b c d"], "t")
    # Who does not say how keys are written may have written them either way.
    silent = last.replace("<EncodingType>url</EncodingType>", "")
    assert parse_listing(HEAD, silent.encode()) == (["a+b c d", "a%2Bb+c%20d"], None)


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1))
def test_a_listing_is_read_as_botocore_reads_it(key: str) -> None:
    written = quote_plus(key, safe="/")
    assert unquote_str(written) == key
    page = _PAGE.replace("a%2Bb+c%20d", written).format("<IsTruncated>false</IsTruncated>")
    assert parse_listing(HEAD, page.encode()) == ([key], None)


_BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
    "<ListBucketResult><IsTruncated>&b;</IsTruncated></ListBucketResult>"
)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no XML"),
        (b"<html>", "no XML"),
        (b"{}", "no XML"),
        (b"<a/>", "no IsTruncated"),
        (b"<a><IsTruncated>true</IsTruncated></a>", "no NextContinuationToken"),
        (b"<a><Contents/><IsTruncated>false</IsTruncated></a>", "no Key"),
        (b"<a><Contents><Key>%ff</Key></Contents></a>", "codec"),
        (_BOMB.encode(), "document type"),
        (_BOMB.encode("utf-16"), "document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document type"),
    ],
)
def test_what_is_no_listing_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(UnexpectedResponse, match=why):
        parse_listing(HEAD, body)


@given(st.binary(max_size=300))
def test_nothing_else_comes_out_of_a_listing(body: bytes) -> None:
    with contextlib.suppress(UnexpectedResponse):
        parse_listing(HEAD, body)


def test_an_error_says_what_and_where() -> None:
    body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    error = build_error(ResponseHead(403, {"x-amz-request-id": "7"}), body, PLACE)
    assert isinstance(error, ServiceError)
    assert (error.code, error.status, error.request_id) == ("AccessDenied", 403, "7")
    assert "s3://bucket/key: Access Denied" in str(error)
    assert "s3:ListBucket" in str(error)
    assert "502" in str(build_error(ResponseHead(502, {}), _BOMB.encode(), PLACE))
    redirect = build_error(ResponseHead(307, {"location": "http://e"}), b"", PLACE)
    assert isinstance(redirect, UnexpectedResponse)


_USER = "User: arn:aws:sts::111122223333:assumed-role/r/s is not authorized to perform: "
_NO_POLICY = "because no identity-based policy allows the action"


@pytest.mark.parametrize(
    ("code", "message", "absent", "advice"),
    [
        ("AccessDenied", "Access Denied", True, "s3:ListBucket"),
        ("AccessDenied", "", True, "s3:ListBucket"),
        ("AccessDenied", f'{_USER}s3:ListBucket on resource: "a" {_NO_POLICY}', True, "s3:List"),
        ("AccessDenied", f'{_USER}s3:GetObject on resource: "a" {_NO_POLICY}', True, "s3:GetO"),
        (
            "AccessDenied",
            f'{_USER}s3:ListBucket on resource: "a" with an explicit deny in an SCP',
            True,
            "A policy denies that",
        ),
        (
            "AccessDenied",
            f'{_USER}s3:GetObject on resource: "a" with an explicit deny in a bucket policy',
            False,
            "A policy denies that",
        ),
        (
            "AccessDenied",
            f"{_USER}kms:Decrypt on resource: arn:aws:kms:us-east-1:1:key/k {_NO_POLICY}",
            False,
            "Allow kms:Decrypt, on the key",
        ),
        ("AccessDenied", "The caller lacks kms:Decrypt.", False, "Allow kms:Decrypt"),
        (
            "AccessDenied",
            "The ciphertext refers to a customer master key that you are not allowed to access.",
            False,
            "Allow kms:Decrypt, on the key",
        ),
        # A key of this name, or a key's ARN, is no action.
        ("AccessDenied", "Access Denied: arn:aws:kms:us-east-1:1:key/k", True, "s3:ListBucket"),
        (
            "AccessDenied",
            f'{_USER}s3:GetObjectVersion on resource: "a" {_NO_POLICY}',
            False,
            "Allow s3:GetObjectVersion.",
        ),
        ("InvalidObjectState", "archived", False, "restore it"),
        ("KMS.DisabledException", "arn:aws:kms:us-east-1:1:key/k is disabled.", False, "AWS KMS"),
        ("InvalidAccessKeyId", "no such key", False, ""),
        ("AccountProblem", "", False, ""),
    ],
)
def test_a_denial_says_whether_there_may_be_nothing(
    *, code: str, message: str, absent: bool, advice: str
) -> None:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    # What its key is called does not matter.
    error = build_error(ResponseHead(403, {}), body, S3Location("b", "kms:Decrypt explicit deny"))
    assert isinstance(error, ServiceError)
    assert may_be_absent(error) is absent
    assert advice in error.advice
    assert error.code == code
    assert error.message.endswith(message)


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("body", [b"<html>Forbidden</html>", b"<Other/>", b"no", b'{"Code": "x"}'])
def test_a_refusal_that_s3_did_not_write_is_told_as_somebody_elses(
    status: int, body: bytes
) -> None:
    error = build_error(ResponseHead(status, {}), body, PLACE)
    assert isinstance(error, UnexpectedResponse)
    assert not may_be_absent(error)
    assert "s3_endpoint_url" in str(error)
    # An answer to HEAD has no body.
    assert isinstance(build_error(ResponseHead(status, {}), b"", PLACE), ServiceError)


def test_a_denial_says_what_to_allow_for_what_was_asked() -> None:
    body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    reading = build_error(ResponseHead(403, {}), body, PLACE)
    writing = build_error(ResponseHead(403, {}), body, PLACE, writes=True)
    assert "Allow s3:GetObject" in str(reading)
    assert "Allow s3:PutObject" in str(writing)
    assert "ListBucket" not in str(writing)


def test_only_the_name_of_a_region_is_believed() -> None:
    assert find_region(ResponseHead(301, {"x-amz-bucket-region": "eu-west-1"}), b"") == "eu-west-1"
    told = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-2</Region></Error>"
    assert find_region(ResponseHead(400, {}), told) == "us-west-2"
    for wrong in ("evil.example/", "a@b", "", "x y"):
        assert find_region(ResponseHead(301, {"x-amz-bucket-region": wrong}), b"") is None


# --- at sockets


@attrs.define
class Script:
    """Answers in order, the last one for ever."""

    replies: list[bytes]
    cut: bool = False

    async def __call__(self, request: Any, writer: asyncio.StreamWriter) -> None:
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        writer.write(reply)
        if b"Cut" in reply[:30]:
            await writer.drain()
            writer.close()


def _reply(status: int, body: bytes = b"", length: int | None = None, **headers: str) -> bytes:
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    reason = "Cut" if length is not None else "Fine"
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status} {reason}\r\ncontent-length: {size}\r\n{fields}\r\n".encode() + body


def _error(status: int, code: str, **headers: str) -> bytes:
    return _reply(status, f"<Error><Code>{code}</Code></Error>".encode(), None, **headers)


async def _read(s3: S3, location: S3Location = PLACE) -> bytes | None:
    found = await s3.open(location)
    if found is None:
        return None
    chunks = []
    try:
        while chunk := await found.receive():
            chunks.append(chunk)
    finally:
        found.close()
    return b"".join(chunks)


Converse: TypeAlias = Callable[..., contextlib.AbstractAsyncContextManager[Any]]


@pytest.fixture
def s3_of(serve: Any) -> Converse:
    """Give an S3 whose server answers as scripted, and the server."""

    @contextlib.asynccontextmanager
    async def run(*replies: bytes, **options: Any) -> AsyncIterator[tuple[S3, Any]]:
        chosen: dict[str, Any] = {
            "region_name": "eu-west-1",
            "endpoint_url": "http://127.0.0.1:1",
            "aws_access_key_id": "AKIDEXAMPLE",
            "aws_secret_access_key": "not-a-secret",
            "retry": FAST,
            **options,
        }
        async with (
            serve(Script(list(replies))) as server,
            SageMakerRuntimeClient(s3_endpoint_url=server.url, **chosen) as client,
        ):
            yield _s3(client), server

    return run


@pytest.mark.parametrize(
    "fault",
    [
        _error(500, "InternalError"),
        _error(503, "SlowDown"),
        _error(400, "RequestTimeout"),
        _reply(200, b"half", length=8, etag='"1"'),
    ],
)
@pytest.mark.asyncio
async def test_what_passes_is_tried_again(s3_of: Converse, fault: bytes) -> None:
    whole = _reply(200, b"halfhalf", etag='"1"')
    if b"Cut" in fault:
        whole = _reply(206, b"half", etag='"1"', content_range="bytes 4-7/8")
    async with s3_of(fault, whole) as (s3, server):
        assert await _read(s3) == b"halfhalf"
        first, second = server.requests
        assert first.target == second.target == "/bucket/key"
        if b"Cut" in fault:
            assert second.headers["range"] == "bytes=4-"
            assert second.headers["if-match"] == '"1"'


@pytest.mark.asyncio
async def test_the_objects_of_a_bucket_share_a_quota(s3_of: Converse) -> None:
    policy = attrs.evolve(FAST, quota=14)
    whole = _reply(200, b"whole", etag='"1"')
    busy = _error(503, "ServiceUnavailable")
    async with s3_of(busy, busy, busy, busy, whole, retry=policy) as (s3, server):
        for key, attempts in (("one", 2), ("two", 1)):
            with pytest.raises(ServiceError) as caught:
                await s3.open(S3Location("bucket", key))
            assert len(caught.value.attempts) == attempts
            assert "not attempted again: the retry quota is used up" in str(caught.value)
        found = await s3.open(S3Location("other", "one"))
        assert found is not None
        found.close()
        assert len(server.requests) == 5


@pytest.mark.asyncio
async def test_a_read_time_limit_is_tried_again(serve: Any) -> None:
    seen = []

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        seen.append(request)
        if len(seen) == 1:
            await request.reader.read()
        writer.write(_reply(200, b"late"))

    async with (
        serve(answer) as server,
        SageMakerRuntimeClient(
            region_name="eu-west-1",
            s3_endpoint_url=server.url,
            aws_access_key_id="a",
            aws_secret_access_key="b",
            retry=FAST,
            timeout=Timeout(first_byte=0.2, total=0.1),  # the total is for calls of the service
        ) as client,
    ):
        assert await _read(_s3(client)) == b"late"
        assert len(seen) == 2


@pytest.mark.parametrize(
    "second",
    [
        _reply(206, b"half", etag='"2"', content_range="bytes 4-7/8"),
        _error(412, "PreconditionFailed"),
        _error(404, "NoSuchKey"),
    ],
)
@pytest.mark.asyncio
async def test_another_version_is_noticed(s3_of: Converse, second: bytes) -> None:
    async with s3_of(_reply(200, b"half", length=8, etag='"1"'), second) as (s3, _):
        with pytest.raises(UnexpectedResponse, match="was replaced or deleted"):
            await _read(s3)


@pytest.mark.parametrize(
    "second",
    [
        _reply(200, b"halfhalf", etag='"1"'),
        _reply(206, b"half", etag='"1"', content_range="bytes 0-3/8"),
    ],
)
@pytest.mark.asyncio
async def test_another_range_is_noticed(s3_of: Converse, second: bytes) -> None:
    async with s3_of(_reply(200, b"half", length=8, etag='"1"'), second) as (s3, _):
        with pytest.raises(UnexpectedResponse, match="another range"):
            await _read(s3)


@pytest.mark.asyncio
async def test_many_cuts_are_mended_as_long_as_bytes_come(s3_of: Converse) -> None:
    whole = bytes(range(10))
    pieces = [
        _reply(206, whole[n : n + 1], 10 - n, etag='"1"', content_range=f"bytes {n}-9/10")
        for n in range(1, 10)
    ]
    async with s3_of(_reply(200, whole[:1], 10, etag='"1"'), *pieces) as (s3, server):
        assert await _read(s3) == whole
        assert len(server.requests) == 10


@pytest.mark.asyncio
async def test_a_cut_is_an_error_where_it_cannot_be_mended(s3_of: Converse) -> None:
    for replies, requests, options in (
        ([_reply(200, b"half", length=8)], 1, {}),  # without an ETag it might be another
        ([_reply(200, b"half", length=8, etag='"1"')], 1, {"retry": RetryPolicy(mode="off")}),
        (
            [
                _reply(200, b"half", length=8, etag='"1"'),
                _reply(206, b"", length=4, etag='"1"', content_range="bytes 4-7/8"),
            ],
            3,
            {},
        ),
    ):
        async with s3_of(*replies, **options) as (s3, server):
            with pytest.raises(ConnectionLost):
                await _read(s3)
            assert len(server.requests) == requests


@pytest.mark.parametrize(
    "redirect",
    [
        _error(301, "PermanentRedirect", x_amz_bucket_region="us-west-2"),
        _error(307, "TemporaryRedirect", x_amz_bucket_region="us-west-2"),
        _reply(
            400,
            b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-2</Region></Error>",
        ),
    ],
)
@pytest.mark.asyncio
async def test_a_bucket_of_another_region_is_found_once(s3_of: Converse, redirect: bytes) -> None:
    async with s3_of(redirect, _reply(200, b"there")) as (s3, server):
        assert await _read(s3) == b"there"
        assert await _read(s3) == b"there"
        scopes = [r.headers["authorization"].split("/")[2] for r in server.requests]
        assert scopes == ["eu-west-1", "us-west-2", "us-west-2"]


@pytest.mark.asyncio
async def test_a_redirect_to_the_same_or_no_region_is_an_error(s3_of: Converse) -> None:
    for region in ("eu-west-1", "evil.example/", None):
        headers = {} if region is None else {"x_amz_bucket_region": region}
        async with s3_of(_error(301, "PermanentRedirect", **headers)) as (s3, server):
            with pytest.raises(UnexpectedResponse, match="without naming another region"):
                await _read(s3)
            assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_it_is_not_led_in_circles(s3_of: Converse) -> None:
    there = _error(301, "PermanentRedirect", x_amz_bucket_region="us-west-2")
    back = _error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1")
    async with s3_of(there, back) as (s3, server):
        with pytest.raises(UnexpectedResponse):
            await _read(s3)
        assert len(server.requests) == 2


def _head(status: int, **headers: str) -> bytes:
    """Write what is answered to HEAD: S3 may or may not tell the length that a body would have."""
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Fine\r\n{fields}\r\n".encode()


@pytest.mark.parametrize(
    "answers",
    [
        [_head(200, content_length="7")],
        [_head(200)],
        [_head(500), _head(503, content_length="9"), _head(200, content_length="7")],
        [_head(301, x_amz_bucket_region="us-west-2"), _head(200)],
        [_head(400, x_amz_bucket_region="us-west-2"), _head(200)],
        [_head(400), _reply(200, b"there")],  # without a reason: GET is given one
    ],
)
@pytest.mark.asyncio
async def test_an_object_is_looked_for_without_its_bytes(
    s3_of: Converse, answers: list[bytes]
) -> None:
    async with s3_of(*answers) as (s3, server):
        assert await s3.exists(PLACE) is True
        methods = [request.method for request in server.requests]
        assert set(methods[:-1]) <= {"HEAD"}
        assert methods[-1] == ("GET" if b"there" in answers[-1] else "HEAD")
        if b"us-west-2" in answers[0]:
            scope = server.requests[-1].headers["authorization"].split("/")[2]
            assert scope == "us-west-2"


@pytest.mark.asyncio
async def test_what_a_status_alone_says(s3_of: Converse) -> None:
    for told in ({}, {"content_length": "300"}, {"transfer_encoding": "chunked"}):
        async with s3_of(_head(404, **told)) as (s3, server):
            assert [await s3.exists(PLACE), await s3.exists(PLACE)] == [False, False]
            # An answer to HEAD ends with its head, whatever that says (RFC 9112, section 6.3).
            assert server.connections == 1
    async with s3_of(_head(403, x_amz_request_id="7")) as (s3, server):
        with pytest.raises(ServiceError, match="s3:ListBucket") as caught:
            await s3.exists(PLACE)
        assert (caught.value.code, caught.value.request_id) == ("403", "7")
        assert len(server.requests) == 1
    async with s3_of(_head(400), _error(400, "ExpiredToken")) as (s3, _):
        with pytest.raises(ServiceError, match="ExpiredToken"):
            await s3.exists(PLACE)
    async with s3_of(_head(400), _error(404, "NoSuchKey")) as (s3, _):
        assert await s3.exists(PLACE) is False


@pytest.mark.asyncio
async def test_a_listing_too_long_is_given_up(s3_of: Converse) -> None:
    async with s3_of(_reply(200, b"x" * (9 << 20))) as (s3, _):
        with pytest.raises(UnexpectedResponse, match="too long"):
            await s3.list(S3Location("bucket", "p/"), pages=1)


@pytest.mark.parametrize("coding", ["gzip", "br", "aws-chunked"])
@pytest.mark.asyncio
async def test_an_object_is_given_as_it_is_stored(s3_of: Converse, coding: str) -> None:
    """Its `Content-Encoding` is a label that somebody gave it; boto3 looks at it no more."""
    stored = gzip.compress(b"1,2")
    async with s3_of(_reply(200, stored, content_encoding=coding)) as (s3, _):
        assert await _read(s3) == stored


@pytest.mark.asyncio
async def test_what_s3_itself_says_may_be_compressed(s3_of: Converse) -> None:
    page = _PAGE.format("<IsTruncated>false</IsTruncated>").encode()
    squeezed = _reply(200, gzip.compress(page), content_encoding="gzip")
    async with s3_of(squeezed) as (s3, _):
        assert await s3.list(PLACE, pages=1) == {"a+b c d"}
    for coding, body, why in (
        ("br", page, "'br' cannot be decoded"),
        ("gzip", page, "it is no gzip"),
        ("gzip", gzip.compress(bytes(1 << 20)) * 9, "too long"),
    ):
        async with s3_of(_reply(200, body, content_encoding=coding)) as (s3, _):
            with pytest.raises(UnexpectedResponse, match=why):
                await s3.list(PLACE, pages=1)
    denied = gzip.compress(b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
    async with s3_of(_reply(403, denied, content_encoding="gzip")) as (s3, _):
        with pytest.raises(ServiceError) as caught:
            await _read(s3)
        assert caught.value.code == "AccessDenied"


@pytest.mark.asyncio
async def test_objects_go_in_and_come_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "aiosmrt")
    async with LocalEndpoint() as endpoint, endpoint.client() as client:
        s3 = _s3(client)
        endpoint.objects.make_bucket("bucket")
        for key in ("plain", "a b/ü+%&?#=", "..", "a//b/../c", "~tilde", "x" * 900):
            location = S3Location("bucket", f"p/{key}")
            assert await _read(s3, location) is None
            assert not await s3.exists(location)
            await s3.put(location, key.encode(), "text/plain")
            assert await s3.exists(location)
            assert await _read(s3, location) == key.encode()
        large = bytes(1 << 20)
        await s3.put(PLACE, large)
        assert await _read(s3) == large
        found = await s3.open(PLACE, start=(1 << 20) - 3)
        assert found is not None
        assert await found.receive() == bytes(3)
        found.close()
        assert await s3.list(S3Location("bucket", "p/a"), pages=1) == {
            "p/a b/ü+%&?#=",
            "p/a//b/../c",
        }
        with pytest.raises(ServiceError, match="NoSuchBucket"):
            await s3.open(S3Location("nowhere", "k"))
        for number in range(1100):
            endpoint.objects.put(f"s3://many/{number}", endpoint.objects.get("s3://bucket/key"))
        listed = await s3.list(S3Location("many", ""), pages=2)
        assert listed is not None
        assert len(listed) == 1100
        assert await s3.list(S3Location("many", ""), pages=1) is None
    assert "local-secret" not in caplog.text


@pytest.mark.asyncio
async def test_an_unsigned_client_asks_unsigned(s3_of: Converse) -> None:
    async with s3_of(_reply(200, b"public"), signature_version=aiosmrt.UNSIGNED) as (s3, server):
        assert await _read(s3) == b"public"
        assert "authorization" not in server.requests[0].headers


def _signed_names(request: Any) -> list[str]:
    names: str = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    return names.split(";")


@pytest.mark.parametrize("size", [0, 5, 1 << 17, (1 << 17) + 1, 3_000_000])
@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.asyncio
async def test_an_upload_carries_its_checksum(
    s3_of: Converse, size: int, *, unsigned: bool
) -> None:
    """As boto3's does, by another algorithm: buckets with Object Lock refuse what has none."""
    body = bytes(size)
    options = {"signature_version": aiosmrt.UNSIGNED} if unsigned else {}
    replies = (_error(503, "SlowDown"), _reply(200), _reply(200))
    async with s3_of(*replies, **options) as (s3, server):
        await s3.put(PLACE, body)
        checksum = hashlib.sha256(body).digest()
        for request in server.requests:  # the second attempt's, too
            told = request.headers["x-amz-checksum-sha256"]
            assert told == base64.b64encode(checksum).decode()
            assert request.headers["x-amz-sdk-checksum-algorithm"] == "SHA256"
            if not unsigned:
                assert "x-amz-checksum-sha256" in _signed_names(request)
                assert request.headers["x-amz-content-sha256"] == checksum.hex()
        assert len(server.requests) == 2
        await s3.make_bucket("bucket")
        assert "x-amz-checksum-sha256" not in server.requests[-1].headers
    with _captured(
        region_name="us-east-1",
        use_ssl=False,  # over TLS it comes behind the body
    ) as (botocore_s3, sent):
        botocore_s3.put_object(Bucket="b", Key="k", Body=body, ChecksumAlgorithm="SHA256")
    theirs = {name.lower(): value for name, value in sent[0].headers.items()}
    assert theirs["x-amz-sdk-checksum-algorithm"] == b"SHA256"
    assert theirs["x-amz-checksum-sha256"] == base64.b64encode(checksum)


@pytest.mark.asyncio
async def test_a_large_upload_is_hashed_off_the_loop(
    s3_of: Converse, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    real = hashlib.sha256

    def note(data: bytes = b"") -> Any:
        if len(data) > 1 << 17:
            threads.append(threading.current_thread())
        return real(data)

    monkeypatch.setattr("aiosmrt.calls.request_body.hashlib.sha256", note)
    async with s3_of(_reply(200)) as (s3, _):
        await s3.put(PLACE, bytes(1 << 20))
    (thread,) = threads  # once, for the checksum and for the signature
    assert thread is not threading.main_thread()


@pytest.mark.asyncio
async def test_put_headers_are_of_uploads_and_signed(s3_of: Converse) -> None:
    headers = {
        "x-amz-server-side-encryption": "aws:kms",
        "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "key",
        "x-amz-object-lock-mode": "GOVERNANCE",
        "content-type": "application/x-mine",
    }
    async with s3_of(_reply(200), s3_put_headers=headers) as (s3, server):
        await s3.put(PLACE, b"x")
        await s3.put(PLACE, b"x", "text/csv")
        await _read(s3)
        first, second, read = server.requests
    for name, value in headers.items():
        assert name.lower() in _signed_names(first)
        assert first.headers[name.lower()] == value
        assert name.lower() not in read.headers
    assert second.headers["content-type"] == "text/csv"  # the body's own


@pytest.mark.asyncio
async def test_the_expected_owner_and_the_payer_go_with_every_request(s3_of: Converse) -> None:
    options = {
        "s3_expected_bucket_owner": "123456789012",
        "s3_put_headers": {"X-Amz-Request-Payer": "requester"},
    }
    listing = _reply(200, b"<R><IsTruncated>false</IsTruncated></R>")
    replies = [
        _reply(200),  # to PUT
        _error(301, "PermanentRedirect", x_amz_bucket_region="us-west-2"),
        _reply(200, b"half", length=8, etag='"1"'),
        _reply(206, b"half", etag='"1"', content_range="bytes 4-7/8"),
        _head(200),
        listing,
        _error(403, "AccessDenied"),
    ]
    async with s3_of(*replies, **options) as (s3, server):
        await s3.put(PLACE, b"x")
        assert await _read(s3) == b"halfhalf"
        assert await s3.exists(PLACE)
        assert await s3.list(PLACE, pages=1) == set()
        with pytest.raises(ServiceError, match=r"123456789012.*s3_expected_bucket_owner"):
            await s3.open(PLACE)
        assert len(server.requests) == len(replies)
        for request in server.requests:
            assert request.headers["x-amz-expected-bucket-owner"] == "123456789012"
            assert request.headers["x-amz-request-payer"] == "requester"
            signed = _signed_names(request)
            assert {"x-amz-expected-bucket-owner", "x-amz-request-payer"} <= set(signed)
    async with s3_of(_error(403, "AccessDenied")) as (s3, server):
        with pytest.raises(ServiceError) as caught:
            await s3.open(PLACE)
        assert "owner" not in str(caught.value)
        assert "x-amz-expected-bucket-owner" not in server.requests[0].headers


# --- what observers see of it


def _count(told: list[Any]) -> list[tuple[str, str, str]]:
    """Give operation, object and outcome of each call that has ended; each has begun, once."""
    started = [event.call_id for event in told if isinstance(event, aiosmrt.OnStart)]
    ended = [event for event in told if isinstance(event, aiosmrt.OnEnd)]
    assert sorted(started) == sorted(event.call_id for event in ended)
    assert len(set(started)) == len(started)
    assert {event.service for event in told} <= {"s3"}
    return [(event.operation, event.endpoint_name, event.outcome) for event in ended]


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        ([_reply(200, b"all")], ["ok"]),
        ([_reply(404, b"<Error><Code>NoSuchKey</Code></Error>")], ["ok"]),
        ([_error(503, "SlowDown"), _reply(200, b"all")], ["ok"]),
        ([_error(403, "AccessDenied")], ["error"]),
        (
            [
                _reply(200, b"half", length=8, etag='"1"'),
                _reply(206, b"half", etag='"1"', content_range="bytes 4-7/8"),
            ],
            ["error", "ok"],
        ),
        ([_reply(200, b"half", length=8)], ["error"]),
    ],
    ids=["whole", "absent", "again", "denied", "cut, the rest by another", "cut"],
)
@pytest.mark.asyncio
async def test_observers_see_requests_to_s3(
    *, replies: list[bytes], expected: list[str], s3_of: Converse
) -> None:
    told: list[Any] = []
    seen: list[object] = []
    hooks = aiosmrt.Hooks(
        on_start=told.append,
        before_send=seen.append,
        after_headers=told.append,
        on_retry=told.append,
        on_end=told.append,
    )
    async with s3_of(*replies, hooks=hooks) as (s3, server):
        with contextlib.suppress(aiosmrt.AiosmrtError):
            await _read(s3)
        heads = [event for event in told if isinstance(event, aiosmrt.AfterHeaders)]
        assert len(heads) == len(server.requests)
    assert _count(told) == [("GetObject", "s3://bucket/key", outcome) for outcome in expected]
    assert seen == []  # whose headers may be a secret of the endpoint


@pytest.mark.asyncio
async def test_observers_see_an_object_that_was_left(s3_of: Converse) -> None:
    told: list[Any] = []
    hooks = aiosmrt.Hooks(on_start=told.append, on_end=told.append)
    async with s3_of(_reply(200, bytes(1 << 20)), hooks=hooks) as (s3, _):
        found = await s3.open(PLACE)
        assert found is not None
        size = len(await found.receive())
        found.close()
        found.close()
        await asyncio.sleep(0)
    assert _count(told) == [("GetObject", "s3://bucket/key", "left")]
    assert told[-1].bytes_received == size


@pytest.mark.asyncio
async def test_observers_can_tell_a_model_from_s3() -> None:
    told: list[Any] = []
    hooks = aiosmrt.Hooks(on_start=told.append, before_send=told.append, on_end=told.append)
    async with (
        LocalEndpoint() as endpoint,
        endpoint.client(hooks=hooks, s3_input_prefix="s3://inputs/", poll_interval=0.01) as client,
    ):
        invocation = await client.invoke_endpoint_async(endpoint_name="e", body=bytes(200_000))
        await invocation.result()
        assert len(endpoint.requests) == 1
    model = [event for event in told if event.service == "sagemaker-runtime"]
    assert [type(event) for event in model] == [aiosmrt.OnStart, aiosmrt.BeforeSend, aiosmrt.OnEnd]
    others = _count([event for event in told if event.service == "s3"])
    assert {("PutObject", "ok"), ("GetObject", "ok")} <= {(name, end) for name, _, end in others}
    assert {place[:5] for _, place, _ in others} == {"s3://"}
