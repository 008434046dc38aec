"""Where the files of a run are to be, looked at before anything is sent or written."""

from __future__ import annotations

import os

from aiosmrt.batch_files import Files
from aiosmrt.errors import ParameterError

__all__ = ["check_place", "refuse_overlaps"]


def check_place(option: str, path: str) -> None:
    """See to it that there can be a file of that name.

    Raises:
        ParameterError: it names a folder, or is in one that is not there.
    """
    folder, name = os.path.split(path)
    if not name or os.path.isdir(path):  # noqa: PTH112 - a name, as the user has it
        raise ParameterError(f"{option} {path}: this names no file")
    if folder and not os.path.isdir(folder):  # noqa: PTH112 - as above
        raise ParameterError(f"{option} {path}: there is no folder {folder}")


def refuse_overlaps(source: str, files: Files | None, report: str | None) -> None:
    """Refuse to write over what is read, or over what has been paid for.

    Args:
        source: the input.
        files: of the run; `None` where its output is a pipe.
        report: the page, if any; `-` is none in a file.

    Raises:
        ParameterError: a file would be another one, too, or a row of the input.
    """
    taken = {"the input": source}
    if files is not None:
        written = {
            "the output": files.output,
            "its journal": files.journal,
            "its reserve": files.reserve,
            "the list of rows that failed": files.failed,
        }
        for what, path in written.items():
            if _is_one(source, path):
                raise ParameterError(
                    f"--input {source}: this is to be {what}: choose another output"
                )
        taken |= {**written, "the kept input": files.input}
    places = {} if files is None else {"--output": files.output}
    if report is not None and report != "-":
        places["--report"] = report
        for what, path in taken.items():
            if _is_one(report, path):
                raise ParameterError(f"--report {report}: this is {what}")
    if os.path.isdir(source):  # noqa: PTH112 - a name
        for option, place in places.items():
            if _is_row(place, source):
                raise ParameterError(
                    f"{option} {place}: it would be a row of the input {source}: choose another "
                    "place"
                )


def _is_one(path: str, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _is_row(path: str, folder: str) -> bool:
    root = os.path.join(os.path.realpath(folder), "")  # noqa: PTH118 - as above
    place = os.path.realpath(path)
    # What begins with a dot is none.
    return place.startswith(root) and f"{os.sep}." not in place[len(root) - 1 :]
