"""The file of outcomes, as an earlier run has left it: each row once, in whole lines. Blocks."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Final

import attrs

from aiosmrt.batch_files.input_row import parse_json
from aiosmrt.batch_files.output_line import Record, read_line
from aiosmrt.batch_files.whole_file import open_whole
from aiosmrt.errors import ParameterError

__all__ = [
    "DONE",
    "MAY_HAVE_RUN",
    "NOT_DONE",
    "NOT_RUN",
    "Found",
    "choose_status",
    "drop_rows",
    "read_output",
]

NOT_DONE: Final = 0
DONE: Final = 1
NOT_RUN: Final = 2
MAY_HAVE_RUN: Final = 3
"""What has become of a row: it has a response, or has failed, with or without a model's work."""


@attrs.define
class Found:
    """What an output says.

    Attributes:
        statuses: a byte for each row, one of the four above.
        size: bytes of it that are sound.
    """

    statuses: bytearray
    size: int = 0


def choose_status(record: Record) -> int:
    """Give what has become of a row."""
    if record.failure is None:
        return DONE
    return MAY_HAVE_RUN if record.failure.may_have_run else NOT_RUN


def read_output(
    path: str, rows: int, kept: int, tell: Callable[[Record, bytes], None] | None = None
) -> Found:
    """Read which rows are done.

    What is behind the bytes that were on the disk for certain may be anything: it is taken as far
    as it is sound.

    Args:
        path: of the output.
        rows: how many the input has.
        kept: bytes that the journal knows to be on the disk.
        tell: is told of each line.

    Raises:
        ParameterError: the output is not the one that the journal is of.
        OSError: it cannot be read.
    """
    found = Found(bytearray(rows))
    with open(path, "rb") as file:  # noqa: PTH123 - a name, as the user has it
        for number, line in enumerate(file, 1):
            certain = found.size + len(line) <= kept
            record = read_line(line)
            problem = _find_problem(record, found)
            if not problem and not certain and not _is_whole(line):
                problem = "this line is not whole"
            if problem and certain:
                raise ParameterError(
                    f"{path}:{number}: {problem}: the file was changed since; restore it, or "
                    "choose another output"
                )
            if problem or record is None:
                break
            found.statuses[record.index] = choose_status(record)
            found.size += len(line)
            if tell is not None:
                tell(record, line)
    if found.size < kept:
        raise ParameterError(
            f"{path}: of {kept} bytes that were written there are {found.size}: restore it, or "
            "choose another output"
        )
    return found


def _find_problem(record: Record | None, found: Found) -> str:
    if record is None:
        return "this is no line of a batch's output"
    if record.index >= len(found.statuses):
        return f"the input has no row {record.index}"
    return f"row {record.index} is there twice" if found.statuses[record.index] else ""


def _is_whole(line: bytes) -> bool:
    try:
        parse_json(line, "")
    except ParameterError:
        return False
    return True


def drop_rows(path: str, dropped: Container[int]) -> None:
    """Take the lines of some rows out.

    The file is the old one or the new one at every moment.

    Args:
        path: of an output that is sound.
        dropped: statuses of the rows whose lines go.

    Raises:
        OSError: the new one cannot be written.
    """
    with open(path, "rb") as old, open_whole(path) as new:  # noqa: PTH123 - as above
        for line in old:
            record = read_line(line)
            if record is not None and choose_status(record) not in dropped:
                new.write(line)
