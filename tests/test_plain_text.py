"""Foreign words on one line, and without what controls a terminal."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiosmrt.plain_text import strip_controls, to_line

DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", ""),
        ("no such tensor", "no such tensor"),
        ("größer als 五\u200d👩\u200d🔬", "größer als 五\u200d👩\u200d🔬"),
        (" Traceback:\r\n\tin f\n\n  ValueError\n", "Traceback: in f ValueError"),
        ("a\u2028b\u2029c\x85d\x0be\x0cf", "a b c d e f"),
        ("\x1b[31mERROR\x1b[0m: out\x1b[1;2H of memory", "ERROR: out of memory"),
        ("\x9b31mred\x9b0m", "red"),
        ("a\x1b]0;owned\x07b\x1b]8;;http://x\x1b\\c", "abc"),
        ("\x1bP1$r\x1b\\a\x9dtitle\x9cb", "ab"),
        ("\x1b]0;no end", "]0;no end"),
        ("\x1b[", "["),
        ("a\x00b\x08c\x7fd\x80e\x9ff", "abcdef"),
        (f"user{DIRECTIONS}gnp.exe", "usergnp.exe"),
        ("half \ud83d of a pair", "half \ufffd of a pair"),
    ],
)
def test_words_are_put_on_one_line(words: str, line: str) -> None:
    assert to_line(words) == line


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("a\n\tb\r\nc", "a\n\tb\nc"),
        ("one\rtwo", "onetwo"),
        ("\x1b[2Jgone\x1b]0;owned\x07", "gone"),
        ("\u202bאבג\u202c", "\u202bאבג\u202c"),
        ("\ud83d", "\ufffd"),
    ],
)
def test_a_text_keeps_its_lines_and_its_direction(text: str, stripped: str) -> None:
    assert strip_controls(text) == stripped


@given(
    st.text(alphabet=st.one_of(st.characters(), st.sampled_from(f"\x1b\x9b[]m\x07;0{DIRECTIONS}")))
)
@example("\x1b\x1b[[31mm")
def test_nothing_is_left_that_controls(words: str) -> None:
    line = to_line(words)
    assert not [c for c in line if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not set(line) & set(DIRECTIONS)
    assert to_line(line) == line
    line.encode()


@pytest.mark.parametrize(
    "piece", ["\x9d", "\x1b[", "\x1b]", "\x1b[1", "\x1b]a", "\x9b ", "\x1bP\x1b"]
)
def test_the_work_is_linear(piece: str) -> None:
    began = time.perf_counter()
    to_line(piece * (500_000 // len(piece)))
    to_line(piece[:2] + piece[-1] * 500_000)
    assert time.perf_counter() - began < 2
