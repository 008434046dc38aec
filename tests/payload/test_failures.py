"""What model servers report inside a success: their forms, and what only looks like one."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.models import JSONValue
from aiosmrt.payload import failures
from aiosmrt.payload.failures import find_failure, name_failure, names_failure


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"error": "Test error"}, "Test error"),
        ({"error": {"message": "Test error", "code": 500}}, "Test error"),
        ({"error": {"reason": "x"}}, '{"reason": "x"}'),
        ({"error": {"message": 7}}, '{"message": 7}'),
        ({"error": ["x"]}, '["x"]'),
        ({"error": "\ud800"}, "\ufffd"),
        ({"error": None}, None),
        ({"error": ""}, None),
        ({}, None),
        ([{"error": "x"}], None),
        ("error", None),
    ],
)
def test_errors_that_models_report(document: JSONValue, message: str | None) -> None:
    error = find_failure(document)
    assert (error and error.message) == message
    if error is not None:
        assert error.status == 200
        assert error.fields == document


# Who writes it, what it says, and its code.
REPORTS: list[tuple[str, JSONValue, str, str | None]] = [
    ("LMI, an empty text and a code", {"error": "", "code": 424}, "", "424"),
    ("TGI", {"error": "oom", "error_type": "generation"}, "oom", "generation"),
    ("LMI on vLLM", {"error_type": "X", "error_message": "boom"}, "boom", "X"),
    (
        "a token of LMI",
        {
            "token": {"id": -1, "text": "", "special_token": True, "error_msg": "CUDA"},
            "generated_text": "a",
            "details": {"finish_reason": "error"},
        },
        "CUDA",
        None,
    ),
    ("vLLM, older", {"object": "error", "message": "boom", "code": 500}, "boom", "500"),
    (
        "vLLM and SGLang",
        {"error": {"message": "boom", "type": "BadRequestError", "param": None, "code": 400}},
        "boom",
        "400",
    ),
    (
        "SGLang's own route",
        {
            "text": "a",
            "meta_info": {
                "finish_reason": {"type": "abort", "message": "dead", "status_code": 503}
            },
        },
        "dead",
        "503",
    ),
    ("NIM", {"object": "error", "message": "boom", "detail": {}, "code": 500}, "boom", "500"),
    ("Triton, TensorFlow Serving, MLServer, Ollama", {"error": "boom"}, "boom", None),
    (
        "TorchServe and the Java side of LMI",
        {"code": 503, "type": "InternalServerException", "message": "Prediction failed"},
        "Prediction failed",
        "503",
    ),
    ("FastAPI", {"detail": "boom"}, "boom", None),
    (
        "FastAPI on its input",
        {"detail": [{"loc": ["body"], "msg": "required", "type": "missing"}]},
        "required",
        None,
    ),
    (
        "problem details",
        {"type": "about:blank", "title": "x", "status": 500, "detail": "boom"},
        "boom",
        "500",
    ),
    (
        "Anthropic",
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        "Overloaded",
        "overloaded_error",
    ),
    (
        "OpenAI's Responses",
        {
            "type": "response.failed",
            "response": {"status": "failed", "error": {"code": "server_error", "message": "boom"}},
        },
        "boom",
        "server_error",
    ),
    (
        "OpenAI's Responses, their own event",
        {"type": "error", "code": "ERR", "message": "boom", "param": None},
        "boom",
        "ERR",
    ),
    (
        "OpenAI's error without its envelope",
        {"message": "boom", "type": "server_error", "param": None, "code": None},
        "boom",
        "server_error",
    ),
    (
        "OpenRouter",
        {"choices": [{"delta": {"content": ""}, "error": {"code": 502, "message": "boom"}}]},
        "boom",
        "502",
    ),
    ("AWS", {"Message": "boom", "ErrorCode": "StreamBroken"}, "boom", "StreamBroken"),
    ("AWS's JSON", {"__type": "ThrottlingException", "message": "slow"}, "slow", None),
    ("Bedrock", {"internalServerException": {"message": "boom"}}, "boom", None),
    ("a status in words", {"status": "error", "message": "boom"}, "boom", None),
    ("a status as text", {"status": "500", "message": "boom"}, "boom", "500"),
    (
        "a status of HTTP's",
        {"statusCode": 502, "body": "x"},
        '{"statusCode": 502, "body": "x"}',
        "502",
    ),
    ("other words for it", {"err": "boom"}, "boom", None),
    ("a code of its own", {"error": "", "code": -1}, "", "-1"),
    ("names with dots", {"error.message": "boom", "error.type": "X"}, "boom", "X"),
    ("a status alone", {"code": 500, "data": None}, '{"code": 500, "data": null}', "500"),
    ("no success", {"success": False, "message": "boom"}, "boom", None),
    ("a flag and words", {"error": True, "message": "boom"}, "boom", None),
    ("a number and words", {"error": 7, "message": "boom"}, "boom", "7"),
    ("a list", {"errors": [{"message": "boom"}]}, "boom", None),
    ("envelopes", {"error": {"error": {"message": "boom", "code": 1}}}, "boom", "1"),
    ("other cases", {"Error": {"Message": "boom"}, "ErrorType": "X"}, "boom", "X"),
    ("a name alone", {"object": "error"}, '{"object": "error"}', None),
    ("words that say no", {"error": {"message": "no"}}, "no", None),
]


@pytest.mark.parametrize(
    ("document", "message", "code"),
    [report[1:] for report in REPORTS],
    ids=[report[0] for report in REPORTS],
)
def test_every_form_is_a_failure(document: JSONValue, message: str, code: str | None) -> None:
    failure = find_failure(document)
    assert failure is not None
    assert failure.message == message
    if code is not None:
        assert failure.error_code == code
        assert code in str(failure)
    again = pickle.loads(pickle.dumps(failure))
    assert (str(again), again.error_code) == (str(failure), failure.error_code)


FAILED = [
    "error",
    "abort",
    "aborted",
    "cancelled",
    "canceled",
    "timeout",
    "failed",
    "network_error",
    "server_error",
    "ERROR",
    "USER_CANCEL",
    "insufficient_system_resource",
    "ERROR_LIMIT",
    "internal-error",
]
ENDED = [
    "stop",
    "length",
    "eos",
    "eos_token",
    "stop_sequence",
    "tool_calls",
    "function_call",
    "content_filter",
    "refusal",
    "end_turn",
    "max_tokens",
    "model_length",
    "COMPLETE",
    "FINISHED",
    "sensitive",
    "load",
    "pause_turn",
]
PLACES = [
    lambda reason: {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
    lambda reason: {"choices": [{"message": {"content": "a"}, "finish_reason": reason}]},
    lambda reason: {"token": {"text": ""}, "details": {"finish_reason": reason}},
    lambda reason: {"meta_info": {"finish_reason": {"type": reason}}},
    lambda reason: {"finish_reason": reason, "is_finished": True},
    lambda reason: {"type": "message_delta", "delta": {"stop_reason": reason}},
    lambda reason: {"done": True, "done_reason": reason},
    lambda reason: {"finishReason": reason},
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("reason", FAILED)
def test_a_reason_to_end_may_be_a_failure(place: Any, reason: str) -> None:
    failure = find_failure(place(reason))
    assert failure is not None
    assert reason in str(failure)
    assert failure.error_code == reason
    assert find_failure(place(reason), by_reason=False) is None


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("reason", [*ENDED, None, "", 7])
def test_other_reasons_are_ends_of_the_models(place: Any, reason: object) -> None:
    assert find_failure(place(reason)) is None


SOUND: list[JSONValue] = [
    {"error": None},
    {"error": ""},
    {"error": " "},
    {"error": False},
    {"error": 0},
    {"error": []},
    {"error": {}},
    {"error": [None]},
    {"error": "None"},
    {"error": "null"},
    {"error": {"message": None, "code": None}},
    {"error": {"message": "", "code": 0}},
    {"errors": [], "error_code": 0, "error_msg": "success", "token": {"text": "a"}},
    {"error": None, "code": 200, "message": "fine"},
    {"error": "", "code": 0},
    {"error": "", "code": 200},
    {"error": "", "status": True},
    {"error": "", "code": 7, "token": {"text": "a"}},
    {"error": None, "token": {"text": "a"}, "code": 500},
    {"token": {"text": "error", "error_msg": None}, "error": None},
    # What a model says of errors, and what its tokens are called.
    {"choices": [{"delta": {"content": '{"error": "boom"}'}}], "error": None},
    {"choices": [{"delta": {"content": "error"}}]},
    {"choices": [{"text": "error", "logprobs": {"top_logprobs": [{"error": -0.1}]}}]},
    {"token": {"text": "error", "type": "error"}},
    {"outputs": ["error"]},
    {"message": "an error happened"},
    {"message": {"role": "assistant", "content": "error"}, "done": False},
    {"code": "raise ValueError('error')"},
    {"code": 404, "answer": "x"},
    {"detail": "x", "token": {"text": "a"}},
    # An error's measure is none.
    {"error": 0.02, "prediction": 1.0},
    {"error": 3, "prediction": 1.0},
    {"standard_error": 3, "error_rate": 0.5},
    # What failed is part of what the model did, or the user's own word.
    {"type": "response.mcp_call.failed", "item_id": "x"},
    {"type": "response.output_item.done", "item": {"type": "mcp_call", "error": "boom"}},
    {"type": "response.created", "response": {"status": "in_progress", "error": None}},
    {"type": "response.incomplete", "response": {"status": "incomplete", "error": None}},
    {"choices": [{"finish_reason": "stop", "stop_reason": "error"}]},
    {"choices": [{"stop_reason": "error", "finish_reason": "stop"}]},
    {"type": "ping"},
    {"status": "processing", "message": "step 1"},
    {"object": "chat.completion.chunk", "choices": [], "usage": {"completion_tokens": 2}},
    {"x" * 50 + "error": "boom"},
]


@pytest.mark.parametrize("document", SOUND, ids=repr)
def test_what_only_looks_like_a_failure_is_none(document: JSONValue) -> None:
    assert find_failure(document) is None


def test_where_a_text_was_found_a_detail_is_none() -> None:
    assert find_failure({"detail": "a"}) is not None
    assert find_failure({"detail": "a"}, has_text=True) is None
    assert find_failure({"error": "a"}, has_text=True) is not None


@pytest.mark.parametrize("wrap", ["error", "response", "choices", "delta", "error_message"])
def test_any_nesting_is_read(wrap: str) -> None:
    nested: JSONValue = None
    for _ in range(100_000):
        nested = [nested] if wrap == "error" else {wrap: nested}
    failure = find_failure({"error": nested})
    assert failure is not None
    assert "nested too deeply" in str(failure)
    find_failure({wrap: nested})  # and says nothing, or fails in its own words


@pytest.mark.parametrize(
    ("name", "is_failure"),
    [
        *((name, True) for name in ("error", "Error", "exception", "stream_error", "fatal")),
        *((name, True) for name in ("InternalServerException", "response.failed", "timeout")),
        *((name, False) for name in ("message", "", "ping", "tool_error", "no_error", "done")),
        *((name, False) for name in ("an error", "e" * 41 + "_error", "terror", "response.done")),
    ],
)
def test_names_of_failures(name: str, is_failure: bool) -> None:
    assert names_failure(name) == is_failure


@pytest.mark.parametrize(
    ("data", "document", "message", "code"),
    [
        ("overloaded", None, "overloaded", "error"),
        ('"overloaded"', "overloaded", "overloaded", "error"),
        ("", None, "", "error"),
        ("[1]", [1], "[1]", "error"),
        ("…", {"message": "boom", "code": 7}, "boom", "7"),
        ("…", {"error": {"message": "boom"}}, "boom", None),
        ("…", {"reason": "x"}, '{"reason": "x"}', "error"),
        ("…", {}, "{}", "error"),
    ],
)
def test_an_event_that_is_called_an_error_is_one(
    data: str, document: JSONValue, message: str, code: str | None
) -> None:
    failure = name_failure("error", data, document)
    assert (failure.message, failure.error_code) == (message, code)


_names = st.sampled_from(
    [*failures._ROLES, "finish_reason", "stop_reason", "error_msg", "internalException", "text"]
)
_values = st.recursive(
    st.sampled_from(
        ["error", "", "stop", "boom", "response.failed", 0, 200, 500, True, False, None]
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(_names, _values, max_size=4))
def test_the_quick_look_passes_over_no_failure(document: dict[str, Any]) -> None:
    quick = failures._is_silent(document, failures._DEPTH)
    reports = [
        *failures._collect(document, failures._DEPTH, whole=True, has_text=False),
        *failures._collect_reasons(document, failures._DEPTH),
    ]
    assert not (quick and reports)
    assert (find_failure(document) is not None) == bool(reports)


def test_what_is_remembered_of_names_is_bounded() -> None:
    for number in range(2000):
        find_failure({f"name {number}": 1, "type": f"type {number}", "x" * 10_000: 1})
    for known in (failures._classify, failures._judge_name):
        assert known.cache_info().currsize <= 512
