"""Reading an answer whose head has come: a success, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping

from aiosmrt.calls.call import Call
from aiosmrt.calls.caller import read_refusal, receive_all
from aiosmrt.errors import UnexpectedResponse
from aiosmrt.http import Response, ResponseHead
from aiosmrt.redaction import Redacted
from aiosmrt.service import INVOKE_ENDPOINT, Operation, check_stream_head, parse_error
from aiosmrt.transport import (
    MalformedContent,
    PooledResponse,
    decode_body,
    open_content,
    read_codings,
)

__all__ = ["open_stream", "read_body", "refuse"]

_NO_CONTENT = 204
_PARTIAL_CONTENT = 206

# Bytes that a compressed body may become. The service lets no answer be larger than 25 MB, and has
# no limit for what is compressed into them.
_DECODED = 1 << 27

# Bytes of an answer that cannot be read which its error keeps: more than the service sends.
_KEPT = 1 << 25


async def _check_status(operation: Operation, response: PooledResponse) -> None:
    """Raise what an answer's status means, unless it begins a success.

    Any 2xx is one: the model of InvokeEndpointAsync says 202, local stand-ins answer 200. Not so
    one that has lost its body, or part of it, by what its status says.
    """
    head = response.head
    if not 200 <= head.status < 300:  # noqa: PLR2004 - the class of successes
        raise parse_error(operation, head, await read_refusal(response))
    if head.status == _NO_CONTENT and _states_body(head):
        raise _refuse(head, "HTTP 204 says that there is no body, but one belongs to it", b"")
    if head.status == _PARTIAL_CONTENT:
        wrong = "HTTP 206 says that the body is a part of the answer, and nobody asked for a part"
        raise refuse(head, wrong, await receive_all(response, _KEPT))


def _states_body(head: ResponseHead) -> bool:
    length = head.headers.get("content-length", "0")
    return length.strip("0, ") != "" or "transfer-encoding" in head.headers


async def read_body(operation: Operation, response: PooledResponse, call: Call) -> bytes:
    """Give the whole body of a success, or raise what the answer means.

    A coding that the caller has asked for is left on the answer of a model.
    """
    head = response.head
    if head.status == operation.status and "content-encoding" not in head.headers:
        return await response.read()
    return await _read_unusual_body(operation, response, call)


async def _read_unusual_body(operation: Operation, response: PooledResponse, call: Call) -> bytes:
    await _check_status(operation, response)
    head = response.head
    body = Redacted(await response.read())
    if operation is INVOKE_ENDPOINT and _was_asked_for(head, call.request.headers):
        return body.value
    try:
        return await decode_body(head, body, _DECODED)
    except MalformedContent as error:
        wrong = _describe_coding(head, error)
    raise _refuse(head, wrong, body.value)  # not above: those frames have bytes of the body


def _was_asked_for(head: ResponseHead, headers: Mapping[str, str]) -> bool:
    asked = read_codings({"content-encoding": headers.get("accept-encoding", "")})
    return set(asked).issuperset(read_codings(head.headers))


def _describe_coding(head: ResponseHead, error: MalformedContent) -> str:
    coding = head.headers.get("content-encoding")
    return (
        f"the answer's content encoding is {coding!r}, which nobody asked for and which cannot be "
        f"taken off: {error}; does a proxy compress what passes?"
    )


def refuse(head: ResponseHead, wrong: str, body: bytes) -> UnexpectedResponse:
    """Build the error of an answer that SageMaker does not give; its text quotes the answer."""
    return _refuse(head, f"{wrong}; its first bytes: {body[:200]!r}", body)


def _refuse(head: ResponseHead, text: str, body: bytes) -> UnexpectedResponse:
    error = UnexpectedResponse(text, status=head.status, headers=head.headers, body=body)
    # It is a success as far as HTTP goes: whoever answered may have asked the model.
    error.may_have_run = True
    return error


async def open_stream(operation: Operation, response: PooledResponse) -> Response:
    """Give an answer whose body is an event stream as it comes, or raise what the answer means."""
    await _check_status(operation, response)
    head = response.head
    wrong = check_stream_head(head)
    if wrong is not None:
        raise refuse(head, wrong, await receive_all(response, _KEPT))
    try:
        return open_content(response)
    except MalformedContent as error:
        wrong = _describe_coding(head, error)
    raise _refuse(head, wrong, await receive_all(response, _KEPT))
