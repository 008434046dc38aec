"""boto3's S3 client uses the local S3; plain HTTP where it does not show enough."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import io
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import pytest
import trustme
from botocore import UNSIGNED
from botocore.exceptions import ClientError

from aiosmrt.local import LocalEndpoint, StoredObject
from aiosmrt.local.upload import read_upload

Connect: TypeAlias = Callable[..., Any]

_BUCKET = "bucket"
_BODY = b"0123456789"


async def _call(function: Callable[..., Any], **parameters: object) -> dict[str, Any]:
    """Call boto3 in a thread; a body is read."""

    def call() -> dict[str, Any]:
        answer: dict[str, Any] = function(**{"Bucket": _BUCKET, **parameters})
        if "Body" not in answer:
            return answer
        with answer["Body"] as body:
            return {**answer, "Body": body.read()}

    return await asyncio.to_thread(call)


async def _fail(function: Callable[..., Any], **parameters: object) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        await _call(function, **parameters)
    answer = caught.value.response
    error = answer["Error"]
    return answer["ResponseMetadata"]["HTTPStatusCode"], error["Code"], error.get("Message", "")


@pytest.mark.asyncio
async def test_put_get_head(connect_s3: Connect) -> None:
    async with LocalEndpoint() as endpoint:
        s3 = connect_s3(endpoint)
        put = await _call(s3.put_object, Key="k", Body=_BODY, ContentType="text/csv")
        got = await _call(s3.get_object, Key="k")
        head = await _call(s3.head_object, Key="k")
    assert put["ETag"] == f'"{hashlib.md5(_BODY).hexdigest()}"'
    assert put["ResponseMetadata"]["RequestId"]
    assert got["Body"] == _BODY
    now = datetime.datetime.now(datetime.UTC)
    for answer in (got, head):
        assert answer["ETag"] == put["ETag"]
        assert answer["ContentType"] == "text/csv"
        assert answer["ContentLength"] == 10
        assert answer["AcceptRanges"] == "bytes"
        assert abs(now - answer["LastModified"]) < datetime.timedelta(minutes=1)
    stored = endpoint.objects.get(f"s3://{_BUCKET}/k")
    assert (stored.body, stored.content_type) == (_BODY, "text/csv")


@pytest.mark.parametrize("key", ["a b/../ü+~*'()?#=&%41%", "/", "//k", "./k", "a" * 500, "\x7f"])
@pytest.mark.asyncio
async def test_a_key_may_be_anything(key: str, connect_s3: Connect) -> None:
    async with LocalEndpoint() as endpoint:
        s3 = connect_s3(endpoint)
        await _call(s3.put_object, Key=key, Body=b"x")
        assert (await _call(s3.get_object, Key=key))["Body"] == b"x"
        listed = await _call(s3.list_objects_v2, Prefix=key)
        assert [found["Key"] for found in listed["Contents"]] == [key]
    assert endpoint.objects.find_keys(_BUCKET) == [key]


@pytest.mark.asyncio
async def test_bodies_are_taken_from_wherever_boto3_takes_them(
    connect_s3: Connect, tmp_path: Path
) -> None:
    file = tmp_path / "input"
    file.write_bytes(_BODY * 100_000)
    async with LocalEndpoint() as endpoint:
        s3 = connect_s3(endpoint)
        unsigned = connect_s3(endpoint, s3={"payload_signing_enabled": False})
        await _call(s3.put_object, Key="empty")
        await _call(s3.put_object, Key="sha256", Body=_BODY, ChecksumAlgorithm="SHA256")
        await _call(s3.put_object, Key="io", Body=io.BytesIO(_BODY))
        await _call(unsigned.put_object, Key="unsigned", Body=_BODY)
        await asyncio.to_thread(s3.upload_file, str(file), _BUCKET, "file")
        await asyncio.to_thread(s3.download_file, _BUCKET, "file", str(tmp_path / "output"))
    assert (tmp_path / "output").read_bytes() == file.read_bytes()
    sizes = {
        key: len(endpoint.objects.get(f"s3://{_BUCKET}/{key}").body)
        for key in endpoint.objects.find_keys(_BUCKET)
    }
    assert sizes == {"empty": 0, "file": 1_000_000, "io": 10, "sha256": 10, "unsigned": 10}


@contextlib.asynccontextmanager
async def _terminate_tls(endpoint: LocalEndpoint, tls: ssl.SSLContext) -> AsyncIterator[str]:
    """Stand in front of an endpoint as a proxy that speaks TLS, and give its URL."""
    port = int(endpoint.url.rpartition(":")[2])
    tasks = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        tasks.add(task)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pipe(reader, inner_writer), pipe(inner_reader, writer))
        tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*(task for task in tasks if task))


@pytest.mark.asyncio
async def test_trailing_checksums_are_understood(
    connect_s3: Connect, authority: trustme.CA, tmp_path: Path
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    sent = []
    async with LocalEndpoint() as endpoint, _terminate_tls(endpoint, tls) as url:
        # Over TLS alone boto3 sends aws-chunked.
        s3 = connect_s3(endpoint, url=url, verify=str(bundle))
        s3.meta.events.register("before-send.s3", lambda request, **_: sent.append(request.headers))
        await _call(s3.put_object, Key="k", Body=_BODY * 200_000, ContentType="text/csv")
        got = await _call(s3.get_object, Key="k")
        s3.close()
    assert sent[0]["x-amz-content-sha256"] == b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    assert sent[0]["content-encoding"] == b"aws-chunked"
    assert got["Body"] == _BODY * 200_000
    assert got["ContentType"] == "text/csv"
    assert "ContentEncoding" not in got


@pytest.mark.newest_botocore
@pytest.mark.parametrize(
    ("wanted", "body", "content_range"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=0-99", _BODY, "bytes 0-9/10"),
        ("bytes=-99", _BODY, "bytes 0-9/10"),
        ("bytes=9-9", b"9", "bytes 9-9/10"),
        ("bytes=0-1,3-4", _BODY, None),
        ("bytes=4-2", _BODY, None),
        ("bytes=-", _BODY, None),
        ("lines=1-2", _BODY, None),
    ],
)
@pytest.mark.asyncio
async def test_a_range_is_cut_out(
    wanted: str, body: bytes, content_range: str | None, connect_s3: Connect
) -> None:
    async with LocalEndpoint() as endpoint:
        endpoint.objects.put(f"s3://{_BUCKET}/k", StoredObject(_BODY))
        s3 = connect_s3(endpoint)
        got = await _call(s3.get_object, Key="k", Range=wanted)
        head = await _call(s3.head_object, Key="k", Range=wanted)
    assert got["Body"] == body
    for answer in (got, head):
        assert answer.get("ContentRange") == content_range
        assert answer["ContentLength"] == len(body)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == (206 if content_range else 200)


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=10-11", "bytes=-0"])
@pytest.mark.asyncio
async def test_a_range_outside_is_refused(wanted: str, connect_s3: Connect) -> None:
    async with LocalEndpoint() as endpoint:
        endpoint.objects.put(f"s3://{_BUCKET}/k", StoredObject(_BODY))
        s3 = connect_s3(endpoint)
        status, code, _ = await _fail(s3.get_object, Key="k", Range=wanted)
    assert (status, code) == (416, "InvalidRange")


@pytest.mark.asyncio
async def test_listing_goes_page_by_page(connect_s3: Connect) -> None:
    keys = [f"a/{number}&+ <é>" for number in range(5)]
    async with LocalEndpoint() as endpoint:
        for key in [*keys, "b"]:
            endpoint.objects.put(f"s3://{_BUCKET}/{key}", StoredObject(b"xy"))
        s3 = connect_s3(endpoint)
        pages = await asyncio.to_thread(
            lambda: list(
                s3.get_paginator("list_objects_v2").paginate(
                    Bucket=_BUCKET, Prefix="a/", PaginationConfig={"PageSize": 2}
                )
            )
        )
        everything = await _call(s3.list_objects_v2)
        later = await _call(s3.list_objects_v2, StartAfter=keys[3])
        plain = await _call(s3.list_objects_v2, EncodingType="url", Prefix="a/0")
        nothing = await _call(s3.list_objects_v2, MaxKeys=0)
        none_such = await _call(s3.list_objects_v2, Prefix="c")
    assert [[found["Key"] for found in page["Contents"]] for page in pages] == [
        keys[:2],
        keys[2:4],
        keys[4:],
    ]
    assert [page["IsTruncated"] for page in pages] == [True, True, False]
    assert [page["KeyCount"] for page in pages] == [2, 2, 1]
    assert all((page["Prefix"], page["MaxKeys"]) == ("a/", 2) for page in pages)
    assert [found["Key"] for found in everything["Contents"]] == [*keys, "b"]
    first = everything["Contents"][0]
    stored = endpoint.objects.get(f"s3://{_BUCKET}/{keys[0]}")
    assert (first["Size"], first["ETag"]) == (2, stored.etag)
    assert first["LastModified"] == stored.last_modified
    assert (everything["Name"], everything["MaxKeys"]) == (_BUCKET, 1000)
    assert [found["Key"] for found in later["Contents"]] == [keys[4], "b"]
    assert plain["Contents"][0]["Key"] == "a/0%26%2B+%3C%C3%A9%3E"  # as S3 itself
    assert (nothing["KeyCount"], nothing["IsTruncated"]) == (0, False)
    assert none_such["KeyCount"] == 0


@pytest.mark.asyncio
async def test_a_listing_is_sound_xml_without_an_encoding(http: aiohttp.ClientSession) -> None:
    async with LocalEndpoint(auth=False) as endpoint:
        endpoint.objects.put(f"s3://{_BUCKET}/<a&b>", StoredObject(b""))
        url = f"{endpoint.url}/s3/{_BUCKET}?list-type=2&max-keys=5000"
        async with http.get(url) as response:
            text = await response.text()
            assert response.content_type == "application/xml"
    assert "<Key>&lt;a&amp;b&gt;</Key>" in text
    assert "<MaxKeys>1000</MaxKeys>" in text
    assert "EncodingType" not in text


@pytest.mark.parametrize(
    "arguments", [{"ContinuationToken": "é"}, {"ContinuationToken": "abc"}, {"MaxKeys": -1}]
)
@pytest.mark.asyncio
async def test_a_wrong_argument_is_named(arguments: dict[str, object], connect_s3: Connect) -> None:
    async with LocalEndpoint() as endpoint:
        endpoint.objects.make_bucket(_BUCKET)
        status, code, message = await _fail(connect_s3(endpoint).list_objects_v2, **arguments)
    assert (status, code) == (400, "InvalidArgument")
    assert repr(next(iter(arguments.values()))).strip("'") in message


@pytest.mark.asyncio
async def test_what_is_missing_is_404(connect_s3: Connect) -> None:
    async with LocalEndpoint() as endpoint:
        s3 = connect_s3(endpoint)
        assert (await _fail(s3.get_object, Key="k"))[:2] == (404, "NoSuchBucket")
        assert (await _fail(s3.list_objects_v2))[:2] == (404, "NoSuchBucket")
        assert (await _fail(s3.head_bucket))[:2] == (404, "404")
        await _call(s3.create_bucket)
        await _call(s3.head_bucket)
        status, code, message = await _fail(s3.get_object, Key="k")
        assert (status, code) == (404, "NoSuchKey")
        assert message == f"The specified key does not exist: s3://{_BUCKET}/k"
        assert (await _fail(s3.head_object, Key="k"))[:2] == (404, "404")


@pytest.mark.asyncio
async def test_without_list_permission_what_is_missing_is_403(connect_s3: Connect) -> None:
    async with LocalEndpoint(s3_list_permission=False) as endpoint:
        s3 = connect_s3(endpoint)
        await _call(s3.put_object, Key="k", Body=_BODY)
        assert (await _call(s3.get_object, Key="k"))["Body"] == _BODY
        assert (await _fail(s3.get_object, Key="other"))[:2] == (403, "AccessDenied")
        assert (await _fail(s3.head_object, Key="other"))[:2] == (403, "403")
        assert (await _fail(s3.list_objects_v2))[:2] == (403, "AccessDenied")
        assert (await _fail(s3.head_bucket))[:2] == (403, "403")
        assert (await _fail(s3.get_object, Bucket="other", Key="k"))[:2] == (404, "NoSuchBucket")


@pytest.mark.asyncio
async def test_what_is_not_there_is_not_implemented(connect_s3: Connect) -> None:
    async with LocalEndpoint() as endpoint:
        s3 = connect_s3(endpoint)
        await _call(s3.put_object, Key="k", Body=_BODY)
        for call, arguments in (
            (s3.get_object_tagging, {"Key": "k"}),
            (s3.get_object_acl, {"Key": "k"}),
            (s3.get_object, {"Key": "k", "VersionId": "1"}),
            (s3.delete_object, {"Key": "k", "VersionId": "1"}),
            (s3.get_bucket_versioning, {}),
        ):
            status, code, message = await _fail(call, **arguments)
            assert (status, code) == (501, "NotImplemented")
            assert "has no versions" in message
    assert endpoint.objects.find_keys(_BUCKET) == ["k"]
    assert endpoint.objects.get(f"s3://{_BUCKET}/k").body == _BODY


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"secret": "wrong"}, "SignatureDoesNotMatch"),
        ({"key_id": "wrong"}, "InvalidAccessKeyId"),
        ({"signature_version": UNSIGNED}, "AccessDenied"),
    ],
    ids=["secret", "key id", "unsigned"],
)
@pytest.mark.asyncio
async def test_a_wrong_signature_is_refused(
    connect_s3: Connect, keys: dict[str, str], code: str
) -> None:
    async with LocalEndpoint() as endpoint:
        s3 = connect_s3(endpoint, **keys)
        assert (await _fail(s3.put_object, Key="k", Body=_BODY))[:2] == (403, code)
        assert (await _fail(s3.get_object, Key="k"))[:2] == (403, code)
    assert f"s3://{_BUCKET}/k" not in endpoint.objects


@pytest.mark.asyncio
async def test_no_signature_is_needed_without_auth(
    connect_s3: Connect, http: aiohttp.ClientSession
) -> None:
    async with LocalEndpoint(auth=False) as endpoint:
        await _call(connect_s3(endpoint, secret="wrong").put_object, Key="k", Body=_BODY)
        # What JavaScript's SDK adds says nothing new.
        async with http.get(f"{endpoint.url}/s3/{_BUCKET}/k?x-id=GetObject") as response:
            assert await response.read() == _BODY


@pytest.mark.asyncio
async def test_an_error_has_the_shape_of_s3(http: aiohttp.ClientSession) -> None:
    async with LocalEndpoint(auth=False) as endpoint:
        for path, status, code in (
            ("b/<k>", 404, "NoSuchBucket"),
            ("%ff/k", 400, "InvalidURI"),
            ("/k", 400, "InvalidURI"),
            ("b/k?tagging", 501, "NotImplemented"),
        ):
            async with http.get(f"{endpoint.url}/s3/{path}") as response:
                text = await response.text()
                request_id = response.headers["x-amz-request-id"]
                assert response.status == status
                assert response.content_type == "application/xml"
            assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<Error>')
            assert f"<Code>{code}</Code>" in text
            assert f"<RequestId>{request_id}</RequestId>" in text
        async with http.get(f"{endpoint.url}/s3x/b/k") as response:
            assert response.headers["x-amzn-errortype"] == "UnknownOperationException"


@pytest.mark.asyncio
async def test_a_body_that_is_not_what_was_told_is_not_stored(http: aiohttp.ClientSession) -> None:
    async with LocalEndpoint(auth=False) as endpoint:
        url = f"{endpoint.url}/s3/{_BUCKET}/k"
        async with http.put(url, data=b"x", headers={"Content-MD5": "AAAA"}) as response:
            assert response.status == 400
            assert "<Code>BadDigest</Code>" in await response.text()
    assert f"s3://{_BUCKET}/k" not in endpoint.objects


@pytest.mark.asyncio
async def test_bodies_are_hashed_off_the_loop(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def read(headers: Mapping[str, str], body: bytes) -> StoredObject:
        threads.append(threading.current_thread())
        return read_upload(headers, body)

    monkeypatch.setattr("aiosmrt.local.s3_operations.read_upload", read)
    async with (
        LocalEndpoint(auth=False) as endpoint,
        http.put(f"{endpoint.url}/s3/{_BUCKET}/k", data=_BODY) as response,
    ):
        assert response.status == 200
    assert endpoint.objects.get(f"s3://{_BUCKET}/k").body == _BODY
    assert threading.main_thread() not in threads


@pytest.mark.asyncio
async def test_head_leaves_the_connection_usable() -> None:
    async with LocalEndpoint(auth=False) as endpoint:
        endpoint.objects.put(f"s3://{_BUCKET}/k", StoredObject(_BODY))
        port = int(endpoint.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for key, status, length in (
            ("k", b"200", b"10"),
            ("other", b"404", None),
            ("k", b"200", b"10"),
        ):
            writer.write(f"HEAD /s3/{_BUCKET}/{key} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 " + status)
            assert length is None or b"content-length: " + length in head.lower()
        writer.close()
        await writer.wait_closed()
