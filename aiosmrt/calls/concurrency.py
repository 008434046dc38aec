"""How many calls an endpoint is given at a time, where that is left to be found out.

Pure: it looks at no clock, and wakes nobody. A number is judged by the answers a second that came
of it. It is doubled until more in flight gives no more answers, whether they are refused or have to
wait in a queue; from the last that was worth it, it climbs by a quarter; and where the next step is
too far, it is kept. A number of which some are refused is compared with those that got through; one
that has become slow begins again with half of it. What is kept is left for one step more
after 5 s, 10, 20 and so on up to a minute.
"""

from __future__ import annotations

import enum
import math

from aiosmrt.models import ConcurrencyLimit

__all__ = ["Concurrency"]

# Calls at first; few, since all of them may be too many.
_START = 4
_DOUBLE, _CLIMB = 2.0, 1.25

# Of what a step up could add in answers a second, the share that makes it worth its price.
_WORTH = 0.1
# The same, where many of the calls are refused.
_WORTH_REFUSALS = 0.3
# A share of refused attempts that says nothing: others may use the endpoint, too.
_TOLERATED = 0.05
# Times the answers of before that are noticed, and how often in a row fewer have to be.
_CHANGE, _LASTING = 1.5, 2
# The share of its places that has to be taken for a number to be judged.
_FULL = 0.7

# Answers that judge a number of calls, at least; and while it doubles.
_SAMPLE, _FIRST_SAMPLE = 20, 10
# Answers to each call of it, where steps are small.
_ROUNDS = 4

# Seconds in which they come, at least: what else runs on a machine comes and goes faster.
_SECONDS = 0.2

# Seconds until another step is tried: at first, and at most.
_FIRST_REST, _LONGEST_REST = 5.0, 60.0


class _Mode(enum.Enum):
    GROWING = enum.auto()
    FALLING = enum.auto()  # to see whether anything is lost by fewer
    SETTLED = enum.auto()


class _Level:
    """What is known of a number of calls.

    Attributes:
        limit: the number.
        ahead: answers that come first, to calls that were begun under another number.
        wanted: answers behind them that judge it.
    """

    __slots__ = (
        "_began",
        "_held",
        "_last",
        "_places",
        "_squares",
        "_worked",
        "ahead",
        "answers",
        "limit",
        "refused",
        "seconds",
        "wanted",
    )

    def __init__(self, limit: int, in_flight: int, sample: int) -> None:
        self.limit = limit
        # Of more calls than there are to be, the last have waited longest: one round is theirs.
        self.ahead = limit if in_flight <= limit else in_flight + limit
        # Calls that begin together end together: a part of a round would be none.
        self.wanted = limit * -(-sample // limit)
        self.answers = self.refused = 0
        self.seconds = 0.0
        self._began = self._last = 0.0
        # Seconds that calls held their places, their squares, and those of the answers alone.
        self._held = self._squares = self._worked = 0.0
        self._places = 0.0  # places that were taken, by seconds

    def pass_time(self, in_flight: int, now: float) -> None:
        """Note how many were in flight until now; time in which nobody called is none of its."""
        if not self.ahead:
            if not in_flight:
                self._began += now - self._last
            self._places += in_flight * (now - self._last)
            self._last = now

    def answer(self, held: float, worked: float, now: float) -> bool:
        """Note an answer, and tell whether there are enough.

        Args:
            held: seconds that the call had its place, with pauses behind refusals.
            worked: seconds of the attempt that was answered.
            now: the time.
        """
        if self.ahead:
            self.ahead -= 1
            self._began = self._last = now
            return False
        self.answers += 1
        self._held += held
        self._squares += held * held
        self._worked += worked
        self.seconds = now - self._began
        return self.answers >= self.wanted and self.seconds >= _SECONDS

    def refuse(self) -> None:
        """Note that an attempt was refused."""
        if not self.ahead:
            self.refused += 1

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / max(self.seconds, 1e-9)

    @property
    def refused_share(self) -> float:
        return self.refused / (self.refused + self.answers)

    @property
    def admitted(self) -> int:
        """How many got through at a time: by Little's law, answers a second by their seconds."""
        return max(1, round(self.rate * self._worked / self.answers))

    @property
    def full(self) -> bool:
        """Whether so many were in flight, and not fewer for want of rows."""
        return self._places >= _FULL * self.limit * self.seconds

    @property
    def _uncertainty(self) -> float:
        """The square of the relative standard error of the rate.

        It comes of seconds that differ, and of calls that end in step: half of a round of them may
        be missing, or one too many.
        """
        mean = self._held / self.answers
        spread = max(0.0, self._squares / self.answers / max(mean * mean, 1e-12) - 1)
        return spread / self.answers + (self.limit / self.answers) ** 2 / 48

    def exceeds(self, other: _Level, times: float) -> bool | None:
        """Tell whether its rate is above so many times the other's, `None` if that is unsure."""
        above = math.log(self.rate / other.rate / times)
        unsure = math.sqrt(self._uncertainty + other._uncertainty)
        return None if abs(above) < unsure else above > 0

    def outdoes(self, fewer: _Level, worth: float = _WORTH) -> bool | None:
        """Tell whether it is worth more than fewer calls, `None` if that is unsure."""
        return self.exceeds(fewer, 1 + worth * (self.limit / fewer.limit - 1))


class Concurrency:
    """How many calls an endpoint is given at a time: found by trying, and kept.

    Times are seconds of one clock that never goes back.

    Args:
        most: calls that there can be.

    Attributes:
        limit: how many there may be now, and why.
        in_flight: how many there are; one whose attempt was refused keeps its place.
    """

    def __init__(self, most: int) -> None:
        self.in_flight: int = 0
        self._most = most
        self._mode = _Mode.GROWING
        self._factor = _DOUBLE
        self._anchor: _Level | None = None  # what is compared with
        self._borne = 0.0  # the share of refusals that fewer calls would not lower
        self._slowed = 0  # times in a row that there were far fewer answers
        self._down = True  # whether the next step is to fewer, where some are refused
        self._rest = _FIRST_REST
        self._step_at = math.inf
        self._try(_START, "to begin with")

    @property
    def has_room(self) -> bool:
        """Whether one more may begin."""
        return self.in_flight < self.limit.calls

    def begin(self, now: float) -> None:
        """Note that a call takes a place."""
        self._level.pass_time(self.in_flight, now)
        self.in_flight += 1

    def leave(self, now: float) -> None:
        """Note that a call has given its place back, and was not answered."""
        self._level.pass_time(self.in_flight, now)
        self.in_flight -= 1

    def refuse(self) -> None:
        """Note that an attempt was refused for being one too many."""
        self._level.refuse()

    def succeed(self, held: float, worked: float, now: float) -> None:
        """Note that a call was answered, and has given its place back.

        Args:
            held: seconds that it had it, with pauses behind refusals.
            worked: seconds of the attempt that was answered.
            now: the time.
        """
        self._level.pass_time(self.in_flight, now)
        self.in_flight -= 1
        if self._level.answer(held, worked, now):
            self._judge(now)

    def _judge(self, now: float) -> None:
        if self._mode is _Mode.SETTLED:
            self._watch(now)
        elif not self._level.full:
            self._keep(self._level, "more are not asked for", now)
        elif self._mode is _Mode.GROWING:
            self._judge_growth(now)
        else:
            self._judge_fall(now)

    def _judge_growth(self, now: float) -> None:
        level, anchor = self._level, self._anchor
        better = anchor is None or level.outdoes(anchor)
        if better is None and level.wanted < _ROUNDS * level.limit:
            level.wanted += level.limit  # one round more may tell
            return
        if anchor is not None and not better:
            refused = level.refused_share > anchor.refused_share + _TOLERATED
            if refused or better is False:
                why = f"{level.limit} {_describe(level)}"
                if self._factor == _DOUBLE:
                    # Smaller steps, from what got through.
                    self._factor, self._anchor = _CLIMB, None
                    self._try(level.admitted if refused else anchor.limit, why)
                else:
                    self._conclude(anchor, why, now)
                return
        if better:
            if anchor is not None:
                self._rest = _FIRST_REST
            self._anchor = level
        if level.limit >= self._most:
            self._conclude(level, "max_connections allows no more", now)
        else:
            self._grow(f"{level.limit} {'gave' if better else 'may have given'} more")

    def _judge_fall(self, now: float) -> None:
        level, more = self._level, self._anchor
        assert more is not None  # noqa: S101 - what it has fallen from
        lost = more.outdoes(level)
        eased = level.refused_share <= max(_TOLERATED, more.refused_share / 2)
        # Fewer refusals are worth some answers, unless these are lost in proportion.
        if lost is not False and not (eased and not more.outdoes(level, _WORTH_REFUSALS)):
            self._borne = more.refused_share
            self._settle(more, f"{level.limit} gave less", now)
            return
        # Where it ends, is not known as exactly.
        self._mode, self._anchor = _Mode.GROWING, level
        self._grow(f"{more.limit} {_describe(more)}")

    def _watch(self, now: float) -> None:
        level, anchor = self._level, self._anchor
        assert anchor is not None  # noqa: S101 - what was kept
        more = level.exceeds(anchor, _CHANGE)
        fewer = level.full and anchor.exceeds(level, _CHANGE)
        self._slowed = self._slowed + 1 if fewer else 0
        due = now >= self._step_at
        if due and level.refused_share > _TOLERATED:
            # One step more, and at the next time one that tells again whether they come of it.
            self._borne, self._down = (0.0 if self._down else self._borne), not self._down
        if level.refused_share > self._borne + _TOLERATED:
            self._rest = self._rest if due else _FIRST_REST
            self._conclude(level, "some are refused", now)
        elif self._slowed == _LASTING and level.limit > 1:
            # Begin again, with half of it.
            self._mode, self._factor, self._anchor = _Mode.GROWING, _DOUBLE, None
            self._rest = _FIRST_REST
            self._try(level.limit // 2, "answers have become fewer")
        elif level.full and (more or due) and level.limit < self._most:
            self._mode, self._anchor = _Mode.GROWING, level
            self._grow("to see whether more can be")
        else:
            self._try(level.limit, self.limit.reason, settled=True)

    def _conclude(self, level: _Level, reason: str, now: float) -> None:
        """Keep a number, or see first whether fewer would do as well without refusals."""
        self._factor = _CLIMB
        if level.refused_share > self._borne + _TOLERATED and level.limit > 1:
            self._mode, self._anchor = _Mode.FALLING, level
            self._try(min(level.admitted, level.limit - 1), reason)
        else:
            self._settle(level, reason, now)

    def _grow(self, reason: str) -> None:
        limit = self._level.limit
        self._try(max(limit + 1, int(limit * self._factor)), reason)

    def _settle(self, level: _Level, reason: str, now: float) -> None:
        self._keep(level, reason, now + self._rest)
        self._rest = min(2 * self._rest, _LONGEST_REST)

    def _keep(self, level: _Level, reason: str, step_at: float) -> None:
        self._mode, self._anchor, self._step_at = _Mode.SETTLED, level, step_at
        self._slowed = 0
        self._try(level.limit, reason, settled=True)

    def _try(self, limit: int, reason: str, *, settled: bool = False) -> None:
        calls = max(1, min(limit, self._most))
        doubling = self._factor == _DOUBLE and self._mode is _Mode.GROWING
        sample = max(calls, _FIRST_SAMPLE) if doubling else max(_ROUNDS * calls, _SAMPLE)
        self._level = _Level(calls, self.in_flight, sample)
        self.limit: ConcurrencyLimit = ConcurrencyLimit(calls, reason, settled=settled)


def _describe(level: _Level) -> str:
    return "were too many, and some refused" if level.refused_share > _TOLERATED else "gave no more"
