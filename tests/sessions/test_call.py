"""What a call of a session is given, and what is refused before anything is sent."""

from __future__ import annotations

import io
from typing import Any

import pytest

from aiosmrt.config import Timeout
from aiosmrt.errors import ConfigurationError, ParameterError
from aiosmrt.redaction import Redacted
from aiosmrt.service import INVOKE_ENDPOINT, INVOKE_ENDPOINT_WITH_RESPONSE_STREAM
from aiosmrt.sessions.call import SessionCall, bind, check_common, check_options, lay, write_body
from aiosmrt.sessions.turn import Turn, Turns

_COMMON = check_common(
    {
        "endpoint_name": "e",
        "target_model": "m",
        "target_variant": "blue",
        "headers": {"x-a": "1", "x-b": "1"},
        "timeout": 5,
    }
)


def _bind(operation: Any = INVOKE_ENDPOINT, **given: Any) -> dict[str, Any]:
    return bind(operation, Redacted(given), _COMMON).value


def test_a_calls_own_parameters_win() -> None:
    bound = _bind(body=b"x", target_variant="green", headers={"x-b": "2"}, timeout=1)
    assert bound == {
        "endpoint_name": "e",
        "target_model": "m",
        "target_variant": "green",
        "body": b"x",
        "headers": {"x-a": "1", "x-b": "2"},
        "timeout": 1,
    }
    assert _bind(headers=None)["headers"] == {"x-a": "1", "x-b": "1"}


def test_an_operation_gets_what_it_has() -> None:
    bound = _bind(INVOKE_ENDPOINT_WITH_RESPONSE_STREAM, json={})
    assert sorted(bound) == ["endpoint_name", "headers", "json", "target_variant"]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"session_id": "s"}, TypeError, "takes no session_id: it sends the session's own"),
        ({"session_id": None}, TypeError, "session_id"),
        ({"EndpointName": "e"}, TypeError, "did you mean 'endpoint_name'"),
        ({"endpoint_name": "f"}, ParameterError, "'f': this is a session of 'e'"),
    ],
)
def test_what_a_call_cannot_say(given: dict[str, Any], error: type[Exception], words: str) -> None:
    for operation in (INVOKE_ENDPOINT, INVOKE_ENDPOINT_WITH_RESPONSE_STREAM):
        with pytest.raises(error, match=words):
            _bind(operation, **given)


@pytest.mark.parametrize(
    ("common", "error", "words"),
    [
        ({}, ParameterError, "endpoint_name is required"),
        ({"endpoint_name": None}, ParameterError, "endpoint_name is required"),
        ({"endpoint_name": "e", "body": b""}, TypeError, "'body'.*endpoint_name, content_type"),
        ({"endpoint_name": "e", "session_id": "s"}, TypeError, "'session_id'"),
    ],
)
def test_what_is_not_for_a_whole_session(
    common: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        check_common(common)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("yes", True, 5.0), "reopen='yes'"),
        ((False, 1, 5.0), "in_order=1"),
        *(((False, True, seconds), "close_timeout=") for seconds in (0, -1, True, None, "5")),
    ],
)
def test_options_that_cannot_be_used(options: tuple[object, object, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        check_options(*options)


def test_what_opens_and_closes() -> None:
    assert write_body("open_body", None, _COMMON) is None
    for body in (b"x", "x"):
        written = write_body("open_body", body, _COMMON)
        assert written is not None
        assert written.value["body"] == body
        assert "content_type" not in written.value
    written = write_body("close_body", {"a": [1]}, _COMMON)
    assert written is not None
    assert written.value["body"] == '{"a": [1]}'
    assert written.value["content_type"] == "application/json"
    assert written.value["target_variant"] == "blue"
    assert "timeout" not in written.value


@pytest.mark.parametrize(
    "body", [{"a": float("nan")}, {"a": object()}, {1j: 1}, [1], io.BytesIO(b"x")]
)
def test_what_cannot_open_or_close(body: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^close_body: "):
        write_body("close_body", body, _COMMON)


def test_limits_are_laid_over_those_of_the_session() -> None:
    base = Timeout(first_byte=7, total=9)
    assert lay(None, base) is base
    assert lay(3, base).first_byte == 7
    assert lay(3, base).total == 3


@pytest.mark.parametrize(
    ("parameters", "repeatable"),
    [
        ({"body": b"x"}, True),
        ({"body": "x"}, True),
        ({"body": bytearray(b"x")}, True),
        ({"json": {}}, True),
        ({"body": io.BytesIO(b"x")}, False),
    ],
)
@pytest.mark.asyncio
async def test_what_can_be_sent_again(parameters: dict[str, Any], *, repeatable: bool) -> None:
    call = SessionCall(INVOKE_ENDPOINT, Redacted(parameters), Timeout(), Turn(Turns("e")))
    assert call.is_repeatable is repeatable


@pytest.mark.asyncio
async def test_of_the_total_there_is_less_and_less() -> None:
    call = SessionCall(INVOKE_ENDPOINT, Redacted({}), Timeout(total=60, idle=3), Turn(Turns("e")))
    first, second = call.limit(), call.limit()
    assert first.total is not None
    assert second.total is not None
    assert 50 < second.total <= first.total <= 60
    assert first.idle == 3
    call._began -= 100
    assert call.limit().total == 1e-3
