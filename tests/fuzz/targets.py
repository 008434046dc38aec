"""What is fuzzed: each target takes any bytes, and has its invariant as its first line.

What a target raises is a fault. The suite tries some bytes with each, `python -m tests.fuzz`
millions.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias, TypeVar

from aiosmrt import SageMakerRuntimeClient
from aiosmrt.async_inference.s3_protocol import S3Location, build_error, find_region, parse_listing
from aiosmrt.batch_files.journal import History, Journal
from aiosmrt.batch_files.output import drop_rows, read_output
from aiosmrt.errors import (
    AiosmrtError,
    EventStreamError,
    InvalidHeader,
    InvalidJSON,
    ParameterError,
    ServiceError,
    UnexpectedMessage,
    UnexpectedResponse,
)
from aiosmrt.eventstream import EventStreamDecoder, Message, encode_message
from aiosmrt.eventstream.headers import decode_headers, encode_headers
from aiosmrt.http import ResponseHead
from aiosmrt.openai.chunks import ChunkDecoder
from aiosmrt.openai.invocation import CHAT, Invocation
from aiosmrt.payload import ChatAccumulator, ChatDecoder
from aiosmrt.payload.documents import JSONDocumentDecoder
from aiosmrt.payload.lines import LineDecoder
from aiosmrt.payload.reports import ReportDecoder
from aiosmrt.payload.sse import EventDecoder
from aiosmrt.payload.text import TextDecoder
from aiosmrt.payload.tokens import TokenDecoder
from aiosmrt.plain_text import to_line
from aiosmrt.service import INVOKE_ENDPOINT_WITH_RESPONSE_STREAM, OPERATIONS
from aiosmrt.service.operations import parse_error, parse_message
from aiosmrt.transport.response_parser import IncompleteResponse, MalformedResponse, ResponseParser

__all__ = ["TARGETS", "Target"]

T = TypeVar("T")
Target: TypeAlias = Callable[[bytes], None]

_PRELUDE: Final = struct.Struct(">II")
_CRC: Final = struct.Struct(">I")
_remove_time: Final = re.compile(rb'"created": \d{10}, ').sub
_PRESETS: Final = ("openai-chat", "openai-completion", "tgi", "lmi", "a.b[0]")


def _cut(data: bytes, *, seed: int) -> list[bytes]:
    """Cut in pieces of one to a dozen bytes, or in two; the seed says where."""
    if seed % 3 == 0:
        middle = seed * 31 % (len(data) + 1)
        return [data[:middle], data[middle:]]
    size = 1 + seed % 12
    return [data[start : start + size] for start in range(0, len(data), size)]


def _take_seed(data: bytes) -> tuple[int, bytes]:
    return (data[0], data[1:]) if data else (0, b"")


# --- framing


def fuzz_frames(data: bytes) -> None:
    """Nothing but EventStreamError comes out, and no split matters."""
    seed, data = _take_seed(data)
    assert _read_frames([data]) == _read_frames(_cut(data, seed=seed))


def _read_frames(pieces: Iterable[bytes]) -> tuple[list[Message], object]:
    decoder = EventStreamDecoder()
    messages: list[Message] = []
    fault: object = None
    for piece in pieces:
        decoder.receive_data(piece)
    for call in (decoder.next_message, decoder.receive_eof, decoder.next_message):
        try:
            while (message := call()) is not None:
                messages.append(message)
        except EventStreamError as error:
            fault = type(error), str(error), error.offset
    return messages, fault


def fuzz_repaired_frames(data: bytes) -> None:
    """A frame whose checksums are right is read, and written again, or its headers are refused."""
    seed, data = _take_seed(data)
    frames = []
    while data:
        headers_length, payload_length = data[0], data[1] if len(data) > 1 else 0
        headers = data[2 : 2 + headers_length]
        payload = data[2 + headers_length : 2 + headers_length + payload_length]
        data = data[2 + headers_length + payload_length :]
        prelude = _PRELUDE.pack(16 + len(headers) + len(payload), len(headers))
        frame = prelude + _CRC.pack(zlib.crc32(prelude)) + headers + payload
        frames.append(frame + _CRC.pack(zlib.crc32(frame)))
    stream = b"".join(frames)
    messages, fault = _read_frames([stream])
    assert (messages, fault) == _read_frames(_cut(stream, seed=seed))
    assert fault is None or (isinstance(fault, tuple) and fault[0] is InvalidHeader)
    assert len(messages) == len(frames) or fault is not None
    for message, frame in zip(messages, frames, strict=False):
        assert _is_same_frame(encode_message(message.headers, message.payload), frame)
        _read_meaning(message)


def _is_same_frame(written: bytes, read: bytes) -> bool:
    # A header that comes twice is read once, and written once.
    return written == read or len(written) < len(read)


def _read_meaning(message: Message) -> None:
    try:
        meaning = parse_message(INVOKE_ENDPOINT_WITH_RESPONSE_STREAM, message)
    except UnexpectedMessage:
        return
    if isinstance(meaning, ServiceError):
        assert meaning.may_have_run
        _read_error(meaning)


def fuzz_headers(data: bytes) -> None:
    """A header block is refused as InvalidHeader, or written again as it was read."""
    try:
        headers = decode_headers(data)
    except InvalidHeader:
        return
    written = encode_headers(headers)
    assert written == data or len(written) < len(data)
    assert decode_headers(written) == headers


# --- HTTP


def fuzz_response(data: bytes) -> None:
    """An answer is read, malformed or incomplete, and the same in any split."""
    seed, data = _take_seed(data)
    whole = _read_response([data])
    assert whole == _read_response(_cut(data, seed=seed))


def _read_response(pieces: Iterable[bytes]) -> tuple[object, ...]:
    parser = ResponseParser("POST")
    fault: object = None
    reusable = False
    try:
        for piece in pieces:
            parser.receive_data(piece)
        reusable = parser.complete and parser.reusable
        parser.receive_eof()
        assert parser.complete
    except (MalformedResponse, IncompleteResponse) as error:
        fault = type(error)
    head = parser.head
    read = None if head is None else (head.status, dict(head.headers))
    return fault, read, b"".join(parser.pieces), reusable and fault is None


# --- payloads


def _decode(make: Callable[[], Any], pieces: Iterable[bytes]) -> tuple[object, ...]:
    decoder = make()
    values: list[object] = []
    fault = None
    for piece in pieces:
        fault = _take(partial(decoder.receive, piece), values)
        if fault is not None:
            break
    else:
        fault = _take(decoder.finish, values)
    assert fault is None or _take(decoder.finish, []) == fault, "a fault is forgotten"
    return repr(values), fault


def _take(call: Callable[[], list[T]], values: list[T]) -> tuple[object, ...] | None:
    try:
        values += call()
    except AiosmrtError as error:
        return type(error), str(error)
    return None


def _fuzz_decoder(make: Callable[[], Any], data: bytes) -> None:
    seed, data = _take_seed(data)
    assert _decode(make, [data]) == _decode(make, _cut(data, seed=seed))


def fuzz_text(data: bytes) -> None:
    """Text is read or an AiosmrtError, and the same in any split."""
    _fuzz_decoder(TextDecoder, data)


def fuzz_lines(data: bytes) -> None:
    """Lines are read or an AiosmrtError, and the same in any split; joined they are the text."""
    _fuzz_decoder(LineDecoder, data)
    _fuzz_decoder(lambda: LineDecoder(max_line_length=20), data)


def fuzz_documents(data: bytes) -> None:
    """JSON documents are read or an AiosmrtError, and the same in any split."""
    _fuzz_decoder(JSONDocumentDecoder, data)


def fuzz_events(data: bytes) -> None:
    """Server-sent events are read or an AiosmrtError, and the same in any split."""
    _fuzz_decoder(EventDecoder, data)
    _fuzz_decoder(ReportDecoder, data)


def fuzz_tokens(data: bytes) -> None:
    """Tokens of every preset are text for UTF-8 or an AiosmrtError, and the same in any split."""
    choice, data = _take_seed(data)
    path = _PRESETS[choice % len(_PRESETS)]
    required = bool(choice & 64) and path in _PRESETS[:4]
    content_type = "text/event-stream" if choice & 128 else None
    _fuzz_decoder(lambda: TokenDecoder(path, content_type, require_done=required), data)


def fuzz_chat(data: bytes) -> None:
    """Chunks of every shape are text for UTF-8 or an AiosmrtError, the same in any split."""
    choice, data = _take_seed(data)
    shape = _PRESETS[choice % 4]
    content_type = "text/event-stream" if choice & 128 else None
    _fuzz_decoder(lambda: ChatDecoder(shape, content_type, require_done=bool(choice & 64)), data)
    accumulator = ChatAccumulator()
    decoder = ChatDecoder(shape, content_type, require_done=False)
    with suppress(AiosmrtError):
        for chunk in (*decoder.receive(data), *decoder.finish()):
            accumulator.add(chunk)
    for message in accumulator.messages:
        json.dumps(message.to_dict(), ensure_ascii=False).encode()
        message.reasoning.encode()
        for call in message.tool_calls:
            with suppress(InvalidJSON):
                call.parse_arguments()


def fuzz_chunks(data: bytes) -> None:
    """Events for the OpenAI SDK are JSON or an AiosmrtError, the same in any split."""
    choice, data = _take_seed(data)
    task = CHAT if choice & 1 else "completions"
    operation = INVOKE_ENDPOINT_WITH_RESPONSE_STREAM
    invocation = Invocation(task, operation, "m", 1 + choice // 2 % 2, {})
    whole = _pass_on(invocation, [data])
    events = [event + b"\n\n" for event in data.split(b"\n\n")]
    events[-1] = events[-1].removesuffix(b"\n\n")
    assert whole == _pass_on(invocation, events) == _pass_on(invocation, _cut(data, seed=choice))
    for event in whole[0].split(b"\n\n"):
        if event not in (b"", b"data: [DONE]"):
            json.loads(event.removeprefix(b"data: ").decode())


def _pass_on(invocation: Invocation, pieces: Iterable[bytes]) -> tuple[bytes, object]:
    """Give what is passed on without the time, and the fault behind it."""
    decoder = ChunkDecoder(invocation, None, "chatcmpl-1")
    given: list[bytes] = []
    steps: list[Callable[[], list[bytes]]] = [partial(decoder.receive, piece) for piece in pieces]
    for step in (*steps, decoder.finish):
        fault = _take(step, given) or _take(partial(decoder.receive, b""), given)
        if fault is not None:
            break
    else:
        fault = _take(decoder.finish, given)
    return _remove_time(b"", b"".join(given)), fault


# --- errors and answers


def _read_error(error: AiosmrtError) -> None:
    text = str(error)
    text.encode()
    to_line(text).encode()
    repr(error)


def fuzz_error_bodies(data: bytes) -> None:
    """Whatever refuses a call, and however, there is an error that can be printed."""
    choice, data = _take_seed(data)
    code, _, body = data.partition(b"\n")
    headers = {"x-amzn-errortype": code.decode("latin-1")} if choice & 1 else {}
    status = (300, 400, 404, 413, 424, 429, 500, 503, 504, 530, 599)[(choice >> 1) % 11]
    head = ResponseHead(status, headers)
    for operation in OPERATIONS.values():
        error = parse_error(operation, head, body)
        assert isinstance(error, AiosmrtError)
        _read_error(error)


def fuzz_listings(data: bytes) -> None:
    """A listing of S3's is read or an UnexpectedResponse; its errors can be printed."""
    choice, data = _take_seed(data)
    head = ResponseHead((200, 301, 400, 403, 404, 503)[choice % 6], {})
    try:
        keys, token = parse_listing(head, data)
    except UnexpectedResponse as error:
        _read_error(error)
    else:
        assert all(isinstance(key, str) for key in keys)
        assert token is None or isinstance(token, str)
    _read_error(build_error(head, data, S3Location("bucket", "key")))
    find_region(head, data)


_client = SageMakerRuntimeClient(region_name="us-east-1")


def fuzz_saved_invocations(data: bytes) -> None:
    """What was saved of an invocation is read and saved alike, or a ParameterError."""
    text = data.decode("utf-8", "replace")
    try:
        invocation = _client.resume_async_invocation(text)
    except ParameterError as error:
        _read_error(error)
        return
    saved = invocation.to_json()
    assert json.loads(_client.resume_async_invocation(saved).to_json()) == json.loads(saved)


# --- batches

_FOLDER: Final = TemporaryDirectory()
_ROWS: Final = 50
_FINGERPRINT: Final = {"--input": "a1", "--body-path": None}
_JOURNAL_HEAD: Final = (
    b'{"aiosmrt batch journal": 1, "fingerprint": {"--input": "a1", "--body-path": null}}\n'
)


def _write_file(name: str, data: bytes) -> str:
    path = Path(_FOLDER.name, name)
    path.write_bytes(data)
    return str(path)


def _start_journal(path: str) -> History:
    journal = Journal(path)
    try:
        return journal.start(_FINGERPRINT, _ROWS)
    finally:
        journal.close()


def fuzz_journal(data: bytes) -> None:
    """A journal is read, and after that read alike and goes on, or it is a ParameterError."""
    choice, data = _take_seed(data)
    path = _write_file("journal", (_JOURNAL_HEAD if choice & 1 else b"") + data)
    try:
        history = _start_journal(path)
    except ParameterError as error:
        _read_error(error)
        return
    assert len(history.begun) == _ROWS
    assert _start_journal(path) == history
    journal = Journal(path)
    journal.start(_FINGERPRINT, _ROWS)
    journal.begin([3, 4])
    journal.close()
    begun = _start_journal(path).begun
    assert begun[3] == begun[4] == 1


def fuzz_outputs(data: bytes) -> None:
    """An output is read as far as it is sound, and what is sound read alike, or ParameterError."""
    choice, data = _take_seed(data)
    path = _write_file("output", data)
    try:
        found = read_output(path, _ROWS, choice * 4)
    except ParameterError as error:
        _read_error(error)
        return
    assert choice * 4 <= found.size <= len(data)
    sound = _write_file("output", data[: found.size])
    assert read_output(sound, _ROWS, found.size) == found
    drop_rows(sound, ())
    assert read_output(sound, _ROWS, found.size) == found


TARGETS: Final[dict[str, Target]] = {
    "frames": fuzz_frames,
    "repaired_frames": fuzz_repaired_frames,
    "headers": fuzz_headers,
    "response": fuzz_response,
    "text": fuzz_text,
    "lines": fuzz_lines,
    "documents": fuzz_documents,
    "events": fuzz_events,
    "tokens": fuzz_tokens,
    "chat": fuzz_chat,
    "chunks": fuzz_chunks,
    "error_bodies": fuzz_error_bodies,
    "listings": fuzz_listings,
    "saved_invocations": fuzz_saved_invocations,
    "journal": fuzz_journal,
    "outputs": fuzz_outputs,
}
