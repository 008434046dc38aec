"""What makes a refused request fit to be sent again: the right time, new keys, capacity, its turn.

The first two are tried once a call; the attempt that was refused does not count.
"""

from __future__ import annotations

from aiosmrt.calls.call import Call
from aiosmrt.calls.request_body import OneTimeBody
from aiosmrt.calls.retries import FailureKind, Stop, choose_delay
from aiosmrt.calls.shortages import CapacityWait, Shortages, find_place
from aiosmrt.config import Credentials, RetryPolicy
from aiosmrt.errors import AiosmrtError, ConfigurationError, CredentialsError, ServiceError
from aiosmrt.service import lacks_capacity
from aiosmrt.signing import Clock, CredentialProvider

__all__ = ["correct_clock", "describe_wait", "join_shortage", "keep_turn", "renew_credentials"]

# What a refused signature is called (SDK retry specification, clock skew errors).
_SKEWED = frozenset(
    {
        "AuthFailure",
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)

# What the service, and S3, call keys and tokens that were good once.
_EXPIRED = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)


def correct_clock(call: Call, error: AiosmrtError, clock: Clock) -> str | None:
    """Tell what was wrong with the time of a signature, if it was; later calls have the right one.

    Returns:
        What the log says of it; `None` where the call is not to be signed anew.
    """
    if (
        call.clock_corrected
        or call.signed_at is None
        or not isinstance(error, ServiceError)
        or error.code not in _SKEWED
        or not clock.correct(call.signed_at, error.headers.get("date"))
    ):
        return None
    call.clock_corrected = True
    wrong = "this machine's clock was wrong, and is corrected for later calls"
    if _must_not_be_sent_again(call, error, wrong):
        return None
    return f"this machine's clock is {clock.offset:.0f} s off; signed anew"


async def renew_credentials(
    call: Call, error: AiosmrtError, credentials: CredentialProvider
) -> str | None:
    """Fetch the credentials anew that the service has refused; calls at once share one fetch.

    Returns:
        What the log says of new ones; `None` where the call is not to be signed anew.

    Raises:
        AiosmrtError: the call's time was over, or its client closed, before there were any.
    """
    refused = call.credentials
    if refused is None or not isinstance(error, ServiceError) or error.code not in _EXPIRED:
        return None
    credentials.invalidate(refused)
    if call.credentials_renewed:
        return None
    call.credentials_renewed = True
    try:
        with call.limits:
            fetched = await credentials.get(call.timeout.credentials)
    except (ConfigurationError, CredentialsError) as failure:
        error.not_retried = f"fetching credentials anew failed: {failure}"
        return None
    if _keys(fetched) == _keys(refused):
        error.not_retried = f"a new look at {credentials.description} gave the same keys"
        return None
    if _must_not_be_sent_again(call, error, "there are new credentials for later calls"):
        return None
    return "the credentials were refused, and there are new ones; signed anew"


def join_shortage(
    call: Call, error: AiosmrtError, policy: RetryPolicy, shortages: Shortages
) -> str | None:
    """Have a call that was refused for want of capacity wait for it with the others.

    The probes of the endpoint are as far apart as attempts after throttling.

    Returns:
        What the log says of it; `None` where the call is not to wait any longer.

    Raises:
        Exception: what the policy's own function raises.
    """
    seconds = policy.capacity_wait
    if not seconds or not lacks_capacity(error):
        return None
    if isinstance(call.request.body, OneTimeBody):
        error.not_retried = Stop.ONE_TIME_BODY.value
        return None
    if call.capacity is None:
        place = find_place(call.endpoint_name, call.request.headers)
        call.capacity = CapacityWait(shortages, place, seconds)
    elif call.capacity.is_over:
        error.not_retried = describe_wait(seconds)
        return None
    number = call.capacity.count_refusal()
    if number is not None:
        delay = choose_delay(error, number, policy, FailureKind.THROTTLING)
        if delay is None or not call.limits.allows(delay):
            error.not_retried = (Stop.BACKOFF if delay is None else Stop.TOTAL).value
            return None
        call.capacity.plan_probe(error, delay)
    return f"there is no capacity; waits for it, for at most {seconds:g} s"


def keep_turn(call: Call, error: AiosmrtError, policy: RetryPolicy) -> float | None:
    """Have a refused call that has a place among those to its endpoint pause in it.

    Returns:
        Seconds until it is sent again; `None` where it is not to keep its place.

    Raises:
        Exception: what the policy's own function raises.
    """
    if call.turn is None:
        return None
    pause = call.turn.plan_attempt(error, policy)
    if pause is None:
        return None
    if isinstance(call.request.body, OneTimeBody):
        error.not_retried = Stop.ONE_TIME_BODY.value
        return None
    if not call.limits.allows(pause):
        error.not_retried = Stop.TOTAL.value
        return None
    return pause


def describe_wait(seconds: float) -> str:
    """Say why a call waits no longer for capacity."""
    return f"there was no capacity within the {seconds:g} s of RetryPolicy.capacity_wait"


def _keys(credentials: Credentials) -> tuple[str, str, str | None]:
    return (
        credentials.access_key_id,
        credentials.secret_access_key,
        credentials.session_token,
    )


def _must_not_be_sent_again(call: Call, error: AiosmrtError, wrong: str) -> bool:
    if not isinstance(call.request.body, OneTimeBody):
        return False
    error.not_retried = f"{wrong}, but {Stop.ONE_TIME_BODY.value}"
    return True
