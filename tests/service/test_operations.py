from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from aiosmrt.errors import (
    AiosmrtError,
    InternalStreamFailure,
    ModelError,
    ModelNotReadyException,
    ModelStreamError,
    ServiceError,
    ThrottlingException,
    UnexpectedMessage,
    UnexpectedResponse,
    ValidationError,
)
from aiosmrt.eventstream import HeaderValue, Message
from aiosmrt.http import ResponseHead
from aiosmrt.models import PayloadPart, ResponseMetadata
from aiosmrt.service.model import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_ASYNC,
    INVOKE_ENDPOINT_WITH_RESPONSE_STREAM,
    OPERATIONS,
)
from aiosmrt.service.operations import (
    build_request,
    check_names,
    check_stream_head,
    parse_error,
    parse_invocation,
    parse_message,
    parse_response,
    parse_session,
)

ORIGIN = "https://runtime.sagemaker.us-east-1.amazonaws.com"


def _head(status: int = 200, **headers: str) -> ResponseHead:
    return ResponseHead(status, {name.replace("_", "-"): v for name, v in headers.items()})


def _metadata(head: ResponseHead) -> ResponseMetadata:
    return ResponseMetadata(None, head.status, head.headers, (), 0.0, 0.0, 0.0)


def _error(status: int, body: object = None, **headers: str) -> AiosmrtError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_error(INVOKE_ENDPOINT, _head(status, **headers), raw)


class TestRequest:
    def test_members_go_where_the_model_says(self) -> None:
        request = build_request(
            INVOKE_ENDPOINT_ASYNC,
            {
                "endpoint_name": "my endpoint/1",
                "content_type": "text/csv",
                "request_ttl_seconds": 60,
                "body": b"1,2",
                "accept": None,
            },
            origin=ORIGIN,
            base_path="/prefix",
            headers={"x-new": "1"},
        )
        assert request.method == "POST"
        assert request.origin == ORIGIN
        assert request.path == "/prefix/endpoints/my%20endpoint%2F1/async-invocations"
        assert request.body == b"1,2"
        assert request.headers == {
            "x-new": "1",
            "x-amzn-sagemaker-content-type": "text/csv",
            "x-amzn-sagemaker-requestttlseconds": "60",
        }

    def test_no_content_type_is_invented(self) -> None:
        request = build_request(INVOKE_ENDPOINT, {"endpoint_name": "e"}, origin=ORIGIN, headers={})
        assert request.headers == {}
        assert request.body == b""

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("endpoint_nam", "'endpoint_name'"),
            ("EndpointName", "'endpoint_name'"),
            ("RequestTTLSeconds", "'request_ttl_seconds'"),
        ],
    )
    def test_an_unknown_keyword_names_the_nearest(self, name: str, meant: str) -> None:
        with pytest.raises(TypeError, match=rf"invoke_endpoint_async\(\).*{name}.*{meant}"):
            check_names(INVOKE_ENDPOINT_ASYNC, {"endpoint_name", name})

    def test_a_strange_keyword_lists_what_there_is(self) -> None:
        with pytest.raises(TypeError, match="it takes endpoint_name, body"):
            check_names(INVOKE_ENDPOINT, {"qqq"})
        with pytest.raises(TypeError, match=r"of the client: client\.with_options\(retry=\.\.\.\)"):
            check_names(INVOKE_ENDPOINT, {"retry"})

    def test_known_keywords_pass(self) -> None:
        check_names(INVOKE_ENDPOINT, {"endpoint_name", "headers", "timeout"})


class TestResponse:
    def test_every_member_is_read(self) -> None:
        head = _head(
            content_type="application/json; charset=utf-8",
            x_amzn_invoked_production_variant="AllTraffic",
            x_amzn_sagemaker_custom_attributes="a=1",
            x_amzn_sagemaker_new_session_id="abc-1; Expires=2026-11-22T10:00:00Z",
            x_amzn_sagemaker_closed_session_id="old",
        )
        response = parse_response(head, b'{"a": [1]}', _metadata(head))
        assert response.body == b'{"a": [1]}'
        assert response.text() == '{"a": [1]}'
        assert response.json() == {"a": [1]}
        assert response.content_type == "application/json; charset=utf-8"
        assert response.invoked_production_variant == "AllTraffic"
        assert response.custom_attributes == "a=1"
        assert response.new_session_id == "abc-1"
        assert response.new_session_expires_at == datetime.datetime(
            2026, 11, 22, 10, tzinfo=datetime.UTC
        )
        assert response.closed_session_id == "old"

    @pytest.mark.parametrize(
        "value", ["a; Expires=2026-11-22T10:00:00Z", "a ;expires= 2026-11-22T10:00:00 "]
    )
    def test_a_session_ends_in_utc_however_that_is_written(self, value: str) -> None:
        ends_at = datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC)
        assert parse_session(value) == ("a", ends_at)

    def test_the_id_of_a_closed_session_is_the_id_alone(self) -> None:
        head = _head(x_amzn_sagemaker_closed_session_id="a; Expires=2026-11-22T10:00:00Z")
        assert parse_response(head, b"", _metadata(head)).closed_session_id == "a"

    @pytest.mark.parametrize(
        ("value", "session_id"), [("abc", "abc"), ("abc; Expires=soon", "abc"), ("a; b=c", "a")]
    )
    def test_a_session_without_a_readable_end(self, value: str, session_id: str) -> None:
        head = _head(x_amzn_sagemaker_new_session_id=value)
        response = parse_response(head, b"", _metadata(head))
        assert response.new_session_id == session_id
        assert response.new_session_expires_at is None

    def test_text_follows_the_charset(self) -> None:
        for content_type in ('text/plain; Charset="latin-1"', "text/plain;x=y; charset=latin-1"):
            head = _head(content_type=content_type)
            assert parse_response(head, b"\xe9", _metadata(head)).text() == "é"
        head = _head(content_type="text/plain; charset=")
        assert parse_response(head, "é".encode(), _metadata(head)).text() == "é"

    @pytest.mark.parametrize(
        ("body", "inference_id"),
        [(b'{"InferenceId": "abc"}', "abc"), (b"", None), (b"<html>", None), (b"[1]", None)],
    )
    def test_an_invocation_is_read_from_body_and_headers(
        self, body: bytes, inference_id: str | None
    ) -> None:
        head = _head(202, x_amzn_sagemaker_outputlocation="s3://o", content_type="text/html")
        invocation = parse_invocation(head, body, _metadata(head))
        assert invocation.inference_id == inference_id
        assert invocation.output_location == "s3://o"
        assert invocation.failure_location is None


class TestError:
    def test_recorded_answers(self, vectors: Path) -> None:
        cases = json.loads((vectors / "http" / "responses.json").read_text())
        checked = 0
        for case in cases:
            if case["status"] < 300:
                continue
            head = ResponseHead(case["status"], {k.lower(): v for k, v in case["headers"].items()})
            error = parse_error(INVOKE_ENDPOINT, head, case["body"].encode())
            assert isinstance(error, ServiceError)
            assert error.code == case["expect"]["code"], case["name"]
            assert error.status == case["status"]
            checked += 1
        assert checked >= 10

    def test_botocores_error_cases(self, vectors: Path) -> None:
        suites = json.loads((vectors / "protocol" / "botocore-rest-json-output.json").read_text())
        checked = 0
        for case in [case for suite in suites for case in suite["cases"]]:
            if "errorCode" not in case:
                continue
            response: dict[str, Any] = case["response"]
            head = ResponseHead(
                response["status_code"],
                {k.lower(): v for k, v in response["headers"].items()},
            )
            error = parse_error(INVOKE_ENDPOINT, head, response.get("body", "").encode())
            assert isinstance(error, ServiceError)
            assert error.code == case["errorCode"], case["id"]
            checked += 1
        assert checked >= 5

    def test_every_modelled_error_has_its_class(self) -> None:
        for operation in OPERATIONS.values():
            for code in operation.errors:
                error = parse_error(operation, _head(400, x_amzn_errortype=code), b"{}")
                assert type(error).__name__ == code

    def test_a_model_error_shows_what_the_model_said(self) -> None:
        error = _error(
            424,
            {
                "ErrorCode": "CLIENT_ERROR_FROM_MODEL",
                "LogStreamArn": "arn:aws:logs:eu-west-1:1:log-group:/aws/sagemaker/Endpoints/demo",
                "Message": "Received client error (400) from primary with message ...",
                "OriginalMessage": '{"code": 400, "message": "bad tensor"}',
                "OriginalStatusCode": 400,
            },
            x_amzn_errortype="ModelError",
            x_amzn_requestid="r-1",
        )
        assert isinstance(error, ModelError)
        assert error.original_status_code == 400
        assert error.original_message == '{"code": 400, "message": "bad tensor"}'
        assert error.original_json == {"code": 400, "message": "bad tensor"}
        assert error.fields["ErrorCode"] == "CLIENT_ERROR_FROM_MODEL"
        assert error.request_id == "r-1"
        assert error.may_have_run
        assert error.log_url == (
            "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1"
            "#logsV2:log-groups/log-group/$252Faws$252Fsagemaker$252FEndpoints$252Fdemo"
        )
        text = str(error)
        assert "the model answered 400: bad tensor" in text
        assert error.log_url in text
        assert "r-1" in text

    def test_a_model_that_ran_out_of_its_sixty_seconds_is_told_the_ways_out(self) -> None:
        said = "Your invocation timed out while waiting for a response from container primary."
        error = _error(424, {"Message": said}, x_amzn_errortype="ModelError")
        assert "had 60 seconds: use invoke_endpoint_with_response_stream" in str(error)
        # What the model says of a time-out of its own is something else.
        error = _error(424, {"Message": "database timed out"}, x_amzn_errortype="ModelError")
        assert "invoke_endpoint_with_response_stream" not in str(error)
        # A container that crashed has the same status.
        error = _error(424, {"OriginalStatusCode": 0}, x_amzn_errortype="ModelError")
        assert "60 seconds" not in str(error)
        assert "the model did not answer: " in str(error)

    @pytest.mark.parametrize("body", [{"message": None}, {}, b""])
    def test_throttling_without_a_message_is_readable(self, body: object) -> None:
        error = _error(400, body, x_amzn_errortype="ThrottlingException")
        assert isinstance(error, ThrottlingException)
        assert not error.may_have_run
        assert "too many requests" in str(error)
        assert "max_connections" in str(error)

    @pytest.mark.parametrize("code", ["Throttling", "TooManyRequestsException"])
    def test_throttling_has_many_names(self, code: str) -> None:
        error = _error(400, {"message": "slow"}, x_amzn_errortype=code)
        assert isinstance(error, ThrottlingException)
        assert error.code == code

    def test_a_proxys_page_is_quoted(self) -> None:
        error = _error(502, b"<html>\n  <h1>Bad   gateway</h1>" + b"x" * 1000)
        assert isinstance(error, ServiceError)
        assert error.code == "502"
        assert error.message.startswith("<html> <h1>Bad gateway</h1>xxx")
        assert error.message.endswith("…")
        assert len(error.message) < 250

    def test_json_too_deep_is_no_crash(self) -> None:
        assert isinstance(_error(500, b"[" * 100_000), ServiceError)

    def test_a_redirect_names_the_place(self) -> None:
        error = _error(307, b"moved", location="https://elsewhere/")
        assert isinstance(error, UnexpectedResponse)
        assert "https://elsewhere/" in str(error)
        assert error.body_start == b"moved"
        assert "nowhere" in str(_error(302))

    @pytest.mark.parametrize(
        ("code", "advice"),
        [("AccessDeniedException", "sagemaker:InvokeEndpoint"), ("ExpiredTokenException", "fetch")],
    )
    def test_advice_where_there_is_some(self, code: str, advice: str) -> None:
        error = _error(403, {"message": "no"}, x_amzn_errortype=code)
        assert type(error) is ServiceError
        assert advice in str(error)

    @pytest.mark.parametrize(
        ("status", "code", "may_have_run"),
        [
            (400, "ValidationError", False),
            (403, "AccessDeniedException", False),
            (424, "ModelError", True),
            (429, "ModelNotReadyException", False),
            (500, "InternalFailure", True),
            (500, "", True),
            (502, "", True),
            (503, "ServiceUnavailable", False),
            (503, "", False),
            (504, "", True),
            (530, "InternalDependencyException", False),
            (500, "ThrottlingException", False),
        ],
    )
    def test_whether_the_model_may_have_run(
        self, status: int, code: str, may_have_run: bool
    ) -> None:
        assert _error(status, {}, x_amzn_errortype=code).may_have_run is may_have_run

    def test_not_ready_says_wait(self) -> None:
        error = _error(429, {}, x_amzn_errortype="ModelNotReadyException")
        assert isinstance(error, ModelNotReadyException)
        assert "Wait" in str(error)
        assert "the service gave no message" in str(error)

    def test_validation(self) -> None:
        error = _error(400, {"Message": "no such endpoint"}, x_amzn_errortype="ValidationError")
        assert isinstance(error, ValidationError)
        assert error.message == "no such endpoint"


class TestStreamHead:
    def test_the_type_may_have_parameters(self) -> None:
        head = _head(content_type="Application/vnd.amazon.eventstream; x=y")
        assert check_stream_head(head) is None

    @pytest.mark.parametrize("content_type", ["application/json", ""])
    def test_another_type_is_named(self, content_type: str) -> None:
        wrong = check_stream_head(_head(content_type=content_type))
        assert wrong is not None
        assert (content_type or "missing") in wrong


class TestMessage:
    def _parse(
        self, headers: dict[str, HeaderValue], payload: bytes = b""
    ) -> PayloadPart | ServiceError | str:
        return parse_message(INVOKE_ENDPOINT_WITH_RESPONSE_STREAM, Message(headers, payload))

    def test_a_part(self) -> None:
        headers: dict[str, HeaderValue] = {":event-type": "PayloadPart", ":message-type": "event"}
        assert self._parse(headers, b"abc") == PayloadPart(b"abc")

    def test_an_unknown_event_is_skipped_with_a_reason(self) -> None:
        meaning = self._parse({":message-type": "event", ":event-type": "Trace"}, b"abc")
        assert meaning == "unknown event type 'Trace'"

    def test_model_stream_error(self) -> None:
        error = self._parse(
            {":message-type": "exception", ":exception-type": "ModelStreamError"},
            b'{"Message": "broke", "ErrorCode": "StreamBroken"}',
        )
        assert isinstance(error, ModelStreamError)
        assert error.error_code == "StreamBroken"
        assert error.message == "broke"
        assert error.may_have_run
        assert "StreamBroken" in str(error)

    def test_a_stream_that_ran_out_of_time_names_the_way_out(self) -> None:
        error = self._parse(
            {":message-type": "exception", ":exception-type": "ModelStreamError"},
            b'{"ErrorCode": "ModelInvocationTimeExceeded"}',
        )
        assert "invoke_endpoint_async" in str(error)
        assert "60 seconds" not in str(error)
        assert "invoke_endpoint_with_response_stream" not in str(error)

    @pytest.mark.parametrize(
        "code",
        ["InternalStreamFailure", "ModelStreamError", "ModelError", "ThrottlingException", "X"],
    )
    def test_an_error_inside_a_stream_has_no_status_of_a_success(self, code: str) -> None:
        error = self._parse(
            {":message-type": "exception", ":exception-type": code}, b'{"Message": "no"}'
        )
        assert isinstance(error, ServiceError)
        assert error.status == 200
        assert str(error).startswith(f"{code}: ")
        assert "HTTP" not in str(error)

    def test_internal_stream_failure_without_a_payload(self) -> None:
        error = self._parse(
            {":message-type": "exception", ":exception-type": "InternalStreamFailure"}
        )
        assert isinstance(error, InternalStreamFailure)

    def test_an_unknown_exception_is_raised_with_its_text(self) -> None:
        error = self._parse({":message-type": "exception", ":exception-type": "New"}, b"oh no")
        assert isinstance(error, ServiceError)
        assert (error.code, error.message, error.body) == ("New", "oh no", b"oh no")
        error = self._parse({":message-type": "exception"})
        assert isinstance(error, ServiceError)
        assert error.code == "unknown"

    def test_an_error_message(self) -> None:
        error = self._parse(
            {":message-type": "error", ":error-code": "Boom", ":error-message": "it broke"}
        )
        assert isinstance(error, ServiceError)
        assert (error.code, error.message) == ("Boom", "it broke")
        assert error.may_have_run

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {":message-type": True},
            {":message-type": "Event"},
            {":message-type": "event"},
            {":message-type": "event", ":event-type": 7},
        ],
    )
    def test_a_frame_that_does_not_say_what_it_is(self, headers: dict[str, HeaderValue]) -> None:
        with pytest.raises(UnexpectedMessage):
            self._parse(headers)
