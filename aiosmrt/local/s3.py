"""S3 as far as its clients use it around async inference, in path style."""

from __future__ import annotations

import re
from urllib.parse import unquote

import attrs

from aiosmrt.errors import ServiceError
from aiosmrt.local.authorization import SignedRequest, names_signature
from aiosmrt.local.model import InvocationRequest
from aiosmrt.local.objects import ObjectStore
from aiosmrt.local.s3_operations import (
    OPERATIONS,
    SUBRESOURCES,
    XML,
    Operation,
    S3Answer,
    S3Request,
    Store,
)
from aiosmrt.local.s3_xml import write_document

__all__ = ["PATH", "S3", "S3Answer", "S3Call", "adopt_s3_error", "encode_s3_error"]

PATH = "/s3"
"""Where it is served beside the root; a bucket's name and an object's key come behind it."""

_LOCALHOST = re.compile(r"(?P<bucket>[a-z0-9][a-z0-9.-]*)\.localhost(?::[0-9]+)?", re.IGNORECASE)


# What S3 says for what SageMaker Runtime has other words for (API reference, Error responses).
_WORDS = {
    "ThrottlingException": ("SlowDown", 503, "Please reduce your request rate."),
    "ServiceUnavailable": ("ServiceUnavailable", 503, "Service is unable to handle request."),
    "InternalFailure": (
        "InternalError",
        500,
        "We encountered an internal error. Please try again.",
    ),
    "ExpiredTokenException": ("ExpiredToken", 400, "The provided token has expired."),
}


@attrs.frozen
class S3Call:
    """One of S3's operations, and what it is asked for.

    Attributes:
        operation: its name in the API reference.
        carry_out: does it.
        asked: of it.
    """

    operation: str
    carry_out: Operation
    asked: S3Request

    @property
    def invocation(self) -> InvocationRequest:
        """As the steps of a script see it, whose `input_location` is the object's."""
        asked = self.asked
        return InvocationRequest(self.operation, "", asked.body, input_location=asked.location)


class S3:
    """Answers what boto3, the command line and the JavaScript SDKs ask for, in memory.

    Args:
        objects: where they are kept.
        list_permission: whether callers have `s3:ListBucket`; S3 tells those without it 403
            AccessDenied of a key that does not exist, so that nobody learns what does.
    """

    def __init__(self, objects: ObjectStore, *, list_permission: bool = True) -> None:
        self._store = Store(objects, list_permission)

    def read(self, request: SignedRequest) -> S3Call:
        """Read what a request asks for.

        Raises:
            ServiceError: under S3's names.
        """
        asked = _read_request(request)
        level = "object" if asked.key else "bucket" if asked.bucket else "service"
        word = next((word for word in SUBRESOURCES if word in asked.given), "")
        found = OPERATIONS.get((asked.method, level, word))
        if found is None or not asked.given.keys() <= {word, *found[2]} - {""}:
            raise ServiceError(
                f"{request.method} {request.target} is not implemented. The local S3 has no "
                "versions, tags, access control lists, policies or forms to post.",
                code="NotImplemented",
                status=501,
            )
        return S3Call(found[0], found[1], asked)

    async def answer(self, call: S3Call) -> S3Answer:
        """Carry out a call whose signature is sound.

        Raises:
            ServiceError: under S3's names.
        """
        return await call.carry_out(self._store, call.asked)


def adopt_s3_error(error: ServiceError) -> ServiceError:
    """Put a refusal of a script into S3's words, where S3 has others for it."""
    told = _WORDS.get(error.code)
    return error if told is None else ServiceError(told[2], code=told[0], status=told[1])


def encode_s3_error(error: ServiceError, resource: str, request_id: str) -> S3Answer:
    """Put an error into S3's shape; `resource` is the path that was asked for."""
    fields = {
        "Code": error.code,
        "Message": error.message,
        "Resource": resource,
        "RequestId": request_id,
    }
    return S3Answer(error.status, XML, write_document("Error", fields.items(), namespace=False))


def _read_request(request: SignedRequest) -> S3Request:
    path = request.target.partition("?")[0]
    if f"{path}/".startswith(f"{PATH}/"):
        path = path.removeprefix(PATH)
    bucket, _, key = _decode(path.removeprefix("/")).partition("/")
    host = _LOCALHOST.fullmatch(request.headers.get("host", ""))
    if host is not None:  # as clients write it that are given the name and not the address
        bucket, key = host["bucket"], _decode(path.removeprefix("/"))
    query = request.query
    given = {
        name: value
        for name, value in query.items()
        # JavaScript's SDK says with x-id what it is calling.
        if name != "x-id" and not names_signature(name, query)
    }
    return S3Request(request.method, bucket, key, given, request.headers, request.body)


def _decode(path: str) -> str:
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise ServiceError(
            f"Couldn't parse the specified URI: {path}", code="InvalidURI", status=400
        ) from None
