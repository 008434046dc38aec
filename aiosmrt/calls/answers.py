"""Reading an answer whose head has come: a success, or what is wrong with it."""

from __future__ import annotations

from aiosmrt.calls.call import Call
from aiosmrt.calls.caller import read_refusal
from aiosmrt.errors import UnexpectedResponse
from aiosmrt.http import Response, ResponseHead
from aiosmrt.service import Operation, check_stream_head, parse_error
from aiosmrt.transport import PooledResponse

__all__ = ["check_stream", "check_success", "read_body", "refuse"]


async def check_success(operation: Operation, response: PooledResponse, call: Call) -> None:
    """Raise what an answer's head means, unless it begins a success.

    Any 2xx is one: the model of InvokeEndpointAsync says 202, local stand-ins answer 200.
    """
    head = response.head
    if not 200 <= head.status < 300:  # noqa: PLR2004 - the class of successes
        raise parse_error(operation, head, await read_refusal(response))
    encoding = head.headers.get("content-encoding", "identity").lower()
    if encoding != "identity" and "accept-encoding" not in call.request.headers:
        raise refuse(
            head,
            f"the answer's content encoding is {encoding!r}, and nobody asked for one; does a "
            "proxy compress what passes?",
            await read_refusal(response),
        )


async def read_body(operation: Operation, response: PooledResponse, call: Call) -> bytes:
    """Give the whole body of a success, or raise what the answer means."""
    if response.head.status != operation.status or "content-encoding" in response.head.headers:
        await check_success(operation, response, call)
    return await response.read()


def refuse(head: ResponseHead, wrong: str, body: bytes) -> UnexpectedResponse:
    """Build the error of an answer that SageMaker does not give."""
    start = body[:200]
    error = UnexpectedResponse(
        f"{wrong}; its first bytes: {start!r}",
        status=head.status,
        headers=head.headers,
        body_start=start,
    )
    # It is a success as far as HTTP goes: whoever answered may have asked the model.
    error.may_have_run = True
    return error


async def check_stream(response: Response) -> None:
    """Raise what is wrong with a success that should begin an event stream."""
    wrong = check_stream_head(response.head)
    if wrong is not None:
        raise refuse(response.head, wrong, await read_refusal(response))
