from __future__ import annotations

import asyncio
import gc
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

import aiosmrt
from aiosmrt.local import LocalEndpoint
from aiosmrt.service.model import OPERATIONS, spell

STATIONS = [
    "on_start",
    "before_send",
    "after_headers",
    "on_retry",
    "on_first_part",
    "on_parts",
    "on_end",
]


@pytest.mark.parametrize("station", STATIONS)
def test_a_hook_is_something_to_call(station: str) -> None:
    hooks: dict[str, Any] = {station: "not a function"}
    with pytest.raises(aiosmrt.ConfigurationError, match=station):
        aiosmrt.Hooks(**hooks)


@pytest.mark.asyncio
async def test_every_station_is_told_in_order() -> None:
    told: list[object] = []

    async def later(event: object) -> None:
        await asyncio.sleep(0)
        told.append(event)

    hooks = aiosmrt.Hooks(
        on_start=later,
        before_send=later,
        after_headers=told.append,
        on_first_part=later,
        on_parts=later,
        on_end=told.append,
    )
    async with (
        LocalEndpoint() as endpoint,
        endpoint.client(hooks=hooks) as client,
        client.invoke_endpoint_with_response_stream(endpoint_name="e", body="a b") as stream,
    ):
        async for _ in stream:
            pass
    assert [type(event).__name__ for event in told] == [
        "OnStart",
        "BeforeSend",
        "AfterHeaders",
        "OnFirstPart",
        *["OnParts"] * (len(told) - 5),
        "OnEnd",
    ]
    assert len({getattr(event, "call_id", None) for event in told}) == 1
    come = [event for event in told if isinstance(event, aiosmrt.OnParts)]
    assert (sum(event.count for event in come), sum(event.size for event in come)) == (2, 3)
    assert come[0].elapsed > 0
    end = told[-1]
    assert isinstance(end, aiosmrt.OnEnd)
    assert end.call_id
    assert (end.parts_received, end.bytes_received, end.error) == (2, 3, None)
    assert "secret" not in repr(told)


@pytest.mark.asyncio
async def test_an_added_header_is_signed_and_sent() -> None:
    def add(event: aiosmrt.BeforeSend) -> None:
        event.headers["X-Amzn-SageMaker-Custom-Attributes"] = "tenant=7"

    # The endpoint checks the signature.
    async with (
        LocalEndpoint() as endpoint,
        endpoint.client(hooks=aiosmrt.Hooks(before_send=add)) as client,
    ):
        await client.invoke_endpoint(endpoint_name="e", body="x")
        assert endpoint.requests[0].custom_attributes == "tenant=7"


@pytest.mark.parametrize(
    ("name", "value"), [("x-a", "b\r\nc: d"), ("Host", "elsewhere"), ("not a name", "x")]
)
@pytest.mark.asyncio
async def test_an_added_header_cannot_break_the_request(name: str, value: str) -> None:
    def add(event: aiosmrt.BeforeSend) -> None:
        event.headers[name] = value

    async with (
        LocalEndpoint() as endpoint,
        endpoint.client(hooks=aiosmrt.Hooks(before_send=add), max_connections=1) as client,
    ):
        with pytest.raises(aiosmrt.ParameterError, match=re.escape(name)):
            await client.invoke_endpoint(endpoint_name="e", body="x")
        assert not endpoint.requests
        await client.with_options(hooks=None).invoke_endpoint(endpoint_name="e", body="x")


@pytest.mark.asyncio
async def test_a_derived_client_adds_hooks_or_replaces_them() -> None:
    told: list[tuple[str, object]] = []

    def tell(name: str) -> Callable[[object], None]:
        return lambda event: told.append((name, type(event)))

    async def tell_later(event: object) -> None:
        await asyncio.sleep(0)
        told.append(("third", type(event)))

    hooks = aiosmrt.Hooks(after_headers=tell("client"), on_end=tell("client"))
    async with LocalEndpoint() as endpoint, endpoint.client(hooks=hooks) as client:
        second = client.with_options(hooks=aiosmrt.Hooks(on_end=tell("second")))
        third = second.with_options(hooks=aiosmrt.Hooks(on_end=tell_later))
        other = third.with_options(replace_hooks=aiosmrt.Hooks(on_end=tell("other")))
        both = third.with_options(
            replace_hooks=aiosmrt.Hooks(), hooks=aiosmrt.Hooks(on_end=tell("both"))
        )
        none = third.with_options(hooks=None)
        for one in (third, other, both, none):
            await one.invoke_endpoint(endpoint_name="e", body="x")
            told.append(("-", None))
    rule = ("-", None)
    assert told == [
        ("client", aiosmrt.AfterHeaders),
        ("client", aiosmrt.OnEnd),
        ("second", aiosmrt.OnEnd),
        ("third", aiosmrt.OnEnd),
        rule,
        ("other", aiosmrt.OnEnd),
        rule,
        ("both", aiosmrt.OnEnd),
        rule,
        rule,
    ]


def test_hooks_in_place_of_others_are_hooks() -> None:
    client = aiosmrt.SageMakerRuntimeClient()
    wrong: Any = print
    with pytest.raises(aiosmrt.ConfigurationError, match="hooks="):
        client.with_options(replace_hooks=wrong)


@pytest.mark.parametrize("station", ["on_start", "on_end"])
@pytest.mark.asyncio
async def test_every_hook_of_a_station_is_told_whatever_another_raises(station: str) -> None:
    told: list[object] = []

    def fail(event: object) -> None:
        raise _OwnError("mine")

    first: dict[str, Any] = {station: fail}
    rest = aiosmrt.Hooks(on_start=told.append, on_end=told.append)
    async with (
        LocalEndpoint() as endpoint,
        endpoint.client(hooks=aiosmrt.Hooks(**first)) as client,
    ):
        call = client.with_options(hooks=rest).invoke_endpoint(endpoint_name="e", body="x")
        if station == "on_start":
            with pytest.raises(_OwnError):
                await call
            assert not endpoint.requests
        else:
            await call
    assert [type(event) for event in told] == [aiosmrt.OnStart, aiosmrt.OnEnd]


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), aiosmrt.ConnectError("mine")])
@pytest.mark.parametrize("later", [False, True], ids=["function", "coroutine function"])
@pytest.mark.asyncio
async def test_an_answer_is_not_lost_to_what_on_end_raises(
    *, later: bool, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: object) -> None:
        raise error

    async def fail_later(event: object) -> None:
        await asyncio.sleep(0)
        raise error

    hooks = aiosmrt.Hooks(on_end=fail_later if later else fail)
    async with LocalEndpoint() as endpoint, endpoint.client(hooks=hooks) as client:
        response = await client.invoke_endpoint(endpoint_name="e", body="x")
        async with client.invoke_endpoint_with_response_stream(
            endpoint_name="e", body="a b"
        ) as stream:
            assert await stream.read() == b"a b"
        with pytest.raises(aiosmrt.ParameterError):  # as it is, not what the hook raises
            await client.invoke_endpoint(endpoint_name="", body="x")
    assert response.body
    assert caplog.text.count("on_end failed for ") == 3


class _OwnError(Exception):
    pass


@pytest.mark.parametrize("error", [_OwnError("mine"), aiosmrt.ConnectError("mine")])
@pytest.mark.parametrize(
    "station", ["on_start", "before_send", "after_headers", "on_first_part", "on_parts"]
)
@pytest.mark.asyncio
async def test_a_hook_that_raises_fails_the_call_and_leaks_nothing(
    station: str, error: Exception
) -> None:
    def fail(event: object) -> None:
        raise error

    hooks: dict[str, Callable[[object], None]] = {station: fail}
    async with (
        LocalEndpoint() as endpoint,
        endpoint.client(max_connections=1) as client,
    ):
        failing = client.with_options(hooks=aiosmrt.Hooks(**hooks))
        with pytest.raises(type(error), match="mine") as caught:
            async with failing.invoke_endpoint_with_response_stream(
                endpoint_name="e", body="a"
            ) as stream:
                await stream.read()
        assert caught.value is error
        # The only slot is free again; what a hook raises is nobody's retry.
        await asyncio.wait_for(client.invoke_endpoint(endpoint_name="e", body="x"), 5)
        assert len(endpoint.requests) == (1 if station in ("on_start", "before_send") else 2)


async def _iterate(stream: aiosmrt.ResponseStream) -> None:
    async for _ in stream:
        pass


async def _iterate_text(stream: aiosmrt.ResponseStream) -> None:
    async for _ in stream.iter_text():
        pass


@pytest.mark.parametrize("error", [_OwnError("mine"), aiosmrt.ConnectError("mine")])
@pytest.mark.parametrize("read", [_iterate, _iterate_text])
@pytest.mark.asyncio
async def test_a_hook_can_end_a_stream_that_is_open(
    read: Callable[[aiosmrt.ResponseStream], Any], error: Exception
) -> None:
    told: list[aiosmrt.OnEnd] = []
    come: list[aiosmrt.OnParts] = []
    more = asyncio.Event()

    async def answer() -> AsyncIterator[bytes]:
        yield b"a"
        await more.wait()
        yield b"b"
        await asyncio.sleep(3600)

    def stop(event: aiosmrt.OnParts) -> None:
        come.append(event)
        if len(come) == 2:
            raise error

    hooks = aiosmrt.Hooks(on_parts=stop, on_end=told.append)
    async with (
        LocalEndpoint(lambda _: answer()) as endpoint,
        endpoint.client(max_connections=1, hooks=hooks) as client,
    ):
        stream = await client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x")
        more.set()
        with pytest.raises(type(error), match="mine") as caught:
            await read(stream)
        assert caught.value is error
        # Nothing is left open, though nobody has closed it.
        assert client.stats().in_flight == 0
        if read is _iterate:
            with pytest.raises(aiosmrt.StreamClosed):
                await read(stream)
    assert [(event.outcome, event.error) for event in told] == [("error", error)]


_USED = {"prompt_tokens": 1, "completion_tokens": 2}
_SAID = json.dumps({"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]})


@pytest.mark.parametrize(
    ("read", "view"),
    [
        (lambda stream: stream.__aiter__(), "parts"),
        (lambda stream: stream.iter_lines(), "lines"),
        (lambda stream: stream.iter_json(), "JSON"),
        (lambda stream: stream.iter_tokens("choices[0].delta.content || ''"), "tokens"),
        (lambda stream: stream.iter_tokens("openai-chat"), "tokens:openai-chat"),
        (lambda stream: stream.iter_chat(), "chat:openai-chat"),
    ],
)
@pytest.mark.asyncio
async def test_an_end_tells_how_a_stream_was_read(
    read: Callable[[aiosmrt.ResponseStream], Any], view: str
) -> None:
    told: list[aiosmrt.OnEnd] = []
    used = json.dumps({"choices": [], "usage": _USED})
    hooks = aiosmrt.Hooks(on_end=told.append)
    async with (
        LocalEndpoint(lambda _: iter([f"{_SAID}\n", f"{used}\n"])) as endpoint,
        endpoint.client(hooks=hooks) as client,
    ):
        async with client.invoke_endpoint_with_response_stream(
            endpoint_name="e", body=b"x"
        ) as stream:
            async for _ in read(stream):
                pass
        async with client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x"):
            pass
    end, unread = told
    assert (end.view, end.usage) == (view, _USED if view.startswith("chat") else None)
    assert (unread.view, unread.usage) == (None, None)


@pytest.mark.asyncio
async def test_an_end_tells_where_the_call_went_and_what_was_tried() -> None:
    told: list[aiosmrt.OnEnd] = []
    hooks = aiosmrt.Hooks(on_end=told.append)
    async with LocalEndpoint() as endpoint, endpoint.client(hooks=hooks) as client:
        response = await client.invoke_endpoint(endpoint_name="e", body=b"x")
        with pytest.raises(aiosmrt.ServiceError) as failed:
            await client.with_options(
                aws_access_key_id="local", aws_secret_access_key="wrong"
            ).invoke_endpoint(endpoint_name="e", body=b"x")
        with pytest.raises(aiosmrt.ParameterError):
            await client.invoke_endpoint(endpoint_name="", body=b"x")
        good, bad, refused = told
        assert good.attempts == response.metadata.attempts
        assert bad.attempts == failed.value.attempts
        assert (good.origin, good.region_name) == (endpoint.url, client.region_name)
        assert (bad.origin, bad.region_name) == (endpoint.url, client.region_name)
        assert (refused.origin, refused.region_name, refused.attempts) == (None, None, ())


@pytest.mark.asyncio
async def test_a_failed_call_is_told_once() -> None:
    told: list[aiosmrt.OnEnd] = []
    async with (
        LocalEndpoint() as endpoint,
        endpoint.client(
            hooks=aiosmrt.Hooks(on_end=told.append), aws_secret_access_key="wrong"
        ) as client,
    ):
        with pytest.raises(aiosmrt.ServiceError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body="x")
        assert [event.error for event in told] == [caught.value]


class _Broken:
    def read(self, _: int) -> bytes:
        raise OSError("the disk is gone")


async def _wait_for_ever() -> AsyncIterator[bytes]:
    await asyncio.sleep(3600)
    yield b""


@pytest.mark.parametrize("later", [False, True], ids=["function", "coroutine function"])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"content_type": "\n"}, aiosmrt.ParameterError),
        ({"body": object()}, aiosmrt.ParameterError),
        ({"body": b"x" * 10_000_000}, aiosmrt.ParameterError),
        ({"headers": {"not a name": "x"}}, aiosmrt.ParameterError),
        ({"endpoint_name": ""}, aiosmrt.ParameterError),
        ({"body": _Broken()}, OSError),
        ({"timeout": 0.01, "body": _wait_for_ever}, aiosmrt.TotalTimeout),
    ],
)
@pytest.mark.asyncio
async def test_a_call_that_fails_before_it_is_sent_is_told_once(
    *, given: dict[str, object], kind: type[Exception], operation: str, later: bool
) -> None:
    told: list[object] = []

    async def note(event: object) -> None:
        await asyncio.sleep(0)
        told.append(event)

    hooks = aiosmrt.Hooks(on_end=note if later else told.append)
    client = aiosmrt.SageMakerRuntimeClient(region_name="eu-west-1", hooks=hooks)
    call: Any = getattr(client, spell(operation))
    parameters: dict[str, Any] = {"endpoint_name": "e", "body": b"x", **given}
    if callable(parameters["body"]):
        parameters["body"] = parameters["body"]()
    async with client:
        with pytest.raises(kind) as caught:
            await call(**parameters)
    (end,) = told
    assert isinstance(end, aiosmrt.OnEnd)
    assert (end.operation, end.endpoint_name) == (operation, given.get("endpoint_name", "e"))
    assert end.error is caught.value
    assert (end.outcome, end.metadata) == ("error", None)
    assert end.elapsed > 0


async def _misname(client: aiosmrt.SageMakerRuntimeClient, operation: str, way: str) -> None:
    method: Any = getattr(client, spell(operation))
    if way == "method":
        await method(endpoint_name="e", bodi=b"")
    else:
        await client.call(cast("Any", operation), {"EndpointName": "e", "Bodi": b""})


@pytest.mark.parametrize("way", ["method", "call"])
@pytest.mark.parametrize("later", [False, True], ids=["function", "coroutine function"])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.asyncio
async def test_a_call_with_an_unknown_keyword_is_told(
    *, operation: str, later: bool, way: str
) -> None:
    told: list[Any] = []

    async def note(event: object) -> None:
        await asyncio.sleep(0)
        told.append(event)

    hook = note if later else told.append
    hooks = aiosmrt.Hooks(on_start=hook, on_end=hook)
    async with aiosmrt.SageMakerRuntimeClient(region_name="eu-west-1", hooks=hooks) as client:
        with pytest.raises(TypeError, match=r"(?i)bodi") as caught:
            await _misname(client, operation, way)
        for _ in range(3):
            await asyncio.sleep(0)
    start, end = told
    assert (start.operation, start.endpoint_name) == (operation, "e")
    assert (end.outcome, end.error, end.call_id) == ("error", caught.value, start.call_id)


@pytest.mark.asyncio
async def test_a_call_whose_on_start_is_cancelled_has_an_end() -> None:
    told: list[object] = []

    async def wait(event: object) -> None:
        told.append(event)
        await asyncio.sleep(3600)

    hooks = aiosmrt.Hooks(on_start=wait, on_end=told.append)
    async with aiosmrt.SageMakerRuntimeClient(region_name="eu-west-1", hooks=hooks) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.invoke_endpoint(endpoint_name="e", body=b""), 0.01)
    _, end = told
    assert isinstance(end, aiosmrt.OnEnd)
    assert end.outcome == "cancelled"


@pytest.mark.parametrize("later", [False, True], ids=["function", "coroutine function"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_call_whose_task_or_stream_outlives_its_loop_was_left(*, later: bool) -> None:
    told: list[object] = []

    async def note(event: object) -> None:
        told.append(event)

    hook = note if later else told.append
    client = aiosmrt.SageMakerRuntimeClient(
        region_name="eu-west-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        hooks=aiosmrt.Hooks(on_start=hook, on_end=hook),
    )

    async def begin() -> object:
        task = asyncio.ensure_future(
            client.invoke_endpoint(endpoint_name="e", body=_wait_for_ever())
        )
        await asyncio.sleep(0.01)
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(begin())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.set_exception_handler(lambda *_: None)
    loop.close()
    assert len(told) == 1
    del task
    gc.collect()
    _, end = told
    assert isinstance(end, aiosmrt.OnEnd)
    assert (end.outcome, end.error) == ("left", None)


@pytest.mark.asyncio
async def test_what_was_never_begun_is_not_told() -> None:
    told: list[object] = []
    hooks = aiosmrt.Hooks(on_start=told.append, on_end=told.append)
    async with aiosmrt.SageMakerRuntimeClient(region_name="eu-west-1", hooks=hooks) as client:
        with pytest.warns(RuntimeWarning, match="never opened"):
            client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"")
        task = asyncio.ensure_future(client.invoke_endpoint(endpoint_name="e", body=b""))
        task.cancel()
        await asyncio.wait([task])
    assert told == []


@pytest.mark.asyncio
async def test_the_log_has_the_end_of_each_attempt(caplog: pytest.LogCaptureFixture) -> None:
    told: list[aiosmrt.OnEnd] = []
    caplog.set_level("DEBUG", "aiosmrt")
    hooks = aiosmrt.Hooks(on_end=told.append)
    async with LocalEndpoint() as endpoint, endpoint.client(hooks=hooks) as client:
        response = await client.invoke_endpoint(endpoint_name="e", body="x")
        wrong = client.with_options(aws_secret_access_key="no", aws_access_key_id="local")
        with pytest.raises(aiosmrt.ServiceError):
            await wrong.invoke_endpoint(endpoint_name="e", body="x")
    good, bad = (vars(record) for record in caplog.records if "ended after" in record.message)
    assert good["request_id"] == response.metadata.request_id
    assert (good["status"], good["error"], good["attempt"]) == (200, None, 1)
    assert good["seconds"] > 0
    assert (bad["status"], bad["error"]) == (403, "InvalidSignatureException")
    assert [good["call_id"], bad["call_id"]] == [event.call_id for event in told]


@pytest.mark.asyncio
async def test_a_client_without_settings_tells_its_observer() -> None:
    told: list[aiosmrt.OnEnd] = []
    async with aiosmrt.SageMakerRuntimeClient(hooks=aiosmrt.Hooks(on_end=told.append)) as client:
        with pytest.raises(aiosmrt.ConfigurationError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
    assert [event.error for event in told] == [caught.value]


@pytest.mark.asyncio
async def test_a_call_that_is_cancelled_before_it_is_sent_is_told() -> None:
    told: list[aiosmrt.OnEnd] = []
    hooks = aiosmrt.Hooks(on_end=told.append)
    async with aiosmrt.SageMakerRuntimeClient(region_name="eu-west-1", hooks=hooks) as client:
        call = client.invoke_endpoint(endpoint_name="e", body=_wait_for_ever())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.01)
    assert [(event.outcome, event.endpoint_name) for event in told] == [("cancelled", "e")]
