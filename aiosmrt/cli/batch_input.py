"""What `--input` names, opened as what it is."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from typing import BinaryIO, Final

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
    choose_format,
)
from aiosmrt.errors import ParameterError

__all__ = ["keep_standard_input", "open_input"]

_LINES: Final = ("jsonl", "csv")  # what is read from its beginning to its end


def open_input(path: str, named: str | None, find_s3: Callable[[], S3]) -> Input:
    """Open an input; on an event loop.

    Args:
        path: a file, a folder, a place in S3, or `-`.
        named: the format, if one was.
        find_s3: gives what reads from S3.

    Raises:
        ParameterError: there is no such input, or none of that format.
        ConfigurationError: a package is missing that reads it.
    """
    kind = named or choose_format(path)
    content: Content = LocalFile(path)
    if path.startswith("s3://"):
        if kind not in _LINES:
            raise ParameterError(
                f"{path}: of S3 only lines are read (jsonl, csv), from the beginning of an object "
                f"to its end: copy a {kind} input to this machine first"
            )
        content = S3Content(find_s3(), S3Location.parse(path), asyncio.get_running_loop())
    elif path == "-":
        if kind not in _LINES:
            raise ParameterError(f"a {kind} input cannot be read from a pipe into a pipe")
        content = _StandardInput()
    elif not os.path.exists(path):  # noqa: PTH110 - a name, which may be none of a path
        raise ParameterError(f"{path}: there is no such file or folder")
    name = "standard input" if path == "-" else path
    if kind == "folder":
        if not os.path.isdir(path):  # noqa: PTH112 - as above
            raise ParameterError(f"{path}: this is no folder")
        return FileInput.of_folder(path)
    if kind == "paths":
        return FileInput.of_list(name, content)
    kinds: dict[str, Callable[[str, Content], Input]] = {
        "csv": CSVInput,
        "parquet": ParquetInput,
        "arrow": ArrowInput,
    }
    return kinds.get(kind, JSONLinesInput)(name, content)


@attrs.frozen
class _StandardInput:
    """Standard input, which can be read once."""

    def open(self) -> BinaryIO:
        """Open it where it is."""
        return open(0, "rb", closefd=False)

    def digest(self) -> str:
        """Nobody can know."""
        return ""


def keep_standard_input(path: str) -> None:
    """Write what standard input gives into a file, unless it is there: a run may need it again.

    Raises:
        OSError: it cannot be written.
    """
    if os.path.exists(path):  # noqa: PTH110 - as above
        return
    part = f"{path}.part"
    with _StandardInput().open() as given, open(part, "wb") as kept:  # noqa: PTH123 - as above
        shutil.copyfileobj(given, kept, 1 << 20)
        kept.flush()
        os.fsync(kept.fileno())
    os.replace(part, path)  # noqa: PTH105 - as above
