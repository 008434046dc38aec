"""What a batch has begun, in a file beside its output, by which a run that was stopped goes on.

Its first line is a JSON object: the version of what follows, and the fingerprint of input and
parameters. Each further line is one of::

    begin 17-48     the rows 17 to 48 may be sent from now on
    forget 20-22    rows that were begun and not sent, or that are to be sent again on purpose
    kept 10240      so many bytes of the output are on the disk

What has become of a row is in the output. A row that was begun, and of which the output says
nothing, was in flight when a run was stopped: whether a model has run for it nobody knows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final

import attrs

from aiosmrt.batch_files.append_file import AppendFile, Reserve, sync_folder
from aiosmrt.errors import ParameterError

__all__ = ["History", "Journal", "has_head"]

_NAME: Final = "aiosmrt batch journal"
_HEAD: Final = f'{{"{_NAME}": '.encode()
_VERSION: Final = 1
_STRANGE: Final = "{}: this is no journal of a batch; choose another output"
_LINE: Final = re.compile(rb"(begin|forget) (\d{1,15})-(\d{1,15})|kept (\d{1,18})")


@attrs.define
class History:
    """What a journal tells of earlier runs.

    Attributes:
        begun: a byte for each row: 1 where it was begun.
        again: how many rows were begun again because their first outcome was lost.
        kept: bytes of the output that were on the disk.
        damaged: lines of the journal that say nothing, as a disk that has lost power may have.
    """

    begun: bytearray
    again: int = 0
    kept: int = 0
    damaged: int = 0


def has_head(path: str) -> bool:
    """Tell whether a journal has its first line, which says whose it is.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:  # noqa: PTH123 - a name, as the user has it
        return file.readline().endswith(b"\n")


class Journal:
    """Takes note of what is begun and kept. Blocks.

    Args:
        path: of the file.
        reserve: where room comes from when the disk is full.

    Raises:
        OSError: the file cannot be opened.
        ParameterError: another process has it open.
    """

    def __init__(self, path: str, reserve: Reserve | None = None) -> None:
        self._file = AppendFile(path, reserve)
        if not self._file.lock():
            self._file.close()
            raise ParameterError(f"{path}: another process is at work on it")

    def start(self, fingerprint: Mapping[str, str | None], rows: int) -> History:
        """Read what there is, or begin it.

        Args:
            fingerprint: of input and parameters, by the names of the options.
            rows: how many the input has.

        Raises:
            ParameterError: the journal is of another version, another input or other parameters.
            OSError: it cannot be read or written.
        """
        history = History(bytearray(rows))
        with open(self._file.path, "rb") as file:  # noqa: PTH123 - as above
            head = file.readline()
            if not head.endswith(b"\n"):
                # It ends with the first line, before which nothing was sent.
                if not _HEAD.startswith(head[: len(_HEAD)]):
                    raise ParameterError(_STRANGE.format(self._file.path))
                self._file.truncate(0)
                begun = {_NAME: _VERSION, "fingerprint": fingerprint}
                self._file.append(f"{json.dumps(begun)}\n".encode())
                self._file.sync()
                sync_folder(self._file.path)
                return history
            self._check(head, fingerprint)
            size = len(head)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                size += len(line)
                history.damaged += not _read_line(line, history)
        self._file.truncate(size)
        return history

    def _check(self, head: bytes, fingerprint: Mapping[str, str | None]) -> None:
        place = f"{self._file.path}:1"
        try:
            found = json.loads(head)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or _NAME not in found:
            raise ParameterError(_STRANGE.format(place))
        version = found[_NAME]
        if version != _VERSION:
            raise ParameterError(
                f"{place}: this journal is of version {version}, and this release of aiosmrt takes "
                f"version {_VERSION}: go on with the release that has begun it"
            )
        known = found.get("fingerprint")
        if not isinstance(known, dict):
            raise ParameterError(_STRANGE.format(place))
        wrong = [
            _describe(name, known.get(name), fingerprint.get(name))
            for name in {**fingerprint, **known}
            if known.get(name) != fingerprint.get(name)
        ]
        if wrong:
            raise ParameterError(
                f"{place}: this run is another one: {'; '.join(wrong)}. Go on with what it was, or "
                "choose another output"
            )

    def begin(self, rows: Iterable[int]) -> None:
        """Note that some rows, in ascending order, may be sent from now on.

        Raises:
            OSError: it cannot be written.
        """
        self._note(b"begin", rows)

    def forget(self, rows: Iterable[int]) -> None:
        """Note that some rows, in ascending order, were not sent, or are to be sent on purpose.

        Raises:
            OSError: it cannot be written.
        """
        self._note(b"forget", rows)

    def _note(self, what: bytes, rows: Iterable[int]) -> None:
        lines = [b"%b %d-%d\n" % (what, *pair) for pair in _find_ranges(rows)]
        if lines:
            self._file.append(b"".join(lines))

    def keep(self, size: int) -> None:
        """Note how many bytes of the output are on the disk, and see to it that this is, too.

        Raises:
            OSError: it cannot be written.
        """
        self._file.append(b"kept %d\n" % size)
        self._file.sync()

    def close(self) -> None:
        """Close it. Idempotent."""
        self._file.close()


def _read_line(line: bytes, history: History) -> bool:
    """Take over what a line says; false where it says nothing."""
    match = _LINE.fullmatch(line[:-1])
    if match is None:
        return False
    what, first, last, kept = match.groups()
    if what is None:
        history.kept = int(kept)
        return True
    begin, end = int(first), int(last) + 1
    if not begin < end <= len(history.begun):
        return False
    if what == b"begin":
        history.again += sum(history.begun[begin:end])
    history.begun[begin:end] = (b"\1" if what == b"begin" else b"\0") * (end - begin)
    return True


def _find_ranges(rows: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Give the first and the last of each unbroken run of numbers."""
    numbers = list(rows)
    if not numbers:
        return
    first = numbers[0]
    for number, after in pairwise([*numbers, -1]):  # which follows none
        if after != number + 1:
            yield first, number
            first = after


def _describe(name: str, was: str | None, now: str | None) -> str:
    if name == "--input":
        return "the input has another content"
    return f"{name} was {was!r}, and is {now!r}"
