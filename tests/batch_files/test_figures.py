"""Figures of a batch: as large for ten rows as for ten millions, and right."""

from __future__ import annotations

import random

import pytest

from aiosmrt.batch_files.figures import Distribution, Figures, Timeline
from aiosmrt.batch_files.output_line import Failure, Record


def _record(ended_at: float, seconds: float = 1.0, failure: Failure | None = None) -> Record:
    return Record(0, ended_at, seconds, None if failure else seconds / 2, 1, failure)


@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0])
def test_percentiles_are_within_two_percent(spread: float) -> None:
    chance = random.Random(1)
    values = [chance.lognormvariate(-2, spread) for _ in range(5000)]
    found = Distribution()
    for value in values:
        found.add(value)
    values.sort()
    for share in (0.01, 0.5, 0.9, 0.999):
        assert found.find(share) == pytest.approx(values[round(share * 5000) - 1], rel=0.02)
    assert found.find(1) == values[-1] == found.most
    assert found.total / found.count == pytest.approx(sum(values) / 5000)


def test_a_histogram_has_each_value_once() -> None:
    found = Distribution()
    for number in range(1, 1001):
        found.add(number / 1000)
    counts = found.fill([0.0009, 0.1, 0.5, 1.1])
    assert sum(counts) == 1000
    assert counts == pytest.approx([100, 400, 500], abs=12)


def test_no_time_at_all_is_a_time_like_others() -> None:
    found = Distribution()
    found.add(0.0)
    assert found.find(0.5) == 0.0


def test_a_timeline_says_how_many_were_in_flight() -> None:
    timeline = Timeline()
    for second in range(100):
        for _ in range(5):
            timeline.add(_record(1000 + second + 2, seconds=2.0))
    assert timeline.seconds == 101
    middle = timeline.bins[10:90]
    assert {one.done for one in middle} == {5}
    assert all(one.busy == pytest.approx(10) for one in middle)


def test_a_timeline_does_not_grow_without_end() -> None:
    timeline = Timeline()
    for second in range(20_000):
        timeline.add(_record(second + 1.0))
    assert 240 <= len(timeline.bins) <= 480
    assert sum(one.done for one in timeline.bins) == 20_000
    assert sum(one.busy for one in timeline.bins) == pytest.approx(20_000)
    assert timeline.width == 64


def test_the_time_between_two_runs_is_left_out() -> None:
    timeline = Timeline()
    for second in range(60):
        timeline.add(_record(second + 1.0))
    for second in range(60):
        timeline.add(_record(86_400 + second + 1.0))
    assert timeline.pauses == 1
    assert timeline.seconds == 120
    assert len(timeline.bins) == 121


def test_errors_are_counted_by_kind_with_what_the_first_has_said() -> None:
    figures = Figures()
    for number in range(10):
        kind = "ModelError" if number % 2 else "ThrottlingException"
        failure = Failure(may_have_run=kind == "ModelError", type=kind)
        figures.add(_record(number, failure=failure), f"said {number}")
    figures.add(Record(0, 11, 1, 0.5, 3, None))
    assert (figures.done, figures.failed, figures.at_risk, figures.retries) == (11, 10, 5, 2)
    assert figures.errors["ModelError"].example == "said 1"
    assert figures.errors["ModelError"].may_have_run == 5
    assert figures.errors["ThrottlingException"].count == 5
    assert figures.seconds.count == 1
