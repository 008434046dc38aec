"""How far a batch is: a line now and then, or a bar on a terminal (the extra `aiosmrt[batch]`)."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import sys
import time
from collections.abc import Callable, Generator
from typing import Any, Final

import attrs

from aiosmrt.batch_files import Figures, Job
from aiosmrt.cli.terminal import can_rewrite, warn
from aiosmrt.hooks import OnRetry
from aiosmrt.plain_text import to_line

__all__ = ["Progress", "Retries", "count", "describe_rows", "show_progress"]

_WINDOW: Final = 20.0  # seconds over which the rate is taken
_LINE: Final = 10.0  # seconds between two lines in a log
_LOOK: Final = 0.5  # seconds between two looks on a terminal
_MINUTE: Final = 60
_HOUR: Final = 3600


@attrs.define
class Retries:
    """Attempts that have failed and are made again, also those of rows that are not done yet.

    Attributes:
        count: how many.
        last: what the last one failed with.
    """

    count: int = 0
    last: str = ""

    def note(self, event: OnRetry) -> None:
        """Take one more."""
        self.count += 1
        self.last = type(event.error).__name__


class Progress:
    """Puts the state of a job into words.

    Args:
        job: which is looked at.
        total: rows of the input; `None` where nobody knows.
        retries: of its calls.
    """

    def __init__(self, job: Job, total: int | None, retries: Retries) -> None:
        self.job = job
        self._retries = retries
        self.total = total
        self._looks = collections.deque([(time.monotonic(), job.figures.done)])

    def look(self) -> None:
        """Take note of how much is done now."""
        now = time.monotonic()
        self._looks.append((now, self.job.figures.done))
        while self._looks[1][0] < now - _WINDOW:
            self._looks.popleft()

    @property
    def rate(self) -> float:
        """Rows a second, of late."""
        (begin, before), (end, after) = self._looks[0], self._looks[-1]
        return (after - before) / (end - begin) if end > begin else 0.0

    def describe_pace(self) -> str:
        """Say how it goes."""
        job, rate = self.job, self.rate
        text = f"{rate:,.1f} rows/s, {len(job.under_way):,} in flight"
        if job.limit_reason:
            text += f" ({to_line(job.limit_reason)}: {job.limit:,})"
        if self._retries.count:
            text += f", {self._retries.count:,} retries"
            text += f" (the last after {self._retries.last})"
        if self.total is not None and rate:
            text += f", {_describe_time((self.total - job.figures.done) / rate)} left"
        return text


def describe_rows(figures: Figures, total: int | None) -> str:
    """Say what came of how many."""
    text = count(figures.done, "row") if total is None else f"{figures.done:,} of {total:,} rows"
    text += " done"
    if figures.failed:
        text += f", {figures.failed:,} failed"
    if figures.at_risk:
        text += f" ({figures.at_risk:,} may have run)"
    return text


def count(number: int, noun: str) -> str:
    """Write a number before its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _describe_time(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"


async def show_progress(job: Job, total: int | None, retries: Retries) -> None:
    """Show how far a job is until it is cancelled."""
    progress = Progress(job, total, retries)
    with _open_bar(progress) as draw:
        pause = _LINE if draw is _write_line else _LOOK
        while True:
            await asyncio.sleep(pause)
            progress.look()
            draw(progress)


def _write_line(progress: Progress) -> None:
    warn(f"{describe_rows(progress.job.figures, progress.total)}; {progress.describe_pace()}")


@contextlib.contextmanager
def _open_bar(progress: Progress) -> Generator[Callable[[Progress], None]]:
    """Give what shows the progress; on a terminal, with rich, a bar."""
    bar = _make_bar(progress) if can_rewrite(sys.stderr) else None
    if bar is None:
        yield _write_line
        return
    live, draw = bar
    with live:
        yield draw


def _make_bar(progress: Progress) -> tuple[Any, Callable[[Progress], None]] | None:
    try:
        from rich.console import Console, Group  # noqa: PLC0415 - an extra
        from rich.live import Live  # noqa: PLC0415 - as above
        from rich.progress_bar import ProgressBar  # noqa: PLC0415 - as above
        from rich.text import Text  # noqa: PLC0415 - as above
    except ModuleNotFoundError:
        return None
    console = Console(stderr=True)

    def render(progress: Progress) -> Group:
        done = progress.job.figures.done
        return Group(
            Text(describe_rows(progress.job.figures, progress.total)),
            Text(progress.describe_pace()),
            ProgressBar(total=progress.total, completed=done, pulse=progress.total is None),
        )

    # What is warned of meanwhile is printed above it.
    live = Live(render(progress), console=console, auto_refresh=False, transient=True)
    return live, lambda now: live.update(render(now), refresh=True)
