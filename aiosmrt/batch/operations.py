"""A batch put together: what it keeps to, and how its rows are carried out by each operation."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from aiosmrt.async_inference import AsyncInferenceClient, S3State
from aiosmrt.batch.bounds import Bounds
from aiosmrt.batch.entrance import Entrance
from aiosmrt.batch.faults import Faults
from aiosmrt.batch.iterator import Batch
from aiosmrt.batch.output_names import OutputNames
from aiosmrt.batch.results import Results
from aiosmrt.batch.row import Row
from aiosmrt.batch.rows import Rows
from aiosmrt.batch.run import CarryOut, Run
from aiosmrt.calls import CallBuilder, invoke
from aiosmrt.config import RetryPolicy
from aiosmrt.errors import ConfigurationError
from aiosmrt.models import AsyncInferenceOutput, InvokeEndpointResponse
from aiosmrt.redaction import Redacted
from aiosmrt.response_stream import begin_response_stream
from aiosmrt.service import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_ASYNC,
    INVOKE_ENDPOINT_WITH_RESPONSE_STREAM,
    spell,
)

__all__ = ["OperationName", "begin"]

OperationName: TypeAlias = Literal[
    "invoke_endpoint", "invoke_endpoint_with_response_stream", "invoke_endpoint_async"
]
"""What `map` can do with each row: the client's methods."""

Response: TypeAlias = InvokeEndpointResponse | AsyncInferenceOutput

# No row is lost to refusals (tests/promises/test_no_row_is_lost.py).
PATIENT = RetryPolicy(max_attempts=30, throttle_base_delay=0.1, quota=None)

_OPERATIONS = {
    spell(operation.name): operation
    for operation in (INVOKE_ENDPOINT, INVOKE_ENDPOINT_WITH_RESPONSE_STREAM, INVOKE_ENDPOINT_ASYNC)
}


def begin(
    builder: CallBuilder,
    inputs: object,
    operation: OperationName,
    bounds: Bounds,
) -> Batch[Response]:
    """Carry out `SageMakerRuntimeClient.map`."""
    if operation not in _OPERATIONS:
        raise ConfigurationError(f"operation={operation!r}: one of {', '.join(_OPERATIONS)}")
    auto = bounds.max_in_flight == "auto"
    if auto and operation == "invoke_endpoint_async":
        raise ConfigurationError(
            "max_in_flight='auto' is for calls that are answered at once: an asynchronous "
            "endpoint has a queue, and neither refuses nor slows what waits there; give a number, "
            "such as 1000"
        )
    builder = attrs.evolve(builder, default_retry=PATIENT)
    faults = Faults(builder.config.params)
    find_line = builder.find_line if auto else None
    entrance = Entrance(Rows(inputs), _OPERATIONS[operation], find_line, faults)
    carry_out = _choose_way(builder, operation, bounds.result_timeout)
    places = builder.config.max_connections if auto else int(bounds.max_in_flight)
    return Batch(Run(entrance, carry_out, faults, bounds, places=places))


def _choose_way(
    builder: CallBuilder, operation: OperationName, result_timeout: float | None
) -> CarryOut[Response]:
    if operation == "invoke_endpoint":
        return lambda row: invoke(builder, row.arguments, row.turn)
    if operation == "invoke_endpoint_with_response_stream":
        return lambda row: _read_stream(builder, row)
    inference = AsyncInferenceClient(builder, S3State())
    results = Results(inference, result_timeout)
    names = OutputNames(builder.config.params)
    return lambda row: _wait_for_output(inference, results, names, row)


async def _read_stream(builder: CallBuilder, row: Row) -> InvokeEndpointResponse:
    async with await begin_response_stream(builder, row.arguments, row.turn) as stream:
        body = Redacted(await stream.read())
        return InvokeEndpointResponse(
            body=body.value,
            content_type=stream.content_type,
            invoked_production_variant=stream.invoked_production_variant,
            custom_attributes=stream.custom_attributes,
            new_session_id=None,
            new_session_expires_at=None,
            closed_session_id=None,
            metadata=stream.metadata,
        )


async def _wait_for_output(
    inference: AsyncInferenceClient, results: Results, names: OutputNames, row: Row
) -> AsyncInferenceOutput:
    names.take(row.arguments)
    invocation = await inference.submit(row.arguments, None)
    if invocation.metadata is not None:
        row.attempts = invocation.metadata.attempts
    result = await results.wait(invocation)
    if result.output is not None:
        return result.output
    error = result.error
    assert error is not None  # noqa: S101 - there is one of the two
    error.attempts = error.attempts or row.attempts
    try:
        raise error
    finally:
        del error, result  # or their tracebacks and this frame would keep each other
