"""Answers of HTTP/1.1: what they are read as in any split, what is refused, and what that costs.

What others read otherwise is in `tests/fuzz/test_response_parser.py`.
"""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest

from aiosmrt.transport.response_parser import IncompleteResponse, MalformedResponse, ResponseParser

_HEAD = b"HTTP/1.1 200 OK\r\n"
_GO_ON = b"HTTP/1.1 100 Go On\r\n"
_LONG = b"a:" + b"b" * 8000 + b"\r\n"
_CHUNKED = _HEAD + b"transfer-encoding: chunked\r\n\r\n"


class _Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool
    reusable: bool


def _feed(pieces: Sequence[bytes], *, method: str = "POST", closing: bool = False) -> _Answer:
    parser = ResponseParser(method)
    for piece in pieces:
        parser.receive_data(piece)
    if closing:
        parser.receive_eof()
    assert parser.head is not None
    return _Answer(
        parser.head.status,
        dict(parser.head.headers),
        b"".join(parser.pieces),
        parser.complete,
        parser.reusable,
    )


def _split(data: bytes) -> Iterator[list[bytes]]:
    """Give the data whole, byte by byte, and in two pieces at every place."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


_ANSWERS = {
    "sized": (_HEAD + b"content-length: 5\r\n\r\nhello", b"hello"),
    "stated twice": (_HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    "empty": (_HEAD + b"content-length: 0\r\n\r\n", b""),
    "chunked": (_CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
    "no chunk": (_CHUNKED + b"0\r\n\r\n", b""),
    "large size": (_CHUNKED + b"00000A\r\n0123456789\r\n00\r\n\r\n", b"0123456789"),
    "size with zeros": (_CHUNKED + b"0" * 20 + b"2\r\nok\r\n0\r\n\r\n", b"ok"),
    "extensions": (_CHUNKED + b'2;a=b;c="d"\r\nok\r\n0;e\r\n\r\n', b"ok"),
    "padded size": (_CHUNKED + b"2  \r\nok\r\n0\r\n\r\n", b"ok"),
    "trailers": (_CHUNKED + b"2\r\nok\r\n0\r\na: b\r\nc: d\r\n\r\n", b"ok"),
    "line breaks inside": (_CHUNKED + b"6\r\n\r\n0\r\n\r\r\n0\r\n\r\n", b"\r\n0\r\n\r"),
    "204": (b"HTTP/1.1 204 Nothing\r\ncontent-length: 7\r\n\r\n", b""),
    "304": (b"HTTP/1.1 304 As Before\r\ntransfer-encoding: chunked\r\n\r\n", b""),
    "100 before": (_GO_ON + b"\r\n" + _HEAD + b"content-length: 2\r\n\r\nok", b"ok"),
    "103 twice": (
        b"HTTP/1.1 103 Hints\r\nlink: a\r\n\r\n" * 2 + _HEAD + b"content-length: 0\r\n\r\n",
        b"",
    ),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 1\r\n\r\nx", b"x"),
}


@pytest.mark.parametrize(("data", "body"), _ANSWERS.values(), ids=_ANSWERS)
def test_an_answer_is_the_same_in_any_split(data: bytes, body: bytes) -> None:
    for pieces in _split(data):
        answer = _feed(pieces)
        assert (answer.body, answer.complete, answer.reusable) == (body, True, True)


@pytest.mark.parametrize(("data", "body"), _ANSWERS.values(), ids=_ANSWERS)
def test_what_comes_behind_an_answer_is_not_its_own(data: bytes, body: bytes) -> None:
    for behind in (b"x", b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n"):
        for pieces in ([data + behind], [data, behind], [data, behind, behind]):
            answer = _feed(pieces)
            assert (answer.body, answer.complete, answer.reusable) == (body, True, False)


@pytest.mark.parametrize(("data", "body"), _ANSWERS.values(), ids=_ANSWERS)
def test_an_answer_that_is_cut_anywhere_is_not_complete(data: bytes, body: bytes) -> None:
    for at in range(len(data)):
        parser = ResponseParser("POST")
        parser.receive_data(data[:at])
        assert not parser.complete
        assert body.startswith(b"".join(parser.pieces))
        with pytest.raises(IncompleteResponse, match="the connection ended"):
            parser.receive_eof()


def test_an_end_after_the_end_says_nothing() -> None:
    parser = ResponseParser("POST")
    parser.receive_data(_HEAD + b"content-length: 2\r\n\r\nok")
    parser.receive_eof()
    assert parser.complete
    assert parser.delimited


def test_where_the_connection_ended_is_told() -> None:
    for data, where in (
        (b"", "ended$"),
        (b"HTTP/1.1 2", "in the middle of the head"),
        (_HEAD + b"content-length: 2\r\n\r\no", "in the middle of the body"),
    ):
        parser = ResponseParser("POST")
        parser.receive_data(data)
        assert parser.begun is bool(data)
        with pytest.raises(IncompleteResponse, match=where):
            parser.receive_eof()


def test_an_answer_to_head_has_no_body() -> None:
    answer = _feed([_HEAD + b"content-length: 7\r\n\r\n"], method="HEAD")
    assert (answer.body, answer.complete, answer.reusable) == (b"", True, True)


def test_what_ends_http_is_the_last_answer() -> None:
    answer = _feed([b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nbytes"])
    assert (answer.status, answer.body, answer.complete) == (101, b"", True)
    assert not answer.reusable


@pytest.mark.parametrize("coding", [b"", b"transfer-encoding: identity\r\n"])
def test_an_end_that_the_connection_shows_is_no_proof(coding: bytes) -> None:
    for pieces in _split(_HEAD + coding + b"\r\nhello"):
        parser = ResponseParser("POST")
        for piece in pieces:
            parser.receive_data(piece)
        answered = parser.complete
        parser.receive_eof()
        assert (answered, parser.complete) == (False, True)
        assert not parser.delimited
        assert not parser.reusable
        assert b"".join(parser.pieces) == b"hello"


@pytest.mark.parametrize(
    ("version", "connection", "reusable"),
    [
        (b"1.1", None, True),
        (b"1.1", b"keep-alive", True),
        (b"1.1", b"Close", False),
        (b"1.1", b"upgrade , close", False),
        (b"1.1", b"close;q=0", False),
        (b"1.0", None, False),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"keep-alive, close", False),
        (b"1.0", b"a, keep-alive\t", True),
        (b"1.0", b"keep-alive;q=1", False),
    ],
)
def test_whether_another_request_may_follow(
    version: bytes, connection: bytes | None, reusable: bool
) -> None:
    line = b"" if connection is None else b"connection: %b\r\n" % connection
    answer = _feed([b"HTTP/%b 200 OK\r\n%bcontent-length: 0\r\n\r\n" % (version, line)])
    assert answer.complete
    assert answer.reusable is reusable


def test_headers_are_told_as_they_are() -> None:
    parser = ResponseParser("POST")
    parser.receive_data(
        b"HTTP/1.1 299 Fine, thanks\r\nX-One:1\r\nTWO: \t a b \t\r\nx-one:  2\r\nempty:\r\n"
        b"utf: \xc3\xa9\r\nlatin: \xe9\r\ntab: a\tb\r\ncontent-length: 0\r\n\r\n"
    )
    assert parser.head is not None
    assert (parser.head.status, parser.reason) == (299, "Fine, thanks")
    assert parser.head.headers == {
        "x-one": "1, 2",
        "two": "a b",
        "empty": "",
        "utf": "é",
        "latin": "é",
        "tab": "a\tb",
        "content-length": "0",
    }
    assert list(parser.head.headers)[:3] == ["x-one", "two", "empty"]


def test_a_line_that_goes_on_in_the_next_is_one() -> None:
    """As RFC 9112, section 5.2, has it."""
    for pieces in _split(_HEAD + b"a: b \r\n\t c\r\n  d\r\ncontent-length: 0\r\n\r\n"):
        answer = _feed(pieces)
        assert answer.headers == {"a": "b c d", "content-length": "0"}
        # Others read something else there.
        assert (answer.complete, answer.reusable) == (True, False)


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (b"a:\r\n b\r\n", "b"),
        (b"a: b\r\n \r\n\t\r\n c\r\n", "b c"),
        (b"a: b\r\na:\r\n c\r\n", "b, c"),
        (b"a: b\r\n c\r\na: d\r\n", "b c, d"),
        (b"a: b\r\n \r\n", "b"),
    ],
)
def test_lines_go_on_as_the_same_value_in_any_split(lines: bytes, value: str) -> None:
    for pieces in _split(_HEAD + lines + b"content-length: 0\r\n\r\n"):
        assert _feed(pieces).headers == {"a": value, "content-length": "0"}


def test_what_frames_may_go_on_in_the_next_line_but_nothing_follows() -> None:
    for pieces in _split(_HEAD + b"transfer-encoding:\r\n chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"):
        answer = _feed(pieces)
        assert (answer.body, answer.complete, answer.reusable) == (b"ok", True, False)


@pytest.mark.parametrize(
    "trailers", [b"content-length: 5\r\n", b"Connection: close\r\n", b"a: b\r\n c\r\n"]
)
def test_nothing_follows_behind_doubtful_trailers(trailers: bytes) -> None:
    for pieces in _split(_CHUNKED + b"2\r\nok\r\n0\r\n" + trailers + b"\r\n"):
        answer = _feed(pieces)
        assert (answer.body, answer.complete, answer.reusable) == (b"ok", True, False)
        assert answer.headers == {"transfer-encoding": "chunked"}


def test_what_announces_an_answer_may_say_that_nothing_follows() -> None:
    for announced in (_GO_ON + b"connection: close\r\n\r\n", b"HTTP/1.0 100 \r\n\r\n"):
        for pieces in _split(announced + _HEAD + b"content-length: 2\r\n\r\nok"):
            answer = _feed(pieces)
            assert (answer.body, answer.complete, answer.reusable) == (b"ok", True, False)


def test_what_announces_an_answer_is_a_beginning() -> None:
    parser = ResponseParser("POST")
    for data in (b"", _GO_ON + b"\r\n"):
        parser.receive_data(data)
        assert parser.begun is bool(data)
        assert parser.head is None


def test_http_1_0_knows_no_chunks_and_is_closed_behind_them() -> None:
    head = b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n"
    answer = _feed([head + b"2\r\nok\r\n0\r\n\r\n"])
    assert (answer.body, answer.complete, answer.reusable) == (b"ok", True, False)


def test_what_has_no_body_may_say_of_it_what_it_likes() -> None:
    head = b"content-length: many\r\ntransfer-encoding: chunked\r\n\r\n"
    for data, method in ((_HEAD + head, "HEAD"), (b"HTTP/1.1 204 No\r\n" + head, "POST")):
        answer = _feed([data], method=method)
        assert (answer.body, answer.complete, answer.reusable) == (b"", True, True)


_MALFORMED = {
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "tls": b"\x15\x03\x01\x00\x02\x02\x46",
    "http/2": b"HTTP/2 200\r\n\r\n",
    "http/0.9": b"<html>",
    "leading line": b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    "leading blank": b" HTTP/1.1 200 OK\r\n\r\n",
    "http/1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "full-width status": "HTTP/1.1 20\uff10 OK\r\n\r\n".encode(),
    "no space behind the status": b"HTTP/1.1 200OK\r\n\r\n",
    "words": b"HTTP/1.1 two hundred\r\n\r\n",
    "no status": b"HTTP/1.1\r\n\r\n",
    "short status": b"HTTP/1.1 20\r\n\r\n",
    "low status": b"HTTP/1.1 099 X\r\n\r\n",
    "long status": b"HTTP/1.1 2000 X\r\n\r\n",
    "no colon": _HEAD + b"a\r\n\r\n",
    "no name": _HEAD + b": a\r\n\r\n",
    "space in a name": _HEAD + b"a b: c\r\n\r\n",
    "space behind a name": _HEAD + b"content-length : 2\r\n\r\n",
    "long name": _HEAD + b"a" * 257 + b": b\r\n\r\n",
    "kelvin sign in a name": _HEAD + "\u212aeep: a\r\n\r\n".encode(),
    "first line goes on": _HEAD + b" a: b\r\n\r\n",
    "first line is blank": _HEAD + b" \r\n\r\n",
    "first line of a second head goes on": b"HTTP/1.1 100 \r\na: b\r\n\r\n" + _HEAD + b" c\r\n\r\n",
    "nul": _HEAD + b"a: b\0c\r\n\r\n",
    "bare cr": _HEAD + b"a: b\rc: d\r\n\r\n",
    "bare lf only": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "bare lf": _HEAD + b"a: b\nc: d\r\n\r\n",
    "length is a word": _HEAD + b"content-length: many\r\n\r\n",
    "signed length": _HEAD + b"content-length: +2\r\n\r\n",
    "negative length": _HEAD + b"content-length: -2\r\n\r\n",
    "no length": _HEAD + b"content-length:\r\n\r\n",
    "underscored length": _HEAD + b"content-length: 1_0\r\n\r\n",
    "arabic length": _HEAD + "content-length: \u0662\r\n\r\n".encode(),
    "endless length": _HEAD + b"content-length: " + b"9" * 16 + b"\r\n\r\n",
    "two lengths": _HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n",
    "length with a space of unicode": _HEAD + "content-length: 2\u00a0\r\n\r\n".encode(),
    "full-width length": _HEAD + "content-length: \uff12\r\n\r\n".encode(),
    "length that goes on": _HEAD + b"content-length: 1\r\n 0\r\n\r\n",
    "many lengths": _HEAD + b"content-length: " + b"2," * 200 + b"2\r\n\r\nok",
    "kelvin sign in a coding": _HEAD + "transfer-encoding: chun\u212aed\r\n\r\n".encode(),
    "latin coding": _HEAD + b"transfer-encoding: chunke\xe4\r\n\r\n",
    "blank of unicode behind a coding": _HEAD + "transfer-encoding: chunked\u00a0\r\n\r\n".encode(),
    "kelvin sign in an option": _HEAD + "connection: \u212aeep-alive\r\n\r\n".encode(),
    "dotless i in an option": b"HTTP/1.0 200 OK\r\nconnection: keep-al\xc4\xb1ve\r\n\r\n",
    "length and coding": _HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
    "coding of chunks": _HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n",
    "two codings": _HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n",
    "long line": _HEAD + b"a: " + b"x" * 8200 + b"\r\n\r\n",
    "long head": _HEAD + b"a: b\r\n" * 12_000,
    "long whole head": _HEAD + b"a: b\r\n" * 12_000 + b"\r\n",
    "no size": _CHUNKED + b"\r\n",
    "size is a word": _CHUNKED + b"what?\r\n",
    "signed size": _CHUNKED + b"+2\r\nok\r\n",
    "prefixed size": _CHUNKED + b"0x2\r\nok\r\n",
    "underscored size": _CHUNKED + b"1_0\r\n",
    "space before a size": _CHUNKED + b" 2\r\nok\r\n",
    "endless size": _CHUNKED + b"f" * 16 + b"\r\n",
    "control in an extension": _CHUNKED + b"2;\x01\r\n",
    "long size": _CHUNKED + b"2;" + b"x" * 8200,
    "long extension": _CHUNKED + b"2;" + b"x" * 300 + b"\r\nok\r\n0\r\n\r\n",
    "long trailer": _CHUNKED + b"0\r\n" + b"x" * 8200,
    "trailer without a colon": _CHUNKED + b"0\r\na\r\n\r\n",
    "trailer without a name": _CHUNKED + b"0\r\n: a\r\n\r\n",
    "first trailer goes on": _CHUNKED + b"0\r\n a: b\r\n\r\n",
    "nul in a trailer": _CHUNKED + b"0\r\na: \0\r\n\r\n",
    "many trailers": _CHUNKED + b"0\r\n" + b"a: b\r\n" * 17_000,
    "many heads before": b"HTTP/1.1 100 \r\n\r\n" * 4_000,
    "many bytes": _HEAD + _LONG * 9 + b"\r\n",
    "many bytes in two heads": (_GO_ON + _LONG * 5 + b"\r\n") * 2 + _HEAD + b"\r\n",
    "many bytes on both sides": _CHUNKED[:-2] + _LONG * 5 + b"\r\n0\r\n" + _LONG * 5 + b"\r\n",
    "many lines": _HEAD + b"a:\r\n" * 256 + b"\r\n",
    "many lines in two heads": (_GO_ON + b"a:\r\n" * 127 + b"\r\n") * 2 + _HEAD + b"\r\n",
    "many lines on both sides": _CHUNKED + b"0\r\n" + b"a:\r\n" * 255 + b"\r\n",
    "too long a chunk": _CHUNKED + b"2\r\nokay\r\n",
    "lf behind a chunk": _CHUNKED + b"2\r\nok\n0\n\n",
}


@pytest.mark.parametrize("data", _MALFORMED.values(), ids=_MALFORMED)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    for size in (len(data), 1000, 1):
        parser = ResponseParser("POST")
        with pytest.raises(MalformedResponse) as caught:  # noqa: PT012 - any piece may be the one
            for at in range(0, len(data), size):
                parser.receive_data(data[at : at + size])
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize("data", [b"\x15\x03\r\n\r\n", b"SSH-2.0\r\n", b"<p>\n</p>\r\n", b"<"])
def test_what_speaks_no_http_is_shown(data: bytes) -> None:
    for pieces in ([data], [data[:1], data[1:]]):
        parser = ResponseParser("POST")
        with pytest.raises(MalformedResponse, match=r"^it begins with b'[\\<S]"):  # noqa: PT012 - as above
            for piece in pieces:
                parser.receive_data(piece)


def test_what_came_before_a_bad_chunk_is_there() -> None:
    parser = ResponseParser("POST")
    with pytest.raises(MalformedResponse, match="no size"):
        parser.receive_data(_CHUNKED + b"2\r\nok\r\nwhat?\r\n")
    assert parser.pieces == [b"ok"]
    parser = ResponseParser("POST")
    with pytest.raises(MalformedResponse, match="no line break"):
        parser.receive_data(_CHUNKED + b"2\r\nokay\r\n")
    assert parser.pieces == [b"ok"]


@pytest.mark.parametrize(
    "data",
    [
        # In a status line.
        b"\n",
        b"HTTP/1.1 200 OK\n",
        b"HTTP/1.1 200 O\rK",
        b"HTTP/1.1 2\0",
        b"HTTQ",
        b"HTTP/1.1 20\r\n",
        b"HTTP/1.1 200 OK\r\nHTTP/1.1 200 OK\r\n",
        # In a head.
        _HEAD + b"a: b\n",
        _HEAD + b"a: b\r\n\n",
        _HEAD + b"a: b\rc",
        _HEAD + b"a: b\x7f",
        _HEAD + b"a: b\r\n c\n",
        _HEAD + b" a: b\r\n",
        _HEAD + b"a\r\n",
        _HEAD + b"a : b\r\n",
        _GO_ON + b"\r\n\n",
        # Around chunks.
        _CHUNKED + b"\n",
        _CHUNKED + b"2\n",
        _CHUNKED + b"2\rx",
        _CHUNKED + b"2;a\0",
        _CHUNKED + b"2\r\nok\n",
        _CHUNKED + b"2\r\nok\r\r",
        _CHUNKED + b"2\r\nok\r\nx\r\n",
        # Behind the last.
        _CHUNKED + b"0\n",
        _CHUNKED + b"0\r\n\n",
        _CHUNKED + b"0\r\na: b\n",
        _CHUNKED + b"0\r\na: b\r\n\n",
        _CHUNKED + b"0\r\na: b\rc",
        _CHUNKED + b"0\r\na\r\n",
    ],
)
def test_what_cannot_be_is_refused_at_its_last_byte(data: bytes) -> None:
    """Not waited for, until a limit is reached or somebody gives up."""
    for pieces in _split(data):
        parser = ResponseParser("POST")
        for piece in pieces[:-1]:
            parser.receive_data(piece)
        with pytest.raises(MalformedResponse):
            parser.receive_data(pieces[-1])


def test_as_much_as_is_allowed_is_read() -> None:
    lines = b"".join(b"%d:\r\n" % number for number in range(252))
    name = b"a" * 256
    long = name + b":" + b"b" * (8190 - 257) + b"\r\n"
    end = b"content-length: " + b"2," * 100 + b"2\r\n\r\n"
    data = _GO_ON + b"\r\n" + _HEAD + lines + long + end
    assert data.count(b"\r\n") == 256 + 2
    for size in (len(data), 1000, 1):
        answer = _feed([*(data[at : at + size] for at in range(0, len(data), size)), b"ok"])
        assert (answer.body, answer.complete, answer.reusable) == (b"ok", True, True)
        assert len(answer.headers) == 254
        assert len(answer.headers[name.decode()]) == 8190 - 257


# --- what it costs


def _repeat(unit: bytes, size: int = 65_000) -> bytes:
    return unit * (size // len(unit))


_COSTLY = {
    "blanks behind a line that goes on": _HEAD + b"a: b\r\n c\r\nx: " + b" " * 65_000,
    "lines of blanks": _HEAD + b"a: b\r\n" + (b" " * 250 + b"\r\n") * 250,
    "blank lines": _HEAD + b"a: b\r\n" + _repeat(b" \r\n"),
    "one header": _HEAD + (b"a:" + "\U0001f600".encode() * 60 + b"\r\n") * 250,
    "one header that goes on": _HEAD + b"a:\r\n" + (b"\t" + b"b" * 250 + b"\r\n") * 250,
    "short headers": _HEAD + _repeat(b"a:\r\n"),
    "all kinds of headers": _HEAD + b"".join(b"%x:\r\n" % number for number in range(9000)),
    "long names": _HEAD + b"".join(b"%0250x:\r\n" % number for number in range(250)),
    "lengths": _HEAD + (b"content-length:" + b"1," * 4000 + b"\r\n") * 8,
    "options": b"HTTP/1.0 200 OK\r\n" + (b"connection:" + b"," * 8000 + b"\r\n") * 8,
    "blank options": b"HTTP/1.0 200 OK\r\n" + (b"connection:" + b" ," * 4000 + b"\r\n") * 8,
    "codings": _HEAD + (b"transfer-encoding:" + b"," * 8000 + b"\r\n") * 8,
    "colons": _HEAD + (b"a" + b":" * 8000 + b"\r\n") * 8,
    "a line": _HEAD + b"a" * (1 << 20),
    "lines": _HEAD + (b"a:" + b"\xff" * 8180 + b"\r\n") * 8,
    "heads before": _repeat(b"HTTP/1.1 100 \r\n\r\n"),
    "heads before a body": b"HTTP/1.1 100 \r\n\r\n" * 250 + _HEAD + b"\r\n" + b"x" * (1 << 20),
    "a size": _CHUNKED + b"0" * (1 << 20),
    "an extension": _CHUNKED + b"1;" + b"a" * (1 << 20),
    "trailers": _CHUNKED + b"0\r\n" + _repeat(b"a:\r\n"),
}


def _measure(pieces: Sequence[bytes]) -> float:
    """Give the seconds of this thread that an answer takes, whatever becomes of it."""
    best = 1.0
    for _ in range(3):
        parser = ResponseParser("POST")
        began = time.thread_time()
        with contextlib.suppress(MalformedResponse):
            for piece in pieces:
                parser.receive_data(piece)
        best = min(best, time.thread_time() - began)
    return best


@pytest.mark.parametrize("data", _COSTLY.values(), ids=_COSTLY)
def test_no_head_holds_the_loop(data: bytes) -> None:
    for ended in (data, data + b"\r\n\r\n"):
        assert _measure([ended]) < 0.01


def test_byte_by_byte_a_long_line_costs_what_short_ones_cost() -> None:
    long, short = (_HEAD + _repeat(line, 30_000) for line in (_LONG, b"a:" + b"b" * 240 + b"\r\n"))
    times = [_measure([data[at : at + 1] for at in range(len(data))]) for data in (long, short)]
    assert times[0] < 2 * times[1]


def test_a_peer_does_not_decide_how_much_is_remembered() -> None:
    """Names, lengths and sizes are remembered, since the next answer has the same."""
    tracemalloc.start()
    try:
        for number in range(2000):
            parser = ResponseParser("POST")
            name, size = b"%0250x" % number, b"%x;%0240x" % (number + 1, number)
            parser.receive_data(_HEAD + name + b": a\r\ntransfer-encoding: chunked\r\n\r\n" + size)
            parser = ResponseParser("POST")
            lengths = b",".join([b"%d" % number] * 40)
            parser.receive_data(b"HTTP/1.1 200 %08000d\r\ncontent-length:" % number + lengths)
            with pytest.raises(MalformedResponse):
                ResponseParser("POST").receive_data(_HEAD + b"%08000x: a\r\n\r\n" % number)
        assert tracemalloc.get_traced_memory()[0] < 1_500_000
    finally:
        tracemalloc.stop()
