"""What boto3 asks of an S3 around async inference; moto's S3 is the judge of listings."""

from __future__ import annotations

import asyncio
import io
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from aiosmrt.local import LocalEndpoint

Connect: TypeAlias = Callable[..., Any]

_BUCKET = "operations"  # one moto is asked by all tests, and others want to find no "bucket"
_ALL = 1000  # keys on a page
_KEYS = (
    *("a", "a/1", "a/2", "a/b/1", "a b", "a+b", "b//1", "b/", "c%2Fd", "é/ü", "z/<&>"),
    *("p/1/x", "p/1/y", "p/2/x", "p/3"),
)


async def _in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


@pytest.fixture
def judge(moto: str) -> Iterator[Any]:
    """moto's S3, as a client of boto3."""
    client = boto3.client(
        "s3",
        endpoint_url=moto,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
    yield client
    client.close()


def _list(s3: Any, operation: str, size: int, asked: dict[str, str]) -> tuple[list[Any], list[str]]:
    """Give what is listed by pages of a size, owners and times left out."""
    contents, prefixes = [], []
    paginator = s3.get_paginator(operation)
    for page in paginator.paginate(Bucket=_BUCKET, PaginationConfig={"PageSize": size}, **asked):
        found = [(item["Key"], item["Size"], item["ETag"]) for item in page.get("Contents", [])]
        common = [item["Prefix"] for item in page.get("CommonPrefixes", [])]
        assert size == _ALL or len(found) + len(common) <= size
        contents += found
        prefixes += common
    return contents, prefixes


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
@pytest.mark.asyncio
async def test_listings_are_those_of_s3(operation: str, connect_s3: Connect, judge: Any) -> None:
    asked: list[dict[str, str]] = [
        {},
        {"Prefix": "a"},
        {"Delimiter": "/"},
        {"Delimiter": "/", "Prefix": "a/"},
        {"Delimiter": "/", "Prefix": "p/"},
        {"Delimiter": "a"},
        {"Delimiter": "//"},
        {"Prefix": "no such"},
    ]

    def compare() -> None:
        for s3 in (judge, local):
            s3.create_bucket(Bucket=_BUCKET)
            for key in _KEYS:
                s3.put_object(Bucket=_BUCKET, Key=key, Body=key.encode())
        for each in asked:
            # Whose own pages with a delimiter are not those of S3.
            expected = _list(judge, operation, _ALL, each)
            for size in (1, 2, 3, _ALL):
                assert _list(local, operation, size, each) == expected, (each, size)

    async with LocalEndpoint() as endpoint:
        local = connect_s3(endpoint)
        await _in_thread(compare)


@pytest.mark.asyncio
async def test_a_listing_begins_where_it_is_told(connect_s3: Connect) -> None:
    async with LocalEndpoint() as endpoint:
        s3 = connect_s3(endpoint)

        def ask() -> None:
            for key in _KEYS:
                s3.put_object(Bucket=_BUCKET, Key=key, Body=b"")
            for behind in ("p/1/x", "p/1", "b/", "zz"):
                expected = sorted(key for key in _KEYS if key > behind)
                for answer in (
                    s3.list_objects_v2(Bucket=_BUCKET, StartAfter=behind),
                    s3.list_objects(Bucket=_BUCKET, Marker=behind),
                ):
                    assert [item["Key"] for item in answer.get("Contents", [])] == expected
            # A prefix in which there is something behind it is told of.
            answer = s3.list_objects_v2(Bucket=_BUCKET, StartAfter="p/1/x", Delimiter="/")
            assert {"Prefix": "p/"} in answer["CommonPrefixes"]
            assert "Owner" not in s3.list_objects_v2(Bucket=_BUCKET)["Contents"][0]
            whose = s3.list_objects_v2(Bucket=_BUCKET, FetchOwner=True, MaxKeys=1)
            assert whose["Contents"][0]["Owner"]["ID"]
            assert s3.list_objects_v2(Bucket=_BUCKET, MaxKeys=0)["KeyCount"] == 0

        await _in_thread(ask)


@pytest.mark.asyncio
async def test_buckets(connect_s3: Connect) -> None:
    async with LocalEndpoint() as endpoint:
        s3 = connect_s3(endpoint)

        def ask() -> None:
            s3.create_bucket(Bucket=_BUCKET)
            s3.create_bucket(Bucket="other")
            names = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
            assert names == sorted({"other", _BUCKET, "aiosmrt-local"})
            assert s3.get_bucket_location(Bucket=_BUCKET)["LocationConstraint"] is None
            s3.put_object(Bucket="other", Key="k", Body=b"")
            with pytest.raises(ClientError, match="BucketNotEmpty"):
                s3.delete_bucket(Bucket="other")
            s3.delete_object(Bucket="other", Key="k")
            s3.delete_bucket(Bucket="other")
            with pytest.raises(ClientError, match="NoSuchBucket"):
                s3.get_bucket_location(Bucket="other")

        await _in_thread(ask)


@pytest.mark.asyncio
async def test_a_large_file_goes_up_and_down_in_parts(connect_s3: Connect, tmp_path: Path) -> None:
    """As boto3's transfers and the command line do it above 8 MB."""
    path, back = tmp_path / "there", tmp_path / "back"
    path.write_bytes(os.urandom(20_000_000))
    async with LocalEndpoint() as endpoint:
        s3 = connect_s3(endpoint)

        def transfer() -> None:
            extra = {"ContentType": "text/csv", "Metadata": {"who": "me"}}
            s3.upload_file(str(path), _BUCKET, "large", ExtraArgs=extra)
            head = s3.head_object(Bucket=_BUCKET, Key="large")
            assert head["ContentType"] == "text/csv"
            assert head["Metadata"] == {"who": "me"}
            assert head["ETag"].endswith('-3"')
            s3.download_file(_BUCKET, "large", str(back))
            assert s3.list_multipart_uploads(Bucket=_BUCKET).get("Uploads") is None
            # A copy of so much goes in parts, too.
            s3.copy({"Bucket": _BUCKET, "Key": "large"}, _BUCKET, "copy")

        await _in_thread(transfer)
    assert back.read_bytes() == path.read_bytes()
    assert endpoint.objects.get(f"s3://{_BUCKET}/copy").body == path.read_bytes()


@pytest.mark.asyncio
async def test_an_upload_in_parts_is_checked(connect_s3: Connect) -> None:
    part = bytes(5 << 20)
    async with LocalEndpoint() as endpoint:
        s3 = connect_s3(endpoint)

        def ask() -> None:
            upload = s3.create_multipart_upload(Bucket=_BUCKET, Key="k")["UploadId"]
            there = {"Bucket": _BUCKET, "Key": "k", "UploadId": upload}
            tags = [
                s3.upload_part(**there, PartNumber=number, Body=body)["ETag"]
                for number, body in ((1, part), (2, b"small"), (3, b"end"))
            ]
            listed = s3.list_parts(**there)["Parts"]
            assert [(item["PartNumber"], item["Size"]) for item in listed] == [
                (1, len(part)),
                (2, 5),
                (3, 3),
            ]
            uploads = s3.list_multipart_uploads(Bucket=_BUCKET)["Uploads"]
            assert [(item["Key"], item["UploadId"]) for item in uploads] == [("k", upload)]
            for numbers, code in (
                ((2, 1), "InvalidPartOrder"),
                ((1, 4), "InvalidPart"),
                ((1, 2, 3), "EntityTooSmall"),
            ):
                wanted = [{"PartNumber": n, "ETag": [*tags, '"x"'][n - 1]} for n in numbers]
                with pytest.raises(ClientError, match=code):
                    s3.complete_multipart_upload(**there, MultipartUpload={"Parts": wanted})
            with pytest.raises(ClientError, match="InvalidArgument"):
                s3.upload_part(**there, PartNumber=0, Body=b"")
            wanted = [{"PartNumber": n, "ETag": tags[n - 1]} for n in (1, 3)]
            s3.complete_multipart_upload(**there, MultipartUpload={"Parts": wanted})
            with pytest.raises(ClientError, match="NoSuchUpload"):
                s3.list_parts(**there)
            aborted = s3.create_multipart_upload(Bucket=_BUCKET, Key="k")["UploadId"]
            s3.abort_multipart_upload(Bucket=_BUCKET, Key="k", UploadId=aborted)
            with pytest.raises(ClientError, match="NoSuchUpload"):
                s3.abort_multipart_upload(Bucket=_BUCKET, Key="k", UploadId=aborted)

        await _in_thread(ask)
    assert endpoint.objects.get(f"s3://{_BUCKET}/k").body == part + b"end"


@pytest.mark.asyncio
async def test_copies_and_deletions(connect_s3: Connect) -> None:
    async with LocalEndpoint() as endpoint:
        s3 = connect_s3(endpoint)

        def ask() -> None:
            s3.put_object(
                Bucket=_BUCKET,
                Key="a b+c",
                Body=b"1,2",
                ContentType="text/csv",
                CacheControl="no-store",
                ContentEncoding="identity",
                Metadata={"who": "me"},
            )
            copied = s3.copy_object(
                Bucket=_BUCKET, Key="copy", CopySource={"Bucket": _BUCKET, "Key": "a b+c"}
            )
            got = s3.get_object(Bucket=_BUCKET, Key="copy")
            assert got["Body"].read() == b"1,2"
            assert (got["ContentType"], got["CacheControl"]) == ("text/csv", "no-store")
            assert (got["ContentEncoding"], got["Metadata"]) == ("identity", {"who": "me"})
            assert copied["CopyObjectResult"]["ETag"] == got["ETag"]
            s3.copy_object(
                Bucket=_BUCKET,
                Key="other",
                CopySource=f"{_BUCKET}/copy",
                MetadataDirective="REPLACE",
                ContentType="text/plain",
            )
            got = s3.head_object(Bucket=_BUCKET, Key="other")
            assert (got["ContentType"], got["Metadata"]) == ("text/plain", {})
            with pytest.raises(ClientError, match="NoSuchKey"):
                s3.copy_object(Bucket=_BUCKET, Key="x", CopySource=f"{_BUCKET}/none")
            s3.delete_object(Bucket=_BUCKET, Key="copy")
            s3.delete_object(Bucket=_BUCKET, Key="copy")
            keys = [{"Key": key} for key in ("a b+c", "other", "none & never")]
            deleted = s3.delete_objects(Bucket=_BUCKET, Delete={"Objects": keys})["Deleted"]
            assert [item["Key"] for item in deleted] == [key["Key"] for key in keys]
            quiet = {"Objects": keys, "Quiet": True}
            assert "Deleted" not in s3.delete_objects(Bucket=_BUCKET, Delete=quiet)

        await _in_thread(ask)
        assert endpoint.objects.find_keys(_BUCKET) == []


@pytest.mark.asyncio
async def test_conditions(connect_s3: Connect) -> None:
    async with LocalEndpoint() as endpoint:
        s3 = connect_s3(endpoint)

        def ask() -> None:
            there = {"Bucket": _BUCKET, "Key": "k"}
            tag = s3.put_object(**there, Body=b"x", IfNoneMatch="*")["ETag"]
            with pytest.raises(ClientError, match="PreconditionFailed"):
                s3.put_object(**there, Body=b"y", IfNoneMatch="*")
            with pytest.raises(ClientError, match="PreconditionFailed"):
                s3.get_object(**there, IfMatch='"other"')
            assert s3.get_object(**there, IfMatch=tag)["Body"].read() == b"x"
            assert s3.get_object(**there, IfNoneMatch='"other"')["Body"].read() == b"x"
            with pytest.raises(ClientError, match="304"):
                s3.get_object(**there, IfNoneMatch=tag)

        await _in_thread(ask)


@pytest.mark.parametrize("version", ["s3v4", None], ids=["s3v4", "boto3's default"])
@pytest.mark.asyncio
async def test_signed_urls(version: str | None, connect_s3: Connect) -> None:
    async with LocalEndpoint() as endpoint:
        options = {} if version is None else {"signature_version": version}
        s3 = connect_s3(endpoint, **options)

        def fetch(url: str, **parameters: Any) -> bytes:
            # The addresses are of this machine.
            with urllib.request.urlopen(urllib.request.Request(url, **parameters)) as answer:
                body: bytes = answer.read()
                return body

        def ask() -> None:
            there = {"Bucket": _BUCKET, "Key": "a b/c+d"}
            put = s3.generate_presigned_url("put_object", Params=there, ExpiresIn=60)
            fetch(put, data=b"hello", method="PUT", headers={"Content-Type": ""})
            asked = {**there, "ResponseContentType": "text/csv"}
            get = s3.generate_presigned_url("get_object", Params=asked, ExpiresIn=60)
            assert fetch(get) == b"hello"
            for broken in (
                get.replace("a%20b", "a%20c"),
                get.replace("text%2Fcsv", "text%2Fplain"),
                s3.generate_presigned_url("get_object", Params=there, ExpiresIn=1).replace(
                    "Expires=1", "Expires=2"
                ),
            ):
                with pytest.raises(urllib.error.HTTPError, match="403"):
                    fetch(broken)

        await _in_thread(ask)


@pytest.mark.asyncio
async def test_one_url_is_enough(connect_s3: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """`AWS_ENDPOINT_URL` alone: S3 is told from the rest by what a request is signed for."""
    async with LocalEndpoint() as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local-secret")
        session = boto3.Session(region_name="eu-west-1")
        s3, runtime = session.client("s3"), session.client("sagemaker-runtime")

        def ask() -> None:
            # A bucket may well be called so.
            for key in ("endpoints/e/invocations", "k"):
                s3.put_object(Bucket="endpoints", Key=key, Body=b"1,2")
            s3.upload_fileobj(io.BytesIO(b"1,2"), "other", "k")
            answer = runtime.invoke_endpoint(EndpointName="e", Body=b"hello")
            assert b"hello" in answer["Body"].read()
            url = s3.generate_presigned_url("get_object", Params={"Bucket": "other", "Key": "k"})
            with urllib.request.urlopen(url) as got:
                assert got.read() == b"1,2"
            with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
                wrong.list_buckets()

        wrong = session.client("s3", aws_secret_access_key="wrong", aws_access_key_id="local")
        await _in_thread(ask)
        for client in (s3, runtime, wrong):
            client.close()
        assert endpoint.objects.find_keys("endpoints") == ["endpoints/e/invocations", "k"]
