"""What each command does, and how it ends."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from aiosmrt.cli.arguments import (
    COMMANDS,
    build_parser,
    find_exposure,
    read_options,
    read_parameters,
)
from aiosmrt.cli.terminal import complain, drop_output, show_log, warn
from aiosmrt.config import Config
from aiosmrt.errors import AiosmrtError, ParameterError

__all__ = ["main"]

_FAILED, _USAGE, _UNWRITTEN = 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, as `aiosmrt.cli.main` does, but for Ctrl-C."""
    # A process may be begun without them, and what is opened next would have their numbers.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: PTH123, SIM115 - until the process ends
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115 - as above
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115 - as above
    # A locale has not all that a model may say, and a file may be written in another.
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
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


def _obey(arguments: Sequence[str] | None) -> int:
    parsed = build_parser().parse_args(arguments)
    # Whoever serves is to see who asks.
    show_log(getattr(parsed, "verbosity", 0) + (parsed.command == "serve"))
    if parsed.command == "serve" and parsed.reload:
        from aiosmrt.cli.reloading import serve_again  # noqa: PLC0415

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
            from aiosmrt.cli.configuration import show_configuration  # noqa: PLC0415

            options: dict[str, Any] = read_options(parsed)
            show_configuration(Config(**options), as_json=parsed.json)
        else:
            return _begin(parsed, parameters)
    except AiosmrtError as error:
        complain(error)
        return _USAGE if isinstance(error, ParameterError) else _FAILED
    return 0


# Each command imports what it needs: what the others do would take its time before this one does
# anything.


def _begin(arguments: argparse.Namespace, parameters: dict[str, Any]) -> int:
    """Do what needs an event loop, or several."""
    if arguments.command == "chat":
        from aiosmrt.cli.chat import chat  # noqa: PLC0415

        return chat(arguments, read_options(arguments))
    if arguments.command == "batch":
        from aiosmrt.cli.batch import batch  # noqa: PLC0415

        return batch(arguments, read_options(arguments), COMMANDS[arguments.operation])
    return asyncio.run(_run(arguments, parameters))


async def _run(arguments: argparse.Namespace, parameters: dict[str, Any]) -> int:
    if arguments.command == "serve":
        from aiosmrt.cli.serve import serve_endpoint  # noqa: PLC0415

        await serve_endpoint(arguments)
    elif arguments.command == "demo":
        from aiosmrt.cli.demo import demonstrate  # noqa: PLC0415

        await demonstrate()
    elif arguments.command == "token":
        from aiosmrt.cli.token import print_token  # noqa: PLC0415

        await print_token(arguments, read_options(arguments))
    else:
        from aiosmrt.cli.call import call  # noqa: PLC0415

        return await call(arguments, parameters)
    return 0
