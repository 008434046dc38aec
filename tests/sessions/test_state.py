"""What is known of a session, without a socket or a wait."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from typing import TypeAlias

import pytest

from aiosmrt.models import InvokeEndpointResponse
from aiosmrt.sessions import SessionState

Answer: TypeAlias = Callable[..., InvokeEndpointResponse]

_SAID = datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC)  # when the answers say that it is
_HOUR = datetime.timedelta(hours=1)


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def state(clock: _Clock) -> SessionState:
    return SessionState(clock)


def test_at_first_there_is_no_session(state: SessionState) -> None:
    assert (state.session_id, state.expires_at, state.end) == (None, None, None)
    assert not state.is_open


def test_its_time_is_what_the_answer_itself_says(
    state: SessionState, clock: _Clock, answer: Answer
) -> None:
    """Whatever year this machine's clock shows."""
    state.note(answer("a", _SAID + _HOUR))
    assert (state.session_id, state.expires_at) == ("a", _SAID + _HOUR)
    clock.now += 3598
    assert state.is_open
    clock.now += 1.5  # the second that HTTP's dates leave in the dark
    assert state.end == "expired"
    assert not state.is_open


def test_without_a_date_this_machine_says_what_time_it_is(
    state: SessionState, clock: _Clock, answer: Answer
) -> None:
    state.note(answer("a", datetime.datetime.now(datetime.UTC) + _HOUR, date=None))
    clock.now += 3590
    assert state.is_open
    clock.now += 11
    assert state.end == "expired"


@pytest.mark.parametrize("left", [datetime.timedelta(0), -_HOUR])
def test_an_end_in_the_past_is_not_believed(
    state: SessionState,
    clock: _Clock,
    answer: Answer,
    caplog: pytest.LogCaptureFixture,
    left: datetime.timedelta,
) -> None:
    """Containers write local time and call it UTC; only the container can say that it is over."""
    with caplog.at_level(logging.WARNING, "aiosmrt"):
        state.note(answer("a\nb", _SAID + left))
    assert "session a b was opened with an end in the past" in caplog.text
    clock.now += 1e9
    assert state.is_open


def test_a_session_may_have_no_end(state: SessionState, clock: _Clock, answer: Answer) -> None:
    state.note(answer("a"))
    clock.now += 1e9
    assert state.is_open


def test_an_answer_can_prolong_it_or_name_another(
    state: SessionState, clock: _Clock, answer: Answer
) -> None:
    state.note(answer("a", _SAID + _HOUR))
    clock.now += 3000
    state.note(answer("a", _SAID + 2 * _HOUR))
    clock.now += 3000
    assert state.is_open
    state.note(answer("b", _SAID + _HOUR, closed="a"))
    assert state.session_id == "b"
    assert state.is_open


def test_the_container_closes_it(state: SessionState, answer: Answer) -> None:
    state.note(answer("a", _SAID + _HOUR))
    state.note(answer())
    state.note(answer(closed="another"))
    assert state.is_open
    state.note(answer(closed="a"))
    assert state.end == "closed"
    assert state.session_id == "a"
    state.refuse("a")
    assert state.end == "closed"


def test_an_answer_that_closes_nothing_we_have_opened_means_nothing(
    state: SessionState, answer: Answer
) -> None:
    state.note(answer())
    assert state.end is None


def test_a_refusal_counts_for_the_session_that_it_is_about(
    state: SessionState, answer: Answer
) -> None:
    state.note(answer("b"))
    state.refuse("a")
    assert state.is_open
    state.refuse("b")
    assert state.end == "refused"


def test_another_takes_its_place(state: SessionState, clock: _Clock, answer: Answer) -> None:
    state.note(answer("a", _SAID + _HOUR))
    clock.now += 4000
    assert not state.is_open
    state.note(answer())
    assert state.end == "expired"
    state.note(answer("b", _SAID + _HOUR))
    assert state.is_open
