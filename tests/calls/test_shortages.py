"""Waiting for capacity: one call probes at a time, and the others wait for its outcome."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from aiosmrt import (
    ClientClosed,
    Hooks,
    ModelError,
    ModelNotReadyException,
    OnRetry,
    RetryPolicy,
    SageMakerRuntimeClient,
    ServiceError,
    ServiceUnavailable,
    Timeout,
    TotalTimeout,
    ValidationError,
)

if TYPE_CHECKING:
    from tests.conftest import Cancellation, Connect, EventStreams, SeenRequest, Serve

    Respond = Callable[..., bytes]
    Until = Callable[..., Awaitable[None]]

NO_CAPACITY = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be "
    "in-progress (if configured) or try to increase the capacity by invoking "
    "UpdateInferenceComponentRuntimeConfig API."
)
QUICK = RetryPolicy(
    max_attempts=1, throttle_base_delay=0.03, max_delay=0.03, quota=0, capacity_wait=10
)


@attrs.define
class Component:
    """Refuses for want of capacity until it is opened; takes its time either way."""

    respond: Respond
    events: type[EventStreams]
    refusals: int | None = None  # how many, `None` until it is opened
    open: bool = False
    in_flight: int = 0
    most_in_flight: int = 0
    seen: list[SeenRequest] = attrs.field(factory=list)
    # what it answers in place of the refusal, once
    instead: list[bytes] = attrs.field(factory=list)
    not_ready: bool = False

    async def __call__(self, request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        self.seen.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0.005)
        self.in_flight -= 1
        if self.refusals is not None:
            self.open = self.open or not self.refusals
            self.refusals -= 1
        if self.open or request.headers.get("x-amzn-sagemaker-inference-component") == "warm":
            stream = request.target.endswith("-stream")
            answer = (
                self.events.whole(b"a") if stream else self.respond(body=b'{"InferenceId":"i"}')
            )
        elif self.instead:
            answer = self.instead.pop()
        elif self.not_ready:
            answer = self.respond(429, x_amzn_errortype="ModelNotReadyException")
        else:
            body = b'{"Message": "%s"}' % NO_CAPACITY.encode()
            answer = self.respond(400, body, x_amzn_errortype="ValidationError")
        writer.write(answer)


@pytest.fixture
def component(respond: Respond, events: type[EventStreams]) -> Component:
    return Component(respond, events)


async def _invoke(client: SageMakerRuntimeClient, **given: Any) -> Any:
    return await client.invoke_endpoint(**{"endpoint_name": "e", "body": b"x", **given})


async def _stream(client: SageMakerRuntimeClient) -> Any:
    async with client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x") as stream:
        await stream.read()
        return stream


async def _submit(client: SageMakerRuntimeClient) -> Any:
    return await client.invoke_endpoint_async(endpoint_name="e", body=b"x")


@pytest.mark.parametrize("call", [_invoke, _stream, _submit])
@pytest.mark.parametrize("not_ready", [False, True])
@pytest.mark.asyncio
async def test_a_call_waits_for_capacity(
    *,
    call: Callable[[SageMakerRuntimeClient], Awaitable[Any]],
    not_ready: bool,
    component: Component,
    serve: Serve,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "aiosmrt")
    component.refusals, component.not_ready = 2, not_ready
    retried: list[OnRetry] = []
    async with (
        serve(component) as server,
        connect(server, retry=QUICK, hooks=Hooks(on_retry=retried.append)) as client,
    ):
        outcome = await call(client)
    attempts = outcome.metadata.attempts
    assert [attempt.status for attempt in attempts[:2]] == [429 if not_ready else 400] * 2
    assert attempts[2].error is None
    assert [attempt.may_have_run for attempt in attempts] == [False, False, True]
    first, second, third = (attempt.capacity_wait for attempt in attempts)
    assert first == 0.0
    assert 0 <= second < 1
    assert 0 <= third < 1
    assert second + third > 0  # the delays are random
    assert all(0 <= attempt.slot_wait < 0.02 for attempt in attempts)
    assert [event.attempt.number for event in retried] == [1, 2]
    assert len(caplog.messages) == 2
    assert "there is no capacity; waits for it, for at most 10 s" in caplog.messages[0]


@pytest.mark.asyncio
async def test_without_being_told_to_it_says_what_would_help(
    component: Component, serve: Serve, connect: Connect
) -> None:
    async with serve(component) as server, connect(server) as client:
        with pytest.raises(ValidationError, match=r"RetryPolicy\(capacity_wait=600\) waits for it"):
            await _invoke(client)
        assert len(component.seen) == 1
        component.not_ready = True
        with pytest.raises(ModelNotReadyException, match=r"RetryPolicy\(capacity_wait=600\)"):
            await _invoke(client.with_options(retry=RetryPolicy(throttle_base_delay=0.0)))
        assert len(component.seen) == 4  # as any throttling


@pytest.mark.asyncio
async def test_another_validation_error_is_no_want_of_capacity(
    component: Component, serve: Serve, connect: Connect, respond: Respond
) -> None:
    component.instead.append(
        respond(400, b'{"Message": "capacity"}', x_amzn_errortype="ValidationError")
    )
    async with serve(component) as server, connect(server, retry=QUICK) as client:
        with pytest.raises(ValidationError) as caught:
            await _invoke(client)
    assert not caught.value.advice
    assert len(component.seen) == 1


@pytest.mark.parametrize(("connections", "at_once"), [(100, 20), (3, 3)])
@pytest.mark.asyncio
async def test_one_call_probes_and_the_others_wait_for_its_outcome(
    *,
    connections: int,
    at_once: int,
    component: Component,
    serve: Serve,
    connect: Connect,
    until: Until,
) -> None:
    async with (
        serve(component) as server,
        connect(server, retry=QUICK, max_connections=connections) as client,
    ):
        calls = [asyncio.create_task(_invoke(client)) for _ in range(20)]
        # Whatever was sent before the first refusal; then one at a time.
        await until(lambda: len(component.seen) == at_once + 2)
        component.most_in_flight = 0
        calls += [asyncio.create_task(_invoke(client)) for _ in range(5)]
        # A client derived from it asks the same endpoint.
        calls.append(asyncio.create_task(_invoke(client.with_options(timeout=60))))
        await until(lambda: len(component.seen) == at_once + 8)
        assert component.most_in_flight == 1
        component.open = True
        responses = await asyncio.gather(*calls)
    probes = len(component.seen) - 26
    assert sum(len(response.metadata.attempts) for response in responses) == 26 + probes
    # Those that came later were never refused.
    assert {len(response.metadata.attempts) for response in responses[20:]} == {1}
    assert all(response.metadata.attempts[0].capacity_wait > 0.05 for response in responses[20:])


@pytest.mark.asyncio
async def test_who_waits_holds_no_slot_and_other_components_do_not_wait(
    component: Component, serve: Serve, connect: Connect, until: Until
) -> None:
    policy = attrs.evolve(QUICK, throttle_base_delay=60, max_delay=60)
    async with (
        serve(component) as server,
        connect(server, retry=policy, max_connections=1, timeout=Timeout(slot=2)) as client,
    ):
        waiting = [asyncio.create_task(_invoke(client)) for _ in range(3)]
        await until(lambda: component.seen)
        await _invoke(client, inference_component_name="warm")
        # Who has not been told to wait is refused at once.
        with pytest.raises(ValidationError):
            await _invoke(client.with_options(retry=RetryPolicy()))
        assert not any(call.done() for call in waiting)
        await client.aclose()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ClientClosed}
    assert len(component.seen) == 3


@pytest.mark.parametrize("not_ready", [False, True])
@pytest.mark.asyncio
async def test_the_wait_has_an_end(
    *, not_ready: bool, component: Component, serve: Serve, connect: Connect
) -> None:
    component.not_ready = not_ready
    policy = attrs.evolve(QUICK, capacity_wait=0.25, max_attempts=3)
    async with serve(component) as server, connect(server, retry=policy) as client:
        calls = [asyncio.create_task(_invoke(client)) for _ in range(5)]
        await asyncio.sleep(0.1)
        late = asyncio.create_task(_invoke(client))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        seen = len(component.seen)
        with pytest.raises(ServiceError) as caught:
            await late
    for error in [*outcomes, caught.value]:
        assert isinstance(error, ModelNotReadyException if not_ready else ValidationError)
        assert not error.may_have_run
        assert error.operation == "InvokeEndpoint"
        assert str(error).endswith(
            "not attempted again: there was no capacity within the 0.25 s of "
            "RetryPolicy.capacity_wait"
        )
    assert 5 < seen < 5 + 60
    assert caught.value.attempts


@pytest.mark.asyncio
async def test_whoever_probes_can_be_left(
    component: Component, serve: Serve, connect: Connect, until: Until
) -> None:
    async with serve(component) as server, connect(server, retry=QUICK) as client:
        calls = [asyncio.create_task(_invoke(client)) for _ in range(8)]
        for number in range(6):
            await until(lambda count=8 + 2 * number: len(component.seen) >= count)
            calls[number].cancel()
        component.open = True
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes[:6]] == [asyncio.CancelledError] * 6
        assert all(not isinstance(outcome, BaseException) for outcome in outcomes[6:])
        assert not client._builder.shared.shortages


@pytest.mark.asyncio
async def test_when_all_have_left_nothing_is_remembered(
    component: Component, serve: Serve, connect: Connect, until: Until
) -> None:
    policy = attrs.evolve(QUICK, throttle_base_delay=60, max_delay=60)
    async with serve(component) as server, connect(server, retry=policy) as client:
        calls = [asyncio.create_task(_invoke(client)) for _ in range(3)]
        await until(lambda: len(component.seen) == 3)
        await until(lambda: client._builder.shared.shortages)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert not client._builder.shared.shortages
        component.open = True
        await _invoke(client)


@pytest.mark.asyncio
async def test_a_model_that_runs_has_capacity(
    component: Component, serve: Serve, connect: Connect, respond: Respond, until: Until
) -> None:
    async with serve(component) as server, connect(server, retry=QUICK) as client:
        calls = [asyncio.create_task(_invoke(client)) for _ in range(5)]
        await until(lambda: len(component.seen) >= 7)
        component.instead.append(respond(424, x_amzn_errortype="ModelError"))
        await until(lambda: not component.instead)
        component.open = True
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert [type(error) for error in failed] == [ModelError]


@pytest.mark.asyncio
async def test_what_says_nothing_of_capacity_has_the_next_call_probe(
    component: Component, serve: Serve, connect: Connect, respond: Respond, until: Until
) -> None:
    async with serve(component) as server, connect(server, retry=QUICK) as client:
        calls = [asyncio.create_task(_invoke(client)) for _ in range(5)]
        await until(lambda: len(component.seen) >= 7)
        component.most_in_flight = 0
        component.instead.append(respond(503, x_amzn_errortype="ServiceUnavailable"))
        await until(lambda: not component.instead)
        seen = len(component.seen)
        await until(lambda: len(component.seen) > seen + 2)
        assert component.most_in_flight == 1
        component.open = True
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert [type(error) for error in failed] == [ServiceUnavailable]


@pytest.mark.asyncio
async def test_a_body_that_is_sent_once_is_not_sent_again(
    component: Component, serve: Serve, connect: Connect
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"

    async with serve(component) as server, connect(server, retry=QUICK) as client:
        with pytest.raises(ValidationError, match="not attempted again: its body came from"):
            await _invoke(client, body=chunks())
    assert len(component.seen) == 1


@pytest.mark.parametrize(
    ("options", "seen", "reason"),
    [
        ({"backoff": lambda number, _: None if number == 3 else 0.0}, 3, "RetryPolicy.backoff"),
        # By chance, a pause could be none at all.
        ({"throttle_base_delay": 1e9, "max_delay": 1e9}, 1, "Timeout.total would end before"),
    ],
)
@pytest.mark.asyncio
async def test_other_reasons_to_wait_no_longer(
    *,
    options: dict[str, Any],
    seen: int,
    reason: str,
    component: Component,
    serve: Serve,
    connect: Connect,
) -> None:
    policy = attrs.evolve(QUICK, **options)
    async with serve(component) as server, connect(server, retry=policy) as client:
        with pytest.raises(ValidationError) as caught:
            await _invoke(client, timeout=5)
    assert reason in caught.value.not_retried
    assert len(component.seen) == len(caught.value.attempts) == seen


@pytest.mark.asyncio
async def test_the_total_ends_a_wait_for_the_turn(
    component: Component, serve: Serve, connect: Connect, until: Until
) -> None:
    async with serve(component) as server, connect(server, retry=QUICK) as client:
        probing = asyncio.create_task(_invoke(client))
        await until(lambda: len(component.seen) > 1)
        with pytest.raises(TotalTimeout) as caught:
            await _invoke(client, timeout=0.1)
        assert not caught.value.may_have_run
        component.open = True
        await probing


@pytest.mark.parametrize("moment", ["waiting", "woken", "timeout"])
@pytest.mark.asyncio
async def test_wherever_one_is_cancelled_the_other_goes_on(
    moment: str,
    *,
    component: Component,
    serve: Serve,
    connect: Connect,
    cancellation: type[Cancellation],
) -> None:
    policy = attrs.evolve(QUICK, throttle_base_delay=0.005)
    for turn in itertools.count(1):
        component.open, component.refusals = False, 3
        async with serve(component) as server, connect(server, retry=policy) as client:
            other = asyncio.create_task(_invoke(client))
            strike = cancellation(turn, moment)
            outcome = await strike.strike(_invoke(client))
            await asyncio.wait_for(other, 5)
            assert not client._builder.shared.shortages
        if outcome is not None:
            assert not strike.struck
            break
    assert turn > 5


def test_one_event_loop_after_another(
    component: Component, serve: Serve, connect: Connect, until: Until
) -> None:
    clients: list[SageMakerRuntimeClient] = []

    async def leave_in_the_middle() -> None:
        async with serve(component) as server:
            clients.append(connect(server, retry=QUICK))
            for _ in range(3):
                asyncio.create_task(_invoke(clients[0])).add_done_callback(lambda _: None)
            await until(lambda: len(component.seen) > 4)

    async def go_on() -> None:
        component.refusals = 1
        async with serve(component) as server:
            client = clients[0].with_options(endpoint_url=server.url)
            assert len((await _invoke(client)).metadata.attempts) == 2
            await clients[0].aclose()

    asyncio.run(leave_in_the_middle())
    asyncio.run(go_on())
    assert not clients[0]._builder.shared.shortages
