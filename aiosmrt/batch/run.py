"""The rows of a batch on their way: pulled as places come free, carried out, given once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import attrs

from aiosmrt.batch.outcome import Outcome
from aiosmrt.batch.rows import Row, Rows
from aiosmrt.errors import (
    AiosmrtError,
    ClientClosed,
    ConfigurationError,
    CredentialsError,
    ParameterError,
    TooManyFailures,
)
from aiosmrt.models import AsyncInferenceOutput, InvokeEndpointResponse
from aiosmrt.service import Arguments, Operation, check_names
from aiosmrt.tracebacks import drop_tracebacks

__all__ = ["Bounds", "Run"]

R = TypeVar("R", bound=InvokeEndpointResponse | AsyncInferenceOutput)

# What is wrong with the client is wrong for every row.
_EVERYBODYS = (ClientClosed, ConfigurationError, CredentialsError)

# Rows from which a share of them says something.
_SAMPLE = 100


@attrs.frozen
class Bounds:
    """What a batch keeps to.

    Attributes:
        max_in_flight: rows between the inputs and who takes outcomes.
        max_failures: rows that may fail, or the share of them; `None` for all.
        ordered: whether outcomes are given in the order of the inputs.
    """

    max_in_flight: int
    max_failures: int | float | None
    ordered: bool

    def allow(self, failed: int, finished: int) -> bool:
        """Tell whether so many may have failed."""
        if isinstance(self.max_failures, float):
            return failed <= self.max_failures * max(finished, _SAMPLE)
        return self.max_failures is None or failed <= self.max_failures


class Run(Generic[R]):
    """Carries rows out, no more at a time than there are places.

    A place is a worker: it pulls a row, carries it out, and waits until its outcome is taken.
    """

    def __init__(
        self,
        rows: Rows,
        operation: Operation,
        carry_out: Callable[[Arguments], Awaitable[R]],
        bounds: Bounds,
    ) -> None:
        self._rows = rows
        self._operation = operation
        self._carry_out = carry_out
        self._bounds = bounds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Lock()  # to pull what has to be waited for
        self._puller: asyncio.Task[None] | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self._working = 0  # workers that are not at their end
        self._parked = 0  # of these, those whose outcome is to be taken
        # By their place in what is given; with what lets the worker go on.
        self._done: dict[int, tuple[Outcome[R], asyncio.Future[None]]] = {}
        self._given = self._handed_over = self._finished = self._failed = 0
        self._taker: asyncio.Future[None] | None = None
        self._fault: BaseException | None = None
        self._stopping = self._closed = False

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
        worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        try:
            while (row := await self._pull()) is not None:
                # The next place is filled when this one was: few rows need few.
                if self._working < self._bounds.max_in_flight:
                    self._hire()
                outcome = await self._finish(row)
                if outcome is None:
                    break
                await self._hand_over(outcome)
        except Exception as error:  # noqa: BLE001 - the inputs' own, for who takes outcomes
            self._stop(error)
        except BaseException as error:
            if not self._closed:
                self._stop(error)
            raise
        finally:
            self._working -= 1
            self._wake()

    async def _pull(self) -> Row | None:
        """Give the next row, `None` where there is to be none."""
        if not self._rows.asynchronous:
            return await self._rows.pull()
        async with self._turn:
            puller = self._puller = asyncio.current_task()
            try:
                return await self._rows.pull()
            except asyncio.CancelledError:
                # Not by somebody else: the batch stops, and the inputs may never give anything.
                if puller is None or self._puller is not None or puller.uncancel():
                    raise
                return None
            finally:
                self._puller = None

    async def _finish(self, row: Row) -> Outcome[R] | None:
        """Carry a row out; `None` where it has met what would hit every row."""
        began = time.perf_counter()
        try:
            arguments = row.read()
            check_names(self._operation, arguments.parameters.keys())
        except TypeError as error:
            self._stop_for_all(error, row)
            return None
        except ParameterError as error:
            return self._conclude(row, began, error=error)
        try:
            response = await self._carry_out(arguments)
        except _EVERYBODYS as error:
            self._stop_for_all(error, row)
            return None
        except Exception as error:  # noqa: BLE001 - of the row's body, or an observer's
            return self._conclude(row, began, error=error)
        return self._conclude(row, began, response=response)

    def _conclude(
        self, row: Row, began: float, response: R | None = None, error: Exception | None = None
    ) -> Outcome[R]:
        self._finished += 1
        attempts = response.metadata.attempts if response is not None else ()
        if error is not None:
            # Its frames have the row, and who keeps outcomes would keep them.
            drop_tracebacks(error)
            attempts = error.attempts if isinstance(error, AiosmrtError) else ()
            self._failed += 1
            if not self._bounds.allow(self._failed, self._finished):
                self._stop(self._count_failures(error))
        return Outcome(
            key=row.key,
            index=row.index,
            response=response,
            error=error,
            attempts=attempts,
            seconds=time.perf_counter() - began,
            limit=self._bounds.max_in_flight,
            limit_reason="max_in_flight",
        )

    def _count_failures(self, last: Exception) -> TooManyFailures:
        failure = TooManyFailures(
            f"{self._failed} of {self._finished} rows have failed, and max_failures="
            f"{self._bounds.max_failures:g} allows fewer; the last one with {last}"
        )
        failure.__cause__ = last
        return failure

    async def _hand_over(self, outcome: Outcome[R]) -> None:
        """Have an outcome given, and wait until it was taken."""
        free = asyncio.get_running_loop().create_future()
        number = outcome.index if self._bounds.ordered else self._handed_over
        self._handed_over += 1
        self._done[number] = (outcome, free)
        self._parked += 1
        self._wake()
        try:
            await free
        except BaseException:
            if free.cancelled():
                self._parked -= 1
            raise

    def _stop_for_all(self, error: Exception, row: Row) -> None:
        error.add_note(
            f"met by row {row.index}, and every row would meet it: the batch has stopped"
        )
        self._stop(error)

    def _stop(self, fault: BaseException) -> None:
        """Pull no more; what is in flight is finished and given, and then `fault` raised."""
        if not self._stopping:
            self._stopping, self._fault = True, fault
            self._rows.drop()
            puller, self._puller = self._puller, None
            if puller is not None and puller is not asyncio.current_task():
                puller.cancel()

    def _wake(self) -> None:
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)

    def _break_off(self) -> None:
        """Cancel what is in flight, and drop what was not taken."""
        self._closed = True
        self._rows.drop()
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
        """Break off what is in flight, for nobody will take an outcome any more; in any thread."""
        loop = self._loop
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
