"""The outcomes of many inputs, as they are there."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Generic, Self, TypeVar

from aiosmrt.batch.outcome import Outcome
from aiosmrt.batch.run import Run
from aiosmrt.models import AsyncInferenceOutput, InvokeEndpointResponse

__all__ = ["Batch"]

R_co = TypeVar("R_co", bound=InvokeEndpointResponse | AsyncInferenceOutput, covariant=True)


class Batch(Generic[R_co]):
    """The outcomes of many inputs: an asynchronous iterator, each row once.

    Nothing is pulled or sent before the first outcome is asked for. Leaving the loop over it in any
    way cancels what is in flight: calls are broken off, their connections closed. A loop that is
    left drops it, which begins that at once; `aclose`, or an `async with` block around the loop,
    also waits until it is done.

    A row that failed is an outcome like others. An error is raised, behind all outcomes of rows
    that were in flight, where the inputs raise it, where it would hit every row
    (`CredentialsError`, `ConfigurationError`, `ClientClosed`, a keyword that the operation does not
    have, an endpoint that does not exist while all rows are for that one, no connection where no
    row has had an answer yet, or for ten rows in a row), and by `max_failures`.
    """

    def __init__(self, run: Run[R_co]) -> None:
        self._run = run

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Outcome[R_co]]:
        # A coroutine of another object: its frame, and so the traceback of what it raises, does not
        # refer to this one, which a loop that is left is to drop.
        return self._run.take()

    async def aclose(self) -> None:
        """Break off what is in flight, and wait until that is done. Idempotent."""
        await self._run.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._run.aclose()

    def __del__(self) -> None:
        run = getattr(self, "_run", None)
        if run is not None:
            run.abandon()
