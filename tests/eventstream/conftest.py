from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from zlib import crc32

import pytest

from aiosmrt.errors import EventStreamError, TruncatedStream
from aiosmrt.eventstream import EventStreamDecoder, Message
from aiosmrt.eventstream import decoder as decoder_module

Chunk = bytes | bytearray | memoryview
Outcome = tuple[list[Message], EventStreamError | None]


def _run(
    chunks: Iterable[Chunk], limits: dict[str, int], *, late: bool = False, take: bool = False
) -> Outcome:
    decoder = EventStreamDecoder(**limits)
    messages: list[Message] = []

    def fetch() -> None:
        if take:
            messages.extend(decoder.take_messages())
        while (message := decoder.next_message()) is not None:
            messages.append(message)

    try:
        for chunk in chunks:
            decoder.receive_data(chunk)
            if not late:
                fetch()
        if late:
            fetch()
        decoder.receive_eof()
    except EventStreamError as error:
        return messages, error
    return messages, None


def _in_chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def _comparable(outcome: Outcome) -> object:
    messages, error = outcome
    return (
        [
            ([(name, type(value), value) for name, value in m.headers.items()], m.payload)
            for m in messages
        ],
        None if error is None else (type(error), error.offset, str(error)),
    )


@pytest.fixture(autouse=True)
def _unlearned() -> None:
    """Forget what decoders of earlier tests have learned, so that the order of tests is nothing."""
    decoder_module._known_headers.clear()
    decoder_module._share_shapes.cache_clear()


@pytest.fixture(scope="session")  # a pure function, so hypothesis may have it too
def decode() -> Callable[..., Outcome]:
    """Decode a whole stream in many splits, which must agree, and give what came of it."""

    def decode(data: bytes, **limits: int) -> Outcome:
        outcome = _run([data], limits)
        expected = _comparable(outcome)
        assert _comparable(_run([data], limits, late=True)) == expected
        assert _comparable(_run([data], limits, take=True)) == expected
        assert _comparable(_run([bytearray(data)], limits)) == expected
        assert _comparable(_run([memoryview(data)], limits)) == expected
        sizes = (65_536,) if len(data) > 1_000_000 else (3, 13, 1_000, 5_000, 65_536)
        for size in sizes:
            assert _comparable(_run(_in_chunks(data, size), limits)) == expected, size
            assert _comparable(_run(_in_chunks(data, size), limits, take=True)) == expected, size
        if len(data) <= 10_000:
            for late in (False, True):
                assert _comparable(_run(_in_chunks(data, 1), limits, late=late)) == expected
        if len(data) <= 400:
            for split in range(len(data) + 1):
                halves = [data[:split], b"", data[split:]]
                assert _comparable(_run(halves, limits)) == expected, split
        messages, error = outcome
        if error is None:
            for trailing in (b"\0", b"\0\0\0\x10"):
                more, cut = _run([data + trailing], limits)
                assert more == messages
                assert isinstance(cut, TruncatedStream)
                assert cut.offset == len(data)
        elif not isinstance(error, TruncatedStream):
            assert _comparable(_run([data + b"trailing bytes"], limits)) == expected
            assert _comparable(_run([data, b"trailing", b"bytes"], limits)) == expected
        return outcome

    return decode


@pytest.fixture(scope="session")  # a pure function, so hypothesis may have it too
def frame() -> Callable[..., bytes]:
    """Make a frame by hand, wrong on request, without the encoder."""

    def frame(
        block: bytes = b"",
        payload: bytes = b"",
        *,
        length: int | None = None,
        headers_length: int | None = None,
        prelude_crc: int | None = None,
        message_crc: int | None = None,
    ) -> bytes:
        length = 16 + len(block) + len(payload) if length is None else length
        headers_length = len(block) if headers_length is None else headers_length
        prelude = struct.pack(">II", length, headers_length)
        prelude += struct.pack(">I", crc32(prelude) if prelude_crc is None else prelude_crc)
        body = prelude + block + payload
        return body + struct.pack(">I", crc32(body) if message_crc is None else message_crc)

    return frame
