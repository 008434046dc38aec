from __future__ import annotations

from codecs import BOM_UTF8
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.errors import InvalidText
from aiosmrt.payload.text import TextDecoder

if TYPE_CHECKING:
    from tests.conftest import Decoding

cuts = st.lists(st.integers(0, 10_000), max_size=12)


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
    expected = data.removeprefix(BOM_UTF8).decode(errors=errors)
    assert "".join(map(str, outcome.early + outcome.late)) == expected


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
        got = decoding.give(lambda errors=errors: TextDecoder(errors), BOM_UTF8 + text.encode())  # type: ignore[misc]
        assert "".join(got) == text


def test_what_is_wrong_behind_a_byte_order_mark_or_in_it(decoding: type[Decoding]) -> None:
    before, offset, _ = decoding.fail(TextDecoder, BOM_UTF8 + b"a\xff", InvalidText)
    assert (before, offset) == (["a"], 4)
    before, offset, _ = decoding.fail(TextDecoder, BOM_UTF8 + b"\xff", InvalidText)
    assert (before, offset) == ([], 3)
    before, offset, _ = decoding.fail(TextDecoder, b"\xef\xbba", InvalidText)
    assert (before, offset) == ([], 0)
    outcome = decoding.decode(TextDecoder, BOM_UTF8[:2])
    assert outcome.at_end
    assert isinstance(outcome.error, InvalidText)
    # Behind what is no text it is not at the beginning.
    assert decoding.give(lambda: TextDecoder("ignore"), b"\xff" + BOM_UTF8) == ["\ufeff"]
