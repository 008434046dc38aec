from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TypeAlias

import attrs
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.config import Credentials
from aiosmrt.errors import ServiceError
from aiosmrt.local.authorization import (
    S3_SIGNING,
    SignedRequest,
    check_authorization,
    read_scope,
)

Change: TypeAlias = Callable[[SignedRequest], SignedRequest]

_PAIR = Credentials("local", "local-secret")
_MINUTE = datetime.timedelta(minutes=1)

# What a client can put into a header, as aiohttp hands it over.
_values = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
_words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)


def _sign(
    *,
    method: str = "POST",
    path: str = "/endpoints/e/invocations",
    query: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    body: bytes = b"{}",
    key_id: str = "local",
    secret: str = "local-secret",
    service: str = "sagemaker",
) -> SignedRequest:
    """Sign as boto3 does, and give what a server sees of it."""
    request = AWSRequest(
        method, f"http://127.0.0.1:8080{path}", headers=headers, data=body, params=query
    )
    SigV4Auth(BotocoreCredentials(key_id, secret), service, "eu-central-1").add_auth(request)
    prepared = request.prepare()
    seen = {"host": "127.0.0.1:8080", **{n.lower(): v for n, v in prepared.headers.items()}}
    seen = {n: v.decode() if isinstance(v, bytes) else v for n, v in seen.items()}
    target = prepared.url.removeprefix("http://127.0.0.1:8080")
    return SignedRequest(method, target, seen, body)


def _signed_at(request: SignedRequest) -> datetime.datetime:
    return datetime.datetime.strptime(request.headers["x-amz-date"] + "+0000", "%Y%m%dT%H%M%SZ%z")


def _check(request: SignedRequest, off_by: datetime.timedelta = datetime.timedelta()) -> None:
    check_authorization(request, _PAIR, _signed_at(request) + off_by)


def _rewrite(name: str, old: str, new: str) -> Change:
    def change(request: SignedRequest) -> SignedRequest:
        value = request.headers[name]
        assert old in value
        return attrs.evolve(request, headers={**request.headers, name: value.replace(old, new)})

    return change


def _replace(name: str, value: str) -> Change:
    return lambda request: attrs.evolve(request, headers={**request.headers, name: value})


@given(
    path=st.sampled_from(["/endpoints/e/invocations", "/endpoints/a%20b/async-invocations"]),
    query=st.dictionaries(_words, _words, max_size=3),
    attributes=_values,
    body=st.binary(max_size=40),
    secret=st.text(min_size=1, max_size=20),
)
def test_what_botocore_signs_is_accepted(
    path: str, query: dict[str, str], attributes: str, body: bytes, secret: str
) -> None:
    headers = {"X-Amzn-SageMaker-Custom-Attributes": attributes, "Content-Type": "a/b  c"}
    request = _sign(path=path, query=query, headers=headers, body=body, secret=secret)
    check_authorization(request, Credentials("local", secret), _signed_at(request))


def test_an_access_key_id_may_contain_slashes() -> None:
    request = _sign(key_id="a/b/c")
    check_authorization(request, Credentials("a/b/c", "local-secret"), _signed_at(request))


@pytest.mark.parametrize(
    "change",
    [
        lambda request: attrs.evolve(request, body=b"{ }"),
        lambda request: attrs.evolve(request, method="PUT"),
        lambda request: attrs.evolve(request, target="/endpoints/f/invocations"),
        lambda request: attrs.evolve(request, target=request.target + "?a=b"),
        _replace("x-amzn-sagemaker-target-variant", "other"),
        _replace("host", "localhost:8080"),
    ],
    ids=["body", "method", "path", "query", "signed header", "host"],
)
def test_a_change_after_signing_is_noticed(change: Change) -> None:
    request = _sign(headers={"X-Amzn-SageMaker-Target-Variant": "one"})
    _check(request)
    with pytest.raises(ServiceError, match="does not match the signature you provided") as caught:
        _check(change(request))
    assert (caught.value.status, caught.value.code) == (403, "InvalidSignatureException")


def test_a_header_that_was_not_signed_may_change() -> None:
    _check(_replace("user-agent", "proxy")(_sign()))


def test_a_mismatch_shows_what_should_have_been_signed() -> None:
    with pytest.raises(ServiceError) as caught:
        _check(_sign(secret="wrong"))
    assert "\n'POST\n/endpoints/e/invocations\n\nhost:127.0.0.1:8080\n" in caught.value.message
    assert "/eu-central-1/sagemaker/aws4_request\n" in caught.value.message
    assert "local-secret" not in caught.value.message


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (
            lambda request: attrs.evolve(request, headers={"host": "h"}),
            "MissingAuthenticationTokenException",
            "no Authorization header",
        ),
        (_replace("authorization", "Bearer abc"), "IncompleteSignatureException", "not 'Bearer'"),
        (
            _replace("authorization", "AWS4-HMAC-SHA256 Signature=1"),
            "IncompleteSignatureException",
            "requires 'Credential' parameter. Authorization header requires 'SignedHeaders'",
        ),
        (
            _rewrite("authorization", "/aws4_request", ""),
            "IncompleteSignatureException",
            "Credential must be",
        ),
        (
            _rewrite("authorization", "Credential=local", "Credential=remote"),
            "UnrecognizedClientException",
            "knows the access key id 'local', not 'remote'",
        ),
        (
            _rewrite("authorization", "/sagemaker/", "/s3/"),
            "InvalidSignatureException",
            "correct service: 'sagemaker', not 's3'",
        ),
        (_rewrite("authorization", "host;", ""), "InvalidSignatureException", "must name host"),
        (
            _rewrite("authorization", "host;", "host;via;"),
            "InvalidSignatureException",
            "names via, which the request does not have",
        ),
        (
            _rewrite("authorization", "Credential=local/2", "Credential=local/1"),
            "InvalidSignatureException",
            "does not match X-Amz-Date",
        ),
    ],
)
def test_a_refusal_names_its_reason(change: Change, code: str, message: str) -> None:
    request = _sign()
    with pytest.raises(ServiceError) as caught:
        check_authorization(change(request), _PAIR, _signed_at(request))
    assert (caught.value.status, caught.value.code) == (403, code)
    assert message in caught.value.message


@pytest.mark.parametrize("date", ["", "yesterday", "2026-01-01T00:00:00Z"])
def test_a_date_in_another_shape_is_refused(date: str) -> None:
    request = _sign()
    with pytest.raises(ServiceError, match="X-Amz-Date must be given as") as caught:
        check_authorization(_replace("x-amz-date", date)(request), _PAIR, _signed_at(request))
    assert caught.value.code == "IncompleteSignatureException"


def test_five_minutes_either_way_are_accepted() -> None:
    request = _sign()
    _check(request, 5 * _MINUTE)
    _check(request, -5 * _MINUTE)


@pytest.mark.parametrize(
    ("off_by", "message"),
    [(6 * _MINUTE, "Signature expired: "), (-6 * _MINUTE, "Signature not yet current: ")],
)
def test_a_clock_that_is_off_is_named(off_by: datetime.timedelta, message: str) -> None:
    request = _sign()
    with pytest.raises(ServiceError) as caught:
        _check(request, off_by)
    assert (caught.value.status, caught.value.code) == (403, "InvalidSignatureException")
    assert caught.value.message.startswith(message + request.headers["x-amz-date"])


def test_a_region_is_read_from_the_scope() -> None:
    assert read_scope(_sign()) == ("eu-central-1", "sagemaker")
    assert read_scope(_sign(key_id="a/20261122/b")) == ("eu-central-1", "sagemaker")
    assert read_scope(_sign_s3()) == ("eu-central-1", "s3")
    for headers in ({"authorization": "Bearer abc"}, {}):
        assert read_scope(SignedRequest("GET", "/", headers, b"")) == ("us-east-1", None)
    former = SignedRequest("GET", "/b/k?AWSAccessKeyId=a&Signature=b&Expires=1", {}, b"")
    assert read_scope(former) == ("us-east-1", "s3")


def _sign_s3(path: str = "/s3/bucket/key", **headers: str) -> SignedRequest:
    """Sign as boto3's S3 client does, and give what a server sees of it."""
    request = AWSRequest("PUT", f"http://127.0.0.1:8080{path}", headers=headers, data=b"body")
    pair = BotocoreCredentials("local", "local-secret")
    S3SigV4Auth(pair, "s3", "eu-central-1").add_auth(request)
    seen = {"host": "127.0.0.1:8080", **{n.lower(): v for n, v in request.headers.items()}}
    return SignedRequest("PUT", path, seen, b"body")


def _check_s3(request: SignedRequest, off_by: datetime.timedelta = datetime.timedelta()) -> None:
    check_authorization(request, _PAIR, _signed_at(request) + off_by, S3_SIGNING)


def _sign_again(request: SignedRequest, **headers: str) -> SignedRequest:
    """Sign a request that says more of its payload than botocore would."""

    class Auth(S3SigV4Auth):  # type: ignore[misc] # botocore has no types
        def payload(self, request: AWSRequest) -> str:
            return headers["x-amz-content-sha256"]

    signed = AWSRequest("PUT", f"http://127.0.0.1:8080{request.target}", data=request.body)
    pair = BotocoreCredentials("local", "local-secret")
    Auth(pair, "s3", "eu-central-1").add_auth(signed)
    seen = {"host": "127.0.0.1:8080", **{n.lower(): v for n, v in signed.headers.items()}}
    return attrs.evolve(request, headers=seen)


@pytest.mark.parametrize(
    "path", ["/s3/b/a/../b//c/", "/s3/b/a%20b%2B%C3%BC", "/s3/b?list-type=2&prefix=a%2Fb"]
)
def test_what_botocore_signs_for_s3_is_accepted(path: str) -> None:
    _check_s3(_sign_s3(path))


def test_a_path_may_go_out_less_encoded_than_it_was_signed() -> None:
    request = _sign_s3("/s3/b/a%28%29")
    _check_s3(attrs.evolve(request, target="/s3/b/a()"))


@pytest.mark.parametrize("told", ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"])
def test_s3_takes_unsigned_payloads(told: str) -> None:
    _check_s3(_sign_again(_sign_s3(), **{"x-amz-content-sha256": told}))


def test_s3_does_not_take_signatures_of_chunks() -> None:
    request = _sign_again(
        _sign_s3(), **{"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}
    )
    with pytest.raises(ServiceError, match="takes the body's SHA-256 in hex or") as caught:
        _check_s3(request)
    assert (caught.value.status, caught.value.code) == (501, "NotImplemented")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda request: attrs.evolve(request, headers={"host": "h"}), 403, "AccessDenied"),
        (_replace("authorization", "Bearer abc"), 400, "AuthorizationHeaderMalformed"),
        (
            _rewrite("authorization", "/aws4_request", ""),
            400,
            "AuthorizationHeaderMalformed",
        ),
        (_replace("x-amz-date", "yesterday"), 400, "AuthorizationHeaderMalformed"),
        (
            _rewrite("authorization", "Credential=local", "Credential=remote"),
            403,
            "InvalidAccessKeyId",
        ),
        (_rewrite("authorization", "/s3/", "/sagemaker/"), 403, "SignatureDoesNotMatch"),
        (_replace("x-amz-content-sha256", "0" * 64), 403, "SignatureDoesNotMatch"),
        (
            _rewrite("authorization", "x-amz-content-sha256;", ""),
            403,
            "SignatureDoesNotMatch",
        ),
        (
            lambda request: attrs.evolve(request, target="/s3/bucket/other"),
            403,
            "SignatureDoesNotMatch",
        ),
        (
            lambda request: attrs.evolve(request, target="/s3/bucket/./key"),
            403,
            "SignatureDoesNotMatch",
        ),
    ],
)
def test_s3_has_codes_of_its_own(change: Change, status: int, code: str) -> None:
    request = _sign_s3()
    with pytest.raises(ServiceError) as caught:
        check_authorization(change(request), _PAIR, _signed_at(request), S3_SIGNING)
    assert (caught.value.status, caught.value.code) == (status, code)


def test_s3_wants_the_hash_of_the_payload_signed() -> None:
    request = _sign_s3()
    headers = {n: v for n, v in request.headers.items() if n != "x-amz-content-sha256"}
    headers["authorization"] = headers["authorization"].replace("x-amz-content-sha256;", "")
    with pytest.raises(ServiceError, match="SignedHeaders must name x-amz-content-sha256"):
        check_authorization(
            attrs.evolve(request, headers=headers), _PAIR, _signed_at(request), S3_SIGNING
        )


def test_s3_takes_a_clock_that_is_fifteen_minutes_off() -> None:
    request = _sign_s3()
    for off_by in (15 * _MINUTE, -15 * _MINUTE):
        _check_s3(request, off_by)
    for off_by in (16 * _MINUTE, -16 * _MINUTE):
        with pytest.raises(ServiceError, match=r"[+-] 15 min\.") as caught:
            _check_s3(request, off_by)
        assert (caught.value.status, caught.value.code) == (403, "RequestTimeTooSkewed")


@pytest.mark.parametrize("broken", [None, "X-Amz-Expires=60", "X-Amz-Algorithm=AWS4-HMAC-SHA256"])
def test_a_request_may_be_signed_in_its_query(broken: str | None) -> None:
    """As boto3's presigned requests are, for any service."""
    request = AWSRequest("POST", "http://h/endpoints/e/invocations")
    pair = BotocoreCredentials("local", "local-secret", "token")
    SigV4QueryAuth(pair, "sagemaker", "eu-central-1", expires=60).add_auth(request)
    target = str(request.url).removeprefix("http://h")
    if broken is not None:
        target = target.replace(broken, "x=y")
    seen = SignedRequest("POST", target, {"host": "h"}, b"")  # botocore signs no body in this way
    now = datetime.datetime.now(datetime.UTC)
    if broken is not None:
        with pytest.raises(ServiceError, match="takes X-Amz-Algorithm"):
            check_authorization(seen, _PAIR, now)
        return
    assert read_scope(seen) == ("eu-central-1", "sagemaker")
    check_authorization(seen, _PAIR, now)
    with pytest.raises(ServiceError, match="does not match"):
        check_authorization(attrs.evolve(seen, body=b"other"), _PAIR, now)
    with pytest.raises(ServiceError, match="has expired"):
        check_authorization(seen, _PAIR, now + 2 * _MINUTE)
