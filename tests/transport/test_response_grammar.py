"""The lines around a body, piece by piece: what is grammar, and what is no more than a limit."""

from __future__ import annotations

import pytest

from aiosmrt.transport.response_grammar import (
    MAX_LINE,
    MAX_WORD,
    MalformedResponse,
    check_beginning,
    find_status,
    lower,
    read_length,
    read_name,
    read_size,
    split_lines,
)

# What Unicode takes for a digit, a letter of ASCII or a blank.
_ALIKE = ("\uff12", "\u0662", "\u00b2", "\u212a", "\u0131", "\u017f", "\u00a0", "\u3000", "\ufeff")


def test_lines_are_text() -> None:
    assert split_lines(b"") == [""]
    assert split_lines(b"a: b\r\nc: \xc3\xa9\r\n\r\nd: \xe9\t\r\ne: \xc2\xe9") == [
        "a: b",
        "c: é",
        "",
        "d: é\t",
        "e: Âé",
    ]
    # What looks like the end of a line elsewhere is none.
    assert split_lines(b"a: \x85\xa0") == ["a: \x85\xa0"]


@pytest.mark.parametrize("control", [*range(9), 11, 12, *range(14, 32), 127])
def test_no_line_has_a_control_character(control: int) -> None:
    for data in (b"a%cb" % control, b"%c" % control, b"a\r\nb%c\r\nc" % control):
        with pytest.raises(MalformedResponse, match="control"):
            split_lines(data)
        with pytest.raises(MalformedResponse, match="control"):
            check_beginning(data, 0, MAX_LINE, 0)


@pytest.mark.parametrize("data", [b"a\nb", b"a\rb", b"a\n\rb", b"\na\r", b"a\r\r\nb", b"a\r\n\nb"])
def test_no_line_ends_in_half_a_line_break(data: bytes) -> None:
    with pytest.raises(MalformedResponse, match="LF or CR alone"):
        split_lines(data)
    with pytest.raises(MalformedResponse, match="LF or CR alone"):
        check_beginning(data, 0, MAX_LINE, 0)


def test_a_line_break_may_be_on_its_way() -> None:
    for data in (b"", b"a", b"a\r", b"\r\n", b"\r\na", b"\r\na\r"):
        check_beginning(data, 0, MAX_LINE, 0)
    with pytest.raises(MalformedResponse):
        split_lines(b"a\r")


def test_lines_are_as_long_as_they_may_be() -> None:
    longest = b"\xc3\xa9" * (MAX_LINE // 2)
    assert split_lines(b"a\r\n" + longest) == ["a", longest.decode()]
    check_beginning(b"\r\n" + longest + b"\r", 0, MAX_LINE, 0)
    for data in (longest + b"a", b"a\r\n" + longest + b"a\r\nb"):
        with pytest.raises(MalformedResponse, match="8190 bytes"):
            split_lines(data)
    with pytest.raises(MalformedResponse, match="8190 bytes"):
        check_beginning(b"\r\n" + longest + b"ab", 0, MAX_LINE, 0)


@pytest.mark.parametrize(
    ("beginning", "found"),
    [
        (b"HTTP/1.1 200", (1, 200)),
        (b"HTTP/1.1 200\r", (1, 200)),
        (b"HTTP/1.0 999 ", (0, 999)),
        (b"HTTP/1.1 099 ", None),
        (b"HTTP/1.1 20", None),
        (b"HTTP/1.1 2000", None),
        (b"HTTP/1.1  200", None),
        ("HTTP/1.1 20\uff10".encode(), None),
        (b"HTTP/1.2 200 ", None),
        (b"http/1.1 200 ", None),
        (b"HTTP/1.1 200\n", None),
        (b" HTTP/1.1 200", None),
        (b"", None),
    ],
)
def test_what_begins_a_status_line(beginning: bytes, found: tuple[int, int] | None) -> None:
    assert find_status(beginning) == found


def test_a_name_is_a_token_in_lower_case() -> None:
    assert read_name("X-!#$%&'*+-.^_`|~09aZ") == "x-!#$%&'*+-.^_`|~09az"
    assert read_name("a" * MAX_WORD)
    for name in ("", "a b", " a", "a ", "a\n", "é", "a" * (MAX_WORD + 1), *_ALIKE):
        with pytest.raises(MalformedResponse, match="no name of a header"):
            read_name(name)


def test_what_frames_is_ascii() -> None:
    assert lower("connection", "Keep-Alive, \tX") == "keep-alive, \tx"
    for letter in (*_ALIKE, "\udce9"):
        with pytest.raises(MalformedResponse, match=r"^connection is .*, which is not ASCII"):
            lower("connection", f"a{letter}")


@pytest.mark.parametrize(
    ("value", "length"),
    [("0", 0), ("00012", 12), ("9" * 15, 10**15 - 1), ("2,2", 2), ("2 ,\t2, 2", 2)],
)
def test_a_length_is_one(value: str, length: int) -> None:
    assert read_length(value) == length


@pytest.mark.parametrize(
    "value",
    ["", ",", "2,", ",2", "2,3", "2,02", "+2", "-2", "1_0", "0x2", "2.0", "2 2", "9" * 16, *_ALIKE],
)
def test_what_is_no_length(value: str) -> None:
    for text in (value, f"{value},{value}"):
        with pytest.raises(MalformedResponse, match="the content length is"):
            read_length(text)


@pytest.mark.parametrize(
    ("line", "size"),
    [
        (b"0\r\n", 0),
        (b"00aF\r\n", 0xAF),
        (b"f" * 15 + b"\r\n", 16**15 - 1),
        (b"0" * 200 + b"1\r\n", 1),
        (b"2 \t\r\n", 2),
        (b'2 ;a="\xe9"\r\n', 2),
    ],
)
def test_a_size_stands_before_a_chunk(line: bytes, size: int) -> None:
    assert read_size(line) == size


@pytest.mark.parametrize(
    "line",
    [
        *(b"\r\n", b"g\r\n", b" 2\r\n", b"+2\r\n", b"0x2\r\n", b"2_0\r\n", b"2 2\r\n", b";a\r\n"),
        *(b"2\n", b"2\r", b"2", b"2;a\n", b"2;\0\r\n", b"2;a\rb\r\n", b"2\r\n2\r\n"),
        *(b"1" + b"0" * 15 + b"\r\n", b"2;" + b"a" * MAX_WORD + b"\r\n", "\uff12\r\n".encode()),
    ],
)
def test_what_is_no_size(line: bytes) -> None:
    with pytest.raises(MalformedResponse, match="and no size"):
        read_size(line)
