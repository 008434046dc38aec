"""Which piece belongs to which tool call, whatever a server leaves out or repeats."""

from __future__ import annotations

from typing import Any

import pytest

from aiosmrt.errors import InvalidJSON
from aiosmrt.models import JSONValue
from aiosmrt.payload import ChatAccumulator, ChatChunk
from aiosmrt.payload.tool_calls import ToolCallReader


def _piece(arguments: str = "", name: JSONValue = None, **members: JSONValue) -> JSONValue:
    return {**members, "function": {"name": name, "arguments": arguments}}


def _add(*deltas: JSONValue) -> list[tuple[int, str, str, str]]:
    reader, accumulator = ToolCallReader(), ChatAccumulator()
    for delta in deltas:
        calls = tuple(reader.read({"tool_calls": delta}, is_whole=False))
        accumulator.add(ChatChunk(0, tool_calls=calls))
    calls = accumulator.message.tool_calls
    return [(call.index, call.id, call.name, call.arguments) for call in calls]


def test_pieces_are_told_apart_by_their_index() -> None:
    assert _add(
        [_piece("", "f", index=0, id="a")],
        [_piece("[", index=0), _piece("", "g", index=1, id="b")],
        [_piece("{}", index=1)],
        [_piece("]", index=0)],
    ) == [(0, "a", "f", "[]"), (1, "b", "g", "{}")]


@pytest.mark.parametrize("index", [{}, {"index": None}, {"index": "0"}, {"index": True}])
def test_without_an_index_an_id_or_a_name_begins_a_call(index: dict[str, Any]) -> None:
    expected = [(0, "a", "f", "[]"), (1, "b", "f", "{}")]
    assert (
        _add(
            [_piece("", "f", id="a", **index)],
            [_piece("[", **index)],
            [_piece("]", **index)],
            [_piece("{", "f", id="b", **index)],
            [_piece("}", **index)],
        )
        == expected
    )
    # Pieces of two calls in turn, which have their ids.
    assert (
        _add(
            [_piece("[", "f", id="a", **index), _piece("{", "f", id="b", **index)],
            [_piece("]", id="a", **index), _piece("}", id="b", **index)],
        )
        == expected
    )
    assert _add([_piece("[]", "f", **index)], [_piece("{}", "f", **index)]) == [
        (0, "", "f", "[]"),
        (1, "", "f", "{}"),
    ]


def test_an_id_may_come_before_its_name_and_alone() -> None:
    assert _add([{"id": "a"}], [_piece("[", "f")], [_piece("]")]) == [(0, "a", "f", "[]")]


def test_ids_and_names_that_are_repeated_are_of_one_call() -> None:
    indexes: list[dict[str, Any]] = [{}, {"index": 0}]
    for index in indexes:
        pieces: list[JSONValue] = [[_piece(text, "f", id="a", **index)] for text in ("[", "1", "]")]
        assert _add(*pieces) == [(0, "a", "f", "[1]")]


def test_the_first_of_many_ids_counts() -> None:
    # As older releases of vLLM make a new one for each piece.
    assert _add(
        [_piece("", "f", index=0, id="a")],
        [_piece("[", index=0, id="x")],
        [_piece("]", index=0, id="y")],
    ) == [(0, "a", "f", "[]")]


def test_names_that_are_repeated_beside_new_ids_are_of_one_call_until_it_is_whole() -> None:
    pieces = [("{", "a"), ('"a": {}', "b"), ("}", "c"), ("{}", "d"), ("", "e"), ("", "f")]
    # Of the last two, nothing says that they are calls.
    assert _add(*([_piece(text, "f", index=0, id=call_id)] for text, call_id in pieces)) == [
        (0, "a", "f", '{"a": {}}'),
        (1, "d", "f", "{}"),
    ]


@pytest.mark.parametrize("index", [{}, {"index": 0}, {"index": -1}])
@pytest.mark.parametrize(
    "texts",
    [
        ['{"a": "', "}", '", "b": {}', "}"],
        ['{"a": "\\', '"}', '\\\\"', "}"],
        ['{"a": "', "{{", '"}'],
        ["{", " }", " ", ""],
        ["{}", ""],
    ],
)
def test_a_piece_each_of_which_has_an_id_and_the_name_is_of_one_call(
    texts: list[str], index: dict[str, Any]
) -> None:
    # As vLLM up to 0.8 and TensorRT-LLM stream the call of a tool that was asked for by name.
    pieces = [[_piece(text, "f", id=f"id-{n}", **index)] for n, text in enumerate(texts)]
    assert _add(*pieces) == [(0, "id-0", "f", "".join(texts))]


@pytest.mark.parametrize("index", [{}, {"index": 0}])
def test_calls_of_one_tool_are_told_apart_whatever_is_in_their_strings(
    index: dict[str, Any],
) -> None:
    texts = ['{"a": "{ \\""}', '{"a": "}"}', "{}"]
    pieces = [[_piece(text, "f", id=f"id-{n}", **index)] for n, text in enumerate(texts)]
    assert _add(*pieces) == [(n, f"id-{n}", "f", text) for n, text in enumerate(texts)]


@pytest.mark.parametrize("index", [{}, {"index": 0}])
@pytest.mark.parametrize("again", [{}, {"id": "b"}, {"id": "b", "name": "f"}])
def test_a_call_of_the_same_tool_may_begin_without_arguments(
    index: dict[str, Any], again: dict[str, Any]
) -> None:
    assert _add(
        [_piece("{}", "f", id="a", **index)],
        [_piece("", "f", id="b", **index)],
        [_piece("{", **{**index, **again})],
        [_piece("}", **{**index, **again})],
    ) == [(0, "a", "f", "{}"), (1, "b", "f", "{}")]


@pytest.mark.parametrize("ids", [[{"id": "a"}, {}, {}, {}], [{}, {}, {}, {}]])
def test_names_that_are_repeated_alone_are_of_one_call_until_it_is_whole(
    ids: list[dict[str, Any]],
) -> None:
    texts = ["", "{", '"a": "}"', "}"]
    first = [[_piece(text, "f", **members)] for text, members in zip(texts, ids, strict=True)]
    (call,) = _add(*first)
    assert call == (0, ids[0].get("id", ""), "f", "".join(texts))
    # Where calls have ids, another one has, too.
    begin = {"id": "b"} if ids[0] else {}
    assert [said[3] for said in _add(*first, [_piece("{}", "f", **begin)])] == [call[3], "{}"]


def test_pieces_say_once_what_is_said_of_a_call() -> None:
    reader = ToolCallReader()
    deltas: list[dict[str, JSONValue]] = [
        {"tool_calls": [_piece(text, "f", index=0, id="a")]} for text in ("{", "}")
    ]
    said = [
        [(call.id, call.name, call.arguments) for call in reader.read(delta, is_whole=False)]
        for delta in deltas
    ]
    assert said == [[("a", "f", "{")], [("", "", "}")]]


def test_an_id_may_be_a_number() -> None:
    assert _add(_piece("{", "f", index=0, id=0), _piece("}", index=0, id=0)) == [
        (0, "0", "f", "{}")
    ]


def test_calls_that_all_have_the_index_0_are_told_apart_by_id_and_name() -> None:
    assert _add(
        [_piece("[]", "f", index=0, id="a")],
        [_piece("{", "g", index=0, id="b")],
        [_piece("}", index=0)],
        [_piece("1", "h", index=1, id="c")],
    ) == [(0, "a", "f", "[]"), (1, "b", "g", "{}"), (2, "c", "h", "1")]


def test_a_name_may_come_in_pieces() -> None:
    assert _add([_piece("", "get_", index=0, id="a")], [_piece("{}", "time", index=0)]) == [
        (0, "a", "get_time", "{}")
    ]


def test_an_index_that_does_not_count_from_0_is_kept_and_one_below_is_not() -> None:
    assert [call[0] for call in _add([_piece("", "f", index=3), _piece("", "g", index=1)])] == [
        1,
        3,
    ]
    assert [call[0] for call in _add([_piece("", "f", index=-1), _piece("", "g", index=0)])] == [
        0,
        1,
    ]


def test_other_forms() -> None:
    # Older releases of TGI stream one call, not a list; and an object where a text should be.
    assert _add(_piece("[", "f", index=0), _piece("]", index=0)) == [(0, "", "f", "[]")]
    whole: dict[str, JSONValue] = {"function": {"name": "f", "arguments": {"a": "ä"}}}
    assert _add([whole]) == [(0, "", "f", '{"a": "\\u00e4"}')]
    assert _add([{"index": 0, "function": None}]) == [(0, "", "", "")]


def test_one_function_call_as_it_was_before_there_were_tools() -> None:
    reader = ToolCallReader()
    deltas: list[dict[str, JSONValue]] = [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"name": "f", "arguments": "[]"}, "tool_calls": []},
        {"function_call": None, "tool_calls": None},
    ]
    pieces = [list(reader.read(delta, is_whole=False)) for delta in deltas]
    assert [[(call.index, call.arguments) for call in calls] for calls in pieces] == [
        [(0, "")],
        [(0, "[]")],
        [],
    ]


def test_the_calls_of_a_message_are_whole_whatever_they_are_called() -> None:
    said: dict[str, JSONValue] = {"tool_calls": [_piece("1", "f", id="a") for _ in range(3)]}
    calls = list(ToolCallReader().read(said, is_whole=True))
    assert [call.index for call in calls] == [0, 1, 2]


def test_arguments_that_are_nested_too_deeply_are_an_error_of_the_payload() -> None:
    deep: JSONValue = {}
    for _ in range(100_000):
        deep = {"a": deep}
    said: dict[str, JSONValue] = {"tool_calls": [{"function": {"arguments": deep}}]}
    try:
        with pytest.raises(InvalidJSON, match="nested too deeply"):
            list(ToolCallReader().read(said, is_whole=True))
    finally:
        while isinstance(deep, dict) and deep:  # Python frees what is so deep in steps
            deep = deep.pop("a")
