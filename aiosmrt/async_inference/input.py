"""The input of an asynchronous invocation: inline where it is small, else by way of S3."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping

from aiosmrt.async_inference.s3 import S3
from aiosmrt.async_inference.s3_protocol import S3Location
from aiosmrt.calls import collect_body
from aiosmrt.errors import ParameterError, ValidationError
from aiosmrt.redaction import Redacted
from aiosmrt.service import INVOKE_ENDPOINT_ASYNC, Arguments, check_headers, check_parameters
from aiosmrt.transport import Limits

__all__ = ["advise_on_inline_body", "stage_body"]

# The service model's, in bytes: InvokeEndpointAsync's Body.
_INLINE = INVOKE_ENDPOINT_ASYNC.parameters["body"].shape.max or 0
_WAY = "s3_input_prefix='s3://bucket/prefix/' (of the call, or of the client) sends it through S3"


async def stage_body(
    s3: S3,
    arguments: Arguments,
    prefix: str | None,
    limits: Limits,
    constraints: Collection[str],
) -> S3Location | None:
    """Put a body that is too large to travel inline into S3, and name it instead.

    Args:
        s3: where to.
        arguments: of InvokeEndpointAsync, a body among them; they become what is to be sent.
        prefix: `s3://<bucket>/<prefix>`; its object gets a name that nobody else has.
        limits: of the wait for what a file or an iterable gives.
        constraints: of the service model's, those that are to be checked.

    Returns:
        Where the body is, `None` if it travels inline.

    Raises:
        ParameterError: there is no prefix, or something else is wrong; nothing was uploaded.
        AiosmrtError: the upload failed.
    """
    limit, advice = (_INLINE, f"; {_WAY}") if prefix is None else (None, "")
    with limits:
        limits.note("the body")
        body = Redacted(await collect_body(arguments.parameters["body"], limit, advice))
    arguments.parameters["body"] = body.value
    if not isinstance(body.value, bytes) or len(body.value) <= _INLINE:
        return None
    if prefix is None:
        size = len(body.value)
        raise ParameterError(f"body must be at most {_INLINE} bytes, not {size}; {_WAY}")
    # Whatever else is wrong is better known before the upload.
    check_parameters(
        INVOKE_ENDPOINT_ASYNC, {**arguments.parameters, "body": b"staged"}, constraints=constraints
    )
    if isinstance(arguments.headers, Mapping):
        check_headers(arguments.headers)
    place = S3Location.parse(prefix)
    folder = f"{place.key}/" if place.key and not place.key.endswith("/") else place.key
    location = S3Location(place.bucket, f"{folder}{uuid.uuid4()}")
    content_type = arguments.parameters.get("content_type")
    try:
        # What it was gathered from does not matter: S3 may be sent it as often as it takes.
        await s3.put(
            location, bytes(body.value), None if content_type is None else str(content_type)
        )
    except Exception as error:
        error.add_note(f"the input was on its way to {location}; the endpoint was not called")
        raise
    arguments.parameters["body"] = None
    arguments.parameters["input_location"] = str(location)
    return location


def advise_on_inline_body(error: ValidationError) -> None:
    """Name the way out to those whose endpoint takes no inline bodies."""
    error.advice = error.advice or (
        "If it is the inline body that this endpoint is too old for: upload it and name it with "
        f"input_location=, or have that done: {_WAY} where it is above {_INLINE} bytes."
    )
