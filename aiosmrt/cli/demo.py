"""The main job on real input: all three operations against a local endpoint."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

from aiosmrt.local import InvocationRequest, LocalEndpoint
from aiosmrt.models import ResponseMetadata

__all__ = ["demonstrate"]

_TEXT = "A stream ends only when its end is proven; every frame below was checked twice. ✓"


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
    rows: list[tuple[str, ResponseMetadata, str, str]] = []
    async with LocalEndpoint(_recite) as endpoint, endpoint.client() as client:
        _print(f"A local SageMaker Runtime endpoint answers at {endpoint.url}\n")

        body = b'{"instances": [[1, 2, 3]]}'
        response = await client.invoke_endpoint(
            endpoint_name="demo", body=body, content_type="application/json"
        )
        _print(f"invoke_endpoint        {body.decode()} -> {response.text()}")
        rows.append(("InvokeEndpoint", response.metadata, "-", "-"))

        invocation = await client.invoke_endpoint_async(
            endpoint_name="demo", body=body, content_type="application/json"
        )
        output = await invocation.result(timeout=30)
        _print(f"invoke_endpoint_async  {invocation.output_location} -> {output.body.decode()}")
        if invocation.metadata is not None:
            rows.append(("InvokeEndpointAsync", invocation.metadata, "-", "-"))

        _print("invoke_endpoint_with_response_stream:", end="\n  ")
        async with client.invoke_endpoint_with_response_stream(
            endpoint_name="demo", body=_TEXT
        ) as stream:
            async for part in stream:
                _print(part.bytes.decode(), end="")
        _print("\n")
        rows.append(
            (
                "InvokeEndpointWithResponseStream",
                stream.metadata,
                str(stream.parts_received),
                str(stream.bytes_received),
            )
        )
    _print_table(rows)


def _print_table(rows: list[tuple[str, ResponseMetadata, str, str]]) -> None:
    table = [("operation", "request id", "attempts", "first byte", "parts", "bytes verified")]
    table += [
        (
            operation,
            metadata.request_id or "-",
            str(len(metadata.attempts)),
            f"{metadata.time_to_first_byte * 1000:.1f} ms",
            parts,
            verified,
        )
        for operation, metadata, parts, verified in rows
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        _print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)))


def _print(text: str, end: str = "\n") -> None:
    sys.stdout.write(text.rstrip(" ") + end if end == "\n" else text + end)
    sys.stdout.flush()
