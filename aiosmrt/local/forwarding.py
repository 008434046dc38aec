"""A real endpoint behind the local one: requests go on to SageMaker, with a client of one's own."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

import attrs

from aiosmrt.errors import (
    AiosmrtError,
    AsyncInferenceError,
    InternalFailure,
    ModelStreamError,
    ServiceError,
)
from aiosmrt.local.answers import Answer, adopt_error, make_model_error, make_service_unavailable
from aiosmrt.local.model import InvocationRequest, ModelResponse
from aiosmrt.service import OPERATIONS

if TYPE_CHECKING:
    from aiosmrt.client import SageMakerRuntimeClient
    from aiosmrt.response_stream import ResponseStream

__all__ = ["Forwarding"]

# What is decided here: the input is read from the local S3 by then, and the output goes there.
_OWN = frozenset(("input_location", "s3_output_path_extension", "filename"))

# A failure file of a model that has answered with a failure.
_FAILURE = re.compile(r'Received \w+ error \((\d{3})\) from [^"]+ with message "(.*)"', re.DOTALL)


@attrs.frozen
class Forwarding:
    """Calls the same operation of a real endpoint, and passes its answer back as it comes."""

    client: SageMakerRuntimeClient

    async def is_ready(self) -> bool:
        """Say whether calls can be taken: that is for SageMaker to say of each."""
        return True

    @contextlib.asynccontextmanager
    async def answer(self, request: InvocationRequest) -> AsyncIterator[Answer]:
        """Call the endpoint; leaving closes the stream.

        Raises:
            ServiceError: as the endpoint; ServiceUnavailable where the model did not run for want
                of it, InternalFailure where the answer was lost, and ModelStreamError where a
                stream was. The parts raise it too.
        """
        names = OPERATIONS[request.operation].parameters.keys() - _OWN
        given: dict[str, Any] = {name: getattr(request, name) for name in names}
        try:
            async with contextlib.AsyncExitStack() as stack:
                if request.operation == "InvokeEndpointWithResponseStream":
                    opening = self.client.invoke_endpoint_with_response_stream(**given)
                    stream = await stack.enter_async_context(opening)
                    parts = _read(stream, request)
                    await stack.enter_async_context(contextlib.aclosing(parts))
                    yield Answer(_read_head(stream), parts)
                elif request.operation == "InvokeEndpointAsync":
                    invocation = await self.client.invoke_endpoint_async(**given)
                    output = await invocation.result()
                    yield Answer(_read_head(output), _give(output.body))
                else:
                    response = await self.client.invoke_endpoint(**given)
                    yield Answer(_read_head(response), _give(response.body))
        except ServiceError as error:
            raise adopt_error(error, request.endpoint_name) from error
        except AsyncInferenceError as error:
            raise _read_failure(error, request.endpoint_name) from error
        except AiosmrtError as error:
            raise _tell_loss(error) from error


def _read_failure(error: AsyncInferenceError, endpoint_name: str) -> ServiceError:
    """Read what a model has answered out of a failure file, whose words these are."""
    said = _FAILURE.fullmatch(error.message)
    status, message = (int(said[1]), said[2]) if said else (500, error.message)
    return make_model_error(endpoint_name, status, message)


def _tell_loss(error: AiosmrtError) -> ServiceError:
    """Say what a caller may do: nothing that ran is to be taken for what did not."""
    if error.may_have_run:
        return InternalFailure(f"The answer of SageMaker was lost: {error}", status=500)
    return make_service_unavailable(f"SageMaker was not reached: {error}")


def _read_head(answer: object) -> ModelResponse:
    names = [field.name for field in attrs.fields(ModelResponse) if field.name != "body"]
    return ModelResponse(b"", **{name: getattr(answer, name, None) for name in names})


async def _give(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _read(stream: ResponseStream, request: InvocationRequest) -> AsyncGenerator[bytes]:
    try:
        async for part in stream:
            yield part.bytes
    except ServiceError:
        raise
    except AiosmrtError as error:
        lost = ModelStreamError(f"The stream from SageMaker was lost: {error}")
        raise adopt_error(lost, request.endpoint_name) from error
