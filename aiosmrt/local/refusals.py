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
from aiosmrt.local.model import InvocationRequest, Model, ModelFailure
from aiosmrt.local.steps import Page
from aiosmrt.local.words import (
    check_count,
    check_header,
    check_seconds,
    check_status,
    check_text,
)

__all__ = [
    "StreamCode",
    "make_dependency_failure",
    "make_expired_token",
    "make_failing_model",
    "make_internal_failure",
    "make_internal_stream_failure",
    "make_invalid_request",
    "make_no_capacity",
    "make_not_ready",
    "make_page",
    "make_redirect",
    "make_stream_error",
    "make_throttling",
    "make_unavailable",
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
    headers = {}
    if retry_after is not None:
        # Milliseconds: retry specification 2.1 of the SDKs.
        told = check_seconds("retry_after", retry_after) * 1000
        headers["x-amz-retry-after"] = f"{told:.0f}"
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
    return ValidationError(check_text("message", message), status=400)


def make_expired_token() -> ServiceError:
    """Refuse keys that have ended."""
    message = "The security token included in the request is expired"
    return ServiceError("", code="ExpiredTokenException", status=403, fields={"message": message})


def make_stream_error(code: StreamCode, message: str) -> ServiceError:
    """Fail with the model, in a stream."""
    said = check_text("message", message)
    return ModelStreamError(said, fields={"ErrorCode": check_text("code", code)})


def make_internal_stream_failure(message: str) -> ServiceError:
    """Fail with the service, in a stream."""
    return InternalStreamFailure(check_text("message", message))


def make_failing_model(status: int, message: str) -> Model:
    """Make a model that fails; the status 0 is a container that gives no answer at all."""
    if check_count("status", status, 0) != 0:
        check_status(status, 300)
    check_text("message", message)

    def fail(_: InvocationRequest) -> None:
        raise ModelFailure(status, message)

    return fail


def make_page(status: int) -> Page:
    """Make the page that a proxy answers with where the service does not."""
    title = f"{check_status(status, 200)} {_REASONS.get(status, 'Error')}"
    body = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1>"
        "</center>\r\n</body>\r\n</html>\r\n"
    )
    return Page(status, {"Content-Type": "text/html", "Server": "nginx"}, body.encode())


def make_redirect(location: str, status: int) -> Page:
    """Make a redirect."""
    headers = {"Location": check_header("location", location)}
    return Page(check_status(status, 300, 399), headers, b"")
