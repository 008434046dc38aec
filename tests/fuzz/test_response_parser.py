"""Our parser of answers beside h11 and aiohttp's, which is llhttp, on damaged answers.

What they read otherwise is in one table, each with its reason: a difference that is not there is a
fault. `make promises` tries some millions of answers, the suite some thousands.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import time
import timeit
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import aiohttp.http
import h11
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.helpers import DEBUG
from aiohttp.http_parser import HttpResponseParser, HttpResponseParserPy
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.transport.response_parser import IncompleteResponse, MalformedResponse, ResponseParser

MUTATED_ANSWERS = int(os.environ.get("AIOSMRT_MUTATED_ANSWERS", "4000"))

pytestmark = pytest.mark.skipif(
    HttpResponseParser is HttpResponseParserPy or DEBUG,
    reason="aiohttp reads answers in Python here, or strictly, as it does where users develop",
)

Mutate: TypeAlias = Callable[[random.Random], bytes]

_log = logging.getLogger(__name__)

# Seconds of one thread that no answer of these may take.
_SLOW = 0.01

# One in so many answers of so few bytes comes byte by byte.
_BYTEWISE = 8
_SHORT = 1000


class _Answer(NamedTuple):
    status: int
    reason: str
    headers: dict[str, str]  # repeated ones joined by ", "
    body: bytes
    delimited: bool  # its end does not depend on the connection's
    kept: bool  # the connection is fit for the next request


# An answer, or why there is none.
_Reading: TypeAlias = _Answer | str


class _Outcome(NamedTuple):
    """What our parser makes of an answer, in any split."""

    error: type[Exception] | None
    status: int
    headers: dict[str, str]
    body: bytes
    answer: _Answer | None


def _feed(pieces: Iterable[bytes]) -> tuple[_Outcome, str]:
    """Give what becomes of an answer that comes in pieces, and the text of the error."""
    parser = ResponseParser("POST")
    error: Exception | None = None
    answer = None
    kept = False
    try:
        for piece in pieces:
            parser.receive_data(piece)
        kept = parser.complete and parser.reusable
        parser.receive_eof()
    except (MalformedResponse, IncompleteResponse) as caught:
        error = caught
    body = b"".join(parser.pieces)
    status, headers = 0, {}
    if parser.head is not None:
        status, headers = parser.head.status, dict(parser.head.headers)
    if error is None:
        assert parser.complete
        answer = _Answer(status, parser.reason, headers, body, parser.delimited, kept)
    kind = None if error is None else type(error)
    return _Outcome(kind, status, headers, body, answer), str(error)


def _join(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


_REQUEST = h11.Request(method="POST", target="/", headers=[("host", "a")])


def _read_by_h11(data: bytes) -> _Reading:
    connection = h11.Connection(h11.CLIENT)
    connection.send(_REQUEST)
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    head, body, ended = h11.Response(status_code=200, headers=[]), b"", False
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed) or ended:
                return "it ended"
            elif event is h11.NEED_DATA:
                ended = True
                connection.receive_data(b"")
    except h11.RemoteProtocolError as error:
        return str(error)
    headers = [(name.decode(), _decode(value)) for name, value in head.headers]
    kept = not ended and connection.their_state is h11.DONE
    return _Answer(head.status_code, _decode(head.reason), _join(headers), body, not ended, kept)


def _read_by_aiohttp(data: bytes, loop: asyncio.AbstractEventLoop) -> _Reading:
    parser = HttpResponseParser(
        BaseProtocol(loop), loop, 1 << 30, read_until_eof=True, auto_decompress=False
    )
    try:
        messages, _, _ = parser.feed_data(data)
        heads = [(head, body) for head, body in messages if head.code >= 200 or head.code == 101]
        if not heads:
            return "it ended"
        head, body = heads[0]
        delimited = body.is_eof()
        parser.feed_eof()
    except aiohttp.http.HttpProcessingError as error:
        return error.message
    # Before 3.13 it left the blanks behind a value.
    headers = [
        (name.lower(), _respell(value.rstrip(" \t"))) for name, value in head.headers.items()
    ]
    kept = delimited and not head.should_close
    reason = _respell(head.reason)
    return _Answer(head.code, reason, _join(headers), body.read_nowait(-1), delimited, kept)


def _respell(text: str) -> str:
    """Decode as we do what aiohttp has decoded in its way."""
    return _decode(text.encode("utf-8", "surrogateescape"))


# --- what they read otherwise

_CONTROL = rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
_BARE = rb"(?<!\r)\n|\r(?!\n)"
_FOLD = rb"\r\n[ \t]"
_HEAD = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _HEAD + b"transfer-encoding: chunked\r\n\r\n"
_END = b"content-length: 0\r\n\r\n"


class _Disagreement(NamedTuple):
    peers: str
    difference: str  # a pattern of what `_compare` says
    data: bytes  # a pattern of what is in the answer
    example: bytes
    reason: str
    gone: bool = False  # from their newest version


_DISAGREEMENTS = [
    # What we refuse.
    _Disagreement(
        "h11, aiohttp",
        r"only theirs: (a line has a control|it begins with|before a chunk).*",
        _BARE,
        b"HTTP/1.1 200 OK\n" + _END,
        "A line may be taken to end in LF alone (RFC 9112, section 2.2), and a bare CR for a "
        "space; what one reads as two lines and another as one puts answers into answers.",
    ),
    _Disagreement(
        "aiohttp",
        r"only theirs: behind a chunk is .*",
        rb"\n",
        _CHUNKED + b"3\r\nok\r\n0\r\n\r\n",
        "The same: where a LF ends a chunk, its last byte may be the CR.",
    ),
    _Disagreement(
        "h11, aiohttp",
        r"only theirs: (a line has a control|before a chunk).*",
        _CONTROL,
        _HEAD + b"a: \x01\r\n" + _END,
        "No field has a control character (RFC 9110, section 5.5). h11 lets them pass for the sake "
        "of cookies, which this service does not set, aiohttp for old servers.",
    ),
    _Disagreement(
        "h11, aiohttp",
        r"only theirs: (connection|transfer-encoding) is .* which is not ASCII",
        rb"(?i)(connection|transfer-encoding):",
        _HEAD + "connection: \u212aeep-alive\r\n".encode() + _END,
        "A peer that lowers text by Unicode's rules reads KELVIN SIGN as k.",
    ),
    _Disagreement(
        "h11, aiohttp",
        r"only theirs: (a line has more than|more than \d+ (bytes|lines) of it|.* is no name of"
        r"|before a chunk is|the content length is).*",
        rb"(?s).{256}|(.*?\r\n){100}|\d{16}",
        _HEAD + b"a" * 257 + b": b\r\n" + _END,
        "Each has limits of its own.",
    ),
    _Disagreement(
        "h11, aiohttp",
        r"only theirs: it begins with .*",
        rb"HTTP/(?!1\.[01] )\d\.\d ",
        b"HTTP/2.0 200 OK\r\n" + _END,
        "h11 takes any version for 1.1, aiohttp some. No other is spelled so.",
    ),
    _Disagreement(
        "h11",
        r"only theirs: the head states a length and a transfer coding",
        rb"",
        _HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "RFC 9112, section 6.3: the coding wins, and it ought to be handled as an error, for one "
        "of both is a stranger's.",
    ),
    _Disagreement(
        "aiohttp",
        r"only theirs: the head states a length and a transfer coding",
        rb"(?i)transfer-encoding:[ \t]*\r\n",
        _HEAD + b"transfer-encoding:\r\ncontent-length: 0\r\n\r\n",
        "It passes an empty coding over. The header says that there is one.",
    ),
    _Disagreement(
        "aiohttp",
        r"only theirs: it begins with .*",
        rb"(^|\r\n\r\n)[\r\n]+HTTP/",
        b"\r\n" + _HEAD + _END,
        "Empty lines before a request may be passed over (RFC 9112, section 2.2), not before an "
        "answer: something else wrote them.",
    ),
    _Disagreement(
        "aiohttp",
        r"only theirs: no header goes on in the line .*",
        rb"HTTP/1\.[01] \d{3}.*\r\n[ \t]",
        _HEAD + b" a: b\r\n" + _END,
        "RFC 9112, section 2.2: refuse it, or pass the line over; aiohttp reads it as a header.",
    ),
    _Disagreement(
        "aiohttp",
        r"only theirs: .* is no name of a header.*",
        rb"\r\n[^:\r\n]* [^:\r\n]*:",
        _HEAD + b"content-length : 0\r\n\r\n",
        "No space is before the colon (RFC 9112, section 5.1). aiohttp then has a header whose "
        "name ends in a space, and another parser one that frames.",
    ),
    _Disagreement(
        "aiohttp",
        r"only theirs: nobody asked for the transfer coding .*",
        rb"(?i)transfer-encoding:",
        _HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Nobody asked for another coding than chunks (RFC 9112, section 7.4), and what only ends "
        "like them is read in two ways.",
    ),
    # What they refuse.
    _Disagreement(
        "h11",
        r"only ours: (Only Transfer-Encoding: chunked is supported|multiple Transfer-Encoding .*)",
        rb"(?i)transfer-encoding:",
        _HEAD + b"transfer-encoding: identity\r\n\r\nhello",
        "Its end is the connection's (RFC 9112, section 6.3): no proof of it, and nothing follows.",
    ),
    _Disagreement(
        "h11",
        r"only ours: Received server _SWITCH_UPGRADE event without a pending proposal",
        rb"HTTP/1\.[01] 101",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        "It is the caller's to find the status wrong; nothing follows.",
    ),
    _Disagreement(
        "h11, aiohttp",
        r"only ours: (bad Content-Length|conflicting Content-Length headers|Empty Content-Length"
        r"|Invalid character in Content-Length|Content-Length overflow"
        r"|Content-Length can't be present with Transfer-Encoding"
        r"|Transfer-Encoding can't be present with Content-Length).*",
        rb"HTTP/1\.[01] (1..|204|304)",
        b"HTTP/1.1 204 No Content\r\ncontent-length: many\r\n\r\n",
        "What has no body is framed by that alone (RFC 9112, section 6.3).",
    ),
    _Disagreement(
        "aiohttp",
        r"only ours: Duplicate Content-Length.*",
        rb"(?is)content-length:.*(content-length:|\r\n[ \t])",
        _HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\nok",
        "The same length twice is one length (RFC 9112, section 6.3). That it goes on in the next "
        "line makes it no second one.",
    ),
    _Disagreement(
        "h11, aiohttp",
        r"only ours: (Content-Length can't be present with Transfer-Encoding"
        r"|Transfer-Encoding can't be present with (chunked|Content-Length)"
        r"|bad Content-Length|conflicting Content-Length headers"
        r"|Only Transfer-Encoding: chunked is supported).*",
        rb"(?is)chunked.*\r\n0.*\r\n(content-length|transfer-encoding):",
        _CHUNKED + b"0\r\ncontent-length: many\r\n\r\n",
        "Behind the last chunk they frame nothing (RFC 9110, section 6.5.1). Nothing follows.",
    ),
    _Disagreement(
        "aiohttp",
        r"only theirs: the connection ended in the middle of the body",
        rb"(?is)chunked.*\r\n0.*\r\ntransfer-encoding:",
        _CHUNKED + b"0\r\ntransfer-encoding: chunked\r\n",
        "The same: aiohttp forgets that it waits for an empty line.",
    ),
    _Disagreement(
        "h11, aiohttp",
        r"only ours: (Invalid [a-z-]+ in chunk ext|illegal chunk header).*",
        rb";",
        _CHUNKED + b"2 ; \r\nok\r\n0\r\n\r\n",
        "Extensions are passed over (RFC 9112, section 7.1.1): whatever they are, they are short, "
        "and end where their line does.",
    ),
    _Disagreement(
        "aiohttp",
        r"only ours: Data after `Connection: close`.*",
        rb"(?is)HTTP/1\.[01] 1\d\d.*HTTP/1\.[01] \d{3}",
        b"HTTP/1.1 100 Go On\r\nconnection: close\r\n\r\n" + _HEAD + _END,
        "A head that announces another cannot be the last one. Nothing follows.",
    ),
    # What both give, but not the same.
    _Disagreement(
        "h11, aiohttp",
        r"not the same blanks",
        _FOLD,
        _HEAD + b"a: b \r\n\tc\r\n" + _END,
        "A line that goes on in the next is read with one space (RFC 9112, section 5.2); h11 adds "
        "a space to those that are there, aiohttp takes the line break out.",
    ),
    _Disagreement(
        "h11",
        r"not the same headers",
        rb"(?is)content-length:.*(,|content-length:)",
        _HEAD + b"content-length: 0\r\ncontent-length: 0\r\n\r\n",
        "h11 tells a length once.",
    ),
    _Disagreement(
        "h11",
        r"not the same headers",
        rb"(?i)transfer-encoding:.*chunked",
        _HEAD + b"transfer-encoding: Chunked\r\n\r\n0\r\n\r\n",
        "h11 tells the coding in lower case.",
    ),
    _Disagreement(
        "h11, aiohttp",
        r"kept by them alone",
        _FOLD,
        _HEAD + b"a: b\r\n c\r\n" + _END,
        "Others read such a line otherwise, aiohttp even whether there are chunks.",
    ),
    _Disagreement(
        "aiohttp",
        r"only theirs: .*|not the same body|(delimited|kept) by us alone",
        rb"(?i)transfer-encoding:.*(\t|\r\n[ \t]+)\r\n",
        _HEAD + b"transfer-encoding: chunked\t\r\n\r\n0\r\n\r\n",
        "White space behind a value is no part of it (RFC 9110, section 5.5); llhttp knows spaces.",
    ),
    _Disagreement(
        "aiohttp",
        r"only ours: Invalid character in Content-Length.*|kept by us alone",
        rb"(?i)(content-length|connection):.*\t\r\n",
        _HEAD + b"content-length: 0\t\r\n\r\n",
        "The same.",
        gone=True,
    ),
    _Disagreement(
        "h11, aiohttp",
        r"kept by them alone",
        rb"(?i)connection:.*close",
        _HEAD + b"connection: a close b\r\n" + _END,
        "What only contains the word is no option, but nobody writes it to keep a connection.",
    ),
    _Disagreement(
        "h11",
        r"kept by them alone",
        rb"(?is)HTTP/1\.[01] 1\d\d.*HTTP/1\.[01] \d{3}",
        b"HTTP/1.0 100 Go On\r\n\r\n" + _HEAD + _END,
        "h11 forgets what a head said that announced another.",
    ),
    _Disagreement(
        "h11, aiohttp",
        r"kept by them alone",
        rb"(?is)chunked.*\r\n0.*\r\n(content-length|transfer-encoding|connection):",
        _CHUNKED + b"0\r\nconnection: close\r\n\r\n",
        "A peer that frames behind the last chunk may mean it.",
    ),
    _Disagreement(
        "h11",
        r"kept by us alone",
        rb"(?i)HTTP/1\.0.*",
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n" + _END,
        "h11 closes behind HTTP/1.0. Servers that state the option and the length keep their word.",
    ),
    _Disagreement(
        "aiohttp",
        r"kept by them alone",
        rb"(?s)HTTP/1\.0.*chunked",
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n" + _CHUNKED[17:] + b"0\r\n\r\n",
        "HTTP/1.0 knows no chunks (RFC 9112, section 6.1), so that nothing follows.",
    ),
    _Disagreement(
        "aiohttp",
        r"(delimited|kept) by them alone",
        rb"HTTP/1\.[01] 101",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        "HTTP ends there, whatever follows.",
    ),
]


def _compare(ours: _Reading, theirs: _Reading) -> Iterator[str]:
    """Tell in what two readings differ; why there is no answer may differ."""
    if isinstance(ours, str):
        if not isinstance(theirs, str):
            yield f"only theirs: {ours}"
    elif isinstance(theirs, str):
        yield f"only ours: {theirs}"
    else:
        for name, mine, other in zip(_Answer._fields, ours, theirs, strict=True):
            if mine == other:
                continue
            if isinstance(mine, bool):
                yield f"{name} by {'us' if mine else 'them'} alone"
            elif name == "headers" and _squeeze(ours.headers) == _squeeze(theirs.headers):
                yield "not the same blanks"
            else:
                yield f"not the same {name}"


def _squeeze(headers: dict[str, str]) -> dict[str, str]:
    return {name: re.sub(r"[ \t]", "", value) for name, value in headers.items()}


def _explain(peer: str, difference: str, data: bytes) -> Iterator[_Disagreement]:
    for known in _DISAGREEMENTS:
        if (
            peer in known.peers
            and re.fullmatch(known.difference, difference, re.DOTALL)
            and re.search(known.data, data)
        ):
            yield known


_Readers: TypeAlias = dict[str, Callable[[bytes], _Reading]]


@pytest.fixture
def readers() -> Iterator[_Readers]:
    loop = asyncio.new_event_loop()
    yield {"h11": _read_by_h11, "aiohttp": partial(_read_by_aiohttp, loop=loop)}
    loop.close()


@pytest.mark.parametrize("known", _DISAGREEMENTS)
def test_each_disagreement_is_one(known: _Disagreement, readers: _Readers) -> None:
    outcome, error = _feed([known.example])
    for peer in known.peers.split(", "):
        differences = list(_compare(outcome.answer or error, readers[peer](known.example)))
        explained = [list(_explain(peer, each, known.example)) for each in differences]
        assert all(explained)
        assert known.gone or any(known in some for some in explained)


def _find_end(data: bytes) -> int:
    """Find where an answer ends that has something behind it."""
    parser = ResponseParser("POST")
    for at in range(len(data)):
        parser.receive_data(data[at : at + 1])
        if parser.complete:
            return at + 1
    return len(data)


def _split(data: bytes, chance: random.Random) -> list[bytes]:
    """Cut the data in a few places, or in all."""
    if len(data) < _SHORT and not chance.randrange(_BYTEWISE):
        return [data[at : at + 1] for at in range(len(data))]
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randint(1, 6)))
    return [data[begin:end] for begin, end in pairwise([0, *places, len(data)])]


def test_damaged_answers_are_read_as_others_read_them(mutate: Mutate, readers: _Readers) -> None:
    """In any split alike, in a time that no head can stretch, and by no error but our two."""
    chance = random.Random(MUTATED_ANSWERS)
    counts: Counter[str] = Counter()
    slowest = 0.0
    for _ in range(MUTATED_ANSWERS):
        data = mutate(chance)
        began = time.thread_time()
        outcome, error = _feed([data])
        seconds = time.thread_time() - began
        if seconds > _SLOW:  # or the collector came by
            seconds = min(timeit.repeat(partial(_feed, [data]), time.thread_time, number=1))
        slowest = max(slowest, seconds)
        assert seconds < _SLOW, data
        pieces = _split(data, chance)
        assert _feed(pieces)[0] == outcome, pieces
        answer = outcome.answer
        counts[outcome.error.__name__ if outcome.error else "answers"] += 1
        if answer is not None and answer.delimited and not answer.kept:
            # What is behind an answer is nobody's, and others may say so in their way.
            data = data[: _find_end(data)]
            answer = _feed([data])[0].answer
        for peer, read in readers.items():
            for difference in _compare(answer or error, read(data)):
                known = next(_explain(peer, difference, data), None)
                assert known is not None, (peer, difference, data)
                counts[f"{peer}, {known.reason}"] += 1
    _log.info("the slowest took %.1f ms", slowest * 1000)
    for name, count in counts.most_common():
        _log.info("%9d %s", count, name)


# --- sound ones

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
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    outcome, _ = _feed([*pieces, data[at:]])
    assert outcome.answer is not None
    assert outcome.answer == _read_by_h11(data)
