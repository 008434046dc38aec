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
ModelNotReadyException counts as throttling and 530 is treated like 503; a `Retry-After` in seconds
is honoured as `x-amz-retry-after` is.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Collection, Mapping

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
from aiosmrt.randomness import generator
from aiosmrt.service import THROTTLING_CODES
from aiosmrt.value import Value

__all__ = [
    "FailureKind",
    "RateLimiter",
    "Retry",
    "RetryQuota",
    "Stop",
    "classify",
    "decide",
]

# ModelNotReadyException is ours: its documentation says to wait and try again.
_THROTTLING_CODES = THROTTLING_CODES | {"ModelNotReadyException"}
# The specification spares a 429 whose code the operation models: here that is
# ModelNotReadyException alone, which is throttling anyway.
_THROTTLING_STATUSES = frozenset({429})
_TRANSIENT_CODES = frozenset({"RequestTimeout", "RequestTimeoutException"})
_TRANSIENT_STATUSES = frozenset({500, 502, 503, 504, 530})

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
    QUOTA = "the client's retry quota is used up: too many of its latest calls have failed"


@attrs.frozen(eq=False, repr=False)
class Retry(Value):
    """There is a further attempt."""

    delay: float  # seconds until then
    cost: int  # tokens that were taken from the quota


class RetryQuota:
    """The retries that one client may still make: a bucket of tokens, full at first.

    It keeps a client whose calls keep failing from multiplying its own load.
    """

    __slots__ = ("available", "capacity")

    def __init__(self, capacity: int = 500) -> None:
        self.capacity = self.available = capacity

    def acquire(self, cost: int) -> bool:
        """Take `cost` tokens; give `False`, and take none, where there are fewer."""
        if cost > self.available:
            return False
        self.available -= cost
        return True

    def release(self, retry: Retry | None) -> None:
        """Fill up after a call that succeeded.

        Args:
            retry: the call's last one, whose cost is given back; `None` for a call that succeeded
                at its first attempt and earns one token.
        """
        earned = 1 if retry is None else retry.cost
        self.available = min(self.capacity, self.available + earned)


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
        quota: of the client.
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
    delay = (
        _delay(error, attempt, policy, kind, random)
        if policy.backoff is None
        else policy.backoff(attempt, error)
    )
    if delay is None:
        return Stop.BACKOFF
    return Retry(max(0.0, delay), kind.value) if quota.acquire(kind.value) else Stop.QUOTA


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
        error.code in _TRANSIENT_CODES
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


def _delay(
    error: AiosmrtError,
    attempt: int,
    policy: RetryPolicy,
    kind: FailureKind,
    random: Callable[[], float],
) -> float:
    throttled = kind is FailureKind.THROTTLING
    base = policy.throttle_base_delay if throttled else policy.base_delay
    # 2 to the 60th is far above any max_delay, and further on a float would overflow.
    delay = random() * min(base * 2.0 ** min(attempt - 1, 60), policy.max_delay)
    asked = _retry_after(error.headers) if isinstance(error, ServiceError) else None
    return delay if asked is None else max(delay, min(asked, delay + _RETRY_AFTER_MARGIN))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Give the seconds that the answer asks for; what is not a whole number is no answer."""
    for name, unit in (("x-amz-retry-after", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if text.isascii() and text.isdigit():
            return float(text) / unit
    return None


class RateLimiter:
    """The pace of a client in adaptive mode: how soon it may send after it was throttled.

    Throttling cuts the rate to 0.7 of what it was, and answers without it let the rate grow along
    the CUBIC curve (RFC 8312), as the SDKs' retry specification has it. Before the first
    throttling nothing waits. Times are seconds of one clock that never goes back.

    Args:
        now: the time.
    """

    def __init__(self, now: float) -> None:
        self.enabled = False  # whether it ever was throttled
        self.rate = 0.0  # attempts a second that may be sent
        self.measured_rate = 0.0  # answers a second, smoothed
        # The bucket of attempts that may be sent at once.
        self._available = 0.0
        self._filled_at = now
        # Where the curve begins.
        self._throttled_rate = 0.0
        self._throttled_at = now
        # The answers since the last measurement.
        self._answers = 0
        self._measured_at: float = math.floor(now)

    def acquire(self, now: float) -> float:
        """Ask to send one attempt: 0.0 is yes; else ask again after so many seconds, 2 at most."""
        if not self.enabled:
            return 0.0
        self._fill(now)
        # Whoever waited exactly as long as told is let through whatever rounding did.
        if self._available > 1 - 1e-6:
            self._available = max(0.0, self._available - 1)
            return 0.0
        return (1 - self._available) / self.rate

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
