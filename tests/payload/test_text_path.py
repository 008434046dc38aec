"""Where a text is looked for, and what is said where no document had a place for one."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from aiosmrt.models import JSONValue
from aiosmrt.payload.shapes import SHAPES
from aiosmrt.payload.text_path import TextPath

CHAT: JSONValue = {"id": "1", "choices": [{"index": 0, "delta": {"content": "a"}}]}
CALL: JSONValue = {"choices": [{"index": 0, "delta": {"tool_calls": []}}]}
COMPLETION: JSONValue = {"choices": [{"index": 0, "text": "a"}]}
TGI: JSONValue = {"token": {"text": "a", "special": False}, "generated_text": None}
LMI: JSONValue = {"token": {"text": "a", "log_prob": -1}}
WHOLE_CHAT: JSONValue = {"choices": [{"index": 0, "message": {"content": "a"}}]}
WHOLE_LMI: JSONValue = {"generated_text": "a"}
WHOLE_TGI: JSONValue = [{"generated_text": "a"}]


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("openai-chat", CHAT),
        ("openai-chat", WHOLE_CHAT),
        ("openai-completion", COMPLETION),
        ("tgi", TGI),
        ("tgi", WHOLE_TGI),
        ("tgi", WHOLE_LMI),
        ("lmi", LMI),
        ("lmi", {"outputs": ["a"]}),
        ("lmi", WHOLE_LMI),
        ("lmi", WHOLE_TGI),
        ("choices[0].delta.content", CHAT),
        ("choices[0].delta.content", WHOLE_CHAT),  # an expression that is a preset's
        ("token.text", TGI),
    ],
)
def test_a_text_is_found(path: str, document: JSONValue) -> None:
    text = TextPath(path)
    assert text.find(document) == "a"
    assert text.refuse() is None


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("openai-chat", CALL),
        ("openai-chat", {"choices": [{"delta": {}, "finish_reason": "stop"}]}),
        ("openai-chat", {"choices": [{"message": {"content": None, "tool_calls": []}}]}),
        ("tgi", {"token": {"text": "</s>", "special": True}, "generated_text": ""}),
        ("lmi", {"token": {"id": 1}}),
        ("choices[0].delta.content", CALL),
    ],
)
def test_a_place_without_a_text_is_none_and_no_fault(path: str, document: JSONValue) -> None:
    text = TextPath(path)
    assert not text.find(document)
    assert text.refuse() is None


@pytest.mark.parametrize(
    ("path", "document"),
    [("tgi", {"generated_text": ""}), ("openai-completion", {"choices": [{"text": ""}]})],
)
def test_an_empty_text_is_one(path: str, document: JSONValue) -> None:
    text = TextPath(path)
    assert text.find(document) == ""
    assert text.refuse() is None


@pytest.mark.parametrize(
    ("path", "document", "words"),
    [
        ("openai-chat", TGI, r"they have token, generated_text: 'tgi' or 'lmi' would fit"),
        ("openai-chat", COMPLETION, r"\(choices\[0\].delta.content\).* 'openai-completion' would"),
        ("openai-completion", CHAT, r"they have id, choices: 'openai-chat' would fit"),
        ("openai-completion", WHOLE_CHAT, r"'openai-chat' would fit"),
        ("tgi", CALL, r"'openai-chat' would fit"),
        ("lmi", WHOLE_CHAT, r"'openai-chat' would fit"),
        ("openai-chat", WHOLE_TGI, r"they have an array: 'tgi' or 'lmi' would fit"),
        ("token.txt", TGI, r"'token.txt' asks for; .* 'tgi' or 'lmi' would fit"),
        ("tgi", {"answer": "a"}, r"have answer: give the JMESPath expression of the text"),
        ("tgi", {}, r"have no members"),
        ("lmi", {"usage": {"tokens": 1}, "id": 7}, r"have usage, id"),
        *(
            ("tgi", value, f"they have {kind}")
            for value, kind in [
                ("a", "a string"),
                (1, "a number"),
                (1.5, "a number"),
                (True, "a boolean"),
                (None, "null"),
            ]
        ),
    ],
)
def test_documents_without_a_place_are_refused_with_what_would_fit(
    path: str, document: JSONValue, words: str
) -> None:
    text = TextPath(path)
    assert text.refuse() is None  # of nothing
    assert text.find(document) is None
    error = text.refuse()
    assert error is not None
    assert error.args[0].startswith("none of the documents that came (1) has what ")
    with pytest.raises(type(error), match=words):
        raise error


def test_the_refusal_is_of_a_bounded_length() -> None:
    text = TextPath("tgi")
    for number in range(100):
        text.find({f"member {number} " + "x" * 1000: 1})
    assert "(100)" in str(text.refuse())
    assert len(str(text.refuse())) < 1200


def test_one_document_with_a_place_is_enough() -> None:
    text = TextPath("openai-chat")
    documents: list[JSONValue] = [{"type": "ping"}, CHAT, {"choices": [], "usage": {}}]
    for document in documents:
        text.find(document)
    assert text.refuse() is None


def test_a_whole_answer_behind_a_stream_is_not_given_again() -> None:
    # As some servers close a stream with all of it.
    text = TextPath("openai-chat")
    assert [text.find(CHAT), text.find(WHOLE_CHAT)] == ["a", None]
    text = TextPath("openai-chat")
    assert [text.find(WHOLE_CHAT), text.find(WHOLE_CHAT)] == ["a", "a"]
    text = TextPath("tgi")
    special: JSONValue = {"token": {"text": "</s>", "special": True}, "generated_text": "a"}
    assert [text.find(TGI), text.find(special)] == ["a", None]


@pytest.mark.parametrize(
    ("path", "document", "text"),
    [
        ("openai-chat", [(0, "a"), (1, "b")], "a"),
        ("openai-chat", [(1, "b"), (0, "a")], "a"),
        ("openai-chat", [(1, "b")], None),
        ("openai-chat", [(None, "a"), (None, "b")], "a"),
        ("choices[0].delta.content", [(1, "b"), (0, "a")], "a"),
    ],
)
def test_choice_0_alone_is_given_and_the_log_tells_once_of_others(
    path: str, document: Any, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    found = TextPath(path)
    choices: list[JSONValue] = [
        {"index": index, "delta": {"content": said}} for index, said in document
    ]
    with caplog.at_level(logging.WARNING, "aiosmrt"):
        for _ in range(3):
            assert found.find(found.select({"id": 1, "choices": choices})) == text
    assert [record.getMessage() for record in caplog.records] == [
        "iter_tokens gives choice 0 alone: the stream has others, which are left out"
    ]


def test_other_lists_of_answers_are_told_of_too(caplog: pytest.LogCaptureFixture) -> None:
    outputs: JSONValue = {"outputs": ["a", "b"]}
    whole: JSONValue = [{"generated_text": "a"}, {"generated_text": "b"}]
    for document in (outputs, whole):
        caplog.clear()
        found = TextPath("lmi")
        with caplog.at_level(logging.WARNING, "aiosmrt"):
            assert found.find(found.select(document)) == "a"
        assert len(caplog.records) == 1


def test_an_expression_that_names_its_choice_gets_all(caplog: pytest.LogCaptureFixture) -> None:
    found = TextPath("choices[?index==`1`].text | [0]")
    document: JSONValue = {"choices": [{"index": 0, "text": "a"}, {"index": 1, "text": "b"}]}
    assert found.find(found.select(document)) == "b"
    assert not caplog.records


@pytest.mark.parametrize("document", [{"choices": None}, {"choices": ["x"]}, {}, [], "choices", 1])
def test_what_has_no_choices_is_as_it_was(document: JSONValue) -> None:
    assert TextPath("openai-chat").select(document) is document


@pytest.mark.parametrize(
    ("path", "document", "is_end"),
    [
        ("openai-chat", CHAT, False),
        ("openai-chat", {"choices": [{"delta": {}, "finish_reason": "stop"}]}, True),
        ("openai-chat", WHOLE_CHAT, True),
        ("openai-completion", {"choices": [{"text": "a", "finish_reason": "length"}]}, True),
        ("openai-completion", COMPLETION, False),
        ("tgi", TGI, False),
        ("tgi", {"token": {"text": ""}, "generated_text": ""}, True),
        ("lmi", LMI, False),
        ("lmi", {"token": {"text": ""}, "details": {"finish_reason": "length"}}, True),
        ("token.text", {"token": {"text": ""}, "generated_text": "a"}, False),
    ],
)
def test_presets_know_the_last_document(path: str, document: JSONValue, is_end: bool) -> None:
    text = TextPath(path)
    text.find(document)
    assert text.is_end(document) == is_end


def test_presets_know_the_event_behind_the_last_document() -> None:
    marks = {name: TextPath(name).done for name in SHAPES}
    assert marks == {
        "openai-chat": "[DONE]",
        "openai-completion": "[DONE]",
        "tgi": None,
        "lmi": None,
    }
    assert TextPath("t").done is None
    assert [TextPath(path).is_preset for path in ("tgi", "t", "choices[0].text")] == [
        True,
        False,
        True,
    ]
