"""The error tree: its drawing, its words, its way through pickle."""

from __future__ import annotations

import copy
import datetime
import inspect
import pickle
import re

import pytest

from aiosmrt import errors
from aiosmrt.async_inference.invocation import AsyncInferenceTimeout, AsyncInvocation
from aiosmrt.errors import (
    AiosmrtError,
    ClientClosed,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    FirstByteTimeout,
    InternalStreamFailure,
    InvalidLength,
    ModelError,
    ModelStreamError,
    ParameterError,
    ServiceError,
    StreamConnectionLost,
    TimeLimitError,
    TotalTimeout,
    TruncatedStream,
    UnexpectedResponse,
    ValidationError,
)
from aiosmrt.models import Attempt

# One lives beside the value that it carries.
CLASSES = [*(getattr(errors, name) for name in errors.__all__), AsyncInferenceTimeout]

ATTEMPTS = (
    Attempt(
        number=1,
        started_at=datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC),
        slot_wait=0.25,
        duration=1.5,
        status=503,
        error="ServiceUnavailable",
        request_id="first",
        delay=0.05,
    ),
    Attempt(
        number=2,
        started_at=datetime.datetime(2026, 11, 22, 11, tzinfo=datetime.UTC),
        slot_wait=0.0,
        duration=70.0,
        may_have_run=True,
    ),
)

# A value for each keyword that any error takes.
_VALUES = {
    "problems": ("a is required", "b is too long"),
    "status": 424,
    "headers": {"content-type": "text/html"},
    "body": b"<html>",
    "code": "SomethingException",
    "fields": {
        "OriginalStatusCode": 500,
        "OriginalMessage": "out of memory",
        "LogStreamArn": "arn:aws:logs:us-east-1:1:log-group:g",
        "ErrorCode": "StreamBroken",
    },
    "advice": "Try less.",
    "inference_id": "i-1",
    "failure_location": "s3://bucket/failure",
    "invocation": AsyncInvocation("i-1", "s3://bucket/output", "s3://bucket/failure"),
    "seconds": 70.0,
    "offset": 1234,
    "limit": "first_byte",
    "session_id": "s-1",
    "expires_at": datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC),
    "reason": "closed",
}


def _build(kind: type[AiosmrtError]) -> AiosmrtError:
    taken = inspect.signature(kind).parameters
    return kind("what happened", **{name: _VALUES[name] for name in list(taken)[1:]})


def _attributes(error: AiosmrtError) -> dict[str, object]:
    return {
        name: getattr(error, name, None)
        for name in dir(error)
        # `characters_written` is there in every OSError, and fails.
        if not name.startswith("_") and not callable(getattr(error, name, None))
    }


def _read_drawing() -> dict[str, set[str]]:
    """Give each drawn class with its bases, from the tree in the module's docstring."""
    tree = (errors.__doc__ or "").partition("::\n\n")[2].partition("\n\n")[0]
    drawn: dict[str, set[str]] = {}
    line_of_parents: dict[int, str] = {}
    depth = 0
    for line in inspect.cleandoc(tree).splitlines():
        rails = re.match(r"[│ ]*(?:├── |└── )?", line)
        assert rails is not None
        text = line[rails.end() :].partition("  ")[0].rstrip(",")
        if not rails[0].endswith(" ") or "── " in rails[0]:
            depth = rails.end() // 4
        elif rails.end() != depth * 4:
            continue  # it goes on with a description
        for name, other in re.findall(r"(\w+)(?: \((\w+)\))?", text):
            drawn[name] = {line_of_parents[depth - 1]} if depth else {"Exception"}
            drawn[name] |= {other} - {""}
            line_of_parents[depth] = name
    return drawn


def test_the_drawing_shows_every_class_and_its_bases() -> None:
    there_are = {
        kind.__name__: {base.__name__ for base in kind.__bases__}
        for kind in (*vars(errors).values(), AsyncInferenceTimeout)
        if inspect.isclass(kind) and issubclass(kind, BaseException)
    }
    assert _read_drawing() == there_are
    assert set(there_are) == {*errors.__all__, "AsyncInferenceTimeout"}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_the_attributes_of_a_call(kind: type[AiosmrtError]) -> None:
    error = kind("what happened")
    assert (error.operation, error.endpoint_name, error.request_id) == (None, None, None)
    assert (error.attempts, error.may_have_run) == ((), False)
    assert (error.parts_received, error.bytes_received) == (None, None)
    assert "what happened" in str(error)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_pickled_with_all_that_it_says(
    kind: type[AiosmrtError], protocol: int
) -> None:
    error = _build(kind)
    error.operation = "InvokeEndpoint"
    error.endpoint_name = "my-endpoint"
    error.request_id = "7-7-7"
    error.attempts = ATTEMPTS
    error.may_have_run = True
    error.parts_received, error.bytes_received = 3, 1000
    error.not_retried = "it was the last"
    error.add_note("the body is elsewhere")
    for other in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(other) is kind
        assert _attributes(other) == _attributes(error)
        assert str(other) == str(error)
        assert other.attempts == ATTEMPTS
        assert str(other).endswith("; not attempted again: it was the last")
        assert other.__notes__ == ["the body is elsewhere"]


def test_a_copy_is_an_error_that_was_not_raised_yet() -> None:
    class Own(ModelError):
        def __init__(self, status: int, *, reason: str) -> None:
            super().__init__(reason, status=status)

    with pytest.raises(Own) as caught:
        raise Own(424, reason="no") from OSError("because")
    error = caught.value
    error.add_note("first")
    copied = copy.copy(error)
    copied.add_note("second")
    copied.operation = "InvokeEndpoint"
    assert (type(copied), copied.args, copied.status) == (Own, ("no",), 424)
    assert (copied.__traceback__, copied.__context__) == (None, None)
    assert copied.__cause__ is error.__cause__
    assert (error.__notes__, error.operation) == (["first"], None)
    assert error.__traceback__ is not None


@pytest.mark.parametrize(
    ("operation", "seconds"),
    [
        ("InvokeEndpoint", 59.9),
        ("InvokeEndpointAsync", 70.0),
        ("InvokeEndpointWithResponseStream", 70.0),
    ],
)
def test_who_did_not_give_the_model_its_time_is_shown_no_way_out(
    operation: str, seconds: float
) -> None:
    error = FirstByteTimeout("no byte came", limit="first_byte", seconds=seconds)
    error.operation = operation
    assert str(error) == f"no byte came [{operation}]"


def test_an_error_says_which_call_it_was_and_what_became_of_it() -> None:
    error = FirstByteTimeout("no byte came within 70 s", limit="first_byte", seconds=70.0)
    assert str(error) == "no byte came within 70 s"
    error.operation = "InvokeEndpoint"
    error.endpoint_name = "my-endpoint"
    error.request_id = "7-7-7"
    error.attempts = ATTEMPTS
    error.may_have_run = True
    assert str(error) == (
        "no byte came within 70 s. The model had 60 seconds: use "
        "invoke_endpoint_with_response_stream, which may stream longer, or invoke_endpoint_async. "
        "[InvokeEndpoint, endpoint 'my-endpoint', request id 7-7-7, "
        "attempt 2, the model may have run]"
    )
    error.may_have_run = False
    assert str(error).endswith(", attempt 2, the model did not run]")
    error.attempts = ()
    assert str(error).endswith(", request id 7-7-7]")  # nothing was begun: nothing to say


def test_an_error_in_a_stream_says_how_much_came_before() -> None:
    error = TruncatedStream("cut", offset=99)
    error.parts_received, error.bytes_received = 3, 1000
    assert str(error) == "cut [after 3 parts, 1000 bytes]"
    assert error.offset == 99


def test_errors_are_caught_as_what_else_they_are() -> None:
    assert issubclass(ParameterError, ValueError)
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(TimeLimitError, TimeoutError)
    assert issubclass(ConnectTimeout, ConnectError)
    assert issubclass(StreamConnectionLost, ConnectionLost)
    assert issubclass(InvalidLength, errors.EventStreamError)
    assert not issubclass(ClientClosed, errors.TransportError)


def test_a_time_limit_names_itself() -> None:
    error = TotalTimeout("the call was not done", limit="total", seconds=2.5)
    assert (error.limit, error.seconds) == ("total", 2.5)


def test_a_parameter_error_lists_its_problems() -> None:
    assert ParameterError("x is wrong").problems == ("x is wrong",)
    assert ParameterError("several", problems=["a", "b"]).problems == ("a", "b")


def test_an_unexpected_response_shows_what_came() -> None:
    error = UnexpectedResponse("no", status=302, headers={"location": "/"}, body=b"<")
    assert (error.status, error.headers, error.body_start) == (302, {"location": "/"}, b"<")
    assert UnexpectedResponse("no").headers == {}


def test_a_service_error_says_code_status_message_and_advice() -> None:
    error = ServiceError("Too bad", code="AccessDeniedException", status=403, advice="Allow it.")
    assert str(error) == "AccessDeniedException (HTTP 403): Too bad. Allow it."
    assert error.message == "Too bad"
    assert error.advice == "Allow it."
    bare = ValidationError("")
    assert bare.code == "ValidationError"
    assert str(bare) == "ValidationError: the service gave no message"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("no", "no. Do less."),
        ("no.", "no. Do less."),
        ("Why? ", "Why? Do less."),
        ("wait…\n", "wait… Do less."),
        ("\u8d85\u65f6\u3002", "\u8d85\u65f6\u3002 Do less."),
        ("", "the service gave no message. Do less."),
    ],
)
@pytest.mark.parametrize("kind", [ServiceError, ModelError, ModelStreamError])
def test_advice_is_a_sentence_of_its_own(kind: type[ServiceError], said: str, shown: str) -> None:
    assert str(kind(said, advice="Do less.")).endswith(f": {shown}")


def test_a_success_is_no_status_of_an_error() -> None:
    assert str(InternalStreamFailure("no", status=200)) == "InternalStreamFailure: no"
    assert str(ModelError("no", status=200)) == "ModelError: the model answered: no"


def test_a_container_that_did_not_answer_has_not_answered() -> None:
    error = _model_error(OriginalStatusCode=0, LogStreamArn="arn:aws:s3:::b")
    assert str(error) == (
        "ModelError (HTTP 424): the model did not answer: Received server error from primary. "
        "Log: arn:aws:s3:::b"
    )


def test_a_service_error_keeps_its_own_copy_of_what_came() -> None:
    fields = {"Message": "no"}
    error = ServiceError("no", fields=fields, headers=fields)
    fields.clear()
    assert error.fields == error.headers == {"Message": "no"}


def _model_error(**fields: object) -> ModelError:
    return ModelError("Received server error from primary", status=424, fields=fields)


def test_a_model_error_says_what_the_container_said() -> None:
    error = _model_error(
        OriginalStatusCode=404,
        OriginalMessage='{"code": 500, "message": "prediction failure"}',
        LogStreamArn="arn:aws:logs:us-east-1:1:log-group:/aws/sagemaker/Endpoints/demo",
        ErrorCode="CLIENT_ERROR_FROM_MODEL",
    )
    assert error.original_status_code == 404
    assert error.original_message == '{"code": 500, "message": "prediction failure"}'
    assert error.original_json == {"code": 500, "message": "prediction failure"}
    assert error.fields["ErrorCode"] == "CLIENT_ERROR_FROM_MODEL"
    assert str(error) == (
        "ModelError (HTTP 424): the model answered 404: prediction failure. Log: "
        "https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1"
        "#logsV2:log-groups/log-group/$252Faws$252Fsagemaker$252FEndpoints$252Fdemo"
    )


@pytest.mark.parametrize(
    ("original", "said"),
    [
        ("plain words", "plain words"),
        ('"a JSON string"', "a JSON string"),
        ('{"error": {"message": "inner"}}', "inner"),
        ('{"message": "", "error": {}, "detail": "third"}', "third"),
        ('{"message": 5, "error_message": "text"}', "text"),
        ('{"detail": [{"msg": "field required"}]}', '{"detail": [{"msg": "field required"}]}'),
        ('{"unknown": "keys"}', '{"unknown": "keys"}'),
        ("[1, 2]", "[1, 2]"),
        ("{cut", "{cut"),
        ("", "Received server error from primary"),
        (None, "Received server error from primary"),
        (17, "Received server error from primary"),
    ],
)
def test_a_model_error_finds_the_sentence(original: object, said: str) -> None:
    error = _model_error(OriginalMessage=original, OriginalStatusCode=500)
    assert str(error) == f"ModelError (HTTP 424): the model answered 500: {said}"


@pytest.mark.parametrize("depth", [500, 100_000])
def test_a_container_that_nests_its_words_endlessly_does_no_harm(depth: int) -> None:
    original = '{"message":' * depth + '"deep"' + "}" * depth
    error = _model_error(OriginalMessage=original)
    assert str(error).startswith("ModelError (HTTP 424): the model answered: ")
    assert "deep" in str(error)


def test_a_model_error_without_anything_still_says_something() -> None:
    error = ModelError("", status=424)
    assert error.original_status_code is None
    assert error.original_json is None
    assert error.log_stream_arn is None
    assert str(error) == "ModelError (HTTP 424): the model answered: the service gave no message"
    assert ModelError("", advice="Do less.").args == ("",)
    assert str(ModelError("m")) == "ModelError: the model answered: m"


@pytest.mark.parametrize("fields", [{"OriginalStatusCode": "500"}, {"LogStreamArn": 5}])
def test_a_model_error_takes_no_value_of_the_wrong_type(fields: dict[str, object]) -> None:
    error = _model_error(**fields)
    assert error.original_status_code is None
    assert error.log_stream_arn is None


_REGIONS = {
    "aws": ("eu-west-1", "console.aws.amazon.com"),
    "aws-cn": ("cn-north-1", "console.amazonaws.cn"),
    "aws-us-gov": ("us-gov-west-1", "console.amazonaws-us-gov.com"),
}


@pytest.mark.parametrize("partition", _REGIONS)
@pytest.mark.parametrize(
    ("group", "quoted"),
    [
        ("g", "g"),
        ("/aws/sagemaker/Endpoints/a b", "$252Faws$252Fsagemaker$252FEndpoints$252Fa$2520b"),
        ("/g:log-stream:AllTraffic/i-1", "$252Fg"),
    ],
)
def test_a_model_error_leads_to_the_log(partition: str, group: str, quoted: str) -> None:
    region, console = _REGIONS[partition]
    error = _model_error(LogStreamArn=f"arn:{partition}:logs:{region}:12:log-group:{group}")
    assert error.log_url == (
        f"https://{region}.{console}/cloudwatch/home?region={region}"
        f"#logsV2:log-groups/log-group/{quoted}"
    )
    assert str(error).endswith(f" Log: {error.log_url}")


@pytest.mark.parametrize("arn", ["arn:aws-iso:logs:us-iso-east-1:12:log-group:g", "arn:aws:s3:::b"])
def test_a_log_whose_page_is_unknown_is_named(arn: str) -> None:
    error = _model_error(LogStreamArn=arn)
    assert error.log_url is None
    assert str(error).endswith(f" Log: {arn}")


def test_a_stream_error_has_its_code() -> None:
    error = ModelStreamError(
        "it took too long", status=200, fields={"ErrorCode": "ModelInvocationTimeExceeded"}
    )
    assert error.error_code == "ModelInvocationTimeExceeded"
    assert str(error) == "ModelStreamError: ModelInvocationTimeExceeded: it took too long"
    bare = ModelStreamError("", fields={"ErrorCode": 5}, advice="Ask for less.")
    assert bare.error_code is None
    assert str(bare) == "ModelStreamError: the service gave no message. Ask for less."


@pytest.mark.parametrize("kind", CLASSES)
def test_what_strangers_may_read_is_the_class_and_the_id(kind: type[AiosmrtError]) -> None:
    error = _build(kind)
    assert error.public_text == kind.__name__
    error.operation, error.endpoint_name, error.attempts = "InvokeEndpoint", "e", ATTEMPTS
    error.request_id = "0b1f8a2e-7f65-4bd1-b2f6-4d8b8c3a1c11"
    assert error.public_text == f"{kind.__name__} (request id {error.request_id})"


@pytest.mark.parametrize("chosen", ["", "a b", "<script>", "a\nb", "é", "x" * 200])
def test_an_id_that_is_none_is_not_shown_to_strangers(chosen: str) -> None:
    error = ModelError("no")
    error.request_id = chosen
    assert error.public_text == "ModelError"
