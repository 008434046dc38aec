"""Waiting for asynchronous outputs, cancelled at literally every await, and begun again."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from aiosmrt import AsyncInvocation, RetryPolicy, SageMakerRuntimeClient

if TYPE_CHECKING:
    from tests.conftest import Cancellation

Until: TypeAlias = Callable[[Callable[[], bool]], Awaitable[None]]
Wait: TypeAlias = Callable[[SageMakerRuntimeClient, Path], Coroutine[Any, Any, bytes]]

pytestmark = pytest.mark.usefixtures("quiet_loop")

_BODY = b"half" * 2


class _S3:
    """Outputs are there at the second look, and are cut when they are first read."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    async def __call__(self, request: Any, writer: asyncio.StreamWriter) -> None:
        path, _, query = request.target.partition("?")
        self._seen[path] += 1
        if request.method == "HEAD":
            _reply(writer, "404 Not Found")
        elif query:
            keys = [f"<Contents><Key>out/{number}</Key></Contents>" for number in range(3)]
            listed = "".join(keys) if self._seen[path] > 1 else ""
            page = f"<L><IsTruncated>false</IsTruncated>{listed}</L>"
            _reply(writer, "200 OK", page.encode())
        elif "range" in request.headers:
            _reply(writer, "206 Partial", _BODY[4:], 'etag: "1"\r\ncontent-range: bytes 4-7/8\r\n')
        elif self._seen[path] == 1:
            _reply(writer, "404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            _reply(writer, "200 OK", _BODY[:4], 'etag: "1"\r\n', size=8)
            writer.close()


def _reply(
    writer: asyncio.StreamWriter,
    status: str,
    body: bytes = b"",
    fields: str = "",
    size: int | None = None,
) -> None:
    length = len(body) if size is None else size
    writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{fields}\r\n".encode() + body)


def _invocation(client: SageMakerRuntimeClient, number: int = 0) -> AsyncInvocation:
    places = {"output_location": f"s3://b/out/{number}", "failure_location": f"s3://b/f/{number}"}
    return client.resume_async_invocation(json.dumps(places))


async def _result(client: SageMakerRuntimeClient, folder: Path) -> bytes:
    return (await _invocation(client).result()).body


async def _iter_output(client: SageMakerRuntimeClient, folder: Path) -> bytes:
    return b"".join([chunk async for chunk in _invocation(client).iter_output()])


async def _download(client: SageMakerRuntimeClient, folder: Path) -> bytes:
    await _invocation(client).download(folder / "output")
    return (folder / "output").read_bytes()


async def _wait_for_results(client: SageMakerRuntimeClient, folder: Path) -> bytes:
    bodies = []
    async for result in client.wait_for_results([_invocation(client, n) for n in range(3)]):
        assert result.output is not None, result.error
        bodies.append(result.output.body)
    assert len(bodies) == 3
    return b"".join(bodies[:1])


@pytest.mark.parametrize("moment", ["waiting", "woken"])
@pytest.mark.parametrize("wait", [_result, _iter_output, _download, _wait_for_results])
@pytest.mark.asyncio
async def test_a_wait_can_be_cancelled_at_every_await(
    *,
    wait: Wait,
    moment: str,
    cancellation: type[Cancellation],
    serve: Any,
    connect: Any,
    until: Until,
    tmp_path: Path,
) -> None:
    async def strike(number: int) -> tuple[bytes | None, bool]:
        """Give the result, and whether there was a cancellation."""
        before = asyncio.all_tasks()
        async with serve(_S3()) as server:
            options = {"poll_interval": 0.001, "retry": RetryPolicy(base_delay=0.0)}
            async with connect(server, s3_endpoint_url=server.url, **options) as client:
                attempt = cancellation(number, moment)
                result = await attempt.strike(wait(client, tmp_path))
                assert set(os.listdir(tmp_path)) <= {"output"}  # noqa: PTH208 - no Path in a loop
                pool = client._builder.pools.find()
                if pool is not None:
                    assert pool._slots.free == 100
                    assert not pool._calls
                    kept = pool._connector
                    assert len(kept.session.connector._acquired) == len(kept._idle)
                assert await wait(client, tmp_path) == _BODY
                idle = len(client._builder.pools.find()._connector._idle)
                await until(lambda: server.open_connections <= idle)
            await until(lambda: server.open_connections == 0)
        await until(lambda: asyncio.all_tasks() <= before)
        return result, attempt.struck

    for number in itertools.count(1):
        result, struck = await strike(number)
        if not struck:
            assert result == _BODY
            break
        assert result is None
    assert number > 10
