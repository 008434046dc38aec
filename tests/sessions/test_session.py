"""Sessions with a model that remembers them, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gc
import io
import json
import logging
import re
import traceback
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

import pytest

import aiosmrt
from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.config import Timeout
from aiosmrt.errors import (
    ClientClosed,
    ModelError,
    ParameterError,
    SessionExpired,
    TotalTimeout,
    UnexpectedResponse,
)
from aiosmrt.local import ModelFailure
from aiosmrt.sessions import SessionState, StatefulSession

pytestmark = pytest.mark.asyncio

OPEN = {"requestType": "NEW_SESSION"}
CLOSE = {"requestType": "CLOSE"}
_OPENED, _CLOSED = json.dumps(OPEN), json.dumps(CLOSE)


class Memory(Protocol):
    """The model of `conftest.py`."""

    told: dict[str, list[str]]
    seen: list[tuple[str | None, str]]
    ends: str
    prolongs: bool
    before: Callable[[str], Awaitable[None]] | None

    @property
    def ids(self) -> list[str | None]: ...


Client: TypeAlias = SageMakerRuntimeClient
Until: TypeAlias = Callable[..., Awaitable[None]]


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _open(client: Client, clock: _Clock | None = None, **options: Any) -> StatefulSession:
    """Give a session of the endpoint `e`, with a clock of its own."""
    return StatefulSession(
        client,
        {"endpoint_name": "e"},
        timeout=Timeout(),
        state=SessionState(clock or _Clock()),
        **options,
    )


async def _tell(session: StatefulSession, word: str) -> list[str]:
    told: list[str] = (await session.invoke_endpoint(body=word)).json()
    return told


# --- a session's way


async def test_the_first_call_opens_it_and_the_others_are_of_it(
    client: Client, memory: Memory
) -> None:
    async with client.session(endpoint_name="e", close_body=CLOSE) as session:
        assert memory.seen == []
        ids = [session.session_id]
        assert await _tell(session, "one") == ["one"]
        ids.append(session.session_id)
        assert ids == [None, "s0"]
        assert session.expires_at is not None
        assert session.expires_at > datetime.datetime.now(datetime.UTC)
        assert await _tell(session, "two") == ["one", "two"]
        async with session.invoke_endpoint_with_response_stream(body="three") as stream:
            assert await stream.read() == b"one two three "
    assert memory.seen == [
        ("NEW_SESSION", "one"),
        ("s0", "two"),
        ("s0", "three"),
        ("s0", _CLOSED),
    ]
    await session.aclose()
    assert len(memory.seen) == 4


async def test_containers_that_want_it_are_asked_for_a_session_first(
    client: Client, memory: Memory
) -> None:
    ask = {"endpoint_name": "e", "content_type": "text/plain"}
    async with client.session(**ask, open_body=OPEN, close_body=_CLOSED) as session:  # type: ignore[arg-type]
        async with session.invoke_endpoint_with_response_stream(body="one") as stream:
            assert await stream.read() == b"one "
        await _tell(session, "two")
    assert memory.seen == [
        ("NEW_SESSION", _OPENED),
        ("s0", "one"),
        ("s0", "two"),
        ("s0", _CLOSED),
    ]


async def test_sessions_of_one_client_are_apart(client: Client, memory: Memory) -> None:
    sessions = [client.session(endpoint_name="e") for _ in range(9)]
    for word in "ab":
        await asyncio.gather(*(_tell(session, word) for session in sessions))
    assert list(memory.told.values()) == [["a", "b"]] * 9
    for session in sessions:
        await session.aclose()


async def test_options_and_parameters_are_the_clients(client: Client, memory: Memory) -> None:
    derived = client.with_options(
        params={"endpoint_name": "e", "session_id": "s9", "body": "b"}, timeout=Timeout(idle=3)
    )
    async with derived.session(timeout=Timeout(total=60)) as session:
        assert session.endpoint_name == "e"
        await session.invoke_endpoint()
        await session.invoke_endpoint(json={}, endpoint_name="e", timeout=50)
    assert memory.seen == [("NEW_SESSION", "b"), ("s0", "{}")]
    with pytest.raises(ParameterError, match="endpoint_name is required"):
        client.session()


async def test_it_says_what_it_is(client: Client) -> None:
    session = client.session(endpoint_name="e")
    assert repr(session) == "<StatefulSession not open on e>"
    await _tell(session, "one")
    assert repr(session).startswith("<StatefulSession s0 on e until 20")
    assert repr(StatefulSession.__new__(StatefulSession)) == "<StatefulSession>"
    assert isinstance(session, aiosmrt.StatefulSession)


# --- opening


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("open_body", [None, OPEN])
async def test_first_calls_at_once_open_one_session(
    client: Client, memory: Memory, open_body: dict[str, object] | None, *, in_order: bool
) -> None:
    async with client.session(endpoint_name="e", in_order=in_order, open_body=open_body) as session:
        await asyncio.gather(*(_tell(session, str(number)) for number in range(9)))
    assert memory.ids.count("NEW_SESSION") == 1
    assert sorted(memory.told["s0"]) == list("012345678")


@pytest.mark.parametrize("open_body", [None, "fail"])
async def test_a_call_that_fails_to_open_it_leaves_that_to_the_next(
    client: Client, memory: Memory, open_body: str | None
) -> None:
    async with client.session(endpoint_name="e", open_body=open_body) as session:
        for _ in "ab":
            with pytest.raises(ModelError):
                await session.invoke_endpoint(body="fail")
        assert memory.ids == ["NEW_SESSION"] * 2
        assert session.session_id is None
    async with client.session(endpoint_name="e") as session:
        failed, *told = await asyncio.gather(
            session.invoke_endpoint(body="fail"),
            *(_tell(session, str(number)) for number in range(3)),
            return_exceptions=True,
        )
        assert isinstance(failed, ModelError)
        assert told == [["0"], ["0", "1"], ["0", "1", "2"]]


async def test_a_stream_cannot_open_it(client: Client, memory: Memory) -> None:
    async with client.session(endpoint_name="e") as session:
        with pytest.raises(ParameterError, match=r"first call with .*open_body=") as caught:
            await session.invoke_endpoint_with_response_stream(body="x")
        assert caught.value.operation == "InvokeEndpointWithResponseStream"
        assert caught.value.endpoint_name == "e"
        assert memory.seen == []
        assert await _tell(session, "one") == ["one"]


@pytest.mark.parametrize("open_body", [None, OPEN])
@pytest.mark.parametrize("named", [{}, {"x_amzn_sagemaker_new_session_id": "NEW_SESSION"}])
async def test_a_container_without_sessions_is_told_of(
    serve: Any,
    connect: Any,
    respond: Any,
    named: dict[str, str],
    open_body: dict[str, object] | None,
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(200, b'{"paid": 1}', x_amzn_requestid="7-7", **named))

    async with (
        serve(answer) as server,
        connect(server) as client,
        client.session(endpoint_name="e", open_body=open_body, close_body=CLOSE) as session,
    ):
        for _ in "ab":
            with pytest.raises(
                UnexpectedResponse, match=r"names no session.*requestType"
            ) as caught:
                await session.invoke_endpoint(body="x")
            error = caught.value
            assert error.body == b'{"paid": 1}'
            assert error.status == 200
            assert error.may_have_run
            assert (error.operation, error.endpoint_name) == ("InvokeEndpoint", "e")
            assert error.request_id == "7-7"
            assert len(error.attempts) == 1
    assert [request.headers["x-amzn-sagemaker-session-id"] for request in server.requests] == [
        "NEW_SESSION"
    ] * 2


async def test_bad_input_is_refused_before_a_session_is_opened(
    client: Client, memory: Memory
) -> None:
    given: list[dict[str, Any]] = [{"session_id": "s"}, {"bodies": b""}, {"EndpointName": "e"}]
    async with client.session(endpoint_name="e", open_body=OPEN) as session:
        for parameters in given:
            with pytest.raises(TypeError):
                await session.invoke_endpoint(**parameters)
            with pytest.raises(TypeError):
                session.invoke_endpoint_with_response_stream(**parameters)
        with pytest.raises(ParameterError):
            await session.invoke_endpoint(endpoint_name="f")
    assert memory.seen == []
    with pytest.raises(TypeError, match="'body'"):
        client.session(endpoint_name="e", body=b"")  # type: ignore[call-arg]


# --- order


async def test_calls_are_in_order(client: Client, memory: Memory) -> None:
    running = most = 0

    async def dawdle(body: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    memory.before = dawdle
    async with client.session(endpoint_name="e") as session:
        told = await asyncio.gather(*(_tell(session, str(number)) for number in range(9)))
    assert [len(words) for words in told] == list(range(1, 10))
    assert memory.told["s0"] == list("012345678")
    assert most == 1


async def test_or_not_where_that_is_said(client: Client, memory: Memory) -> None:
    async with client.session(endpoint_name="e", in_order=False) as session:
        await _tell(session, "first")
        meeting = asyncio.Barrier(3)

        async def meet(body: str) -> None:
            async with asyncio.timeout(10):
                await meeting.wait()

        memory.before = meet
        await asyncio.gather(*(_tell(session, str(number)) for number in range(3)))


async def _read_on(stream: aiosmrt.ResponseStream) -> None:
    assert await stream.read() == b"one x "


async def _leave(stream: aiosmrt.ResponseStream) -> None:
    async with stream:
        await anext(stream)


async def _close_view(stream: aiosmrt.ResponseStream) -> None:
    async with contextlib.aclosing(stream.iter_text()) as view:
        await anext(view)


async def _be_at_fault(stream: aiosmrt.ResponseStream) -> None:
    with pytest.raises(aiosmrt.InvalidJSON):
        _ = [value async for value in stream.iter_json()]


async def _drop(stream: aiosmrt.ResponseStream) -> None:
    """Leave it to the collector."""


@pytest.mark.parametrize("end", [_read_on, _leave, _close_view, _be_at_fault, _drop])
async def test_a_stream_keeps_its_turn_until_it_is_over(
    client: Client, end: Callable[[aiosmrt.ResponseStream], Awaitable[None]]
) -> None:
    async with client.session(endpoint_name="e") as session:
        await _tell(session, "one")
        stream = await session.invoke_endpoint_with_response_stream(body="x")
        waiting = asyncio.create_task(_tell(session, "two"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await end(stream)
        if end is _drop:
            with pytest.warns(ResourceWarning, match=r"stream.*never closed"):  # noqa: PT031
                del stream
                gc.collect()
        assert (await asyncio.wait_for(waiting, 10))[-1] == "two"


async def test_a_stream_that_fails_to_open_keeps_none(client: Client, memory: Memory) -> None:
    async with client.session(endpoint_name="e") as session:
        await _tell(session, "one")
        with pytest.raises(ModelError, match="as asked"):
            await session.invoke_endpoint_with_response_stream(body="fail")
        assert await _tell(session, "two") == ["one", "two"]


async def test_a_stream_of_no_parts_is_over_at_once(client: Client, memory: Memory) -> None:
    async with client.session(endpoint_name="e", open_body=OPEN) as session:
        stream = await session.invoke_endpoint_with_response_stream(body=_OPENED)
        await asyncio.wait_for(_tell(session, "one"), 10)
        await stream.aclose()


@pytest.mark.parametrize("open_body", [None, OPEN])
@pytest.mark.parametrize("number", range(1, 16, 2))
async def test_a_call_that_is_cancelled_anywhere_passes_its_turn_on(
    client: Client,
    cancellation: Any,
    number: int,
    open_body: dict[str, object] | None,
) -> None:
    async with client.session(endpoint_name="e", open_body=open_body) as session:
        await cancellation(number).strike(session.invoke_endpoint(body="one"))
        told = await asyncio.wait_for(_tell(session, "two"), 10)
        assert told[-1] == "two"
        async with session.invoke_endpoint_with_response_stream(body="x") as stream:
            waiting = asyncio.create_task(_tell(session, "never"))
            await asyncio.sleep(0)
            waiting.cancel()
            after = asyncio.create_task(_tell(session, "three"))
            await stream.read()
        assert (await asyncio.wait_for(after, 10))[-1] == "three"
        assert "never" not in await _tell(session, "four")


async def test_the_wait_for_a_turn_is_part_of_the_total(client: Client, memory: Memory) -> None:
    async with client.session(endpoint_name="e") as session:
        await _tell(session, "one")
        async with session.invoke_endpoint_with_response_stream(body="x") as stream:
            with pytest.raises(TotalTimeout, match="waiting for its turn in the session") as caught:
                await session.invoke_endpoint(body="late", timeout=0.02)
            error = caught.value
            assert (error.operation, error.endpoint_name) == ("InvokeEndpoint", "e")
            assert not error.may_have_run
            await stream.read()
        assert await _tell(session, "two") == ["one", "x", "two"]


async def test_the_opening_is_part_of_the_total(client: Client, memory: Memory) -> None:
    async def hang(body: str) -> None:
        await asyncio.Event().wait()

    memory.before = hang
    async with client.session(endpoint_name="e", open_body=OPEN) as session:
        with pytest.raises(TotalTimeout):
            await session.invoke_endpoint(body="x", timeout=0.2)
    assert memory.seen == [("NEW_SESSION", _OPENED)]


async def test_one_loop_after_another(client: Client, memory: Memory) -> None:
    session = client.session(endpoint_name="e")

    def tell(word: str) -> list[str]:
        return asyncio.run(_tell(session, word))

    assert await asyncio.to_thread(tell, "0") == ["0"]
    assert await asyncio.to_thread(tell, "1") == ["0", "1"]
    async with session.invoke_endpoint_with_response_stream(body="x"):
        with pytest.raises(RuntimeError, match="under way on another event loop"):
            await asyncio.to_thread(tell, "y")


# --- its end


async def test_a_session_whose_time_is_over_is_not_used(client: Client, memory: Memory) -> None:
    clock = _Clock()
    async with _open(client, clock, close_body=CLOSE) as session:
        await _tell(session, "one")
        clock.now += 1300
        for call in (session.invoke_endpoint, session.invoke_endpoint_with_response_stream):
            with pytest.raises(SessionExpired, match=r"s0 ended at .*nothing was sent") as caught:
                await call(body="two")
            error = caught.value
            assert error.session_id == "s0"
            assert error.expires_at == session.expires_at is not None
            assert error.reason == "expired"
            assert f"[{error.operation}, " in str(error)
            assert error.endpoint_name == "e"
            assert not error.may_have_run
            assert error.attempts == ()
            assert "reopen=True" in str(error)
    assert memory.ids == ["NEW_SESSION"]


@pytest.mark.parametrize("open_body", [None, OPEN])
async def test_or_another_is_opened(
    client: Client,
    memory: Memory,
    caplog: pytest.LogCaptureFixture,
    open_body: dict[str, object] | None,
) -> None:
    clock = _Clock()
    async with _open(client, clock, reopen=True, open_body=open_body, close_body=CLOSE) as session:
        await _tell(session, "one")
        clock.now += 1300
        with caplog.at_level(logging.INFO, "aiosmrt"):
            assert await _tell(session, "two") == ["two"]
        assert "session s0 ended at its time" in caplog.text
        assert session.session_id == "s1"
        assert await _tell(session, "three") == ["two", "three"]
    assert memory.seen[-1] == ("s1", _CLOSED)


@pytest.mark.parametrize("reopen", [True, False])
async def test_a_session_that_the_container_closes(
    client: Client, memory: Memory, *, reopen: bool
) -> None:
    async with _open(client, reopen=reopen, close_body="never") as session:
        await _tell(session, "one")
        response = await session.invoke_endpoint(json=CLOSE)
        assert response.closed_session_id == "s0"
        if reopen:
            assert await _tell(session, "two") == ["two"]
            await session.invoke_endpoint(json=CLOSE)
        else:
            with pytest.raises(SessionExpired, match="s0 was closed by its container") as caught:
                await session.invoke_endpoint(body="two")
            assert caught.value.reason == "closed"
    assert "never" not in [body for _, body in memory.seen]


async def _close_behind(client: Client, session: StatefulSession) -> None:
    await client.invoke_endpoint(endpoint_name="e", json=CLOSE, session_id=session.session_id)


@pytest.mark.parametrize("streams", [True, False])
async def test_a_session_that_the_container_does_not_know(
    client: Client, memory: Memory, *, streams: bool
) -> None:
    async with _open(client, close_body=CLOSE) as session:
        await _tell(session, "one")
        await _close_behind(client, session)
        call = session.invoke_endpoint_with_response_stream if streams else session.invoke_endpoint
        with pytest.raises(SessionExpired, match="s0 is not known to its container") as caught:
            await call(body="two")
        error, said = caught.value, caught.value.__cause__
        assert error.reason == "refused"
        assert isinstance(said, ModelError)
        assert said.original_message == "Bad request: session not found: s0"
        assert error.attempts == said.attempts
        assert len(error.attempts) == 1
        assert error.request_id == said.request_id is not None
        assert error.may_have_run == said.may_have_run
        assert "nothing was sent" not in str(error)
        with pytest.raises(SessionExpired, match="nothing was sent") as caught:
            await call(body="three")
        assert caught.value.reason == "refused"
        assert caught.value.__cause__ is None
    assert len(memory.seen) == 2


@pytest.mark.parametrize("open_body", [None, OPEN])
async def test_its_call_is_made_again_in_another(
    client: Client, memory: Memory, open_body: dict[str, object] | None
) -> None:
    async with _open(client, reopen=True, open_body=open_body) as session:
        await _tell(session, "one")
        await _close_behind(client, session)
        assert await _tell(session, "two") == ["two"]
        assert session.session_id == "s1"
        await _close_behind(client, session)
        if open_body is None:
            # Nor can another be opened for it.
            with pytest.raises(ParameterError):
                await session.invoke_endpoint_with_response_stream(body="x")
        else:
            async with session.invoke_endpoint_with_response_stream(body="x") as stream:
                assert await stream.read() == b"x "


async def test_a_body_that_is_spent_is_not_sent_again(client: Client, memory: Memory) -> None:
    async with _open(client, reopen=True) as session:
        await _tell(session, "one")
        await _close_behind(client, session)
        with pytest.raises(SessionExpired, match="can be read only once") as caught:
            await session.invoke_endpoint(body=io.BytesIO(b"two"))
        assert caught.value.reason == "refused"
        assert (await session.invoke_endpoint(body=io.BytesIO(b"three"))).json() == ["three"]


async def test_calls_that_are_refused_together_open_one_session(
    client: Client, memory: Memory
) -> None:
    async with _open(client, reopen=True, in_order=False) as session:
        await _tell(session, "one")
        await _close_behind(client, session)
        await asyncio.gather(*(_tell(session, str(number)) for number in range(9)))
    assert memory.ids.count("NEW_SESSION") == 2
    assert sorted(memory.told["s1"]) == list("012345678")


async def test_a_late_answer_of_the_former_session_tells_nothing_of_the_new_one(
    client: Client, memory: Memory
) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def wait(body: str) -> None:
        if body == "late":
            asked.set()
            await answered.wait()
        elif body == "lost" and memory.seen[-1][0] == "s0":
            raise ModelFailure(400, "session not found: s0")

    memory.before = wait
    memory.prolongs = True
    async with client.session(endpoint_name="e", reopen=True, in_order=False) as session:
        await _tell(session, "one")
        late = asyncio.create_task(_tell(session, "late"))
        await asked.wait()
        await _tell(session, "lost")
        assert session.session_id == "s1"
        answered.set()
        await late
        assert session.session_id == "s1"


async def test_a_new_session_that_is_refused_too_ends_the_call(
    client: Client, memory: Memory
) -> None:
    async with _open(client, reopen=True, open_body=OPEN) as session:

        async def forget(body: str) -> None:
            if body == "two":
                raise ModelFailure(400, f"session not found: {session.session_id}")

        await _tell(session, "one")
        memory.before = forget
        with pytest.raises(SessionExpired) as caught:
            await session.invoke_endpoint(body="two")
        assert caught.value.session_id == "s1"
    assert memory.ids == ["NEW_SESSION", "s0", "s0", "NEW_SESSION", "s1"]


async def test_other_failures_leave_it_open(client: Client, memory: Memory) -> None:
    async with _open(client, reopen=True) as session:
        await _tell(session, "one")
        with pytest.raises(ModelError, match="as asked"):
            await session.invoke_endpoint(body="fail")
        assert await _tell(session, "two") == ["one", "two"]


# --- closing


async def _fail_to_close(client: Client, memory: Memory) -> None:
    async def fail(body: str) -> None:
        if body == _CLOSED:
            raise ModelFailure(500, "no\nway")

    memory.before = fail


async def _hang_at_closing(client: Client, memory: Memory) -> None:
    async def hang(body: str) -> None:
        if body == _CLOSED:
            await asyncio.Event().wait()

    memory.before = hang


async def _close_the_client(client: Client, memory: Memory) -> None:
    await client.aclose()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_fail_to_close, "ModelError.*no way"),
        (_hang_at_closing, r"took more than 0\.05 s"),
        (_close_the_client, "ClientClosed"),
    ],
)
async def test_what_goes_wrong_at_closing_hides_nothing(
    client: Client,
    memory: Memory,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Client, Memory], Awaitable[None]],
    words: str,
) -> None:
    patience = 0.05 if spoil is _hang_at_closing else 60
    began = asyncio.get_running_loop().time()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - where it comes from is the point
        async with client.session(
            endpoint_name="e", close_body=CLOSE, close_timeout=patience
        ) as session:
            await _tell(session, "one")
            await spoil(client, memory)
            raise ZeroDivisionError
    assert asyncio.get_running_loop().time() - began < 30
    (record,) = [record for record in caplog.records if record.name == "aiosmrt"]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("<StatefulSession s0 on e until ")
    assert "\n" not in record.getMessage()
    assert re.search(f"was not closed: .*{words}", record.getMessage())
    with pytest.raises(ClientClosed, match="the session was closed"):
        await session.invoke_endpoint(body="two")


async def test_an_answer_that_confirms_nothing_is_told_of(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    async with client.session(endpoint_name="e", close_body="please close") as session:
        await _tell(session, "one")
    assert "was not closed: the answer to close_body does not name it" in caplog.text


async def test_nothing_is_closed_that_is_not_open(client: Client, memory: Memory) -> None:
    async with client.session(endpoint_name="e", close_body=CLOSE):
        pass
    assert memory.seen == []
    async with client.session(endpoint_name="e") as session:
        await _tell(session, "one")
    assert memory.ids == ["NEW_SESSION"]


async def test_what_is_gone_need_not_be_closed(
    client: Client, memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    async with client.session(endpoint_name="e", close_body=CLOSE) as session:
        await _tell(session, "one")
        await _close_behind(client, session)
    assert caplog.text == ""


async def test_a_session_that_is_cancelled_is_closed_all_the_same(
    client: Client, memory: Memory, until: Until
) -> None:
    async def hang(body: str) -> None:
        if body == "two":
            await asyncio.Event().wait()

    async def converse() -> None:
        async with client.session(endpoint_name="e", close_body=CLOSE) as session:
            await _tell(session, "one")
            await _tell(session, "two")

    memory.before = hang
    task = asyncio.create_task(converse())
    await until(lambda: len(memory.seen) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert memory.seen[2:] == [("s0", _CLOSED)]


async def test_but_a_second_cancellation_ends_it_at_once(
    client: Client, memory: Memory, until: Until
) -> None:
    async def hang(body: str) -> None:
        if body == _CLOSED:
            await asyncio.Event().wait()

    async def converse() -> None:
        async with client.session(
            endpoint_name="e", close_body=CLOSE, close_timeout=3600
        ) as session:
            await _tell(session, "one")
            answered.set()
            await asyncio.Event().wait()

    answered = asyncio.Event()
    memory.before = hang
    task = asyncio.create_task(converse())
    await answered.wait()
    task.cancel()
    await until(lambda: len(memory.seen) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_stream_that_is_left_open_is_closed_before(client: Client, memory: Memory) -> None:
    async with client.session(endpoint_name="e", close_body=CLOSE) as session:
        await _tell(session, "one")
        stream = await session.invoke_endpoint_with_response_stream(body="x")
    assert memory.seen[-1] == ("s0", _CLOSED)
    with pytest.raises(aiosmrt.StreamClosed):
        await stream.read()


async def test_a_stream_that_opens_while_it_is_closed_is_closed_before_too(
    client: Client, memory: Memory
) -> None:
    opens, go_on = asyncio.Event(), asyncio.Event()

    async def wait(body: str) -> None:
        if body == "x":
            opens.set()
            await go_on.wait()

    async def stream() -> None:
        async with session.invoke_endpoint_with_response_stream(body="x") as stream:
            await forever.wait()
            await stream.read()

    forever = asyncio.Event()
    async with client.session(endpoint_name="e", close_body=CLOSE, close_timeout=60) as session:
        await _tell(session, "one")
        memory.before = wait
        streaming = asyncio.create_task(stream())
        await opens.wait()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    assert memory.seen[-1] == ("s0", _CLOSED)
    forever.set()
    with pytest.raises(aiosmrt.StreamClosed):
        await streaming


async def test_calls_that_wait_when_it_is_closed_are_not_made(
    client: Client, memory: Memory
) -> None:
    async with client.session(endpoint_name="e", close_body=CLOSE) as session:
        await _tell(session, "one")
        stream = await session.invoke_endpoint_with_response_stream(body="x")
        waiting = asyncio.create_task(_tell(session, "late"))
        await asyncio.sleep(0)
    with pytest.raises(ClientClosed, match="the session was closed") as caught:
        await waiting
    assert caught.value.operation == "InvokeEndpoint"
    assert memory.seen[-1] == ("s0", _CLOSED)
    await stream.aclose()
    with pytest.raises(ClientClosed):
        await session.invoke_endpoint_with_response_stream(body="x")


async def test_a_call_under_way_ends_before_it_is_closed(client: Client, memory: Memory) -> None:
    go_on = asyncio.Event()

    async def wait(body: str) -> None:
        if body == "two":
            await go_on.wait()
        elif body == _CLOSED:
            assert memory.told["s0"] == ["one", "two"]

    async with client.session(endpoint_name="e", close_body=CLOSE, close_timeout=60) as session:
        await _tell(session, "one")
        memory.before = wait
        running = asyncio.create_task(_tell(session, "two"))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    assert await running == ["one", "two"]
    assert memory.seen[-1] == ("s0", _CLOSED)


async def test_who_closes_it_meanwhile_waits_until_it_is_closed(
    client: Client, memory: Memory
) -> None:
    """The end of a program and a signal of its user, say; the client is closed behind."""
    closes, go_on = asyncio.Event(), asyncio.Event()

    async def wait(body: str) -> None:
        if body == _CLOSED:
            closes.set()
            await go_on.wait()

    memory.before = wait
    session = client.session(endpoint_name="e", close_body=CLOSE, close_timeout=60)
    await _tell(session, "one")
    first = asyncio.create_task(session.aclose())
    await closes.wait()
    second = asyncio.create_task(session.aclose())
    await asyncio.sleep(0.01)
    assert not second.done()
    go_on.set()
    await second
    assert first.done()
    await first
    await session.aclose()


async def test_a_session_that_is_never_closed_warns(client: Client) -> None:
    session = client.session(endpoint_name="e", close_body=CLOSE)
    await _tell(session, "one")
    with pytest.warns(ResourceWarning, match=r"<StatefulSession s0 on e.*closed"):  # noqa: PT031
        del session
        gc.collect()


async def test_unless_there_is_nothing_to_close(client: Client) -> None:
    clock = _Clock()
    unopened = _open(client, close_body=CLOSE)
    without = _open(client)
    expired = _open(client, clock, close_body=CLOSE)
    for session in (without, expired):
        await _tell(session, "one")
    clock.now += 1300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del unopened, without, expired, session
        gc.collect()


# --- what is shown


async def test_no_body_is_shown_by_a_traceback(client: Client, memory: Memory) -> None:
    secret = "unspeakable"

    async def fail(body: str) -> None:
        raise ModelFailure(400, "session not found")

    memory.before = fail
    common = {"endpoint_name": "e", "custom_attributes": f"k={secret}"}
    for open_body in (None, {"secret": secret}):
        session = client.session(**common, open_body=open_body, close_body=secret)  # type: ignore[arg-type]
        for call in (session.invoke_endpoint, session.invoke_endpoint_with_response_stream):
            with pytest.raises(aiosmrt.AiosmrtError) as caught:
                await call(body=secret, headers={"x-a": secret})
            shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
            ours = [
                line
                for frame in shown.stack
                if "/aiosmrt/" in frame.filename
                for line in (frame.locals or {}).values()
            ]
            assert ours
            assert secret not in "".join(ours)
        await session.aclose()
    with pytest.raises(aiosmrt.ConfigurationError) as caught_early:
        client.session(**common, close_body={secret: float("nan")}, reopen=1)  # type: ignore[arg-type]
    shown = traceback.TracebackException.from_exception(caught_early.value, capture_locals=True)
    assert not [f for f in shown.stack if "/aiosmrt/" in f.filename and secret in str(f.locals)]
