from __future__ import annotations

import pytest

from aiosmrt.errors import ServiceError, ValidationError
from aiosmrt.local.invocation import find_operation, read_invocation
from aiosmrt.service.model import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_ASYNC,
    OPERATIONS,
    Operation,
)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
def test_an_operation_is_found_by_its_path(operation: Operation) -> None:
    assert find_operation("POST", f"/endpoints/my%20e{operation.path}") == (operation, "my e")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/endpoints/e/invocations"),
        ("POST", "/"),
        ("POST", ""),
        ("POST", "/endpoints/e"),
        ("POST", "/endpoints/e/invocations/"),
        ("POST", "/endpoints/a/b/invocations"),
        ("POST", "/points/e/invocations"),
        ("POST", "/ping"),
    ],
)
def test_anything_else_is_an_unknown_operation(method: str, path: str) -> None:
    with pytest.raises(ServiceError, match="is no operation") as caught:
        find_operation(method, path)
    assert (caught.value.status, caught.value.code) == (404, "UnknownOperationException")


@pytest.mark.parametrize(
    ("operation", "name", "headers", "body", "problem"),
    [
        (INVOKE_ENDPOINT, "-e-", {}, b"{}", "endpoint_name must match"),
        (INVOKE_ENDPOINT, "", {}, b"{}", "endpoint_name "),
        (INVOKE_ENDPOINT, "e" * 64, {}, b"{}", "endpoint_name must be at most 63"),
        (
            INVOKE_ENDPOINT,
            "e",
            {"x-amzn-sagemaker-custom-attributes": "ä"},
            b"{}",
            "custom_attributes must match",
        ),
        (
            INVOKE_ENDPOINT_ASYNC,
            "e",
            {"x-amzn-sagemaker-requestttlseconds": "59"},
            b"{}",
            "request_ttl_seconds must be at least 60",
        ),
        (
            INVOKE_ENDPOINT_ASYNC,
            "e",
            {"x-amzn-sagemaker-requestttlseconds": "1m"},
            b"{}",
            "request_ttl_seconds must be an int",
        ),
        (INVOKE_ENDPOINT_ASYNC, "e", {}, b"", "one of body and input_location is required"),
        (
            INVOKE_ENDPOINT_ASYNC,
            "e",
            {"x-amzn-sagemaker-inputlocation": "s3://b/k"},
            b'{"x": 1}',
            "body and input_location exclude each other",
        ),
    ],
)
def test_what_the_service_model_forbids_is_a_validation_error(
    operation: Operation, name: str, headers: dict[str, str], body: bytes, problem: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        read_invocation(operation, name, headers, body)
    assert caught.value.status == 400
    assert caught.value.message.startswith(f"1 validation error detected: {problem}")


def test_every_problem_is_told_at_once() -> None:
    headers = {"x-amzn-sagemaker-target-variant": "a b", "x-amzn-sagemaker-session-id": "-"}
    with pytest.raises(ValidationError, match="2 validation errors detected: ") as caught:
        read_invocation(INVOKE_ENDPOINT, "e", headers, b"")
    assert "target_variant" in caught.value.message
    assert "session_id" in caught.value.message


def test_an_empty_body_is_a_body_where_one_is_required() -> None:
    assert read_invocation(INVOKE_ENDPOINT, "e", {}, b"").body == b""


def test_an_empty_document_beside_a_location_is_no_body() -> None:
    """SDKs whose model of the operation has no body send one all the same."""
    headers = {"x-amzn-sagemaker-inputlocation": "s3://b/k"}
    request = read_invocation(INVOKE_ENDPOINT_ASYNC, "e", headers, b"{}")
    assert request.input_location == "s3://b/k"
    assert request.body == b""
    # Without a location it is what it says.
    assert read_invocation(INVOKE_ENDPOINT_ASYNC, "e", {}, b"{}").body == b"{}"


@pytest.mark.parametrize("name", [".", "..", "%2e%2e", "a..b"])
def test_dots_are_no_name(name: str) -> None:
    operation, endpoint_name = find_operation("POST", f"/endpoints/{name}/invocations")
    with pytest.raises(ValidationError, match="endpoint_name must match"):
        read_invocation(operation, endpoint_name, {}, b"x")
