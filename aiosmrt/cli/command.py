"""What each command does, and how it ends."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import ssl
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from aiosmrt.async_inference import AsyncInferenceResult, AsyncInvocation
from aiosmrt.cli.arguments import (
    COMMANDS,
    build_parser,
    find_exposure,
    read_options,
    read_parameters,
)
from aiosmrt.cli.chat import chat
from aiosmrt.cli.configuration import show_configuration
from aiosmrt.cli.demo import demonstrate
from aiosmrt.cli.records import (
    describe,
    describe_body,
    describe_metadata,
    write_head,
    write_line,
    write_metadata,
)
from aiosmrt.cli.reloading import serve_again
from aiosmrt.cli.terminal import Output, complain, drop_output, show_log, warn
from aiosmrt.cli.token import print_token
from aiosmrt.cli.views import read_view
from aiosmrt.cli.waiting import wait_for_output
from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.config import Config
from aiosmrt.errors import AiosmrtError, ParameterError
from aiosmrt.local import ServiceLimits, load_certificate, load_model, make_certificate, serve
from aiosmrt.models import InvokeEndpointResponse
from aiosmrt.plain_text import to_line
from aiosmrt.response_stream import ResponseStream

__all__ = ["main"]

_FAILED, _USAGE, _UNWRITTEN, _INTERRUPTED = 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the program's name; by default the process's own.

    Returns:
        The exit status: 0, 1 when the call failed (one line on standard error says why and what
        to do), 2 for wrong usage, 3 when standard output could not be written.
    """
    try:
        try:
            return _obey(arguments)
        finally:
            sys.stdout.flush()  # here, where a full disk can still be told of
    except BrokenPipeError:
        # Whoever read the output has gone.
        drop_output()
        return 0
    except OSError as error:
        drop_output()
        complain(OSError(f"standard output could not be written: {error.strerror or error}"))
        return _UNWRITTEN
    except KeyboardInterrupt:
        return _INTERRUPTED


def _obey(arguments: Sequence[str] | None) -> int:
    parsed = build_parser().parse_args(arguments)
    # Whoever serves is to see who asks.
    show_log(getattr(parsed, "verbosity", 0) + (parsed.command == "serve"))
    if parsed.command == "serve" and parsed.reload:
        words = sys.argv[1:] if arguments is None else arguments
        return serve_again(words, [parsed.script] if parsed.script else [])
    exposed = find_exposure(parsed)
    if exposed:
        warn(exposed)
    try:
        # Files and standard input are read before there is a loop that they could block.
        calls = parsed.command in COMMANDS or parsed.command == "result"
        parameters = read_parameters(parsed) if calls else {}
    except OSError as error:
        complain(error)
        return _USAGE
    try:
        if parsed.command == "config":
            options: dict[str, Any] = read_options(parsed)
            show_configuration(Config(**options), as_json=parsed.json)
        else:
            return _begin(parsed, parameters)
    except AiosmrtError as error:
        complain(error)
        return _USAGE if isinstance(error, ParameterError) else _FAILED
    return 0


def _begin(arguments: argparse.Namespace, parameters: dict[str, Any]) -> int:
    """Do what needs an event loop, or several."""
    if arguments.command == "chat":
        return chat(arguments, read_options(arguments))
    if arguments.command == "batch":
        from aiosmrt.cli.batch import batch  # noqa: PLC0415 - start-up time

        return batch(arguments, read_options(arguments), COMMANDS[arguments.operation])
    return asyncio.run(_run(arguments, parameters))


async def _run(arguments: argparse.Namespace, parameters: dict[str, Any]) -> int:
    if arguments.command == "serve":
        await _serve(arguments)
    elif arguments.command == "demo":
        await demonstrate()
    elif arguments.command == "token":
        await print_token(arguments, read_options(arguments))
    else:
        return await _call(arguments, parameters)
    return 0


async def _serve(arguments: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        await _serve_with(arguments, _find_tls(arguments, stack))


def _find_tls(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> ssl.SSLContext | None:
    if arguments.tls_cert is not None:
        return load_certificate(arguments.tls_cert, arguments.tls_key)
    if not arguments.tls:
        return None
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiosmrt-")))
    context, bundle = make_certificate(arguments.host, folder)
    sys.stderr.write(f"AWS_CA_BUNDLE={bundle}\n")
    sys.stderr.flush()
    return context


async def _serve_with(arguments: argparse.Namespace, tls: ssl.SSLContext | None) -> None:
    async with contextlib.AsyncExitStack() as stack:
        upstream: str | SageMakerRuntimeClient | None = arguments.upstream
        if arguments.forward:
            upstream = await stack.enter_async_context(SageMakerRuntimeClient())
        await _serve_behind(arguments, tls, upstream)


async def _serve_behind(
    arguments: argparse.Namespace,
    tls: ssl.SSLContext | None,
    upstream: str | SageMakerRuntimeClient | None,
) -> None:
    await serve(
        load_model(arguments.model) if arguments.model else None,
        upstream=upstream,
        script=arguments.script,
        record=arguments.record,
        host=arguments.host,
        port=arguments.port,
        auth=arguments.auth,
        region_name=arguments.region_name,
        access_key_id=arguments.access_key_id,
        secret_access_key=arguments.secret_access_key,
        s3_endpoint_url=arguments.s3_endpoint_url,
        service_limits=ServiceLimits() if arguments.service_limits else None,
        tls=tls,
    )


async def _call(arguments: argparse.Namespace, parameters: dict[str, Any]) -> int:
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
