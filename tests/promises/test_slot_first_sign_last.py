"""Slot first, sign last.

A call waits for its slot, then signs, then sends: however many wait, no signature is stale. Who
waits for credentials holds no slot: others, whose credentials are at hand, go on meanwhile. A
machine whose clock is wrong learns the time from the answer of a service that refuses signatures
for theirs, once, and signs anew.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Callable
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import aiosmrt.signing.credentials
from aiosmrt import (
    CredentialsError,
    CredentialsTimeout,
    Hooks,
    OnRetry,
    ResponseStream,
    RetryPolicy,
    ServiceError,
    Timeout,
)
from aiosmrt.config import Credentials
from aiosmrt.local.authorization import SignedRequest, check_authorization
from aiosmrt.signing.clock import Clock

if TYPE_CHECKING:
    from tests.conftest import Connect, EventStreams, SeenRequest, Serve

    Events: TypeAlias = type[EventStreams]

Respond: TypeAlias = Callable[..., bytes]

KEYS = Credentials("AKIDEXAMPLE", "not-a-secret")
HOUR = 3600.0
REFUSED = "InvalidSignatureException"


@attrs.define
class Service:
    """Checks signatures by a clock of its own, as the service does: five minutes off is too far."""

    respond: Respond
    events: Events
    ahead: float = 0.0  # seconds by which its clock is ahead
    tells_date: bool = True

    def now(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self.ahead)

    async def __call__(self, request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        signed = SignedRequest("POST", request.target, request.headers, request.body)
        now = self.now()
        try:
            check_authorization(signed, KEYS, now)
        except ServiceError as error:
            headers = {"x_amzn_errortype": error.code, "x_amzn_requestid": "refused"}
            if self.tells_date:
                headers["date"] = format_datetime(now, usegmt=True)
            writer.write(self.respond(error.status, b'{"message": "no"}', **headers))
            return
        if request.target.endswith("-stream"):
            writer.write(self.events.whole(b"a"))
        else:
            writer.write(self.respond(202, b'{"InferenceId": "i"}', x_amzn_requestid="done"))


@pytest.fixture
def service(respond: Respond, events: Events) -> Service:
    return Service(respond, events)


CALLS: dict[str, Callable[[Any], Any]] = {
    "InvokeEndpoint": lambda client: client.invoke_endpoint(endpoint_name="e", body=b"x"),
    "InvokeEndpointAsync": lambda client: client.invoke_endpoint_async(
        endpoint_name="e", input_location="s3://b/k"
    ),
    "InvokeEndpointWithResponseStream": lambda client: client.invoke_endpoint_with_response_stream(
        endpoint_name="e", body=b"x"
    ),
}


@pytest.mark.parametrize("ahead", [HOUR, -HOUR, 310.0, 60 * 365 * 24 * HOUR])
@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.asyncio
async def test_a_wrong_clock_costs_one_attempt_of_one_call(
    operation: str, ahead: float, service: Service, serve: Serve, connect: Connect
) -> None:
    service.ahead = ahead
    call = CALLS[operation]
    # The attempt that only taught the time is not one of those that the policy allows.
    retry = RetryPolicy(max_attempts=1)
    retried: list[OnRetry] = []
    async with (
        serve(service) as server,
        connect(server, retry=retry, hooks=Hooks(on_retry=retried.append)) as client,
    ):
        assert client.clock_offset == 0.0
        before = client.with_options(timeout=30)
        outcome = await call(client)
        if isinstance(outcome, ResponseStream):
            assert await outcome.read() == b"a"
        first, second = outcome.metadata.attempts
        assert (first.number, first.error, first.status) == (1, REFUSED, 403)
        assert (first.delay, first.may_have_run, first.request_id) == (0.0, False, "refused")
        assert (second.number, second.error, second.delay) == (2, None, None)
        assert [event.attempt for event in retried] == [first]
        assert client.clock_offset == pytest.approx(ahead, abs=5)
        # Whoever shares the pool shares the time, made before or after it was learnt.
        for other in (client, before, client.with_options(region_name="us-east-1"), before):
            outcome = await call(other)
            if isinstance(outcome, ResponseStream):
                await outcome.read()
            assert len(outcome.metadata.attempts) == 1
            assert other.clock_offset == client.clock_offset
        assert len(server.requests) == 6
        assert len({r.headers["amz-sdk-invocation-id"] for r in server.requests[:2]}) == 1


@pytest.mark.asyncio
async def test_many_calls_learn_one_time(service: Service, serve: Serve, connect: Connect) -> None:
    service.ahead = HOUR
    async with serve(service) as server, connect(server) as client:
        answers = await asyncio.gather(
            *(client.invoke_endpoint(endpoint_name="e", body=b"x") for _ in range(20))
        )
        assert {len(answer.metadata.attempts) for answer in answers} <= {1, 2}
        assert client.clock_offset == pytest.approx(HOUR, abs=5)


@pytest.mark.asyncio
async def test_the_time_can_be_told_beforehand(
    service: Service, serve: Serve, connect: Connect
) -> None:
    service.ahead = -HOUR
    async with serve(service) as server, connect(server, system_clock_offset=-HOUR) as client:
        response = await client.invoke_endpoint(endpoint_name="e", body=b"x")
        assert len(response.metadata.attempts) == 1
        assert client.clock_offset == -HOUR
        # And told otherwise, which is corrected, for those who were told that.
        other = client.with_options(system_clock_offset=HOUR)
        assert other.clock_offset == HOUR
        response = await other.invoke_endpoint(endpoint_name="e", body=b"x")
        assert len(response.metadata.attempts) == 2
        assert other.clock_offset == pytest.approx(-HOUR, abs=5)
        assert client.clock_offset == -HOUR


@pytest.mark.asyncio
async def test_a_clock_that_moves_is_followed(
    service: Service, serve: Serve, connect: Connect
) -> None:
    async with serve(service) as server, connect(server) as client:
        for ahead, attempts in [(0.0, 1), (HOUR, 2), (HOUR, 1), (0.0, 2), (-HOUR, 2)]:
            service.ahead = ahead
            response = await client.invoke_endpoint(endpoint_name="e", body=b"x")
            assert len(response.metadata.attempts) == attempts
        assert client.clock_offset == pytest.approx(-HOUR, abs=5)


@pytest.mark.parametrize("wrong", ["switched off", "no date", "secret", "both"])
@pytest.mark.asyncio
async def test_what_another_signature_would_not_mend_is_an_error(
    wrong: str, service: Service, serve: Serve, connect: Connect
) -> None:
    service.ahead = 0.0 if wrong == "secret" else HOUR
    service.tells_date = wrong != "no date"
    options: dict[str, Any] = {}
    if wrong == "switched off":
        options["correct_clock_skew"] = False
    if wrong in ("secret", "both"):
        options["aws_secret_access_key"] = "another"
    async with serve(service) as server, connect(server, max_connections=1, **options) as client:
        with pytest.raises(ServiceError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
        error = caught.value
        assert error.code == REFUSED
        assert not error.may_have_run
        # With a wrong clock as well, the right time is learnt, and tried once.
        attempts = 2 if wrong == "both" else 1
        assert len(error.attempts) == len(server.requests) == attempts
        assert bool(client.clock_offset) is (wrong == "both")
        with pytest.raises(ServiceError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
        assert len(caught.value.attempts) == 1


@pytest.mark.asyncio
async def test_derived_clients_choose_whether_to_correct(
    service: Service, serve: Serve, connect: Connect
) -> None:
    service.ahead = HOUR
    async with serve(service) as server, connect(server) as client:
        strict = client.with_options(correct_clock_skew=False)
        with pytest.raises(ServiceError):
            await strict.invoke_endpoint(endpoint_name="e", body=b"x")
        await strict.with_options(correct_clock_skew=True).invoke_endpoint(
            endpoint_name="e", body=b"x"
        )
        # What one of them has learnt is the time for all.
        await strict.invoke_endpoint(endpoint_name="e", body=b"x")


@pytest.mark.asyncio
async def test_a_correction_is_logged(
    service: Service, serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    service.ahead = HOUR
    caplog.set_level(logging.INFO, "aiosmrt")
    async with serve(service) as server, connect(server) as client:
        await client.invoke_endpoint(endpoint_name="mine", body=b"x")
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith("InvokeEndpoint on mine: this machine's clock is 3")


@given(st.one_of(st.text(), st.from_regex(r"\w{3}, \d+ (Jan|Feb) \d+ \d+:\d+:\d+ [+-]?\d*")))
@example("Mon, 01 Jan 99999999999999999999 00:00:00 GMT")
@example("Mon, 01 Jan 2026 00:00:00 +99999999999999")
@example("Fri, 31 Dec 9999 23:59:59 GMT")
def test_whatever_the_date_says_the_clock_goes_on(date: str) -> None:
    clock = Clock()
    clock.correct(clock.now(), date)
    clock.now()


@pytest.mark.asyncio
async def test_queued_calls_never_carry_stale_signatures(
    serve: Serve, connect: Connect, respond: Respond, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on a second with each answer, whatever the machine's pace."""
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    ages: list[float] = []

    def now(_: Clock) -> datetime.datetime:
        return begin + datetime.timedelta(seconds=len(ages))

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        signed = datetime.datetime.strptime(
            request.headers["x-amz-date"] + "+0000", "%Y%m%dT%H%M%SZ%z"
        )
        ages.append(len(ages) - (signed - begin).total_seconds())
        writer.write(respond())

    monkeypatch.setattr(Clock, "now", now)
    async with (
        serve(answer) as server,
        connect(server, max_connections=10) as client,
    ):
        await asyncio.gather(
            *(client.invoke_endpoint(endpoint_name="e", body=b"x") for _ in range(1000))
        )
    assert len(ages) == 1000
    # Measured: 29. Nine others are under way, and each goes on with the next call.
    assert max(ages) < 100


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.asyncio
async def test_who_waits_for_credentials_keeps_nobody_from_the_wire(
    *,
    operation: str,
    service: Service,
    serve: Serve,
    connect: Connect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tmp_path / "config"
    config.write_text("[profile slow]\ncredential_process = sleep 5\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setattr(aiosmrt.signing.credentials, "_CLOSING", 0.01)
    nobody: dict[str, Any] = {"aws_access_key_id": None, "aws_secret_access_key": None}
    call = CALLS[operation]
    async with (
        serve(service) as server,
        connect(
            server,
            profile_name="slow",
            max_connections=2,
            timeout=Timeout(credentials=0.25),
            **nobody,
        ) as client,
    ):
        stuck = [asyncio.ensure_future(_await(call(client))) for _ in range(3)]
        await asyncio.sleep(0.05)
        other = client.with_options(
            aws_access_key_id=KEYS.access_key_id, aws_secret_access_key=KEYS.secret_access_key
        )
        outcome = await call(other)
        if isinstance(outcome, ResponseStream):
            await outcome.read()
        assert len(server.requests) == 1
        assert not any(one.done() for one in stuck)
        errors = await asyncio.gather(*stuck, return_exceptions=True)
        with pytest.raises(CredentialsTimeout, match=r"'slow' \(the credential_process\) within"):
            await client.warm_up()
    for error in errors:
        assert isinstance(error, CredentialsError)
        assert isinstance(error, CredentialsTimeout)
        assert "the profile 'slow' (the credential_process) within 0.25 s" in str(error)
        (attempt,) = error.attempts
        assert attempt.error == "CredentialsTimeout"
        assert attempt.credentials_wait == pytest.approx(0.25, abs=0.2)
        assert attempt.slot_wait < 0.1
        assert attempt.duration < 0.1
        assert not error.may_have_run


async def _await(awaitable: Any) -> object:
    return await awaitable


@pytest.mark.asyncio
async def test_credentials_that_end_in_the_queue_are_renewed_without_a_slot(
    service: Service, serve: Serve, connect: Connect, events: Events
) -> None:
    """They live for 0.2 seconds, and the one place is not free before."""
    fetched = 0
    vault, end = asyncio.Event(), asyncio.Event()
    play = events.play(events.head() + events.chunk(events.part(b"a")), end, events.END)

    async def fetch() -> Credentials:
        nonlocal fetched
        fetched += 1
        if fetched == 2:
            await vault.wait()
        life = datetime.timedelta(seconds=0.2 if fetched == 1 else 60)
        return attrs.evolve(KEYS, expires_at=datetime.datetime.now(datetime.UTC) + life)

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        await (play if request.target.endswith("-stream") else service)(request, writer)

    async with (
        serve(answer) as server,
        connect(server, max_connections=1) as client,
        client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"") as stream,
    ):
        waiting = asyncio.create_task(
            client.with_options(credentials=fetch).invoke_endpoint(endpoint_name="e", body=b"")
        )
        await asyncio.sleep(0.3)
        assert fetched == 1
        end.set()
        await stream.read()
        # The place is free, and who had it first gives it on.
        await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert fetched == 2
        assert not waiting.done()
        vault.set()
        (attempt,) = (await waiting).metadata.attempts
        assert attempt.slot_wait > 0.2
        assert len(server.requests) == 3


@pytest.mark.asyncio
async def test_credentials_that_end_in_the_queue_for_good_take_no_slot_along(
    service: Service, serve: Serve, connect: Connect, events: Events
) -> None:
    end = asyncio.Event()
    play = events.play(events.head() + events.chunk(events.part(b"a")), end, events.END)

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        await (play if request.target.endswith("-stream") else service)(request, writer)

    async with (
        serve(answer) as server,
        connect(server, max_connections=1, timeout=5) as client,
        client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"") as stream,
    ):
        soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=0.1)
        brief = client.with_options(credentials=attrs.evolve(KEYS, expires_at=soon))
        waiting = asyncio.create_task(brief.invoke_endpoint(endpoint_name="e", body=b""))
        await asyncio.sleep(0.15)
        end.set()
        await stream.read()
        with pytest.raises(CredentialsError, match="Expired: the keys given as arguments"):
            await waiting
        await client.invoke_endpoint(endpoint_name="e", body=b"")


@pytest.mark.asyncio
async def test_a_call_that_ends_while_it_waits_for_credentials(
    service: Service, serve: Serve, connect: Connect
) -> None:
    async def never() -> Credentials:
        await asyncio.Event().wait()
        raise AssertionError

    async with serve(service) as server, connect(server, max_connections=1) as client:
        waiting = client.with_options(credentials=never)
        for _ in range(2):
            with pytest.raises(TimeoutError, match=r"0\.05 s \(Timeout\.total\)"):
                await waiting.invoke_endpoint(endpoint_name="e", body=b"", timeout=0.05)
            cancelled = asyncio.create_task(waiting.invoke_endpoint(endpoint_name="e", body=b""))
            await asyncio.sleep(0.01)
            cancelled.cancel()
            await asyncio.wait((cancelled,))
            assert cancelled.cancelled()
            await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert len(server.requests) == 2


@pytest.mark.asyncio
async def test_credentials_end_by_the_clock_that_was_learnt(
    service: Service, serve: Serve, connect: Connect
) -> None:
    fetched = 0

    async def fetch() -> Credentials:
        nonlocal fetched
        fetched += 1
        return attrs.evolve(KEYS, expires_at=service.now() + datetime.timedelta(minutes=50))

    async with serve(service) as server, connect(server) as client:
        renewing = client.with_options(credentials=fetch)
        await renewing.invoke_endpoint(endpoint_name="e", body=b"")
        service.ahead = HOUR  # it was the machine's clock that has stood still
        await client.invoke_endpoint(endpoint_name="e", body=b"")
        await renewing.invoke_endpoint(endpoint_name="e", body=b"")
        assert fetched == 2
        # Told otherwise, another client has another opinion.
        told = renewing.with_options(system_clock_offset=HOUR)
        await told.invoke_endpoint(endpoint_name="e", body=b"")
        assert fetched == 3
