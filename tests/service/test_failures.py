"""What a refusal means, by the service's words; codes and statuses are in `test_operations.py`."""

from __future__ import annotations

import json

import pytest

from aiosmrt.errors import AiosmrtError, ConnectionLost
from aiosmrt.http import ResponseHead
from aiosmrt.service import (
    lacks_capacity,
    lacks_endpoint,
    parse_error,
    refuses_session,
    took_its_time,
)
from aiosmrt.service.model import INVOKE_ENDPOINT, INVOKE_ENDPOINT_WITH_RESPONSE_STREAM

NO_CAPACITY = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be "
    "in-progress (if configured) or try to increase the capacity by invoking "
    "UpdateInferenceComponentRuntimeConfig API."
)


def _refused(message: str, code: str = "ValidationError", status: int = 400) -> AiosmrtError:
    body = json.dumps({"Message": message}).encode()
    return parse_error(INVOKE_ENDPOINT, ResponseHead(status, {"x-amzn-errortype": code}), body)


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (_refused(NO_CAPACITY), True),
        (_refused("Variant a has NO CAPACITY"), True),
        (_refused("being loaded", "ModelNotReadyException", 429), True),
        (_refused("capacity"), False),
        (_refused("monocapacity"), False),
        (_refused(NO_CAPACITY, "ModelError", 424), False),  # a model's own words
        (_refused(NO_CAPACITY, "AccessDeniedException", 403), False),
        (_refused(NO_CAPACITY, "ThrottlingException"), False),
        (ConnectionLost("no capacity"), False),
    ],
)
def test_want_of_capacity(error: AiosmrtError, *, lacks: bool) -> None:
    assert lacks_capacity(error) is lacks
    assert ("RetryPolicy(capacity_wait=600)" in str(error)) is lacks


def test_a_stream_that_has_begun_does_not_want_capacity() -> None:
    error = _refused("being loaded", "ModelNotReadyException", 429)
    error.may_have_run = True
    assert not lacks_capacity(error)


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (_refused("Endpoint e of account 123456789012 not found."), True),
        (_refused('Could not find endpoint "arn:aws:sagemaker:us-east-1:1:endpoint/e".'), True),
        (_refused("Inference Component c does not exist"), True),
        (_refused("endpoint e not found", "ResourceNotFound", 404), True),
        (_refused("Endpoint e is not in service"), False),
        (_refused("Variant v not found"), False),
        (_refused("Endpoint e of account 1 not found.", "ModelError", 424), False),
        (ConnectionLost("endpoint not found"), False),
    ],
)
def test_an_endpoint_that_is_not_there(error: AiosmrtError, *, lacks: bool) -> None:
    assert lacks_endpoint(error) is lacks


@pytest.mark.parametrize(
    ("code", "original", "seconds", "took"),
    [
        ("ModelError", 0, 60.2, True),
        ("ModelError", 0, 2.0, False),  # a crash, a container that was not reached
        ("ModelError", 500, 61.0, False),
        ("ModelError", None, 61.0, False),
        ("InternalFailure", 0, 61.0, False),
    ],
)
def test_a_container_that_had_its_time(
    code: str, original: int | None, seconds: float, *, took: bool
) -> None:
    body = json.dumps({"OriginalStatusCode": original}).encode()
    error = parse_error(INVOKE_ENDPOINT, ResponseHead(424, {"x-amzn-errortype": code}), body)
    assert took_its_time(error, seconds) is took


def test_a_stream_that_did_not_begin_in_time_is_not_sent_to_streams() -> None:
    body = b'{"Message": "Your invocation timed out while waiting for a response from container"}'
    head = ResponseHead(424, {"x-amzn-errortype": "ModelError"})
    said = str(parse_error(INVOKE_ENDPOINT_WITH_RESPONSE_STREAM, head, body))
    assert "invoke_endpoint_async" in said
    assert "60 seconds" not in said
    assert "invoke_endpoint_with_response_stream" not in said


def _answered(status: int, said: str) -> AiosmrtError:
    fields = {
        "Message": f'Received client error ({status}) from primary with message "{said}"',
        "OriginalStatusCode": status,
        "OriginalMessage": said,
    }
    head = ResponseHead(424, {"x-amzn-errortype": "ModelError"})
    return parse_error(INVOKE_ENDPOINT, head, json.dumps(fields).encode())


_ID = "0a1b-2c3d-closed"


@pytest.mark.parametrize(
    ("error", "refuses"),
    [
        # As vLLM, LMI and SAM 2 say it.
        (_answered(400, f'{{"detail":"Bad request: session not found: {_ID}"}}'), True),
        (_answered(424, f"Failed to close session: session not found: {_ID}"), True),
        (_answered(500, f"Cannot find session {_ID}; it might have expired"), True),
        (_answered(404, "No such session"), True),
        (_answered(410, f"The session {_ID} is closed"), True),
        (_answered(400, "Your Session has EXPIRED"), True),
        (_refused(f"Session {_ID} does not exist"), True),
        (_answered(400, "Invalid payload. stateful sessions not enabled"), False),
        (_answered(400, "X-Amzn-SageMaker-Session-Id header not supported"), False),
        (_answered(400, f"Session {_ID}: the image is too large"), False),
        (_answered(400, "model not found"), False),
        (_answered(500, "the database session is closed"), False),
        (_answered(0, "session expired"), False),
        (_answered(400, "Session begun. The file was not found"), False),
        (_refused("Endpoint e of account 123456789012 not found."), False),
        (ConnectionLost("session not found"), False),
    ],
)
def test_a_session_that_is_no_more(error: AiosmrtError, *, refuses: bool) -> None:
    assert refuses_session(error, _ID) is refuses


@pytest.mark.parametrize("session_id", ["s", "e", "1"])
def test_an_id_may_be_part_of_a_word(session_id: str) -> None:
    error = _answered(400, f"Bad request: session expired: {session_id}")
    assert refuses_session(error, session_id)
    assert not refuses_session(_answered(500, "the pool's session is closed"), "o")
