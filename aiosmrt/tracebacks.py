"""What the traceback of an error keeps alive."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["drop_tracebacks"]

E = TypeVar("E", bound=BaseException)


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
