"""The way of one call, at a server that counts."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import email.utils
import functools
import hashlib
import itertools
import json
import logging
import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import pytest
import pytest_asyncio

from aiosmrt.calls.call import NO_HOOKS, Call
from aiosmrt.calls.caller import Caller, Shared, read_refusal
from aiosmrt.calls.retries import PerEndpoint, RateLimiter
from aiosmrt.config import Credentials, RetryPolicy, Timeout
from aiosmrt.errors import (
    AiosmrtError,
    ClientClosed,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    CredentialsError,
    FirstByteTimeout,
    ParameterError,
    ServiceError,
    SlotTimeout,
    TotalTimeout,
)
from aiosmrt.hooks import AfterHeaders, BeforeSend, Hooks, OnEnd, OnRetry
from aiosmrt.http import Request, ResponseHead
from aiosmrt.service.model import INVOKE_ENDPOINT
from aiosmrt.service.operations import parse_error
from aiosmrt.signing.clock import Clock
from aiosmrt.signing.credentials import CredentialProvider
from aiosmrt.signing.sigv4 import Signer
from aiosmrt.transport import Pool, PooledResponse, PoolOptions

if TYPE_CHECKING:
    from tests.conftest import Cancellation

pytestmark = pytest.mark.usefixtures("quiet_loop")


class _Seen(Protocol):
    target: str
    headers: dict[str, str]
    body: bytes


class _Server(Protocol):
    url: str
    connections: int
    open_connections: int
    requests: list[_Seen]


class _Tls(Protocol):
    server: ssl.SSLContext
    client: ssl.SSLContext


Answer = Callable[[_Seen, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., AbstractAsyncContextManager[_Server]]
Respond = Callable[..., bytes]
Until = Callable[..., Awaitable[None]]

_KEYS = Credentials("AKIDEXAMPLE", "secret")
_AT_ONCE = RetryPolicy(backoff=lambda attempt, error: 0.0)


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[Pool]:
    async with contextlib.aclosing(Pool(PoolOptions(max_connections=1))) as pool:
        yield pool


async def _judge(response: PooledResponse, call: Call) -> bytes:
    """Take the body of a success, and raise what anything else means."""
    if response.head.status >= 300:
        raise parse_error(INVOKE_ENDPOINT, response.head, await read_refusal(response))
    body = await response.read()
    call.end_attempt()
    return body


def _caller(
    retry: RetryPolicy = _AT_ONCE,
    *,
    credentials: Any = _KEYS,
    shared: Shared | None = None,
    unsigned: bool = False,
    correct_clock_skew: bool = True,
) -> Caller:
    return Caller(
        signer=None if unsigned else Signer("us-east-1"),
        credentials=CredentialProvider(credentials=credentials),
        retry=retry,
        shared=shared or Shared(),
        correct_clock_skew=correct_clock_skew,
    )


def _call(
    url: str,
    *,
    limits: Timeout | None = None,
    endpoint_name: str = "mine",
    hooks: Hooks = NO_HOOKS,
    headers: Mapping[str, str] = {},
    body: bytes = b"{}",
) -> Call:
    return Call(
        operation="InvokeEndpoint",
        endpoint_name=endpoint_name,
        request=Request("POST", url, "/endpoints/mine/invocations", dict(headers), body),
        timeout=limits or Timeout(),
        hooks=hooks,
    )


def _in_turn(*answers: bytes) -> Answer:
    """Answer the first request with the first, and so on; the last goes on for ever."""
    left = list(answers)

    async def answer(request: _Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])

    return answer


def _clean(pool: Pool) -> bool:
    """Whether no slot is taken and no connection in use or being made."""
    connector = pool._connector.session.connector
    assert connector is not None
    used = len(connector._acquired) - len(pool._connector._idle)
    return pool._slots.free == 1 and not used and not pool._calls


async def _fail(caller: Caller, call: Call, pool: Pool) -> AiosmrtError:
    with pytest.raises(AiosmrtError) as caught:
        await caller.call(call, pool, _judge)
    assert _clean(pool)
    return caught.value


def _assert_stopped(error: AiosmrtError, reason: str) -> None:
    """The error says why there was no further attempt: where it is read, and nowhere twice."""
    assert reason in error.not_retried
    assert str(error).endswith(f"; not attempted again: {error.not_retried}")
    assert not hasattr(error, "__notes__")


# --- which failures are attempted again

_REFUSALS = [
    (429, {"x_amzn_errortype": "ThrottlingException"}),
    (429, {"x_amzn_errortype": "ModelNotReadyException"}),
    (429, {}),
    (400, {"x_amzn_errortype": "ThrottlingException"}),
    (503, {"x_amzn_errortype": "ServiceUnavailable"}),
    (503, {}),
    (530, {"x_amzn_errortype": "InternalDependencyException"}),
    (408, {"x_amzn_errortype": "RequestTimeoutException"}),
]
_DOUBTFUL = [
    (500, {"x_amzn_errortype": "InternalFailure"}),
    (500, {}),
    (502, {}),
    (504, {}),
    (408, {}),
]
_FINAL = [
    (400, {"x_amzn_errortype": "ValidationError"}),
    (403, {"x_amzn_errortype": "AccessDeniedException"}),
    (424, {"x_amzn_errortype": "ModelError"}),
    (302, {"location": "/elsewhere"}),
]


@pytest.mark.parametrize(("status", "headers"), _REFUSALS)
@pytest.mark.asyncio
async def test_a_refusal_is_attempted_again(
    status: int, headers: dict[str, str], pool: Pool, serve: Serve, respond: Respond
) -> None:
    refusal = respond(status, **headers)
    async with serve(_in_turn(refusal, refusal, respond(body=b"ok"))) as server:
        call = _call(server.url)
        assert await _caller().call(call, pool, _judge) == b"ok"
        assert len(server.requests) == 3
        assert [attempt.status for attempt in call.attempts] == [status, status, 200]
        assert [attempt.may_have_run for attempt in call.attempts] == [False, False, True]
        assert server.connections == 1
    async with serve(_in_turn(refusal)) as server:
        error = await _fail(_caller(), _call(server.url), pool)
        assert len(server.requests) == 3
        assert not error.may_have_run
        assert len(error.attempts) == 3
        _assert_stopped(error, "this was the last attempt that the retry policy allows")


# As HAProxy, Apache and load balancers of AWS write it.
_LATE = (
    b"HTTP/1.0 408 Request Time-out\r\nConnection: close\r\n\r\n<h1>408 Request Time-out</h1>\n",
    b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 408 REQUEST_TIMEOUT\r\nContent-Length:0\r\nConnection: Close\r\n\r\n",
)


@pytest.mark.parametrize("refusal", _LATE)
@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
@pytest.mark.asyncio
async def test_a_server_that_has_waited_too_long_for_a_request(
    refusal: bytes, kept: bool, pool: Pool, serve: Serve, respond: Respond
) -> None:
    """On a kept connection it is meant for the silence before, and crosses the request."""

    async def answer(request: _Seen, writer: asyncio.StreamWriter) -> None:
        if len(server.requests) == 1 + kept:
            writer.write(refusal)
            writer.close()
        else:
            writer.write(respond(body=b"ok"))

    async with serve(answer) as server:
        if kept:
            await _caller().call(_call(server.url), pool, _judge)
        call = _call(server.url)
        assert await _caller().call(call, pool, _judge) == b"ok"
        assert [attempt.status for attempt in call.attempts] == [408, 200]
        assert not call.attempts[0].may_have_run
        assert server.connections == 2


@pytest.mark.parametrize(("status", "headers"), _DOUBTFUL)
@pytest.mark.asyncio
async def test_what_may_have_run_the_model_is_not(
    status: int, headers: dict[str, str], pool: Pool, serve: Serve, respond: Respond
) -> None:
    async with serve(_in_turn(respond(status, **headers), respond())) as server:
        error = await _fail(_caller(), _call(server.url), pool)
        assert len(server.requests) == 1
    assert error.may_have_run
    _assert_stopped(error, "the model may have run, and RetryPolicy.retry_may_have_run is off")


@pytest.mark.parametrize(("status", "headers"), _DOUBTFUL)
@pytest.mark.asyncio
async def test_unless_that_is_asked_for(
    status: int, headers: dict[str, str], pool: Pool, serve: Serve, respond: Respond
) -> None:
    policy = attrs.evolve(_AT_ONCE, retry_may_have_run=True)
    async with serve(_in_turn(respond(status, **headers), respond(body=b"ok"))) as server:
        assert await _caller(policy).call(_call(server.url), pool, _judge) == b"ok"
        assert len(server.requests) == 2


@pytest.mark.parametrize(("status", "headers"), _FINAL)
@pytest.mark.parametrize("bold", [False, True])
@pytest.mark.asyncio
async def test_what_would_fail_again_is_not_attempted_again(
    status: int,
    headers: dict[str, str],
    bold: bool,
    pool: Pool,
    request: pytest.FixtureRequest,
) -> None:
    serve: Serve = request.getfixturevalue("serve")
    respond: Respond = request.getfixturevalue("respond")
    policy = attrs.evolve(_AT_ONCE, retry_may_have_run=bold)
    async with serve(_in_turn(respond(status, **headers), respond())) as server:
        error = await _fail(_caller(policy), _call(server.url), pool)
        assert len(server.requests) == 1
    assert error.may_have_run == (status == 424)
    assert not error.not_retried
    assert "attempted again" not in str(error)


@pytest.mark.asyncio
async def test_what_fails_for_good_after_a_retry_says_so(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    async with serve(_in_turn(respond(503), respond(403))) as server:
        error = await _fail(_caller(), _call(server.url), pool)
    _assert_stopped(error, "another attempt would fail in the same way")


async def _say_nothing(request: _Seen, writer: asyncio.StreamWriter) -> None:
    """Leave the request without an answer."""


async def _hang_up(request: _Seen, writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize(
    ("answer", "kind"), [(_say_nothing, FirstByteTimeout), (_hang_up, ConnectionLost)]
)
@pytest.mark.asyncio
async def test_a_request_without_an_answer(
    answer: Answer, kind: type[AiosmrtError], pool: Pool, serve: Serve, until: Until
) -> None:
    limits = Timeout(first_byte=0.05)
    async with serve(answer) as server:
        error = await _fail(_caller(), _call(server.url, limits=limits), pool)
        assert type(error) is kind
        assert error.may_have_run
        assert len(server.requests) == 1
        await until(lambda: server.open_connections == 0)
        bold = _caller(attrs.evolve(_AT_ONCE, retry_may_have_run=True))
        error = await _fail(bold, _call(server.url, limits=limits), pool)
        assert type(error) is kind
        assert len(error.attempts) == 3
        assert len(server.requests) == 4


@pytest.mark.asyncio
async def test_a_refused_connection_is_attempted_again(pool: Pool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    error = await _fail(_caller(), _call(url), pool)
    assert type(error) is ConnectError
    assert len(error.attempts) == 3
    assert not error.may_have_run
    assert [attempt.error for attempt in error.attempts] == ["ConnectError"] * 3


@pytest.mark.asyncio
async def test_a_body_that_did_not_go_out_whole_is_sent_again(
    pool: Pool, serve_raw: Serve, respond: Respond
) -> None:
    bodies: list[bytes] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 5000000\r\n" in head.lower()
        if server.connections > 1:
            bodies.append(await reader.readexactly(5_000_000))
            writer.write(respond(body=b"ok"))
            await reader.read()

    async with serve_raw(converse) as server:
        call = _call(server.url, body=bytes(5_000_000))
        assert await _caller().call(call, pool, _judge) == b"ok"
    assert bodies == [bytes(5_000_000)]
    assert [attempt.error for attempt in call.attempts] == ["ConnectionLost", None]


@pytest.mark.asyncio
async def test_slot_and_total_are_not_stretched_by_retries(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    slot = await pool.acquire(Call("o", "e", Request("POST", "", "", {}), Timeout()).limits)
    call = _call("http://host.invalid", limits=Timeout(slot=0.05))
    with pytest.raises(SlotTimeout) as caught:
        await _caller().call(call, pool, _judge)
    (attempt,) = caught.value.attempts
    assert attempt.slot_wait > 0.04
    assert attempt.duration < 0.04
    assert attempt.error == "SlotTimeout"
    assert not caught.value.may_have_run
    slot.release()


# --- delays, and the end of patience


@pytest.mark.asyncio
async def test_the_policy_is_asked_and_obeyed(pool: Pool, serve: Serve, respond: Respond) -> None:
    asked = []

    def backoff(attempt: int, error: AiosmrtError) -> float | None:
        asked.append((attempt, type(error)))
        return 0.03 * attempt

    async with serve(_in_turn(respond(503), respond(503), respond())) as server:
        began = time.perf_counter()
        call = _call(server.url)
        await _caller(RetryPolicy(backoff=backoff)).call(call, pool, _judge)
        assert time.perf_counter() - began > 0.08
    assert [attempt for attempt, _ in asked] == [1, 2]
    assert [attempt.delay for attempt in call.attempts] == [0.03, 0.06, None]


@pytest.mark.asyncio
async def test_a_policy_can_stop(pool: Pool, serve: Serve, respond: Respond) -> None:
    async with serve(_in_turn(respond(503))) as server:
        policy = RetryPolicy(backoff=lambda attempt, error: None)
        error = await _fail(_caller(policy), _call(server.url), pool)
        assert len(server.requests) == 1
    _assert_stopped(error, "RetryPolicy.backoff said stop")


@pytest.mark.asyncio
async def test_a_policy_that_fails_does_not_hide_what_ran(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    def backoff(attempt: int, error: AiosmrtError) -> float | None:
        raise ConfigurationError("no idea")

    async with serve(_in_turn(respond(500))) as server:
        policy = RetryPolicy(retry_may_have_run=True, backoff=backoff)
        error = await _fail(_caller(policy), _call(server.url), pool)
    assert isinstance(error, ConfigurationError)
    assert [attempt.may_have_run for attempt in error.attempts] == [True]
    assert error.may_have_run


@pytest.mark.parametrize(
    ("station", "status", "ran"),
    [
        ("before_send", 200, False),
        ("after_headers", 200, True),
        ("on_start", 200, False),
        ("on_retry", 500, True),
    ],
)
@pytest.mark.asyncio
async def test_a_hook_that_fails_does_not_hide_what_ran(
    *, station: str, status: int, ran: bool, pool: Pool, serve: Serve, respond: Respond
) -> None:
    def fail(event: object) -> None:
        raise ConfigurationError("of another call")

    stations: dict[str, Callable[[object], None]] = {station: fail}
    hooks = Hooks(**stations)
    async with serve(_in_turn(respond(status))) as server:
        policy = RetryPolicy(retry_may_have_run=True, backoff=lambda attempt, error: 0.0)
        error = await _fail(_caller(policy), _call(server.url, hooks=hooks), pool)
    assert isinstance(error, ConfigurationError)
    assert error.may_have_run is ran
    assert error.operation is None
    assert error.attempts == ()


@pytest.mark.asyncio
async def test_the_service_is_asked_how_long_to_wait(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    refusal = respond(503, x_amz_retry_after="60")
    async with serve(_in_turn(refusal, respond())) as server:
        call = _call(server.url)
        began = time.perf_counter()
        await _caller(RetryPolicy(base_delay=0.001)).call(call, pool, _judge)
        assert time.perf_counter() - began > 0.055
    assert call.attempts[0].delay == pytest.approx(0.06)


@pytest.mark.asyncio
async def test_the_service_may_say_until_when(pool: Pool, serve: Serve, respond: Respond) -> None:
    clock = {"date": "Fri, 20 Nov 2026 12:36:00 GMT"}
    refusal = respond(503, retry_after="Fri, 20 Nov 2026 12:36:01 GMT", **clock)
    async with serve(_in_turn(refusal, respond())) as server:
        call = _call(server.url)
        began = time.perf_counter()
        await _caller(RetryPolicy(base_delay=0.001)).call(call, pool, _judge)
        assert time.perf_counter() - began > 0.99
    assert call.attempts[0].delay == 1.0


@pytest.mark.asyncio
async def test_a_pause_that_would_outlast_the_total_is_not_begun(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    shared = Shared()
    async with serve(_in_turn(respond(503))) as server:
        policy = RetryPolicy(backoff=lambda attempt, error: 5.0)
        began = time.perf_counter()
        call = _call(server.url, limits=Timeout(total=2))
        error = await _fail(_caller(policy, shared=shared), call, pool)
        assert time.perf_counter() - began < 1
        assert len(server.requests) == 1
    assert isinstance(error, ServiceError)
    assert error.attempts[0].delay is None
    _assert_stopped(error, "Timeout.total would end before")
    assert not shared.quotas["mine"].spent


@pytest.mark.asyncio
async def test_the_total_ends_a_call_of_many_attempts(
    pool: Pool, serve: Serve, respond: Respond, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The machine's pace decides nothing: the time is over when the third attempt has come.
    loop, passed = asyncio.get_running_loop(), 0.0
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + passed)

    async def answer(request: _Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal passed
        if len(server.requests) == 3:
            passed = 60
            await asyncio.Event().wait()
        writer.write(respond(503))

    async with serve(answer) as server:
        policy = attrs.evolve(_AT_ONCE, max_attempts=50)
        error = await _fail(_caller(policy), _call(server.url, limits=Timeout(total=60)), pool)
        assert len(server.requests) == 3
    assert isinstance(error, TotalTimeout)
    assert len(error.attempts) == 3
    assert error.may_have_run


@pytest.mark.asyncio
async def test_the_quota_is_spent_and_earned(pool: Pool, serve: Serve, respond: Respond) -> None:
    shared = Shared()
    caller = _caller(attrs.evolve(_AT_ONCE, quota=100), shared=shared)

    def spent() -> int:
        return shared.quotas["mine"].spent

    async with serve(_in_turn(respond(503), respond())) as server:
        await caller.call(_call(server.url), pool, _judge)
        assert not spent()  # given back by the success
    async with serve(_in_turn(respond(503))) as server:
        await _fail(caller, _call(server.url), pool)
        assert spent() == 28
        shared.quotas["mine"].spent = 99
        error = await _fail(caller, _call(server.url), pool)
        assert len(error.attempts) == 1
        _assert_stopped(error, "the retry quota is used up")
        assert "RetryPolicy(quota=...)" in str(error)
    async with serve(_in_turn(respond())) as server:
        await caller.call(_call(server.url), pool, _judge)
        assert spent() == 98


@pytest.mark.asyncio
async def test_each_endpoint_has_its_own_quota(pool: Pool, serve: Serve, respond: Respond) -> None:
    caller = _caller(attrs.evolve(_AT_ONCE, quota=14))
    tried: list[str] = []

    async def answer(request: _Seen, writer: asyncio.StreamWriter) -> None:
        bad = request.target == "/bad" or not tried
        tried.append(request.target)
        writer.write(respond(503 if bad else 200))

    async with serve(answer) as server:
        errors = []
        for _ in range(2):
            bad = _call(server.url, endpoint_name="bad")
            bad.request.path = "/bad"
            errors.append(await _fail(caller, bad, pool))
        _assert_stopped(errors[1], "the retry quota is used up")
        tried.clear()
        good = _call(server.url, endpoint_name="good")
        await caller.call(good, pool, _judge)
        assert [attempt.status for attempt in good.attempts] == [503, 200]


@pytest.mark.asyncio
async def test_what_is_throttled_as_one_has_one_quota(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    """The objects of a bucket are no endpoints."""
    caller = _caller(attrs.evolve(_AT_ONCE, quota=14))
    async with serve(_in_turn(respond(503))) as server:
        for name, attempts in (("s3://b/1", 2), ("s3://b/2", 1)):
            call = _call(server.url, endpoint_name=name)
            call.throttled_as = "s3://b"
            assert len((await _fail(caller, call, pool)).attempts) == attempts


@pytest.mark.asyncio
async def test_what_the_policys_function_raises_is_raised(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    def backoff(attempt: int, error: AiosmrtError) -> float | None:
        raise ZeroDivisionError

    async with serve(_in_turn(respond(503))) as server:
        with pytest.raises(ZeroDivisionError):
            await _caller(RetryPolicy(backoff=backoff)).call(_call(server.url), pool, _judge)
        assert _clean(pool)


# --- what is sent


@pytest.mark.asyncio
async def test_attempts_are_numbered_and_of_one_invocation(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    async with serve(_in_turn(respond(503), respond(503), respond())) as server:
        for _ in range(2):
            await _caller().call(_call(server.url), pool, _judge)
    first, second, third, fourth = [seen.headers for seen in server.requests]
    invocation = first["amz-sdk-invocation-id"]
    assert str(uuid.UUID(invocation)) == invocation
    assert second["amz-sdk-invocation-id"] == third["amz-sdk-invocation-id"] == invocation
    assert fourth["amz-sdk-invocation-id"] != invocation
    assert [seen["amz-sdk-request"] for seen in (first, second, third, fourth)] == [
        "attempt=1; max=3",
        "attempt=2; max=3",
        "attempt=3; max=3",
        "attempt=1; max=3",
    ]


class _ServersClock(Clock):
    """A clock that is a second later with every request that has been seen."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[_Seen] = []

    def now(self) -> datetime.datetime:
        begin = datetime.datetime(2026, 11, 22, 12, 0, 0, tzinfo=datetime.UTC)
        return begin + datetime.timedelta(seconds=len(self.requests))


@pytest.mark.asyncio
async def test_a_call_is_signed_after_its_wait_for_a_slot(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    clock = _ServersClock()
    caller = _caller(shared=Shared(clock=clock))
    async with serve(_in_turn(respond())) as server:
        clock.requests = server.requests
        calls = [_call(server.url) for _ in range(6)]
        await asyncio.gather(*[caller.call(call, pool, _judge) for call in calls])
        dates = [seen.headers["x-amz-date"] for seen in server.requests]
    assert dates == [f"20261122T12000{second}Z" for second in range(6)]
    waits = [call.slot_wait for call in calls]
    # Not the waits themselves are in order: the machine may pause between the calls' beginnings.
    granted = [
        call.attempts[0].started_at + datetime.timedelta(seconds=wait)
        for call, wait in zip(calls, waits, strict=True)
    ]
    assert granted == sorted(granted)
    assert waits[0] < waits[-1]
    assert waits[-1] == calls[-1].attempts[0].slot_wait


@pytest.mark.asyncio
async def test_every_attempt_is_signed_anew(pool: Pool, serve: Serve, respond: Respond) -> None:
    clock = _ServersClock()
    caller = _caller(shared=Shared(clock=clock))
    async with serve(_in_turn(respond(503), respond())) as server:
        clock.requests = server.requests
        await caller.call(_call(server.url, headers={"accept": "text/csv"}), pool, _judge)
    for number, seen in enumerate(server.requests):
        now = datetime.datetime(2026, 11, 22, 12, 0, number, tzinfo=datetime.UTC)
        path = "/endpoints/mine/invocations"
        request = Request("POST", server.url, path, {"accept": "text/csv"}, b"{}")
        expected = Signer("us-east-1").sign(request, _KEYS, now)
        assert seen.headers["x-amz-date"] == expected["x-amz-date"]
        assert seen.headers["authorization"] == expected["authorization"]


@pytest.mark.asyncio
async def test_large_bodies_are_hashed_in_turn_by_a_few_threads(
    serve: Serve, respond: Respond, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256, hashed_in = hashlib.sha256, []

    def note(data: bytes = b"") -> object:
        if len(data) == 300_000:
            hashed_in.append(threading.get_ident())
            time.sleep(0.01)
        return sha256(data)

    monkeypatch.setattr(hashlib, "sha256", note)
    async with (
        contextlib.aclosing(Pool(PoolOptions(max_connections=20))) as pool,
        serve(_in_turn(*[respond()] * 20)) as server,
    ):
        calls = (_call(server.url, body=b"x" * 300_000) for _ in range(20))
        await asyncio.gather(*(_caller().call(call, pool, _judge) for call in calls))
    assert len(hashed_in) == 20
    assert len(set(hashed_in)) <= 4


@pytest.mark.asyncio
async def test_a_large_body_is_hashed_once_and_not_on_the_loop(
    pool: Pool, serve: Serve, respond: Respond, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256, hashed_in = hashlib.sha256, []

    def note(data: bytes = b"") -> object:
        if len(data) == 300_000:
            hashed_in.append(threading.current_thread())
        return sha256(data)

    monkeypatch.setattr(hashlib, "sha256", note)
    clock = _ServersClock()
    body = b"x" * 300_000
    async with serve(_in_turn(respond(503), respond())) as server:
        clock.requests = server.requests
        call = _call(server.url, body=body)
        await _caller(shared=Shared(clock=clock)).call(call, pool, _judge)
    assert len(hashed_in) == 1
    assert threading.current_thread() not in hashed_in
    for number, seen in enumerate(server.requests):
        now = datetime.datetime(2026, 11, 22, 12, 0, number, tzinfo=datetime.UTC)
        request = Request("POST", server.url, "/endpoints/mine/invocations", {}, body)
        expected = Signer("us-east-1").sign(request, _KEYS, now)
        assert seen.headers["authorization"] == expected["authorization"]


@pytest.mark.asyncio
async def test_a_call_may_go_unsigned(pool: Pool, serve: Serve, respond: Respond) -> None:
    async def refuse() -> Credentials:
        raise AssertionError("nobody should ask")

    async with serve(_in_turn(respond())) as server:
        caller = _caller(unsigned=True, credentials=refuse)
        await caller.call(_call(server.url), pool, _judge)
    sent = server.requests[0].headers
    assert "authorization" not in sent
    assert "x-amz-date" not in sent
    assert "amz-sdk-invocation-id" in sent


# --- credentials


@pytest.mark.asyncio
async def test_a_refusal_of_an_unsigned_call_concerns_no_credentials(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    async with serve(_in_turn(respond(403, x_amzn_errortype="ExpiredToken"))) as server:
        error = await _fail(_caller(unsigned=True), _call(server.url), pool)
    assert isinstance(error, ServiceError)


@pytest.mark.asyncio
async def test_without_credentials_nothing_is_sent(pool: Pool, serve: Serve) -> None:
    async def fetch() -> Credentials:
        raise CredentialsError("the vault is closed")

    async with serve(_say_nothing) as server:
        error = await _fail(_caller(credentials=fetch), _call(server.url), pool)
        assert not server.connections
    assert isinstance(error, CredentialsError)
    assert error.operation == "InvokeEndpoint"
    assert len(error.attempts) == 1
    assert not error.may_have_run


# --- a wrong clock


def _skewed(respond: Respond, seconds: float, code: str = "RequestTimeTooSkewed") -> bytes:
    date = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return respond(403, x_amzn_errortype=code, date=email.utils.format_datetime(date, usegmt=True))


def _signed_at(seen: _Seen) -> datetime.datetime:
    text = seen.headers["x-amz-date"]
    return datetime.datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
@pytest.mark.parametrize("code", ["InvalidSignatureException", "RequestExpired"])
@pytest.mark.asyncio
async def test_a_wrong_clock_is_corrected_and_the_call_signed_anew(
    code: str, seconds: float, pool: Pool, serve: Serve, respond: Respond
) -> None:
    shared = Shared()
    retried: list[OnRetry] = []
    caller = _caller(RetryPolicy(mode="off"), shared=shared)
    async with serve(_in_turn(_skewed(respond, seconds, code), respond(body=b"ok"))) as server:
        call = _call(server.url, hooks=Hooks(on_retry=retried.append))
        assert await caller.call(call, pool, _judge) == b"ok"
        await caller.call(_call(server.url), pool, _judge)
    assert [attempt.error for attempt in call.attempts] == [code, None]
    assert [attempt.delay for attempt in call.attempts] == [0.0, None]
    assert [event.attempt.error for event in retried] == [code]
    first, second, third = map(_signed_at, server.requests)
    assert (second - first).total_seconds() == pytest.approx(seconds, abs=30)
    assert (third - second).total_seconds() == pytest.approx(0, abs=30)
    assert not shared.quotas["mine"].spent


@pytest.mark.asyncio
async def test_a_clock_is_corrected_once_a_call(pool: Pool, serve: Serve, respond: Respond) -> None:
    answers = (_skewed(respond, 3600), _skewed(respond, -3600), respond())
    async with serve(_in_turn(*answers)) as server:
        error = await _fail(_caller(), _call(server.url), pool)
        assert len(server.requests) == 2
    assert len(error.attempts) == 2
    assert not error.may_have_run


@pytest.mark.asyncio
async def test_the_attempt_that_a_wrong_clock_cost_does_not_count(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    async with serve(_in_turn(_skewed(respond, 3600), respond(503))) as server:
        error = await _fail(_caller(), _call(server.url), pool)
        assert len(server.requests) == 4
        assert len(error.attempts) == 4


@pytest.mark.parametrize(
    ("seconds", "code", "options"),
    [
        (60, "RequestTimeTooSkewed", {}),
        (3600, "AccessDeniedException", {}),
        (3600, "RequestTimeTooSkewed", {"correct_clock_skew": False}),
        (3600, "RequestTimeTooSkewed", {"unsigned": True}),
    ],
    ids=["close enough", "another refusal", "switched off", "unsigned"],
)
@pytest.mark.asyncio
async def test_the_clock_is_left_alone(
    seconds: float, code: str, options: dict[str, Any], pool: Pool, request: pytest.FixtureRequest
) -> None:
    serve: Serve = request.getfixturevalue("serve")
    respond: Respond = request.getfixturevalue("respond")
    shared = Shared()
    async with serve(_in_turn(_skewed(respond, seconds, code))) as server:
        await _fail(_caller(shared=shared, **options), _call(server.url), pool)
        assert len(server.requests) == 1
    assert not shared.clock.offset


# --- adaptive mode


class _Limiter(RateLimiter):
    """A limiter that has the first attempts wait, and remembers what it learnt."""

    def __init__(self, *waits: float) -> None:
        super().__init__(time.monotonic())
        self.waits = list(waits)
        self.learnt: list[bool] = []

    def acquire(self, now: float, ticket: int | None = None) -> float:
        return self.waits.pop(0) if self.waits else 0.0

    def update(self, now: float, *, throttled: bool) -> None:
        self.learnt.append(throttled)


def _paced_by(limiter: RateLimiter) -> Shared:
    return Shared(limiters=PerEndpoint(lambda: limiter))


@pytest.mark.asyncio
async def test_adaptive_mode_waits_and_learns(pool: Pool, serve: Serve, respond: Respond) -> None:
    limiter = _Limiter(0.03, 0.03)
    policy = attrs.evolve(_AT_ONCE, mode="adaptive")
    async with serve(_in_turn(respond(429), respond(503), respond(), respond(400))) as server:
        caller = _caller(policy, shared=_paced_by(limiter))
        began = time.perf_counter()
        await caller.call(_call(server.url), pool, _judge)
        assert time.perf_counter() - began > 0.055
        await _fail(caller, _call(server.url), pool)
        with pytest.raises(ConnectError):
            await caller.call(_call("http://127.0.0.1:1"), pool, _judge)
    assert limiter.learnt == [True, False, False, False]  # nothing from what got no answer


@pytest.mark.asyncio
async def test_the_wait_for_the_pace_is_told_as_what_it_is(
    pool: Pool, serve: Serve, respond: Respond, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aiosmrt")
    policy = attrs.evolve(_AT_ONCE, mode="adaptive")
    async with serve(_in_turn(respond(429), respond())) as server:
        call = _call(server.url)
        caller = _caller(policy, shared=_paced_by(_Limiter(0.0, 0.05, 0.05)))
        await caller.call(call, pool, _judge)
    first, second = call.attempts
    assert first.pace_wait == 0.0
    assert 0.095 < second.pace_wait < 5
    assert second.slot_wait < 0.05
    assert second.duration < 0.05
    assert call.slot_wait < 0.05
    waits = [record.getMessage() for record in caplog.records if "adaptive" in record.getMessage()]
    said = "adaptive mode holds attempt 2 back after throttling, for about 0.05 s"
    assert waits == [f"InvokeEndpoint on mine: {said}"]


@pytest.mark.asyncio
async def test_who_waits_for_the_pace_holds_no_slot(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    shared = Shared()
    shared.limiters["slow"] = _Limiter(60.0)
    caller = _caller(attrs.evolve(_AT_ONCE, mode="adaptive"), shared=shared)
    async with serve(_in_turn(respond())) as server:
        slow = asyncio.create_task(
            caller.call(_call(server.url, endpoint_name="slow"), pool, _judge)
        )
        await asyncio.sleep(0)
        # Another endpoint is not slowed down, and its calls have all the slots.
        await caller.call(_call(server.url, endpoint_name="quick"), pool, _judge)
        assert not slow.done()
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
    assert shared.limiters["slow"].take_ticket() == 2


@pytest.mark.asyncio
async def test_other_modes_do_not_pace(pool: Pool, serve: Serve, respond: Respond) -> None:
    limiter = _Limiter(5.0)
    async with serve(_in_turn(respond(429), respond())) as server:
        await _caller(shared=_paced_by(limiter)).call(_call(server.url), pool, _judge)
    assert limiter.learnt == []


@pytest.mark.asyncio
async def test_the_total_ends_a_wait_for_the_pace(pool: Pool) -> None:
    shared = _paced_by(_Limiter(*[5.0] * 9))
    caller = _caller(RetryPolicy(mode="adaptive"), shared=shared)
    call = _call("http://host.invalid", limits=Timeout(total=0.05))
    assert isinstance(await _fail(caller, call, pool), TotalTimeout)


# --- what is told afterwards


@pytest.mark.asyncio
async def test_what_a_call_knows_of_its_attempts(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    async def answer(request: _Seen, writer: asyncio.StreamWriter) -> None:
        number = len(server.requests)
        await asyncio.sleep(0.02)
        headers = {"x_amzn_requestid": f"id-{number}"}
        if number == 1:
            headers["x_amzn_errortype"] = "ThrottlingException"
        writer.write(respond(429 if number == 1 else 200, **headers))

    before = datetime.datetime.now(datetime.UTC)
    async with serve(answer) as server:
        call = _call(server.url)
        await _caller().call(call, pool, _judge)
    first, second = call.attempts
    assert (first.number, second.number) == (1, 2)
    assert before <= first.started_at <= second.started_at <= datetime.datetime.now(datetime.UTC)
    assert (first.status, second.status) == (429, 200)
    assert (first.error, second.error) == ("ThrottlingException", None)
    assert (first.request_id, second.request_id) == ("id-1", "id-2")
    assert (first.may_have_run, second.may_have_run) == (False, True)
    assert (first.delay, second.delay) == (0.0, None)
    for attempt in call.attempts:
        assert 0.015 < attempt.duration < 5
        assert 0 <= attempt.slot_wait < 0.015
    assert call.head is not None
    metadata = call.describe(call.head)
    assert metadata.request_id == "id-2"
    assert metadata.status == 200
    assert metadata.headers["content-type"] == "application/json"
    assert metadata.attempts == (first, second)
    assert metadata.slot_wait == pytest.approx(first.slot_wait + second.slot_wait)
    assert 0.015 < metadata.time_to_first_byte < metadata.total
    assert metadata.total > 0.035


@pytest.mark.asyncio
async def test_an_error_knows_its_call(pool: Pool, serve: Serve, respond: Respond) -> None:
    refusal = respond(403, x_amzn_errortype="AccessDeniedException", x_amzn_requestid="id-1")
    async with serve(_in_turn(refusal)) as server:
        error = await _fail(_caller(), _call(server.url), pool)
    assert (error.operation, error.endpoint_name) == ("InvokeEndpoint", "mine")
    assert error.request_id == "id-1"
    assert [attempt.error for attempt in error.attempts] == ["AccessDeniedException"]


@pytest.mark.asyncio
async def test_an_error_knows_what_became_of_earlier_attempts(pool: Pool, respond: Respond) -> None:
    """The last attempt got no answer and did not run; the first may have, and has an id."""
    policy = attrs.evolve(_AT_ONCE, retry_may_have_run=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        async def serve_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.close()
            await reader.readuntil(b"\r\n\r\n")
            writer.write(respond(500, x_amzn_requestid="id-1", connection="close"))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve_once, sock=listener)
        error = await _fail(_caller(policy), _call(url), pool)
        await server.wait_closed()
    assert isinstance(error, ConnectError)
    assert [attempt.may_have_run for attempt in error.attempts] == [True, False, False]
    assert error.may_have_run
    assert error.request_id == "id-1"


@pytest.mark.asyncio
async def test_retries_are_logged(
    pool: Pool, serve: Serve, respond: Respond, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiosmrt")
    async with serve(_in_turn(_skewed(respond, 3600), respond(503), respond())) as server:
        await _caller().call(_call(server.url, body=b"hidden"), pool, _judge)
    said = [record.getMessage() for record in caplog.records]
    going = [f"InvokeEndpoint on mine: attempt {n} goes to {server.url}" for n in (1, 2, 3)]
    assert [line for line in said if "goes to" in line] == going
    clock = re.compile(
        r"InvokeEndpoint on mine: this machine's clock is 3[56]\d\d s off; signed anew"
    )
    assert any(map(clock.fullmatch, said))
    assert "InvokeEndpoint on mine: attempt 1 failed with 503; the next one in 0.00 s" in said
    caplog.clear()
    async with serve(_in_turn(respond(503))) as server:
        await _fail(_caller(), _call(server.url), pool)
    last = caplog.records[-1]
    assert last.levelname == "INFO"
    assert last.getMessage() == (
        "InvokeEndpoint on mine: attempt 3 failed with 503; not attempted again: this was the last "
        "attempt that the retry policy allows"
    )
    assert "secret" not in caplog.text
    assert "hidden" not in caplog.text


# --- hooks


@attrs.define
class _Observer:
    events: list[object] = attrs.field(factory=list)

    def note(self, event: object) -> None:
        self.events.append(event)

    async def note_later(self, event: object) -> None:
        await asyncio.sleep(0)
        self.events.append(event)

    def hooks(self, *, later: bool) -> Hooks:
        note = self.note_later if later else self.note
        return Hooks(before_send=note, after_headers=note, on_retry=note, on_end=note)


@pytest.mark.parametrize("later", [False, True], ids=["function", "coroutine function"])
@pytest.mark.asyncio
async def test_what_an_observer_is_told(
    later: bool, pool: Pool, serve: Serve, respond: Respond
) -> None:
    observer = _Observer()
    async with serve(_in_turn(respond(503), respond(x_amzn_requestid="id"))) as server:
        call = _call(server.url, hooks=observer.hooks(later=later))
        await _caller().call(call, pool, _judge)
    kinds = [type(event) for event in observer.events]
    assert kinds == [BeforeSend, AfterHeaders, OnRetry, BeforeSend, AfterHeaders, OnEnd]
    send, head, retry, again, headers, end = observer.events
    assert isinstance(send, BeforeSend)
    assert isinstance(again, BeforeSend)
    assert (send.operation, send.endpoint_name, send.attempt) == ("InvokeEndpoint", "mine", 1)
    assert "authorization" not in send.headers
    assert again.attempt == 2
    assert isinstance(head, AfterHeaders)
    assert (head.status, head.attempt) == (503, 1)
    assert isinstance(headers, AfterHeaders)
    assert (headers.status, headers.headers["x-amzn-requestid"]) == (200, "id")
    assert headers.time_to_first_byte > 0
    assert isinstance(retry, OnRetry)
    assert retry.attempt == call.attempts[0]
    assert isinstance(retry.error, ServiceError)
    assert isinstance(end, OnEnd)
    assert end.metadata is not None
    assert end.metadata.attempts == tuple(call.attempts)
    assert (end.error, end.parts_received, end.bytes_received) == (None, None, None)
    assert end.outcome == "ok"
    assert end.elapsed >= end.metadata.total


@pytest.mark.asyncio
async def test_an_observer_is_told_of_a_failure_with_all_that_is_known(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    ends: list[OnEnd] = []
    async with serve(_in_turn(respond(403))) as server:
        call = _call(server.url, hooks=Hooks(on_end=ends.append))
        error = await _fail(_caller(), call, pool)
    (end,) = ends
    assert end.error is error
    assert end.metadata is None
    assert end.outcome == "error"
    assert end.elapsed >= sum(attempt.duration for attempt in error.attempts) > 0
    assert error.operation == "InvokeEndpoint"


@pytest.mark.asyncio
async def test_an_observer_is_told_of_a_cancelled_call(
    pool: Pool, serve: Serve, until: Until
) -> None:
    ends: list[OnEnd] = []
    async with serve(_say_nothing) as server:
        call = _call(server.url, hooks=Hooks(on_end=ends.append))
        task = asyncio.create_task(_caller().call(call, pool, _judge))
        await until(lambda: server.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (end,) = ends
    assert isinstance(end.error, asyncio.CancelledError)
    assert end.outcome == "cancelled"
    assert end.elapsed > 0


@pytest.mark.asyncio
async def test_a_call_that_a_stream_goes_on_with_has_not_ended(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    ends: list[OnEnd] = []

    async def judge(response: PooledResponse, call: Call) -> PooledResponse:
        call.goes_on = True
        return response

    async with serve(_in_turn(respond(body=b"later"))) as server:
        call = _call(server.url, hooks=Hooks(on_end=ends.append))
        response = await _caller().call(call, pool, judge)
        assert not ends
        assert await response.read() == b"later"
        await call.end(None)
        await call.end(None)
    assert len(ends) == 1


@pytest.mark.asyncio
async def test_headers_that_an_observer_adds_are_signed_and_sent(
    pool: Pool, serve: Serve, respond: Respond
) -> None:
    def add(event: BeforeSend) -> None:
        event.headers["X-Trace"] = str(event.attempt)
        event.headers.pop("accept", None)

    clock = _ServersClock()
    async with serve(_in_turn(respond(503), respond())) as server:
        clock.requests = server.requests
        call = _call(server.url, hooks=Hooks(before_send=add), headers={"accept": "a/b"})
        await _caller(shared=Shared(clock=clock)).call(call, pool, _judge)
    first, second = [seen.headers for seen in server.requests]
    assert (first["x-trace"], second["x-trace"]) == ("1", "2")
    assert "accept" not in first
    path = "/endpoints/mine/invocations"
    request = Request("POST", server.url, path, {"x-trace": "1"}, b"{}")
    now = datetime.datetime(2026, 11, 22, 12, 0, 0, tzinfo=datetime.UTC)
    expected = Signer("us-east-1").sign(request, _KEYS, now)
    assert first["authorization"] == expected["authorization"]


@pytest.mark.parametrize(
    ("name", "value"), [("x y", "1"), ("x", "a\r\nb: c"), ("authorization", "mine"), ("host", "x")]
)
@pytest.mark.asyncio
async def test_headers_that_break_the_request_are_refused(
    name: str, value: str, pool: Pool, serve: Serve
) -> None:
    def add(event: BeforeSend) -> None:
        event.headers[name] = value

    async with serve(_say_nothing) as server:
        error = await _fail(_caller(), _call(server.url, hooks=Hooks(before_send=add)), pool)
        assert not server.connections
    assert isinstance(error, ParameterError)
    assert error.endpoint_name == "mine"


@pytest.mark.parametrize("station", ["on_start", "before_send", "after_headers", "on_retry"])
@pytest.mark.asyncio
async def test_a_hook_that_raises_fails_its_call_and_leaves_nothing_open(
    station: str, pool: Pool, serve: Serve, respond: Respond
) -> None:
    def fail(event: object) -> None:
        raise ZeroDivisionError

    async with serve(_in_turn(respond(503), respond())) as server:
        call = _call(server.url, hooks=Hooks(**{station: fail}))
        with pytest.raises(ZeroDivisionError):
            await _caller().call(call, pool, _judge)
        assert _clean(pool)


# --- leaving nothing behind


async def _stream(request: _Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(3):
        await asyncio.sleep(0)
        writer.write(b"2\r\nok\r\n")
    writer.write(b"0\r\n\r\n")


def _refuse_first(respond: Respond) -> Answer:
    seen: set[str] = set()

    async def answer(request: _Seen, writer: asyncio.StreamWriter) -> None:
        if (number := request.headers["number"]) not in seen:
            seen.add(number)
            writer.write(respond(503))
        else:
            await _stream(request, writer)

    return answer


class _Stations(RateLimiter):
    """Where a call waits that is neither the pool's nor the server's affair, and if it does now."""

    def __init__(self) -> None:
        super().__init__(time.monotonic())
        self.here: set[str] = set()
        self.paced = False
        names = ("before_send", "after_headers", "on_retry", "on_end")
        self.hooks = Hooks(**{name: functools.partial(self._visit, name) for name in names})
        self.policy = RetryPolicy(mode="adaptive", backoff=self._pause)

    async def _visit(self, name: str, event: object = None) -> None:
        self.here.add(name)
        await asyncio.sleep(0.0005)
        self.here.remove(name)

    async def fetch(self) -> Credentials:
        await asyncio.sleep(0.0005)
        return _KEYS

    def acquire(self, now: float, ticket: int | None = None) -> float:
        # The pause is over, and so is the wait for the pace.
        self.here -= {"pause", "pace"}
        if self.paced:
            return 0.0
        self.paced = True
        self.here.add("pace")
        return 0.0005

    def _pause(self, attempt: int, error: AiosmrtError) -> float:
        self.here.add("pause")
        return 0.0005


@pytest.mark.parametrize(
    ("secure", "moment"),
    [(False, "waiting"), (False, "woken"), (False, "timeout"), (True, "waiting"), (True, "woken")],
)
@pytest.mark.asyncio
async def test_a_call_can_be_cancelled_at_every_await(
    *,
    secure: bool,
    moment: str,
    cancellation: type[Cancellation],
    tls: _Tls,
    until: Until,
    request: pytest.FixtureRequest,
) -> None:
    """A slot, credentials, a large body, a refusal, a pause, a body in chunks, and all hooks."""
    serve: Serve = request.getfixturevalue("serve")
    answer = _refuse_first(request.getfixturevalue("respond"))
    options = PoolOptions(max_connections=1, tls=tls.client)
    places = {"before_send", "after_headers", "on_retry", "on_end", "pace", "pause"}
    ended_at: set[str] = set()
    # A call that is written in one piece more than the one before has its places elsewhere, so that
    # one of them may be passed over: then once more.
    turn = rounds = 0
    async with serve(answer, tls=tls.server if secure else None) as server:
        for number in itertools.count(1):
            turn += 1
            async with contextlib.aclosing(Pool(options)) as pool:
                before = asyncio.all_tasks()
                slot = await pool.acquire(_call("").limits)
                asyncio.get_running_loop().call_later(0.002, slot.release)
                stations = _Stations()
                call = _call(
                    server.url,
                    headers={"number": str(number)},
                    body=bytes(4_000_000),
                    hooks=stations.hooks,
                )
                caller = _caller(
                    stations.policy, credentials=stations.fetch, shared=_paced_by(stations)
                )
                attempt = cancellation(turn, moment)
                result = await attempt.strike(caller.call(call, pool, _judge))
                ended_at |= stations.here
                await caller.credentials.aclose()
                await until(lambda pool=pool: _clean(pool))
                # What remains belongs to the pool, and goes when it does.
                idle = len(pool._connector._idle)
                await until(lambda idle=idle: server.open_connections <= idle)
            await until(lambda: server.open_connections == 0)
            await until(lambda before=before: asyncio.all_tasks() <= before)
            if result is not None:
                assert result == b"okokok"
                assert not attempt.struck
                assert turn > 7
                turn, rounds = 0, rounds + 1
                if ended_at == places or rounds == 5:
                    break
    assert ended_at == places


@pytest.mark.parametrize(
    ("place", "end"),
    [
        (place, end)
        for place in ("slot", "credentials", "pace", "first byte", "pause")
        for end in ("cancel", "close", "total")
        # A pause that would outlast the total is not begun.
        if (place, end) != ("pause", "total")
    ],
)
@pytest.mark.asyncio
async def test_wherever_a_call_is_it_can_be_ended(
    place: str, end: str, serve: Serve, respond: Respond, until: Until
) -> None:
    async def fetch() -> Credentials:
        await asyncio.sleep(60 if place == "credentials" else 0)
        return _KEYS

    pool = Pool(PoolOptions(max_connections=1))
    answer = _say_nothing if place == "first byte" else _in_turn(respond(503))
    shared = _paced_by(_Limiter(*[60.0] if place == "pace" else []))
    policy = RetryPolicy(mode="adaptive", backoff=lambda attempt, error: 0.15)
    limits = Timeout(total=0.1 if end == "total" else None)
    before = asyncio.all_tasks()
    async with serve(answer) as server:
        call = _call(server.url, limits=limits)
        taken = None
        if place == "slot":
            taken = await pool.acquire(_call(server.url).limits)
        caller = _caller(policy, credentials=fetch, shared=shared)
        task = asyncio.create_task(caller.call(call, pool, _judge))
        await asyncio.sleep(0.04)
        assert not task.done()
        if end == "cancel":
            task.cancel()
        elif end == "close":
            await pool.aclose()
        with pytest.raises((AiosmrtError, asyncio.CancelledError)) as caught:
            await task
        kinds: dict[str, type[BaseException]] = {
            "cancel": asyncio.CancelledError,
            "close": ClientClosed,
            "total": TotalTimeout,
        }
        assert isinstance(caught.value, kinds[end])
        if isinstance(caught.value, AiosmrtError):
            assert caught.value.may_have_run == (place == "first byte")
            assert caught.value.endpoint_name == "mine"
        if taken is not None:
            taken.release()
        await until(lambda: pool.closed or _clean(pool))
        assert pool._slots.free == 1
        await caller.credentials.aclose()
        await pool.aclose()
        await until(lambda: server.open_connections == 0)
        await until(lambda: asyncio.all_tasks() <= before)


@pytest.mark.asyncio
async def test_a_judge_that_raises_leaves_nothing_open(
    pool: Pool, serve: Serve, until: Until
) -> None:
    async def judge(response: PooledResponse, call: Call) -> bytes:
        raise ZeroDivisionError

    async with serve(_stream) as server:
        with pytest.raises(ZeroDivisionError):
            await _caller().call(_call(server.url), pool, judge)
        assert _clean(pool)


# --- refusals


class _Response:
    """A response of bytes at hand, and then of an error if there is one."""

    def __init__(self, *chunks: bytes, error: AiosmrtError | None = None) -> None:
        self.head = ResponseHead(500, {})
        self.left = [*chunks, b""]
        self.error = error
        self.closed = False

    async def receive(self) -> bytes:
        chunk = self.left.pop(0)
        if not chunk and self.error is not None:
            raise self.error
        return chunk

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("error", [None, ConnectionLost("cut")])
@pytest.mark.asyncio
async def test_a_refusal_is_read_as_far_as_it_comes(error: AiosmrtError | None) -> None:
    response = _Response(b"so ", b"far", error=error)
    assert await read_refusal(response) == b"so far"
    assert response.closed


@pytest.mark.asyncio
async def test_no_more_of_a_refusal_is_read_than_is_worth_it() -> None:
    response = _Response(*[bytes(100_000)] * 10)
    assert len(await read_refusal(response)) == 300_000
    assert response.closed


@pytest.mark.asyncio
async def test_a_refusal_that_is_cut_is_still_the_refusal(pool: Pool, serve: Serve) -> None:
    async def answer(request: _Seen, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"message": "no"}).encode()
        head = b"HTTP/1.1 400 No\r\nx-amzn-errortype: ValidationError\r\ncontent-length: 99\r\n\r\n"
        writer.write(head + body)
        writer.close()

    async with serve(answer) as server:
        error = await _fail(_caller(), _call(server.url), pool)
    assert isinstance(error, ServiceError)
    assert (error.code, error.message) == ("ValidationError", "no")
