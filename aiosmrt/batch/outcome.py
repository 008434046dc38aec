"""What became of one row of a batch."""

from __future__ import annotations

from typing import Generic, TypeVar

import attrs

from aiosmrt.models import Attempt
from aiosmrt.value import Value

__all__ = ["Outcome"]

R_co = TypeVar("R_co", covariant=True)


# Not frozen: one is made per row, and attrs' frozen slotted __init__ costs four times as much.
@attrs.define(eq=False, repr=False)
class Outcome(Value, Generic[R_co]):
    """What became of one row: a response or an error.

    Attributes:
        key: what stood before the request in the inputs; the index where nothing did.
        index: the row's place in the inputs, which counts from 0.
        response: the answer, whole, also that of a stream; `None` where the row failed.
        error: why there is no response; `None` where there is one. Of an `AiosmrtError`,
            `may_have_run` says whether the model may have worked for it.
        attempts: what was tried, one entry per request that was begun.
        seconds: from the moment the row was pulled from the inputs to its end, in seconds, the
            waits for its turn included.
        limit: how many calls were let in flight when it ended.
        limit_reason: why so many, in words.
    """

    key: object
    index: int
    response: R_co | None
    error: Exception | None
    attempts: tuple[Attempt, ...]
    seconds: float
    limit: int
    limit_reason: str
