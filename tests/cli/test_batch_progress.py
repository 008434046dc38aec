"""What is shown of a batch while it runs."""

from __future__ import annotations

import asyncio
import io
import sys
from types import SimpleNamespace
from typing import cast

import pytest

from aiosmrt.batch_files import Figures, Job, Record
from aiosmrt.batch_files.output_line import Failure
from aiosmrt.cli import batch_progress
from aiosmrt.cli.batch_progress import Progress, Retries, count, describe_rows, show_progress
from aiosmrt.errors import ThrottlingException
from aiosmrt.hooks import OnRetry


def _make(done: int = 0, failed: int = 0) -> Job:
    """Give what a job shows of itself."""
    figures = Figures()
    failure = Failure(may_have_run=True, type="ModelError")
    for row in range(done):
        figures.add(Record(row, 1e9, 0.1, 0.1, 1 + row % 2, failure if row < failed else None))
    job = SimpleNamespace(
        figures=figures, under_way={1, 2, 3}, limit=16, limit_reason="throttled at 17"
    )
    return cast("Job", job)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_rows_are_told_with_what_is_at_risk() -> None:
    assert describe_rows(Figures(), None) == "0 rows done"
    assert describe_rows(_make(1234).figures, 20_000) == "1,234 of 20,000 rows done"
    text = "10 of 10 rows done, 2 failed (2 may have run)"
    assert describe_rows(_make(10, 2).figures, 10) == text
    assert (count(1, "row"), count(1000, "row")) == ("1 row", "1,000 rows")


def test_the_pace_is_told_with_why_so_many_are_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    retries = Retries()
    progress = Progress(_make(), 1000, retries)
    now = 110.0
    progress.job.figures.done = 100
    for _ in range(7):
        # Of rows that are under way, as long as an endpoint refuses all of them.
        retries.note(cast("OnRetry", SimpleNamespace(error=ThrottlingException("no", status=429))))
    progress.look()
    assert progress.describe_pace() == (
        "10.0 rows/s, 3 in flight (throttled at 17: 16), 7 retries (the last after "
        "ThrottlingException), 2 min left"
    )
    # What was long ago counts no longer.
    for _ in range(30):
        now += 1
        progress.look()
    assert progress.rate == 0


@pytest.mark.parametrize(
    ("left", "said"), [(30, "3 s left"), (6000, "10 min left"), (100_000, "2.8 h left")]
)
def test_the_time_left_is_in_the_unit_that_suits_it(
    left: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    progress = Progress(_make(), left + 100, Retries())
    now, progress.job.figures.done = 110.0, 100
    progress.look()
    assert progress.describe_pace().endswith(said)


async def _show(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    """Give what is on standard error after some looks."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        task = asyncio.create_task(show_progress(_make(7, 1), 10, Retries()))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    return stream.getvalue()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A terminal that is looked at often."""
    monkeypatch.setattr(batch_progress, "_LOOK", 0.01)
    monkeypatch.setattr(batch_progress, "_LINE", 0.01)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


LINE = "aiosmrt: 7 of 10 rows done, 1 failed (1 may have run); "


@pytest.mark.asyncio
async def test_a_terminal_shows_a_bar_and_wipes_it(looks: pytest.MonkeyPatch) -> None:
    shown = await _show(looks, _Terminal())
    assert "7 of 10 rows done, 1 failed (1 may have run)" in shown
    assert "━" in shown
    assert "\x1b[38;5;" in shown
    assert shown.rstrip("\r\n").endswith("\x1b[2K")


@pytest.mark.asyncio
async def test_colour_can_be_had_without(looks: pytest.MonkeyPatch) -> None:
    looks.setenv("NO_COLOR", "1")
    shown = await _show(looks, _Terminal())
    assert "━" in shown
    assert "\x1b[38;5;" not in shown


@pytest.mark.asyncio
async def test_a_terminal_that_cannot_move_its_cursor_gets_lines(looks: pytest.MonkeyPatch) -> None:
    looks.setenv("TERM", "dumb")
    assert (await _show(looks, _Terminal())).startswith(LINE)


@pytest.mark.asyncio
async def test_without_rich_there_are_lines(looks: pytest.MonkeyPatch) -> None:
    looks.setitem(sys.modules, "rich.console", None)
    assert (await _show(looks, _Terminal())).startswith(LINE)


@pytest.mark.asyncio
async def test_a_file_gets_lines(looks: pytest.MonkeyPatch) -> None:
    shown = await _show(looks, io.StringIO())
    assert shown.startswith(LINE)
    assert "\x1b" not in shown
