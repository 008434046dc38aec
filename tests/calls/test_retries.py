from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import attrs
import botocore.retries.standard
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt import errors
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
from aiosmrt.config import RetryPolicy
from aiosmrt.errors import (
    AiosmrtError,
    ConfigurationError,
    ModelError,
    ServiceError,
    ThrottlingException,
)
from aiosmrt.http import ResponseHead
from aiosmrt.service.model import INVOKE_ENDPOINT
from aiosmrt.service.operations import parse_error

THROTTLING, TRANSIENT, OTHER = FailureKind.THROTTLING, FailureKind.TRANSIENT, FailureKind.OTHER


def answered(
    status: int,
    code: str = "",
    *,
    kind: type[ServiceError] = ServiceError,
    headers: dict[str, str] | None = None,
) -> ServiceError:
    """Make the error of an answer; without a code it is the status, as a proxy's bare one."""
    name = code or ("" if kind is ServiceError else kind.__name__)
    if status < 400:
        # Inside a stream, which has begun with 200.
        error = kind("said so", code=name, status=status)
        error.may_have_run = True
        return error
    head = ResponseHead(status, {"x-amzn-errortype": name, **(headers or {})})
    parsed = parse_error(INVOKE_ENDPOINT, head, b"")
    assert isinstance(parsed, kind)
    return parsed


def model_error(original_status: int | None) -> ModelError:
    fields = {} if original_status is None else {"OriginalStatusCode": original_status}
    return ModelError("said so", status=424, fields=fields)


def failed(kind: type[AiosmrtError], *, ran: bool) -> AiosmrtError:
    error = kind("went wrong")
    error.may_have_run = ran
    return error


def ask(
    error: AiosmrtError,
    attempt: int = 1,
    policy: RetryPolicy | None = None,
    quota: RetryQuota | None = None,
    *,
    jitter: float = 1.0,
) -> Retry | Stop:
    return decide(error, attempt, policy or RetryPolicy(), quota or RetryQuota(), lambda: jitter)


# What an answer means.

THROTTLING_CODES = [
    *botocore.retries.standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES,
    "ModelNotReadyException",
]
TRANSIENT_CODES = [
    code
    for code in botocore.retries.standard.TransientRetryableChecker._TRANSIENT_ERROR_CODES
    if code not in THROTTLING_CODES
]


def test_the_lists_of_codes_are_there() -> None:
    assert len(THROTTLING_CODES) == 15
    assert TRANSIENT_CODES == ["RequestTimeout", "RequestTimeoutException"]


@pytest.mark.parametrize("code", THROTTLING_CODES)
@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_throttling_codes(code: str, status: int) -> None:
    error = answered(status, code)

    assert classify(error) is THROTTLING
    assert not error.may_have_run
    assert ask(error) == Retry(delay=1.0, cost=5)


@pytest.mark.parametrize("code", TRANSIENT_CODES)
def test_transient_codes(code: str) -> None:
    error = answered(400, code)

    assert classify(error) is TRANSIENT
    assert not error.may_have_run
    assert ask(error) == Retry(delay=0.05, cost=14)


@pytest.mark.parametrize(
    ("status", "kind", "ran", "decision"),
    [
        (400, OTHER, False, Stop.NOT_RETRYABLE),
        (403, OTHER, False, Stop.NOT_RETRYABLE),
        (404, OTHER, False, Stop.NOT_RETRYABLE),
        (408, TRANSIENT, True, Stop.MAY_HAVE_RUN),
        (413, OTHER, False, Stop.NOT_RETRYABLE),
        (424, OTHER, True, Stop.NOT_RETRYABLE),
        (429, THROTTLING, False, Retry(delay=1.0, cost=5)),
        (499, OTHER, False, Stop.NOT_RETRYABLE),
        (500, TRANSIENT, True, Stop.MAY_HAVE_RUN),
        (501, OTHER, True, Stop.NOT_RETRYABLE),
        (502, TRANSIENT, True, Stop.MAY_HAVE_RUN),
        (503, TRANSIENT, False, Retry(delay=0.05, cost=14)),
        (504, TRANSIENT, True, Stop.MAY_HAVE_RUN),
        (507, OTHER, True, Stop.NOT_RETRYABLE),
        (520, OTHER, True, Stop.NOT_RETRYABLE),
        (530, TRANSIENT, False, Retry(delay=0.05, cost=14)),
        (599, OTHER, True, Stop.NOT_RETRYABLE),
        (200, OTHER, True, Stop.NOT_RETRYABLE),
        (0, OTHER, True, Stop.NOT_RETRYABLE),
    ],
)
def test_statuses(status: int, kind: FailureKind, decision: Retry | Stop, *, ran: bool) -> None:
    error = answered(status, "SomeCode")

    assert classify(error) is kind
    assert error.may_have_run is ran
    assert ask(error) == decision


@pytest.mark.parametrize(
    ("code", "headers", "ran"),
    [
        ("", {"connection": "close"}, False),
        ("", {"connection": "Close"}, False),
        ("", {"connection": "te, close"}, False),
        ("RequestTimeoutException", {}, False),
        # A model that took too long, on a connection that goes on.
        ("", {}, True),
        ("", {"connection": "keep-alive"}, True),
        ("", {"connection": "closed"}, True),
        ("ModelError", {"connection": "close"}, True),
    ],
)
def test_a_request_that_did_not_come_in_time_was_not_carried_out(
    code: str, headers: dict[str, str], *, ran: bool
) -> None:
    kind = ModelError if code == "ModelError" else ServiceError
    error = answered(408, code, kind=kind, headers=headers)

    assert error.may_have_run is ran
    assert ask(error) == (Stop.MAY_HAVE_RUN if ran else Retry(0.05, 14))
    assert ask(error, policy=RetryPolicy(retry_may_have_run=True)) == Retry(0.05, 14)


@pytest.mark.parametrize(
    ("error", "decision", "decision_when_asked"),
    [
        (answered(400, kind=errors.ValidationError), Stop.NOT_RETRYABLE, Stop.NOT_RETRYABLE),
        (answered(424, kind=ModelError), Stop.NOT_RETRYABLE, Stop.NOT_RETRYABLE),
        (answered(429, kind=errors.ModelNotReadyException), Retry(1.0, 5), Retry(1.0, 5)),
        (answered(500, kind=errors.InternalFailure), Stop.MAY_HAVE_RUN, Retry(0.05, 14)),
        (answered(503, kind=errors.ServiceUnavailable), Retry(0.05, 14), Retry(0.05, 14)),
        (answered(530, kind=errors.InternalDependencyException), Retry(0.05, 14), Retry(0.05, 14)),
        (answered(400, kind=ThrottlingException), Retry(1.0, 5), Retry(1.0, 5)),
        (answered(403, "AccessDeniedException"), Stop.NOT_RETRYABLE, Stop.NOT_RETRYABLE),
        (answered(403, "ExpiredTokenException"), Stop.NOT_RETRYABLE, Stop.NOT_RETRYABLE),
        (answered(200, kind=errors.ModelStreamError), Stop.NOT_RETRYABLE, Stop.NOT_RETRYABLE),
        (answered(200, kind=errors.InternalStreamFailure), Stop.MAY_HAVE_RUN, Retry(0.05, 14)),
        (answered(200, kind=ThrottlingException), Stop.MAY_HAVE_RUN, Retry(1.0, 5)),
        # The same two as plain answers.
        (answered(400, kind=errors.ModelStreamError), Stop.NOT_RETRYABLE, Stop.NOT_RETRYABLE),
        (answered(400, kind=errors.InternalStreamFailure), Stop.MAY_HAVE_RUN, Retry(0.05, 14)),
    ],
    ids=lambda value: f"{value.code}-{value.status}" if isinstance(value, ServiceError) else "",
)
def test_errors_of_the_service(
    error: ServiceError, decision: Retry | Stop, decision_when_asked: Retry | Stop
) -> None:
    assert ask(error) == decision
    assert ask(error, policy=RetryPolicy(retry_may_have_run=True)) == decision_when_asked


@pytest.mark.parametrize("status", [400, 503, 530])
def test_an_error_that_knows_better_is_believed(status: int) -> None:
    error = answered(status, "SlowDown")
    error.may_have_run = True

    assert error.may_have_run
    assert ask(error) is Stop.MAY_HAVE_RUN


def test_deciding_leaves_the_error_as_it_is() -> None:
    error = answered(500)
    before = dict(vars(error))

    ask(error)

    assert vars(error) == before


# What happened below HTTP, and all the rest.


@pytest.mark.parametrize(
    "kind",
    [
        errors.TransportError,
        errors.ConnectError,
        errors.ConnectTimeout,
        errors.ConnectionLost,
        errors.WriteTimeout,
        errors.FirstByteTimeout,
        errors.IdleTimeout,
        errors.TruncatedStream,
        errors.StreamConnectionLost,
    ],
)
def test_lost_connections_are_retried_unless_the_model_may_have_run(
    kind: type[AiosmrtError],
) -> None:
    assert ask(failed(kind, ran=False)) == Retry(delay=0.05, cost=14)

    ran = failed(kind, ran=True)
    assert ask(ran) is Stop.MAY_HAVE_RUN
    assert ask(ran, policy=RetryPolicy(retry_may_have_run=True)) == Retry(delay=0.05, cost=14)


@pytest.mark.parametrize(
    "kind",
    [
        errors.SlotTimeout,
        errors.TotalTimeout,
        AiosmrtError,
        errors.ParameterError,
        ConfigurationError,
        errors.CredentialsError,
        errors.CredentialsTimeout,
        errors.ClientClosed,
        errors.StreamClosed,
        errors.UnexpectedResponse,
        errors.EventStreamError,
        errors.MessageChecksumMismatch,
        errors.InvalidHeader,
        errors.UnexpectedMessage,
    ],
)
@pytest.mark.parametrize("ran", [False, True])
def test_what_is_never_retried(kind: type[AiosmrtError], *, ran: bool) -> None:
    policy = RetryPolicy(retry_may_have_run=True)

    assert ask(failed(kind, ran=ran), policy=policy) is Stop.NOT_RETRYABLE


# What the policy says.


def test_the_last_attempt_is_the_last() -> None:
    assert isinstance(ask(answered(503), 2), Retry)
    assert ask(answered(503), 3) is Stop.MAX_ATTEMPTS
    assert ask(answered(503), 1, RetryPolicy(max_attempts=1)) is Stop.MAX_ATTEMPTS


def test_a_body_that_can_be_read_once_is_sent_once() -> None:
    asked: list[int] = []
    quota = RetryQuota()

    def backoff(attempt: int, error: AiosmrtError) -> float:
        asked.append(attempt)
        return 0.0

    def decide_once(error: AiosmrtError, attempt: int) -> Retry | Stop:
        return decide(error, attempt, RetryPolicy(backoff=backoff), quota, one_time_body=True)

    assert decide_once(answered(503), 1) is Stop.ONE_TIME_BODY
    # Where that is not the reason, it is not named.
    assert decide_once(answered(503), 3) is Stop.MAX_ATTEMPTS
    assert decide_once(answered(500), 1) is Stop.MAY_HAVE_RUN
    assert decide_once(answered(400), 1) is Stop.NOT_RETRYABLE
    assert not asked
    assert not quota.spent


def test_off_is_one_attempt() -> None:
    off = RetryPolicy(max_attempts=5, mode="off")

    assert off.attempt_limit == 1
    assert RetryPolicy(max_attempts=5, mode="adaptive").attempt_limit == 5
    assert ask(answered(503), 1, off) is Stop.MAX_ATTEMPTS


def test_a_stop_takes_nothing_from_the_quota() -> None:
    quota = RetryQuota()
    ask(answered(404), quota=quota)
    ask(answered(500), quota=quota)
    ask(answered(503), attempt=3, quota=quota)
    ask(answered(503), policy=RetryPolicy(backoff=lambda *_: None), quota=quota)

    assert not quota.spent


def test_a_backoff_of_the_users_own() -> None:
    asked: list[tuple[int, AiosmrtError]] = []

    def backoff(attempt: int, error: AiosmrtError) -> float | None:
        asked.append((attempt, error))
        return None if attempt == 2 else 7

    policy = RetryPolicy(backoff=backoff, max_delay=1)
    error = answered(503, headers={"retry-after": "100"})

    assert ask(error, 1, policy, jitter=0.0) == Retry(delay=7, cost=14)
    assert ask(error, 2, policy) is Stop.BACKOFF
    assert ask(error, 3, policy) is Stop.MAX_ATTEMPTS
    assert ask(answered(404), 1, policy) is Stop.NOT_RETRYABLE
    assert asked == [(1, error), (2, error)]


def test_a_backoff_cannot_go_back_in_time() -> None:
    assert ask(answered(503), policy=RetryPolicy(backoff=lambda *_: -1.0)) == Retry(0.0, 14)


@pytest.mark.parametrize("statuses", [{0, 503}, [503, 0], (HTTPStatus.SERVICE_UNAVAILABLE, 0)])
def test_model_errors_are_retried_for_chosen_statuses(statuses: Any) -> None:  # any collection
    policy = RetryPolicy(retry_model_error=statuses)

    for status, decision in [
        (503, Retry(0.05, 14)),
        (0, Retry(0.05, 14)),
        (500, Stop.NOT_RETRYABLE),
        (None, Stop.NOT_RETRYABLE),
    ]:
        assert ask(model_error(status), policy=policy) == decision
    assert ask(model_error(503), 3, policy) is Stop.MAX_ATTEMPTS
    assert ask(model_error(503)) is Stop.NOT_RETRYABLE
    # Whoever picks model errors has not asked for anything else that may have run.
    assert ask(answered(500), policy=policy) is Stop.MAY_HAVE_RUN


def test_model_errors_are_retried_by_a_test() -> None:
    policy = RetryPolicy(retry_model_error=lambda error: error.original_message == "busy")
    busy = ModelError("said so", status=424, fields={"OriginalMessage": "busy"})

    assert ask(busy, policy=policy) == Retry(0.05, 14)
    assert ask(model_error(503), policy=policy) is Stop.NOT_RETRYABLE


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_attempts": 0}, "max_attempts=0): an int of 1 or more"),
        ({"max_attempts": 2.0}, "max_attempts=2.0): an int"),
        ({"max_attempts": True}, "max_attempts=True): an int"),
        ({"mode": "legacy"}, "mode='legacy'): 'standard', 'adaptive' or 'off'"),
        ({"mode": None}, "mode=None)"),
        ({"quota": -1}, "quota=-1): an int of 0 or more, or None"),
        ({"quota": 1.5}, "quota=1.5): an int"),
        ({"quota": True}, "quota=True): an int"),
        ({"quota": "500"}, "quota='500'): an int"),
        ({"capacity_wait": -1}, "capacity_wait=-1): a number of seconds, 0 or more"),
        ({"capacity_wait": math.inf}, "capacity_wait=inf): a number of seconds"),
        ({"capacity_wait": None}, "capacity_wait=None): a number of seconds"),
        ({"base_delay": -1}, "base_delay=-1): a number of seconds, 0 or more"),
        ({"throttle_base_delay": math.nan}, "throttle_base_delay=nan): a number of seconds"),
        ({"max_delay": math.inf}, "max_delay=inf): a number of seconds"),
        ({"max_delay": True}, "max_delay=True): a number of seconds"),
        ({"max_delay": "20"}, "max_delay='20'): a number of seconds"),
        ({"backoff": 1.0}, "backoff=1.0): None, or a function"),
        ({"retry_may_have_run": "false"}, "retry_may_have_run='false'): True or False"),
        ({"retry_model_error": 503}, "retry_model_error=503): None, the container's statuses"),
        ({"retry_model_error": ["503"]}, "retry_model_error=frozenset({'503'})): None, the"),
    ],
    ids=str,
)
def test_values_that_a_policy_refuses(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        RetryPolicy(**options)

    assert f"RetryPolicy({said}" in str(raised.value)


def test_a_policy_is_a_value() -> None:
    policy = RetryPolicy(max_attempts=1, base_delay=0, max_delay=0, retry_model_error=[503])

    assert policy == attrs.evolve(RetryPolicy(), **attrs.asdict(policy))
    assert hash(policy) == hash(pickle.loads(pickle.dumps(policy)))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        policy.max_attempts = 2  # type: ignore[misc]  # that it is refused is the point


def test_defaults_are_the_specifications() -> None:
    policy = RetryPolicy()

    assert (policy.max_attempts, policy.mode, policy.retry_may_have_run) == (3, "standard", False)
    assert (policy.base_delay, policy.throttle_base_delay, policy.max_delay) == (0.05, 1.0, 20.0)
    assert (policy.quota, RetryQuota().spent) == (500, 0)


# How long.


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": " 3 "}, 3.0),
        ({"retry-after": "0"}, 0.05),
        ({"retry-after": "120"}, 5.05),
        ({"retry-after": "9" * 5000}, 5.05),
        ({"retry-after": "-1"}, 0.05),
        ({"retry-after": "1.5"}, 0.05),
        ({"retry-after": "1_0"}, 0.05),
        ({"retry-after": "²"}, 0.05),
        ({"retry-after": ""}, 0.05),
        # Without a clock to compare it with, a date says nothing.
        ({"retry-after": "Fri, 20 Nov 2026 12:36:00 GMT"}, 0.05),
        *(
            ({"retry-after": until, "date": "Fri, 20 Nov 2026 12:35:56 GMT"}, delay)
            for until, delay in [
                ("Fri, 20 Nov 2026 12:36:00 GMT", 4.0),
                ("Friday, 20-Nov-26 12:36:00 GMT", 4.0),  # as RFC 850 has it
                ("Fri Nov 20 12:36:00 2026", 4.0),  # as asctime() does
                ("Fri, 20 Nov 2026 12:45:00 GMT", 5.05),
                ("Fri, 20 Nov 2026 12:00:00 GMT", 0.05),
                ("Fri, 20 Nov 2026", 0.05),
                ("soon", 0.05),
            ]
        ),
        ({"retry-after": "Fri, 20 Nov 2026 12:36:00 GMT", "date": "today"}, 0.05),
        # The service's clock may be years off ours.
        (
            {
                "retry-after": "Mon, 01 Jan 2001 00:00:03 GMT",
                "date": "Mon, 01 Jan 2001 00:00:00 GMT",
            },
            3.0,
        ),
        (
            {
                "x-amz-retry-after": "1500",
                "retry-after": "Fri, 20 Nov 2026 12:36:00 GMT",
                "date": "Fri, 20 Nov 2026 12:35:56 GMT",
            },
            1.5,
        ),
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"x-amz-retry-after": "1500", "retry-after": "4"}, 1.5),
        ({"x-amz-retry-after": "soon", "retry-after": "4"}, 4.0),
    ],
    ids=str,
)
def test_the_service_may_ask_for_more_time(headers: dict[str, str], delay: float) -> None:
    assert ask(answered(503, headers=headers)) == Retry(delay, 14)


def test_delays_are_spread_by_chance() -> None:
    policy, quota = RetryPolicy(max_attempts=2, quota=14 * 100), RetryQuota()
    delays = {
        decision.delay
        for _ in range(100)
        if isinstance(decision := decide(answered(503), 1, policy, quota), Retry)
    }

    assert len(delays) > 90
    assert all(0 <= delay <= 0.05 for delay in delays)


@given(
    attempt=st.integers(1, 10**6),
    jitter=st.floats(0, 1, exclude_max=True),
    base=st.floats(0, 1e6),
    throttle_base=st.floats(0, 1e6),
    limit=st.floats(0, 1e6),
    throttled=st.booleans(),
    asked=st.one_of(st.none(), st.integers(0, 10**20).map(str), st.text(max_size=5)),
)
def test_delays_stay_in_their_bounds(
    *,
    attempt: int,
    jitter: float,
    base: float,
    throttle_base: float,
    limit: float,
    throttled: bool,
    asked: str | None,
) -> None:
    policy = RetryPolicy(
        max_attempts=10**7, base_delay=base, throttle_base_delay=throttle_base, max_delay=limit
    )
    headers = {} if asked is None else {"x-amz-retry-after": asked}
    decision = ask(
        answered(429 if throttled else 503, headers=headers), attempt, policy, jitter=jitter
    )

    assert isinstance(decision, Retry)
    first = throttle_base if throttled else base
    assert 0 <= decision.delay <= limit + 5
    if asked is None:
        assert decision.delay <= jitter * limit
        assert decision.delay <= jitter * (first * 2.0 ** min(attempt - 1, 60))


def test_a_late_attempt_has_the_longest_delay() -> None:
    policy = RetryPolicy(max_attempts=10**6)

    assert ask(answered(503), 10, policy) == Retry(20.0, 14)
    assert ask(answered(503), 10**5, policy, jitter=0.5) == Retry(10.0, 14)


# The quota.


@given(
    capacity=st.integers(0, 600),
    steps=st.lists(st.sampled_from([5, 14, "first success", "retried success"]), max_size=80),
)
def test_the_quota_neither_overflows_nor_goes_below_zero(
    capacity: int, steps: list[int | str]
) -> None:
    quota = RetryQuota()
    last = Retry(0.0, 14)
    for step in steps:
        before = capacity - quota.spent
        if isinstance(step, int):
            granted = quota.acquire(step, capacity)
            assert granted == (before >= step)
            assert capacity - quota.spent == (before - step if granted else before)
            last = Retry(0.0, step) if granted else last
        else:
            retried = step == "retried success"
            quota.release(last if retried else None)
            assert capacity - quota.spent == min(capacity, before + (last.cost if retried else 1))
        assert 0 <= quota.spent <= capacity


def test_an_empty_quota_stops_every_call_of_the_endpoint() -> None:
    quota = RetryQuota()
    decisions = [ask(answered(503), quota=quota) for _ in range(40)]

    assert decisions == [Retry(0.05, 14)] * 35 + [Stop.QUOTA] * 5
    assert ask(answered(429), quota=quota) == Retry(1.0, 5)  # 500 - 35 * 14 leaves 10


def test_a_quota_is_as_large_as_the_policy_says() -> None:
    quota = RetryQuota()
    small, large = RetryPolicy(quota=28), RetryPolicy(quota=42)

    assert [ask(answered(503), policy=small, quota=quota) for _ in range(3)] == [
        Retry(0.05, 14),
        Retry(0.05, 14),
        Stop.QUOTA,
    ]
    # Two policies on one endpoint use up the same, each as far as it may.
    assert ask(answered(503), policy=large, quota=quota) == Retry(0.05, 14)
    assert ask(answered(503), policy=large, quota=quota) is Stop.QUOTA
    assert ask(answered(503), policy=RetryPolicy(quota=0)) is Stop.QUOTA


def test_without_a_quota_nothing_is_used_up_and_nothing_given_back() -> None:
    policy, quota = RetryPolicy(quota=None), RetryQuota()
    decisions = [ask(answered(503), policy=policy, quota=quota) for _ in range(1000)]

    assert decisions == [Retry(0.05, 0)] * 1000
    quota.acquire(14, 500)
    quota.release(Retry(0.05, 0))
    assert quota.spent == 14


def test_of_many_endpoints_the_first_are_forgotten() -> None:
    quotas = PerEndpoint(RetryQuota)
    kept = quotas["e0"]
    assert quotas["e0"] is kept
    for number in range(1, 2000):
        quotas[f"e{number}"].acquire(14, 500)
    assert len(quotas) == 1024
    assert quotas.get("e0") is None
    assert quotas["e1999"].spent == 14
    assert quotas["e0"].spent == 0


# The rate limiter.


def test_nothing_waits_before_the_first_throttling() -> None:
    limiter = RateLimiter(now=0.0)
    for second in range(10):
        limiter.update(second / 10, throttled=False)
        assert [limiter.acquire(second / 10) for _ in range(100)] == [0.0] * 100
    assert not limiter.enabled


def throttled_limiter(now: float, answers: int) -> RateLimiter:
    """Make one that was throttled after so many answers within a second."""
    limiter = RateLimiter(now=now)
    for answer in range(answers):
        limiter.update(now + answer / answers, throttled=False)
    limiter.update(now + 1, throttled=True)
    return limiter


def test_after_throttling_attempts_are_spaced() -> None:
    limiter = throttled_limiter(0.0, 40)
    rate = limiter.rate
    assert 10 < rate < 40

    now, sent = 1.0, 0
    while now < 11.0:
        wait = limiter.acquire(now)
        sent += wait == 0.0
        now += wait
    assert sent == pytest.approx(10 * rate, abs=2)


def test_who_waits_is_not_overtaken() -> None:
    limiter = throttled_limiter(0.0, 40)
    now = 1.0
    while limiter.acquire(now) == 0.0:
        pass
    first, second = limiter.take_ticket(), limiter.take_ticket()
    waits = [limiter.acquire(now, ticket) for ticket in (first, second, None)]
    assert [wait - waits[0] for wait in waits] == pytest.approx(
        [number / limiter.rate for number in range(3)]
    )
    # One place is free: only the first may have it, whoever asks.
    now += waits[0]
    assert limiter.acquire(now) > 0
    assert limiter.acquire(now, second) > 0
    assert limiter.acquire(now, first) == 0.0
    limiter.return_ticket()
    assert limiter.acquire(now, second) == pytest.approx(1 / limiter.rate, rel=0.01)
    # Whoever gives up lets the others move up.
    limiter.return_ticket()
    assert limiter.acquire(now) == pytest.approx(1 / limiter.rate, rel=0.01)


def test_nobody_waits_long_without_asking_again() -> None:
    limiter = throttled_limiter(0.0, 40)
    for _ in range(10_000):
        limiter.take_ticket()
    assert limiter.acquire(1.0) == 2.0


def test_an_idle_client_saves_up_one_second_at_most() -> None:
    limiter = throttled_limiter(0.0, 40)
    at_once = 0
    while limiter.acquire(1000.0) == 0.0:
        at_once += 1

    assert at_once == math.floor(limiter.rate)


def test_throttling_again_slows_down_and_success_speeds_up() -> None:
    limiter = throttled_limiter(0.0, 40)
    first = limiter.rate
    limiter.update(1.2, throttled=True)
    second = limiter.rate
    assert second == pytest.approx(first * 0.7)

    for tenth in range(1, 100):
        limiter.update(1.2 + tenth / 20, throttled=False)
    assert limiter.rate > first


@given(
    start=st.floats(0, 1e7),
    steps=st.lists(
        st.tuples(st.floats(0, 30), st.sampled_from(["send", "answer", "throttle"])), max_size=60
    ),
)
def test_whoever_waits_as_told_may_send(start: float, steps: list[tuple[float, str]]) -> None:
    limiter, now = RateLimiter(now=start), start
    for pause, step in steps:
        now += pause
        if step != "send":
            limiter.update(now, throttled=step == "throttle")
            assert limiter.rate >= 0.5
            continue
        wait = limiter.acquire(now)
        assert 0 <= wait <= 2
        if wait:
            now += wait
            assert limiter.acquire(now) == 0.0


# The cases of the specification.

VECTORS = os.environ.get("AIOSMRT_VECTORS")
needs_vectors = pytest.mark.skipif(
    not VECTORS, reason="AIOSMRT_VECTORS does not name the folder of test vectors"
)
CASES: list[dict[str, Any]] = (
    json.loads(Path(VECTORS, "retry", "standard-retry-cases.json").read_bytes()) if VECTORS else []
)


def cases(spec: str, group: str = "") -> list[Any]:
    return [
        pytest.param(case["case"], id=case["name"])
        for case in CASES
        if case["spec"] == spec and case["group"].endswith(group)
    ]


OUTCOMES = {
    Stop.NOT_RETRYABLE: "fail_request",
    Stop.MAX_ATTEMPTS: "max_attempts_exceeded",
    Stop.QUOTA: "retry_quota_exceeded",
}


class Invocations:
    """One call after another on one client: what the loop around this module does."""

    def __init__(self, given: dict[str, Any], **options: Any) -> None:  # of RetryPolicy
        options.setdefault("max_delay", given.get("max_backoff_time", 20.0))
        self.policy = RetryPolicy(
            max_attempts=given.get("max_attempts", 3), retry_may_have_run=True, **options
        )
        self.quota = RetryQuota()
        self.quota.spent = 500 - given.get("initial_retry_tokens", 500)
        self.random: Callable[[], float] = lambda: given.get("exponential_base", 1)

    @property
    def available(self) -> int:
        return 500 - self.quota.spent

    def start(self) -> Invocations:
        """Begin the next call."""
        self.attempt = 0
        self.retry: Retry | None = None
        return self

    def answer(self, response: dict[str, Any]) -> tuple[str, float | None]:
        """Give the outcome and the delay."""
        self.attempt += 1
        if response["status_code"] == 200:
            self.quota.release(self.retry)
            return "success", None
        error = answered(
            response["status_code"],
            response.get("error_code", ""),
            headers=response.get("headers", {}),
        )
        decision = decide(error, self.attempt, self.policy, self.quota, self.random)
        if isinstance(decision, Stop):
            return OUTCOMES[decision], None
        self.retry = decision
        return "retry_request", decision.delay


@needs_vectors
def test_all_cases_of_the_specification_are_run() -> None:
    assert len(CASES) == 28
    run = [
        *cases("2.1", "IntegrationTestCases"),
        *cases("2.1", "LongPollingTestCases"),
        *cases("2.1", "MultiInvocationTestCases"),
        *cases("2.1", "MultiThreadedTestCases"),
        *cases("2.0"),
        *cases("adaptive-2.0", "CubicTestCases"),
        *cases("adaptive-2.0", "E2eTestCases"),
    ]
    assert len(run) == 28


@needs_vectors
@pytest.mark.parametrize(
    "case",
    [
        *cases("2.1", "IntegrationTestCases"),
        *cases("2.1", "LongPollingTestCases"),
        *cases("2.1", "MultiInvocationTestCases"),
    ],
)
def test_specification_2_1(case: dict[str, Any]) -> None:
    calls = Invocations(case["given"]).start()
    for step in case["responses"]:
        expected = step["expected"]
        outcome, delay = calls.answer(step["response"])

        assert outcome == expected["outcome"]
        if "retry_quota" in expected:
            assert calls.available == expected["retry_quota"]
        # An operation that polls for long waits even where it stops for want of quota, lest its
        # caller asks again at once. This service has no such operation.
        if not (case["given"].get("long_polling") and outcome == "retry_quota_exceeded"):
            assert delay == (None if "delay" not in expected else pytest.approx(expected["delay"]))
        if outcome != "retry_request":
            calls.start()


@needs_vectors
@pytest.mark.parametrize("case", cases("2.1", "MultiThreadedTestCases"))
def test_specification_2_1_with_one_quota_for_many_calls(case: dict[str, Any]) -> None:
    calls = [Invocations(case["given"]).start() for _ in case["threads"]]
    for call in calls:
        call.quota = calls[0].quota
    # Which thread goes when is seen from the quota that its step leaves.
    waiting = [list(thread) for thread in case["threads"]]
    while any(waiting):
        taken = []
        for call, steps in zip(calls, waiting, strict=True):
            retrying = steps and steps[0]["expected"]["outcome"] == "retry_request"
            change = -14 if retrying else 14
            if steps and call.available + change == steps[0]["expected"]["retry_quota"]:
                step = steps.pop(0)
                assert call.answer(step["response"])[0] == step["expected"]["outcome"]
                assert call.available == step["expected"]["retry_quota"]
                taken.append(step)
        assert taken, "no thread can go on"

    assert calls[0].available == case["expected_final_quota"]


@needs_vectors
@pytest.mark.parametrize("case", cases("2.0"))
def test_specification_2_0_in_what_2_1_has_kept(case: dict[str, Any]) -> None:
    """Outcomes and the doubling of delays.

    2.0 has another base for the delay of a transient failure, 1 s, which the policy can be told,
    and another price for its retry, 5 tokens, which it cannot: so no count of tokens is compared,
    and the case whose outcome hangs on that price is run with 14 tokens for 5.
    """
    given = dict(case["given"])
    if given["initial_retry_tokens"] == 5:
        given["initial_retry_tokens"] = 14
    calls = Invocations(given, base_delay=1.0).start()
    for step in case["responses"]:
        expected = step["expected"]

        assert calls.answer(step["response"]) == (expected["outcome"], expected.get("delay"))


@needs_vectors
@pytest.mark.parametrize("case", cases("adaptive-2.0", "CubicTestCases"))
def test_the_rate_follows_the_cubic_curve(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The cases are about the curve alone, which then must not be cut by what was measured.
    measured = case["given"]["last_max_rate"]

    def measure(limiter: RateLimiter, _now: float) -> None:
        limiter.measured_rate = measured

    monkeypatch.setattr(RateLimiter, "_measure", measure)
    limiter = RateLimiter(now=0.0)
    limiter.update(case["given"]["last_throttle_time"], throttled=True)
    measured = 1e9
    for step in case["cases"]:
        limiter.update(step["timestamp"], throttled=step["response"] == "throttle")

        assert limiter.rate == pytest.approx(step["calculated_rate"])


@needs_vectors
@pytest.mark.parametrize("case", cases("adaptive-2.0", "E2eTestCases"))
def test_the_rate_from_end_to_end(case: dict[str, Any]) -> None:
    limiter = RateLimiter(now=0.0)
    for step in case["cases"]:
        limiter.update(step["timestamp"], throttled=step["response"] == "throttle")

        assert limiter.measured_rate == pytest.approx(step["measured_tx_rate"])
        assert limiter.rate == pytest.approx(step["new_token_bucket_rate"], abs=1e-5)
