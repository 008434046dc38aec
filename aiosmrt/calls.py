"""The way of one call: slot, credentials, signature, send, judge the answer, wait, again."""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs

from aiosmrt.config import Credentials, RetryPolicy, Timeout
from aiosmrt.credentials import CredentialProvider
from aiosmrt.errors import AiosmrtError, ServiceError
from aiosmrt.http import Request, Response, ResponseHead
from aiosmrt.limits import Limits
from aiosmrt.models import Attempt, ResponseMetadata
from aiosmrt.operations import read_request_id
from aiosmrt.retries import Retry, RetryQuota, Stop, decide
from aiosmrt.signing import Signer
from aiosmrt.transport import Pool, PooledResponse

__all__ = ["Call", "Caller", "read_refusal"]

_log = logging.getLogger("aiosmrt")

T = TypeVar("T")

# What the service calls credentials that were good once; the next call fetches new ones.
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException"})

# How much of a refusal's body is read; the service's own are far smaller.
_REFUSAL = 1 << 18


@attrs.define(eq=False)
class Call:
    """One call on its way: what it is, and what was attempted."""

    operation: str
    endpoint_name: str
    request: Request  # unsigned; every attempt signs it anew
    timeout: Timeout
    limits: Limits = attrs.field(init=False)
    attempts: list[Attempt] = attrs.field(factory=list, init=False)
    head: ResponseHead | None = None  # of the attempt under way
    credentials: Credentials | None = None  # that signed it
    began: float = attrs.field(factory=time.perf_counter, init=False)
    slot_wait: float = 0.0
    time_to_first_byte: float = 0.0
    _attempt_at: datetime.datetime = attrs.field(init=False)
    _attempt_began: float = attrs.field(init=False)
    _attempt_slot_wait: float = 0.0

    @limits.default
    def _limit(self) -> Limits:
        return Limits(self.timeout)

    def begin_attempt(self) -> None:
        """Note that the wait for a slot begins."""
        self.head = None
        self._attempt_at = datetime.datetime.now(datetime.UTC)
        self._attempt_began = time.perf_counter()
        self._attempt_slot_wait = 0.0

    def begin_sending(self) -> None:
        """Note that the slot is there."""
        now = time.perf_counter()
        self._attempt_slot_wait = now - self._attempt_began
        self.slot_wait += self._attempt_slot_wait
        self._attempt_began = now

    def receive_head(self, head: ResponseHead) -> None:
        """Note that an answer has come."""
        self.head = head
        self.time_to_first_byte = time.perf_counter() - self._attempt_began

    def end_attempt(self, error: AiosmrtError | None = None, delay: float | None = None) -> None:
        """Note how the attempt ended, and how long the pause before the next will be."""
        head = self.head
        self.attempts.append(
            Attempt(
                number=len(self.attempts) + 1,
                started_at=self._attempt_at,
                slot_wait=self._attempt_slot_wait,
                duration=time.perf_counter() - self._attempt_began,
                status=None if head is None else head.status,
                error=_name(error),
                request_id=None if head is None else read_request_id(head),
                may_have_run=error is None or error.may_have_run,
                delay=delay,
            )
        )

    def describe(self, head: ResponseHead) -> ResponseMetadata:
        """Tell what is known of the call by now."""
        return ResponseMetadata(
            request_id=read_request_id(head),
            status=head.status,
            headers=head.headers,
            attempts=tuple(self.attempts),
            slot_wait=self.slot_wait,
            time_to_first_byte=self.time_to_first_byte,
            total=time.perf_counter() - self.began,
        )

    def place(self, error: AiosmrtError) -> None:
        """Tell the error which call it belongs to."""
        error.operation = self.operation
        error.endpoint_name = self.endpoint_name
        error.attempts = tuple(self.attempts)
        if error.request_id is None and self.head is not None:
            error.request_id = read_request_id(self.head)


def _name(error: AiosmrtError | None) -> str | None:
    if isinstance(error, ServiceError):
        return error.code
    return None if error is None else type(error).__name__


@attrs.frozen(eq=False)
class Caller:
    """Carries calls out: holds what all of them share."""

    signer: Signer
    credentials: CredentialProvider
    retry: RetryPolicy
    quota: RetryQuota

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
        pool.enter(call.limits)
        call.request.headers["amz-sdk-invocation-id"] = str(uuid.uuid4())
        retry: Retry | None = None
        try:
            while True:
                try:
                    result = await self._attempt(call, pool, judge)
                except AiosmrtError as error:
                    retry = self._reconsider(call, error)
                    if retry is None:
                        raise
                else:
                    self.quota.release(retry)
                    return result
                async with call.limits:
                    await asyncio.sleep(retry.delay)
        except AiosmrtError as error:
            call.place(error)
            raise
        finally:
            pool.leave(call.limits)

    async def _attempt(
        self, call: Call, pool: Pool, judge: Callable[[PooledResponse, Call], Awaitable[T]]
    ) -> T:
        limits = call.limits
        slot = response = None
        call.begin_attempt()
        try:
            async with limits:
                slot = await pool.acquire(limits)
                call.begin_sending()
                response = await pool.send(await self._sign(call), slot, limits)
                call.receive_head(response.head)
            return await judge(response, call)
        except BaseException:
            if response is not None:
                response.close()
            elif slot is not None:
                slot.release()
            raise

    async def _sign(self, call: Call) -> Request:
        """Sign after the wait for a slot: a signature holds for five minutes only."""
        request = call.request
        request.headers["amz-sdk-request"] = (
            f"attempt={len(call.attempts) + 1}; max={self.retry.attempt_limit}"
        )
        call.credentials = credentials = await self.credentials.get()
        added = self.signer.sign(request, credentials, datetime.datetime.now(datetime.UTC))
        return Request(
            method=request.method,
            origin=request.origin,
            path=request.path,
            headers={**request.headers, **added},
            body=request.body,
            query=request.query,
        )

    def _reconsider(self, call: Call, error: AiosmrtError) -> Retry | None:
        """Decide whether there is another attempt, and note how this one ended."""
        if isinstance(error, ServiceError) and error.code in _EXPIRED and call.credentials:
            self.credentials.invalidate(call.credentials)
        number = len(call.attempts) + 1
        decision = decide(error, number, self.retry, self.quota)
        retry = decision if isinstance(decision, Retry) else None
        if retry is not None and not call.limits.allows(retry.delay):
            error.add_note("not attempted again: Timeout.total would end before")
            self.quota.release(retry)
            retry = None
        call.end_attempt(error, None if retry is None else retry.delay)
        if isinstance(decision, Stop):
            if number > 1 or decision is not Stop.NOT_RETRYABLE:
                error.add_note(f"not attempted again: {decision.value}")
        elif retry is not None:
            _log.info(
                "%s on %s: attempt %d failed with %s; the next one in %.2f s",
                call.operation,
                call.endpoint_name,
                number,
                call.attempts[-1].error,
                retry.delay,
            )
        return retry


async def read_refusal(response: Response) -> bytes:
    """Read the body of an answer that is no success, as far as it comes and is worth reading."""
    chunks: list[bytes] = []
    size = 0
    try:
        while size < _REFUSAL and (chunk := await response.receive()):
            chunks.append(chunk)
            size += len(chunk)
    except AiosmrtError:
        # The status says more than the cut.
        pass
    finally:
        response.close()
    return b"".join(chunks)
