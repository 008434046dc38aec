"""The rows of an input on their way: begun in the journal, sent, and counted when written down."""

from __future__ import annotations

import asyncio
import collections
import functools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from typing import Final, Protocol

from aiosmrt.batch import Batch, Outcome, Request
from aiosmrt.batch_files.figures import Figures
from aiosmrt.batch_files.input_row import InputRow
from aiosmrt.batch_files.outcome_line import Answer, Written, write_outcome
from aiosmrt.batch_files.output_line import Record
from aiosmrt.errors import AiosmrtError, ParameterError
from aiosmrt.threads import run_in_thread

__all__ = ["Job", "Sink"]

_ROWS: Final = 64  # that are read at a time, and wait at most
_BYTES: Final = 1 << 20  # after which no further one is read
_SYNC_PAUSE: Final = 0.1  # seconds between two waits for the disk


class Sink(Protocol):
    """What takes the lines of the output; it blocks."""

    @property
    def fault(self) -> OSError | None:
        """Why no further row is to be sent, where the disk is full."""

    def write(self, lines: Sequence[bytes], begun: Sequence[int], in_flight: int) -> None:
        """Write down which rows may be sent from now on, and lines of the output."""

    def forget(self, rows: Sequence[int]) -> None:
        """Write down that rows were begun and not sent."""

    def sync(self) -> None:
        """See to it that all that was written is on the disk."""

    def settle(self, record: Record) -> None:
        """Take note of a row that is on the disk."""


class Job:
    """Sends rows and has what comes of them written down, and counts what is on the disk.

    A place is free for another row when the outcome of an earlier one is written: whatever ends
    the process, no more than `in_flight` rows are without one.

    Args:
        rows: what is to be sent; it blocks, and is read in a thread.
        request: makes the parameters of a row's call.
        sink: takes the lines.
        figures: of all rows that are on the disk.
        view: of responses; `None` as their content types say.
        in_flight: how many rows may be under way; `None` for what the batch finds out.
        at_once: rows that are read before the first of them is sent; 1 for what comes slowly.

    Attributes:
        under_way: rows that were sent, and have no outcome yet.
        limit: how many may be; 0 where that is not known yet.
        limit_reason: why so many, in words.
    """

    def __init__(
        self,
        rows: Iterator[InputRow | ParameterError],
        request: Callable[[InputRow], Request],
        sink: Sink,
        figures: Figures,
        *,
        view: str | None = None,
        in_flight: int | None = None,
        at_once: int = _ROWS,
    ) -> None:
        self.under_way: set[int] = set()
        self.limit: int = in_flight or 0
        self.limit_reason: str = ""
        self._rows = rows
        self._request = request
        self._sink = sink
        self.figures = figures
        self._view = view
        self._places = in_flight
        self._at_once = at_once
        self._ahead: collections.deque[InputRow] = collections.deque()
        self._ahead_bytes = 0
        self._at_end = False
        self._begun = self._written = 0  # rows of which the journal knows, and lines
        self._ready: collections.deque[InputRow] = collections.deque()  # begun, and not sent
        self._becoming = 0  # of those that will be
        self._wanting = False
        self._pending: list[tuple[Outcome[Answer], float]] = []
        self._unsynced: list[tuple[Record, str]] = []
        self._unsent: list[int] = []  # rows that were begun all the same
        self._fault: BaseException | None = None
        self._stopping = self._closing = False
        self._take_up, self._write_up, self._read_up, self._sync_up = (
            asyncio.Event() for _ in range(4)
        )

    @property
    def unwritten(self) -> int:
        """Outcomes that are there, and not written."""
        return len(self._pending)

    def stop(self) -> None:
        """Send no further row; those under way are finished. Idempotent."""
        self._stopping = True
        self._take_up.set()
        self._read_up.set()

    async def run(
        self, begin: Callable[[AsyncIterator[tuple[InputRow, Request]]], Batch[Answer]]
    ) -> None:
        """Send all rows; when it is cancelled, what has come is written down all the same.

        Args:
            begin: begins a batch of requests, with the rows as keys.

        Raises:
            AiosmrtError: what has stopped the batch.
            ParameterError: a row that cannot be sent has.
            OSError: the lines could not be written, or the input not be read.
        """
        batch = begin(self._feed())
        reading, writing, syncing = (
            asyncio.create_task(work) for work in (self._read(), self._write(), self._sync())
        )
        for task in (reading, writing, syncing):
            task.add_done_callback(self._notice)
        try:
            async with batch:
                async for outcome in batch:
                    self._take(outcome)
        except AiosmrtError as error:
            if not error.may_have_run:  # what stops a batch is met by rows without an outcome
                self._unsent += sorted(self.under_way)
                self.under_way.clear()
            raise
        finally:
            self.stop()
            for task in (reading, syncing):
                task.cancel()
            await asyncio.wait([reading, syncing])
            self._closing = True
            self._write_up.set()
            await asyncio.wait([writing])
            await self._end()
        fault, self._fault = self._fault, None
        if fault is not None:
            try:
                raise fault
            finally:
                del fault  # or its traceback and this frame would keep each other

    def _take(self, outcome: Outcome[Answer]) -> None:
        self._pending.append((outcome, time.time()))
        assert isinstance(outcome.key, InputRow)  # noqa: S101 - as it was fed
        self.under_way.discard(outcome.key.index)
        self.limit, self.limit_reason = outcome.limit, outcome.limit_reason
        self._write_up.set()

    async def _end(self) -> None:
        """Write down what is left: rows that were not sent, and that all is on the disk."""
        self._unsent += [row.index for row in self._ready]

        def work() -> None:
            self._sink.forget(sorted(self._unsent))
            self._sink.sync()

        try:
            await run_in_thread(work)
        except OSError as error:
            self._fail(error)
        else:
            self._count_synced(len(self._unsynced))

    def _notice(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._fault = self._fault or error
        self.stop()

    async def _read(self) -> None:
        """Read rows ahead."""
        try:
            while not self._stopping:
                if len(self._ahead) >= self._at_once or self._ahead_bytes >= _BYTES:
                    self._read_up.clear()
                    await self._read_up.wait()
                    continue
                block = await run_in_thread(
                    functools.partial(_read_block, self._rows, self._at_once)
                )
                if not block:
                    break
                for row in block:
                    if isinstance(row, ParameterError):
                        try:
                            raise row
                        finally:
                            del row, block  # as above
                    self._ahead.append(row)
                    self._ahead_bytes += len(row.body)
                self._write_up.set()
        except (AiosmrtError, OSError) as error:
            self._fail(error)
        self._at_end = True
        self._take_up.set()

    def _read_further(self) -> list[InputRow]:
        """Take rows that may be begun now."""
        if self._stopping:
            return []
        free = self.limit - (self._begun - self._written - len(self._pending))
        if self._wanting and self._places is None:
            free = max(free, 1)
        rows = [self._ahead.popleft() for _ in range(min(free, len(self._ahead)))]
        self._ahead_bytes -= sum(len(row.body) for row in rows)
        self._begun += len(rows)
        self._read_up.set()
        return rows

    async def _write(self) -> None:
        """Write lines and beginnings down, as many together as there are."""
        while True:
            await self._write_up.wait()
            self._write_up.clear()
            rows = self._read_further()
            outcomes = self._pending[:]
            if outcomes or rows:
                self._becoming = len(rows)
                try:
                    written = await run_in_thread(functools.partial(self._commit, outcomes, rows))
                except OSError as error:
                    # They are kept: the disk may have room again when all else is finished.
                    self._fail(error)
                    self._ready.extend(rows)
                    if not self._closing:
                        continue
                    return
                del self._pending[: len(outcomes)]
                self._written += len(outcomes)
                self._unsynced += [(one.record, one.message) for one in written]
                self._ready.extend(rows)
                self._becoming = 0
                self._sync_up.set()
                self._take_up.set()
                if self._sink.fault is not None:
                    self._fail(self._sink.fault)
            if self._closing and not self._pending:
                return

    def _commit(
        self, outcomes: Sequence[tuple[Outcome[Answer], float]], rows: Sequence[InputRow]
    ) -> list[Written]:
        written = [write_outcome(outcome, ended_at, self._view) for outcome, ended_at in outcomes]
        lines = [one.line for one in written]
        self._sink.write(lines, [row.index for row in rows], self.limit)
        return written

    async def _sync(self) -> None:
        """Count what is on the disk, of many lines at a time, since the disk takes its time."""
        try:
            while True:
                await self._sync_up.wait()
                self._sync_up.clear()
                count = len(self._unsynced)
                await run_in_thread(self._sink.sync)
                self._count_synced(count)
                await asyncio.sleep(_SYNC_PAUSE)
        except OSError as error:
            self._fail(error)

    def _count_synced(self, count: int) -> None:
        for record, message in self._unsynced[:count]:
            self.figures.add(record, message)
            self._sink.settle(record)
        del self._unsynced[:count]

    async def _feed(self) -> AsyncGenerator[tuple[InputRow, Request]]:
        """Give rows as they are begun, each when the batch has a place for it."""
        while True:
            while not self._ready and not self._stopping:
                if self._at_end and not self._ahead and not self._becoming:
                    return
                self._wanting = True
                self._write_up.set()
                self._take_up.clear()
                await self._take_up.wait()
            if self._stopping:
                return
            self._wanting = False
            row = self._ready.popleft()
            self.under_way.add(row.index)
            yield row, self._request(row)


def _read_block(
    rows: Iterator[InputRow | ParameterError], most: int
) -> list[InputRow | ParameterError]:
    block: list[InputRow | ParameterError] = []
    size = 0
    for row in rows:
        block.append(row)
        if isinstance(row, ParameterError):
            break
        size += len(row.body)
        if len(block) >= most or size >= _BYTES:
            break
    return block
