"""Where rows come in: one after another, each when it is its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from aiosmrt.batch.faults import Faults
from aiosmrt.batch.row import Row
from aiosmrt.batch.rows import Rows
from aiosmrt.calls import Line, Turn
from aiosmrt.errors import AiosmrtError, ParameterError
from aiosmrt.service import Arguments, Operation

__all__ = ["Entrance", "FindLine"]

FindLine: TypeAlias = Callable[[Arguments], Awaitable[Line]]
"""Gives the line of those who call a row's endpoint."""


class Entrance:
    """Lets the rows of a batch in, until it is closed.

    A row is pulled when there is a place for it: what may have to be waited for is the place, and
    the row itself only of asynchronous inputs, of one worker at a time.

    Args:
        rows: the inputs.
        operation: what is called for each.
        find_line: finds the line in which their calls wait for their turns; `None` for no line.
        faults: takes note of where they go.
    """

    def __init__(
        self, rows: Rows, operation: Operation, find_line: FindLine | None, faults: Faults
    ) -> None:
        self._rows = rows
        self._operation = operation
        self._find_line = find_line
        self._faults = faults
        self._gate = asyncio.Lock()
        self._line: Line | None = None  # of the last row
        self._waiting: set[asyncio.Task[None] | None] = set()

    @property
    def is_free(self) -> bool:
        """Whether `pull` is enough, since nothing is to be waited for."""
        return self._find_line is None and not self._rows.asynchronous

    def pull(self) -> Row | None:
        """Give the next row, read, and `None` behind the last one.

        Raises:
            Exception: what the inputs raise.
        """
        row = self._rows.pull()
        if row is not None:
            self._read(row)
        return row

    async def enter(self) -> Row | None:
        """Wait for the next row, and for its turn; else as `pull`."""
        worker: asyncio.Task[None] | None = asyncio.current_task()
        self._waiting.add(worker)
        try:
            if self._rows.asynchronous:
                async with self._gate:
                    return await self._wait_for_row()
            return await self._wait_for_turn()
        except asyncio.CancelledError:
            # By `close`, and not by somebody else, too.
            if worker is None or worker in self._waiting or worker.uncancel():
                raise
            return None
        finally:
            self._waiting.discard(worker)

    def close(self) -> None:
        """Let no row in any longer; who waits for one or for its turn, does so in vain."""
        self._rows.drop()
        waiting, self._waiting = self._waiting, set()
        for worker in waiting:
            if worker is not None and worker is not asyncio.current_task():
                worker.cancel()

    async def _wait_for_row(self) -> Row | None:
        row = await self._rows.wait()
        if row is None:
            return None
        self._read(row)
        line = await self._find(row)
        if line is not None:
            turn = Turn(line)
            await turn.enter()
            row.turn = turn
        return row

    async def _wait_for_turn(self) -> Row | None:
        """Wait in the line of the row before, and in another one where that is wrong."""
        turn = None if self._line is None else Turn(self._line)
        try:
            if turn is not None:
                await turn.enter()
            row = self.pull()
            line = None if row is None else await self._find(row)
            if row is None or line is None:
                return row
            if turn is None or turn.line is not line:
                if turn is not None:
                    turn.leave()
                self._line, turn = line, Turn(line)
                await turn.enter()
            row.turn, turn = turn, None
            return row
        finally:
            if turn is not None:
                turn.leave()

    def _read(self, row: Row) -> None:
        try:
            self._faults.note(row.read(self._operation))
        except (ParameterError, TypeError) as error:
            row.error = error

    async def _find(self, row: Row) -> Line | None:
        """Give the row's line, `None` where it has none, or the row is wrong."""
        if row.error is None and self._find_line is not None:
            try:
                return await self._find_line(row.arguments)
            except AiosmrtError as error:
                row.error = error
        return None
