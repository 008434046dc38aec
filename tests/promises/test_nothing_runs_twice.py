"""Nothing runs twice unasked, and nothing that ran is said not to have run: the books are kept.

A server in a process of its own counts what it received whole, and goes wrong at every place; the
client is on asyncio and on uvloop, plain and over TLS, its loop idle and busy, its bodies small and
large. `AIOSMRT_BOOKS` is how often each operation meets each fault in each of 32 settings; by
default eight settings have each fault once, with one operation or another.

Then many calls at once meet one fault each: read timeouts, refused connections, and connections
that are dropped while a large body is sent (`AIOSMRT_DROPPED_CALLS` is how many).
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import contextvars
import itertools
import os
import pathlib
import random
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import aiohttp.abc
import attrs
import boto3
import pytest
import uvloop
from botocore.config import Config
from botocore.exceptions import HTTPClientError

import aiosmrt

if TYPE_CHECKING:
    from tests.promises.conftest import KeepBooks

_ROUNDS: Final = int(os.environ.get("AIOSMRT_BOOKS", "0"))
# `make promises` has the whole number of them: 12 GB through the loopback take their time.
_DROPPED_CALLS: Final = int(os.environ.get("AIOSMRT_DROPPED_CALLS", "32"))
_MANY: Final = 1000 if _ROUNDS else 250

_LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
_SIZES: Final = (1_000, 70_000, 300_000, 1_000_000)
_BUSY: Final = (0.0, 0.002)  # seconds that others hold the loop up in each pass

# Where the server goes wrong, and how the connection ends there. At a hang the client's limit ends
# it; "slow" is answered, at about the time when the limit fires.
_FAULTS: Final = (
    "",
    *(f"{place} {how}" for place in ("head", "half body", "interim") for how in ("FIN", "RST")),
    *(f"body {how}" for how in ("FIN", "RST", "half-close", "hang")),
    *(f"answer {how}" for how in ("FIN", "RST")),
    *(f"answer head {how}" for how in ("RST", "hang")),
    "answer body RST",
    *(f"idle {how}" for how in ("FIN", "RST", "bytes")),
    "half body hang",
    "slow limit",
    "slow cancel",
    "slow close",
    "hanging up",
    "in the head",
)
_OPERATIONS: Final = ("invoke", "stream", "async", "s3")

_WORKERS: Final = 16
_KEYS: Final[dict[str, Any]] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
}


@attrs.frozen
class _Setting:
    loop: str
    secure: bool
    size: int
    busy: float

    def __str__(self) -> str:
        scheme = "TLS" if self.secure else "plain"
        return f"{self.loop}-{scheme}-{self.size}-{'busy' if self.busy else 'idle'}"


_ALL: Final = [
    _Setting(loop, secure, size, busy)
    for loop, secure, size, busy in itertools.product(_LOOPS, (False, True), _SIZES, _BUSY)
]
# Each loop with and without TLS, and with each of them two sizes and an idle or busy loop.
_SOME: Final = [
    _Setting(loop, secure, _SIZES[number % 4], _BUSY[(number + number // 4) % 2])
    for number, (loop, secure, _) in enumerate(
        itertools.product(_LOOPS, (False, True), range(2)), start=1
    )
]


@contextlib.asynccontextmanager
async def _held_up(seconds: float) -> AsyncIterator[None]:
    async def hog() -> None:
        while True:
            time.sleep(seconds)  # noqa: ASYNC251 - as badly behaved others do
            await asyncio.sleep(0)

    task = asyncio.create_task(hog()) if seconds else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


@attrs.frozen
class _Outcome:
    """How a call ended: its error, or none; `None` for a call that was cancelled."""

    attempts: tuple[aiosmrt.Attempt, ...] | None
    error: aiosmrt.AiosmrtError | None = None


async def _make_call(
    client: aiosmrt.SageMakerRuntimeClient, operation: str, call_id: str, fault: str, size: int
) -> tuple[aiosmrt.Attempt, ...]:
    given: dict[str, Any] = {
        "endpoint_name": "e",
        "body": b"x" * size,
        "headers": {"x-call": call_id, "x-fault": fault},
    }
    if operation == "invoke":
        return (await client.invoke_endpoint(**given)).metadata.attempts
    if operation == "stream":
        async with client.invoke_endpoint_with_response_stream(**given) as stream:
            async for _ in stream:
                pass
            return stream.metadata.attempts
    if operation == "async":
        del given["body"]
        given["input_location"] = "s3://bucket/input"
        return await _submit(client, given)
    # The object is what the fault meets; the invocation behind it is sound, and counted.
    given["headers"]["x-fault"] = ""
    given["s3_input_prefix"] = f"s3://bucket/{call_id}-object/{fault.replace(' ', '_') or '_'}/"
    return await _submit(client, given)


async def _submit(
    client: aiosmrt.SageMakerRuntimeClient, given: dict[str, Any]
) -> tuple[aiosmrt.Attempt, ...]:
    metadata = (await client.invoke_endpoint_async(**given)).metadata
    assert metadata is not None
    return metadata.attempts


async def _meet(
    client: aiosmrt.SageMakerRuntimeClient, operation: str, call_id: str, fault: str, size: int
) -> _Outcome:
    making = asyncio.create_task(_make_call(client, operation, call_id, fault, size))
    if fault in ("slow cancel", "slow close"):
        await asyncio.sleep(random.random() * 0.04)
        if fault == "slow cancel":
            making.cancel()
        else:
            await client.aclose()
    try:
        return _Outcome(await making)
    except aiosmrt.AiosmrtError as error:
        return _Outcome(error.attempts, error)
    except asyncio.CancelledError:
        return _Outcome(None)


def _plan(setting: _Setting) -> Iterator[tuple[str, str]]:
    """Give the faults that are met, and by which operation."""
    if _ROUNDS:
        for _ in range(_ROUNDS):
            yield from itertools.product(_FAULTS, _OPERATIONS)
        return
    for number, fault in enumerate(_FAULTS, start=_SOME.index(setting)):
        yield fault, _OPERATIONS[number % 4]


async def _meet_all(
    setting: _Setting, ports: dict[str, int], trust: ssl.SSLContext
) -> dict[str, _Outcome]:
    outcomes: dict[str, _Outcome] = {}
    scheme = "https" if setting.secure else "http"
    timeout = aiosmrt.Timeout(first_byte=0.03, idle=0.03, write=0.2)

    def make_client(port: str) -> aiosmrt.SageMakerRuntimeClient:
        url = f"{scheme}://127.0.0.1:{ports[port]}"
        return aiosmrt.SageMakerRuntimeClient(
            endpoint_url=url,
            s3_endpoint_url=url,
            **_KEYS,
            verify=trust if setting.secure else None,
            retry=aiosmrt.RetryPolicy(base_delay=0.001),
        )

    number = itertools.count()
    async with _held_up(setting.busy), contextlib.AsyncExitStack() as stack:
        clients = {
            port: await stack.enter_async_context(make_client(port))
            for port in ("reading", "hanging up", "in the head")
        }
        for fault, operation in _plan(setting):
            port = fault if fault in clients else "reading"
            client = clients[port]
            if fault == "slow close":
                client = await stack.enter_async_context(make_client(port))
            if "hang" in fault or fault.startswith("slow"):
                client = client.with_options(timeout=timeout) if "close" not in fault else client
            call_id = f"{fault}-{operation}-{next(number)}"
            outcomes[call_id] = await _meet(client, operation, call_id, fault, setting.size)
    return outcomes


def _check(runs: dict[str, int], outcomes: dict[str, _Outcome]) -> collections.Counter[str]:
    """Compare both books, and count by what can be counted."""
    counted: collections.Counter[str] = collections.Counter()
    for call_id, outcome in outcomes.items():
        ran, error = runs.get(call_id, 0), outcome.error
        assert ran <= 1, f"{call_id} ran {ran} times"
        counted["calls"] += 1
        if outcome.attempts is None:
            counted["cancelled"] += 1
            continue
        told = sum(attempt.may_have_run for attempt in outcome.attempts)
        if error is None:
            assert ran == 1, f"{call_id} was answered, and ran {ran} times"
            counted["answered"] += 1
            continue
        assert ran <= error.may_have_run, f"{call_id} ran, and is told not to have: {error}"
        assert ran <= told or not outcome.attempts, f"{call_id}: {outcome.attempts}"
        assert told <= error.may_have_run * len(outcome.attempts), f"{call_id}: {error}"
        counted["lost, ran" if ran else "lost"] += 1
        counted["needless"] += error.may_have_run and not ran
    return counted


# Of aiohttp on uvloop, where a peer resets a connection before TLS is made on it.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("setting", _ALL if _ROUNDS else _SOME, ids=str)
def test_the_books_agree(
    setting: _Setting, authority: Any, tls: Any, tmp_path: pathlib.Path, keep_books: KeepBooks
) -> None:
    certificate = None
    if setting.secure:
        certificate = tmp_path / "certificate.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    with keep_books(certificate) as server:
        with asyncio.Runner(loop_factory=_LOOPS[setting.loop]) as runner:
            outcomes = runner.run(_meet_all(setting, server.ports, tls.client))
        time.sleep(0.1)  # what is on its way is still counted
        counted = _check(server.read_books(), outcomes)
    sys.stdout.write(f"{setting}: {dict(counted)}\n")
    assert counted["answered"]
    assert counted["lost, ran"]


async def _call_and_pause(
    url: str, calls: int, workers: int = _WORKERS, pause: float = 0.05
) -> int:
    """Make calls with pauses of up to so many seconds, and give how many were lost."""
    lost = 0

    async def work() -> None:
        nonlocal lost
        for _ in range(calls // workers):
            try:
                await client.invoke_endpoint(endpoint_name="e", body=b"{}")
            except aiosmrt.ConnectionLost:
                lost += 1
            if pause:
                await asyncio.sleep(random.random() * pause)

    async with aiosmrt.SageMakerRuntimeClient(
        endpoint_url=url, retry=aiosmrt.RetryPolicy(max_attempts=1), **_KEYS
    ) as client:
        await asyncio.gather(*(work() for _ in range(workers)))
    return lost


def _call_and_pause_with_boto3(url: str, calls: int) -> int:
    once = Config(retries={"total_max_attempts": 1}, max_pool_connections=_WORKERS)
    client = boto3.client("sagemaker-runtime", endpoint_url=url, config=once, **_KEYS)

    def work(_: int) -> int:
        lost = 0
        for _ in range(calls // _WORKERS):
            try:
                client.invoke_endpoint(EndpointName="e", Body=b"{}")["Body"].read()
            except HTTPClientError:
                lost += 1
            time.sleep(random.random() * 0.05)
        return lost

    with concurrent.futures.ThreadPoolExecutor(_WORKERS) as workers:
        return sum(workers.map(work, range(_WORKERS)))


def test_a_server_that_closes_idle_connections_at_any_moment_costs_next_to_nothing(
    keep_books: KeepBooks,
) -> None:
    """What is left is the microseconds between the look and the write, which nobody can close."""
    calls = 10_000 if _ROUNDS else 320
    with keep_books() as server:
        url = f"http://127.0.0.1:{server.ports['closing']}"
        lost = {}
        for name, loop in _LOOPS.items():
            with asyncio.Runner(loop_factory=loop) as runner:
                lost[name] = runner.run(_call_and_pause(url, calls))
        if _ROUNDS:
            lost["boto3"] = _call_and_pause_with_boto3(url, calls)
    sys.stdout.write(f"lost of {calls}: {lost}\n")
    assert max(lost["asyncio"], lost["uvloop"]) <= lost.get("boto3", 4)


@pytest.mark.parametrize("loop", _LOOPS)
def test_a_server_that_closes_behind_each_answer_costs_nothing(
    loop: str, keep_books: KeepBooks
) -> None:
    """It has not announced it, and the next call comes before the loop can have read it."""
    with keep_books() as server, asyncio.Runner(loop_factory=_LOOPS[loop]) as runner:
        url = f"http://127.0.0.1:{server.ports['once']}"
        lost = runner.run(_call_and_pause(url, 200, workers=1, pause=0))
    sys.stdout.write(f"lost of 200: {lost}\n")
    assert lost <= 2  # where the end came between the look and the write


# --- many calls, and one fault for each


@pytest.mark.asyncio
async def test_each_of_many_read_timeouts_is_an_invocation(serve: Any) -> None:
    async def never(request: Any, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with (
        serve(never) as server,
        aiosmrt.SageMakerRuntimeClient(
            endpoint_url=server.url,
            max_connections=250,
            timeout=aiosmrt.Timeout(first_byte=0.5),
            **_KEYS,
        ) as client,
    ):
        outcomes = await asyncio.gather(
            *(client.invoke_endpoint(endpoint_name="e", body=b"x") for _ in range(_MANY)),
            return_exceptions=True,
        )
        assert all(isinstance(outcome, aiosmrt.FirstByteTimeout) for outcome in outcomes)
        assert all(
            isinstance(outcome, aiosmrt.AiosmrtError) and outcome.may_have_run
            for outcome in outcomes
        )
        assert len(server.requests) == _MANY


async def _run(
    count: int,
    call: Callable[[int], Awaitable[aiosmrt.InvokeEndpointResponse]],
    in_flight: int = 32,
) -> list[aiosmrt.InvokeEndpointResponse]:
    """Make `count` calls, so many of them at a time."""
    gate = asyncio.Semaphore(in_flight)

    async def pass_gate(number: int) -> aiosmrt.InvokeEndpointResponse:
        async with gate:
            return await call(number)

    return await asyncio.gather(*(pass_gate(number) for number in range(count)))


_resolved: contextvars.ContextVar[list[str]] = contextvars.ContextVar("_resolved")


class _RefusedFirst(aiohttp.abc.AbstractResolver):
    """Sends the first connection of each call to an address where nobody listens."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        address = "127.0.0.1" if _resolved.get() else "127.0.0.2"
        _resolved.get().append(address)
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": 0,
            }
        ]

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.asyncio
async def test_refused_and_then_accepted_no_call_fails_and_none_runs_twice(
    serve: Any, respond: Callable[..., bytes]
) -> None:
    runs: collections.Counter[str] = collections.Counter()

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        runs[request.headers["x-amzn-sagemaker-inference-id"]] += 1
        writer.write(respond())

    # A connection for each attempt, so that every call meets the refusal.
    connector = aiohttp.TCPConnector(
        resolver=_RefusedFirst(), use_dns_cache=False, force_close=True
    )
    async with (
        serve(answer) as server,
        aiohttp.ClientSession(connector=connector) as session,
        aiosmrt.SageMakerRuntimeClient(
            endpoint_url=f"http://endpoint.test:{server.port}",
            use_ssl=False,
            session=session,
            max_connections=32,
            retry=aiosmrt.RetryPolicy(base_delay=0.001),
            **_KEYS,
        ) as client,
    ):

        async def call(number: int) -> aiosmrt.InvokeEndpointResponse:
            _resolved.set([])
            return await client.invoke_endpoint(
                endpoint_name="e", body=b"x", inference_id=f"call-{number}"
            )

        answers = await _run(_MANY, call)
        assert {len(answer.metadata.attempts) for answer in answers} == {2}
        assert {answer.metadata.attempts[0].error for answer in answers} == {"ConnectError"}
        assert len(runs) == _MANY
        assert set(runs.values()) == {1}


@pytest.mark.asyncio
async def test_dropped_while_sending_and_then_accepted(
    serve_raw: Any, respond: Callable[..., bytes]
) -> None:
    """Every call's first connection is dropped in the middle of a large body."""
    begun: set[bytes] = set()
    runs: collections.Counter[bytes] = collections.Counter()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            name = next(line for line in lines if line.startswith(b"x-amzn-sagemaker-inference"))
            length = next(line for line in lines if line.startswith(b"content-length"))
            if name not in begun:
                begun.add(name)
                await reader.readexactly(1000)
                writer.transport.abort()
                return
            await reader.readexactly(int(length.partition(b":")[2]))
            runs[name] += 1
            writer.write(respond())

    async with (
        serve_raw(converse) as server,
        aiosmrt.SageMakerRuntimeClient(
            endpoint_url=server.url, retry=aiosmrt.RetryPolicy(base_delay=0.001), **_KEYS
        ) as client,
    ):
        # More than the sockets' buffers hold: the last byte cannot have gone out.
        body = bytes(6_200_000)

        async def call(number: int) -> aiosmrt.InvokeEndpointResponse:
            return await client.invoke_endpoint(
                endpoint_name="e", body=body, inference_id=f"call-{number}"
            )

        answers = await _run(_DROPPED_CALLS, call)
        assert {len(answer.metadata.attempts) for answer in answers} == {2}
        assert len(runs) == _DROPPED_CALLS
        assert set(runs.values()) == {1}
