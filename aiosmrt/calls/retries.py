"""Whether a failed attempt is followed by another one, after how long, and at what cost.

Pure: it neither sleeps nor looks at a clock. The caller's loop is::

    retry = None
    while True:
        try:
            result = await attempt()
        except AiosmrtError as error:
            decision = decide(error, number, policy, quota)
            if isinstance(decision, Stop):
                raise
            retry = decision
            await asyncio.sleep(retry.delay)
        else:
            quota.release(retry)
            return result

The rules are those of the SDKs' retry specification 2.1, as its test cases and botocore 1.44 apply
them, with three differences: what may have run the model is not retried unless that is asked for;
ModelNotReadyException counts as throttling, 530 and 408 are treated like 503; a `Retry-After`, in
seconds or as a date, is honoured as `x-amz-retry-after` is.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import attrs

from aiosmrt.config import RetryPolicy
from aiosmrt.errors import (
    AiosmrtError,
    CredentialsTimeout,
    InternalStreamFailure,
    ModelError,
    ServiceError,
    SlotTimeout,
    TooManyOpenFiles,
    TotalTimeout,
    TransportError,
    TruncatedStream,
)
from aiosmrt.http import parse_date
from aiosmrt.randomness import generator
from aiosmrt.service import LATE_REQUEST_CODES, THROTTLING_CODES
from aiosmrt.value import Value

__all__ = [
    "FailureKind",
    "PerEndpoint",
    "RateLimiter",
    "Retry",
    "RetryQuota",
    "Stop",
    "choose_delay",
    "classify",
    "decide",
    "read_retry_after",
]

T = TypeVar("T")

# ModelNotReadyException is ours: its documentation says to wait and try again.
_THROTTLING_CODES = THROTTLING_CODES | {"ModelNotReadyException"}
# The specification spares a 429 whose code the operation models: here that is
# ModelNotReadyException alone, which is throttling anyway.
_THROTTLING_STATUSES = frozenset({429})
_TRANSIENT_STATUSES = frozenset({408, 500, 502, 503, 504, 530})

_MOST_ENDPOINTS = 1024  # that are remembered at a time

_RETRY_AFTER_MARGIN = 5.0  # seconds above the computed delay that the service may ask for

# The rate limiter's constants, the specification's.
_CUBIC_SCALE = 0.4
_CUBIC_BETA = 0.7
_SMOOTHING = 0.8
_MIN_RATE = 0.5  # attempts a second


class FailureKind(enum.Enum):
    """What a failure is to a retry policy; the value is the price of a retry in quota tokens."""

    THROTTLING = 5
    TRANSIENT = 14
    OTHER = 0  # never retried


class Stop(enum.Enum):
    """Why there is no further attempt; the value says it to people."""

    NOT_RETRYABLE = "another attempt would fail in the same way"
    MAY_HAVE_RUN = "the model may have run, and RetryPolicy.retry_may_have_run is off"
    MAX_ATTEMPTS = "this was the last attempt that the retry policy allows"
    ONE_TIME_BODY = (
        "its body came from a source that can be read only once, and is sent only once; give "
        "bytes, or a file that can seek, to have it sent again"
    )
    BACKOFF = "RetryPolicy.backoff said stop"
    QUOTA = (
        "the retry quota is used up, since too many of the latest attempts there have failed; "
        "RetryPolicy(quota=...) sets it, and None lifts it"
    )
    TOTAL = "Timeout.total would end before"


@attrs.frozen(eq=False, repr=False)
class Retry(Value):
    """There is a further attempt."""

    delay: float  # seconds until then
    cost: int  # tokens that were taken from the quota


class RetryQuota:
    """What the retries on one endpoint have used up, in tokens; how many there are a policy says.

    It keeps a client whose calls keep failing from multiplying its own load.
    """

    __slots__ = ("spent",)

    def __init__(self) -> None:
        self.spent: int = 0

    def acquire(self, cost: int, capacity: int) -> bool:
        """Take `cost` of `capacity` tokens; give `False`, and take none, where fewer are left."""
        if self.spent + cost > capacity:
            return False
        self.spent += cost
        return True

    def release(self, retry: Retry | None) -> None:
        """Fill up after a call that succeeded.

        Args:
            retry: the call's last one, whose cost is given back; `None` for a call that succeeded
                at its first attempt and earns one token.
        """
        earned = 1 if retry is None else retry.cost
        self.spent = max(0, self.spent - earned)


class PerEndpoint(dict[str, T]):
    """What is remembered of each endpoint, made when it is first asked for.

    Of more than a thousand the one that was met first is forgotten.

    Args:
        make: makes what there is of an endpoint that nothing is known of.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, endpoint_name: str) -> T:
        if len(self) >= _MOST_ENDPOINTS:
            self.pop(next(iter(self)), None)
        made = self[endpoint_name] = self._make()
        return made


def decide(
    error: AiosmrtError,
    attempt: int,
    policy: RetryPolicy,
    quota: RetryQuota,
    random: Callable[[], float] = generator.random,
    *,
    one_time_body: bool = False,
) -> Retry | Stop:
    """Decide what follows a failed attempt. A retry's cost is taken from the quota at once.

    Args:
        error: how the attempt ended.
        attempt: its number, from 1.
        policy: of the call.
        quota: of the endpoint.
        random: gives a number from 0 to 1 by which the delay is multiplied.
        one_time_body: whether the request's body must not be sent again.

    Raises:
        Exception: what the policy's own functions raise.
    """
    asked_for = isinstance(error, ModelError) and _selects(policy.retry_model_error, error)
    kind = FailureKind.TRANSIENT if asked_for else classify(error)
    if kind is FailureKind.OTHER:
        return Stop.NOT_RETRYABLE
    if error.may_have_run and not (asked_for or policy.retry_may_have_run):
        return Stop.MAY_HAVE_RUN
    if attempt >= policy.attempt_limit:
        return Stop.MAX_ATTEMPTS
    if one_time_body:
        return Stop.ONE_TIME_BODY
    delay = choose_delay(error, attempt, policy, kind, random)
    if delay is None:
        return Stop.BACKOFF
    cost = 0 if policy.quota is None else kind.value
    granted = policy.quota is None or quota.acquire(cost, policy.quota)
    return Retry(delay, cost) if granted else Stop.QUOTA


def classify(error: AiosmrtError) -> FailureKind:
    """Tell what kind of failure an error is, whether or not the model may have run."""
    # These limits are the caller's own, and another attempt would stretch them.
    if isinstance(error, CredentialsTimeout | SlotTimeout | TotalTimeout):
        return FailureKind.OTHER
    # What holds the descriptors is mostly this program, and would go on holding them.
    if isinstance(error, TooManyOpenFiles):
        return FailureKind.OTHER
    if isinstance(error, TransportError | TruncatedStream):
        return FailureKind.TRANSIENT
    if not isinstance(error, ServiceError):
        return FailureKind.OTHER
    if error.code in _THROTTLING_CODES or error.status in _THROTTLING_STATUSES:
        return FailureKind.THROTTLING
    transient = (
        error.code in LATE_REQUEST_CODES
        or error.status in _TRANSIENT_STATUSES
        or isinstance(error, InternalStreamFailure)  # its documentation: "Try your request again"
    )
    return FailureKind.TRANSIENT if transient else FailureKind.OTHER


def _selects(
    selection: Callable[[ModelError], bool] | Collection[int] | None, error: ModelError
) -> bool:
    if selection is None:
        return False
    if callable(selection):
        return selection(error)
    return error.original_status_code in selection


def choose_delay(
    error: AiosmrtError,
    attempt: int,
    policy: RetryPolicy,
    kind: FailureKind,
    random: Callable[[], float] = generator.random,
) -> float | None:
    """Choose the pause behind a failed attempt, in seconds; `None` stops.

    Args:
        error: how the attempt ended.
        attempt: its number, from 1; the delays are doubled with it.
        policy: of the call.
        kind: what the failure is to it.
        random: gives a number from 0 to 1 by which the delay is multiplied.

    Raises:
        Exception: what the policy's own function raises.
    """
    if policy.backoff is not None:
        chosen = policy.backoff(attempt, error)
        return None if chosen is None else max(0.0, chosen)
    throttled = kind is FailureKind.THROTTLING
    base = policy.throttle_base_delay if throttled else policy.base_delay
    # 2 to the 60th is far above any max_delay, and further on a float would overflow.
    delay = random() * min(base * 2.0 ** min(attempt - 1, 60), policy.max_delay)
    asked = read_retry_after(error.headers) if isinstance(error, ServiceError) else None
    return delay if asked is None else max(delay, min(asked, delay + _RETRY_AFTER_MARGIN))


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Give the seconds that the answer asks for, in a whole number or, by its own clock, a date."""
    for name, unit in (("x-amz-retry-after", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if text.isascii() and text.isdigit():
            return float(text) / unit
    until, now = (parse_date(headers.get(name, "")) for name in ("retry-after", "date"))
    return None if until is None or now is None else (until - now).total_seconds()


class RateLimiter:
    """The pace on one endpoint in adaptive mode: how soon a call may be sent after throttling.

    Throttling cuts the rate to 0.7 of what it was, and answers without it let the rate grow along
    the CUBIC curve (RFC 8312), as the SDKs' retry specification has it. Before the first
    throttling nothing waits. Times are seconds of one clock that never goes back.

    Who has to wait takes a ticket, so that calls go in their order without one of them having to
    wake the next, which may be on another event loop.

    Args:
        now: the time.
    """

    def __init__(self, now: float) -> None:
        self.enabled: bool = False  # whether it ever was throttled
        self.rate: float = 0.0  # attempts a second that may be sent
        self.measured_rate: float = 0.0  # answers a second, smoothed
        # The tickets that were taken, and those that are done with.
        self._issued = self._done = 0
        # The bucket of attempts that may be sent at once.
        self._available = 0.0
        self._filled_at = now
        # Where the curve begins.
        self._throttled_rate = 0.0
        self._throttled_at = now
        # The answers since the last measurement.
        self._answers = 0
        self._measured_at: float = math.floor(now)

    def take_ticket(self) -> int:
        """Give a place behind all that wait; whoever has one gives it back, sent or not."""
        self._issued += 1
        return self._issued

    def return_ticket(self) -> None:
        """Let those behind move up."""
        self._done += 1

    def acquire(self, now: float, ticket: int | None = None) -> float:
        """Ask to send one attempt: 0.0 is yes; else ask again after so many seconds, 2 at most.

        Args:
            now: the time.
            ticket: of who has waited already; without one everybody that waits goes first.
        """
        if not self.enabled:
            return 0.0
        self._fill(now)
        before = max(0, (self._issued if ticket is None else ticket - 1) - self._done)
        # Whoever waited exactly as long as told is let through whatever rounding did.
        if self._available - before > 1 - 1e-6:
            self._available = max(0.0, self._available - 1)
            return 0.0
        return min((1 + before - self._available) / self.rate, 1 / _MIN_RATE)

    def update(self, now: float, *, throttled: bool) -> None:
        """Note that an attempt was answered, and whether its answer was throttling."""
        self._measure(now)
        if throttled:
            self._throttled_rate = (
                min(self.measured_rate, self.rate) if self.enabled else self.measured_rate
            )
            self._throttled_at = now
            self.enabled = True
            rate = self._throttled_rate * _CUBIC_BETA
        else:
            # seconds until the curve is back at the rate that was too high, and flattest
            plateau = (self._throttled_rate * (1 - _CUBIC_BETA) / _CUBIC_SCALE) ** (1 / 3)
            elapsed = now - self._throttled_at
            rate = _CUBIC_SCALE * (elapsed - plateau) ** 3 + self._throttled_rate
        self._fill(now)
        self.rate = max(_MIN_RATE, min(rate, 2 * self.measured_rate))

    @property
    def _burst(self) -> float:
        return max(1.0, self.rate)

    def _fill(self, now: float) -> None:
        gained = (now - self._filled_at) * self.rate
        self._available = min(self._burst, self._available + gained)
        self._filled_at = now

    def _measure(self, now: float) -> None:
        self._answers += 1
        half_second = math.floor(now * 2) / 2
        if half_second > self._measured_at:
            current = self._answers / (half_second - self._measured_at)
            self.measured_rate = current * _SMOOTHING + self.measured_rate * (1 - _SMOOTHING)
            self._answers = 0
            self._measured_at = half_second
