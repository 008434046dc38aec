"""What is written for people to read: plain text, whoever has chosen the words."""

from __future__ import annotations

import codecs
import contextlib
import copy
import logging
import os
import re
import sys
from typing import TextIO

from aiosmrt.errors import AsyncInferenceError, ServiceError
from aiosmrt.plain_text import strip_controls, to_line

__all__ = [
    "WIPE",
    "Output",
    "can_rewrite",
    "complain",
    "drop_output",
    "name_flags",
    "show_log",
    "warn",
]

WIPE = "\r\x1b[K"  # the line (ECMA-48, sections 8.3.15 and 8.3.41)


# What an error recommends to a program, and the same for whoever types a command. A profile has
# words of its own, which stay.
_FLAGS = {
    r", credentials= or profile_name=": " or --profile",
    r"\bs3_endpoint_url\b": "--s3-endpoint-url",
    r"(?<!profile's )\bendpoint_url\b": "--endpoint-url",
    r"\bregion_name\b": "--region",
    r"\bprofile_name\b": "--profile",
    r"\baws_access_key_id\b": "--access-key-id",
    r"\baws_secret_access_key\b": "--secret-access-key",
    r"\buse_ssl=False\b": "--allow-http",
    r"\bexpires_in\b": "--expires-in",
    r"\binput_location\b": "--input-location",
    r"\bbody(?= and --input-location)": "--body",
    r"\bcall result\(\) again, or keep to_json\(\) for later": (
        "wait on by `aiosmrt result` and the line above"
    ),
    r"\bAsyncInvocation\.to_json\(\) gives": "`aiosmrt invoke-async` prints",
    r"\binvoke_endpoint_with_response_stream\b": "`aiosmrt stream`",
    r"\binvoke_endpoint_async\b": "`aiosmrt invoke-async`",
}


def complain(error: Exception) -> None:
    """Say on one line of standard error what went wrong, and what to change about the command."""
    name, said = type(error).__name__, to_line(_advise(error))
    line = said if re.match(rf"{name}\b", said) else f"{name}: {said}"
    with contextlib.suppress(OSError):  # there is no other place to say it
        sys.stderr.write(f"aiosmrt: {line}\n")
        sys.stderr.flush()


def _advise(error: Exception) -> str:
    if isinstance(error, ServiceError):
        # All but the advice is the service's or the model's.
        error = copy.copy(error)
        error.advice = name_flags(error.advice)
        return str(error)
    return str(error) if isinstance(error, AsyncInferenceError) else name_flags(str(error))


def name_flags(text: str) -> str:
    """Put the command's flags in the place of the options of a Python program."""
    for words, flag in _FLAGS.items():
        text = re.sub(words, flag, text)
    # `--region=` is said of a value that follows alone.
    return re.sub(r"(--[a-z0-9-]+)(?:=(?=[\s,.;)]|$))?(?: to the client\b)?", r"\1", text)


def warn(text: str) -> None:
    """Say something on a line of standard error that stops nothing."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"aiosmrt: {text}\n")


def show_log(verbosity: int) -> None:
    """Print what is logged on standard error: from INFO on, from DEBUG on at 2 and above."""
    if not verbosity:
        return
    logger = logging.getLogger("aiosmrt")
    printer = logging.StreamHandler(sys.stderr)
    printer.setFormatter(_LineFormatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(printer)
    logger.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)


class _LineFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return to_line(super().formatMessage(record))


def drop_output() -> None:
    """Let go of what standard output could not take: Python would try again at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def can_rewrite(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal that obeys more than text, to wipe or to dim it."""
    # As rich has it.
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


class Output:
    """Standard output: a file or a pipe gets a model's bytes as they are, a terminal text.

    What controls a terminal, such as the sequences that move its cursor or set its title, could
    make it show what nobody has said, and is left out.
    """

    def __init__(self) -> None:
        self.is_terminal: bool = sys.stdout.isatty()
        self._is_line_open = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, data: bytes) -> None:
        """Write the next bytes, in any split, at once."""
        if self.is_terminal:
            data = strip_controls(self._decoder.decode(data)).encode()
        if data:
            self._is_line_open = not data.endswith(b"\n")
        sys.stdout.buffer.write(data)
        with contextlib.suppress(ValueError):
            sys.stdout.buffer.flush()

    def end(self) -> None:
        """Begin a new line on a terminal, where the last one has no end."""
        if self.is_terminal and self._is_line_open:
            self.write(b"\n")
