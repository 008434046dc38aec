from __future__ import annotations

import copy
import datetime
import hmac
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.config import Credentials
from aiosmrt.http import Request
from aiosmrt.signing import sigv4
from aiosmrt.signing.sigv4 import UNSIGNED_HEADERS, Signer

NOW = datetime.datetime(2026, 11, 20, 12, 36, tzinfo=datetime.UTC)
KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SESSION = attrs.evolve(KEYS, session_token="AQoDYXdzEPT//////////wEXAMPLE==")
ORIGIN = "https://runtime.sagemaker.us-east-1.amazonaws.com"


def invocation(**changes: Any) -> Request:  # any field of Request
    return attrs.evolve(
        Request(
            method="POST",
            origin=ORIGIN,
            path="/endpoints/my-endpoint/invocations",
            headers={"content-type": "application/json", "accept": "*/*"},
            body=b'{"instances": [[1, 2]]}',
        ),
        **changes,
    )


def judge(
    request: Request,
    credentials: Credentials,
    *,
    region: str = "us-east-1",
    service: str = "sagemaker",
    s3: bool,
) -> tuple[Any, Any]:
    """Give botocore's signer and its view of the request."""
    auth = botocore.auth.S3SigV4Auth if s3 else botocore.auth.SigV4Auth
    query = f"?{request.query}" if request.query else ""
    return (
        auth(
            botocore.credentials.Credentials(
                credentials.access_key_id,
                credentials.secret_access_key,
                credentials.session_token,
            ),
            service,
            region,
        ),
        botocore.awsrequest.AWSRequest(
            request.method,
            f"{request.origin}{request.path}{query}",
            dict(request.headers),
            request.body,
        ),
    )


def expected_authorization(
    request: Request,
    credentials: Credentials,
    now: datetime.datetime,
    *,
    region: str = "us-east-1",
    service: str = "sagemaker",
    s3: bool,
) -> str:
    """Take botocore's public steps one by one, which needs no hand on its clock."""
    auth, theirs = judge(request, credentials, region=region, service=service, s3=s3)
    theirs.context["timestamp"] = now.astimezone(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    added = {"X-Amz-Date": theirs.context["timestamp"]}
    if credentials.session_token:
        added["X-Amz-Security-Token"] = credentials.session_token
    if s3:
        added["X-Amz-Content-SHA256"] = auth.payload(theirs)
    del theirs.headers["Authorization"]
    for name, value in added.items():
        del theirs.headers[name]
        theirs.headers[name] = value
    string_to_sign = auth.string_to_sign(theirs, auth.canonical_request(theirs))
    return (
        f"AWS4-HMAC-SHA256 Credential={auth.scope(theirs)}, "
        f"SignedHeaders={auth.signed_headers(auth.headers_to_sign(theirs))}, "
        f"Signature={auth.signature(string_to_sign, theirs)}"
    )


def signer_for(service: str = "sagemaker", region: str = "us-east-1", *, s3: bool) -> Signer:
    return Signer(region, service, normalize_path=not s3, content_sha256=s3)


# Every character that a path or query has on the wire, dots and slashes more often than by chance.
wire_text = st.lists(
    st.one_of(
        st.sampled_from(["/", "//", ".", "..", "/./", "/../", "%20", "%2F", "%25", "%E1%88%B4"]),
        st.text("abcXYZ019-._~!$&'()*+,;=:@", max_size=6),
    ),
    max_size=12,
).map("".join)
header_names = st.one_of(
    st.sampled_from(sorted(UNSIGNED_HEADERS - {"amz-sdk-invocation-id", "amz-sdk-request"})),
    st.sampled_from(
        ["accept", "content-type", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"]
    ),
    st.from_regex(r"x-amzn-sagemaker-[a-z0-9-]{0,12}", fullmatch=True),
    st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True),
).filter(lambda name: name not in {"host", "date"})  # botocore would keep these two
header_values = st.text(
    st.one_of(st.sampled_from(" \t"), st.characters(min_codepoint=32, max_codepoint=255)),
    max_size=24,
)
requests = st.builds(
    Request,
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "post"]),
    origin=st.sampled_from([ORIGIN, "http://127.0.0.1:8080", "https://a.example:443"]),
    path=wire_text.map("/{}".format),
    headers=st.dictionaries(header_names, header_values, max_size=8),
    body=st.binary(max_size=200),
    query=st.one_of(st.just(""), wire_text),
)
tokens = st.text("abcXYZ019+/=", max_size=40)
credentials_values = st.builds(
    Credentials,
    access_key_id=st.text("ABCXYZ019", min_size=1, max_size=20),
    secret_access_key=st.text(min_size=1, max_size=40).filter(str.isprintable),
    session_token=st.one_of(st.none(), tokens),
)
times = st.datetimes(
    min_value=datetime.datetime(2000, 1, 1),  # noqa: DTZ001  # the strategy adds the zone
    max_value=datetime.datetime(2100, 1, 1),  # noqa: DTZ001  # same
    timezones=st.sampled_from(
        [datetime.UTC, datetime.timezone(datetime.timedelta(hours=-9, minutes=-30))]
    ),
)
scope_parts = st.text("abcxyz019-", min_size=1, max_size=20)


@pytest.mark.newest_botocore
@given(
    request=requests,
    credentials=credentials_values,
    now=times,
    region=scope_parts,
    service=scope_parts,
    s3=st.booleans(),
)
def test_authorization_is_botocores_to_the_letter(
    *,
    request: Request,
    credentials: Credentials,
    now: datetime.datetime,
    region: str,
    service: str,
    s3: bool,
) -> None:
    before = copy.deepcopy(request)

    added = signer_for(service, region, s3=s3).sign(request, credentials, now)

    assert added["authorization"] == expected_authorization(
        request, credentials, now, region=region, service=service, s3=s3
    )
    assert request == before
    again = attrs.evolve(request, headers={**request.headers, **added})
    assert signer_for(service, region, s3=s3).sign(again, credentials, now) == added


# What differs between the calls of one second: mostly the body, and seldom anything else.
changes = st.sampled_from(
    [
        {},
        {"body": b""},
        {"body": b"another"},
        {"method": "PUT"},
        {"path": "/endpoints/another/invocations"},
        {"query": "a=1"},
        {"origin": "https://example.com"},
        {"headers": {"content-type": "text/csv", "x-a": "1"}},
        {"headers": {"content-type": "text/csv", "x-a": "2"}},
        {"headers": {"content-type": "text/csv", "x-b": "1"}},
        {"headers": {"x-a": "1", "content-type": "text/csv"}},
        {"headers": {"x-a": " 1\t 2 "}},
        {"headers": {"x-a": "1 2"}},
        {"headers": {"x-a": "größe €"}},
        {"headers": {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}},
    ]
)
rotations = st.sampled_from(
    [
        KEYS,
        SESSION,
        attrs.evolve(SESSION, session_token="another"),
        attrs.evolve(SESSION, session_token=""),
        attrs.evolve(KEYS, secret_access_key="another"),
        attrs.evolve(KEYS, access_key_id="ANOTHER"),
    ]
)
# Of one second, the next one, one before, and the next day's.
offsets = st.sampled_from([0.0, 0.25, 0.999999, 1.0, -1.0, 86400.0])


@given(
    steps=st.lists(st.tuples(changes, rotations, offsets), min_size=2, max_size=12),
    s3=st.booleans(),
)
def test_what_a_signer_remembers_changes_no_signature(
    *, steps: list[tuple[dict[str, Any], Credentials, float]], s3: bool
) -> None:
    signer = signer_for(s3=s3)
    for change, credentials, offset in steps:
        request, now = invocation(**change), NOW + datetime.timedelta(seconds=offset)

        assert signer.sign(request, credentials, now)["authorization"] == (
            expected_authorization(request, credentials, now, s3=s3)
        )


def test_a_thousand_headers_in_one_second_are_signed_and_not_all_remembered() -> None:
    signer = Signer("us-east-1")
    tracemalloc.start()
    try:
        for number in range(1000):
            request = invocation(headers={"x-amzn-sagemaker-inference-id": f"{number:04}"})
            added = signer.sign(request, KEYS, NOW)
            assert added == Signer("us-east-1").sign(request, KEYS, NOW)
        # A thread of a test before may still be looking for keys.
        here = [tracemalloc.Filter(True, name) for name in (sigv4.__file__, __file__)]
        remembered = tracemalloc.take_snapshot().filter_traces(here).statistics("filename")
    finally:
        tracemalloc.stop()
    assert 0 < sum(statistic.size for statistic in remembered) < 250_000


@pytest.mark.parametrize("s3", [False, True])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//",
        "/.",
        "/..",
        "/a",
        "/a/",
        "/a//b",
        "/a/./b",
        "/a/../b",
        "/../a",
        "/a/..",
        "/.a",
        "/a.b",
        "/...",
        "/a%20b",
        "/a%2Fb",
        "/%E1%88%B4",
        "/a+b=c,d:e@f",
        "/~a/-_b",
    ],
)
def test_paths(*, path: str, s3: bool) -> None:
    request = invocation(path=path)

    assert signer_for(s3=s3).sign(request, KEYS, NOW)["authorization"] == (
        expected_authorization(request, KEYS, NOW, s3=s3)
    )


@pytest.mark.parametrize("query", ["b=2&a=1", "a=2&a=1", "a", "a=b=c", "prefix=a%2Fb&list-type=2"])
def test_queries(query: str) -> None:
    request = invocation(query=query)

    assert signer_for(s3=True).sign(request, KEYS, NOW)["authorization"] == (
        expected_authorization(request, KEYS, NOW, s3=True)
    )


@pytest.mark.parametrize("credentials", [KEYS, SESSION])
@pytest.mark.parametrize("s3", [False, True])
def test_added_headers_are_those_of_botocores_add_auth(
    *, credentials: Credentials, s3: bool
) -> None:
    request = invocation()
    auth, theirs = judge(request, credentials, s3=s3)
    auth.add_auth(theirs)
    expected = {name.lower(): value for name, value in theirs.headers.items()}
    now = datetime.datetime.strptime(expected["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(
        tzinfo=datetime.UTC
    )

    added = signer_for(s3=s3).sign(request, credentials, now)

    assert {**request.headers, **added} == expected


def test_a_request_of_a_whole_boto3_client_gets_the_same_authorization() -> None:
    sent: list[Any] = []

    def answer(request: Any, **_: Any) -> botocore.awsrequest.AWSResponse:  # botocore has no types
        sent.append(request)
        return botocore.awsrequest.AWSResponse(request.url, 200, {}, _Raw())

    client = boto3.client(
        "sagemaker-runtime",
        region_name="us-east-1",
        aws_access_key_id=SESSION.access_key_id,
        aws_secret_access_key=SESSION.secret_access_key,
        aws_session_token=SESSION.session_token,
        config=botocore.config.Config(ignore_configured_endpoint_urls=True),
    )
    client.meta.events.register("before-send.sagemaker-runtime", answer)
    client.invoke_endpoint(
        EndpointName="my-endpoint",
        Body=b"x" * 1024,
        ContentType="application/json",
        Accept="text/csv",
        CustomAttributes="a=1   b=2",
        TargetVariant="blue",
    )
    client.close()
    theirs = {
        name.lower(): value.decode() if isinstance(value, bytes) else value
        for name, value in sent[0].headers.items()
    }
    request = Request(
        method="POST",
        origin=ORIGIN,
        path="/endpoints/my-endpoint/invocations",
        # The transport adds the length, after the signature.
        headers={name: value for name, value in theirs.items() if name != "content-length"},
        body=sent[0].body,
    )
    now = datetime.datetime.strptime(theirs["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(
        tzinfo=datetime.UTC
    )

    assert sent[0].url == request.origin + request.path
    assert (
        Signer("us-east-1").sign(request, SESSION, now)["authorization"]
        == (theirs["authorization"])
    )


class _Raw:
    """A body without bytes, as botocore reads one."""

    def stream(self) -> Iterator[bytes]:
        return iter(())


def signed_names(added: dict[str, str]) -> list[str]:
    return added["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")


@pytest.mark.newest_botocore
def test_nothing_that_botocore_signs_is_left_out() -> None:
    ours_alone = {"amz-sdk-invocation-id", "amz-sdk-request", "authorization"}
    assert set(botocore.auth.SIGNED_HEADERS_BLACKLIST) == UNSIGNED_HEADERS - ours_alone

    headers = dict.fromkeys(UNSIGNED_HEADERS, "x") | {"x-amzn-sagemaker-target-model": "m"}
    added = Signer("us-east-1").sign(invocation(headers=headers), SESSION, NOW)

    assert signed_names(added) == [
        "host",
        "x-amz-date",
        "x-amz-security-token",
        "x-amzn-sagemaker-target-model",
    ]


def test_without_a_session_no_token_is_added() -> None:
    assert Signer("us-east-1").sign(invocation(), KEYS, NOW).keys() == {
        "authorization",
        "x-amz-date",
    }


def test_a_payload_hash_that_the_request_carries_is_taken() -> None:
    plain, unsigned = (
        invocation(body=body, headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})
        for body in (b"one", b"another")
    )
    signer = Signer("us-east-1")

    assert signer.sign(plain, KEYS, NOW) == signer.sign(unsigned, KEYS, NOW)
    assert "x-amz-content-sha256" in signed_names(signer.sign(plain, KEYS, NOW))


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"origin": "https://example.com"},
        {"path": "/endpoints/another/invocations"},
        {"query": "a=1"},
        {"headers": {"content-type": "application/json", "accept": "text/csv"}},
        {"body": b"{}"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_the_request_counts(change: dict[str, Any]) -> None:
    signer = Signer("us-east-1")
    authorization = signer.sign(invocation(), KEYS, NOW)["authorization"]

    assert signer.sign(invocation(**change), KEYS, NOW)["authorization"] != authorization


def test_one_signer_serves_changing_credentials_and_days() -> None:
    signer = Signer("us-east-1")
    rotated = attrs.evolve(KEYS, secret_access_key="another")
    tomorrow = NOW + datetime.timedelta(days=1)
    for credentials, now in [
        (KEYS, NOW),
        (rotated, NOW),
        (rotated, tomorrow),
        (KEYS, tomorrow),
        (KEYS, NOW),
    ]:
        fresh = Signer("us-east-1")
        assert signer.sign(invocation(), credentials, now) == fresh.sign(
            invocation(), credentials, now
        )


def test_the_signing_key_is_derived_once_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    digest, calls = hmac.digest, 0

    def counted(key: bytes, msg: bytes, name: str) -> bytes:
        nonlocal calls
        calls += 1
        return digest(key, msg, name)

    monkeypatch.setattr(hmac, "digest", counted)
    signer = Signer("us-east-1")
    for second in range(10):
        signer.sign(invocation(), KEYS, NOW + datetime.timedelta(seconds=second))

    assert calls == 4


def test_no_secret_shows_in_the_repr() -> None:
    signer = Signer("us-east-1")
    signer.sign(invocation(), SESSION, NOW)
    key = f"AWS4{KEYS.secret_access_key}".encode()
    for part in (f"{NOW:%Y%m%d}", "us-east-1", "sagemaker", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")

    for shown in (repr(signer), str(signer)):
        assert KEYS.secret_access_key not in shown
        assert str(SESSION.session_token) not in shown
        assert repr(key) not in shown
        assert key.hex() not in shown


# The official test suite.

VECTORS = os.environ.get("AIOSMRT_VECTORS")
needs_vectors = pytest.mark.skipif(
    not VECTORS, reason="AIOSMRT_VECTORS does not name the folder of test vectors"
)
CASES = sorted(Path(VECTORS, "sigv4", "v4").iterdir()) if VECTORS else []


def read_case(case: Path) -> Request:
    """Read `request.txt`: repeated headers joined, folded ones as they are."""
    head, _, body = (case / "request.txt").read_bytes().decode().partition("\n\n")
    line, *header_lines = head.splitlines()
    method, _, target = line.removesuffix(" HTTP/1.1").partition(" ")
    path, _, query = target.partition("?")
    headers: dict[str, str] = {}
    name = ""
    for header in header_lines:
        if header.startswith(" "):
            headers[name] += f"\n{header}"
            continue
        name, _, value = header.partition(":")
        name = name.lower()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return Request(
        method=method,
        origin=f"https://{headers.pop('host')}",
        path=path,
        headers=headers,
        body=body.encode(),
        query=query,
    )


@needs_vectors
def test_all_cases_of_the_suite_are_there() -> None:
    assert len(CASES) == 38


@needs_vectors
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_official_suite(case: Path) -> None:
    context = json.loads((case / "context.json").read_text())
    request = read_case(case)
    if not context["normalize"]:
        # The suite writes paths as people do; signed as it is on the wire, a space is encoded.
        request.path = request.path.replace(" ", "%20")
    token = context["credentials"].get("token")
    signer = Signer(
        context["region"],
        context["service"],
        normalize_path=context["normalize"],
        content_sha256=context["sign_body"],
    )

    added = signer.sign(
        request,
        Credentials(
            context["credentials"]["access_key_id"],
            context["credentials"]["secret_access_key"],
            # Such a token is added after the signature: nothing that this signer does.
            None if context.get("omit_session_token") else token,
        ),
        datetime.datetime.fromisoformat(context["timestamp"]),
    )

    expected = (case / "header-signed-request.txt").read_text().partition("Authorization:")[2]
    assert added["authorization"] == expected.partition("\n")[0]
