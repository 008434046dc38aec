"""A document in steps: what json.loads gives, or its error, and no step that is long."""

from __future__ import annotations

import bisect
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.payload import large_document
from aiosmrt.payload.large_document import LargeDocument
from aiosmrt.value import JSONValue

MIB = 1 << 20
PIECE = 16 * 1024  # characters, or a little more

_decode: Callable[[str], JSONValue] = json.JSONDecoder().decode  # `json.loads` with a mark, too

spaces = st.sampled_from(["", "", "", " ", "\n  ", " \t\r\n   "])
texts = st.lists(
    st.sampled_from(
        ["a", "é", "😀", "\\n", '\\"', "\\\\", "\\u00e9", "\\ud83d", "\\ude00", *",:[]{} "]
    ),
    max_size=12,
).map(lambda characters: f'"{"".join(characters)}"')
scalars = st.one_of(
    st.sampled_from(["0", "-0", "1.5e3", "1" * 25, "1" * 5000, "true", "false", "null"]),
    st.sampled_from(["NaN", "Infinity", "-Infinity"]),
    texts,
)
names = st.one_of(st.sampled_from(['""', '"a"', '"b"']), texts)


def _spaced(text: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(spaces, text, spaces).map("".join)


def _containers(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.tuples(_spaced(names), _spaced(values)).map(":".join)
    arrays = st.lists(_spaced(values), max_size=6).map(lambda found: f"[{','.join(found)}]")
    return arrays | st.lists(members, max_size=6).map(lambda found: f"{{{','.join(found)}}}")


documents = _spaced(st.recursive(scalars, _containers, max_leaves=30))


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """Give a document from which something is missing, or in which something is too many."""
    text = draw(documents)
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(text)))
        end = draw(st.integers(begin, begin + 2))
        put = draw(st.sampled_from(["", "", *'[]{},:"\\ 01e.-tN\x0b\n', ",,", "[]", "\\u12"]))
        text = text[:begin] + put + text[end:]
    return text


def _outcome(decode: Callable[[], JSONValue]) -> object:
    """Give what comes out in a form that tells apart all that differs, NaN and -0 included."""
    try:
        return repr(decode())
    except json.JSONDecodeError as error:
        return error.pos, error.msg, error.lineno, error.colno
    except (ValueError, RecursionError) as error:
        return type(error), str(error)


def _same(text: str, piece: int, long: int) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_document, "_PIECE", piece)
        patch.setattr(large_document, "_LONG", long)
        return _outcome(LargeDocument(text).finish) == _outcome(lambda: _decode(text))


sizes: dict[str, st.SearchStrategy[Any]] = {
    "piece": st.sampled_from([1, 2, 3, 5, 8, 16, 64]),
    "long": st.sampled_from([0, 1, 4, 64]),
}


@given(text=documents, **sizes)
def test_a_document_has_the_value_that_json_gives_it(text: str, piece: int, long: int) -> None:
    assert _same(text, piece, long)


@given(text=damaged(), **sizes)
def test_what_is_wrong_is_said_as_json_says_it(text: str, piece: int, long: int) -> None:
    assert _same(text, piece, long)


@pytest.mark.parametrize(
    "text",
    [
        '{"x": [1, 2], "b": [], "x": [3, [4], {"x": 5}], "": 1, "": {"": [2]}, "b": 6}',
        '{"a": [1], "": "x", "b": {"": 0, "c": [1]}, "": 2}',
        '["\\ud83d\\ude00", "\\ud83d", "\\ude00\\ud83d\\ud83d\\ude00", "\\\\ud83d\\ude00"]',
        "[[1], 2, [[]], {}, [[[3]], 4]]",
        '[[1].5, "a"]',  # what stands in for a member before is not to be a part of the number
        "[[1]5]",
        "[[1],]",
        "[[],,1]",
        "[,1]",
        "[[,1]]",
        "[ ,1]",
        "{,}",
        '{"a":1,}',
        '{"a":{},}',
        '{"a":[], [1]}',
        '{"a" 1, "b": [2]}',
        '{"a":, "b": [2]}',
        '{"a":[1}',
        '["a": 1]',
        '{"a\\x": 1}',
        '{"a\\x" 1}',
        '["abc\\u12"]',
        '["\\ud83d\\u12"]',
        '["abc',
        '["abc\\"',
        '"abc',
        '"ab\\"c" 1',
        "",
        "  ",
        "[1] [2]",
        "[1]]",
        "x",
        "\ufeff[]",
    ],
)
def test_seams_are_not_seen(text: str) -> None:
    for piece in (1, 2, 3, 4, 7, 100):
        for long in (0, 2, 100):
            assert _same(text, piece, long), (piece, long)


@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}"), ('[1,{"a":[', '],"b":2}]')])
def test_containers_are_in_each_other_as_deep_as_json_has_them(begin: str, end: str) -> None:
    def fits(depth: int, decode: Callable[[str], JSONValue]) -> bool:
        # What comes later does not make it deeper, and is longer than a piece.
        text = begin * depth + '["x", ' + "[0], " * PIECE + "1]" + end * depth
        try:
            decode(text)
        except RecursionError:
            return False
        return True

    assert fits(100, lambda text: LargeDocument(text).finish())
    if sys.version_info < (3, 12):  # later, json counts otherwise, or looks at the stack
        depths = range(100, 1100, 20)
        limit = depths[bisect.bisect(depths, 0, key=lambda depth: not fits(depth, json.loads))]
        assert not fits(limit + 20, lambda text: LargeDocument(text).finish())
        assert fits(limit - 40, lambda text: LargeDocument(text).finish())


def test_what_is_deep_far_behind_counts_with_what_is_open() -> None:
    # Each half of the depth alone is fine.
    half = sys.getrecursionlimit() * 2 // 3
    blanks = "0," * PIECE
    text = f"{'[' * half}{blanks}{'[' * half}{']' * half},{blanks}0{']' * half}"
    if isinstance(_outcome(lambda: json.loads(text)), tuple):
        with pytest.raises(RecursionError):
            LargeDocument(text).finish()


def test_the_steps_are_taken_once() -> None:
    document = LargeDocument(json.dumps([["x" * 100] * 100] * 100))
    taken = sum(1 for _, _ in zip(range(5), document.steps, strict=False))
    assert taken == 5
    assert document.finish() == [["x" * 100] * 100] * 100
    assert document.finish() == [["x" * 100] * 100] * 100
    assert next(document.steps, None) is None


_CASES: dict[str, Callable[[int], str]] = {
    "open arrays": lambda n: "[" * n,
    "open objects": lambda n: '{"a":' * (n // 5),
    "numbers": lambda n: f"[{'1,' * (n // 2)}1]",
    "numbers and blanks": lambda n: f"[{'1 ,' * (n // 3)}1]",
    "a text": lambda n: '["' + "a" * n + '"]',
    "a text alone": lambda n: '"' + "a" * n + '"',
    "escapes": lambda n: '{"a":"' + "\\n" * (n // 2) + '"}',
    "surrogates": lambda n: '["' + "\\ud83d\\ude00" * (n // 12) + '"]',
    "blanks": lambda n: f"[{' ' * n}1]",
    "texts": lambda n: json.dumps(["x" * 60_000] * (n // 60_000)),
    "an object": lambda n: json.dumps({str(i): i for i in range(n // 16)}),
    "empty arrays": lambda n: f"[{'[],' * (n // 3)}1]",
    "nested": lambda n: f"[{'[[[]]],' * (n // 7)}1]",
    "up and down": lambda n: f"[{('[' * 500 + '1' + ',[]]' * 500 + ',') * (n // 2502)}1]",
    "rows": lambda n: json.dumps([{"id": i, "t": ["a\nb", {"x": 1.5}]} for i in range(n // 45)]),
}


@pytest.fixture
def _no_collector() -> Iterator[None]:
    """Keep the collector away: it looks at all that a document makes, whoever makes it."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("name", _CASES)
def test_no_step_is_long(name: str) -> None:
    text = _CASES[name](MIB)

    def measure() -> float:
        longest = 0.0
        document = LargeDocument(text)
        before = time.thread_time()
        for _ in document.steps:
            longest, before = max(longest, time.thread_time() - before), time.thread_time()
        return max(longest, time.thread_time() - before)

    assert any(measure() < 0.03 for _ in range(3))  # measured: 0.1 to 6 ms


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("name", [name for name in _CASES if not name.startswith("open")])
def test_the_work_is_linear(name: str) -> None:
    def measure(length: int) -> float:
        text = _CASES[name](length)
        before = time.thread_time()
        LargeDocument(text).finish()
        return time.thread_time() - before

    # Measured: 2 to 6. One undisturbed pair is enough.
    assert any(measure(MIB // 2) < 16 * measure(MIB // 8) for _ in range(5))


def test_it_costs_no_more_memory_than_json_and_some_pieces() -> None:
    text = _CASES["rows"](MIB // 4)

    def peak(decode: Callable[[], JSONValue]) -> int:
        tracemalloc.start()
        try:
            decode()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Measured: 1.1; each piece has names of its own.
    assert peak(LargeDocument(text).finish) < 1.5 * peak(lambda: json.loads(text))
