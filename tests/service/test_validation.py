from __future__ import annotations

import pytest

from aiosmrt.errors import ParameterError
from aiosmrt.service.model import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_ASYNC,
    INVOKE_ENDPOINT_WITH_RESPONSE_STREAM,
    OPERATIONS,
    Member,
    Operation,
    Shape,
)
from aiosmrt.service.validation import check_headers, check_parameters

GOOD: dict[str, object] = {"endpoint_name": "e", "body": b"x"}


def _problems(operation: Operation, **parameters: object) -> tuple[str, ...]:
    given = {"endpoint_name": "e", "body": b"x"} | parameters
    with pytest.raises(ParameterError) as caught:
        check_parameters(operation, given)
    return caught.value.problems


def test_what_the_model_allows_passes() -> None:
    check_parameters(INVOKE_ENDPOINT, GOOD)
    check_parameters(
        INVOKE_ENDPOINT,
        {
            **GOOD,
            "content_type": "text/csv; charset=utf-8",
            "accept": "",
            "custom_attributes": "a=1",
            "target_model": "model/v1.tar.gz",
            "inference_id": "id 1",
            "session_id": "NEW_SESSION",
            "prefix_aware_id": "p",
            "inference_component_name": "c-1",
            "target_variant": None,
        },
    )
    check_parameters(
        INVOKE_ENDPOINT_ASYNC,
        {
            "endpoint_name": "e",
            "input_location": "s3://bucket/key",
            "s3_output_path_extension": "a/b",
            "filename": "out.json",
            "request_ttl_seconds": 60,
            "invocation_timeout_seconds": 3600,
        },
    )


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        ("endpoint_name", None, "endpoint_name is required"),
        ("endpoint_name", "", "must not be empty"),
        ("endpoint_name", "e" * 64, "at most 63 characters, not 64"),
        ("endpoint_name", "my endpoint", "must match"),
        ("endpoint_name", "e\n", "contains CR, LF or NUL"),
        ("endpoint_name", 7, "must be a str, not int"),
        ("endpoint_name", b"e", "must be a str, not bytes"),
        ("accept", b"text/csv", "must be a str, not bytes"),
        ("body", None, "body is required"),
        ("body", 7, "body must be bytes"),
        ("body", bytes(6_291_457), "at most 6291456 bytes, not 6291457"),
        ("custom_attributes", "a\r\nx-evil: 1", "contains CR, LF or NUL"),
        ("custom_attributes", "a\x01b", "what else no header can hold"),
        ("custom_attributes", "größe", "must match"),
        ("inference_id", "", "at least 1 characters, not 0"),
        ("inference_id", " x", "must match"),
        ("inference_id", "x\x7f", "what else no header can hold"),
        ("session_id", "a_b", "must match"),
    ],
)
def test_each_constraint_is_named_with_its_parameter(
    parameter: str, value: object, words: str
) -> None:
    problems = _problems(INVOKE_ENDPOINT, **{parameter: value})
    assert any(words in problem and parameter in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        ("request_ttl_seconds", 59, "at least 60, not 59"),
        ("request_ttl_seconds", 21601, "at most 21600, not 21601"),
        ("request_ttl_seconds", True, "must be an int, not bool"),
        ("request_ttl_seconds", b"60", "must be an int, not bytes"),
        ("invocation_timeout_seconds", "10", "must be an int, not str"),
        ("filename", "a.b.c", "must match"),
        ("s3_output_path_extension", "s3://x", "must match"),
        ("input_location", "ftp://x/y", "must match"),
        ("body", bytes(128_001), "at most 128000 bytes"),
    ],
)
def test_async_constraints(parameter: str, value: object, words: str) -> None:
    problems = _problems(INVOKE_ENDPOINT_ASYNC, **{parameter: value})
    assert any(words in problem for problem in problems), problems


def test_a_stream_takes_no_new_session() -> None:
    assert _problems(INVOKE_ENDPOINT_WITH_RESPONSE_STREAM, session_id="NEW_SESSION")


def test_exactly_one_of_body_and_input_location() -> None:
    assert _problems(INVOKE_ENDPOINT_ASYNC, input_location="s3://b/k") == (
        "body and input_location exclude each other",
    )
    for body in (None, b""):
        assert _problems(INVOKE_ENDPOINT_ASYNC, body=body) == (
            "one of body and input_location is required",
        )
    check_parameters(
        INVOKE_ENDPOINT_ASYNC, {"endpoint_name": "e", "body": b"", "input_location": "s3://b/k"}
    )


def test_every_problem_is_listed_at_once() -> None:
    problems = _problems(INVOKE_ENDPOINT, endpoint_name="", body=7, inference_id="x" * 65)
    assert len(problems) == 3
    with pytest.raises(ParameterError) as caught:
        check_parameters(INVOKE_ENDPOINT, {})
    assert all(problem in str(caught.value) for problem in caught.value.problems)


def test_a_sensitive_value_is_not_repeated() -> None:
    assert "größe" not in "".join(_problems(INVOKE_ENDPOINT, custom_attributes="größe"))
    assert "grö" in "".join(_problems(INVOKE_ENDPOINT, target_variant="grö"))


def test_constraints_can_be_switched_off_one_by_one() -> None:
    too_long = {**GOOD, "endpoint_name": "e" * 70}
    check_parameters(INVOKE_ENDPOINT, too_long, constraints=())
    check_parameters(INVOKE_ENDPOINT, too_long, constraints={"min", "pattern"})
    with pytest.raises(ParameterError):
        check_parameters(INVOKE_ENDPOINT, too_long, constraints={"max"})


@pytest.mark.parametrize(
    "broken",
    [
        {"endpoint_name": ""},
        {"custom_attributes": "a\nb"},
        {"custom_attributes": "a\0b"},
        {"custom_attributes": "a\x7fb"},
        {"custom_attributes": "a\ud800b"},
        {"custom_attributes": b"ab"},
        {"endpoint_name": b"e"},
        {"body": 7},
        {"body": None},
    ],
)
def test_what_http_cannot_carry_is_refused_whatever_is_switched_off(
    broken: dict[str, object],
) -> None:
    with pytest.raises(ParameterError):
        check_parameters(INVOKE_ENDPOINT, GOOD | broken, constraints=())


def test_an_enumeration_is_checked() -> None:
    # No member of today's model has one; next year's may.
    shape = Shape("Color", enum=("red", "blue"))
    operation = Operation(
        "Paint", "/paint", 200, (Member("Color", shape, header="X-Color"),), (), ()
    )
    check_parameters(operation, {"color": "red"})
    with pytest.raises(ParameterError, match="color must be one of red, blue, not 'green'"):
        check_parameters(operation, {"color": "green"})
    check_parameters(operation, {"color": "green"}, constraints={"min"})


def test_every_pattern_of_the_model_compiles() -> None:
    for operation in OPERATIONS.values():
        for member in operation.request:
            if member.shape.pattern:
                if member.shape.pattern == ".*":
                    continue
                with pytest.raises(ParameterError):
                    check_parameters(operation, {**GOOD, member.parameter: "\x80\x01 é;"})


def test_headers_given_by_hand() -> None:
    check_headers({"X-Amzn-SageMaker-Next-Year": "1"})
    with pytest.raises(ParameterError) as caught:
        check_headers(
            {
                "Host": "elsewhere",
                "bad name": "1",
                "x-split": "a\r\nb: c",
                "Content-Type": "text/plain",
            },
            taken={"content-type"},
        )
    problems = caught.value.problems
    assert len(problems) == 4
    assert "Host is set by the client itself" in problems[0]
    assert "'bad name' is not a header name" in problems[1]
    assert "x-split contains CR, LF or NUL" in problems[2]
    assert "Content-Type is already set by a parameter" in problems[3]


@pytest.mark.parametrize("value", ["a\x01", "\x1fa", "a\x7f", "\ud800"])
def test_headers_hold_what_http_can_carry(value: str) -> None:
    check_headers({"x-a": "a\tb", "x-b": "größe €"})
    with pytest.raises(ParameterError, match="x-a contains"):
        check_headers({"x-a": value})


@pytest.mark.parametrize("headers", [{"x-a": 1}, {1: "x"}])
def test_headers_are_text(headers: dict[str, str]) -> None:
    with pytest.raises(ParameterError, match="must be str"):
        check_headers(headers)
