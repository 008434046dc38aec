"""One call on its way: what it is, and what was attempted."""

from __future__ import annotations

import datetime
import logging
import re
import time
import weakref
from typing import TypeVar

import attrs

from aiosmrt.calls.observation import Observation, tell
from aiosmrt.calls.shortages import CapacityWait
from aiosmrt.calls.turns import Turn
from aiosmrt.config import Credentials, Timeout
from aiosmrt.errors import AiosmrtError, ServiceError
from aiosmrt.hooks import AfterHeaders, Ending, Hook, Hooks, OnRetry, Service
from aiosmrt.http import Request, ResponseHead
from aiosmrt.masking import Secrets
from aiosmrt.models import Attempt, ResponseMetadata
from aiosmrt.plain_text import to_line
from aiosmrt.service import read_request_id
from aiosmrt.transport import Limits
from aiosmrt.value import Shown

__all__ = ["NO_HOOKS", "Call"]

_log = logging.getLogger("aiosmrt")

E = TypeVar("E")

NO_HOOKS = Hooks()

# Names of headers whose values are nobody's business; a KMS key's is no secret.
_HIDDEN = "auth|cookie|credential|custom-attributes|(?<!kms-)key|password|secret|token"


@attrs.define(eq=False, repr=False)
class Call(Shown):
    """One call on its way: what it is, and what was attempted."""

    operation: str
    endpoint_name: str
    request: Request  # unsigned; every attempt signs it anew
    timeout: Timeout
    hooks: Hooks = NO_HOOKS
    limits: Limits = attrs.field()  # may run already
    apart: bool = False  # whether its slots are others than those of model calls
    attempts: list[Attempt] = attrs.field(factory=list, init=False)
    head: ResponseHead | None = None  # of the attempt under way
    credentials: Credentials | None = None  # that signed it
    signed_at: datetime.datetime | None = None  # the time of its signature
    uncounted: int = 0  # attempts whose fault was put right
    clock_corrected: bool = False
    credentials_renewed: bool = False
    goes_on: bool = False  # whether a stream has taken the call over, and will end it
    throttled_as: str | None = None  # what is throttled as one, where that is no endpoint
    pace_wait: float = 0.0  # of the attempt under way
    capacity: CapacityWait | None = None  # its part in a want of capacity
    capacity_wait: float = 0.0  # of the attempt under way
    turn: Turn | None = None  # among the calls to its endpoint; whoever gave it, ends it
    began: float = attrs.field(factory=time.perf_counter)
    observation: Observation | None = attrs.field()  # None where there are no hooks
    slot_wait: float = 0.0
    credentials_wait: float = 0.0  # of the attempt under way
    time_to_first_byte: float = 0.0
    # What a hook raised, which is not the call's; its traceback refers to this.
    _observers_own: weakref.ref[AiosmrtError] | None = attrs.field(default=None, init=False)
    _attempt_at: datetime.datetime = attrs.field(init=False)
    _attempt_began: float = attrs.field(init=False)
    _slot_at: float | None = attrs.field(init=False)

    @limits.default
    def _limit(self) -> Limits:
        return Limits(self.timeout)

    @observation.default
    def _observe(self) -> Observation | None:
        if self.hooks is NO_HOOKS:
            return None
        return Observation(self.hooks, self.operation, self.endpoint_name, began=self.began)

    @property
    def call_id(self) -> str:
        """What all events of the call, and all its requests, have in common."""
        return self.request.headers.get("amz-sdk-invocation-id", "")

    @property
    def service(self) -> Service:
        """Whom the call is for."""
        return "sagemaker-runtime" if self.observation is None else self.observation.service

    @property
    def throttled(self) -> str:
        """What is throttled as one, with all its calls: an endpoint, or what else was called."""
        return self.throttled_as or self.endpoint_name

    def begin_attempt(self) -> None:
        """Note that the waits begin: in adaptive mode for the pace, for credentials, for a slot."""
        self.head = None
        self.credentials_wait = self.pace_wait = self.capacity_wait = 0.0
        self._attempt_at = datetime.datetime.now(datetime.UTC)
        self._attempt_began = time.perf_counter()
        self._slot_at = None

    def end_pacing(self) -> None:
        """Note that the wait for the pace is over, and that for a slot begins."""
        now = time.perf_counter()
        self.pace_wait = now - self._attempt_began
        self._attempt_began = now

    def book_capacity_wait(self, seconds: float) -> None:
        """Note how long the attempt waited for capacity, which is no wait for a slot."""
        self.capacity_wait += seconds
        self._attempt_began += seconds

    def leave_shortage(self, *, let_through: bool) -> None:
        """Take no part in a want of capacity any longer."""
        capacity, self.capacity = self.capacity, None
        if capacity is not None:
            capacity.leave(let_through=let_through)

    def begin_sending(self) -> None:
        """Note that the slot is there."""
        self._slot_at = time.perf_counter()
        if self.turn is not None:
            self.turn.begin_attempt()
        self.slot_wait += self._slot_at - self._attempt_began - self.credentials_wait

    def end_attempt(self, error: AiosmrtError | None = None, delay: float | None = None) -> None:
        """Note how the attempt ended, and how long the pause before the next will be."""
        head = self.head
        now = time.perf_counter()
        slot_at = now if self._slot_at is None else self._slot_at
        self.attempts.append(
            Attempt(
                number=len(self.attempts) + 1,
                started_at=self._attempt_at,
                slot_wait=slot_at - self._attempt_began - self.credentials_wait,
                credentials_wait=self.credentials_wait,
                duration=now - slot_at,
                status=None if head is None else head.status,
                error=_name(error),
                request_id=None if head is None else read_request_id(head),
                may_have_run=error is None or error.may_have_run,
                delay=delay,
                pace_wait=self.pace_wait,
                capacity_wait=self.capacity_wait,
            )
        )
        if _log.isEnabledFor(logging.DEBUG):
            self._log_attempt(len(self.attempts), self.attempts[-1].error, now - slot_at)

    def break_attempt_off(self, error: BaseException) -> None:
        """Note that the attempt ended with what is no failure of it, such as a cancellation."""
        seconds = 0.0 if self._slot_at is None else time.perf_counter() - self._slot_at
        self._log_attempt(len(self.attempts) + 1, type(error).__name__, seconds)

    def _log_attempt(self, number: int, error: str | None, seconds: float) -> None:
        """Log how an attempt ended, with its fields apart for logs that are read by programs."""
        request_id = None if self.head is None else read_request_id(self.head)
        fields = {
            "call_id": self.call_id,
            "operation": self.operation,
            "endpoint_name": self.endpoint_name,
            "attempt": number,
            "status": None if self.head is None else self.head.status,
            "request_id": None if request_id is None else to_line(request_id),
            "seconds": round(seconds, 6),
            "error": None if error is None else to_line(error),
        }
        _log.debug(
            "%(operation)s on %(endpoint_name)s: attempt %(attempt)d ended after %(seconds).3f s, "
            "status %(status)s, request id %(request_id)s, error %(error)s",
            fields,
            extra=fields,
        )

    def is_observers_own(self, error: BaseException) -> bool:
        """Tell whether a hook raised it."""
        return self._observers_own is not None and self._observers_own() is error

    def report_headers(self, head: ResponseHead) -> AfterHeaders:
        """Tell what an observer gets to know of an answer's head."""
        return AfterHeaders(
            operation=self.operation,
            endpoint_name=self.endpoint_name,
            attempt=len(self.attempts) + 1,
            status=head.status,
            headers=head.headers,
            time_to_first_byte=self.time_to_first_byte,
            call_id=self.call_id,
            service=self.service,
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

    def mask(self, error: BaseException, sent: Request | None = None) -> None:
        """Mask the call's secrets in what a service has said of it.

        Args:
            error: of an attempt, or of its stream.
            sent: the signed request.
        """
        self.list_secrets(sent).mask_error(error)

    def list_secrets(self, sent: Request | None = None) -> Secrets:
        """Give what must not be shown of the call: its keys, and what its headers hide.

        Args:
            sent: the signed request.
        """
        keys = self.credentials
        random = [] if keys is None else [keys.session_token or "", keys.secret_access_key]
        worded = []
        headers = {**self.request.headers, **({} if sent is None else sent.headers)}
        for name, value in headers.items():
            if name == "authorization":
                # Behind the name of a scheme, or ours at its end.
                random.append(value.rpartition(" ")[2].removeprefix("Signature="))
            if re.search(_HIDDEN, name):
                worded.append(value)
        return Secrets(tuple(random), tuple(worded))

    def place(self, error: AiosmrtError) -> None:
        """Tell the error which call it belongs to, and what came of its attempts."""
        if self.is_observers_own(error):
            return
        error.operation = self.operation
        error.endpoint_name = self.endpoint_name
        error.attempts = tuple(self.attempts)
        for attempt in error.attempts:
            error.may_have_run = error.may_have_run or attempt.may_have_run
            error.request_id = attempt.request_id or error.request_id

    async def fail(self, error: BaseException) -> None:
        """Take no part any longer in what others wait for, and tell the observer what happened."""
        ran = isinstance(error, AiosmrtError) and error.may_have_run
        self.leave_shortage(let_through=ran)
        if isinstance(error, AiosmrtError):
            self.place(error)
        await self.end(None, error)

    async def end(
        self,
        metadata: ResponseMetadata | None,
        error: BaseException | None = None,
        parts: int | None = None,
        size: int | None = None,
        outcome: Ending = "ok",
    ) -> None:
        """Tell the observer that the call is over, once; what an error comes to needs no word."""
        if self.observation is not None:
            await self.observation.end(metadata, error, parts, size, outcome)

    def end_detached(self, metadata: ResponseMetadata, parts: int | None, size: int) -> None:
        """Tell the observer, where nobody waits for that, that the call was left; once."""
        if self.observation is not None:
            self.observation.end_detached(metadata, parts, size)

    async def tell_of_retry(self, error: AiosmrtError) -> None:
        """Tell the observer which failure will be followed by another attempt."""
        if self.hooks.on_retry is not None:
            self.place(error)
            event = OnRetry(
                operation=self.operation,
                endpoint_name=self.endpoint_name,
                attempt=self.attempts[-1],
                error=error,
                call_id=self.call_id,
                service=self.service,
            )
            await self.tell(self.hooks.on_retry, event)

    async def tell(self, hook: Hook[E], event: E) -> None:
        """Call a hook.

        What it raises ends the call, and is not attempted again: an observer may make calls of its
        own. It is not changed either, but that whoever catches it must not take the call that it
        ended for one that ran nothing.
        """
        try:
            await tell(hook, event)
        except AiosmrtError as error:
            self._observers_own = weakref.ref(error)
            answered = self.head is not None
            ran = answered or any(attempt.may_have_run for attempt in self.attempts)
            error.may_have_run = error.may_have_run or ran
            raise


def _name(error: AiosmrtError | None) -> str | None:
    if isinstance(error, ServiceError):
        return error.code
    return None if error is None else type(error).__name__
