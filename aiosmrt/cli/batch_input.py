"""What `--input` names, opened as what it is, and kept where it can be read only once."""

from __future__ import annotations

import asyncio
import filecmp
import os
import shutil
import sys
from collections.abc import Callable
from io import BufferedReader
from typing import Final

import attrs

from aiosmrt.async_inference import S3, S3Location
from aiosmrt.batch_files import (
    ArrowInput,
    Content,
    CSVInput,
    FileInput,
    Input,
    JSONLinesInput,
    LocalFile,
    ParquetInput,
    S3Content,
    open_whole,
)
from aiosmrt.errors import ParameterError

__all__ = ["is_read_once", "keep_input", "open_input"]

_LINES: Final = ("jsonl", "csv")  # what is read from its beginning to its end


def is_read_once(path: str) -> bool:
    """Tell whether an input is gone when it was read: standard input, a pipe, a device."""
    if path == "-":
        return True
    there = os.path.exists(path)  # noqa: PTH110 - a name, which may be none of a path
    return there and not os.path.isfile(path) and not os.path.isdir(path)  # noqa: PTH112, PTH113


def open_input(path: str, kind: str, find_s3: Callable[[], S3]) -> Input:
    """Open an input; on an event loop.

    Args:
        path: a file, a folder, a place in S3, or `-`.
        kind: its format.
        find_s3: gives what reads from S3.

    Raises:
        ParameterError: there is no such input, or none of that format.
        ConfigurationError: a package is missing that reads it.
    """
    content: Content = LocalFile(path)
    if path.startswith("s3://"):
        if kind not in _LINES:
            raise ParameterError(
                f"{path}: of S3 only lines are read (jsonl, csv), from the beginning of an object "
                f"to its end: copy a {kind} input to this machine first"
            )
        content = S3Content(find_s3(), S3Location.parse_object(path), asyncio.get_running_loop())
    elif is_read_once(path):
        if kind not in _LINES:
            raise ParameterError(f"a {kind} input cannot be read from a pipe into a pipe")
        content = _Stream(path)
    elif not os.path.exists(path):  # noqa: PTH110 - a name, which may be none of a path
        raise ParameterError(f"{path}: there is no such file or folder")
    name = "standard input" if path == "-" else path
    if kind == "folder":
        if not os.path.isdir(path):  # noqa: PTH112 - as above
            raise ParameterError(f"{path}: this is no folder")
        return FileInput.of_folder(path)
    if kind == "paths":
        return FileInput.of_list(name, content)
    if kind in ("parquet", "arrow"):
        return (ParquetInput if kind == "parquet" else ArrowInput)(name, LocalFile(path))
    return (CSVInput if kind == "csv" else JSONLinesInput)(name, content)


@attrs.frozen
class _Stream:
    """What can be read once."""

    path: str

    def open(self) -> BufferedReader:
        """Open it where it is."""
        if self.path != "-":
            return open(self.path, "rb")  # noqa: PTH123 - as above
        if sys.__stdin__ is None:  # and a file of ours may have its number
            raise ParameterError("--input -: standard input is closed")
        return open(0, "rb", closefd=False)

    def digest(self) -> str:
        """Nobody can know."""
        return ""


def keep_input(given: str, path: str, *, resumes: bool, begun: bool) -> None:
    """Write what can be read once into a file: it is read twice, and by each run that goes on.

    Args:
        given: what can be read once.
        path: of the file.
        resumes: whether what an earlier run has kept is taken, where now there is nothing.
        begun: whether rows of that may have been sent.

    Raises:
        ParameterError: something else was kept.
        OSError: it cannot be written.
    """
    kept = resumes and os.path.exists(path)  # noqa: PTH110 - as above
    if kept and given == "-" and sys.stdin.isatty():
        return  # nobody is to type it again
    with _Stream(given).open() as source:
        if kept and not source.peek():
            return
        with open_whole(path) as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            if kept and begun and not filecmp.cmp(target.name, path, shallow=False):
                raise ParameterError(
                    f"this run is another one: {path} has what the input was, and it gives "
                    "something else. Go on with what it was, or choose another output"
                )
