from __future__ import annotations

from codecs import BOM_UTF8
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.errors import InvalidText, PayloadTooLarge
from aiosmrt.payload.lines import LineDecoder
from aiosmrt.payload.text import TextDecoder

if TYPE_CHECKING:
    from tests.conftest import Decoding
    from tests.payload.conftest import FramingCase

cuts = st.lists(st.integers(0, 10_000), max_size=12)

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
    assert decoding.give(LineDecoder, BOM_UTF8 + text.encode()) == lines


def test_a_byte_order_mark_counts_for_places_and_bounds(decoding: type[Decoding]) -> None:
    lines, offset, _ = decoding.fail(LineDecoder, BOM_UTF8 + b"ab\nc\xff\n", InvalidText)
    assert (lines, offset) == (["ab"], 7)
    lines, offset, _ = decoding.fail(LineDecoder, BOM_UTF8 + b"ab\xff\n", InvalidText)
    assert (lines, offset) == ([], 5)

    def make() -> LineDecoder:
        return LineDecoder(max_line_length=5)

    assert decoding.give(make, BOM_UTF8 + b"ab\nabcde") == ["ab", "abcde"]
    assert decoding.fail(make, BOM_UTF8 + b"abc\n", PayloadTooLarge)[:2] == ([], 0)
    outcome = decoding.decode(LineDecoder, BOM_UTF8[:2])
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


def test_lines_of_containers(decoding: type[Decoding], framing_cases: list[FramingCase]) -> None:
    for case in framing_cases:
        outcome = decoding.run(LineDecoder, case.chunks)
        assert outcome.early + outcome.late == case.lines, case.name
        assert decoding.give(LineDecoder, case.whole) == case.lines, case.name
        assert "".join(decoding.give(TextDecoder, case.whole)) == case.whole.decode()
