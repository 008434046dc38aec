"""The way of one call: credentials, slot, signature, send, judge the answer, wait, again."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar
from weakref import WeakKeyDictionary

import attrs

from aiosmrt.calls.call import Call
from aiosmrt.calls.remedies import (
    correct_clock,
    describe_wait,
    join_shortage,
    keep_turn,
    renew_credentials,
)
from aiosmrt.calls.request_body import HASHED_APART, OneTimeBody, hash_body
from aiosmrt.calls.retries import (
    FailureKind,
    PerEndpoint,
    RateLimiter,
    Retry,
    RetryQuota,
    Stop,
    classify,
    decide,
)
from aiosmrt.calls.shortages import CapacityWait, Shortages, find_place
from aiosmrt.calls.turns import Line
from aiosmrt.config import RetryPolicy
from aiosmrt.errors import SIXTY_SECONDS_ADVICE, AiosmrtError, ServiceError
from aiosmrt.hooks import BeforeSend, Hook
from aiosmrt.http import Request, Response
from aiosmrt.plain_text import to_line
from aiosmrt.randomness import make_uuid
from aiosmrt.redaction import Redacted
from aiosmrt.service import INVOKE_ENDPOINT, check_headers, lacks_endpoint, took_its_time
from aiosmrt.signing import Clock, CredentialProvider, Signer
from aiosmrt.transport import MalformedContent, Pool, PooledResponse, Slot, decode_body

__all__ = ["Caller", "Shared", "read_refusal", "receive_all"]

_log = logging.getLogger("aiosmrt")

T = TypeVar("T")


# How much of a refusal's body is read; the service's own are far smaller.
_REFUSAL = 1 << 18


@attrs.frozen(eq=False, repr=False)
class Shared:
    """What the calls of a client and of those derived from it have in common."""

    clock: Clock = attrs.field(factory=Clock)
    quotas: PerEndpoint[RetryQuota] = attrs.field(factory=lambda: PerEndpoint(RetryQuota))
    limiters: PerEndpoint[RateLimiter] = attrs.field(
        factory=lambda: PerEndpoint(lambda: RateLimiter(time.monotonic()))
    )
    shortages: Shortages = attrs.field(factory=dict)
    # Of each event loop its own, found by its pool.
    lines: WeakKeyDictionary[Pool, PerEndpoint[Line]] = attrs.field(factory=WeakKeyDictionary)


@attrs.frozen(eq=False, repr=False)
class Caller:
    """Carries calls out, each by the same rules."""

    signer: Signer | None  # None where requests are not signed
    credentials: CredentialProvider
    retry: RetryPolicy
    shared: Shared
    correct_clock_skew: bool = True
    place: str = ""  # where endpoints are looked for, in words
    region_name: str | None = None

    async def call(
        self, call: Call, pool: Pool, judge: Callable[[PooledResponse, Call], Awaitable[T]]
    ) -> T:
        """Attempt the call until it succeeds or must not be attempted again.

        Args:
            call: what to do.
            pool: of the running loop.
            judge: reads an answer whose head has come, and gives the result or raises what is
                wrong; it owns the response from then on, except that a response is closed here
                when it raises.

        Raises:
            AiosmrtError: as the last attempt ended.
        """
        observation = call.observation
        if observation is not None:
            observation.attempts = call.attempts
            observation.origin = call.request.origin
            observation.region_name = self.region_name
            await observation.start()
        pool.enter(call.limits)
        call.request.headers["amz-sdk-invocation-id"] = (
            make_uuid() if observation is None else observation.call_id
        )
        retry: Retry | None = None
        try:
            while True:
                try:
                    result = await self._attempt(call, pool, judge)
                except AiosmrtError as error:
                    if call.is_observers_own(error):
                        raise
                    delay = await self._remedy(call, error)
                    if delay is None:
                        retry = self._reconsider(call, error)
                        if retry is None:
                            raise
                        delay = retry.delay
                    await call.tell_of_retry(error)
                else:
                    self._earn(call, retry)
                    if call.hooks.on_end is not None and not call.goes_on and call.head is not None:
                        await call.end(call.describe(call.head))
                    return result
                with call.limits:
                    call.limits.note(f"the back-off before attempt {len(call.attempts) + 1}")
                    await (asyncio.sleep(delay) if call.turn is None else call.turn.rest(delay))
        except BaseException as error:
            await call.fail(error)
            raise
        finally:
            pool.leave(call.limits)

    async def _attempt(
        self, call: Call, pool: Pool, judge: Callable[[PooledResponse, Call], Awaitable[T]]
    ) -> T:
        limits = call.limits
        slot = response = signed = None
        call.begin_attempt()
        try:
            with limits:
                if self.retry.mode == "adaptive":
                    await self._pace(call)
                slot = self._find_slot(call, pool) or await self._await_slot(call, pool)
                if self.shared.shortages:
                    slot = await self._give_way(call, pool, slot)
                call.begin_sending()
                signed = await self._sign(call)
                response = await pool.send(signed, slot, limits)
                call.head = response.head
                call.time_to_first_byte = response.time_to_first_byte
            if call.hooks.after_headers is not None:
                await call.tell(call.hooks.after_headers, call.report_headers(response.head))
            result = await judge(response, call)
        except BaseException as error:
            if response is not None:
                response.close()
            elif slot is not None:
                slot.release()
            if isinstance(error, AiosmrtError) and not call.is_observers_own(error):
                call.mask(error, signed)
                if response is not None and isinstance(error, ServiceError):
                    self._learn_pace(call, throttled=classify(error) is FailureKind.THROTTLING)
            else:
                call.break_attempt_off(error)
            raise
        self._learn_pace(call, throttled=False)
        return result

    def _find_slot(self, call: Call, pool: Pool) -> Slot | None:
        """Take a place in the pool where neither that nor credentials take waiting."""
        return pool.find_slot(apart=call.apart) if self._find_credentials(call) else None

    async def _await_slot(self, call: Call, pool: Pool) -> Slot:
        """Take a place in the pool, with credentials at hand: who waits for some holds none."""
        while True:
            if not self._find_credentials(call):
                await self._await_credentials(call)
            slot = await pool.acquire(call.limits, apart=call.apart)
            found = False
            try:
                found = self._find_credentials(call)
            finally:
                if not found:
                    slot.release()  # they have ended meanwhile, perhaps for good
            if found:
                return slot

    def _find_credentials(self, call: Call) -> bool:
        """Tell whether the call can be signed without waiting, or need not be."""
        if self.signer is None:
            return True
        call.credentials = self.credentials.find()
        return call.credentials is not None

    async def _await_credentials(self, call: Call) -> None:
        began = time.perf_counter()
        call.limits.note("credentials")
        try:
            await self.credentials.get(call.timeout.credentials)
        finally:
            call.credentials_wait += time.perf_counter() - began

    async def _pace(self, call: Call) -> None:
        """Wait, without a slot, until the rate that throttling has left lets an attempt go."""
        limiter = self.shared.limiters[call.throttled]
        wait = limiter.acquire(time.monotonic())
        if not wait:
            return
        _log.info(
            "%s on %s: adaptive mode holds attempt %d back after throttling, for about %.2f s",
            call.operation,
            call.endpoint_name,
            len(call.attempts) + 1,
            wait,
        )
        call.limits.note("the rate that throttling has left")
        ticket = limiter.take_ticket()
        try:
            while wait:
                await asyncio.sleep(wait)
                wait = limiter.acquire(time.monotonic(), ticket)
        finally:
            limiter.return_ticket()
            call.end_pacing()

    async def _give_way(self, call: Call, pool: Pool, slot: Slot) -> Slot:
        """Wait, without the slot, where others are refused for want of capacity; give a slot.

        Raises:
            AiosmrtError: the last refusal, where there was no capacity in time.
        """
        seconds, shortages = self.retry.capacity_wait, self.shared.shortages
        if call.capacity is None:
            place = find_place(call.endpoint_name, call.request.headers)
            if not seconds or place not in shortages:
                return slot
            call.capacity = CapacityWait(shortages, place, seconds)
            _log.info(
                "%s on %s: there is no capacity; waits with those before it, for at most %g s",
                call.operation,
                call.endpoint_name,
                seconds,
            )
        while not call.capacity.may_send:
            slot.release()
            began = time.perf_counter()
            call.limits.note("capacity for the model")
            refusal = await call.capacity.wait()
            call.book_capacity_wait(time.perf_counter() - began)
            if refusal is not None:
                refusal.not_retried = describe_wait(seconds)
                raise copy.copy(refusal)
            slot = await self._await_slot(call, pool)
        return slot

    def _learn_pace(self, call: Call, *, throttled: bool) -> None:
        if self.retry.mode == "adaptive":
            limiter = self.shared.limiters[call.throttled]
            limiter.update(time.monotonic(), throttled=throttled)

    def _earn(self, call: Call, retry: Retry | None) -> None:
        """Fill the endpoint's quota up, if anything of it was ever used, and let others through."""
        if call.capacity is not None:
            call.leave_shortage(let_through=True)
        if self.shared.quotas:
            quota = self.shared.quotas.get(call.throttled)
            if quota is not None:
                quota.release(retry)

    async def _sign(self, call: Call) -> Request:
        """Sign after the wait for a slot: a signature holds for five minutes only."""
        request = call.request
        number = len(call.attempts) + 1
        unsigned = Request(
            method=request.method,
            origin=request.origin,
            path=request.path,
            headers={
                **request.headers,
                "amz-sdk-request": f"attempt={number}; max={self.retry.attempt_limit}",
            },
            body=request.body,
            query=request.query,
        )
        if call.hooks.before_send is not None:
            await _let_add(call.hooks.before_send, call, number, unsigned)
        if self.signer is not None and len(request.body) > HASHED_APART:
            await hash_body(request)
        unsigned.body_hash = request.body_hash
        if self.signer is not None and call.credentials is not None:
            call.signed_at = signed_at = self.shared.clock.now()
            unsigned.headers |= self.signer.sign(unsigned, call.credentials, signed_at)
        _log.debug(
            "%s on %s: attempt %d goes to %s",
            call.operation,
            call.endpoint_name,
            number,
            request.origin,
        )
        return unsigned

    async def _remedy(self, call: Call, error: AiosmrtError) -> float | None:
        """Give seconds until the next attempt, where what was wrong with this is put right by then.

        It does not count; `None` where it is not.
        """
        pause = 0.0
        try:
            clock = self.shared.clock
            done = correct_clock(call, error, clock) if self.correct_clock_skew else None
            done = done or await renew_credentials(call, error, self.credentials)
            done = done or join_shortage(call, error, self.retry, self.shared.shortages)
            if done is None and not error.not_retried:
                kept = keep_turn(call, error, self.retry)
                if kept is not None:
                    done, pause = f"it is refused; sent again in {kept:.2f} s", kept
        except BaseException:
            call.end_attempt(error)
            raise
        if done is None:
            return None
        call.uncounted += 1
        call.end_attempt(error, pause)
        _log.info("%s on %s: %s", call.operation, call.endpoint_name, done)
        return pause

    def _reconsider(self, call: Call, error: AiosmrtError) -> Retry | None:
        """Decide whether there is another attempt, and note how this one ended."""
        if lacks_endpoint(error):
            error.advice = (
                f"It was looked for at {self.place}: check its name, the region, and the account "
                "of the credentials."
            )
        if call.operation == INVOKE_ENDPOINT.name and took_its_time(error, call.time_to_first_byte):
            error.advice = SIXTY_SECONDS_ADVICE
        number = len(call.attempts) + 1 - call.uncounted
        one_time = isinstance(call.request.body, OneTimeBody)
        quota = self.shared.quotas[call.throttled]
        decision: Retry | Stop = Stop.NOT_RETRYABLE
        try:
            if not error.not_retried:
                decision = decide(error, number, self.retry, quota, one_time_body=one_time)
        except BaseException:
            call.end_attempt(error)
            raise
        if isinstance(decision, Retry) and not call.limits.allows(decision.delay):
            quota.release(decision)
            decision = Stop.TOTAL
        retry = decision if isinstance(decision, Retry) else None
        call.end_attempt(error, None if retry is None else retry.delay)
        if isinstance(decision, Retry):
            follows = f"the next one in {decision.delay:.2f} s"
        elif error.not_retried or number > 1 or decision is not Stop.NOT_RETRYABLE:
            error.not_retried = error.not_retried or decision.value
            follows = f"not attempted again: {error.not_retried}"
        else:
            return None
        _log.info(
            "%s on %s: attempt %d failed with %s; %s",
            call.operation,
            call.endpoint_name,
            number,
            to_line(call.attempts[-1].error or ""),
            follows,
        )
        return retry


async def _let_add(hook: Hook[BeforeSend], call: Call, number: int, request: Request) -> None:
    """Let the observer add headers; what HTTP cannot carry, or breaks the request, is refused."""
    event = BeforeSend(
        operation=call.operation,
        endpoint_name=call.endpoint_name,
        attempt=number,
        headers=dict(request.headers),
        call_id=call.call_id,
        service=call.service,
    )
    await call.tell(hook, event)
    check_headers(
        {name: value for name, value in event.headers.items() if request.headers.get(name) != value}
    )
    request.headers = {name.lower(): value for name, value in event.headers.items()}


async def read_refusal(response: Response) -> bytes:
    """Read the body of an answer that is no success, as far as it comes and is worth reading."""
    body = Redacted(await receive_all(response, _REFUSAL))
    with suppress(MalformedContent):
        return await decode_body(response.head, body, _REFUSAL)
    return body.value


async def receive_all(response: Response, limit: int) -> bytes:
    """Read a body as far as it comes, up to about `limit` bytes, and close the response."""
    body = Redacted(bytearray())
    try:
        while len(body.value) < limit and (chunk := await response.receive()):
            body.value += chunk
            del chunk  # the traceback of what the next one raises would show it
    except AiosmrtError:
        # What the head said, says more than the cut.
        pass
    finally:
        response.close()
    return bytes(body.value)
