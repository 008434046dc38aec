"""What a line of a script may say, and the step that it makes. Pure."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypedDict

import attrs

from aiosmrt.errors import ConfigurationError
from aiosmrt.local.contents import TokenShape, make_content
from aiosmrt.local.model import InvocationRequest
from aiosmrt.local.received import check_members, show_value
from aiosmrt.local.s3_operations import S3_OPERATIONS
from aiosmrt.local.steps import Match, Play, Step, Test
from aiosmrt.local.words import check_count, check_flag, check_seconds, suggest
from aiosmrt.service import OPERATIONS, spell

__all__ = ["PLACE", "AnswerOptions", "StepOptions", "read_line"]

PLACE: ContextVar[str | None] = ContextVar("PLACE", default=None)
"""Where the lines stand that are read now, if not in Python."""

_PACKAGE = str(Path(__file__).parent.parent)


class StepOptions(TypedDict, total=False):
    """Which requests a step is for.

    Attributes:
        on: an endpoint's name; the location of an input, or of an object of S3, `s3://…`; a dict of
            members of `InvocationRequest`, `json` and `text` among them, and `headers` those that
            are to be there; or a function of an `InvocationRequest`. By default all.
        operation: the service's name of one, such as `InvokeEndpoint` or `invoke_endpoint`. By
            default all that the step can mean something to. One of S3's, such as `GetObject`, has
            the step be for the local S3, whose requests have no other.
        optional: whether `assert_complete` is content if nobody asks for it.
    """

    on: Test
    operation: str
    optional: bool


# What means something to S3, too: what is said in place of an answer, or happens on its way.
_OF_S3 = (
    *("answer", "throttle", "unavailable", "internal_failure", "expired_token", "proxy_page"),
    *("redirect", "hang", "reset", "cut", "slow"),
)
_BARE = (*StepOptions.__annotations__, "times")


class AnswerOptions(StepOptions, total=False):
    """What is answered, and to which requests.

    What is streamed here is joined where a whole answer is asked for, and what is whole is one part
    of a stream; `tokens` and `chat` have a shape of their own for each.

    Attributes:
        on: as in `StepOptions`.
        operation: as in `StepOptions`.
        optional: as in `StepOptions`.
        times: how many calls get it, by default 1; `None` is any number. Such an answer is the
            rule, from which steps that come to an end are exceptions, wherever they stand.
        pace: seconds between the parts of a stream; a list has those before each part, the last of
            which holds for all that follow.
        json: a value, written as JSON.
        text: a str, as UTF-8.
        body: bytes, as they are.
        stream: payload parts: bytes and str as they are, other values as lines of JSON.
        events: server-sent events, one part each: a `ServerSentEvent`, the data as str, or a value
            whose JSON is the data.
        tokens: a text, word by word as a language model's server streams it.
        shape: of `tokens`: `openai-completion` (the default), `openai-chat`, `tgi` or `lmi`.
        chat: an answer in OpenAI's chat shape: its text, or a message with `content` and
            `tool_calls`.
        model: a function of one `InvocationRequest`, as `LocalEndpoint` takes it.
        content_type: the media type, in place of the content's own.
        custom_attributes: what is said beside the answer.
        new_session_id: of a session that is opened.
        closed_session_id: of a session that is closed.
        invoked_production_variant: the variant that answered.
    """

    times: int | None
    pace: float | Sequence[float]
    json: object
    text: str
    body: bytes
    stream: Iterable[object]
    events: Iterable[object]
    tokens: str
    shape: TokenShape
    chat: str | Mapping[str, object]
    model: Callable[[InvocationRequest], object]
    content_type: str | None
    custom_attributes: str | None
    new_session_id: str | None
    closed_session_id: str | None
    invoked_production_variant: str | None


def read_line(
    name: str,
    said: Mapping[str, object],
    options: Mapping[str, Any],
    play: Play,
    operations: tuple[str, ...],
    *,
    framed: bool = False,
    answers: bool = True,
) -> Step:
    """Make a step.

    Args:
        name: the line's first word.
        said: its own options, to be shown.
        options: the fields of `AnswerOptions`.
        play: what its own options come to.
        operations: the only ones that it means something to; none is all.
        framed: whether it means something to streams in frames alone.
        answers: whether it may have an answer: what is refused has none.

    Raises:
        ConfigurationError: an option whose value cannot be used.
        TypeError: an option that does not exist.
    """
    given = dict(options)
    known = tuple(AnswerOptions.__annotations__) if answers else _BARE
    for option in given:
        if option not in known:
            raise TypeError(f"{name}() has no option {option}{suggest(option, (*known, *said))}")
    shown = ", ".join(f"{key}={show_value(key, value)}" for key, value in {**said, **given}.items())
    on, operation = given.pop("on", None), given.pop("operation", None)
    times, optional = given.pop("times", 1), given.pop("optional", False)
    pace = given.pop("pace", None)
    _check_test(on)
    if operation is not None:
        operations = _find_operation(name, operation, operations)
        if operations[0] in S3_OPERATIONS:
            _check_s3(name, operations[0], options, play)
    if times is not None:
        check_count("times", times, 1)
    changes: dict[str, Any] = {}
    content = make_content(given)
    if content is not None:
        changes["content"] = content
    if pace is not None:
        changes["delays"] = _read_pace(name, pace, play)
    return Step(
        words=f"{name}({shown})",
        place=_find_place(),
        match=Match(on, operations, framed),
        play=attrs.evolve(play, **changes),
        times=times,
        optional=check_flag("optional", optional),
    )


def _read_pace(name: str, pace: object, play: Play) -> tuple[float, ...]:
    if play.delays:
        raise ConfigurationError(f"pace and {name}: each says when parts come")
    if not isinstance(pace, list | tuple):
        return (0.0, check_seconds("pace", pace))
    if not pace:
        raise ConfigurationError("pace must be seconds, or a list of them, not an empty one")
    return tuple(check_seconds("pace", delay) for delay in pace)


def _check_test(test: object) -> None:
    if isinstance(test, Mapping):
        check_members(test)
    elif inspect.iscoroutinefunction(test):
        raise ConfigurationError(
            "on must be a function that is not async: each request waits for it"
        )
    elif not (test is None or isinstance(test, str) or callable(test)):
        raise ConfigurationError(
            "on must be an endpoint's name, a dict of a request's members, or a function of a "
            f"request, not {test!r}"
        )


def _find_operation(name: str, operation: object, possible: tuple[str, ...]) -> tuple[str, ...]:
    names = (*OPERATIONS, *S3_OPERATIONS)
    known = {spell(known): known for known in names}
    found = known.get(operation, operation) if isinstance(operation, str) else ""
    if found not in names:
        raise ConfigurationError(
            f"operation must be {', '.join(OPERATIONS)}, or one of S3's: {', '.join(S3_OPERATIONS)}"
            f"; not {operation!r}{suggest(operation, names)}"
        )
    s3 = found in S3_OPERATIONS
    if name not in _OF_S3 if s3 else possible and found not in possible:
        raise ConfigurationError(f"{name}() means nothing to {found}")
    return (found,)


def _check_s3(name: str, operation: str, options: Mapping[str, object], play: Play) -> None:
    position = 0 if play.fault is None else play.fault.position
    if operation.startswith("Head") and position > 0:
        raise ConfigurationError(f"{name}(): an answer to {operation} is its head, and no body")
    if position > 1:  # its length is told, so that nothing can be missing behind it
        raise ConfigurationError(
            f"{name}(): an answer to {operation} is one part: at='first_part', or of cut "
            "inside='chunk' for half of it"
        )
    if beside := [option for option in options if option not in _BARE]:
        raise ConfigurationError(f"{name}() with {', '.join(beside)} means nothing to {operation}")
    on = options.get("on")
    if isinstance(on, str) and not on.startswith("s3://"):
        raise ConfigurationError(f"on must be an object's place for {operation}: s3://bucket/key")


def _find_place() -> str:
    """Say where the line stands that has called this package."""
    if (place := PLACE.get()) is not None:
        return place
    frame = sys._getframe()  # noqa: SLF001 - what `traceback` uses, without reading the source
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
