from __future__ import annotations

import base64
import json
import pickle
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiosmrt.errors import AiosmrtError, InvalidJSON, InvalidText, PayloadTooLarge
from aiosmrt.models import JSONValue
from aiosmrt.payload.documents import JSONDocumentDecoder, LineDecoder, TextDecoder

if TYPE_CHECKING:
    from tests.conftest import Decoder, Decoding, MakeDecoder


cuts = st.lists(st.integers(0, 10_000), max_size=12)
MARK = "\ufeff".encode()  # of the byte order


# Text


@pytest.mark.parametrize("text", ["", "a", "ä", "€", "𝄞", "十二\uff01", "a\r\nb\0c", "x\ufeff"])
def test_text_of_any_split_is_the_text_of_the_whole(decoding: type[Decoding], text: str) -> None:
    assert "".join(decoding.give(TextDecoder, text.encode())) == text


@given(st.text(), cuts)
def test_text_of_any_text_and_split(decoding: type[Decoding], text: str, places: list[int]) -> None:
    outcome = decoding.run(TextDecoder, decoding.cut(text.encode(), places))
    assert "".join(map(str, outcome.early)) == text.removeprefix("\ufeff")


@given(st.binary(max_size=40), cuts, st.sampled_from(["replace", "ignore", "backslashreplace"]))
def test_bytes_that_are_not_text_as_python_replaces_them(
    decoding: type[Decoding], data: bytes, places: list[int], errors: str
) -> None:
    outcome = decoding.run(lambda: TextDecoder(errors), decoding.cut(data, places))
    expected = data.removeprefix(MARK).decode(errors=errors)
    assert "".join(map(str, outcome.early + outcome.late)) == expected


@settings(max_examples=200)
@given(st.lists(st.sampled_from([b"a", b"\xe4\xb8\x80", b"\xe4", b"\xb8", b"\xf0\x9d", b"\xed"])))
def test_bytes_that_are_not_text(decoding: type[Decoding], pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    text = data.decode(errors="surrogateescape")
    place = next((place for place, sign in enumerate(text) if "\udc80" <= sign <= "\udcff"), None)
    if place is None:
        assert "".join(decoding.give(TextDecoder, data)) == text
    else:
        before, offset, _ = decoding.fail(TextDecoder, data, InvalidText)
        assert before == list(text[:place])
        assert offset == len(text[:place].encode())


def test_text_before_a_fault_comes_first_and_the_fault_says_where() -> None:
    decoder = TextDecoder()
    assert decoder.receive(b"caf\xc3") == "caf"
    assert decoder.receive(b"\xa9 \xff more") == "é "
    with pytest.raises(InvalidText, match=r"byte 6 of the payload is not UTF-8.*xff") as caught:
        decoder.receive(b"")
    assert caught.value.offset == 6
    assert isinstance(caught.value.__cause__, UnicodeDecodeError)


def test_a_character_that_the_end_cuts(decoding: type[Decoding]) -> None:
    outcome = decoding.decode(TextDecoder, "ab€".encode()[:-1])
    assert outcome.early == ["a", "b"]
    assert outcome.at_end
    assert isinstance(outcome.error, InvalidText)
    assert outcome.error.offset == 2
    assert decoding.give(lambda: TextDecoder("replace"), "ab€".encode()[:-1]) == [
        "a",
        "b",
        "\ufffd",
    ]


def test_text_is_not_kept_back() -> None:
    decoder = TextDecoder()
    assert [decoder.receive(bytes([byte])) for byte in "a€b".encode()] == ["a", "", "", "€", "b"]


def test_text_before_a_fault_is_decoded_like_all_text(decoding: type[Decoding]) -> None:
    outcome = decoding.decode(lambda: TextDecoder("surrogatepass"), b"a\xed\xa0\x80\xff")
    assert outcome.early == ["a", "\ud800"]
    assert isinstance(outcome.error, InvalidText)
    assert outcome.error.offset == 4


@pytest.mark.parametrize("errors", ["relaxed", "xmlcharrefreplace", "namereplace"])
def test_a_name_of_errors_that_is_unknown_or_for_encoding_only(errors: str) -> None:
    with pytest.raises(LookupError, match=errors):
        TextDecoder(errors)


@pytest.mark.parametrize("text", ["", "x", "\ufeff", "€\ufeff", "\n"])
def test_a_byte_order_mark_is_no_part_of_the_text(decoding: type[Decoding], text: str) -> None:
    for errors in ("strict", "ignore", "replace"):
        got = decoding.give(lambda errors=errors: TextDecoder(errors), MARK + text.encode())  # type: ignore[misc]
        assert "".join(got) == text


def test_what_is_wrong_behind_a_byte_order_mark_or_in_it(decoding: type[Decoding]) -> None:
    before, offset, _ = decoding.fail(TextDecoder, MARK + b"a\xff", InvalidText)
    assert (before, offset) == (["a"], 4)
    before, offset, _ = decoding.fail(TextDecoder, MARK + b"\xff", InvalidText)
    assert (before, offset) == ([], 3)
    before, offset, _ = decoding.fail(TextDecoder, b"\xef\xbba", InvalidText)
    assert (before, offset) == ([], 0)
    outcome = decoding.decode(TextDecoder, MARK[:2])
    assert outcome.at_end
    assert isinstance(outcome.error, InvalidText)
    # Behind what is no text it is not at the beginning.
    assert decoding.give(lambda: TextDecoder("ignore"), b"\xff" + MARK) == ["\ufeff"]


# Lines

OTHER_BREAKS = "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i"  # of str.splitlines


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\n", ["a"]),
        ("a\n\n", ["a", ""]),
        ("\n", [""]),
        ("\r", [""]),
        ("\r\n", [""]),
        ("\n\r", ["", ""]),
        ("\r\r\n\n", ["", "", ""]),
        ("a\r\nb\rc\nd", ["a", "b", "c", "d"]),
        ("a\r\n\r\nb", ["a", "", "b"]),
        ("a\r\r\nb\r", ["a", "", "b"]),
        (OTHER_BREAKS + "\n", [OTHER_BREAKS]),
        ("十二\uff01\r\n€", ["十二\uff01", "€"]),
    ],
)  # fmt: skip
def test_lines(decoding: type[Decoding], data: str, lines: list[str]) -> None:
    assert decoding.give(LineDecoder, data.encode()) == lines


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"))), st.data(), cuts)
def test_any_lines_with_any_breaks(
    decoding: type[Decoding], lines: list[str], data: st.DataObject, places: list[int]
) -> None:
    breaks = [data.draw(st.sampled_from(["\n", "\r\n", "\r"])) for _ in lines]
    for number, line in enumerate(lines[1:]):
        if not line and breaks[number] == "\r" and breaks[number + 1] == "\n":
            breaks[number + 1] = "\r"  # or the two would be one break
    text = "".join(map(str.__add__, lines, breaks))
    assert decoding.run(LineDecoder, decoding.cut(text.encode(), places)).early == lines
    outcome = decoding.run(LineDecoder, decoding.cut((text + "last").encode(), places))
    assert (outcome.early, outcome.late) == (lines, ["last"])


def test_a_line_is_given_at_its_carriage_return() -> None:
    decoder = LineDecoder()
    assert decoder.receive(b"a\r") == ["a"]
    assert decoder.receive(b"") == []
    assert decoder.receive(b"\nb\r") == ["b"]
    assert decoder.receive(b"c") == []
    assert decoder.receive(b"\nd") == ["c"]
    assert decoder.finish() == ["d"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\r\nb", ["a", "b"]),
        ("\na", ["", "a"]),
        ("\r\n", [""]),
        ("a\n\ufeffb", ["a", "\ufeffb"]),
        ("\ufeffa\n", ["\ufeffa"]),
    ],
)
def test_a_byte_order_mark_is_no_part_of_the_first_line(
    decoding: type[Decoding], text: str, lines: list[str]
) -> None:
    assert decoding.give(LineDecoder, MARK + text.encode()) == lines


def test_a_byte_order_mark_counts_for_places_and_bounds(decoding: type[Decoding]) -> None:
    lines, offset, _ = decoding.fail(LineDecoder, MARK + b"ab\nc\xff\n", InvalidText)
    assert (lines, offset) == (["ab"], 7)
    lines, offset, _ = decoding.fail(LineDecoder, MARK + b"ab\xff\n", InvalidText)
    assert (lines, offset) == ([], 5)

    def make() -> LineDecoder:
        return LineDecoder(max_line_length=5)

    assert decoding.give(make, MARK + b"ab\nabcde") == ["ab", "abcde"]
    assert decoding.fail(make, MARK + b"abc\n", PayloadTooLarge)[:2] == ([], 0)
    outcome = decoding.decode(LineDecoder, MARK[:2])
    assert outcome.at_end
    assert isinstance(outcome.error, InvalidText)


def test_lines_before_one_that_is_not_text_come_first(decoding: type[Decoding]) -> None:
    data = b"good\r\n\xe2\x82\xac\nx\xe2\x82\nmore\n"
    lines, offset, message = decoding.fail(LineDecoder, data, InvalidText)
    assert lines == ["good", "€"]
    assert offset == 11
    assert "byte 11 of the payload is not UTF-8" in message


def test_a_last_line_that_is_not_text(decoding: type[Decoding]) -> None:
    outcome = decoding.decode(LineDecoder, b"good\n\xe2\x82")
    assert outcome.early == ["good"]
    assert outcome.at_end
    assert isinstance(outcome.error, InvalidText)
    assert outcome.error.offset == 5


@pytest.mark.parametrize(
    "data", [b"1\r\n1234\r12345\nmore", b"1\r\n1234\r12345", b"1\r\n1234\r123456789"]
)
def test_a_line_longer_than_its_bound(decoding: type[Decoding], data: bytes) -> None:
    lines, offset, message = decoding.fail(
        lambda: LineDecoder(max_line_length=4), data, PayloadTooLarge
    )
    assert lines == ["1", "1234"]
    assert offset == 8
    assert "the line at byte 8 of the payload is longer than 4 bytes" in message
    assert "max_line_length" in message


# JSON documents


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


@settings(max_examples=150)
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
    for cut in (MARK[:1], MARK[:2]):
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


pieces_of_anything = st.lists(
    st.sampled_from([MARK, *(bytes([sign]) for sign in b'"\\[]{},:1e-tn \r\n\xef\xbb\xc3\xa9')])
    | st.binary(min_size=1, max_size=1),
    max_size=30,
).map(b"".join)


@settings(max_examples=200)
@given(pieces_of_anything, cuts)
def test_nothing_but_a_payload_error_comes_out_and_no_split_matters(
    decoding: type[Decoding], data: bytes, places: list[int]
) -> None:
    for make in (TextDecoder, LineDecoder, JSONDocumentDecoder):
        assert (
            decoding.run(make, decoding.cut(data, places)).view()
            == decoding.run(make, [data]).view()
        )


# Streams as containers frame them


def framing_cases(folder: Path) -> list[dict[str, JSONValue]]:
    cases: list[dict[str, JSONValue]] = json.loads((folder / "llm-framing/cases.json").read_text())
    assert len(cases) >= 7
    return cases


def test_lines_of_containers(decoding: type[Decoding], vectors: Path) -> None:
    for case in framing_cases(vectors):
        parts = case["parts_b64"]
        assert isinstance(parts, list)
        chunks = [base64.b64decode(str(part)) for part in parts]
        lines = case["expected_lines"]
        outcome = decoding.run(LineDecoder, chunks)
        assert outcome.early + outcome.late == lines, case["name"]
        assert decoding.give(LineDecoder, b"".join(chunks)) == lines, case["name"]
        assert "".join(decoding.give(TextDecoder, b"".join(chunks))) == b"".join(chunks).decode()


def test_json_lines_of_containers(decoding: type[Decoding], vectors: Path) -> None:
    cases = [case for case in framing_cases(vectors) if str(case["name"]).startswith("jsonlines")]
    assert len(cases) >= 2
    for case in cases:
        parts, lines = case["parts_b64"], case["expected_lines"]
        assert isinstance(parts, list)
        assert isinstance(lines, list)
        data = b"".join(base64.b64decode(str(part)) for part in parts)
        assert decoding.give(JSONDocumentDecoder, data) == [json.loads(str(line)) for line in lines]


# Errors


@pytest.mark.parametrize(
    ("make", "data"),
    [
        (TextDecoder, b"\xff"),
        (JSONDocumentDecoder, b"[1}"),
        (lambda: LineDecoder(max_line_length=3), b"four"),
    ],
)
def test_the_errors_pickle(decoding: type[Decoding], make: MakeDecoder, data: bytes) -> None:
    error = decoding.run(make, [data]).error
    assert isinstance(error, AiosmrtError)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_the_default_bounds_admit_what_a_part_can_hold() -> None:
    data = bytes(25 * 1024 * 1024).replace(b"\0", b"x")
    assert LineDecoder().receive(data) == []
    assert JSONDocumentDecoder().receive(b'"' + data) == []
    with pytest.raises(PayloadTooLarge) as caught:
        LineDecoder().receive(data + data)
    assert caught.value.limit == 32 * 1024 * 1024


# Cost


class Idle:
    """What the others are compared with."""

    def receive(self, data: bytes) -> list[object]:
        return []

    def finish(self) -> list[object]:
        return []


def seconds(make: MakeDecoder, chunks: Sequence[bytes]) -> float:
    # Of the processor: what else the machine does is not counted.
    def once() -> float:
        decoder = make()
        began = time.thread_time()
        for chunk in chunks:
            decoder.receive(chunk)
        decoder.finish()
        return time.thread_time() - began

    return min(once() for _ in range(3))


@pytest.mark.skipif(sys.gettrace() is not None, reason="what traces lines costs more than they do")
@pytest.mark.parametrize(
    ("make", "begin", "end"),
    [
        (TextDecoder, b"", b""),
        (LineDecoder, b"", b"\n"),
        (JSONDocumentDecoder, b'"', b'"'),
        (JSONDocumentDecoder, b'{"a": "', b'"}'),
    ],
)
def test_what_only_goes_on_costs_little_more_than_nothing(
    make: MakeDecoder, begin: bytes, end: bytes
) -> None:
    data = begin + b"a" * 200_000 + end

    def once(decoder: Decoder) -> float:
        began = time.thread_time()
        for place in range(len(data)):
            decoder.receive(data[place : place + 1])
        return time.thread_time() - began

    # In turn, so that what else the machine does falls on both.
    rounds = [(once(make()), once(Idle())) for _ in range(5)]
    taken, nothing = (statistics.median(times) for times in zip(*rounds, strict=True))
    assert taken < 5 * nothing  # measured: 1.9 to 2.7


@pytest.mark.parametrize(
    ("make", "data"),
    [
        (TextDecoder, "ä".encode() * 100_000),
        (JSONDocumentDecoder, b"[" + b" " * 200_000 + b"]"),
        (JSONDocumentDecoder, b'["' + b'\\"' * 100_000 + b'"]'),
    ],
)
def test_one_byte_at_a_time_costs_a_multiple_of_nothing(make: MakeDecoder, data: bytes) -> None:
    chunks = [data[start : start + 1] for start in range(len(data))]
    assert seconds(make, chunks) < 50 * seconds(Idle, chunks)  # measured: 12 to 24


@pytest.mark.parametrize(
    ("make", "item"),
    [
        (TextDecoder, b'{"outputs": [" token"]}\n'),
        (TextDecoder, "ä".encode()),
        (LineDecoder, b'{"outputs": [" token"]}\n'),
        (LineDecoder, b"\r\n"),
        (JSONDocumentDecoder, b'{"outputs": [" token"]}\n'),
        (JSONDocumentDecoder, b"{}"),
        (JSONDocumentDecoder, b'"a"'),
        (JSONDocumentDecoder, b"1 "),
    ],
)
def test_many_in_one_chunk_cost_no_more_than_one_by_one(make: MakeDecoder, item: bytes) -> None:
    items = [item] * 10_000
    assert seconds(make, [b"".join(items)]) < 4 * seconds(make, items)  # measured: 0.2 to 1


@pytest.mark.parametrize(
    ("make", "unit"),
    [
        (TextDecoder, "ä".encode()),
        (lambda: TextDecoder("backslashreplace"), b"\xff"),
        (LineDecoder, b"\n"),
        (LineDecoder, "ä\n".encode()),
        (JSONDocumentDecoder, b"{}"),
        (JSONDocumentDecoder, b'""'),
        (JSONDocumentDecoder, b"1\n"),
        (JSONDocumentDecoder, b"1" + MARK),
        (JSONDocumentDecoder, b"[[[]]]"),
        (JSONDocumentDecoder, b'"\\""[]'),
    ],
)
def test_a_slice_takes_some_milliseconds(
    make: Callable[[], TextDecoder | LineDecoder | JSONDocumentDecoder], unit: bytes
) -> None:
    length = make().slice_length
    # Measured: 0.1 to 7 ms.
    assert seconds(make, [unit * (length // len(unit))]) < 0.03


@pytest.mark.parametrize(
    "unit", [b"[", b"{", b'"a",', b'"\\"a",', b'[""],', b'"', b'["a\\n\\n', b'\\"', b"\\\\"]
)
@pytest.mark.parametrize("begin", [b"[", b'"', b'["'])
def test_no_document_costs_more_than_its_length(
    decoding: type[Decoding], begin: bytes, unit: bytes
) -> None:
    def cost(length: int) -> float:
        data = begin + unit * (length // len(unit))

        def once() -> float:
            began = time.thread_time()
            decoding.run(JSONDocumentDecoder, [data])
            return time.thread_time() - began

        return min(once() for _ in range(3))

    assert cost(160_000) < 5 * 8 * cost(20_000) + 0.01


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
