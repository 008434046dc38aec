"""A body whose source can be read only once is sent once, and the error says why."""

from __future__ import annotations

import asyncio
import io
import os
import socket
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from aiosmrt import (
    AiosmrtError,
    ConnectError,
    RetryPolicy,
    ServiceError,
    TotalTimeout,
)

if TYPE_CHECKING:
    from tests.conftest import Connect, SeenRequest, Serve

Respond: TypeAlias = Callable[..., bytes]
MakeBody: TypeAlias = Callable[[Path], Any]

AT_ONCE = RetryPolicy(max_attempts=5, backoff=lambda attempt, error: 0.0, retry_may_have_run=True)
CALLS = (
    "invoke_endpoint",
    "invoke_endpoint_async",
    "invoke_endpoint_with_response_stream",
)


async def _chunks() -> AsyncIterator[bytes]:
    yield b"on"
    yield b"ce"


class _Source:
    """Knows how to read, and nothing else."""

    def __init__(self) -> None:
        self.left = [b"once"]

    def read(self, size: int) -> bytes:
        return self.left.pop() if self.left else b""


def _pipe(_: Path) -> io.BufferedReader:
    reading, writing = os.pipe()
    os.write(writing, b"once")
    os.close(writing)
    return os.fdopen(reading, "rb")


def _file(folder: Path) -> io.BufferedReader:
    (folder / "body").write_bytes(b"once")
    return (folder / "body").open("rb")


ONE_TIME: dict[str, MakeBody] = {
    "async iterable": lambda _: _chunks(),
    "pipe": _pipe,
    "reader": lambda _: _Source(),
}
REPEATABLE: dict[str, MakeBody] = {
    "bytes": lambda _: b"once",
    "bytearray": lambda _: bytearray(b"once"),
    "memoryview": lambda _: memoryview(b"once"),
    "str": lambda _: "once",
    "file": _file,
    "BytesIO": lambda _: io.BytesIO(b"once"),
    "StringIO": lambda _: io.StringIO("once"),
}


def _make(make: MakeBody, folder: Path, request: pytest.FixtureRequest) -> Any:
    body = make(folder)
    if isinstance(body, io.IOBase):
        request.addfinalizer(body.close)
    return body


def _check_reason(error: AiosmrtError) -> None:
    said = str(error)
    assert "not attempted again: its body came from a source that can be read only once" in said
    assert "give bytes, or a file that can seek" in said


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", ONE_TIME)
@pytest.mark.asyncio
async def test_a_refused_call_is_not_attempted_again(
    name: str,
    kind: str,
    *,
    serve: Serve,
    connect: Connect,
    respond: Respond,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    async def throttle(seen: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(429, x_amzn_errortype="ThrottlingException"))

    async with serve(throttle) as server, connect(server, retry=AT_ONCE) as client:
        body = _make(ONE_TIME[kind], tmp_path, request)
        with pytest.raises(AiosmrtError) as caught:
            await getattr(client, name)(endpoint_name="e", body=body)
        assert [seen.body for seen in server.requests] == [b"once"]
        _check_reason(caught.value)
        assert len(caught.value.attempts) == 1


@pytest.mark.parametrize("kind", REPEATABLE)
@pytest.mark.asyncio
async def test_other_bodies_are_sent_again(
    kind: str,
    *,
    serve: Serve,
    connect: Connect,
    respond: Respond,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    async def throttle_twice(seen: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(503 if len(server.requests) < 3 else 200))

    async with serve(throttle_twice) as server, connect(server, retry=AT_ONCE) as client:
        body = _make(REPEATABLE[kind], tmp_path, request)
        response = await client.invoke_endpoint(endpoint_name="e", body=body)
        assert len(response.metadata.attempts) == 3
        assert [seen.body for seen in server.requests] == [b"once"] * 3


@pytest.mark.asyncio
async def test_one_that_succeeds_is_like_any_other(
    serve: Serve, connect: Connect, respond: Respond
) -> None:
    async def answer(seen: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(200, seen.body))

    async with serve(answer) as server, connect(server) as client:
        response = await client.invoke_endpoint(endpoint_name="e", body=_chunks())
        assert response.body == b"once"


@pytest.mark.asyncio
async def test_what_goes_by_way_of_s3_can_be_attempted_again(
    serve: Serve, connect: Connect, respond: Respond
) -> None:
    """No model runs by an upload, and what is sent to the endpoint is only its name."""

    async def large() -> AsyncIterator[bytes]:
        yield bytes(128_001)

    async def answer_as_s3(seen: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(503 if len(s3.requests) == 1 else 200))

    async def answer(seen: SeenRequest, writer: asyncio.StreamWriter) -> None:
        refused = len(server.requests) == 1
        writer.write(respond(503) if refused else respond(202, b'{"InferenceId": "i"}'))

    prefix = "s3://bucket/in/"
    async with (
        serve(answer) as server,
        serve(answer_as_s3) as s3,
        connect(server, s3_endpoint_url=s3.url, s3_input_prefix=prefix, retry=AT_ONCE) as client,
    ):
        await client.invoke_endpoint_async(endpoint_name="e", body=large())
        assert [len(seen.body) for seen in s3.requests] == [128_001] * 2
        assert [seen.body for seen in server.requests] == [b""] * 2


@pytest.mark.asyncio
async def test_a_refused_connection_is_not_made_again(serve: Serve, connect: Connect) -> None:
    async def answer(seen: SeenRequest, writer: asyncio.StreamWriter) -> None:
        """Nobody comes here."""

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with serve(answer) as server, connect(server, endpoint_url=url, retry=AT_ONCE) as client:
        with pytest.raises(ConnectError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=_chunks())
        assert len(caught.value.attempts) == 1
        assert not caught.value.may_have_run
        _check_reason(caught.value)
        with pytest.raises(ConnectError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"again")
        assert len(caught.value.attempts) == 5


@pytest.mark.parametrize("policy", [RetryPolicy(max_attempts=1), RetryPolicy(mode="off")])
@pytest.mark.asyncio
async def test_whom_another_body_would_not_help_is_not_told_of_it(
    policy: RetryPolicy, serve: Serve, connect: Connect, respond: Respond
) -> None:
    async def throttle(seen: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(503))

    async with serve(throttle) as server, connect(server, retry=policy) as client:
        with pytest.raises(ServiceError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=_chunks())
        assert "this was the last attempt" in str(caught.value)


@pytest.mark.asyncio
async def test_a_wrong_clock_is_corrected_for_the_next_call_only(
    serve: Serve, connect: Connect, respond: Respond
) -> None:
    early = formatdate(0, usegmt=True)

    async def answer(seen: SeenRequest, writer: asyncio.StreamWriter) -> None:
        if seen.headers["x-amz-date"].startswith("1970"):
            writer.write(respond())
        else:
            writer.write(respond(403, x_amzn_errortype="RequestExpired", date=early))

    async with serve(answer) as server, connect(server) as client:
        with pytest.raises(ServiceError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=_chunks())
        assert len(server.requests) == 1
        _check_reason_with_clock(caught.value)
        response = await client.invoke_endpoint(endpoint_name="e", body=_chunks())
        assert len(response.metadata.attempts) == 1
        assert len(server.requests) == 2


def _check_reason_with_clock(error: AiosmrtError) -> None:
    said = str(error)
    assert "not attempted again: this machine's clock was wrong, and is corrected for later" in said
    assert "give bytes, or a file that can seek" in said


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.asyncio
async def test_the_total_of_a_call_includes_the_wait_for_its_body(
    name: str, serve: Serve, connect: Connect
) -> None:
    left = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    async def answer(seen: SeenRequest, writer: asyncio.StreamWriter) -> None:
        """Nobody comes here."""

    async with serve(answer) as server, connect(server) as client:
        with pytest.raises(TotalTimeout, match=r"Timeout\.total.*InvokeEndpoint") as caught:
            await getattr(client, name)(endpoint_name="e", body=slow(), timeout=0.05)
        assert left.is_set()
        assert not caught.value.may_have_run
        assert server.connections == 0
