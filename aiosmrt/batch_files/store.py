"""What a batch has on the disk: output, journal, failed rows, and room for what is under way."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Final

import attrs

from aiosmrt.batch_files.append_file import AppendFile, Reserve
from aiosmrt.batch_files.inputs import Input
from aiosmrt.batch_files.journal import History, Journal, has_head
from aiosmrt.batch_files.output import (
    MAY_HAVE_RUN,
    NOT_DONE,
    NOT_RUN,
    choose_status,
    drop_rows,
    read_output,
)
from aiosmrt.batch_files.output_line import Record
from aiosmrt.batch_files.whole_file import open_whole
from aiosmrt.errors import ParameterError

__all__ = ["Files", "Store", "open_store"]

_LEAST_ROOM: Final = 1 << 17  # bytes
_MOST_ROOM: Final = 1 << 28

Tell = Callable[[Record, bytes], None]


@attrs.frozen
class Files:
    """Where all of it is.

    Args:
        output: of the lines.
        suffix: of the input's own kind.
    """

    output: str
    suffix: str = ".jsonl"

    @property
    def journal(self) -> str:
        """Of what is begun."""
        return f"{self.output}.journal"

    @property
    def reserve(self) -> str:
        """Of room on the disk."""
        return f"{self.output}.reserve"

    @property
    def input(self) -> str:
        """Of an input that can be read only once."""
        return f"{self.output}.input"

    @property
    def failed(self) -> str:
        """Of the rows that failed, ready to be an input."""
        return f"{os.path.splitext(self.output)[0]}.failed{self.suffix}"  # noqa: PTH122 - a name

    def is_begun(self) -> bool:
        """Tell whether there is a run that could be gone on with."""
        return os.path.exists(self.journal)  # noqa: PTH110 - as above

    def refuse_existing(self) -> None:
        """Refuse what a run that does not go on would write over.

        Raises:
            ParameterError: there is something.
        """
        for name in (self.output, self.journal, self.failed):
            if os.path.lexists(name):
                raise ParameterError(f"{name} exists: --resume goes on, or choose another output")


@attrs.define
class Store:
    """Takes lines of the output, and knows which rows are done. All of it blocks.

    Attributes:
        files: where it is.
        statuses: a byte for each row: what has become of it.
        again: rows that were begun again after a run that was stopped, in all runs.
        lost: rows that were in flight when the last run was stopped.
        damaged: lines of the journal that say nothing.
        is_broken_off: whether rows that failed are not to be written any more.
    """

    files: Files
    statuses: bytearray
    again: int
    lost: frozenset[int]
    damaged: int
    is_broken_off: bool = attrs.field(default=False, init=False)
    _output: AppendFile
    _journal: Journal
    _reserve: Reserve
    _kept: int
    _largest: int = 0

    @property
    def fault(self) -> OSError | None:
        """Why no further row is to be sent: the disk is full, but for what is under way."""
        if not self._reserve.used and not self._reserve.is_short:
            return None
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.files.output)

    def write(self, lines: Sequence[bytes], begun: Sequence[int], in_flight: int) -> None:
        """Write which rows may be sent from now on, and lines of the output.

        Args:
            lines: whole ones.
            begun: rows.
            in_flight: how many rows may be under way, for which room is kept.

        Raises:
            OSError: they cannot be written; none of the lines is there.
        """
        self._journal.begin(begun)
        if self.lost:
            self.again += sum(row in self.lost for row in begun)
        if lines:
            self._largest = max(self._largest, *map(len, lines))
            self._output.append(b"".join(lines))
        room = min(max(_LEAST_ROOM, self._largest * in_flight), _MOST_ROOM)
        self._reserve.hold(1 << (room - 1).bit_length())

    def forget(self, rows: Sequence[int]) -> None:
        """Note that rows were begun and not sent.

        Raises:
            OSError: it cannot be written.
        """
        self._journal.forget(rows)

    def settle(self, record: Record) -> None:
        """Take note of a row that is on the disk."""
        self.statuses[record.index] = choose_status(record)

    def sync(self) -> None:
        """See to it that all that was written is on the disk.

        Raises:
            OSError: it is not.
        """
        size = self._output.sync()
        if size != self._kept:
            self._journal.keep(size)
            self._kept = size

    def write_failed(self, rows: Input) -> int:
        """Write the rows that failed into a file of their own, if any; give how many they are.

        Raises:
            OSError, ParameterError: the input cannot be read, or the file not be written.
            InterruptedError: it was broken off.
        """
        count = sum(self.statuses.count(status) for status in _FAILED)
        path = self.files.failed
        if not count:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 - a name, as the user has it
            return 0
        with open_whole(path) as file:
            rows.copy(_Failed(self, path), file)
        return count

    def break_off(self) -> None:
        """Have `write_failed`, in another thread, write no further row, and leave nothing."""
        self.is_broken_off = True

    def close(self) -> None:
        """Close the files. Idempotent."""
        self._reserve.drop()
        self._output.close()
        self._journal.close()


_FAILED: Final = (NOT_RUN, MAY_HAVE_RUN)


class _Failed(Container[int]):
    """The rows that failed, without a list of them; to ask for one is where copying breaks off."""

    def __init__(self, store: Store, path: str) -> None:
        self._store = store
        self._path = path

    def __contains__(self, row: object) -> bool:
        if self._store.is_broken_off:
            raise InterruptedError(errno.EINTR, "broken off before it was whole", self._path)
        statuses = self._store.statuses
        # An input that was changed may have more rows than it had.
        if not isinstance(row, int) or row >= len(statuses):
            return False
        return statuses[row] in _FAILED


def open_store(
    files: Files,
    fingerprint: Mapping[str, str | None],
    rows: int,
    *,
    resume: bool,
    retried: Container[int] | None = None,
    tell: Tell | None = None,
) -> Store:
    """Begin, or go on with what an earlier run has left. Blocks.

    Args:
        files: where it is.
        fingerprint: of input and parameters, by the names of the options.
        rows: how many the input has.
        resume: whether there may be an earlier run.
        retried: statuses of rows that are to be sent again on purpose.
        tell: is told of each row that is done.

    Raises:
        ParameterError: there is an output, but it is not to be gone on with, or is another one.
        OSError: a file cannot be opened, read or written.
    """
    names = (files.output, files.journal, files.failed)
    there = [name for name in names if os.path.lexists(name)]
    if not resume:
        files.refuse_existing()
    # A journal has its first line before there is an output.
    if files.output in there and not (files.journal in there and has_head(files.journal)):
        raise ParameterError(
            f"{files.output} has no journal ({files.journal}), so that nothing is known of the run "
            "that has made it: choose another output"
        )
    with contextlib.ExitStack() as stack:
        reserve = Reserve(files.reserve)
        stack.callback(reserve.drop)
        journal = Journal(files.journal, reserve)
        # It is locked: what is made from here on is ours.
        stack.callback(_remove, [name for name in names if name not in there])
        stack.callback(journal.close)
        history = journal.start(fingerprint, rows)
        if history.kept and files.output not in there:
            raise ParameterError(
                f"{files.output} is gone, but not {files.journal}: restore the one, or remove the "
                "other to begin anew"
            )
        output = AppendFile(files.output, reserve)
        stack.callback(output.close)
        statuses, kept = _take_over(output, journal, history, retried, tell)
        reserve.hold(_LEAST_ROOM)
        if reserve.is_short:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), files.output)
        stack.pop_all()
    begun = zip(history.begun, statuses, strict=True)
    return Store(
        files=files,
        statuses=statuses,
        again=history.again,
        lost=frozenset(
            row for row, (was, status) in enumerate(begun) if was and status == NOT_DONE
        ),
        damaged=history.damaged,
        output=output,
        journal=journal,
        reserve=reserve,
        kept=kept,
    )


def _take_over(
    output: AppendFile,
    journal: Journal,
    history: History,
    retried: Container[int] | None,
    tell: Tell | None,
) -> tuple[bytearray, int]:
    """Find which rows are done, and bring the output to an end from which it can go on."""
    rows = len(history.begun)
    found = read_output(output.path, rows, history.kept, tell if retried is None else None)
    output.truncate(found.size)
    if retried is None:
        return found.statuses, found.size
    again = [row for row, status in enumerate(found.statuses) if status in retried]
    if again:
        journal.forget(again)
        for row in again:
            history.begun[row] = 0
        # Until the new output is in its place, it may be either.
        journal.keep(0)
        output.replace(lambda: drop_rows(output.path, retried))
        journal.keep(output.size)
    return read_output(output.path, rows, output.size, tell).statuses, output.size


def _remove(names: list[str]) -> None:
    for name in names:
        with contextlib.suppress(OSError):
            os.unlink(name)  # noqa: PTH108 - as above
