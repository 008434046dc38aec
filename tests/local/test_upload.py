"""botocore writes the bodies that are read here."""

from __future__ import annotations

import contextlib
import hashlib
import io

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum, Sha256Checksum
from hypothesis import example, given
from hypothesis import strategies as st

from aiosmrt.errors import ServiceError
from aiosmrt.local.upload import decode_chunks, read_upload

_CHUNKED = {
    "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    "content-encoding": "aws-chunked",
}
_CRC32 = "x-amz-checksum-crc32"


def _wrap(body: bytes, chunk_size: int, checksum_class: type = Crc32Checksum) -> bytes:
    name = "x-amz-checksum-crc32" if checksum_class is Crc32Checksum else "x-amz-checksum-sha256"
    wrapper = AwsChunkedWrapper(io.BytesIO(body), checksum_class, name, chunk_size)
    wrapped: bytes = wrapper.read()
    return wrapped


@given(body=st.binary(max_size=100), size=st.integers(1, 40))
def test_what_botocore_wraps_is_unwrapped(body: bytes, size: int) -> None:
    for checksum_class in (Crc32Checksum, Sha256Checksum):
        wrapped = _wrap(body, size, checksum_class)
        unwrapped, trailers = decode_chunks(wrapped)
        assert unwrapped == body
        assert len(trailers) == 1
        headers = {**_CHUNKED, "x-amz-decoded-content-length": str(len(body))}
        assert read_upload(headers, wrapped).body == body


def test_signatures_of_chunks_are_passed_over() -> None:
    body = b"3;chunk-signature=ab12\r\nabc\r\n0;chunk-signature=cd\r\nX-A: b \r\n\r\n"
    assert decode_chunks(body) == (b"abc", {"x-a": "b"})


@given(st.binary(max_size=40))
@example(b"+1\r\na\r\n0\r\n")
@example(b"f" * 5000)
def test_nothing_but_a_service_error_comes_out(body: bytes) -> None:
    with contextlib.suppress(ServiceError):
        decode_chunks(body)


def test_every_cut_is_noticed() -> None:
    wrapped = _wrap(b"abcdef", 4)
    end = wrapped.index(b"0\r\n") + 3
    for cut in range(end):
        with pytest.raises(ServiceError) as caught:
            decode_chunks(wrapped[:cut])
        assert (caught.value.status, caught.value.code) == (400, "IncompleteBody")


def test_a_chunk_ends_where_its_head_says() -> None:
    with pytest.raises(ServiceError, match="does not end at byte 6") as caught:
        decode_chunks(b"3\r\nabcd\r\n0\r\n\r\n")
    assert (caught.value.status, caught.value.code) == (400, "IncompleteBody")


def test_a_body_is_taken_as_it_is() -> None:
    digest = hashlib.sha256(b"1\r\n").hexdigest()
    for headers in (
        {},
        {"x-amz-content-sha256": digest},
        {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"},
    ):
        stored = read_upload({**headers, "content-type": "text/csv"}, b"1\r\n")
        assert (stored.body, stored.content_type) == (b"1\r\n", "text/csv")


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({"x-amz-content-sha256": "0" * 64}, b"abc", "XAmzContentSHA256Mismatch"),
        ({"x-amz-content-sha256": "UNSIGNED-PAYLOAD", _CRC32: "AAAAAA=="}, b"abc", "BadDigest"),
        ({"content-md5": "AAAA"}, b"abc", "BadDigest"),
        ({"x-amz-checksum-sha1": "AAAA"}, b"abc", "BadDigest"),
        ({"x-amz-checksum-sha256": "AAAA"}, b"abc", "BadDigest"),
        (_CHUNKED, b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", "BadDigest"),
        (
            {**_CHUNKED, "x-amz-decoded-content-length": "4"},
            b"3\r\nabc\r\n0\r\n\r\n",
            "IncompleteBody",
        ),
    ],
)
def test_a_body_that_is_not_what_was_told_is_refused(
    headers: dict[str, str], body: bytes, code: str
) -> None:
    with pytest.raises(ServiceError) as caught:
        read_upload(headers, body)
    assert (caught.value.status, caught.value.code) == (400, code)


def test_checksums_that_match_are_fine() -> None:
    headers = {
        "content-md5": "kAFQmDzST7DWlj99KOF/cg==",
        _CRC32: "NSRBwg==",
        "x-amz-checksum-sha1": "qZk+NkcGgWq6PiVxeFDCbJzQ2J0=",
        "x-amz-checksum-sha256": "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
        "x-amz-checksum-crc64nvme": "taken on trust",
    }
    assert read_upload(headers, b"abc").body == b"abc"
