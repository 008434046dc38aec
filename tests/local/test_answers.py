from __future__ import annotations

import datetime
import json
import re

import pytest

from aiosmrt.errors import ModelError
from aiosmrt.local import InvocationRequest
from aiosmrt.local.answers import (
    encode_error,
    make_model_error,
    make_new_session_id,
    place_output,
)

_NOW = datetime.datetime(2026, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("status", "side"),
    [(0, "server"), (302, "server"), (400, "client"), (499, "client"), (500, "server")],
)
def test_a_model_error_has_the_shape_of_the_service(status: int, side: str) -> None:
    headers, body = encode_error(make_model_error("e", status, "no"))
    assert headers["x-amzn-errortype"] == "ModelError"
    assert json.loads(body) == {
        "Message": f'Received {side} error ({status}) from primary with message "no"',
        "OriginalStatusCode": status,
        "OriginalMessage": "no",
        "LogStreamArn": "arn:aws:logs:us-east-1:000000000000:log-group:/aws/sagemaker/Endpoints/e",
        "ErrorCode": f"{side.upper()}_ERROR_FROM_MODEL",
    }


def test_messages_are_cut_where_the_service_model_ends_them() -> None:
    error = make_model_error("e", 500, "x" * 5000)
    assert isinstance(error, ModelError)
    assert len(error.message) == 2048
    assert error.original_message == "x" * 2048


def test_a_session_gets_an_id_and_an_end() -> None:
    made = make_new_session_id(None, _NOW)
    assert re.fullmatch(r"[0-9a-f-]{36}; Expires=2026-02-03T04:25:06Z", made)
    assert make_new_session_id("mine", _NOW) == "mine; Expires=2026-02-03T04:25:06Z"
    whole = "mine; Expires=2030-01-01T00:00:00Z"
    assert make_new_session_id(whole, _NOW) == whole


def test_output_is_placed_by_extension_and_filename() -> None:
    plain = InvocationRequest("InvokeEndpointAsync", "e")
    assert place_output(plain, "id") == {
        "X-Amzn-SageMaker-OutputLocation": "s3://aiosmrt-local/e/output/id.out",
        "X-Amzn-SageMaker-FailureLocation": "s3://aiosmrt-local/e/failure/id-error.out",
    }
    placed = InvocationRequest(
        "InvokeEndpointAsync", "e", s3_output_path_extension="/a/b/", filename="c.json"
    )
    output = place_output(placed, "id")["X-Amzn-SageMaker-OutputLocation"]
    assert output == "s3://aiosmrt-local/e/output/a/b/c.json"
