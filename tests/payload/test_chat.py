"""The values that a chat is made of."""

from __future__ import annotations

import pickle

import pytest

from aiosmrt.errors import InvalidJSON
from aiosmrt.payload import ChatChunk, ChatMessage, ToolCall


def _call(arguments: str) -> ToolCall:
    return ToolCall(0, "call_a", "get_weather", arguments)


@pytest.mark.parametrize(
    ("arguments", "parsed"),
    [
        ('{"city": "Zürich"}', {"city": "Zürich"}),
        (" [1]\n", [1]),
        ("", {}),
        (" \n", {}),
        ("null", None),
    ],
)
def test_arguments_are_parsed_on_request(arguments: str, parsed: object) -> None:
    assert _call(arguments).parse_arguments() == parsed


@pytest.mark.parametrize(
    ("arguments", "offset", "words"),
    [
        ('{"city": "Zürich"', 18, "at byte 18: Expecting ',' delimiter; they end there"),
        ('{"city" "Zürich"}', 8, "at byte 8: .*; they go on with '\"Zürich\"}'"),
        ('{"ä": 1} {}', 10, "at byte 10: Extra data; they go on with '{}'"),
        ("[" * 100_000, 0, "at byte 0: .* they go on with"),
        ("9" * 5000, 0, "at byte 0: .* digits"),
        ('"\ud800" x', 6, "at byte 6"),
    ],
)
def test_malformed_arguments_are_placed(arguments: str, offset: int, words: str) -> None:
    with pytest.raises(InvalidJSON, match=f"tool call 'get_weather' .* {words}") as caught:
        _call(arguments).parse_arguments()
    assert caught.value.offset == offset
    assert caught.value.__cause__ is None
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), InvalidJSON)


def test_a_message_goes_back_to_the_model() -> None:
    said = ChatMessage(0, "Zwölf", "hm", "", (), "stop", None)
    assert said.to_dict() == {"role": "assistant", "content": "Zwölf"}
    refused = ChatMessage(0, "", "hm", "no", (), "stop", None)
    assert refused.to_dict() == {"role": "assistant", "content": "", "refusal": "no"}
    asked = ChatMessage(0, "", "hm", "", (_call("{}"),), "tool_calls", None)
    assert asked.to_dict() == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_a",
                "type": "function",
                "function": {"name": "get_weather", "arguments": "{}"},
            }
        ],
    }


def test_the_document_of_a_chunk_is_not_shown() -> None:
    chunk = ChatChunk(0, "a", raw={"id": "chatcmpl-7"})
    assert repr(chunk).startswith("ChatChunk(index=0, text='a', ")
    assert "chatcmpl" not in repr(chunk)
    assert chunk == pickle.loads(pickle.dumps(chunk))
