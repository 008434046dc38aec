from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.errors import InvalidJSON
from aiosmrt.openai.chunks import ChunkDecoder
from aiosmrt.openai.invocation import Invocation
from aiosmrt.openai.template import ChunkTemplate
from aiosmrt.service import INVOKE_ENDPOINT

if TYPE_CHECKING:
    from tests.openai.conftest import Chats

CHUNK: dict[str, Any] = {
    "id": "1",
    "choices": [{"index": 0, "delta": {"content": "first"}, "finish_reason": None}],
}


def write(text: str, **changed: Any) -> bytes:
    (choice,) = CHUNK["choices"]
    said = {**choice, "delta": {"content": text}, **changed}
    return f"data: {json.dumps({**CHUNK, 'choices': [said]})}".encode()


def write_plainly(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "replace")


def learn(event: bytes) -> ChunkTemplate:
    template = ChunkTemplate()
    template.learn(event, event)
    return template


def fits(template: ChunkTemplate, event: bytes) -> bool:
    written = template.write(event)
    assert written in (None, event)
    return written is not None


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_fits(text: str) -> None:
    template = learn(write("first"))
    assert fits(template, write(text))
    assert fits(template, write("?").replace(b"?", write_plainly(text)))


@pytest.mark.parametrize("name", ["content", "reasoning", "reasoning_content"])
def test_what_a_model_thinks_fits_as_what_it_says(name: str) -> None:
    first, other = (
        write("", delta={"role": "assistant", "content": "", name: text}) for text in ("a", "b")
    )
    assert fits(learn(first), other)


@given(st.binary(max_size=40), st.integers(0, 40), st.integers(0, 40))
def test_what_fits_differs_in_its_text_alone(noise: bytes, begin: int, length: int) -> None:
    event = write("first")
    place = event.index(b"first") - 20 + begin
    changed = event[:place] + noise + event[place + length :]
    if fits(learn(event), changed):
        document = json.loads(changed.decode().removeprefix("data: "))
        assert isinstance(document["choices"][0]["delta"].pop("content"), str)
        assert document == {**CHUNK, "choices": [{**CHUNK["choices"][0], "delta": {}}]}


@pytest.mark.parametrize(
    "text",
    [b'"', b"\\", b"\\x", b"\\u12", b"\n", b"\0", b"\xff", b'", "error": "x', b"\xed\xa0\x80"],
)
def test_what_is_no_text_fits_not(text: bytes) -> None:
    assert not fits(learn(write("first")), write("first").replace(b"first", text))


@pytest.mark.parametrize(
    "event",
    [
        write("first", finish_reason="stop"),
        write("first", index=1),
        write("first", delta={"reasoning": "x"}),
        b"data: [DONE]",
        b"",
        write("").replace(b'""', b'"'),  # one quotation mark for both
    ],
)
def test_another_document_fits_not(event: bytes) -> None:
    assert not fits(learn(write("first")), event)


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices": [{"delta": {"content": "a", "content": "b"}}]}',
        b'data: {"content": "a", "choices": [{"delta": {"content": "b"}}]}',
        b'data: {"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]}',
        b'data: {"choices": [{"delta": {"role": "assistant"}}]}',
        b'event: x\ndata: {"choices": [{"delta": {"content": "a"}}]}',
        b'id: {"choices": [{"delta": {"content": "a"}}]}',
        b'data: {"choices": [{"delta": {"tool_calls": [{"content": "a"}]}}]}',
    ],
)
def test_what_has_not_one_text_is_not_learned(event: bytes) -> None:
    assert not fits(learn(event), event)


def test_chunks_that_never_fit_are_not_learned_for_ever() -> None:
    """As those that carry a time, or probabilities."""
    template = ChunkTemplate()
    event = b""
    for number in range(100):
        event = write("a", index=number)
        assert not fits(template, event)
        template.learn(event, event)
    assert not fits(template, event)
    assert fits(learn(event), event)


@given(st.text(st.characters(codec="utf-8")))
def test_what_was_cut_from_one_is_cut_from_all(text: str) -> None:
    with_role, without = (
        [write("?", delta={**role, "content": "?"}).replace(b"?", told) for told in texts]
        for role in ({"role": "assistant"}, {})
        for texts in [(b"first", write_plainly(text))]
    )
    template = ChunkTemplate()
    template.learn(with_role[0], without[0])
    assert [template.write(event) for event in with_role] == without
    assert template.write(without[0]) is None


@pytest.mark.parametrize("name", [b'"c\\u006fntent": ', b'"content":  '])
def test_a_text_stays_in_its_member_however_it_was_written(name: bytes) -> None:
    thought, said = (
        write("", delta={"content": "said", "reasoning": text, "role": "assistant"})
        for text in ("first", "next")
    )
    cut = [write("", delta={"content": "said", "reasoning": text}) for text in ("first", "next")]
    template = ChunkTemplate()
    template.learn(thought.replace(b'"content": ', name), cut[0])
    assert template.write(said.replace(b'"content": ', name)) in (None, cut[1])


def test_a_fault_behind_chunks_that_were_not_parsed_is_placed(chats: type[Chats]) -> None:
    events = [chats.event(chats.chunk(text)) for text in "abcd"]
    invocation = Invocation("chat/completions", INVOKE_ENDPOINT, "", 1, {})
    decoder = ChunkDecoder(invocation, None, "chatcmpl-7")
    for event in (*events, events[0] + events[1]):
        assert decoder.receive(event) == [event]
        assert decoder.receive(b"") == []
    with pytest.raises(InvalidJSON, match="document 7, at byte") as caught:
        decoder.receive(b"data: {\n\n")
    assert caught.value.offset == sum(map(len, events)) * 6 / 4
