"""Errors that are kept: what they say stays, what they keep alive does not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import aiosmrt
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
