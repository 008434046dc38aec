from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore import exceptions as boto3_errors

import aiosmrt
from aiosmrt.errors import ConfigurationError
from aiosmrt.local import LocalEndpoint

AGAIN = aiosmrt.RetryPolicy(backoff=lambda number, error: 0.0, retry_may_have_run=True)
ONCE = aiosmrt.RetryPolicy(mode="off")

full_queues = pytest.mark.skipif(sys.platform == "win32", reason="there they are refused")


def _invoke(client: Any) -> Any:
    return client.invoke_endpoint(endpoint_name="e", body=b"x")


@pytest.mark.asyncio
async def test_a_connection_is_reset_as_soon_as_there_is_one(connect: Callable[..., Any]) -> None:
    async with LocalEndpoint(strict=True) as endpoint, endpoint.client(retry=AGAIN) as client:
        endpoint.reset(at="connect", times=2)
        endpoint.answer(text="third")
        answer = await _invoke(client)
        assert answer.text() == "third"
        errors = [attempt.error for attempt in answer.metadata.attempts]
        # Whether the connection was there already is for the system to say.
        assert {*errors[:2]} <= {"ConnectError", "ConnectionLost"}
        assert errors[2:] == [None]
        assert len(endpoint.requests) == 1
        endpoint.reset("connect")
        boto3 = connect(endpoint)
        with pytest.raises(
            (boto3_errors.ConnectionClosedError, boto3_errors.EndpointConnectionError)
        ):
            await asyncio.to_thread(boto3.invoke_endpoint, EndpointName="e", Body=b"x")
        endpoint.assert_complete()


@pytest.mark.asyncio
async def test_it_comes_after_the_steps_before_it_however_long_connections_are_kept() -> None:
    async with LocalEndpoint(strict=True) as endpoint, endpoint.client(retry=AGAIN) as client:
        endpoint.answer(text="first")
        endpoint.reset(at="connect")
        endpoint.answer(text="second")
        assert (await _invoke(client)).text() == "first"
        answer = await _invoke(client)
        assert (answer.text(), len(answer.metadata.attempts)) == ("second", 2)
        endpoint.answer(text="third")
        assert (await _invoke(client)).text() == "third"
        endpoint.reset(at="connect")  # a connection is kept now, and idle
        endpoint.answer(text="fourth")
        answer = await _invoke(client)
        assert answer.text() == "fourth"
        assert len(answer.metadata.attempts) in (2, 3)  # one may be on the connection that was kept
        endpoint.assert_complete()


@full_queues
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_connections_hang_while_others_go_on(
    host: str, connect: Callable[..., Any], until: Callable[..., Any]
) -> None:
    async def run(endpoint: LocalEndpoint) -> None:
        limits = aiosmrt.Timeout(connect=0.2)
        async with (
            endpoint.client(timeout=limits, retry=ONCE) as client,
            endpoint.client() as other,
        ):
            running = asyncio.create_task(_invoke(other))
            await until(lambda: len(endpoint.requests) > 0)
            endpoint.hang(at="connect")
            for _ in range(2):
                with pytest.raises(aiosmrt.ConnectTimeout):
                    await _invoke(client)
            finish.set()
            assert (await running).text() == "slow"
            with pytest.raises(boto3_errors.ConnectTimeoutError):
                connect(endpoint, connect_timeout=0.2).invoke_endpoint(EndpointName="e", Body=b"x")

    finish = threading.Event()

    def model(request: object) -> str:
        finish.wait(20)
        return "slow"

    with LocalEndpoint(model, host=host) as endpoint:
        asyncio.run(run(endpoint))


@full_queues
@pytest.mark.asyncio
async def test_connections_that_hang_for_a_while_are_taken_then() -> None:
    async with LocalEndpoint(strict=True) as endpoint:
        endpoint.hang(at="connect", seconds=0.3)
        endpoint.answer(text="at last")
        began = time.perf_counter()
        async with endpoint.client(timeout=aiosmrt.Timeout(connect=20)) as client:
            assert (await _invoke(client)).text() == "at last"
        assert time.perf_counter() - began >= 0.3
        # Whatever filled the queue is gone, and nothing else is in the way.
        async with endpoint.client(timeout=aiosmrt.Timeout(connect=20)) as client:
            endpoint.answer(text="again")
            assert (await _invoke(client)).text() == "again"
        endpoint.assert_complete()


@full_queues
@pytest.mark.asyncio
async def test_they_hang_for_one_step_after_another() -> None:
    async with LocalEndpoint(strict=True) as endpoint:
        for _ in range(2):
            endpoint.hang(at="connect", seconds=0.2)
        endpoint.answer(text="at last")
        began = time.perf_counter()
        async with endpoint.client(timeout=aiosmrt.Timeout(connect=20)) as client:
            assert (await _invoke(client)).text() == "at last"
        assert time.perf_counter() - began >= 0.4
        endpoint.assert_complete()


@full_queues
@pytest.mark.asyncio
async def test_they_can_hang_again_as_soon_as_they_are_taken(until: Callable[..., Any]) -> None:
    async with LocalEndpoint(lambda request: request.body) as endpoint:
        for _ in range(5):
            endpoint.hang(at="connect", seconds=0.02)
            # Where the next step comes in is for the timer to say: before the end, or behind it.
            await asyncio.sleep(0.03)
        await until(lambda: not endpoint._steps.complain())
        async with endpoint.client(timeout=aiosmrt.Timeout(connect=20)) as client:
            assert (await _invoke(client)).body == b"x"


@full_queues
def test_a_script_may_begin_with_it() -> None:
    endpoint = LocalEndpoint()
    endpoint.hang(at="connect")
    for _ in range(2):
        with endpoint:
            host, port = endpoint.url.removeprefix("http://").split(":")
            with contextlib.closing(socket.socket()) as connection:
                connection.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    connection.connect((host, int(port)))


def test_there_is_no_request_yet() -> None:
    endpoint = LocalEndpoint()
    with pytest.raises(ConfigurationError, match=r"hang\(at='connect'\) takes no on, text"):
        endpoint.hang(at="connect", on="e", text="x")
    with pytest.raises(ConfigurationError, match=r"reset\(at='connect'\) takes no operation"):
        endpoint.reset(at="connect", operation="InvokeEndpoint")


@pytest.mark.asyncio
async def test_an_answer_can_hang_for_a_while() -> None:
    async with LocalEndpoint(strict=True) as endpoint, endpoint.client() as client:
        endpoint.hang("part 2", 0.2, stream=["a", "b"])
        began = time.perf_counter()
        async with client.invoke_endpoint_with_response_stream(
            endpoint_name="e", body=b"x"
        ) as stream:
            assert await stream.read() == b"ab"
        assert time.perf_counter() - began >= 0.2
