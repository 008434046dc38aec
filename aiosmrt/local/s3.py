"""S3 as far as its clients use it around async inference, in path style."""

from __future__ import annotations

import re
from urllib.parse import unquote

from aiosmrt.errors import ServiceError
from aiosmrt.local.authorization import SignedRequest, names_signature
from aiosmrt.local.objects import ObjectStore
from aiosmrt.local.s3_operations import OPERATIONS, SUBRESOURCES, XML, S3Answer, S3Request, Store
from aiosmrt.local.s3_xml import write_document

__all__ = ["PATH", "S3", "S3Answer", "encode_s3_error"]

PATH = "/s3"
"""Where it is served beside the root; a bucket's name and an object's key come behind it."""

_LOCALHOST = re.compile(r"(?P<bucket>[a-z0-9][a-z0-9.-]*)\.localhost(?::[0-9]+)?", re.IGNORECASE)


class S3:
    """Answers what boto3, the command line and the JavaScript SDKs ask for, in memory.

    Args:
        objects: where they are kept.
        list_permission: whether callers have `s3:ListBucket`; S3 tells those without it 403
            AccessDenied of a key that does not exist, so that nobody learns what does.
    """

    def __init__(self, objects: ObjectStore, *, list_permission: bool = True) -> None:
        self._store = Store(objects, list_permission)

    async def answer(self, request: SignedRequest) -> S3Answer:
        """Carry out a request whose signature is sound.

        Raises:
            ServiceError: under S3's names.
        """
        asked = _read_request(request)
        level = "object" if asked.key else "bucket" if asked.bucket else "service"
        word = next((word for word in SUBRESOURCES if word in asked.given), "")
        operation, parameters = OPERATIONS.get((asked.method, level, word), (None, frozenset()))
        if operation is None or not asked.given.keys() <= {word, *parameters} - {""}:
            raise ServiceError(
                f"{request.method} {request.target} is not implemented. The local S3 has no "
                "versions, tags, access control lists, policies or forms to post.",
                code="NotImplemented",
                status=501,
            )
        return await operation(self._store, asked)


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
