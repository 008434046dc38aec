from __future__ import annotations

import json
import time
import tracemalloc
from codecs import BOM_UTF8
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.errors import InvalidJSON, InvalidText, PayloadTooLarge
from aiosmrt.models import JSONValue
from aiosmrt.payload.documents import JSONDocumentDecoder

if TYPE_CHECKING:
    from tests.conftest import Decoding
    from tests.payload.conftest import FramingCase

cuts = st.lists(st.integers(0, 10_000), max_size=12)

MANY = [*["x"] * 600, "\\" * 600 + "\n" * 600]  # members and escape sequences in a row


@pytest.mark.parametrize(
    ("data", "values"),
    [
        ("", []),
        (" \t\r\n", []),
        ("{}", [{}]),
        ('{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ('{"a": 1}{"a": 2}[]"x""y"', [{"a": 1}, {"a": 2}, [], "x", "y"]),
        ('{\n  "a": [\n    1,\n    2\n  ]\n}\n', [{"a": [1, 2]}]),
        ("123", [123]),
        ("12 3", [12, 3]),
        ("-1.5e+3\ntrue\rfalse null\t0", [-1500.0, True, False, None, 0]),
        ('1"a"2[3]4{}5', [1, "a", 2, [3], 4, {}, 5]),
        (r'"a\"b\\" "\\" "\u20ac\\\"" ["]}\"", "[{"]', ['a"b\\', "\\", '€\\"', [']}"', "[{"]]),
        ('{"a}": "{[", "b": ["]", {"c": "}"}]}', [{"a}": "{[", "b": ["]", {"c": "}"}]}]),
        ('["€", "𝄞"] "十二"', [["€", "𝄞"], "十二"]),
        ("[" * 50 + "]" * 50, [json.loads("[" * 50 + "]" * 50)]),
        ("[-Infinity] Infinity ", [[-float("inf")], float("inf")]),
        ('{"a": 1, "a": 2}', [{"a": 2}]),
        ("\ufeff", []),
        ("\ufeff{}", [{}]),
        ('\ufeff\n"\ufeff"', ["\ufeff"]),
        ("{} \ufeff{}\n\ufeff\ufeff[] \ufeff", [{}, {}, []]),
        ('\ufeff1\ufeff2\ufefftrue\ufeff"a"\ufeffnull', [1, 2, True, "a", None]),
        (r'"\ud800" ["\udc00\ud800"]', ["\ud800", ["\udc00\ud800"]]),
        (json.dumps(MANY), [MANY]),
    ],
)  # fmt: skip
def test_json_documents(decoding: type[Decoding], data: str, values: list[object]) -> None:
    assert decoding.give(JSONDocumentDecoder, data.encode()) == values


def test_a_document_is_complete_as_soon_as_it_can_be() -> None:
    decoder = JSONDocumentDecoder()
    assert decoder.receive(b"[1") == []
    assert decoder.receive(b"2]1") == [[12]]
    assert decoder.receive(b"2") == []
    assert decoder.receive(b'3"a') == [123]
    assert decoder.receive(b'b"') == ["ab"]
    assert decoder.receive(b"tru") == []
    assert decoder.receive(b"e") == []
    assert decoder.receive(b"\n") == [True]
    assert decoder.receive(b"4") == []
    assert decoder.finish() == [4]


def test_where_documents_begin(decoding: type[Decoding]) -> None:
    data = '\ufeff\n[1]\r\n "€"{}\n\ufeff12\ufefftrue'.encode()
    begins = [data.index(document) for document in (b"[", b'"', b"{", b"12", b"true")]
    assert decoding.decode(JSONDocumentDecoder, data).places == begins


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=6), st.data(), cuts)
def test_any_json_documents(
    decoding: type[Decoding], values: list[JSONValue], data: st.DataObject, places: list[int]
) -> None:
    space = st.text(" \t\r\n\ufeff", max_size=3)
    text = data.draw(space)
    for value in values:
        if text[-1:].isalnum():
            text += data.draw(st.sampled_from(" \t\r\n\ufeff"))  # what parts two numbers
        text += json.dumps(
            value,
            indent=data.draw(st.sampled_from([None, 0, 2, "\t"])),
            ensure_ascii=data.draw(st.booleans()),
        )
        text += data.draw(space)
    outcome = decoding.run(JSONDocumentDecoder, decoding.cut(text.encode(), places))
    assert repr(outcome.early + outcome.late) == repr(values)
    assert outcome.error is None


@pytest.mark.parametrize(
    ("data", "values", "offset", "words"),
    [
        ("1 {} <html>oops ", [1, {}], 5, "Expecting value; it goes on with '<html>oops'"),
        ("<html> <body>", [], 0, "Expecting value; it goes on with '<html>'"),
        ("data: {}", [], 0, "it goes on with 'data'"),
        ('{"a": 1},{"a": 2}', [{"a": 1}], 8, "',' where a document should begin"),
        ("] 1", [], 0, "']' where a document should begin"),
        ("1:2", [1], 1, "':' where a document should begin"),
        ('["€", 1 2]', [], 10, "Expecting ',' delimiter; it goes on with '2]'"),
        ("[1}[2]", [], 2, "Expecting ',' delimiter"),
        ('{"a" 1} {}', [], 5, "Expecting ':' delimiter"),
        ("1 12abc 2", [1], 4, "Extra data; it goes on with 'abc'"),
        ("truefalse ", [], 4, "Extra data"),
        ("01 ", [], 1, "Extra data"),
        ('"a\nb"', [], 2, "Invalid control character"),
        (r'["\x"]', [], 2, "Invalid \\escape"),
        ("{\ufeff} 1", [], 1, "Expecting property name"),
        ("[1, \ufeff2]", [], 4, "Expecting value; it goes on with '\\ufeff2]'"),
        ("\ufeff] 1", [], 3, "']' where a document should begin"),
        ("\ufeff12a ", [], 5, "Extra data; it goes on with 'a'"),
        ('\ufeff{"a" 1}', [], 8, "Expecting ':' delimiter"),
        ("\uff01x ", [], 0, "Expecting value; it goes on with '\uff01x'"),
        ("12\uff01 ", [12], 2, "Expecting value; it goes on with '\uff01'"),
        ("\x0b{}", [], 0, "Expecting value"),
        ("[" + "9" * 5000 + "]", [], 0, "4300 digits"),
    ],
)
def test_malformed_json(
    decoding: type[Decoding], data: str, values: list[object], offset: int, words: str
) -> None:
    before, found, message = decoding.fail(JSONDocumentDecoder, data.encode(), InvalidJSON)
    assert before == values
    assert found == offset
    assert f"malformed JSON at byte {offset} of the payload" in message
    assert words in message


def test_a_malformed_last_number(decoding: type[Decoding]) -> None:
    outcome = decoding.decode(JSONDocumentDecoder, b"[1] 12a")
    assert outcome.early == [[1]]
    assert outcome.at_end
    assert isinstance(outcome.error, InvalidJSON)
    assert outcome.error.offset == 6


def test_documents_before_a_malformed_one_come_first() -> None:
    decoder = JSONDocumentDecoder()
    assert decoder.receive(b'{"a": 1}\n{"a" 2}\n{"a": 3}\n') == [{"a": 1}]
    with pytest.raises(InvalidJSON) as caught:
        decoder.receive(b'{"a": 4}\n')
    assert caught.value.offset == 14
    assert isinstance(caught.value.__cause__, json.JSONDecodeError)


def test_json_nested_too_deeply(decoding: type[Decoding]) -> None:
    data = b"[" * 100_000 + b"]" * 100_000 + b" 1 "
    for chunks in ([data], decoding.cut(data, range(0, len(data), 1000))):
        outcome = decoding.run(JSONDocumentDecoder, [b"7 ", *chunks])
        assert outcome.early == [7]
        assert isinstance(outcome.error, InvalidJSON)
        assert outcome.error.offset == 2
        assert "malformed JSON at byte 2" in str(outcome.error)


def test_json_that_is_not_text(decoding: type[Decoding]) -> None:
    values, offset, _ = decoding.fail(
        JSONDocumentDecoder, b'[1] ["\xe2\x82\xac\xff"] 2 ', InvalidText
    )
    assert values == [[1]]
    assert offset == 9


def test_a_payload_that_ends_inside_a_byte_order_mark(decoding: type[Decoding]) -> None:
    for cut in (BOM_UTF8[:1], BOM_UTF8[:2]):
        outcome = decoding.decode(JSONDocumentDecoder, b"{} " + cut)
        assert outcome.early == [{}]
        assert outcome.at_end
        assert isinstance(outcome.error, InvalidText)
        assert outcome.error.offset == 3


@pytest.mark.parametrize(
    "document", ["[", '{"a": ', '"ab', '["a\\', '"a\\"', "[[1]", '{"a": "}"', '{"a": [1, 2}']
)
def test_a_payload_that_ends_inside_a_document(decoding: type[Decoding], document: str) -> None:
    data = b"{} 5 " + document.encode()
    outcome = decoding.decode(JSONDocumentDecoder, data)
    assert outcome.early == [{}, 5]
    assert outcome.at_end
    assert isinstance(outcome.error, InvalidJSON)
    assert outcome.error.offset == 5
    assert f"ended after {len(data)} bytes, {len(document)} bytes into" in str(outcome.error)
    assert "the JSON document at byte 5" in str(outcome.error)


@pytest.mark.parametrize(
    "document", ["[1, 2]", '"abcd"', "123456", "[1, 2,", "[[[[[[[[", "123456 ", "[1aaa}"]
)
def test_a_document_longer_than_its_bound(decoding: type[Decoding], document: str) -> None:
    def make() -> JSONDocumentDecoder:
        return JSONDocumentDecoder(max_document_length=5)

    data = b"[123]\n" + document.encode()
    values, offset, message = decoding.fail(make, data, PayloadTooLarge)
    assert values == [[123]]
    assert offset == 6
    assert "the JSON document at byte 6 of the payload is longer than 5 bytes" in message
    assert "max_document_length" in message


def test_json_lines_of_containers(
    decoding: type[Decoding], framing_cases: list[FramingCase]
) -> None:
    cases = [case for case in framing_cases if case.name.startswith("jsonlines")]
    assert len(cases) >= 2
    for case in cases:
        assert decoding.give(JSONDocumentDecoder, case.whole) == list(map(json.loads, case.lines))


# Cost


@pytest.mark.parametrize(
    "unit", [b"[", b"{", b'"a",', b'"\\"a",', b'[""],', b'"', b'["a\\n\\n', b'\\"', b"\\\\"]
)
@pytest.mark.parametrize("begin", [b"[", b'"', b'["'])
def test_no_document_costs_more_than_its_length(
    decoding: type[Decoding], begin: bytes, unit: bytes
) -> None:
    def cost(length: int) -> float:
        data = begin + unit * (length // len(unit))

        began = time.thread_time()
        decoding.run(JSONDocumentDecoder, [data])
        return time.thread_time() - began

    # One undisturbed pair is enough.
    assert any(cost(80_000) < 5 * 8 * cost(10_000) + 0.01 for _ in range(5))


def test_scanning_takes_no_memory_beside_the_document() -> None:
    decoder = JSONDocumentDecoder()
    data = b"[" + b'"a",' * 500_000 + b'"' + b"\\n" * 500_000
    tracemalloc.start()
    try:
        assert decoder.receive(data) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(data)
