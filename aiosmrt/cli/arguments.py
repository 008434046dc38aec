"""The command line: what can be said, and what of it goes where."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs

from aiosmrt.cli.batch_arguments import add_batch
from aiosmrt.cli.members import MEMBERS
from aiosmrt.config import UNSIGNED, Config
from aiosmrt.plain_text import to_line
from aiosmrt.service import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_ASYNC,
    INVOKE_ENDPOINT_WITH_RESPONSE_STREAM,
    Operation,
)
from aiosmrt.settings import build_policy, find_settings, is_loopback
from aiosmrt.value import JSONValue

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

__all__ = ["COMMANDS", "VIEWS", "build_parser", "find_exposure", "read_options", "read_parameters"]

COMMANDS: dict[str, Operation] = {
    "invoke": INVOKE_ENDPOINT,
    "stream": INVOKE_ENDPOINT_WITH_RESPONSE_STREAM,
    "invoke-async": INVOKE_ENDPOINT_ASYNC,
}
_HELP = {
    "invoke": "invoke a model and print its answer",
    "stream": "invoke a model that streams and print the parts as they come",
    "invoke-async": "queue a request and print where its output will be",
}
VIEWS = ("text", "lines", "json", "sse", "tokens")
_VIEW_HELP = (
    "text, lines, json (a document per line), sse (an event per line, as JSON), or tokens:PATH, "
    "where PATH is openai-chat (the default), openai-completion, tgi, lmi or a JMESPath "
    "expression; without it the bytes as they come"
)
_JSON_HELP = "print one line of JSON with the answer, its members and its figures"
_WAIT = 900.0  # seconds, as AsyncInvocation.result has it


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        # argparse passes over what cannot be written.
        (file or sys.stderr).write(message)


class _PrintCompletion(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,  # noqa: ARG002 - argparse passes it
        values: object,
        option_string: str | None = None,  # noqa: ARG002 - argparse passes it
    ) -> None:
        try:
            shtab = importlib.import_module("shtab")
        except ModuleNotFoundError:
            parser.error("completion is made by shtab: pip install 'aiosmrt[completion]'")
        sys.stdout.write(shtab.complete(parser, shell=values) + "\n")
        parser.exit()


class _PrintVersion(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,  # noqa: ARG002 - argparse passes it
        values: object,  # noqa: ARG002 - there are none
        option_string: str | None = None,  # noqa: ARG002 - argparse passes it
    ) -> None:
        installation = importlib.import_module("aiosmrt.cli.installation")
        sys.stdout.write(f"{installation.describe_installation()}\n")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command."""
    parser = _Parser(
        prog="aiosmrt",
        description="Talk to Amazon SageMaker Runtime endpoints, or be one.",
        epilog="Exit status: 0, 1 when the call failed, 2 for wrong usage, 3 when the "
        "output could not be written, 130 after Ctrl-C.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version",
        action=_PrintVersion,
        nargs=0,
        help="print the versions that a report of a fault needs, and exit",
    )
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh"),
        metavar="SHELL",
        help="print what makes bash or zsh complete this command; needs aiosmrt[completion]",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, operation in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=_HELP[name],
            usage=f"aiosmrt {name} [...]\n         --endpoint-name NAME",  # 20 flags are read below
            allow_abbrev=False,
        )
        _add_operation(command, operation)
        shown = command.add_mutually_exclusive_group()
        command.add_argument(
            "-i",
            "--include",
            action="store_true",
            help="print the answer's members and figures before it",
        )
        shown.add_argument("--json", action="store_true", help=_JSON_HELP)
        if name == "stream":
            shown.add_argument("--as", dest="view", metavar="VIEW", type=_view, help=_VIEW_HELP)
        if name == "invoke-async":
            command.add_argument(
                "--wait",
                metavar="SECONDS",
                nargs="?",
                type=float,
                const=_WAIT,
                help="wait for the output (by default 900 s) and print it",
            )
    _add_result(
        commands.add_parser(
            "result",
            help="wait for the output of an earlier invoke-async",
            usage="aiosmrt result [...] JSON",
            allow_abbrev=False,
        )
    )
    _add_chat(
        commands.add_parser(
            "chat", usage="aiosmrt chat [...]", help="talk to a chat model", allow_abbrev=False
        )
    )
    _add_serve(
        commands.add_parser(
            "serve", usage="aiosmrt serve [...]", help="run a local endpoint", allow_abbrev=False
        )
    )
    _add_token(
        commands.add_parser(
            "token",
            usage="aiosmrt token [...]",
            help="print a bearer token for SageMaker's OpenAI-compatible route",
            allow_abbrev=False,
        )
    )
    batch = commands.add_parser(
        "batch",
        usage="aiosmrt batch [...]\n         --endpoint-name NAME --input FILE --output FILE",
        help="send the rows of a file, and go on where a run was stopped",
        epilog="Exit status: 0, 1 when rows failed or the run was given up, 2 for wrong usage or "
        "input, 3 when the output could not be written, 130 when the run was stopped.",
        allow_abbrev=False,
    )
    add_batch(batch, COMMANDS)
    _add_options(batch)
    config = commands.add_parser(
        "config",
        help="show what a client would work with, and where each value comes from",
        usage="aiosmrt config [...]",
        allow_abbrev=False,
    )
    config.add_argument("--json", action="store_true", help="print one JSON object")
    _add_options(config)
    commands.add_parser(
        "demo", help="run all three operations against a local endpoint", allow_abbrev=False
    )
    return parser


def _view(text: str) -> str:
    name, colon, _ = text.partition(":")
    if name not in VIEWS or (colon and name != "tokens"):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(VIEWS)}, tokens:PATH")
    return text


def _tools(text: str) -> list[JSONValue]:
    try:
        tools = json.loads(_read(text))
    except (OSError, ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(to_line(str(error))) from error
    if not isinstance(tools, list):
        raise argparse.ArgumentTypeError("not an array of tools")
    return tools


def _add_chat(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--endpoint-name", metavar="NAME", help="an endpoint that speaks OpenAI's chat shape"
    )
    where.add_argument("--local", action="store_true", help="talk to a built-in model")
    parser.add_argument("--system", metavar="TEXT", help="what the model is told first")
    parser.add_argument("--model", metavar="NAME", help="the model, where the endpoint has several")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="of each answer")
    parser.add_argument("--temperature", type=float, metavar="T")
    parser.add_argument(
        "--tools",
        metavar="JSON",
        type=_tools,
        help="what the model may call, an array as OpenAI has it: the text, or @PATH",
    )
    parser.add_argument(
        "--session",
        action="store_true",
        help="keep a stateful session, as AWS's containers open and close one",
    )
    parser.add_argument(
        "--no-usage",
        dest="usage",
        action="store_false",
        help="ask for no count of tokens, which older servers refuse",
    )
    parser.add_argument("--stats", action="store_true", help="tell how fast each answer came")
    _add_options(parser)


def _add_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--expires-in",
        type=int,
        default=900,
        metavar="SECONDS",
        help="how long it lives, 1 to 43200 (default: %(default)s), if its credentials do",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one line of JSON: token, expires_at, region, and base_url of --endpoint-name",
    )
    parser.add_argument(
        "--endpoint-name", metavar="NAME", help="of base_url; a token is for all of a region"
    )
    parser.add_argument("--inference-component-name", metavar="NAME", help="of base_url")
    _add_options(parser)


def _add_result(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "invocation",
        metavar="JSON",
        help="what invoke-async printed: the text, @PATH, or -; of many, a line of JSON for each "
        "is printed as they are complete",
    )
    parser.add_argument("--json", action="store_true", help=_JSON_HELP)
    parser.add_argument("--wait", metavar="SECONDS", type=float, default=_WAIT)
    _add_options(parser)


def _add_operation(parser: argparse.ArgumentParser, operation: Operation) -> None:
    for member in operation.request:
        metavar, words = MEMBERS.get(member.parameter, ("VALUE", member.name))
        parser.add_argument(
            "--" + member.parameter.replace("_", "-"),
            metavar=metavar,
            required=member.location == "uri",
            type=int if member.shape.kind == "integer" else str,
            help=words,
        )
    _add_options(parser)


def _add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where to, and how")
    group.add_argument(
        "--endpoint-url", metavar="URL", help="the service's URL, for instance a local one"
    )
    group.add_argument(
        "--s3-endpoint-url", metavar="URL", help="where asynchronous outputs are, if not in S3"
    )
    group.add_argument("--region", dest="region_name", metavar="NAME", help="the AWS region")
    group.add_argument(
        "--profile", dest="profile_name", metavar="NAME", help="the profile of the shared files"
    )
    group.add_argument("--timeout", type=float, metavar="SECONDS", help="for the whole call")
    group.add_argument("--access-key-id", dest="aws_access_key_id", metavar="ID")
    group.add_argument("--secret-access-key", dest="aws_secret_access_key", metavar="KEY")
    group.add_argument("--no-sign", action="store_true", help="send no signature")
    group.add_argument(
        "--allow-http",
        action="store_true",
        help="send signed requests to an http:// URL of another machine, too",
    )
    group.add_argument(
        "--retry-mode",
        choices=("standard", "adaptive", "off"),
        metavar="MODE",
        help="how to attempt again what failed: standard, adaptive or off",
    )
    group.add_argument(
        "--max-attempts", type=int, metavar="N", help="of a call, the first one included"
    )
    _add_verbosity(group)


def _add_verbosity(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "-v",
        "--verbose",
        dest="verbosity",
        action="count",
        default=0,
        help="log what happens on standard error, twice (-vv) every attempt",
    )


def _add_serve(parser: argparse.ArgumentParser) -> None:
    _add_verbosity(parser)
    parser.add_argument(
        "--host", metavar="NAME", default="127.0.0.1", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, metavar="N", default=0, help="0, the default, picks a free one"
    )
    parser.add_argument("--no-auth", dest="auth", action="store_false", help="check no signature")
    parser.add_argument(
        "--region",
        dest="region_name",
        metavar="NAME",
        help="take no signature or token of another region than this one",
    )
    behind = parser.add_mutually_exclusive_group()
    behind.add_argument(
        "--model",
        metavar="MODULE:NAME",
        help="a Python function, package.module:function; without it a built-in model answers",
    )
    behind.add_argument("--upstream", metavar="URL", help="a container with /ping and /invocations")
    behind.add_argument(
        "--forward",
        action="store_true",
        help="SageMaker itself, in the region and with the credentials of the environment",
    )
    parser.add_argument(
        "--script",
        type=Path,
        metavar="FILE",
        help="answers and faults, in JSON, YAML (extra aiosmrt[yaml]) or Python; alone, it refuses "
        "whatever it has no answer for",
    )
    parser.add_argument(
        "--record",
        type=Path,
        metavar="FILE",
        help="write what is answered as a script, which replaces what is there",
    )
    parser.add_argument(
        "--reload",
        action="store_true",
        help="start anew, at the same port, when the script or a Python file under this folder has "
        "changed",
    )
    parser.add_argument("--access-key-id", metavar="ID", help="(default: local)")
    parser.add_argument("--secret-access-key", metavar="KEY", help="(default: local-secret)")
    parser.add_argument(
        "--s3-endpoint",
        dest="s3_endpoint_url",
        metavar="URL",
        help="an S3 for asynchronous inputs and outputs, instead of the one under /s3; it is asked "
        "with the key pair where one is given, else with your own credentials",
    )
    parser.add_argument(
        "--service-limits",
        action="store_true",
        help="end what the service would: answers after 60 seconds or above 6 MB, streams after 8 "
        "minutes",
    )
    encrypted = parser.add_mutually_exclusive_group()
    encrypted.add_argument(
        "--tls",
        action="store_true",
        help="https, with a certificate made for this run; AWS_CA_BUNDLE=... on standard error "
        "says whom to trust (extra aiosmrt[tls])",
    )
    encrypted.add_argument("--tls-cert", metavar="FILE", help="https, with this certificate (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="the key of --tls-cert, if apart (PEM)")


def read_options(arguments: argparse.Namespace) -> dict[str, object]:
    """Give the client's options that the command line names.

    Raises:
        ConfigurationError: an option, or what the environment says beside it, cannot be used.
    """
    names = (
        "endpoint_url",
        "s3_endpoint_url",
        "region_name",
        "profile_name",
        "timeout",
        "aws_access_key_id",
        "aws_secret_access_key",
    )
    options: dict[str, Any] = _given(arguments, names)
    if arguments.no_sign:
        options["signature_version"] = UNSIGNED
    if arguments.allow_http:
        options["use_ssl"] = False
    retry: dict[str, Any] = {"mode": arguments.retry_mode, "max_attempts": arguments.max_attempts}
    retry = {name: value for name, value in retry.items() if value is not None}
    if retry:
        # What is not named here is as the environment or the profile says.
        policy = build_policy(find_settings(Config(**options)), None)
        options["retry"] = attrs.evolve(policy, **retry)
    return options


def find_exposure(arguments: argparse.Namespace) -> str:
    """Say what is wrong with a secret among the arguments; empty where it is a local one."""
    serves = arguments.command == "serve"
    secret = "secret_access_key" if serves else "aws_secret_access_key"
    if getattr(arguments, secret, None) is None:
        return ""
    host = arguments.host if serves else _find_host(arguments)
    if is_loopback(host):
        return ""
    instead = "choose one for it alone" if serves else "set AWS_SECRET_ACCESS_KEY, or use --profile"
    return (
        "--secret-access-key can be read in the list of processes and in the shell's history, "
        f"and {host or 'AWS'} is not this machine; {instead}"
    )


def _find_host(arguments: argparse.Namespace) -> str:
    if getattr(arguments, "local", False):
        return "localhost"
    try:
        url = arguments.endpoint_url
        if url is None:  # of all other settings one may be unusable
            config = Config(profile_name=arguments.profile_name)
            url = find_settings(config).endpoint_url.value or ""
        return urlsplit(url).hostname or ""
    except ValueError:  # what is wrong with it the command itself tells
        return ""


def read_parameters(arguments: argparse.Namespace) -> dict[str, object]:
    """Give the parameters of the call, the body read.

    Raises:
        OSError: the body's file cannot be read.
    """
    if arguments.command == "result":
        saved = _read(arguments.invocation)
        text = saved if isinstance(saved, str) else saved.decode("utf-8", "replace")
        return {"saved": _split_documents(text)}
    parameters = _given(arguments, COMMANDS[arguments.command].parameters)
    # What is elsewhere is not waited for here.
    body = parameters.get("body", None if "input_location" in parameters else "-")
    if isinstance(body, str):
        parameters["body"] = _read(body)
    return parameters


def _split_documents(text: str) -> list[str]:
    """Take JSON Lines, or documents of several lines, apart; what is none stays as it is."""
    decoder, documents, text = json.JSONDecoder(), [], text.strip()
    begin = 0
    while begin < len(text):
        try:
            _, end = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            end = len(text)
        documents.append(text[begin:end])
        begin = end
        while text[begin : begin + 1].isspace():
            begin += 1
    return documents or [text]


def _read(text: str) -> str | bytes:
    if text == "-":
        if sys.__stdin__ is None:  # which is no empty body, to be paid for
            raise OSError("standard input is closed")
        return sys.stdin.buffer.read()
    return Path(text[1:]).read_bytes() if text.startswith("@") else text


def _given(
    arguments: argparse.Namespace, names: Mapping[str, object] | tuple[str, ...]
) -> dict[str, object]:
    found = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}
