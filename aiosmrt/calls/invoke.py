"""InvokeEndpoint, from its arguments to its answer."""

from __future__ import annotations

from aiosmrt.calls.answers import read_body
from aiosmrt.calls.builder import CallBuilder
from aiosmrt.calls.call import Call
from aiosmrt.calls.turns import Turn
from aiosmrt.models import InvokeEndpointResponse
from aiosmrt.service import INVOKE_ENDPOINT, Arguments, parse_response
from aiosmrt.transport import PooledResponse

__all__ = ["invoke"]


async def invoke(
    builder: CallBuilder, arguments: Arguments, turn: Turn | None = None
) -> InvokeEndpointResponse:
    """Carry out `SageMakerRuntimeClient.invoke_endpoint`."""
    pool, caller, call = await builder.begin(INVOKE_ENDPOINT, arguments, turn=turn)
    return await caller.call(call, pool, _judge)


async def _judge(response: PooledResponse, call: Call) -> InvokeEndpointResponse:
    body = await read_body(INVOKE_ENDPOINT, response, call)
    call.end_attempt()
    return parse_response(response.head, body, call.describe(response.head))
