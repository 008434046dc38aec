from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import threading
from collections.abc import AsyncIterator, Callable
from email.utils import parsedate_to_datetime
from typing import Any

import attrs
import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

import aiosmrt
from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.errors import ConfigurationError
from aiosmrt.local import InvocationRequest, LocalEndpoint
from aiosmrt.sse import ServerSentEvent

pytestmark = pytest.mark.asyncio

AT_ONCE = aiosmrt.RetryPolicy(backoff=lambda number, error: 0.0)


@attrs.define
class Stage:
    """An endpoint, and a client that does not wait between its attempts."""

    endpoint: LocalEndpoint
    client: SageMakerRuntimeClient

    async def invoke(self, endpoint_name: str = "e", **parameters: Any) -> Any:
        parameters = {"body": b"x", **parameters}
        return await self.client.invoke_endpoint(endpoint_name=endpoint_name, **parameters)

    async def stream(self, **parameters: Any) -> list[bytes]:
        async with self.client.invoke_endpoint_with_response_stream(
            **{"endpoint_name": "e", "body": b"x", **parameters}
        ) as stream:
            return [part.bytes async for part in stream]


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    async with (
        LocalEndpoint(strict=True) as endpoint,
        endpoint.client(retry=AT_ONCE, timeout=10, poll_interval=0.01) as client,
    ):
        yield Stage(endpoint, client)


async def _ask_later(request: InvocationRequest) -> bool:
    return False


async def test_steps_are_taken_in_their_order(stage: Stage) -> None:
    stage.endpoint.throttle(2)
    stage.endpoint.answer(json={"n": 1})
    stage.endpoint.answer(json={"n": 2}, times=2)
    answers = [await stage.invoke() for _ in range(3)]
    assert [answer.json() for answer in answers] == [{"n": 1}, {"n": 2}, {"n": 2}]
    assert len(answers[0].metadata.attempts) == 3
    assert [request.attempt for request in stage.endpoint.requests] == [1, 2, 3, 1, 1]
    stage.endpoint.assert_complete()


async def test_what_comes_to_no_end_is_the_rule_and_the_rest_are_exceptions(stage: Stage) -> None:
    stage.endpoint.answer(text="as a rule", times=None)
    stage.endpoint.answer(text="once")
    assert [(await stage.invoke()).text() for _ in range(3)] == ["once", *["as a rule"] * 2]


async def test_only_steps_that_may_be_taken_are_asked(stage: Stage) -> None:
    def never(request: InvocationRequest) -> bool:
        raise AssertionError("a step before this one is for the request")

    stage.endpoint.answer(text="first")
    stage.endpoint.answer(text="second", on=never, optional=True)
    assert (await stage.invoke()).text() == "first"
    stage.endpoint.answer(text="third")  # a test that raises says no
    assert (await stage.invoke()).text() == "third"


@pytest.mark.parametrize(
    "on",
    [
        "b",
        {"endpoint_name": "b"},
        {"endpoint_name": "b", "json": {"x": 1}, "custom_attributes": "c"},
        lambda request: request.json["x"] == 1 and request.endpoint_name == "b",
        {"text": '{"x": 1}', "endpoint_name": "b"},
    ],
)
async def test_a_step_is_for_requests_that_match(stage: Stage, on: Any) -> None:
    stage.endpoint.answer(text="found", on=on)
    stage.endpoint.answer(text="other", times=2)
    for endpoint_name, body in (("a", b'{"x": 1}'), ("a", b"no JSON")):
        assert (await stage.invoke(endpoint_name, body=body)).text() == "other"
    found = await stage.invoke("b", body=b'{"x": 1}', custom_attributes="c")
    assert found.text() == "found"


async def test_headers_that_are_asked_for_are_among_others(stage: Stage) -> None:
    stage.endpoint.answer(text="tenant", on={"headers": {"X-Tenant": "one"}})
    stage.endpoint.answer(text="other", times=None)
    client = stage.client.with_options(headers={"x-tenant": "two"})
    assert (await client.invoke_endpoint(endpoint_name="e", body=b"x")).text() == "other"
    client = stage.client.with_options(headers={"x-tenant": "one"})
    assert (await client.invoke_endpoint(endpoint_name="e", body=b"x")).text() == "tenant"
    requests = stage.endpoint.requests
    assert requests.only(headers={"X-Tenant": "one"}) is requests[1]
    wanted = {"X-Tenant": "three", "X-Mine": "y"}
    with pytest.raises(AssertionError) as caught:
        requests.only(headers=wanted)
    assert "the header X-Tenant has another value\n    the header X-Mine is not" in str(
        caught.value
    )
    assert "two" not in str(caught.value)


async def test_a_step_can_be_for_one_operation(stage: Stage) -> None:
    stage.endpoint.answer(text="whole", operation="InvokeEndpoint")
    stage.endpoint.answer(text="streamed", operation="invoke_endpoint_with_response_stream")
    assert await stage.stream() == [b"streamed"]
    assert (await stage.invoke()).text() == "whole"


@pytest.mark.parametrize(
    ("content", "whole", "parts"),
    [
        ({"json": {"a": 1}}, b'{"a": 1}', [b'{"a": 1}']),
        ({"text": "é"}, "é".encode(), ["é".encode()]),
        ({"body": bytearray(b"\0")}, b"\0", [b"\0"]),
        ({"stream": [b"a", "b", {"c": 1}]}, b'ab{"c": 1}\n', [b"a", b"b", b'{"c": 1}\n']),
        (
            {"events": ["a", {"b": 1}, ServerSentEvent("kind", "c", id="7")]},
            b'data: a\n\ndata: {"b": 1}\n\nevent: kind\nid: 7\ndata: c\n\n',
            [b"data: a\n\n", b'data: {"b": 1}\n\n', b"event: kind\nid: 7\ndata: c\n\n"],
        ),
        ({"model": lambda request: [request.body.decode()]}, b'["x"]', [b'["x"]']),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_an_answer_has_one_of_several_contents(
    stage: Stage, content: Any, whole: bytes, parts: list[bytes]
) -> None:
    stage.endpoint.answer(**content, times=2)
    assert sorted((await stage.invoke()).body.splitlines()) == sorted(whole.splitlines())
    assert [sorted(part.splitlines()) for part in await stage.stream()] == [
        sorted(part.splitlines()) for part in parts
    ]


@pytest.mark.parametrize("shape", ["openai-chat", "openai-completion", "tgi", "lmi"])
async def test_tokens_come_in_every_shape_that_is_read(stage: Stage, shape: Any) -> None:
    stage.endpoint.answer(tokens="Once upon a time", shape=shape, times=2)
    async with stage.client.invoke_endpoint_with_response_stream(
        endpoint_name="e", body=b"x"
    ) as stream:
        tokens = [token async for token in stream.iter_tokens(shape, require_done="open" in shape)]
    assert tokens == ["Once ", "upon ", "a ", "time"]
    assert "Once upon a time" in json.dumps((await stage.invoke()).json())


async def test_a_chat_message_may_call_tools(stage: Stage) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    stage.endpoint.answer(chat={"content": "wait", "tool_calls": [call]}, times=2)
    whole = (await stage.invoke()).json()["choices"][0]
    assert whole["message"]["tool_calls"] == [call]
    assert whole["finish_reason"] == "tool_calls"
    events = b"".join(await stage.stream()).split(b"\n\n")
    deltas = [json.loads(event[6:])["choices"][0] for event in events[:-2]]
    assert deltas[2]["delta"] == {"tool_calls": [{"index": 0, **call}]}
    assert deltas[-1]["finish_reason"] == "tool_calls"
    assert events[-2] == b"data: [DONE]"


async def test_a_chat_message_may_have_more_than_its_text(stage: Stage) -> None:
    stage.endpoint.answer(chat={"content": "so it is", "reasoning_content": "let me think"})
    opening = stage.client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x")
    async with opening as stream:
        chunks = [chunk async for chunk in stream.iter_chat()]
    assert "".join(chunk.reasoning or "" for chunk in chunks) == "let me think"
    assert "".join(chunk.text or "" for chunk in chunks) == "so it is"


async def test_what_is_said_beside_a_content(stage: Stage) -> None:
    stage.endpoint.answer(
        json=1, content_type="a/b", custom_attributes="c", invoked_production_variant="v"
    )
    answer = await stage.invoke()
    assert (answer.content_type, answer.custom_attributes) == ("a/b", "c")
    assert answer.invoked_production_variant == "v"


Say = Callable[[LocalEndpoint], None]


ACCESS_DENIED = aiosmrt.ServiceError("no", code="AccessDeniedException", status=403)
BROKEN = aiosmrt.ServiceError("no", code="Access\nDenied", status=403)
REFUSALS: dict[str, tuple[Say, type[aiosmrt.ServiceError], int]] = {
    "ThrottlingException": (lambda e: e.throttle(3), aiosmrt.ThrottlingException, 400),
    "ModelNotReadyException": (lambda e: e.not_ready(3), aiosmrt.ModelNotReadyException, 429),
    "ServiceUnavailable": (lambda e: e.unavailable(3), aiosmrt.ServiceUnavailable, 503),
    "InternalFailure": (lambda e: e.internal_failure(), aiosmrt.InternalFailure, 500),
    "InternalDependencyException": (
        lambda e: e.dependency_failure(3),
        aiosmrt.InternalDependencyException,
        530,
    ),
    "ValidationError": (lambda e: e.validation_error("no"), aiosmrt.ValidationError, 400),
    "ExpiredTokenException": (lambda e: e.expired_token(), aiosmrt.ServiceError, 403),
    "ModelError": (lambda e: e.model_error(507, "full"), aiosmrt.ModelError, 424),
    "AccessDeniedException": (lambda e: e.answer(error=ACCESS_DENIED), aiosmrt.ServiceError, 403),
}


@pytest.mark.parametrize("code", REFUSALS)
async def test_refusals_are_the_services_own(
    stage: Stage, connect: Callable[..., Any], code: str
) -> None:
    say, kind, status = REFUSALS[code]
    say(stage.endpoint)
    with pytest.raises(kind) as caught:
        await stage.invoke()
    assert (caught.value.code, caught.value.status) == (code, status)
    stage.endpoint.assert_complete()

    # Another SDK reads the same out of it.
    say(stage.endpoint)
    boto3 = connect(stage.endpoint)
    with pytest.raises(ClientError) as told:
        await asyncio.to_thread(boto3.invoke_endpoint, EndpointName="e", Body=b"x")
    response = told.value.response
    assert response["Error"]["Code"] == code
    assert response["ResponseMetadata"]["HTTPStatusCode"] == status


async def test_throttling_says_its_code_in_the_header_alone(stage: Stage) -> None:
    stage.endpoint.throttle(retry_after=0.25)
    client = stage.client.with_options(retry=aiosmrt.RetryPolicy(mode="off"))
    with pytest.raises(aiosmrt.ThrottlingException) as caught:
        await client.invoke_endpoint(endpoint_name="e", body=b"x")
    assert caught.value.fields == {"message": None}
    assert caught.value.headers["x-amz-retry-after"] == "250"


async def test_a_models_own_service_error_is_given_as_it_is(stage: Stage) -> None:
    def refuse(request: InvocationRequest) -> None:
        raise aiosmrt.ModelNotReadyException("not yet")

    stage.endpoint.answer(model=refuse, times=3)
    with pytest.raises(aiosmrt.ModelNotReadyException, match="not yet") as caught:
        await stage.invoke()
    assert len(caught.value.attempts) == 3


async def test_capacity_comes_after_its_time_or_a_number_at_most(stage: Stage) -> None:
    stage.endpoint.no_capacity(0.05, times=5)
    stage.endpoint.answer(text="x")
    with pytest.raises(aiosmrt.ValidationError):
        await stage.invoke()
    await asyncio.sleep(0.06)
    assert (await stage.invoke()).text() == "x"
    stage.endpoint.assert_complete()


async def test_capacity_comes_after_its_time(stage: Stage) -> None:
    stage.endpoint.no_capacity(0.2)
    stage.endpoint.answer(text="at last")
    policy = aiosmrt.RetryPolicy(capacity_wait=20, backoff=lambda number, error: 0.05)
    client = stage.client.with_options(retry=policy)
    answer = await client.invoke_endpoint(endpoint_name="e", body=b"x")
    assert answer.text() == "at last"
    assert len(stage.endpoint.requests) > 1


async def test_a_proxys_page_and_a_redirect_are_not_the_services(stage: Stage) -> None:
    stage.endpoint.proxy_page(403)
    with pytest.raises(aiosmrt.ServiceError) as caught:
        await stage.invoke()
    assert (caught.value.code, caught.value.request_id) == ("403", None)
    assert b"<h1>403 Forbidden</h1>" in caught.value.body
    stage.endpoint.redirect("https://login.invalid/", 302)
    with pytest.raises(aiosmrt.UnexpectedResponse) as moved:
        await stage.invoke()
    assert moved.value.headers["location"] == "https://login.invalid/"


async def test_a_clock_that_differs_is_learned(stage: Stage) -> None:
    stage.endpoint.clock(3600)
    stage.endpoint.answer(text="corrected")
    answer = await stage.invoke()
    assert [attempt.error for attempt in answer.metadata.attempts] == [
        "InvalidSignatureException",
        None,
    ]
    assert stage.client.clock_offset == pytest.approx(3600, abs=30)
    date = parsedate_to_datetime(answer.metadata.headers["date"])
    ahead = date - datetime.datetime.now(datetime.UTC)
    assert ahead.total_seconds() == pytest.approx(3600, abs=30)


async def test_an_asynchronous_invocation_gets_a_scripted_output_or_failure(stage: Stage) -> None:
    stage.endpoint.answer(json={"ok": True})
    stage.endpoint.model_error(500, "out of memory")
    invoke = stage.client.invoke_endpoint_async
    first, second = [await invoke(endpoint_name="e", body=b"x") for _ in range(2)]
    assert (await first.result(timeout=10)).json() == {"ok": True}
    with pytest.raises(aiosmrt.AsyncInferenceError, match="out of memory"):
        await second.result(timeout=10)
    stage.endpoint.throttle(3)  # at once, and not in a file
    with pytest.raises(aiosmrt.ThrottlingException):
        await invoke(endpoint_name="e", body=b"x")


@pytest.mark.parametrize("at", ["first_part", "part 5"])
async def test_an_output_that_never_comes(stage: Stage, at: str) -> None:
    stage.endpoint.hang(at=at, text="never", operation="InvokeEndpointAsync")
    queued = await stage.client.invoke_endpoint_async(endpoint_name="e", body=b"x")
    with pytest.raises(aiosmrt.AsyncInferenceTimeout):
        await queued.result(timeout=0.2)
    stage.endpoint.assert_complete()


async def test_a_request_without_a_step_is_refused_where_the_script_is_all() -> None:
    async with LocalEndpoint(strict=True) as strict, strict.client() as client:
        strict.answer(json=1, on="other")
        with pytest.raises(aiosmrt.ServiceError, match="no answer for InvokeEndpoint of 'e'") as no:
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
        assert (no.value.code, len(no.value.attempts)) == ("UnexpectedRequest", 1)
        assert "endpoint_name is 'e', not 'other'" in no.value.message
        with pytest.raises(AssertionError) as caught:
            strict.assert_complete()
    lines = str(caught.value).splitlines()
    assert lines[0] == "1 request had no answer in the script:"
    assert lines[1] == "  InvokeEndpoint of 'e': x"
    assert lines[2].startswith("    nearest: answer(json=1, on='other') (test_script.py:")
    assert lines[3] == "1 step of the script came to nothing:"
    assert lines[4].endswith("): not asked for")
    assert lines[5].endswith("endpoint_name is 'e', not 'other'")


async def test_without_a_step_the_model_answers() -> None:
    async with LocalEndpoint(lambda request: b"mine") as endpoint, endpoint.client() as client:
        endpoint.throttle(on={"attempt": 1})
        fast = client.with_options(retry=AT_ONCE)
        assert (await fast.invoke_endpoint(endpoint_name="e", body=b"x")).body == b"mine"
        endpoint.assert_complete()


async def test_steps_that_were_not_taken_are_named_unless_they_are_optional(stage: Stage) -> None:
    stage.endpoint.throttle(2)
    stage.endpoint.unavailable(optional=True)
    stage.endpoint.answer(text="rule", times=None)
    client = stage.client.with_options(retry=aiosmrt.RetryPolicy(mode="off"))
    with pytest.raises(aiosmrt.ThrottlingException):
        await client.invoke_endpoint(endpoint_name="e", body=b"x")
    with pytest.raises(AssertionError) as caught:
        stage.endpoint.assert_complete()
    told = str(caught.value)
    assert told.startswith("2 steps of the script came to nothing:\n  throttle(times=2) (")
    assert "asked for 1 of 2 times" in told
    assert "answer(text='rule', times=None)" in told
    assert "unavailable" not in told


async def test_no_complaint_shows_a_secret(stage: Stage) -> None:
    keys = aiosmrt.Credentials("local", "local-secret", "tokentokentoken0123456789")
    client = stage.client.with_options(credentials=keys)
    stage.endpoint.answer(
        json=1, on={"custom_attributes": "other-secret"}, custom_attributes="mine"
    )
    with pytest.raises(aiosmrt.ServiceError) as caught:
        await client.invoke_endpoint(
            endpoint_name="e", body=b'{"session_token": "hidden-0"}', custom_attributes="hidden-1"
        )
    with pytest.raises(AssertionError) as complaint:
        stage.endpoint.assert_complete()
    with pytest.raises(AssertionError) as asked:
        stage.endpoint.requests.only(custom_attributes="hidden-2")
    for text in map(str, (caught.value, complaint.value, asked.value)):
        for secret in ("hidden-", "tokentoken", "other-secret", "local-secret", "AWS4", "mine"):
            assert secret not in text


async def test_a_step_can_be_said_from_any_thread(stage: Stage) -> None:
    def say() -> None:
        for _ in range(100):
            stage.endpoint.answer(text="x")

    threads = [threading.Thread(target=say) for _ in range(4)]
    for thread in threads:
        thread.start()
    answers = [await stage.invoke() for _ in range(20)]
    for thread in threads:
        thread.join()
    answers += [await stage.invoke() for _ in range(20)]
    assert {answer.text() for answer in answers} == {"x"}


@pytest.mark.parametrize(
    ("say", "kind", "told"),
    [
        (lambda e: e.answer(), ConfigurationError, "an answer needs a content"),
        (lambda e: e.answer(json=1, text="x"), ConfigurationError, "json and text"),
        (lambda e: e.answer(error=ACCESS_DENIED, text="x"), ConfigurationError, "error and text"),
        (lambda e: e.answer(error=BROKEN), ConfigurationError, "the error's code goes out as a"),
        (lambda e: e.answer(text=b"x"), ConfigurationError, "text must be a str"),
        (lambda e: e.answer(body="x"), ConfigurationError, "body must be bytes"),
        (lambda e: e.answer(stream="abc"), ConfigurationError, "stream is a list"),
        (lambda e: e.answer(events=b"abc"), ConfigurationError, "events is a list"),
        (lambda e: e.answer(tokens=3), ConfigurationError, "tokens must be a str"),
        (lambda e: e.answer(tokens="x", shape="other"), ConfigurationError, "shape must be"),
        (lambda e: e.answer(json=1, shape="tgi"), ConfigurationError, "shape says"),
        (lambda e: e.answer(json=float("nan")), aiosmrt.ParameterError, "the value is nan"),
        (lambda e: e.answer(json=1, custom_attributes="a\nb"), ValueError, "CR, LF or NUL"),
        (lambda e: e.answer(model=1), ConfigurationError, "model must be callable"),
        (lambda e: e.answer(model=str, content_type="x"), ConfigurationError, "ModelResponse"),
        (lambda e: e.cut(content_type="x"), ConfigurationError, "no content to go with it"),
        (lambda e: e.answer(json=1, colour=2), TypeError, "no option colour"),
        (lambda e: e.answer(txt="a"), TypeError, "no option txt; did you mean 'text'"),
        (lambda e: e.cut(afer=2), TypeError, "no option afer; did you mean 'after'"),
        (lambda e: e.throttle(text="x"), TypeError, "throttle.. has no option text"),
        (lambda e: e.throttle(pace=1), TypeError, "throttle.. has no option pace"),
        (lambda e: e.model_error(json=1), TypeError, "model_error.. has no option json"),
        (lambda e: e.answer(json={1}), ConfigurationError, "json cannot be written"),
        (lambda e: e.answer(stream=5), ConfigurationError, "stream cannot be written"),
        (lambda e: e.answer(stream=["\ud800"]), ConfigurationError, "a part holds half of a"),
        (lambda e: e.answer(stream={"a": 1}), ConfigurationError, "stream is a list"),
        (lambda e: e.answer(text="\ud800"), ConfigurationError, "text holds half of a"),
        (lambda e: e.answer(events=["\ud800"]), ConfigurationError, "events cannot be written"),
        (lambda e: e.answer(chat=5), ConfigurationError, "chat must be a str or a message"),
        (lambda e: e.answer(chat={"content": 5}), ConfigurationError, "content must be a str"),
        (lambda e: e.answer(json=1, custom_attributes=5), TypeError, "must be a str, not int"),
        (lambda e: e.answer(json=1, optional="no"), ConfigurationError, "optional must be True or"),
        (lambda e: e.answer(json=1, pace=-1), ConfigurationError, "pace must be 0 to"),
        (lambda e: e.answer(json=1, pace="a"), ConfigurationError, "pace must be a number of sec"),
        (lambda e: e.answer(json=1, pace=[]), ConfigurationError, "not an empty one"),
        (lambda e: e.answer(json=1, pace=[1, None]), ConfigurationError, "pace must be a number"),
        (lambda e: e.answer(error=ValueError()), ConfigurationError, "error must be a service err"),
        (lambda e: e.answer(json=1, operation=["a"]), ConfigurationError, "operation must be"),
        (lambda e: e.answer(json=1, on={5: 1}), TypeError, "no member 5"),
        (lambda e: e.answer(json=1, on={"headers": "a"}), TypeError, "headers are a dict"),
        (lambda e: e.answer(json=1, on={"body": "a"}), TypeError, "body is bytes; text is a str"),
        (lambda e: e.answer(json=1, on={"operation": "invoke"}), TypeError, "operation is Invoke"),
        (lambda e: e.answer(json=1, on={"component": "a"}), TypeError, "'inference_component_nam"),
        (lambda e: e.answer(json=1, on=_ask_later), ConfigurationError, "that is not async"),
        (lambda e: e.throttle(retry_after=-1), ConfigurationError, "retry_after must be 0 to"),
        (lambda e: e.no_capacity("x"), ConfigurationError, "seconds must be a number"),
        (lambda e: e.model_error(200), ConfigurationError, "status must be an int from 300"),
        (lambda e: e.model_error(500, None), ConfigurationError, "message must be a str"),
        (lambda e: e.validation_error(2), ConfigurationError, "message must be a str"),
        (lambda e: e.stream_error(message=5), ConfigurationError, "message must be a str"),
        (lambda e: e.stream_error(code=5), ConfigurationError, "code must be a str"),
        (lambda e: e.internal_stream_failure(message=5), ConfigurationError, "message must be"),
        (lambda e: e.hang(None), ConfigurationError, "at must be"),
        (lambda e: e.hang(seconds="x"), ConfigurationError, "seconds must be a number"),
        (lambda e: e.hang("connect", seconds=-1), ConfigurationError, "seconds must be 0 to"),
        (lambda e: e.hang(seconds=1, pace=1), ConfigurationError, "pace and hang"),
        (lambda e: e.slow(float("nan")), ConfigurationError, "seconds must be a number"),
        (lambda e: e.slow(1, pace=1), ConfigurationError, "pace and slow"),
        (lambda e: e.proxy_page(0), ConfigurationError, "status must be an int from 200"),
        (lambda e: e.redirect("a\r\nb"), ConfigurationError, "location goes out as a header"),
        (lambda e: e.redirect(status=200), ConfigurationError, "status must be an int from 300"),
        (lambda e: e.clock("x"), ConfigurationError, "offset must be a number"),
        (lambda e: e.clock(1e18), ConfigurationError, "offset must be -1000000000 to"),
        (lambda e: e.answer(json=1, on=3), ConfigurationError, "on must be"),
        (lambda e: e.answer(json=1, on={"endpoint": "e"}), TypeError, "mean 'endpoint_name'"),
        (lambda e: e.answer(json=1, operation="Invoke"), ConfigurationError, "operation must be"),
        (lambda e: e.cut(operation="InvokeEndpointAsync"), ConfigurationError, "means nothing"),
        (lambda e: e.throttle(0), ConfigurationError, "times must be an int of 1 or more"),
        (lambda e: e.throttle(True), ConfigurationError, "times must be"),
        (lambda e: e.cut(-1), ConfigurationError, "after must be"),
        (lambda e: e.cut(inside="middle"), ConfigurationError, "inside must be"),
        (lambda e: e.corrupt(0), ConfigurationError, "part must be"),
        (lambda e: e.corrupt(where="there"), ConfigurationError, "where: prelude"),
        (lambda e: e.hang("part 0"), ConfigurationError, "at must be"),
        (lambda e: e.split(0), ConfigurationError, "bytes must be"),
    ],
)
async def test_what_a_line_cannot_say_is_refused_when_it_is_written(
    say: Say, kind: type[Exception], told: str
) -> None:
    endpoint = LocalEndpoint()
    with pytest.raises(kind, match=told):
        say(endpoint)
    with contextlib.suppress(AssertionError):
        endpoint.assert_complete()


async def test_requests_that_did_not_come_as_far_explain_steps_without_one(stage: Stage) -> None:
    keys = aiosmrt.Credentials("other", "other-secret")
    client = stage.client.with_options(credentials=keys)
    with pytest.raises(aiosmrt.ServiceError):
        await client.invoke_endpoint(endpoint_name="e", body=b"x")
    stage.endpoint.assert_complete()  # a test may be about that
    stage.endpoint.answer(text="x")
    with pytest.raises(AssertionError) as caught:
        stage.endpoint.assert_complete()
    told = str(caught.value).splitlines()
    assert told[2] == "1 request did not come as far as the script:"
    assert told[3].startswith("  POST /endpoints/e/invocations: UnrecognizedClientException: ")
    assert "other-secret" not in str(caught.value)


async def test_of_requests_without_an_answer_some_are_kept(stage: Stage) -> None:
    for _ in range(103):
        with pytest.raises(aiosmrt.ServiceError):
            await stage.invoke()
    with pytest.raises(AssertionError) as caught:
        stage.endpoint.assert_complete()
    told = str(caught.value).splitlines()
    assert told[0] == "103 requests had no answer in the script:"
    assert (len(told), told[-1]) == (202, "  and 3 more")


async def test_what_is_signed_in_a_location_is_not_shown(stage: Stage) -> None:
    location = "https://bucket.example/key?AWSAccessKeyId=a&Signature=hidden-0"
    with pytest.raises(aiosmrt.ServiceError) as caught:
        await stage.client.invoke_endpoint_async(endpoint_name="e", input_location=location)
    assert "https://bucket.example/key?****" in str(caught.value)
    assert "hidden-0" not in str(caught.value)


async def test_a_rule_behind_another_is_told_which_one_that_is(stage: Stage) -> None:
    stage.endpoint.answer(text="first", times=None)
    stage.endpoint.answer(text="second", times=None)
    assert (await stage.invoke()).text() == "first"
    with pytest.raises(AssertionError, match=r"    the rule is answer\(text='first', times=None\)"):
        stage.endpoint.assert_complete()


async def test_a_function_that_gives_a_coroutine_says_neither_yes_nor_no(stage: Stage) -> None:
    stage.endpoint.answer(text="x", on=lambda request: _ask_later(request))  # noqa: PLW0108 - so it hides
    with pytest.raises(aiosmrt.ServiceError, match="is async, and gives no answer at once"):
        await stage.invoke()
