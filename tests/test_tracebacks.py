"""What errors say stays, and what they keep alive, or show of where they were, does not."""

from __future__ import annotations

import ast
import json
import traceback
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import aiosmrt
from aiosmrt.tracebacks import drop_tracebacks, forget_locals, hides_locals, walk_chain


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


def _find_raised_variables(tree: ast.AST) -> Iterator[str]:
    """Find what a frame raises of its own variables, and does not delete afterwards."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        deleted = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Try)
            for last in node.finalbody
            if isinstance(last, ast.Delete)
            for target in last.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            kept = node.exc
            if isinstance(kept, ast.Attribute) or (
                isinstance(kept, ast.Name) and kept.id.islower() and kept.id not in deleted
            ):
                yield f"{function.name}: {ast.unparse(node)}"


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n error = E()\n raise error",
        "def f(self):\n raise self._fault",
        "async def f(error):\n raise error from None",
    ],
)
def test_an_error_that_is_raised_and_kept_is_found(source: str) -> None:
    assert len(list(_find_raised_variables(ast.parse(source)))) == 1


def test_no_frame_keeps_the_error_that_it_raises() -> None:
    found = {
        file.name: raised
        for file in Path(aiosmrt.__file__).parent.rglob("*.py")
        if (raised := list(_find_raised_variables(ast.parse(file.read_text()))))
    }
    assert found == {}


def _decode(secret: bytes) -> object:
    inner = secret + b"\xff"
    try:
        return inner.decode()
    except UnicodeDecodeError as error:
        raise KeyError("wrong") from error


@hides_locals
def _fail_with(secret: bytes, *, other: str = "secret") -> object:
    """Fail."""
    mine = other
    return _decode(secret), mine


def _raise(name: str) -> None:
    raise KeyError(name)


def _show(error: BaseException) -> str:
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(shown.format())


def test_what_a_function_was_given_is_not_shown() -> None:
    with pytest.raises(KeyError, match="wrong") as caught:
        _fail_with(b"secret-bytes")
    # Its own lines and the words are there.
    error = caught.value
    lines = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert lines[1:] == ["call", "_fail_with", "_decode"]
    shown = "".join(_show(error).splitlines(keepends=True)[1:])
    assert "can't decode byte 0xff in position 12" in shown
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][1:]
    assert "secret" not in repr([frame.f_locals for frame in frames])
    assert error.__cause__ is not None
    assert "secret" not in repr([error.__cause__, error.__cause__.args])


def test_a_function_is_otherwise_what_it_was() -> None:
    @hides_locals
    def give(value: int, *, more: int = 1) -> int:
        """Give a sum."""
        return value + more

    assert give(1, more=2) == 3
    assert (give.__name__, give.__doc__) == ("give", "Give a sum.")


def test_the_input_of_a_parser_is_dropped() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads('{"a": secret')
    forget_locals(caught.value)
    assert caught.value.doc == ""
    assert str(caught.value) == "Expecting value: line 1 column 7 (char 6)"
    with pytest.raises(UnicodeEncodeError) as failed:
        "secret \ud800 secret".encode()
    said = str(failed.value)
    forget_locals(failed.value, None)
    assert "secret" not in repr(failed.value)
    assert str(failed.value) == said


def test_what_was_hidden_already_is_dropped() -> None:
    def fail() -> None:
        try:
            _raise("secret")
        except KeyError:
            raise ValueError("said") from None

    with pytest.raises(ValueError, match="said") as caught:
        fail()
    forget_locals(caught.value)
    assert caught.value.__context__ is None


def test_what_others_are_handling_is_left_alone() -> None:
    def work() -> Iterator[int]:
        mine = 1
        try:
            _raise("theirs")
        except KeyError as error:
            kept.append(error)
        yield mine
        yield mine + 1

    kept: list[KeyError] = []
    going_on = work()
    next(going_on)
    try:
        raise kept[0]
    except KeyError:
        with pytest.raises(KeyError) as caught:
            _fail_with(b"x")
    # Emptied, the generator would be closed.
    assert next(going_on) == 2
    assert kept[0] in list(walk_chain(caught.value, None))


@attrs.define  # which makes it unhashable, and comparable with its like alone
class _Strange(Exception):
    value: int


def test_any_exception_will_do() -> None:
    group = BaseExceptionGroup("several", [_Strange(1), _Strange(1), KeyError()])
    group.__cause__ = group.exceptions[0]
    group.exceptions[0].__context__ = group
    assert len(list(walk_chain(group, None))) == 4
    assert list(walk_chain(group, group)) == []
