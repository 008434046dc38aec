"""The rows of a batch on their way: pulled as places come free, carried out, given once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeAlias, TypeVar

from aiosmrt.batch.bounds import Bounds
from aiosmrt.batch.entrance import Entrance
from aiosmrt.batch.faults import Faults
from aiosmrt.batch.outcome import Outcome
from aiosmrt.batch.row import Row
from aiosmrt.errors import AiosmrtError, ModelError, TooManyFailures
from aiosmrt.models import AsyncInferenceOutput, InvokeEndpointResponse
from aiosmrt.tracebacks import drop_tracebacks

__all__ = ["CarryOut", "Run"]

R = TypeVar("R", bound=InvokeEndpointResponse | AsyncInferenceOutput)

CarryOut: TypeAlias = Callable[[Row], Awaitable[R]]
"""Makes a row's call, and gives the response."""


class Run(Generic[R]):
    """Carries rows out, no more at a time than there are places.

    A place is a worker: it pulls a row, carries it out, and waits until its outcome is taken.

    Args:
        entrance: lets rows in.
        carry_out: makes a row's call.
        faults: tells what stops all.
        bounds: what to keep to.
        places: how many there are.
    """

    def __init__(
        self,
        entrance: Entrance,
        carry_out: CarryOut[R],
        faults: Faults,
        bounds: Bounds,
        *,
        places: int,
    ) -> None:
        self._call = carry_out
        self._faults = faults
        self._bounds = bounds
        self._places = places
        self._loop: asyncio.AbstractEventLoop | None = None
        self._entrance = entrance
        self._workers: set[asyncio.Task[None]] = set()
        self._working = 0  # workers that are not at their end
        self._parked = 0  # of these, those whose outcome is to be taken
        # By their place in what is given; with what lets the worker go on.
        self._done: dict[int, tuple[Outcome[R], asyncio.Future[None]]] = {}
        self._given = self._handed_over = self._finished = self._failed = 0
        self._taker: asyncio.Future[None] | None = None
        self._fault: BaseException | None = None
        self._stopping = self._closed = self._abandoned = False

    async def take(self) -> Outcome[R]:
        """Give the next outcome, begin where nothing has begun.

        Raises:
            StopAsyncIteration: there is none any more.
            Exception: what has stopped the batch, once, behind all outcomes.
        """
        if self._taker is not None:
            raise RuntimeError("another task is waiting for the next outcome of this batch")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._hire()
        try:
            return await self._wait()
        finally:
            if self._abandoned:
                self._break_off()

    async def _wait(self) -> Outcome[R]:
        assert self._loop is not None  # noqa: S101 - for type checkers
        while not self._closed:
            if self._given in self._done or (self._done and self._parked == self._working):
                return self._give()
            if self._parked == self._working:
                break
            self._taker = self._loop.create_future()
            try:
                await self._taker
            finally:
                self._taker = None
        fault, self._fault = self._fault, None
        try:
            raise fault or StopAsyncIteration
        finally:
            del fault  # or this frame and it would keep each other

    def _give(self) -> Outcome[R]:
        # Where they are ordered, and what has stopped the batch has none, the next one behind it.
        number = self._given if self._given in self._done else min(self._done)
        self._given = number + 1
        outcome, free = self._done.pop(number)
        if not free.done():
            self._parked -= 1
            free.set_result(None)
        return outcome

    def _hire(self) -> None:
        """Fill one more place."""
        assert self._loop is not None  # noqa: S101 - for type checkers
        worker = self._loop.create_task(self._work())
        self._working += 1
        self._workers.add(worker)
        worker.add_done_callback(self._dismiss)

    def _dismiss(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if not worker.cancelled():
            worker.exception()  # who takes outcomes gets it, and asyncio is not to tell it again

    async def _work(self) -> None:
        try:
            entrance, free = self._entrance, self._entrance.is_free
            while (row := entrance.pull() if free else await entrance.enter()) is not None:
                # The next place is filled when this one was: few rows need few.
                if self._working < self._places:
                    self._hire()
                outcome = await self._carry_out(row)
                del row  # who waits for the next one keeps nothing of the last
                if outcome is None:
                    break
                taken = self._hand_over(outcome)
                del outcome
                try:
                    await taken
                except BaseException:
                    self._parked -= taken.cancelled()
                    raise
        except Exception as error:  # noqa: BLE001 - the inputs' own, for who takes outcomes
            self._stop(error)
        except BaseException as error:
            if not self._closed:
                self._stop(error)
            raise
        finally:
            self._working -= 1
            self._wake()

    async def _carry_out(self, row: Row) -> Outcome[R] | None:
        """Carry a row out; `None` where it has met what every row would meet."""
        turn, error = row.turn, row.error
        response: R | None = None
        if error is None:
            try:
                response = await self._call(row)
            except Exception as failure:  # noqa: BLE001 - of its body, or an observer's, too
                error = failure
            finally:
                if turn is not None:
                    # A model that says no was at work, too.
                    turn.leave(answered=response is not None or isinstance(error, ModelError))
        if error is None:
            self._finished += 1
            self._faults.note_answer()
            return self._describe(row, response)
        try:
            if self._is_everybodys(error, row):
                note = f"met by row {row.index}, and every row would meet it: the batch stops"
                error.add_note(note)
                self._stop(error)
                return None
            return self._fail(row, error)
        finally:
            del error  # or this frame and it would keep each other

    def _is_everybodys(self, error: Exception, row: Row) -> bool:
        if not row.is_read:
            return isinstance(error, TypeError)  # a keyword that the operation does not have
        stuck = row.turn is not None and row.turn.is_stuck
        return stuck or self._faults.is_everybodys(error, row.arguments)

    def _fail(self, row: Row, error: Exception) -> Outcome[R]:
        # Its frames have the row, and who keeps outcomes would keep them.
        drop_tracebacks(error)
        self._finished += 1
        self._failed += 1
        if not self._bounds.allow(self._failed, self._finished):
            self._stop(self._count_failures(error))
        if isinstance(error, AiosmrtError):
            row.attempts = error.attempts
        return self._describe(row, None, error)

    def _describe(self, row: Row, response: R | None, error: Exception | None = None) -> Outcome[R]:
        attempts = row.attempts
        if response is not None and not attempts:
            attempts = response.metadata.attempts
        calls, reason = self._places, "max_in_flight"
        if row.turn is not None:
            limit = row.turn.limit
            calls, reason = limit.calls, limit.reason
        seconds = time.perf_counter() - row.began
        # By place: so many names cost as much as all else.
        return Outcome(row.key, row.index, response, error, attempts, seconds, calls, reason)

    def _count_failures(self, last: Exception) -> TooManyFailures:
        failure = TooManyFailures(
            f"{self._failed} of {self._finished} rows have failed, and max_failures="
            f"{self._bounds.max_failures:g} allows fewer; the last one with {last}"
        )
        failure.__cause__ = last
        return failure

    def _hand_over(self, outcome: Outcome[R]) -> asyncio.Future[None]:
        """Have an outcome given, and give what comes true when it was."""
        assert self._loop is not None  # noqa: S101 - for type checkers
        free = self._loop.create_future()
        self._done[outcome.index if self._bounds.ordered else self._handed_over] = (outcome, free)
        self._handed_over += 1
        self._parked += 1
        self._wake()
        return free

    def _stop(self, fault: BaseException) -> None:
        """Begin no more; what is in flight is finished and given, and then `fault` raised."""
        if not self._stopping:
            self._stopping, self._fault = True, fault
            self._entrance.close()

    def _wake(self) -> None:
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)

    def _break_off(self) -> None:
        """Cancel what is in flight, and drop what was not taken."""
        self._closed = True
        self._entrance.close()
        self._done.clear()
        self._fault = None
        for worker in tuple(self._workers):
            worker.cancel()
        self._wake()

    async def aclose(self) -> None:
        """Break off what is in flight, and wait until that is done. Idempotent."""
        workers = tuple(self._workers)
        self._break_off()
        if workers:
            await asyncio.wait(workers)

    def abandon(self) -> None:
        """Break off what is in flight, for nobody will take an outcome any more; in any thread.

        Where nothing has begun, somebody may be about to take the first one.
        """
        loop = self._loop
        self._abandoned = loop is None
        if self._closed or loop is None or not self._working or loop.is_closed():
            return
        if _find_loop() is loop:
            self._break_off()
        else:
            loop.call_soon_threadsafe(self._break_off)


def _find_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
