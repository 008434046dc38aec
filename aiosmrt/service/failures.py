"""What the service reports as an error: which of ours it is, and whether the model ran. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeGuard

from aiosmrt.errors import (
    SIXTY_SECONDS_ADVICE,
    AiosmrtError,
    InternalDependencyException,
    InternalFailure,
    InternalStreamFailure,
    ModelError,
    ModelNotReadyException,
    ModelStreamError,
    ServiceError,
    ServiceUnavailable,
    ThrottlingException,
    ValidationError,
)
from aiosmrt.service.model import THROTTLING_CODES, Operation
from aiosmrt.value import JSONValue

__all__ = [
    "LATE_REQUEST_CODES",
    "build_error",
    "find_code",
    "lacks_capacity",
    "lacks_endpoint",
    "refuses_session",
    "took_its_time",
]

_ERRORS: dict[str, type[ServiceError]] = {
    kind.__name__: kind
    for kind in (
        InternalDependencyException,
        InternalFailure,
        InternalStreamFailure,
        ModelError,
        ModelNotReadyException,
        ModelStreamError,
        ServiceUnavailable,
        ThrottlingException,
        ValidationError,
    )
}
_ERRORS.update(dict.fromkeys(THROTTLING_CODES, ThrottlingException))

_RAN = (ModelError, ModelStreamError, InternalFailure, InternalStreamFailure)
_REFUSED = (
    InternalDependencyException,
    ModelNotReadyException,
    ServiceUnavailable,
    ThrottlingException,
)

# Of inference components: "Inference Component has no capacity to process this request.
# ApplicationAutoScaling may be in-progress (if configured) …".
_NO_CAPACITY = re.compile(r"\bno capacity\b", re.IGNORECASE)
_NO_CAPACITY_ADVICE = (
    "A component that was scaled to zero begins to scale out with this refusal, which takes "
    "minutes: RetryPolicy(capacity_wait=600) waits for it."
)

# "Endpoint e of account 123456789012 not found."; older ones: "Could not find endpoint …".
_NO_ENDPOINT = re.compile(
    r"(?=.*\b(?:endpoint|inference component)\b)"
    r"(?=.*\b(?:not found|could not find|does not exist)\b)",
    re.IGNORECASE | re.DOTALL,
)

# "Bad request: session not found: <id>" (AWS's vLLM and LMI), "Cannot find session <id>; it might
# have expired" (SAM 2). That sessions are not enabled, or an id malformed, is something else.
_NO_SESSION = re.compile(
    r"\bsession\b[^.;]{0,60}\b(?:not found|not exist|unknown|expired|no longer|closed|invalid)\b"
    r"|\b(?:no such|unknown|expired|invalid|cannot find|could not find) session\b",
    re.IGNORECASE,
)

LATE_REQUEST_CODES = frozenset({"RequestTimeout", "RequestTimeoutException"})
"""What services of AWS call a request that did not come to its end in time."""

_CREDENTIALS_ADVICE = "Check which credentials the client uses and that they have not expired."
_ADVICE = {
    "AccessDeniedException": (
        "Allow the action (sagemaker:InvokeEndpoint, sagemaker:InvokeEndpointAsync, "
        "sagemaker:InvokeEndpointWithResponseStream) on this endpoint for the identity that signs."
    ),
    "ExpiredTokenException": "The session token has expired: fetch new credentials.",
    "ExpiredToken": "The session token has expired: fetch new credentials.",
    "IncompleteSignature": _CREDENTIALS_ADVICE,
    "InvalidClientTokenId": _CREDENTIALS_ADVICE,
    "InvalidSignatureException": (
        "Check the secret key, the region, this machine's clock, and whether a proxy changes "
        "requests on their way."
    ),
    "MissingAuthenticationTokenException": _CREDENTIALS_ADVICE,
    "ModelNotReadyException": (
        "Wait and try again: the model is still being loaded. RetryPolicy(capacity_wait=600) waits "
        "for minutes."
    ),
    "UnrecognizedClientException": _CREDENTIALS_ADVICE,
}
# This machine's clock and the service's need not run alike.
_MODEL_SECONDS = 59.0
_STREAM_TIME_ADVICE = (
    "The model was too slow for a stream: ask it for less at a time, or use invoke_endpoint_async."
)
_THROTTLING_ADVICE = (
    "Lower the number of calls in flight (max_connections), or scale the endpoint out."
)


def find_code(header: str | None, fields: Mapping[str, JSONValue]) -> str:
    """Find the code of an error: in the header `x-amzn-errortype`, else in the body's fields."""
    for found in (header, fields.get("code"), fields.get("Code"), fields.get("__type")):
        if isinstance(found, str) and found:
            # "namespace#Code:http://…": rest-json protocol, operation error serialization.
            return found.partition(":")[0].rpartition("#")[2].strip()
    return ""


def build_error(
    operation: Operation,
    *,
    code: str,
    status: int,
    headers: Mapping[str, str],
    fields: Mapping[str, JSONValue],
    text: str = "",
) -> ServiceError:
    """Build the error that the service reports.

    Args:
        operation: that was called.
        code: the service's name of the error, empty where it gives none.
        status: the HTTP status.
        headers: of the answer, names in lower case; none inside a stream.
        fields: the JSON body.
        text: what stands for a message where the fields have none.
    """
    kind = _ERRORS.get(code, ServiceError)
    said = fields.get("message") or fields.get("Message")
    message = said if isinstance(said, str) else text
    advice = _ADVICE.get(code, "")
    if kind is ThrottlingException:
        # Throttling is often reported with {"message": null}, the code only in the header.
        message = message or "too many requests"
        advice = _THROTTLING_ADVICE
    if kind is ValidationError and _NO_CAPACITY.search(message):
        advice = _NO_CAPACITY_ADVICE
    advice = _advise_on_time(operation, code, message, fields) or advice
    error = kind(
        message,
        code=code or str(status),
        status=status,
        headers=headers,
        fields=fields,
        advice=advice,
    )
    error.may_have_run = _may_have_run(kind, code, status, headers)
    return error


def _may_have_run(
    kind: type[ServiceError], code: str, status: int, headers: Mapping[str, str]
) -> bool:
    """Tell whether the model may have worked before this answer (promise 3).

    424 is the model's own answer; 500, 502 and 504, and whatever else fails on the server's side,
    can come after it. 503 and 530 are refusals, as is all of 4xx; 408 only from who gives the
    connection up, since the rest of the request is not awaited any longer (RFC 9110, section
    15.5.9). Model servers (Ray Serve is one) also say 408 of a model that took too long, on a
    connection that goes on.
    """
    if kind in _RAN:
        return True
    if kind in _REFUSED or code in LATE_REQUEST_CODES:
        return False
    if status == 408:  # noqa: PLR2004 - see above
        options = headers.get("connection", "").lower().split(",")
        return "close" not in map(str.strip, options)
    return status == 424 or (status >= 500 and status not in (503, 530))  # noqa: PLR2004 - see above


def lacks_capacity(error: AiosmrtError) -> bool:
    """Tell whether a call was refused for a capacity that is being made, and so ran nothing."""
    if error.may_have_run:
        return False
    return isinstance(error, ModelNotReadyException) or (
        isinstance(error, ValidationError) and _NO_CAPACITY.search(error.message) is not None
    )


def lacks_endpoint(error: AiosmrtError) -> TypeGuard[ServiceError]:
    """Tell whether the service knows no such endpoint, or no such component of one."""
    return (
        isinstance(error, ServiceError)
        and error.status in (400, 404)
        and _NO_ENDPOINT.match(error.message) is not None
    )


def refuses_session(error: AiosmrtError, session_id: str) -> TypeGuard[ServiceError]:
    """Tell whether there is no such session any longer, for whoever was to answer.

    The service has no error of its own for that: it is the container that has the sessions, and
    says so in its own words, as a ModelError.

    Args:
        error: of a call of that session.
        session_id: its id; words that repeat it count with any status, others with one of 4xx.
    """
    if not isinstance(error, ServiceError):
        return False
    said, status = error.message, error.status
    if isinstance(error, ModelError):
        said = f"{error.original_message} {said}"
        status = error.original_status_code or 0
    # As a word: an id may be a single letter.
    told, named = re.subn(rf"(?<!\w){re.escape(session_id)}(?!\w)", "ID", said)
    refused = 400 <= status < 500 or named > 0  # noqa: PLR2004 - HTTP's own range
    return refused and _NO_SESSION.search(told) is not None


def took_its_time(error: AiosmrtError, seconds: float) -> TypeGuard[ModelError]:
    """Tell whether a container that did not answer was given all the time that a model has.

    One that crashes, or that is not reached, is reported with original status 0, too.

    Args:
        error: of an InvokeEndpoint.
        seconds: from the first byte of the request to the head of the answer.
    """
    return (
        isinstance(error, ModelError)
        and error.original_status_code == 0
        and seconds >= _MODEL_SECONDS
    )


def _advise_on_time(
    operation: Operation, code: str, message: str, fields: Mapping[str, JSONValue]
) -> str:
    """Name the way out where the service says that the model's time was over."""
    if code == "ModelStreamError" and fields.get("ErrorCode") == "ModelInvocationTimeExceeded":
        return _STREAM_TIME_ADVICE
    # "Your invocation timed out while waiting for a response from container primary".
    if code == "ModelError" and "invocation timed out" in message.lower():
        return SIXTY_SECONDS_ADVICE if operation.name == "InvokeEndpoint" else _STREAM_TIME_ADVICE
    return ""
