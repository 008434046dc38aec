"""Arguments to request, answer to result or error, event-stream message to part or error. Pure."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING
from urllib.parse import quote

import attrs

from aiosmrt.config import Config
from aiosmrt.errors import AiosmrtError, ServiceError, UnexpectedMessage, UnexpectedResponse
from aiosmrt.http import Request, ResponseHead
from aiosmrt.models import (
    InvokeEndpointAsyncResponse,
    InvokeEndpointResponse,
    PayloadPart,
    ResponseMetadata,
)
from aiosmrt.service.failures import build_error, find_code
from aiosmrt.service.model import OPERATIONS, Operation, spell
from aiosmrt.tracebacks import hides_locals
from aiosmrt.value import JSONValue

if TYPE_CHECKING:
    from aiosmrt.eventstream import Message

__all__ = [
    "EVENT_STREAM",
    "build_request",
    "check_names",
    "check_stream_head",
    "parse_error",
    "parse_invocation",
    "parse_message",
    "parse_response",
    "parse_session",
    "quote_name",
    "read_request_id",
    "respell",
]

EVENT_STREAM = "application/vnd.amazon.eventstream"

_CALL_OPTIONS = ("headers", "json", "timeout")

# How much of a body that is not ours goes into an error's text.
_EXCERPT = 200


def check_names(operation: Operation, names: AbstractSet[str]) -> None:
    """Refuse a keyword that the operation does not have.

    Raises:
        TypeError: naming the keyword that was probably meant.
    """
    if names <= operation.parameters.keys():
        return
    for name in names:
        if name not in operation.parameters and name not in _CALL_OPTIONS:
            known = [*operation.parameters, *_CALL_OPTIONS]
            import difflib  # noqa: PLC0415 - start-up time

            near = difflib.get_close_matches(spell(name), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(known)}"
            if name in attrs.fields_dict(Config):
                hint = f"; it is an option of the client: client.with_options({name}=...)"
            method = spell(operation.name)
            raise TypeError(f"{method}() got an unexpected keyword argument {name!r}{hint}")


@hides_locals
def respell(operation: str, parameters: Mapping[str, object]) -> dict[str, object]:
    """Turn parameters in the service's spelling into keyword arguments.

    Raises:
        TypeError: there is no such operation, or it has no such parameter.
    """
    if operation not in OPERATIONS:
        raise TypeError(f"there is no operation {operation!r}; there are {', '.join(OPERATIONS)}")
    spelled = {member.name: member.parameter for member in OPERATIONS[operation].request}
    for name in parameters:
        if name not in spelled:
            import difflib  # noqa: PLC0415 - start-up time

            near = difflib.get_close_matches(name, spelled, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(spelled)}"
            raise TypeError(f"{operation} has no parameter {name!r}: {hint}")
    return {spelled[name]: value for name, value in parameters.items()}


def build_request(
    operation: Operation,
    parameters: Mapping[str, object],
    *,
    origin: str,
    base_path: str = "",
    headers: Mapping[str, str],
) -> Request:
    """Put checked parameters where the service wants them.

    Args:
        operation: what to call.
        parameters: by our names, the body as bytes; `None` stands for one that was not given.
        origin: scheme, host and port.
        base_path: of the endpoint's URL, without a slash at its end.
        headers: to send beside those of the parameters, names in lower case.
    """
    built = {**headers}
    body = b""
    path = base_path
    for name, value in parameters.items():
        if value is None:
            continue
        member = operation.parameters[name]
        if member.location == "header":
            built[member.field] = str(value)
        elif isinstance(value, bytes):
            body = value
        else:
            path = f"{base_path}/endpoints/{quote_name(str(value))}{operation.path}"
    return Request(method="POST", origin=origin, path=path, headers=built, body=body)


@functools.lru_cache(1024)
def quote_name(name: str) -> str:
    """Encode a name for its place in a path."""
    return quote(name, safe="-._~")


def read_request_id(head: ResponseHead) -> str | None:
    """Find the service's id of the request in its answer."""
    headers = head.headers
    return headers.get("x-amzn-requestid") or headers.get("x-amz-request-id")


def parse_response(
    head: ResponseHead, body: bytes, metadata: ResponseMetadata
) -> InvokeEndpointResponse:
    """Read the answer of a successful InvokeEndpoint."""
    headers = head.headers
    session_id, expires_at = parse_session(headers.get("x-amzn-sagemaker-new-session-id"))
    closed_session_id, _ = parse_session(headers.get("x-amzn-sagemaker-closed-session-id"))
    return InvokeEndpointResponse(
        body=body,
        content_type=headers.get("content-type"),
        invoked_production_variant=headers.get("x-amzn-invoked-production-variant"),
        custom_attributes=headers.get("x-amzn-sagemaker-custom-attributes"),
        new_session_id=session_id,
        new_session_expires_at=expires_at,
        closed_session_id=closed_session_id,
        metadata=metadata,
    )


def parse_session(value: str | None) -> tuple[str | None, datetime.datetime | None]:
    """Take `id; Expires=2026-11-22T10:00:00Z` apart (NewSessionResponseHeader's pattern).

    Returns:
        The id, `None` where there is none; and when it ends, in UTC, where that can be read.
    """
    session_id, _, rest = (value or "").partition(";")
    name, _, expires = rest.strip().partition("=")
    end = None
    if name.lower() == "expires":
        with contextlib.suppress(ValueError):
            end = datetime.datetime.fromisoformat(expires.strip())
    if end is not None and end.tzinfo is None:
        end = end.replace(tzinfo=datetime.UTC)  # a container that has left its Z out
    return session_id.strip() or None, end


def parse_invocation(
    head: ResponseHead, body: bytes, metadata: ResponseMetadata
) -> InvokeEndpointAsyncResponse:
    """Read the answer of a successful InvokeEndpointAsync, whatever its content type says."""
    inference_id = _parse_object(body).get("InferenceId")
    return InvokeEndpointAsyncResponse(
        inference_id=inference_id if isinstance(inference_id, str) else None,
        output_location=head.headers.get("x-amzn-sagemaker-outputlocation"),
        failure_location=head.headers.get("x-amzn-sagemaker-failurelocation"),
        metadata=metadata,
    )


def check_stream_head(head: ResponseHead) -> str | None:
    """Say what is wrong with a 200 that should begin an event stream, `None` if nothing is."""
    content_type = head.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() == EVENT_STREAM:
        return None
    return (
        f"the answer is not an event stream: its content type is {content_type or 'missing'!r}, "
        f"not {EVENT_STREAM!r}; check that endpoint_url is a SageMaker Runtime endpoint, and that "
        "no proxy answers for it"
    )


def parse_error(operation: Operation, head: ResponseHead, body: bytes) -> AiosmrtError:
    """Read an answer that is no success: a redirect, a service's error or a proxy's page.

    The code comes from the header `x-amzn-errortype`, else from the body's `code`, else from its
    `__type` (rest-json protocol, operation error serialization).
    """
    headers = head.headers
    if 300 <= head.status < 400:  # noqa: PLR2004 - the class of redirects, RFC 9110 section 15.4
        place = headers.get("location", "nowhere")
        return UnexpectedResponse(
            f"HTTP {head.status} redirects to {place}; redirects are never followed, since a "
            "signature holds for one host: set endpoint_url to the right place",
            status=head.status,
            headers=headers,
            body=body,
        )
    fields = _parse_object(body)
    error = build_error(
        operation,
        code=find_code(headers.get("x-amzn-errortype"), fields),
        status=head.status,
        headers=headers,
        fields=fields,
        text="" if _is_object(body) else _describe(body),
    )
    error.request_id = read_request_id(head)
    if not fields:
        error.body = body
    return error


def parse_message(operation: Operation, message: Message) -> PayloadPart | ServiceError | str:
    """Read what a sound frame means: a part, an error to raise, or a reason to skip it.

    Raises:
        UnexpectedMessage: the frame does not say what it is.
    """
    headers = message.headers
    kind = headers.get(":message-type")
    if kind == "event":
        event = headers.get(":event-type")
        if event == "PayloadPart":
            return PayloadPart(message.payload)
        if isinstance(event, str):
            return f"unknown event type {event!r}"
        raise UnexpectedMessage(f"an event without :event-type: headers {dict(headers)!r}")
    if kind == "exception":
        code = headers.get(":exception-type")
        fields = _parse_object(message.payload)
        text = "" if _is_object(message.payload) else _describe(message.payload)
    elif kind == "error":
        code = headers.get(":error-code")
        fields = {}
        text = str(headers.get(":error-message", ""))
    else:
        raise UnexpectedMessage(
            f"a message whose :message-type is {kind!r}, not event, exception or error: "
            f"headers {dict(headers)!r}"
        )
    error = build_error(
        operation,
        code=code if isinstance(code, str) else "unknown",
        status=operation.status,
        headers={},
        fields=fields,
        text=text,
    )
    # The stream had begun, so the model was at work, whatever the code.
    error.may_have_run = True
    if not fields:
        error.body = message.payload
    return error


def _parse_object(body: bytes) -> dict[str, JSONValue]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _is_object(body: bytes) -> bool:
    return body.lstrip().startswith(b"{") and body.rstrip().endswith(b"}")


def _describe(body: bytes) -> str:
    """Show the beginning of a body that is no JSON object, on one line."""
    text = " ".join(body[: 4 * _EXCERPT].decode("utf-8", "replace").split())
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"
