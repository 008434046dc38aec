"""`aiosmrt invoke`, `stream`, `invoke-async` and `result`: calls, and what is printed of them."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

from aiosmrt.async_inference import AsyncInferenceResult, AsyncInvocation
from aiosmrt.cli.arguments import read_options
from aiosmrt.cli.records import (
    describe,
    describe_body,
    describe_metadata,
    write_head,
    write_line,
    write_metadata,
)
from aiosmrt.cli.terminal import Output, complain, warn
from aiosmrt.cli.views import read_view
from aiosmrt.cli.waiting import wait_for_output
from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.models import InvokeEndpointResponse
from aiosmrt.plain_text import to_line
from aiosmrt.response_stream import ResponseStream

__all__ = ["call"]

_FAILED = 1


async def call(arguments: argparse.Namespace, parameters: dict[str, Any]) -> int:
    """Make the call, print what comes of it, and give the exit status."""
    # The parser has made sure of names and types; TypedDicts cannot be built from it.
    options: dict[str, Any] = read_options(arguments)
    output = Output()
    try:
        return await _print_call(arguments, parameters, options, output)
    finally:
        output.end()


async def _print_call(
    arguments: argparse.Namespace,
    parameters: dict[str, Any],
    options: dict[str, Any],
    output: Output,
) -> int:
    async with SageMakerRuntimeClient(**options) as client:
        if arguments.command == "invoke":
            response = await client.invoke_endpoint(**parameters)
            _print_response(response, arguments, output)
        elif arguments.command == "stream":
            async with client.invoke_endpoint_with_response_stream(**parameters) as stream:
                await _print_stream(stream, arguments, output)
        elif arguments.command == "result":
            saved = [client.resume_async_invocation(text) for text in parameters["saved"]]
            if arguments.json or len(saved) != 1:
                return await _print_results(client.wait_for_results(saved, arguments.wait), output)
            output.write(await wait_for_output(saved[0], arguments.wait))
        else:
            invocation = await client.invoke_endpoint_async(**parameters)
            _print_invocation(invocation, arguments, output)
            if arguments.wait is not None and arguments.json:
                results = client.wait_for_results([invocation], arguments.wait)
                return await _print_results(results, output)
            if arguments.wait is not None:
                output.write(await wait_for_output(invocation, arguments.wait))
    return 0


async def _print_stream(
    stream: ResponseStream, arguments: argparse.Namespace, output: Output
) -> None:
    if arguments.json:
        body = describe_body(await stream.read())
        output.write(write_line({**body, **describe(stream)}))
        return
    if arguments.include:
        output.write(write_head(stream))
    async for piece in read_view(stream, arguments.view):
        output.write(piece)


def _print_invocation(
    invocation: AsyncInvocation, arguments: argparse.Namespace, output: Output
) -> None:
    """Print what is known before the output is there; the rest is printed with it."""
    if arguments.include and invocation.metadata is not None:
        output.write(write_metadata(invocation.metadata))
    if arguments.wait is None:
        record = json.loads(invocation.to_json())
        if arguments.json and invocation.metadata is not None:
            record["metadata"] = describe_metadata(invocation.metadata)
        output.write(write_line(record))


def _print_response(
    response: InvokeEndpointResponse, arguments: argparse.Namespace, output: Output
) -> None:
    if arguments.json:
        output.write(write_line({**describe_body(response.body), **describe(response)}))
        return
    if arguments.include:
        output.write(write_head(response))
    elif response.new_session_id is not None:
        # Without it the session, which was opened, could not be used.
        warn(f"for the next call of this session: --session-id {to_line(response.new_session_id)}")
    output.write(response.body)


async def _print_results(results: AsyncGenerator[AsyncInferenceResult], output: Output) -> int:
    """Print a line for each, as they are complete; 1 where one has failed."""
    status = 0
    async with contextlib.aclosing(results):
        async for result in results:
            record = json.loads(result.invocation.to_json())
            if result.output is not None:
                record |= describe_body(result.output.body)
                record["content_type"] = result.output.content_type
                record["metadata"] = describe_metadata(result.output.metadata)
            if result.error is not None:
                status = _FAILED
                record["error"] = {
                    "type": type(result.error).__name__,
                    "message": str(result.error),
                }
                complain(result.error)
            output.write(write_line(record))
    return status
