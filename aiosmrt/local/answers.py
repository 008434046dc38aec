"""The service's side of the wire: answers, errors and event-stream frames. Pure."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import AsyncIterator, Iterator

import attrs

from aiosmrt.errors import (
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
from aiosmrt.eventstream import encode_message
from aiosmrt.local.model import InvocationRequest, ModelResponse

__all__ = [
    "BUCKET",
    "STREAM_ERRORS",
    "Answer",
    "QueuedInvocation",
    "adopt_error",
    "encode_error",
    "encode_exception",
    "encode_part",
    "encode_value",
    "make_model_error",
    "make_service_unavailable",
    "make_validation_error",
    "name_content_type",
    "place_output",
    "write_headers",
]

_MAX_MESSAGE = 2048  # characters; the service model's shape `Message`
_ACCOUNT = "000000000000"

# Bytes of a part in one frame: with its headers it stays within 16 MiB, the most that an SDK on
# aws-c-event-stream takes (AWS_EVENT_STREAM_MAX_MESSAGE_SIZE); others take more.
_MAX_PART = (1 << 24) - 1024

# The HTTP status of each error: the service model's, and of throttling that of the common errors.
_STATUSES: dict[type[ServiceError], int] = {
    InternalDependencyException: 530,
    InternalFailure: 500,
    InternalStreamFailure: 500,
    ModelError: 424,
    ModelNotReadyException: 429,
    ModelStreamError: 424,
    ServiceUnavailable: 503,
    ThrottlingException: 400,
    ValidationError: 400,
}
_ERRORS = range(400, 600)  # statuses
_PASSED_ON = ("retry-after", "x-amz-retry-after")  # what an error's headers ask a client for
STREAM_ERRORS = {"ModelStreamError": "ModelError", "InternalStreamFailure": "InternalFailure"}
"""The codes that there are in a stream alone, and what is answered where there is none."""

BUCKET = "aiosmrt-local"
"""Where the outputs and the failures of queued work go."""


@attrs.frozen
class Answer:
    """What stands behind the endpoint answered: a head, and the parts of a body on its way."""

    head: ModelResponse  # its body is not looked at
    parts: AsyncIterator[bytes | str]

    async def collect(self) -> tuple[bytes, str]:
        """Give the parts joined, and the content type of the whole.

        Raises:
            ServiceError: from the parts.
        """
        parts = [part async for part in self.parts]
        content_type = self.head.content_type or name_content_type(parts[0] if parts else None)
        return b"".join(map(encode_value, parts)), content_type


@attrs.frozen
class QueuedInvocation:
    """What InvokeEndpointAsync answers: locations are `s3://<bucket>/<key>`."""

    inference_id: str
    output_location: str
    failure_location: str


def encode_value(part: bytes | str) -> bytes:
    """Give the bytes of a part; text is UTF-8."""
    return part.encode() if isinstance(part, str) else part


def name_content_type(part: bytes | str | None) -> str:
    """Name the content type of a body by its first part, `None` where there is none."""
    return "text/plain; charset=utf-8" if isinstance(part, str) else "application/octet-stream"


def write_headers(
    request: InvocationRequest, head: ModelResponse, content_type: str
) -> dict[str, str]:
    """Give the headers of a success, except those that every answer has."""
    variant = head.invoked_production_variant or request.target_variant or "AllTraffic"
    headers = {"x-Amzn-Invoked-Production-Variant": variant}
    if head.custom_attributes is not None:
        headers["X-Amzn-SageMaker-Custom-Attributes"] = head.custom_attributes
    if request.operation == "InvokeEndpointWithResponseStream":
        headers["Content-Type"] = "application/vnd.amazon.eventstream"
        headers["X-Amzn-SageMaker-Content-Type"] = content_type
        return headers
    headers["Content-Type"] = content_type
    if head.new_session_id is not None:
        headers["X-Amzn-SageMaker-New-Session-Id"] = head.new_session_id
    if head.closed_session_id is not None:
        headers["X-Amzn-SageMaker-Closed-Session-Id"] = head.closed_session_id
    return headers


def place_output(request: InvocationRequest) -> QueuedInvocation:
    """Say where the output, or the failure, of queued work will be.

    The folders are those of SageMaker's Python SDK for endpoints that were given none. The output
    path's extension and the file name are for the output alone (service model,
    InvokeEndpointAsync); without a file name it is called after the inference id, as the failure
    always is.
    """
    inference_id = request.inference_id or str(uuid.uuid4())
    extension = (request.s3_output_path_extension or "").strip("/")
    filename = request.filename or f"{inference_id}.out"
    folders = ("async-endpoint-outputs", request.endpoint_name, extension)
    return QueuedInvocation(
        inference_id,
        output_location="/".join((f"s3://{BUCKET}", *filter(None, folders), filename)),
        failure_location=(
            f"s3://{BUCKET}/async-endpoint-failures/{request.endpoint_name}/"
            f"{inference_id}-error.out"
        ),
    )


def encode_part(payload: bytes) -> Iterator[bytes]:
    """Frame a payload part; one that is too long for a frame becomes several parts."""
    headers = {
        ":message-type": "event",
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
    }
    for start in range(0, len(payload) or 1, _MAX_PART):
        yield encode_message(headers, payload[start : start + _MAX_PART])


def encode_exception(error: ServiceError) -> bytes:
    """Frame what went wrong after the first part: the head with its status is long gone.

    A stream knows two errors; any other is told as the words of a ModelStreamError.
    """
    kind = error.code if error.code in STREAM_ERRORS else "ModelStreamError"
    named = isinstance(error, ModelError | ModelStreamError | InternalStreamFailure)
    fields = {"Message": error.message if named else f"{error.code}: {error.message}"}
    if kind == "ModelStreamError":
        told = error.error_code if isinstance(error, ModelStreamError) else None
        fields["ErrorCode"] = told or "StreamBroken"
    headers = {
        ":message-type": "exception",
        ":exception-type": kind,
        ":content-type": "application/json",
    }
    return encode_message(headers, json.dumps(fields).encode())


def encode_error(error: ServiceError, region: str) -> tuple[dict[str, str], bytes]:
    """Give the headers and the body of an error before the first part.

    Args:
        error: what went wrong.
        region: of the container's log, which a ModelError names.
    """
    said = any(name.lower() == "message" for name in error.fields)
    fields = dict(error.fields) if said else {"Message": error.message, **error.fields}
    if isinstance(error, ModelError):
        group = f"/aws/sagemaker/Endpoints/{error.endpoint_name}"
        fields["LogStreamArn"] = f"arn:aws:logs:{region}:{_ACCOUNT}:log-group:{group}"
    code = STREAM_ERRORS.get(error.code, error.code)
    headers = {"x-amzn-errortype": code, "Content-Type": "application/json"}
    asked = {name: value for name, value in error.headers.items() if name.lower() in _PASSED_ON}
    return {**headers, **asked}, json.dumps(fields).encode()


def adopt_error(error: ServiceError, endpoint_name: str) -> ServiceError:
    """Make a service error that a model has raised the answer to its call.

    One that has no HTTP status of an error gets that of its kind, 500 where it is of none.
    """
    adopted = copy.copy(error)
    adopted.endpoint_name = endpoint_name
    if error.status not in _ERRORS:
        statuses = [status for kind, status in _STATUSES.items() if isinstance(error, kind)]
        adopted.status = statuses[0] if statuses else 500
    return adopted


def make_model_error(endpoint_name: str, status: int, message: str) -> ModelError:
    """Say that the model answered with an HTTP status of 300 or more; 0 is no answer at all."""
    side = "client" if 400 <= status < 500 else "server"  # noqa: PLR2004 - HTTP's own ranges
    error = ModelError(
        f'Received {side} error ({status}) from primary with message "{message}"'[:_MAX_MESSAGE],
        status=424,
        fields={
            "OriginalStatusCode": status,
            "OriginalMessage": message[:_MAX_MESSAGE],
            "ErrorCode": f"{side.upper()}_ERROR_FROM_MODEL",
        },
    )
    error.endpoint_name = endpoint_name
    return error


def make_validation_error(problems: tuple[str, ...]) -> ValidationError:
    """Say which constraints of the service model a request breaks."""
    count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected"
    return ValidationError(f"{count}: {'; '.join(problems)}", status=400)


def make_service_unavailable(message: str) -> ServiceUnavailable:
    """Say that what stands behind the endpoint cannot be reached; nothing ran."""
    return ServiceUnavailable(message, status=503)
