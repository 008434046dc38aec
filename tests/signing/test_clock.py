from __future__ import annotations

import datetime
from email.utils import format_datetime

import pytest

from aiosmrt.signing.clock import Clock


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _date(seconds: float) -> str:
    return format_datetime(_now() + datetime.timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("skew", [-86_400, -241, 300, 7200])
def test_a_clock_that_is_far_off_is_corrected_once(skew: float) -> None:
    clock = Clock()
    signed_at = clock.now()
    assert clock.correct(signed_at, _date(skew))
    assert clock.offset == pytest.approx(skew, abs=2)
    assert abs((clock.now() - _now()).total_seconds() - skew) < 2
    # A second call that had signed by the old clock signs anew, without moving it again.
    offset = clock.offset
    assert clock.correct(signed_at, _date(skew))
    assert clock.offset == offset
    assert not clock.correct(clock.now(), _date(skew))


@pytest.mark.parametrize("skew", [0, 200, -200])
def test_a_clock_that_is_right_is_left_alone(skew: float) -> None:
    clock = Clock()
    assert not clock.correct(clock.now(), _date(skew))
    assert clock.offset == 0.0


@pytest.mark.parametrize("date", [None, "", "soon", "Sat, 01 Jan 9999 00:00:00 GMT"])
def test_a_date_that_says_nothing_teaches_nothing(date: str | None) -> None:
    clock = Clock()
    assert not clock.correct(clock.now(), date)
    assert clock.offset == 0.0


def test_a_date_of_unknown_zone_is_utc() -> None:
    clock = Clock()
    assert clock.correct(_now(), "Thu, 01 Jan 2026 00:00:00 -0000")
    assert clock.offset < 0


def test_an_offset_can_be_given() -> None:
    assert (Clock(3600).now() - _now()).total_seconds() == pytest.approx(3600, abs=2)
