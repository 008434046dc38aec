"""How a row is carried out by each of the three operations."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import attrs

from aiosmrt.batch.iterator import Batch
from aiosmrt.batch.rows import Rows
from aiosmrt.batch.run import Bounds, Run
from aiosmrt.calls import CallBuilder, invoke
from aiosmrt.config import RetryPolicy
from aiosmrt.errors import ConfigurationError
from aiosmrt.models import AsyncInferenceOutput, InvokeEndpointResponse
from aiosmrt.service import INVOKE_ENDPOINT, Arguments

__all__ = ["OperationName", "begin"]

OperationName: TypeAlias = Literal[
    "invoke_endpoint", "invoke_endpoint_with_response_stream", "invoke_endpoint_async"
]
"""What `map` can do with each row: the client's methods."""

Response: TypeAlias = InvokeEndpointResponse | AsyncInferenceOutput

# No row is lost to refusals (tests/promises/test_no_row_is_lost.py).
PATIENT = RetryPolicy(max_attempts=30, throttle_base_delay=0.1, quota=None)


def begin(
    builder: CallBuilder,
    inputs: object,
    operation: OperationName,
    max_in_flight: int | Literal["auto"],
    max_failures: float | None,
    *,
    ordered: bool,
) -> Batch[Response]:
    """Carry out `SageMakerRuntimeClient.map`."""
    bounds = Bounds(_check_bound(max_in_flight), _check_failures(max_failures), ordered=ordered)
    if builder.config.retry is None:
        config = attrs.evolve(builder.config, retry=PATIENT)
        builder = builder.derive(config, {"retry": PATIENT})

    async def carry_out(arguments: Arguments) -> Response:
        return await invoke(builder, arguments)

    if operation != "invoke_endpoint":
        raise NotImplementedError(operation)
    return Batch(Run(Rows(inputs), INVOKE_ENDPOINT, carry_out, bounds))


def _check_bound(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"max_in_flight={value!r}: an int of 1 or more, or 'auto'")
    return value


def _check_failures(value: object) -> float | None:
    sound = value is None or (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (0 <= value < math.inf if isinstance(value, int) else 0 <= value < 1)
    )
    if not sound:
        raise ConfigurationError(
            f"max_failures={value!r}: how many rows may fail, an int of 0 or more; or which share "
            "of them, a float below 1.0; or None"
        )
    return value  # type: ignore[return-value] # as has been checked
