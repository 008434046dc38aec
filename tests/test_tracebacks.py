"""Errors that are kept: what they say stays, what they keep alive does not."""

from __future__ import annotations

import pytest

from aiosmrt.tracebacks import drop_tracebacks


def _fail() -> None:
    try:
        _fail_by_mistake()
    except ValueError as error:
        raise OSError("last") from error


def _fail_by_mistake() -> None:
    try:
        "".index("first")
    except ValueError:
        int("a context, not a cause")


def test_neither_an_error_nor_what_caused_it_has_a_traceback() -> None:
    with pytest.raises(OSError, match="last") as caught:
        _fail()
    error = caught.value
    cause = error.__cause__
    assert isinstance(cause, ValueError)
    assert cause.__traceback__ is not None
    assert drop_tracebacks(error) is error
    assert error.__cause__ is cause
    for link in (error, cause):
        assert (link.__traceback__, link.__context__) == (None, None)


def test_what_the_application_was_handling_stays_as_it_is() -> None:
    with pytest.raises(ValueError, match="substring") as handled:
        "".index("of the application")
    error = OSError("of a call that was made meanwhile")
    error.__context__ = handled.value
    drop_tracebacks(error)
    assert handled.value.__traceback__ is not None
