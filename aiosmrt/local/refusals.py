"""What the service says in place of an answer, by name, as it says it on the wire. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

from aiosmrt.errors import (
    InternalDependencyException,
    InternalFailure,
    InternalStreamFailure,
    ModelNotReadyException,
    ModelStreamError,
    ServiceError,
    ServiceUnavailable,
    ThrottlingException,
    ValidationError,
)

__all__ = [
    "StreamCode",
    "make_dependency_failure",
    "make_expired_token",
    "make_internal_failure",
    "make_internal_stream_failure",
    "make_invalid_request",
    "make_no_capacity",
    "make_not_ready",
    "make_stream_error",
    "make_throttling",
    "make_unavailable",
    "write_page",
]

StreamCode: TypeAlias = Literal["StreamBroken", "ModelInvocationTimeExceeded"]
"""What a ModelStreamError can be about (`ResponseStream`, API reference)."""

_REASONS = {
    403: "Forbidden",
    404: "Not Found",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Temporarily Unavailable",
    504: "Gateway Time-out",
}


def make_throttling(retry_after: float | None) -> ServiceError:
    """Refuse for the rate; the code is in the header alone, as AWS has it."""
    # Milliseconds: retry specification 2.1 of the SDKs.
    headers = {} if retry_after is None else {"x-amz-retry-after": f"{retry_after * 1000:.0f}"}
    return ThrottlingException("", status=400, headers=headers, fields={"message": None})


def make_not_ready() -> ServiceError:
    """Refuse for a model that is being loaded."""
    return ModelNotReadyException("Model is not ready for inference.", status=429)


def make_unavailable() -> ServiceError:
    """Refuse for the service."""
    return ServiceUnavailable("The service is currently unavailable.", status=503)


def make_internal_failure() -> ServiceError:
    """Fail inside the service, where the model may have run."""
    return InternalFailure("An internal failure occurred.", status=500)


def make_dependency_failure() -> ServiceError:
    """Fail before the model."""
    return InternalDependencyException(
        "Your request caused an exception with an internal dependency.", status=530
    )


def make_no_capacity() -> ServiceError:
    """Refuse for an inference component that was scaled to zero."""
    return ValidationError(
        "Inference Component has no capacity to process this request. ApplicationAutoScaling may "
        "be in-progress (if configured).",
        status=400,
    )


def make_invalid_request(message: str) -> ServiceError:
    """Refuse an invalid request."""
    return ValidationError(message, status=400)


def make_expired_token() -> ServiceError:
    """Refuse keys that have ended."""
    message = "The security token included in the request is expired"
    return ServiceError("", code="ExpiredTokenException", status=403, fields={"message": message})


def make_stream_error(code: StreamCode, message: str) -> ServiceError:
    """Fail with the model, in a stream."""
    return ModelStreamError(message, fields={"ErrorCode": code})


def make_internal_stream_failure(message: str) -> ServiceError:
    """Fail with the service, in a stream."""
    return InternalStreamFailure(message)


def write_page(status: int) -> bytes:
    """Write the page that a proxy answers with where the service does not."""
    title = f"{status} {_REASONS.get(status, 'Error')}"
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1>"
        "</center>\r\n</body>\r\n</html>\r\n"
    ).encode()
