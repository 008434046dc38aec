"""What an error keeps of where it was raised: what its traceback keeps alive, and shows."""

from __future__ import annotations

import functools
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

__all__ = ["drop_tracebacks", "forget_locals", "hides_locals", "walk_chain"]

E = TypeVar("E", bound=BaseException)
P = ParamSpec("P")
R = TypeVar("R")


def drop_tracebacks(error: E) -> E:
    """Make an error one that can be kept; whoever has it raises copies of it.

    A traceback refers to the frames that an error has passed, and these to their variables and to
    their callers: mostly to whoever keeps it. That is a circle, in which a call would live on with
    its body and its answer until the collector runs. So a kept error has no traceback, nor has what
    caused it.

    Returns:
        The error itself.
    """
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = link.__context__ = None
        link = link.__cause__
    return error


def forget_locals(*errors: BaseException | None) -> None:
    """Empty the frames that errors have left, and drop the input that could not be read.

    The lines of a traceback stay. It is for what is not carried in an object that does not show it
    (see `aiosmrt.redaction`): what other people's code has in its frames, and arguments that are
    plain values by the interface.
    """
    for error in errors:
        if error is None:
            continue
        traceback.clear_frames(error.__traceback__)
        if error.__suppress_context__ and error.__cause__ is None:
            error.__context__ = None  # `from None`: somebody has seen to it that it is not shown
        if isinstance(error, json.JSONDecodeError):
            error.doc = ""
        elif isinstance(error, UnicodeDecodeError | UnicodeEncodeError):
            # Its text tells where which bytes or characters were wrong: so much stays.
            text: Any = error.object
            error.object = text[:0].ljust(error.start) + text[error.start : error.end]
            error.args = (error.encoding, error.object, *error.args[2:])


def walk_chain(error: BaseException, handled: BaseException | None) -> Iterator[BaseException]:
    """Give an error, its causes and its contexts.

    Args:
        error: what was raised.
        handled: what was being handled already when the work began that failed: it, and what is
            behind it, belongs to somebody else, whose frames may not even have been left.
    """
    pending: list[BaseException | None] = [error]
    done = [handled]
    while pending:
        one = pending.pop()
        # Not by equality: an exception need not be comparable, nor hashable.
        if one is not None and not any(one is other for other in done):
            done.append(one)
            pending += (one.__cause__, one.__context__)
            if isinstance(one, BaseExceptionGroup):
                pending += one.exceptions
            yield one


def hides_locals(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function's errors show neither its arguments nor anything that it made of them."""

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        handled = sys.exception()
        try:
            return function(*args, **options)
        except BaseException as error:
            forget_locals(*walk_chain(error, handled))
            del args, options
            raise

    return call
