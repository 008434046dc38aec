"""The limits that the service sets to a model, for tests that want to meet them here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs

from aiosmrt.errors import ModelStreamError, ServiceError
from aiosmrt.local.answers import Answer, adopt_error, encode_value, make_model_error
from aiosmrt.local.model import InvocationRequest

__all__ = ["Backend", "LimitedBackend", "ServiceLimits"]

_STREAMS = "InvokeEndpointWithResponseStream"
_TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the "
    "latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
)


@attrs.frozen
class ServiceLimits:
    """What a model may take, and give.

    Args:
        seconds: seconds for a whole answer to InvokeEndpoint ("InvokeEndpoint", API reference: 60).
        stream_seconds: seconds of a stream, from the request to its end (the developer guide: 8
            minutes).
        body_bytes: bytes of a whole answer (the service model's BodyBlob: 6,291,456).
    """

    seconds: float = 60.0
    stream_seconds: float = 480.0
    body_bytes: int = 6_291_456


class Backend(Protocol):
    """What stands behind the endpoint."""

    async def is_ready(self) -> bool:
        """Say whether calls can be taken."""

    def answer(self, request: InvocationRequest) -> AbstractAsyncContextManager[Answer]:
        """Call the model."""


@attrs.frozen
class LimitedBackend:
    """Ends what takes longer, or gives more, than the service allows."""

    backend: Backend
    limits: ServiceLimits

    async def is_ready(self) -> bool:
        """Say whether calls can be taken."""
        return await self.backend.is_ready()

    @contextlib.asynccontextmanager
    async def answer(self, request: InvocationRequest) -> AsyncIterator[Answer]:
        """Call the model; queued invocations have limits of their own.

        Raises:
            ServiceError: as the model, or that it was over a limit; the parts raise it too.
        """
        async with contextlib.AsyncExitStack() as stack:
            if request.operation == "InvokeEndpointAsync":
                yield await stack.enter_async_context(self.backend.answer(request))
                return
            streams = request.operation == _STREAMS
            limit = self.limits.stream_seconds if streams else self.limits.seconds
            deadline = asyncio.get_running_loop().time() + limit
            try:
                async with asyncio.timeout_at(deadline):
                    answer = await stack.enter_async_context(self.backend.answer(request))
            except TimeoutError:
                raise make_model_error(request.endpoint_name, 0, _TIMED_OUT) from None
            parts = self._limit(request, answer.parts, deadline)
            async with contextlib.aclosing(parts):
                yield attrs.evolve(answer, parts=parts)

    async def _limit(
        self, request: InvocationRequest, parts: AsyncIterator[bytes | str], deadline: float
    ) -> AsyncGenerator[bytes | str]:
        size = 0
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    part = await anext(parts, None)
            except TimeoutError:
                raise _time_out(request) from None
            if part is None:
                return
            size += len(encode_value(part))
            if request.operation != _STREAMS and size > self.limits.body_bytes:
                raise make_model_error(
                    request.endpoint_name,
                    0,
                    f"The model's response is longer than {self.limits.body_bytes} bytes.",
                )
            yield part


def _time_out(request: InvocationRequest) -> ServiceError:
    if request.operation != _STREAMS:
        return make_model_error(request.endpoint_name, 0, _TIMED_OUT)
    error = ModelStreamError(
        "The model did not finish sending the response within the time that it is given."
    )
    error.error_code = "ModelInvocationTimeExceeded"
    return adopt_error(error, request.endpoint_name)
