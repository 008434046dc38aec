"""HTTP in, `InvocationRequest` out: what the service looks at before any model runs. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import attrs

from aiosmrt.errors import ParameterError, ServiceError
from aiosmrt.local.answers import make_validation_error
from aiosmrt.local.model import InvocationRequest
from aiosmrt.service import INVOKE_ENDPOINT_ASYNC, OPERATIONS, Operation, check_parameters

__all__ = ["find_operation", "read_arrival", "read_invocation"]

_BY_PATH = {operation.path: operation for operation in OPERATIONS.values()}
_ATTEMPT = re.compile(r"attempt=([0-9]{1,9})(?![0-9])")  # in `amz-sdk-request`


def find_operation(method: str, path: str) -> tuple[Operation, str]:
    """Give the operation that a method and a path (as on the wire) name, and the endpoint's name.

    Raises:
        ServiceError: 404 UnknownOperationException.
    """
    root, _, rest = path.removeprefix("/").partition("/")
    name, _, last = rest.partition("/")
    operation = _BY_PATH.get(f"/{last}")
    if method != "POST" or root != "endpoints" or operation is None:
        paths = ", ".join(_BY_PATH)
        raise ServiceError(
            f"{method} {path} is no operation; there is POST /endpoints/<name> followed by one of "
            f"{paths}",
            code="UnknownOperationException",
            status=404,
        )
    return operation, unquote(name)


def read_invocation(
    operation: Operation,
    endpoint_name: str,
    headers: Mapping[str, str],
    body: bytes,
) -> InvocationRequest:
    """Read and check the members of a request; header names are in lower case.

    Raises:
        ValidationError: with every constraint of the service model that the request breaks.
    """
    # An empty body cannot be told from none where HTTP's length is all there is; only where the
    # body is optional does that matter.
    given: dict[str, Any] = {"endpoint_name": endpoint_name, "body": body}
    if not body and not operation.parameters["body"].required:
        del given["body"]
    # SDKs whose model of this operation has no body yet, as that for JavaScript v2 and older ones,
    # send an empty document in its place.
    located = "x-amzn-sagemaker-inputlocation" in headers
    if operation is INVOKE_ENDPOINT_ASYNC and located and body.strip() == b"{}":
        del given["body"]
    for member in operation.request:
        value = headers.get(member.header.lower()) if member.header is not None else None
        if value is not None:
            given[member.parameter] = _read(value) if member.shape.kind == "integer" else value
    try:
        check_parameters(operation, given)
    except ParameterError as error:
        raise make_validation_error(error.problems) from error
    return InvocationRequest(operation.name, **given)


def read_arrival(
    request: InvocationRequest, headers: Mapping[str, str], request_id: str
) -> InvocationRequest:
    """Add to a request how it came; header names are in lower case."""
    attempt = _ATTEMPT.search(headers.get("amz-sdk-request", ""))
    return attrs.evolve(
        request,
        headers=headers,
        request_id=request_id,
        attempt=int(attempt[1]) if attempt else 1,
    )


def _read(value: str) -> int | str:
    return int(value) if value.isascii() and value.isdigit() else value
