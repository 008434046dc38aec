from __future__ import annotations

import json

import pytest

from aiosmrt.errors import ModelError
from aiosmrt.local import InvocationRequest
from aiosmrt.local.answers import (
    QueuedInvocation,
    encode_error,
    make_model_error,
    place_output,
)


@pytest.mark.parametrize(
    ("status", "side"),
    [(0, "server"), (302, "server"), (400, "client"), (499, "client"), (500, "server")],
)
def test_a_model_error_has_the_shape_of_the_service(status: int, side: str) -> None:
    headers, body = encode_error(make_model_error("e", status, "no"), "eu-west-1")
    assert headers["x-amzn-errortype"] == "ModelError"
    assert json.loads(body) == {
        "Message": f'Received {side} error ({status}) from primary with message "no"',
        "OriginalStatusCode": status,
        "OriginalMessage": "no",
        "LogStreamArn": "arn:aws:logs:eu-west-1:000000000000:log-group:/aws/sagemaker/Endpoints/e",
        "ErrorCode": f"{side.upper()}_ERROR_FROM_MODEL",
    }


def test_messages_are_cut_where_the_service_model_ends_them() -> None:
    error = make_model_error("e", 500, "x" * 5000)
    assert isinstance(error, ModelError)
    assert len(error.message) == 2048
    assert error.original_message == "x" * 2048


def test_output_and_failure_are_named_after_the_inference_id() -> None:
    placed = place_output(InvocationRequest("InvokeEndpointAsync", "e", inference_id="id"))
    assert placed == QueuedInvocation(
        "id",
        "s3://aiosmrt-local/async-endpoint-outputs/e/id.out",
        "s3://aiosmrt-local/async-endpoint-failures/e/id-error.out",
    )
    assert len({place_output(InvocationRequest("InvokeEndpointAsync", "e")) for _ in range(9)}) == 9


@pytest.mark.parametrize(
    ("extension", "filename", "output"),
    [
        ("/a/b/", None, "a/b/id.out"),
        (None, "c.json", "c.json"),
        ("a", "c", "a/c"),
        ("/", None, "id.out"),
    ],
)
def test_extension_and_filename_place_the_output_alone(
    extension: str | None, filename: str | None, output: str
) -> None:
    placed = place_output(
        InvocationRequest(
            "InvokeEndpointAsync",
            "e",
            inference_id="id",
            s3_output_path_extension=extension,
            filename=filename,
        )
    )
    assert placed.output_location == f"s3://aiosmrt-local/async-endpoint-outputs/e/{output}"
    assert placed.failure_location.endswith("/async-endpoint-failures/e/id-error.out")
