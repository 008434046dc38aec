"""Adaptive mode against an endpoint that throttles, by a clock that the test holds in its hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import pytest
import pytest_asyncio

from aiosmrt import RetryPolicy, SageMakerRuntimeClient, ThrottlingException, Timeout

if TYPE_CHECKING:
    from tests.conftest import Connect, EventStreams, SeenRequest, Serve

    Events: TypeAlias = type[EventStreams]

Respond: TypeAlias = Callable[..., bytes]

ADAPTIVE = RetryPolicy(mode="adaptive", max_attempts=1)
STANDARD = RetryPolicy(max_attempts=1)
PATIENT = Timeout(connect=None, write=None, first_byte=None, idle=None)
# After a first refusal: how long nothing is sent in any case, and when something is at the latest.
SURELY_NOT_YET = 0.5
IN_ANY_CASE = 2.01


class Clock:
    """The time of the event loop and of all that looks at the monotonic clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = time.monotonic
        self._since = self._now = self._real()
        self._speed = 0  # it stands still
        monkeypatch.setattr(time, "monotonic", self.now)
        # The moment that a new server is given, which would never pass.
        monkeypatch.setattr("aiosmrt.transport.connector._GRACE", 0)
        selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]  # no other way
        wait = selector.select

        def select(seconds: float | None = None) -> Any:
            return wait(seconds / (self._speed or 1) if seconds else seconds)

        monkeypatch.setattr(selector, "select", select)

    def now(self) -> float:
        return self._now + (self._real() - self._since) * self._speed

    def advance(self, seconds: float) -> None:
        self._now += seconds

    def run(self, speed: int) -> None:
        """Go so many times as fast as any other clock."""
        self._now, self._since, self._speed = self.now(), self._real(), speed


@pytest_asyncio.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@attrs.define
class Endpoint:
    """Lets so many requests a second pass."""

    respond: Respond
    events: Events
    limit: float | None = None  # None is no limit
    passed: int = 0
    refused: int = 0
    _tokens: float = 0.0
    _filled_at: float = 0.0

    async def __call__(self, request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        if self.limit is not None:
            now = time.monotonic()
            gained = (now - self._filled_at) * self.limit
            self._tokens = min(max(1.0, self.limit), self._tokens + gained)
            self._filled_at = now
            if self._tokens < 1:
                self.refused += 1
                # What a throttled endpoint says.
                headers = {"x_amzn_errortype": "ThrottlingException"}
                writer.write(self.respond(400, b'{"message": null}', **headers))
                return
            self._tokens -= 1
        self.passed += 1
        stream = request.target.endswith("-stream")
        writer.write(self.events.whole(b"a") if stream else self.respond())


@pytest.fixture
def endpoint(respond: Respond, events: Events) -> Endpoint:
    return Endpoint(respond, events)


async def _invoke(client: SageMakerRuntimeClient, endpoint_name: str = "e") -> bool:
    try:
        await client.invoke_endpoint(endpoint_name=endpoint_name, body=b"x")
    except ThrottlingException:
        return False
    return True


async def _read(client: SageMakerRuntimeClient) -> bool:
    async with client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x") as stream:
        return await stream.read() == b"a"


async def _run(client: SageMakerRuntimeClient, done: Callable[[], bool]) -> None:
    """Let eight callers call one time after another."""

    async def call() -> None:
        while not done():
            await _invoke(client)

    await asyncio.gather(*(call() for _ in range(8)))


@pytest.mark.asyncio
async def test_a_throttled_endpoint_is_called_less_and_then_as_before(
    respond: Respond, events: Events, serve: Serve, connect: Connect, clock: Clock
) -> None:
    clock.run(speed=30)

    async def crowd(policy: RetryPolicy) -> tuple[int, float]:
        """Count what is refused while 20 pass; time how long 150 take after that."""
        endpoint = Endpoint(respond, events)
        async with (
            serve(endpoint) as server,
            connect(server, retry=policy, timeout=PATIENT) as client,
        ):
            end = clock.now() + 2
            await _run(client, lambda: clock.now() > end)
            assert endpoint.refused == 0
            endpoint.limit, endpoint.passed = 4.0, 0
            await _run(client, lambda: endpoint.passed >= 20)
            refused = endpoint.refused
            endpoint.limit, endpoint.passed = None, 0
            began = clock.now()
            await _run(client, lambda: endpoint.passed >= 150)
            return refused, clock.now() - began

    careless, _ = await crowd(STANDARD)
    careful, seconds = await crowd(ADAPTIVE)
    # Measured: 11 to 16, and 300 to 1,300.
    assert 0 < careful < careless / 2
    # Measured: 4 to 8 s; at the pace that throttling had left they would take 37 s.
    assert seconds < 30


async def _throttle(client: SageMakerRuntimeClient, endpoint: Endpoint) -> None:
    """Have one call throttled, and no other."""
    endpoint.limit = 0.0
    assert not await _invoke(client)
    endpoint.limit = None


@pytest.mark.asyncio
async def test_whoever_shares_a_throttled_client_waits(
    endpoint: Endpoint, serve: Serve, connect: Connect, clock: Clock
) -> None:
    async with (
        serve(endpoint) as server,
        connect(server, retry=ADAPTIVE) as client,
        connect(server, retry=ADAPTIVE) as other,
    ):
        await _throttle(client, endpoint)
        derived = client.with_options(timeout=30)
        calls = (_invoke(client), _invoke(derived), _read(client))
        waiting = {asyncio.create_task(call) for call in calls}
        # Other endpoints, other clients and other modes do not wait.
        assert await _invoke(client, "f")
        for unconcerned in (other, client.with_options(retry=STANDARD)):
            assert await _invoke(unconcerned)
        clock.advance(SURELY_NOT_YET)
        assert await _invoke(other)
        assert endpoint.passed == 4
        for number in range(3):
            clock.advance(IN_ANY_CASE)
            (done,), waiting = await asyncio.wait(waiting, return_when="FIRST_COMPLETED")
            assert done.result()
            assert endpoint.passed == 5 + number


@pytest.mark.parametrize("way", ["environment", "profile", "option"])
@pytest.mark.asyncio
async def test_who_asks_for_it(
    way: str,
    *,
    endpoint: Endpoint,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    serve: Serve = request.getfixturevalue("serve")
    connect: Connect = request.getfixturevalue("connect")
    options: dict[str, Any] = {}
    if way == "environment":
        monkeypatch.setenv("AWS_RETRY_MODE", "adaptive")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    elif way == "profile":
        (tmp_path / "config").write_text("[default]\nretry_mode=adaptive\nmax_attempts=1\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    else:
        options["retry"] = ADAPTIVE
        monkeypatch.setenv("AWS_RETRY_MODE", "standard")
    async with serve(endpoint) as server, connect(server, **options) as client:
        await _throttle(client, endpoint)
        waiting = asyncio.create_task(_invoke(client))
        clock.advance(SURELY_NOT_YET)
        assert await _invoke(client.with_options(retry=STANDARD))
        assert endpoint.passed == 1
        clock.advance(IN_ANY_CASE)
        assert await waiting
        assert endpoint.passed == 2


@pytest.mark.parametrize("way", ["cancel", "timeout"])
@pytest.mark.asyncio
async def test_a_call_that_waits_can_be_left(
    way: str, endpoint: Endpoint, serve: Serve, connect: Connect, clock: Clock
) -> None:
    async with (
        serve(endpoint) as server,
        connect(server, retry=ADAPTIVE, max_connections=1) as client,
    ):
        await _throttle(client, endpoint)
        tasks = asyncio.all_tasks()

        async def leave() -> None:
            async with asyncio.timeout(SURELY_NOT_YET / 2):
                await _invoke(client)

        leaving = asyncio.create_task(leave())
        await asyncio.sleep(0)
        if way == "cancel":
            leaving.cancel()
        else:
            clock.advance(SURELY_NOT_YET)
        with pytest.raises(asyncio.CancelledError if way == "cancel" else TimeoutError):
            await leaving
        assert asyncio.all_tasks() == tasks
        assert len(server.requests) == 1
        # The only slot is free, and a call that does not wait for the pace has it at once.
        assert await _invoke(client.with_options(retry=STANDARD))
