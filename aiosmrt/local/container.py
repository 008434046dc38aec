"""A running model container behind the endpoint: `GET /ping`, `POST /invocations`.

The contract is that of "Use Your Own Inference Code with Hosting Services" in the SageMaker
developer guide.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncGenerator, AsyncIterator

import aiohttp
import attrs

from aiosmrt.local.answers import Answer, make_model_error, make_service_unavailable
from aiosmrt.local.model import InvocationRequest, ModelResponse
from aiosmrt.service import INVOKE_ENDPOINT

__all__ = ["Container", "open_session"]

_OK = range(200, 300)


def open_session() -> aiohttp.ClientSession:
    """Give the session that a `Container` needs; the caller closes it."""
    return aiohttp.ClientSession(
        # A connection per call: a kept one that the container has just closed would make a
        # failure of ours look like one of the model.
        connector=aiohttp.TCPConnector(force_close=True, limit=0),
        # A container may think for as long as it likes; the caller has limits of its own.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        auto_decompress=False,
    )


@attrs.frozen
class Container:
    """Passes requests on to a container, and its answer back as it comes."""

    url: str  # without a slash at its end
    session: aiohttp.ClientSession

    async def is_ready(self) -> bool:
        """Say whether the container answers its `/ping` with 200."""
        try:
            async with self.session.get(f"{self.url}/ping") as response:
                return response.status in _OK
        except aiohttp.ClientError:
            return False

    @contextlib.asynccontextmanager
    async def answer(self, request: InvocationRequest) -> AsyncIterator[Answer]:
        """Call the container; leaving closes the connection to it.

        Raises:
            ServiceUnavailable: no connection to the container.
            ModelError: it answered with an error, or died; the parts raise it too.
        """
        try:
            response = await self.session.post(
                f"{self.url}{request.path}",
                # aiohttp warns about large bytes; a file in memory is written piece by piece.
                data=io.BytesIO(request.body),
                headers=_write_headers(request),
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise make_service_unavailable(
                f"No connection to the model container at {self.url}: {error}"
            ) from error
        except aiohttp.ClientError as error:
            raise make_model_error(request.endpoint_name, 0, _describe(error)) from error
        try:
            async with contextlib.aclosing(_receive(request, response)) as parts:
                if response.status not in _OK:
                    said = b"".join([part async for part in parts]).decode("utf-8", "replace")
                    raise make_model_error(request.endpoint_name, response.status, said)
                yield Answer(_read_head(request, response), parts)
        finally:
            response.close()


async def _receive(
    request: InvocationRequest, response: aiohttp.ClientResponse
) -> AsyncGenerator[bytes]:
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except aiohttp.ClientError as error:
        raise make_model_error(request.endpoint_name, 0, _describe(error)) from error


def _describe(error: aiohttp.ClientError) -> str:
    said = str(error) or type(error).__name__
    return f"The model container closed the connection before its answer was whole: {said}"


def _write_headers(request: InvocationRequest) -> dict[str, str]:
    headers = {}
    # A container knows one operation; the others only rename headers on their way to the service.
    for member in INVOKE_ENDPOINT.request:
        value = getattr(request, member.parameter)
        if member.header is not None and value is not None:
            headers[member.header] = str(value)
    return headers


def _read_head(request: InvocationRequest, response: aiohttp.ClientResponse) -> ModelResponse:
    prefix = "X-Amzn-SageMaker"
    new_session_id = response.headers.get(f"{prefix}-New-Session-Id")
    if new_session_id is None and request.session_id == "NEW_SESSION":
        # So the developer guide has it, "Stateful sessions"; containers do either.
        new_session_id = response.headers.get(f"{prefix}-Session-Id")
    return ModelResponse(
        b"",
        content_type=response.headers.get("Content-Type"),
        custom_attributes=response.headers.get(f"{prefix}-Custom-Attributes"),
        new_session_id=new_session_id,
        closed_session_id=response.headers.get(f"{prefix}-Closed-Session-Id"),
    )
