from __future__ import annotations

import json

import pytest

import aiosmrt
from aiosmrt import errors
from aiosmrt.asgi.refusal import refuse

TABLE = [
    (errors.ParameterError("body is required"), 400),
    (errors.ThrottlingException("slow down", status=400), 429),
    (errors.ServiceError("", code="TooManyRequestsException", status=400), 429),
    (errors.ServiceError("", code="429", status=429), 429),
    (errors.ModelNotReadyException("", status=429), 503),
    (errors.ServiceUnavailable("", status=503), 503),
    (errors.ServiceError("", code="503", status=503), 503),
    (errors.InternalDependencyException("", status=530), 503),
    (errors.ValidationError("Inference Component has no capacity to process this request"), 503),
    (errors.SlotTimeout("", limit="slot", seconds=1), 503),
    (errors.TooManyOpenFiles(""), 503),
    (errors.ClientClosed(""), 503),
    (errors.FirstByteTimeout("", limit="first_byte", seconds=1), 504),
    (errors.ConnectTimeout("", limit="connect", seconds=1), 504),
    (errors.TotalTimeout("", limit="total", seconds=1), 504),
    (errors.CredentialsTimeout("", limit="credentials", seconds=1), 504),
    (errors.ServiceError("", code="504", status=504), 504),
    (errors.ConfigurationError("no region"), 500),
    (errors.CredentialsError("none"), 500),
    (errors.StreamClosed(""), 500),
    (errors.ModelError("", status=424), 502),
    (errors.ValidationError("Endpoint llm of account 1 not found.", status=400), 502),
    (errors.ServiceError("", code="AccessDeniedException", status=403), 502),
    (errors.InternalFailure("", status=500), 502),
    (errors.ConnectError("refused"), 502),
    (errors.ConnectionLost("reset"), 502),
    (errors.TruncatedStream("cut"), 502),
    (errors.InvalidText("latin-1"), 502),
    (errors.UnexpectedResponse("a page", status=302), 502),
]


@pytest.mark.parametrize(
    ("error", "status"), TABLE, ids=[f"{type(error).__name__}-{status}" for error, status in TABLE]
)
def test_each_failure_has_a_fitting_status(error: aiosmrt.AiosmrtError, status: int) -> None:
    refusal = refuse(error)
    assert refusal.status == status
    assert json.loads(refusal.body) == {"error": type(error).__name__}
    headers = dict(refusal.headers)
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"content-length"] == b"%d" % len(refusal.body)
    assert (b"retry-after" in headers) == (status in (429, 503))


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ({}, b"1"),
        ({"retry-after": "0"}, b"1"),
        ({"retry-after": "7"}, b"7"),
        ({"x-amz-retry-after": "1500"}, b"2"),  # milliseconds
        (
            {
                "retry-after": "Sun, 29 Nov 2026 04:00:30 GMT",
                "date": "Sun, 29 Nov 2026 04:00:00 GMT",
            },
            b"30",
        ),
        (
            {
                "retry-after": "Sun, 29 Nov 2026 03:00:00 GMT",
                "date": "Sun, 29 Nov 2026 04:00:00 GMT",
            },
            b"1",
        ),
        ({"retry-after": "soon\r\nset-cookie: a=b"}, b"1"),
        ({"retry-after": "9" * 400}, b"3600"),
    ],
)
def test_what_is_busy_says_when_to_ask_again(asked: dict[str, str], seconds: bytes) -> None:
    error = errors.ThrottlingException("", status=429, headers=asked)
    assert dict(refuse(error).headers)[b"retry-after"] == seconds


def test_a_refusal_says_no_more_than_strangers_may_read() -> None:
    error = errors.ModelError("arn:aws:iam::111122223333:role/x", status=424)
    error.request_id = "7-7-7"
    assert json.loads(refuse(error).body) == {"error": "ModelError (request id 7-7-7)"}
