"""Answers of HTTP/1.1: what they are read as in any split, what is refused, and what others say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from unittest.mock import Mock

import aiohttp.http
import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiosmrt.response_parser import IncompleteResponse, MalformedResponse, ResponseParser

_HEAD = b"HTTP/1.1 200 OK\r\n"
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
    "100 before": (b"HTTP/1.1 100 Go On\r\n\r\n" + _HEAD + b"content-length: 2\r\n\r\nok", b"ok"),
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
        (b"1.0", None, False),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"keep-alive, close", False),
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
        "latin": "\udce9",
        "tab": "a\tb",
        "content-length": "0",
    }
    assert list(parser.head.headers)[:3] == ["x-one", "two", "empty"]


def test_a_line_that_goes_on_in_the_next_is_one() -> None:
    """As RFC 9112, section 5.2, has it."""
    for pieces in _split(_HEAD + b"a: b \r\n\t c\r\n  d\r\ncontent-length: 0\r\n\r\n"):
        assert _feed(pieces).headers == {"a": "b c d", "content-length": "0"}
    # One that goes on where nothing has begun is passed over (section 2.2).
    assert _feed([_HEAD + b" a: b\r\ncontent-length: 0\r\n\r\n"]).headers == {"content-length": "0"}


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
    "words": b"HTTP/1.1 two hundred\r\n\r\n",
    "no status": b"HTTP/1.1\r\n\r\n",
    "short status": b"HTTP/1.1 20\r\n\r\n",
    "low status": b"HTTP/1.1 099 X\r\n\r\n",
    "long status": b"HTTP/1.1 2000 X\r\n\r\n",
    "no colon": _HEAD + b"a\r\n\r\n",
    "no name": _HEAD + b": a\r\n\r\n",
    "space in a name": _HEAD + b"a b: c\r\n\r\n",
    "space behind a name": _HEAD + b"content-length : 2\r\n\r\n",
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
    "length and coding": _HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
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
    "many trailers": _CHUNKED + b"0\r\n" + b"a: b\r\n" * 17_000,
    "many heads before": b"HTTP/1.1 100 \r\n\r\n" * 4_000,
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


def test_what_came_before_a_bad_chunk_is_there() -> None:
    parser = ResponseParser("POST")
    with pytest.raises(MalformedResponse, match="no size"):
        parser.receive_data(_CHUNKED + b"2\r\nok\r\nwhat?\r\n")
    assert parser.pieces == [b"ok"]
    parser = ResponseParser("POST")
    with pytest.raises(MalformedResponse, match="no line break"):
        parser.receive_data(_CHUNKED + b"2\r\nokay\r\n")
    assert parser.pieces == [b"ok"]


# --- what others read


def _read_by_h11(data: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
    """Give status, headers and body, `None` where h11 refuses or waits for more."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    status, headers, body = 0, [], b""
    connection.receive_data(data)
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status, headers = event.status_code, list(event.headers)
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, headers, body
            elif event is h11.NEED_DATA:
                return None
    except h11.RemoteProtocolError:
        return None


_TOKENS = st.text("abcXYZ019-_", min_size=1, max_size=12)
_VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)
_FRAMING = {"content-length", "transfer-encoding", "connection"}


@st.composite
def _answers(draw: st.DrawFn) -> bytes:
    """Give sound answers, sized and chunked."""
    lines = [f"HTTP/1.1 {draw(st.integers(200, 599))} {draw(_VALUES)}"]
    names = draw(st.lists(_TOKENS.filter(lambda name: name.lower() not in _FRAMING)))
    lines += [f"{name}:{draw(st.sampled_from(['', ' ', chr(9)]))}{draw(_VALUES)}" for name in names]
    chunks = draw(st.lists(st.binary(min_size=1, max_size=40)))
    if draw(st.booleans()):
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        lines.append("Transfer-Encoding: chunked")
    else:
        body = b"".join(chunks)
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines).encode()
    if lines[0][9:12] in ("204", "304"):
        body = b""
    return head + b"\r\n\r\n" + body


@given(_answers(), st.lists(st.integers(1, 50), max_size=20))
def test_sound_answers_are_read_as_h11_reads_them(data: bytes, sizes: list[int]) -> None:
    theirs = _read_by_h11(data)
    assert theirs is not None
    status, headers, body = theirs
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    ours = _feed([*filter(None, pieces), *filter(None, [data[at:]])])
    assert (ours.status, ours.body, ours.complete) == (status, body, True)
    joined: dict[str, str] = {}
    for name, value in ((name.decode(), value.decode()) for name, value in headers):
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    assert ours.headers == joined


@given(st.data(), _answers())
@example(None, _CHUNKED + b"2\r\nok\r\n0\r\n\r\n")
def test_damaged_answers_are_refused_or_read_as_aiohttp_reads_them(
    data: st.DataObject | None, answer: bytes
) -> None:
    """Nothing but our own two errors comes out, and no body that aiohttp would read otherwise."""
    if data is not None:
        at = data.draw(st.integers(0, len(answer) - 1))
        put = data.draw(st.binary(max_size=3))
        answer = answer[:at] + put + answer[at + data.draw(st.integers(0, 3)) :]
    try:
        ours = _feed([answer])
    except (MalformedResponse, AssertionError):
        return
    if not ours.complete or not ours.reusable:
        return
    theirs = _read_by_aiohttp(answer)
    assert theirs is None or theirs == (ours.status, ours.body)


def _read_by_aiohttp(data: bytes) -> tuple[int, bytes] | None:
    """Give status and body of the last answer in it, `None` where aiohttp refuses."""
    loop = asyncio.new_event_loop()
    try:
        parser = aiohttp.http.HttpResponseParser(
            Mock(_reading_paused=False), loop, 1 << 16, read_until_eof=True, auto_decompress=False
        )
        messages, _, _ = parser.feed_data(data)
    except aiohttp.http.HttpProcessingError:
        return None
    finally:
        loop.close()
    message, content = messages[-1]
    if not content.is_eof():
        return None
    return message.code, content.read_nowait(-1)
