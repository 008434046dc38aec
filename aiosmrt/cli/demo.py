"""The main job on real input: all three operations against a local endpoint."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

from aiosmrt.local import InvocationRequest, LocalEndpoint
from aiosmrt.models import ResponseMetadata

__all__ = ["demonstrate"]

_TEXT = "A stream ends only when its end is proven;\n  every frame of it was checked twice. ✓"


async def _recite(request: InvocationRequest) -> object:
    """Answer at once, or stream word by word as a language model does."""
    if request.operation != "InvokeEndpointWithResponseStream":
        return {"predictions": [sum(json.loads(request.body)["instances"][0])]}
    return _stream(request.body)


async def _stream(text: bytes) -> AsyncIterator[bytes]:
    for word in text.split(b" "):
        await asyncio.sleep(0.05)
        yield word + b" "


async def demonstrate() -> None:
    """Run the three operations through a real client and real sockets, and tell how they went."""
    body = b'{"instances": [[1, 2, 3]]}'
    async with LocalEndpoint(_recite) as endpoint, endpoint.client() as client:
        _print(f"A local endpoint: {endpoint.url}")

        _print(f"\nInvokeEndpoint\n  {body.decode()}")
        response = await client.invoke_endpoint(
            endpoint_name="demo", body=body, content_type="application/json"
        )
        _print(f"  {response.text()}")
        _tell(response.metadata)

        _print(f"\nInvokeEndpointAsync\n  {body.decode()}")
        invocation = await client.invoke_endpoint_async(
            endpoint_name="demo", body=body, content_type="application/json"
        )
        output = await invocation.result(timeout=30)
        _print(f"  {output.body.decode()}")
        if invocation.metadata is not None:
            _tell(invocation.metadata)
        # What cannot be broken is last, however narrow the terminal is.
        _print(f"  {invocation.output_location}")

        _print("\nInvokeEndpointWithResponseStream\n  ", end="")
        async with client.invoke_endpoint_with_response_stream(
            endpoint_name="demo", body=_TEXT
        ) as stream:
            async for part in stream:
                _print(part.bytes.decode(), end="")
        _print("")
        _print(f"  {stream.parts_received} parts, {stream.bytes_received} bytes verified")
        _tell(stream.metadata)


def _tell(metadata: ResponseMetadata) -> None:
    attempts = len(metadata.attempts)
    _print(f"  request {metadata.request_id}")
    _print(
        f"  {attempts} attempt{'s' if attempts > 1 else ''}, "
        f"first byte {metadata.time_to_first_byte * 1000:.1f} ms"
    )


def _print(text: str, end: str = "\n") -> None:
    sys.stdout.write(text.rstrip(" ") + end if end == "\n" else text + end)
    sys.stdout.flush()
