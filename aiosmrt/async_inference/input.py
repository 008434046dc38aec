"""The input of an asynchronous invocation: inline where it is small, else by way of S3."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping

from aiosmrt.async_inference.s3 import S3
from aiosmrt.async_inference.s3_protocol import S3Location
from aiosmrt.calls.request_body import collect_body
from aiosmrt.errors import ParameterError, ValidationError
from aiosmrt.service.model import INVOKE_ENDPOINT_ASYNC
from aiosmrt.service.validation import check_headers, check_parameters
from aiosmrt.transport.limits import Limits

__all__ = ["advise_on_inline_body", "stage_body"]

# The service model's, in bytes: InvokeEndpointAsync's Body.
_INLINE = INVOKE_ENDPOINT_ASYNC.parameters["body"].shape.max or 0
_WAY = "s3_input_prefix='s3://bucket/prefix/' (of the call, or of the client) sends it through S3"


async def stage_body(
    s3: S3,
    parameters: Mapping[str, object],
    prefix: str | None,
    limits: Limits,
    constraints: Collection[str],
) -> dict[str, object]:
    """Put a body that is too large to travel inline into S3, and name it instead.

    Args:
        s3: where to.
        parameters: of InvokeEndpointAsync, by our names, a body among them.
        prefix: `s3://<bucket>/<prefix>`; its object gets a name that nobody else has.
        limits: of the wait for what a file or an iterable gives.
        constraints: of the service model's, those that are to be checked.

    Returns:
        The parameters to send.

    Raises:
        ParameterError: there is no prefix, or something else is wrong; nothing was uploaded.
        AiosmrtError: the upload failed.
    """
    staged = dict(parameters)
    with limits:
        if prefix is None:
            body = await collect_body(staged["body"], _INLINE, f"; {_WAY}")
        else:
            body = await collect_body(staged["body"], None)
    staged["body"] = body
    if not isinstance(body, bytes) or len(body) <= _INLINE:
        return staged
    if prefix is None:
        raise ParameterError(f"body must be at most {_INLINE} bytes, not {len(body)}; {_WAY}")
    # Whatever else is wrong is better known before the upload.
    operation = INVOKE_ENDPOINT_ASYNC
    given = {name: value for name, value in staged.items() if name in operation.parameters}
    check_parameters(operation, {**given, "body": b"staged"}, constraints=constraints)
    headers = staged.get("headers")
    if isinstance(headers, Mapping):
        check_headers(headers)
    place = S3Location.parse(prefix)
    folder = f"{place.key}/" if place.key and not place.key.endswith("/") else place.key
    location = S3Location(place.bucket, f"{folder}{uuid.uuid4()}")
    content_type = staged.get("content_type")
    try:
        # What it was gathered from does not matter: S3 may be sent it as often as it takes.
        await s3.put(location, bytes(body), None if content_type is None else str(content_type))
    except Exception as error:
        error.add_note(f"the input was on its way to {location}; the endpoint was not called")
        raise
    staged["body"] = None
    staged["input_location"] = str(location)
    return staged


def advise_on_inline_body(error: ValidationError) -> None:
    """Name the way out to those whose endpoint takes no inline bodies."""
    error.advice = error.advice or (
        "If it is the inline body that this endpoint is too old for: upload it and name it with "
        f"input_location=, or have that done: {_WAY} where it is above {_INLINE} bytes."
    )
