"""A line of the output: what became of a row. Pure."""

from __future__ import annotations

import datetime
import functools
import json
import re
from typing import Final

import attrs

__all__ = ["Failure", "Record", "read_line", "read_message", "write_line"]

_quote: Final = json.encoder.encode_basestring_ascii
# Nothing is gone back to: else each character of a key would be remembered, at 100 bytes.
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_COUNT: Final = rb"\d{1,15}"
_NUMBER: Final = _COUNT + rb"(?:\.\d{1,9})?"
# Its beginning, which is all that has to be looked at to know what became of a row.
_LINE: Final = re.compile(
    rb'\{"key": (?:%b|-?\d+), "index": (?P<index>%b), "ended_at": "(?P<ended_at>[^"]+)", '
    rb'"seconds": (?P<seconds>%b), "first_byte": (?:(?P<first_byte>%b)|null), '
    rb'"attempts": (?P<attempts>%b), "request_id": (?:%b|null), (?:"response": '
    rb'|"error": \{"may_have_run": (?P<may_have_run>true|false), "type": "(?P<type>\w+)")'
    % (_STRING, _COUNT, _NUMBER, _NUMBER, _COUNT, _STRING)
)


@attrs.frozen
class Failure:
    """Why a row has no response.

    Attributes:
        may_have_run: whether the model may have worked for it.
        type: the class of the error.
    """

    may_have_run: bool
    type: str


# Not frozen: one is made per row.
@attrs.define(eq=False)
class Record:
    """What is known of a row that is done, times in seconds.

    Attributes:
        index: of the row.
        ended_at: when it was done, since 1970.
        seconds: from its turn to its end.
        first_byte: from the last attempt's first byte out to its answer's head; `None` where there
            is none.
        attempts: how many requests were begun.
        failure: `None` where it has a response.
    """

    index: int
    ended_at: float
    seconds: float
    first_byte: float | None
    attempts: int
    failure: Failure | None


@functools.lru_cache(maxsize=2)
def _write_second(second: int) -> str:
    """Write a moment in UTC, which many lines have in common."""
    return datetime.datetime.fromtimestamp(second, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def write_line(record: Record, key: str | int, request_id: str | None, shown: bytes) -> bytes:
    """Write a line.

    Args:
        record: what is known of the row.
        key: of the row.
        request_id: the service's, of the last request.
        shown: the members `response` or `error`, with those beside them.
    """
    second, milliseconds = divmod(int(record.ended_at * 1000), 1000)
    first_byte = "null" if record.first_byte is None else f"{record.first_byte:.6f}"
    head = (
        f'{{"key": {_quote(key) if isinstance(key, str) else key}, "index": {record.index}, '
        f'"ended_at": "{_write_second(second)}.{milliseconds:03}+00:00", '
        f'"seconds": {record.seconds:.6f}, "first_byte": {first_byte}, "attempts": '
        f'{record.attempts}, "request_id": {"null" if request_id is None else _quote(request_id)}, '
    )
    return b"%b%b}\n" % (head.encode(), shown)


def read_line(line: bytes) -> Record | None:
    """Read the beginning of a line, `None` where it was not written by `write_line`."""
    match = _LINE.match(line)
    if match is None or not line.endswith(b"}\n"):
        return None
    try:
        ended_at = datetime.datetime.fromisoformat(match["ended_at"].decode()).timestamp()
    except ValueError:
        return None
    failure = None
    if match["type"] is not None:
        failure = Failure(match["may_have_run"] == b"true", match["type"].decode())
    first_byte = match["first_byte"]
    return Record(
        index=int(match["index"]),
        ended_at=ended_at,
        seconds=float(match["seconds"]),
        first_byte=None if first_byte is None else float(first_byte),
        attempts=int(match["attempts"]),
        failure=failure,
    )


def read_message(line: bytes) -> str:
    """Give what the error of a line says; empty where there is none."""
    try:
        return str(json.loads(line)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return ""
