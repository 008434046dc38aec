"""The arguments of `aiosmrt batch`, and what they come to."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Final, Literal

from aiosmrt.errors import ParameterError
from aiosmrt.service import Operation, check_names, find_problems, spell

__all__ = [
    "FORMATS",
    "VIEWS",
    "add_batch",
    "choose_bound",
    "find_longest_wait",
    "fix_parameters",
]

# Those of `aiosmrt.batch`, which only this command is to import.
FORMATS: Final = ("jsonl", "csv", "parquet", "arrow", "paths", "folder")
VIEWS: Final = ("json", "text", "raw", "chat")

_IN_FLIGHT: Final = 32
_QUEUED: Final = 1000  # which costs listings alone, and no connection
_SHAPES: Final = ("openai-chat", "openai-completion", "tgi", "lmi")
_RETRIED: Final = ("not-run", "all")
_ELSEWHERE: Final = ("body", "endpoint_name", "headers", "input_location", "json", "timeout")
_OUTPUTS: Final = ("filename", "inference_id")  # after either of which an output is called
# Seconds, where nothing else is asked for (the service model's words on the two).
_SERVICE_WAITS: Final = {"request_ttl_seconds": 21_600, "invocation_timeout_seconds": 900}
_SLACK: Final = 60  # seconds from the end of the work to what S3 shows


def add_batch(parser: argparse.ArgumentParser, operations: dict[str, Operation]) -> None:
    """Add what only this command has.

    Args:
        parser: of the command.
        operations: by the names of the commands that carry one out.
    """
    parser.add_argument("--endpoint-name", metavar="NAME", required=True, help="the endpoint")
    parser.add_argument(
        "--input",
        metavar="FILE",
        required=True,
        help="the rows: a file, a folder whose files are bodies, s3://BUCKET/KEY, or - for "
        "standard input",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        required=True,
        help="a new file for a line of JSON per row; s3://BUCKET/KEY, up to 5 GB; - for standard "
        "output",
    )
    parser.add_argument(
        "--input-format",
        metavar="FORMAT",
        choices=FORMATS,
        help=f"{', '.join(FORMATS)}; by default as the input's name says, else jsonl",
    )
    parser.add_argument(
        "--body-path",
        metavar="EXPR",
        help="JMESPath: what of a row is the body (default: all of it); a string as it is, all "
        "else as JSON",
    )
    parser.add_argument(
        "--key-path", metavar="EXPR", help="JMESPath: what of a row is its key (default: its index)"
    )
    parser.add_argument(
        "--operation",
        type=lambda text: _choose_operation(text, operations),
        default="invoke",
        metavar="COMMAND",
        help=f"what is done with a row: {', '.join(operations)} (default: invoke)",
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of every call, such as accept=text/csv; may be repeated",
    )
    parser.add_argument(
        "--view",
        type=_view,
        metavar="VIEW",
        help="how a response stands in its line: json, text, raw (base64), chat (the message; "
        "chat:SHAPE for tgi, lmi); by default as its content type says",
    )
    parser.add_argument(
        "--max-in-flight",
        type=_bound,
        metavar="N",
        help="rows under way at a time (default: 32, of invoke-async 1000); auto finds out how "
        "many the endpoint takes",
    )
    parser.add_argument(
        "--max-failures",
        type=_share,
        metavar="N",
        help="rows that may fail before the run stops, or such as 5%% of them (default: any)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on where an earlier run was stopped; begin where there was none",
    )
    parser.add_argument(
        "--retry-failed",
        nargs="?",
        choices=_RETRIED,
        const="not-run",
        metavar="WHICH",
        help="go on, and send rows again that failed: not-run (the default), for which no model "
        "has run, or all",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write a page of HTML with times, errors and pace; - for standard output",
    )


def _view(text: str) -> str:
    name, colon, shape = text.partition(":")
    if name not in VIEWS or (colon and (name != "chat" or shape not in _SHAPES)):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(VIEWS)}, chat:SHAPE")
    return text


def _choose_operation(text: str, operations: dict[str, Operation]) -> str:
    for name, operation in operations.items():
        if text in (name, spell(operation.name)):
            return name
    raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(operations)}")


def _bound(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if text.isascii() and text.isdigit() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a whole number of 1 or more")


def _share(text: str) -> float:
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            if 0 <= share < 1:
                return share
        elif text.isascii() and text.isdigit():
            return int(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no number of rows, nor percent below 100%")


def choose_bound(arguments: argparse.Namespace) -> int | Literal["auto"]:
    """Give how many rows may be under way.

    Raises:
        ParameterError: it cannot be found out.
    """
    queues = arguments.operation == "invoke-async"
    given: int | Literal["auto"] | None = arguments.max_in_flight
    if given == "auto" and queues:
        raise ParameterError(
            "--max-in-flight auto: an asynchronous endpoint has a queue, and neither refuses nor "
            "slows down what waits there; give a number"
        )
    return given or (_QUEUED if queues else _IN_FLIGHT)


def fix_parameters(arguments: argparse.Namespace, operation: Operation) -> dict[str, object]:
    """Give the parameters that every call has.

    Raises:
        ParameterError: one does not exist, or is not what it is to be.
    """
    fixed: dict[str, object] = {"endpoint_name": arguments.endpoint_name}
    for text in arguments.param:
        name, equals, value = text.partition("=")
        if not equals:
            raise ParameterError(f"--param {text}: write it as NAME=VALUE")
        name = name.replace("-", "_")
        if name in _ELSEWHERE:
            raise ParameterError(f"--param {name}: it has another place than this one")
        if name in _OUTPUTS and "filename" in operation.parameters:
            raise ParameterError(f"--param {name}: the outputs of all rows would be one file")
        try:
            check_names(operation, {name})
        except TypeError as error:
            raise ParameterError(f"--param {name}: {error}") from None
        fixed[name] = value
        if operation.parameters[name].shape.kind == "integer":
            try:
                fixed[name] = int(value)
            except ValueError:
                raise ParameterError(f"--param {name}: {value!r} is no whole number") from None
    problems = find_problems(operation, fixed)
    if problems:
        raise ParameterError(f"no row can be sent: {'; '.join(problems)}")
    return fixed


def find_longest_wait(fixed: Mapping[str, object]) -> float:
    """Give for how long an asynchronous invocation can be on its way, in seconds.

    As long as the service keeps it in the queue, and lets a model work on it.
    """
    queued, worked = (
        value if isinstance(value := fixed.get(name), int) else default
        for name, default in _SERVICE_WAITS.items()
    )
    return queued + worked + _SLACK
