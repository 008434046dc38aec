"""What the rows of a batch have in common: times, errors, attempts, and how it went over time.

It is as large for ten rows as for ten millions.
"""

from __future__ import annotations

import collections
import math
from typing import Final

import attrs

from aiosmrt.batch_files.output_line import Record

__all__ = ["Bin", "Distribution", "ErrorKind", "Figures", "Timeline"]

_STEP: Final = math.log(1.02)  # of what is told apart in a distribution: 2 %
_LEAST: Final = 1e-6  # seconds below which all is one
_BINS: Final = 240  # of a timeline; at twice as many, two become one
_PAUSE: Final = 10.0  # seconds without a call that are left out of a timeline
_EXAMPLE: Final = 400  # characters


class Distribution:
    """How long something has taken, in seconds, within 1 %."""

    def __init__(self) -> None:
        self.count: int = 0
        self.total: float = 0.0
        self.least: float = math.inf
        self.most: float = 0.0
        self._counts: collections.Counter[int] = collections.Counter()

    def add(self, seconds: float) -> None:
        """Take one more."""
        self.count += 1
        self.total += seconds
        self.least = min(self.least, seconds)
        self.most = max(self.most, seconds)
        self._counts[round(math.log(max(seconds, _LEAST)) / _STEP)] += 1

    def find(self, share: float) -> float:
        """Give the seconds in which so many were done: 0.5 is the median."""
        rest = share * self.count
        for step in sorted(self._counts):
            rest -= self._counts[step]
            if rest <= 0:
                return min(max(math.exp(step * _STEP), self.least), self.most)
        return self.most

    def fill(self, borders: list[float]) -> list[int]:
        """Count those between each border and the next, in ascending order."""
        counts = [0] * (len(borders) - 1)
        for step, count in self._counts.items():
            seconds = math.exp(step * _STEP)
            place = sum(seconds >= border for border in borders[1:-1])
            counts[place] += count
        return counts


@attrs.define
class Bin:
    """A while of a timeline.

    Attributes:
        done: rows that were done in it, those that failed included.
        failed: rows that failed in it.
        busy: seconds that calls were in flight in it, together.
    """

    done: int = 0
    failed: int = 0
    busy: float = 0.0


class Timeline:
    """What happened when, in whiles of one length; pauses between two runs are left out.

    Attributes:
        width: seconds of each while.
        bins: the whiles.
        seconds: from the first call to the last end, without pauses.
        pauses: how many were left out.
    """

    def __init__(self) -> None:
        self.width: float = 1.0
        self.bins: list[Bin] = []
        self.seconds: float = 0.0
        self.pauses: int = 0
        self._begin: float | None = None
        self._end = 0.0

    def add(self, record: Record) -> None:
        """Take a row that is done; they come about in the order of their ends."""
        began = record.ended_at - record.seconds
        if self._begin is None:
            self._begin = self._end = began
        if began > self._end + _PAUSE:
            self._begin += began - self._end
            self.pauses += 1
        self._end = max(self._end, record.ended_at)
        # A call that was on its way before the first was done.
        first, last = max(began - self._begin, 0.0), max(record.ended_at - self._begin, 0.0)
        self.seconds = max(self.seconds, last)
        while last >= self.width * _BINS * 2:
            self._widen()
        here = int(last / self.width)
        while len(self.bins) <= here:
            self.bins.append(Bin())
        self.bins[here].done += 1
        self.bins[here].failed += record.failure is not None
        for number in range(int(first / self.width), here + 1):
            begin = number * self.width
            self.bins[number].busy += min(last, begin + self.width) - max(first, begin)

    def _widen(self) -> None:
        pairs = zip(self.bins[::2], [*self.bins[1::2], Bin()], strict=False)
        self.bins = [
            Bin(one.done + two.done, one.failed + two.failed, one.busy + two.busy)
            for one, two in pairs
        ]
        self.width *= 2


@attrs.define
class ErrorKind:
    """What rows have failed of in one way.

    Attributes:
        count: rows.
        may_have_run: of these, those for which the model may have worked.
        example: what the first of them said, on one line.
    """

    example: str
    count: int = 0
    may_have_run: int = 0


class Figures:
    """What the rows that are done have in common.

    Attributes:
        done: rows, those that failed included.
        failed: of these, those without a response.
        at_risk: of these, those for which the model may have worked.
        retries: attempts beyond the first of each row.
        seconds: from the turn of a row to its end; those with a response.
        first_byte: to the answer's head, where there is one.
        attempts: rows by how many attempts they took.
        errors: by their classes.
        timeline: when it was.
    """

    def __init__(self) -> None:
        self.done: int = 0
        self.failed: int = 0
        self.at_risk: int = 0
        self.retries: int = 0
        self.seconds: Distribution = Distribution()
        self.first_byte: Distribution = Distribution()
        self.attempts: collections.Counter[int] = collections.Counter()
        self.errors: dict[str, ErrorKind] = {}
        self.timeline: Timeline = Timeline()

    def add(self, record: Record, message: str = "") -> None:
        """Take a row that is done.

        Args:
            record: of the row.
            message: what its error says.
        """
        self.done += 1
        self.retries += max(record.attempts - 1, 0)
        self.attempts[record.attempts] += 1
        self.timeline.add(record)
        if record.first_byte is not None:
            self.first_byte.add(record.first_byte)
        failure = record.failure
        if failure is None:
            self.seconds.add(record.seconds)
            return
        self.failed += 1
        self.at_risk += failure.may_have_run
        kind = self.errors.setdefault(failure.type, ErrorKind(message[:_EXAMPLE]))
        kind.count += 1
        kind.may_have_run += failure.may_have_run
