from __future__ import annotations

import gc
import pickle
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import pairwise
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.errors import (
    EventStreamError,
    InvalidHeader,
    InvalidLength,
    MessageChecksumMismatch,
    PreludeChecksumMismatch,
    TruncatedStream,
)
from aiosmrt.eventstream import (
    Byte,
    EventStreamDecoder,
    HeaderValue,
    Integer,
    Long,
    Message,
    Short,
    Timestamp,
    encode_message,
)
from aiosmrt.eventstream import decoder as decoder_module

Decode = Callable[..., tuple[list[Message], EventStreamError | None]]
MakeFrame = Callable[..., bytes]

MiB = 1024 * 1024
PART = {
    ":message-type": "event",
    ":event-type": "PayloadPart",
    ":content-type": "application/octet-stream",
}


def fetch(decoder: EventStreamDecoder) -> list[Message]:
    messages = []
    while (message := decoder.next_message()) is not None:
        messages.append(message)
    return messages


def in_chunks(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


# What comes out


def test_the_smallest_message(decode: Decode, frame: MakeFrame) -> None:
    assert decode(frame()) == ([Message({}, b"")], None)


def test_headers_and_payload(decode: Decode, frame: MakeFrame) -> None:
    data = frame(b"\1a\7\0\1b\1c\2\x07", b"payload")
    assert decode(data) == ([Message({"a": "b", "c": Byte(7)}, b"payload")], None)


def test_no_bytes_are_a_sound_stream(decode: Decode) -> None:
    assert decode(b"") == ([], None)


def test_many_messages_keep_their_order(decode: Decode) -> None:
    expected = [Message(PART, b"%d" % i * (i % 7)) for i in range(60)]
    data = b"".join(encode_message(m.headers, m.payload) for m in expected)
    assert decode(data) == (expected, None)


def test_messages_of_all_lengths(decode: Decode) -> None:
    lengths = [*range(990, 1060, 3), 4095, 5000, 70_000, 0, 200_000, 1, 2048]
    expected = [Message(PART, bytes([n % 251]) * n) for n in lengths]
    data = b"".join(encode_message(m.headers, m.payload) for m in expected)
    assert decode(data) == (expected, None)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 900, 1024, 1030, 3000])
def test_a_message_cut_anywhere(length: int) -> None:
    data = encode_message(PART, bytes(length)) + encode_message({}, b"next")
    for split in range(len(data)):
        decoder = EventStreamDecoder()
        decoder.receive_data(data[:split])
        decoder.receive_data(data[split:])
        assert fetch(decoder) == [Message(PART, bytes(length)), Message({}, b"next")]
        decoder.receive_eof()


def test_header_blocks_longer_than_any_piece(decode: Decode) -> None:
    headers: dict[str, HeaderValue] = {f"name-{i}": "x" * 50 for i in range(100)}
    expected = [Message(headers, b"a"), Message(headers, bytes(3000)), Message({}, b"")]
    data = b"".join(encode_message(m.headers, m.payload) for m in expected)
    assert decode(data) == (expected, None)


def test_like_frames_with_other_headers_are_told_apart(decode: Decode) -> None:
    expected = [Message({"name": "ab"[i % 2]}, b"%02d" % i) for i in range(20)]
    data = b"".join(encode_message(m.headers, m.payload) for m in expected)
    assert decode(data) == (expected, None)


def test_an_exception_is_a_message_like_any_other(decode: Decode) -> None:
    # What it means, its ErrorCode included, is said by its headers and payload, all of them kept.
    headers = {":message-type": "exception", ":exception-type": "NobodyKnows"}
    payload = b'{"Message": "m", "ErrorCode": "StreamBroken"}'
    assert decode(encode_message(headers, payload)) == ([Message(headers, payload)], None)


def test_the_callers_buffer_is_not_kept() -> None:
    decoder = EventStreamDecoder()
    data = encode_message(PART, b"payload")
    for part in (data[:50], data[50:], data):
        buffer = bytearray(part)
        decoder.receive_data(memoryview(buffer))
        buffer[:] = bytes(len(buffer))
        buffer.clear()  # which fails while a view of it is kept
    assert fetch(decoder) == [Message(PART, b"payload")] * 2


def test_a_payload_comes_only_with_its_last_byte_verified() -> None:
    for length in (100, 100_000):
        data = encode_message(PART, bytes(length))
        decoder = EventStreamDecoder()
        decoder.receive_data(data[:-1])
        assert decoder.next_message() is None
        decoder.receive_data(data[-1:])
        assert decoder.next_message() == Message(PART, bytes(length))


@pytest.mark.parametrize("data", ["text", 5, None])
def test_what_is_not_bytes_is_a_type_error(data: bytes) -> None:
    decoder = EventStreamDecoder()
    with pytest.raises(TypeError):
        decoder.receive_data(data)
    decoder.receive_data(encode_message({}, b""))
    assert decoder.next_message() == Message({}, b"")


def test_all_that_waits_is_taken_at_once() -> None:
    expected = [Message(PART, b"%d" % i) for i in range(4)]
    frames = [encode_message(m.headers, m.payload) for m in expected]
    decoder = EventStreamDecoder()
    assert list(decoder.take_messages()) == []
    decoder.receive_data(frames[0] + frames[1] + frames[2])
    assert decoder.next_message() == expected[0]
    assert list(decoder.take_messages()) == expected[1:3]
    assert list(decoder.take_messages()) == []
    assert decoder.next_message() is None
    decoder.receive_data(frames[3] + b"?" * 12)
    assert list(decoder.take_messages()) == expected[3:]
    for _ in range(2):
        with pytest.raises(PreludeChecksumMismatch) as caught:
            decoder.take_messages()
        assert caught.value.offset == sum(map(len, frames))


def test_a_long_message_is_not_lost_between_two_takes() -> None:
    first, long = encode_message(PART, b"first"), encode_message(PART, bytes(9_000))
    decoder = EventStreamDecoder()
    decoder.receive_data(first + long[:5_000])
    assert list(decoder.take_messages()) == [Message(PART, b"first")]
    decoder.receive_data(long[5_000:])
    assert list(decoder.take_messages()) == [Message(PART, bytes(9_000))]


# The strictness table


@pytest.mark.parametrize("length", [0, 2000])
def test_a_stream_that_ends_inside_a_frame(length: int, frame: MakeFrame) -> None:
    good = frame(b"\1a\0", b"good")
    data = good + frame(b"\1a\0", bytes(length))
    for end in range(len(good) + 1, len(data)):
        decoder = EventStreamDecoder()
        decoder.receive_data(data[:end])
        with pytest.raises(TruncatedStream) as caught:
            decoder.receive_eof()
        assert caught.value.offset == len(good)
        assert f"after {end} bytes, {end - len(good)} bytes into the frame at byte {len(good)}" in (
            str(caught.value)
        )


def test_a_truncated_stream_in_every_split(decode: Decode, frame: MakeFrame) -> None:
    good, bad = frame(b"", b"good"), frame(b"\1a\0", b"cut")
    for missing in range(1, len(bad)):
        messages, error = decode(good + bad[:-missing])
        assert messages == [Message({}, b"good")]
        assert isinstance(error, TruncatedStream)
        assert error.offset == len(good)


def test_a_long_frame_that_is_truncated(decode: Decode, frame: MakeFrame) -> None:
    data = frame(b"\1a\0", b"good") + frame(b"\1a\0", bytes(5000))
    for missing in (1, 3, 4, 5, 1500, 4999):
        messages, error = decode(data[:-missing])
        assert messages == [Message({"a": True}, b"good")]
        assert isinstance(error, TruncatedStream)
        assert error.offset == 23
        assert f"after {len(data) - missing} bytes" in str(error)


@pytest.mark.parametrize("length", [0, 1, 12, 15])
def test_a_total_length_below_the_smallest_message(
    length: int, decode: Decode, frame: MakeFrame
) -> None:
    messages, error = decode(frame(length=length))
    assert messages == []
    assert isinstance(error, InvalidLength)
    assert f"declares {length} bytes" in str(error)


@pytest.mark.parametrize(
    ("length", "headers_length"), [(16, 1), (16, 4), (20, 5), (100, 85), (16, 2**32 - 1)]
)
def test_a_headers_length_that_the_message_cannot_hold(
    length: int, headers_length: int, decode: Decode, frame: MakeFrame
) -> None:
    messages, error = decode(frame(b"", bytes(84), length=length, headers_length=headers_length))
    assert messages == []
    assert isinstance(error, InvalidLength)
    assert f"{headers_length} of them headers" in str(error)


def test_a_headers_length_that_leaves_no_payload(decode: Decode, frame: MakeFrame) -> None:
    assert decode(frame(b"\1a\0")) == ([Message({"a": True}, b"")], None)


def test_a_header_value_past_the_header_block_is_not_taken_from_the_payload(
    decode: Decode, frame: MakeFrame
) -> None:
    messages, error = decode(frame(b"\1a\7\0\5abc", b"de and more"))
    assert messages == []
    assert isinstance(error, InvalidHeader)
    assert "'a' goes past the end of the headers by 2 bytes" in str(error)


@pytest.mark.parametrize(
    "block",
    [
        b"\1a\x0a",  # unknown type
        b"\1a\3\0",  # short
        b"\1a",  # shorter
        b"\5a",  # a name past the block
        b"\1a\7\0\2\xff\xfe",  # no UTF-8
        b"\1\xff\0",  # no UTF-8 in the name
        b"\1a\0\1a\1",  # twice the same name
        b"\0\0",  # no name
        b"\0",
    ],
)
def test_malformed_headers(block: bytes, decode: Decode, frame: MakeFrame) -> None:
    good = frame(b"\1a\0", b"good")
    messages, error = decode(good + frame(block, b"payload") + good)
    assert messages == [Message({"a": True}, b"good")]
    assert type(error) is InvalidHeader
    assert error.offset == len(good)


def test_empty_header_values_are_accepted(decode: Decode, frame: MakeFrame) -> None:
    assert decode(frame(b"\1a\7\0\0\1b\6\0\0")) == ([Message({"a": "", "b": b""}, b"")], None)


# The order of checks


def test_the_prelude_checksum_comes_before_the_lengths(decode: Decode, frame: MakeFrame) -> None:
    for length in (0, 12, 2**32 - 1):
        _, error = decode(frame(length=length, prelude_crc=0x12345678))
        assert type(error) is PreludeChecksumMismatch


def test_the_lengths_come_before_the_cap(decode: Decode, frame: MakeFrame) -> None:
    _, error = decode(frame(length=1000, headers_length=2000), max_message_length=10)
    assert type(error) is InvalidLength
    assert "2000 of them headers" in str(error)


def test_the_cap_comes_before_the_message_checksum(decode: Decode, frame: MakeFrame) -> None:
    _, error = decode(frame(b"", bytes(100), message_crc=0), max_message_length=115)
    assert type(error) is InvalidLength


def test_the_message_checksum_comes_before_the_headers(decode: Decode, frame: MakeFrame) -> None:
    _, error = decode(frame(b"\0\0", b"", message_crc=0))
    assert type(error) is MessageChecksumMismatch


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"prelude_crc": 0}, PreludeChecksumMismatch),
        ({"length": 15}, InvalidLength),
        ({"headers_length": 900_000}, InvalidLength),
        ({"length": 32 * MiB + 1}, InvalidLength),
        ({"length": 2**32 - 1}, InvalidLength),
        ({"length": 3 * MiB, "headers_length": MiB + 1}, InvalidLength),
    ],
)
def test_a_prelude_is_judged_at_its_twelfth_byte(
    wrong: dict[str, int], expected: type[EventStreamError], frame: MakeFrame
) -> None:
    data = frame(b"", bytes(500), **wrong)
    decoder = EventStreamDecoder()
    decoder.receive_data(data[:11])
    assert decoder.next_message() is None
    decoder.receive_data(data[11:12])
    with pytest.raises(expected):
        decoder.next_message()


# The caps


def test_default_caps_refuse_no_legal_message(frame: MakeFrame) -> None:
    # 24 MiB of payload and 128 KiB of headers; and clients do not validate these limits.
    data = frame(b"", length=24 * MiB + 128 * 1024 + 16, headers_length=128 * 1024)
    data_over = frame(b"", length=31 * MiB, headers_length=512 * 1024)
    for prelude in (data[:12], data_over[:12]):
        decoder = EventStreamDecoder()
        decoder.receive_data(prelude)
        assert decoder.next_message() is None


def test_more_headers_than_a_service_may_send_decode(decode: Decode) -> None:
    headers: dict[str, HeaderValue] = {f"n{i}": "x" * 30_000 for i in range(6)}
    assert decode(encode_message(headers, b"payload")) == ([Message(headers, b"payload")], None)


def test_the_caps_are_the_longest_that_pass(decode: Decode, frame: MakeFrame) -> None:
    data = frame(b"\1a\0", b"payload")
    caps = {"max_message_length": len(data), "max_headers_length": 3}
    assert decode(data, **caps) == ([Message({"a": True}, b"payload")], None)
    _, error = decode(data, max_message_length=len(data) - 1)
    assert type(error) is InvalidLength
    assert f"declares {len(data)} bytes, max_message_length allows {len(data) - 1}" in str(error)
    _, error = decode(data, max_headers_length=2)
    assert type(error) is InvalidLength
    assert "declares 3 bytes of headers, max_headers_length allows 2" in str(error)


def test_what_one_decoder_may_take_is_no_licence_for_another(frame: MakeFrame) -> None:
    data = frame(b"\1a\0", b"payload")
    for caps in ({}, {"max_message_length": len(data) - 1}, {}, {"max_headers_length": 2}):
        decoder = EventStreamDecoder(**caps)
        decoder.receive_data(data * 2)
        if not caps:
            assert len(fetch(decoder)) == 2
        else:
            with pytest.raises(InvalidLength):
                decoder.next_message()


# After a bad frame


def test_good_messages_before_a_bad_frame_come_first(decode: Decode, frame: MakeFrame) -> None:
    good = [frame(b"\1a\0", b"%d" % i) for i in range(3)]
    messages, error = decode(b"".join(good) + frame(b"", b"bad", message_crc=1) + good[0])
    assert messages == [Message({"a": True}, b"%d" % i) for i in range(3)]
    assert type(error) is MessageChecksumMismatch
    assert error.offset == sum(map(len, good))


def test_a_bad_frame_raises_every_time_and_all_behind_it_is_ignored(
    frame: MakeFrame, all_it_says: Callable[[BaseException], object]
) -> None:
    decoder = EventStreamDecoder()
    decoder.receive_data(frame(b"", b"good") + frame(prelude_crc=0))
    decoder.receive_data(frame(b"", b"ignored"))
    decoder.receive_data(b"ignored")
    assert decoder.next_message() == Message({}, b"good")
    errors = []
    for _ in range(3):
        with pytest.raises(PreludeChecksumMismatch) as caught:
            decoder.next_message()
        errors.append((all_it_says(caught.value), len(caught.traceback)))
        decoder.receive_data(frame(b"", b"ignored"))
    assert errors == [errors[0]] * 3
    with pytest.raises(PreludeChecksumMismatch):
        decoder.receive_eof()


def test_a_bad_long_frame_ends_the_stream(decode: Decode, frame: MakeFrame) -> None:
    good = frame(b"", b"good")
    messages, error = decode(good + frame(b"\1a\0", bytes(5000), message_crc=1) + good)
    assert messages == [Message({}, b"good")]
    assert type(error) is MessageChecksumMismatch
    assert error.offset == len(good)


def test_the_end_of_a_dead_stream_raises_its_error_and_keeps_its_messages(
    frame: MakeFrame,
) -> None:
    decoder = EventStreamDecoder()
    decoder.receive_data(frame(b"", b"good") + frame(message_crc=1))
    with pytest.raises(MessageChecksumMismatch):
        decoder.receive_eof()
    assert decoder.next_message() == Message({}, b"good")
    with pytest.raises(MessageChecksumMismatch):
        decoder.next_message()


def test_the_end_of_a_cut_stream_keeps_its_messages(frame: MakeFrame) -> None:
    decoder = EventStreamDecoder()
    decoder.receive_data(frame(b"", b"good") + frame(b"", b"cut")[:-1])
    for _ in range(2):
        with pytest.raises(TruncatedStream):
            decoder.receive_eof()
    decoder.receive_data(frame(b"", b"cut")[-1:])
    assert decoder.next_message() == Message({}, b"good")
    with pytest.raises(TruncatedStream):
        decoder.next_message()


def test_a_bad_frames_bytes_are_not_kept(frame: MakeFrame) -> None:
    for bad in (frame(b"\1\xff\0", bytes(5000)), frame(b"", bytes(5000), message_crc=1)):
        for chunks in ([bad], [bad[:13], bad[13:]], [bad[:3000], bad[3000:]]):
            before = list(map(sys.getrefcount, chunks))
            decoder = EventStreamDecoder()
            for chunk in chunks:
                decoder.receive_data(chunk)
            del chunk
            with pytest.raises(EventStreamError) as caught:
                decoder.next_message()
            assert caught.value.__context__ is None
            assert list(map(sys.getrefcount, chunks)) == before


def test_error_messages_name_the_numbers(frame: MakeFrame) -> None:
    good = frame()
    bad = frame(b"", b"x", message_crc=0xDEADBEEF)
    decoder = EventStreamDecoder()
    decoder.receive_data(good + bad)
    decoder.next_message()
    with pytest.raises(MessageChecksumMismatch) as caught:
        decoder.next_message()
    for number in ("byte 16", "0xdeadbeef", "17 bytes", f"{crc32(bad[:-4]):#010x}"):
        assert number in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.offset) == (
        MessageChecksumMismatch,
        str(caught.value),
        16,
    )


@pytest.mark.parametrize("text", [b"<!DOCTYPE html><html>", b'{"message":"Forbidden"}'])
def test_what_is_no_event_stream_is_shown(text: bytes, decode: Decode) -> None:
    messages, error = decode(text)
    assert messages == []
    assert type(error) is PreludeChecksumMismatch
    assert repr(text[:12]) in str(error)
    assert f"{struct.unpack('>I', text[8:12])[0]:#010x}" in str(error)
    assert f"{crc32(text[:8]):#010x}" in str(error)
    assert "event stream" in str(error)


# Every byte is verified, also those of frames that are like an earlier one


@pytest.mark.parametrize("length", [5, 1100])
def test_no_flipped_bit_passes(length: int, frame: MakeFrame) -> None:
    good = frame(b"\1a\7\0\1b", bytes(length))
    for at in range(len(good)):
        for mask in (1, 128):
            flipped = bytearray(good)
            flipped[at] ^= mask
            bad = bytes(flipped)
            for chunks in ([good + bad + good], [good, bad[:20], bad[20:], good]):
                decoder = EventStreamDecoder()
                for chunk in chunks:
                    decoder.receive_data(chunk)
                assert decoder.next_message() == Message({"a": "b"}, bytes(length))
                with pytest.raises((PreludeChecksumMismatch, MessageChecksumMismatch)) as caught:
                    decoder.next_message()
                assert caught.value.offset == len(good)


def test_a_good_prelude_before_a_changed_length_is_no_licence(frame: MakeFrame) -> None:
    good = frame(b"\1a\0", b"four")
    decoder = EventStreamDecoder()
    decoder.receive_data(good * 2 + good[:12] + frame(b"\1a\0", b"fours")[12:])
    assert len([decoder.next_message(), decoder.next_message()]) == 2
    with pytest.raises(MessageChecksumMismatch):
        decoder.next_message()


# Work and memory


def work(
    monkeypatch: pytest.MonkeyPatch, chunks: Iterable[bytes], expected: int
) -> tuple[list[int], float]:
    """Count the bytes that each chunk made the decoder hash."""
    hashed = 0

    def counting(data: bytes, value: int = 0) -> int:
        nonlocal hashed
        hashed += len(data)
        return crc32(data, value)

    monkeypatch.setattr(decoder_module, "crc32", counting)
    decoder = EventStreamDecoder()
    per_chunk, messages, before = [], 0, time.perf_counter()
    for chunk in chunks:
        hashed = 0
        decoder.receive_data(chunk)
        per_chunk.append(hashed)
        messages += len(fetch(decoder))
    assert messages == expected
    return per_chunk, time.perf_counter() - before


def test_a_long_frame_is_hashed_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_message(PART, bytes(2 * MiB))
    for size in (100, 1000, 1448, 65_536):
        per_chunk, _ = work(monkeypatch, in_chunks(data, size), 1)
        assert max(per_chunk) <= size + 2048
        assert len(data) - 4 <= sum(per_chunk) <= len(data) + 500


@pytest.mark.parametrize("size", [1, 50, 400, 5000, 100_000])
def test_every_byte_is_hashed_about_once_in_any_split(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode_message(PART, bytes(150)) * 200 + encode_message(PART, bytes(20_000))
    per_chunk, _ = work(monkeypatch, in_chunks(data, size), 201)
    assert sum(per_chunk) <= 1.1 * len(data)


# Times are of this thread alone, so that a busy machine does not count.


@pytest.mark.parametrize(("payload", "size"), [(60_000, 1), (4_000_000, 1_000), (4_000_000, 1_448)])
def test_a_chunk_late_in_a_frame_costs_no_more_than_an_early_one(payload: int, size: int) -> None:
    chunks = in_chunks(encode_message(PART, bytes(payload)), size)
    assert any(growth(chunks) < 5 for _ in range(5))  # linear is 1, quadratic is 19


def test_the_same_inside_a_header_block(frame: MakeFrame) -> None:
    block = b"".join(b"\5" + b"%05d" % i + b"\0" for i in range(56_000))
    chunks = in_chunks(frame(block), 1)
    assert any(growth(chunks) < 5 for _ in range(5))


def growth(chunks: list[bytes]) -> float:
    """Compare the last tenth of a frame, but for its last byte, with the first."""
    decoder = EventStreamDecoder()
    tenth = len(chunks) // 10
    times = []
    for start in range(0, 10 * tenth, tenth):
        before = time.thread_time()
        for chunk in chunks[start : min(start + tenth, len(chunks) - 1)]:
            decoder.receive_data(chunk)
        times.append(time.thread_time() - before)
    assert decoder.next_message() is None
    return times[-1] / times[0]


@pytest.mark.parametrize(("count", "size"), [(500, 10**9), (200, 5)])
def test_eight_times_the_frames_cost_about_eight_times_the_time(count: int, size: int) -> None:
    def cost(frames: int) -> float:
        chunks = in_chunks(encode_message(PART, bytes(32)) * frames, size)
        best = float("inf")
        for _ in range(5):
            decoder = EventStreamDecoder()
            before = time.thread_time()
            for chunk in chunks:
                decoder.receive_data(chunk)
            best = min(best, time.thread_time() - before)
            assert len(fetch(decoder)) == frames
        return best

    assert any(cost(8 * count) / cost(count) < 24 for _ in range(3))  # quadratic is 64


def peak(work: Callable[[], object]) -> int:
    """Bytes allocated at most, beyond what there was before."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = work()
        assert kept is not None
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_nothing_is_allocated_for_a_declared_length(frame: MakeFrame) -> None:
    data = frame(b"\1a\0", bytes(100), length=32 * MiB, headers_length=1)[:-4]

    def receive() -> EventStreamDecoder:
        decoder = EventStreamDecoder()
        decoder.receive_data(data)
        assert decoder.next_message() is None
        return decoder

    assert peak(receive) < 100_000


def test_a_long_frame_in_crumbs_takes_little_more_than_its_bytes() -> None:
    data = encode_message(PART, bytes(100_000))

    def receive() -> Message | None:
        decoder = EventStreamDecoder()
        for start in range(0, len(data), 3):
            decoder.receive_data(data[start : start + 3])
        return decoder.next_message()

    assert peak(receive) < 3 * len(data)


def test_empty_chunks_take_nothing(frame: MakeFrame) -> None:
    data = frame(b"", b"payload")

    def receive() -> Message | None:
        decoder = EventStreamDecoder()
        decoder.receive_data(data[:20])
        for _ in range(20_000):
            decoder.receive_data(b"")
        decoder.receive_data(data[20:])
        return decoder.next_message()

    assert peak(receive) < 20_000


def test_what_is_remembered_of_frames_is_bounded() -> None:
    frames = [
        encode_message({"n": i, "text": "x" * (i % 300)}, bytes(i % 1000)) for i in range(3_000)
    ]
    long = [encode_message({"n": i, "text": "x" * (30_000 + i)}, b"") for i in range(200)]

    def receive() -> EventStreamDecoder:
        decoder = EventStreamDecoder()
        for data in long + frames:
            decoder.receive_data(data)
            assert decoder.next_message() is not None
        return decoder

    assert peak(receive) < 1_500_000


def test_what_is_remembered_is_held_once_for_all_decoders() -> None:
    data = b"".join(encode_message(PART, bytes(length)) for length in range(100))

    def receive() -> list[EventStreamDecoder]:
        decoders = [EventStreamDecoder() for _ in range(60)]
        for decoder in decoders:
            decoder.receive_data(data)
            assert len(list(decoder.take_messages())) == 100
        return decoders

    assert peak(receive) < 250_000  # 800 bytes for each of the shapes, 600 for each decoder


# What hypothesis finds

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
values: st.SearchStrategy[HeaderValue] = st.one_of(
    st.booleans(),
    st.integers(-(2**7), 2**7 - 1).map(Byte),
    st.integers(-(2**15), 2**15 - 1).map(Short),
    st.integers(-(2**31), 2**31 - 1).map(Integer),
    st.integers(-(2**63), 2**63 - 1).map(Long),
    st.integers(-(2**63), 2**63 - 1).map(Timestamp),
    st.binary(max_size=50),
    st.text(st.characters(codec="utf-8"), max_size=50),
    st.uuids(),
)
messages_ = st.builds(
    Message,
    headers=st.dictionaries(names, values, max_size=5),
    payload=st.one_of(st.binary(max_size=50), st.integers(0, 3000).map(bytes)),
)


def cut(data: bytes, splits: list[int]) -> list[bytes]:
    borders = [0, *sorted(split % (len(data) + 1) for split in splits), len(data)]
    return [data[a:b] for a, b in pairwise(borders)]


def outcome(chunks: list[bytes]) -> tuple[list[Message], type | None, int, str]:
    decoder = EventStreamDecoder()
    messages: list[Message] = []
    try:
        for chunk in chunks:
            decoder.receive_data(chunk)
            while (message := decoder.next_message()) is not None:
                messages.append(message)
        decoder.receive_eof()
    except EventStreamError as error:
        return messages, type(error), error.offset, str(error)
    return messages, None, 0, ""


@given(st.lists(messages_, max_size=5), st.lists(st.integers(0, 2**16), max_size=10))
def test_what_is_encoded_is_decoded_in_any_split(
    messages: list[Message], splits: list[int]
) -> None:
    data = b"".join(encode_message(m.headers, m.payload) for m in messages)
    decoded, error, _, _ = outcome(cut(data, splits))
    assert error is None
    assert decoded == messages
    assert b"".join(encode_message(m.headers, m.payload) for m in decoded) == data


@given(st.lists(messages_, max_size=5))
def test_botocore_agrees_on_sound_frames(messages: list[Message]) -> None:
    data = b"".join(encode_message(m.headers, m.payload) for m in messages)
    judge = EventStreamBuffer()
    judge.add_data(data)
    decoder = EventStreamDecoder()
    decoder.receive_data(data)
    for event, message in zip(judge, fetch(decoder), strict=True):
        plain = {
            name: getattr(value, "bytes", value)  # botocore leaves a UUID as its bytes
            for name, value in message.headers.items()
        }
        assert (event.headers, event.payload) == (plain, message.payload)


# Same lengths, other bytes: what one of them teaches must not pass for another.
BLOCKS = [
    encode_message(headers, b"")[12:-4]
    for headers in ({}, {"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": b"1"}, {"long": "x" * 600})
]
frames_ = st.tuples(
    st.sampled_from(BLOCKS),
    st.sampled_from([b"", b"1", b"2", b"12", bytes(1100), bytes(5000)]),
    st.sampled_from([None] * 12 + [0, 5, 9, 12, -5, -1]),  # the byte that is wrong
)


def judge(data: bytes, limits: dict[str, int]) -> tuple[int, type[EventStreamError] | None, int]:
    """Give how many frames are whole, what is wrong with the next one, and where that begins."""
    count = offset = 0
    while len(data) - offset >= 12:
        length, headers_length, declared = struct.unpack_from(">III", data, offset)
        if crc32(data[offset : offset + 8]) != declared:
            return count, PreludeChecksumMismatch, offset
        if length > limits["max_message_length"] or headers_length > limits["max_headers_length"]:
            return count, InvalidLength, offset
        body, stop = data[offset : offset + length - 4], offset + length
        if stop > len(data):
            break
        if crc32(body) != int.from_bytes(data[stop - 4 : stop]):
            return count, MessageChecksumMismatch, offset
        count, offset = count + 1, stop
    return count, None, offset


@given(
    st.lists(frames_, min_size=1, max_size=8),
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 1500), st.booleans()), min_size=1, max_size=20
    ),
)
def test_each_step_of_decoders_that_remember_together_is_that_of_one_that_remembers_nothing(
    frames: list[tuple[bytes, bytes, int | None]], steps: list[tuple[int, int, bool]]
) -> None:
    data, expected = b"", []
    for block, payload, wrong in frames:
        prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
        head = prelude + struct.pack(">I", crc32(prelude)) + block
        frame = bytearray(head + payload + struct.pack(">I", crc32(head + payload)))
        if wrong is not None:
            frame[wrong] ^= 1
        data += frame
        expected.append((block, payload))
    tight = {"max_message_length": 1200, "max_headers_length": 100}
    wide = {"max_message_length": 10_000, "max_headers_length": 1000}
    both = [
        (EventStreamDecoder(**limits), limits, [0], list[Message]()) for limits in (tight, wide)
    ]
    for which, size, all_at_once in [*steps, (0, len(data), True), (1, len(data), False)]:
        decoder, limits, given_, messages = both[which]
        decoder.receive_data(data[given_[0] : given_[0] + size])
        given_[0] += size
        count, error, offset = judge(data[: given_[0]], limits)
        assert (type(decoder.error) if decoder.error else None, decoder.offset) == (error, offset)
        if error is None or len(messages) < count:
            more = decoder.take_messages() if all_at_once else [decoder.next_message()]
            messages.extend(message for message in more if message is not None)
    for decoder, limits, _, messages in both:
        count, error, offset = judge(data, limits)
        while len(messages) < count:
            message = decoder.next_message()
            assert message is not None
            messages.append(message)
        sent = [(encode_message(m.headers, b"")[12:-4], m.payload) for m in messages]
        assert sent == expected[:count]
        if error is not None:
            with pytest.raises(error) as caught:
                decoder.take_messages()
            assert caught.value.offset == offset
        else:
            decoder.receive_eof()


@given(
    st.lists(messages_, min_size=1, max_size=4),
    st.integers(0, 2**16),
    st.binary(max_size=20),
    st.integers(0, 20),
    st.lists(st.integers(0, 2**16), max_size=8),
)
def test_damage_loses_no_message_before_it_and_raises_only_our_errors(
    messages: list[Message], at: int, patch: bytes, removed: int, splits: list[int]
) -> None:
    frames = [encode_message(m.headers, m.payload) for m in messages]
    data = b"".join(frames)
    at %= len(data) + 1
    damaged = data[:at] + patch + data[at + removed :]
    same = next((i for i, (a, b) in enumerate(zip(data, damaged, strict=False)) if a != b), at)
    sound, offset = 0, 0
    for frame in frames:
        if offset + len(frame) > same:
            break
        sound, offset = sound + 1, offset + len(frame)
    result = outcome([damaged])
    assert result[0][:sound] == messages[:sound]
    if result[1] is not None:
        assert result[2] >= offset
    assert outcome(cut(damaged, splits)) == result


@given(
    st.binary(max_size=40),
    st.integers(0, 60),
    st.integers(0, 60),
    st.binary(max_size=60),
    st.booleans(),
)
def test_any_bytes_behind_a_true_prelude_raise_only_our_errors(
    block: bytes, length: int, headers_length: int, rest: bytes, true: bool
) -> None:
    prelude = struct.pack(">II", length, headers_length)
    data = prelude + struct.pack(">I", crc32(prelude)) + block + rest
    if true and length >= 16:
        data = data[: length - 4].ljust(length - 4, b"\0")
        data += struct.pack(">I", crc32(data))
    result = outcome([data])
    assert outcome(in_chunks(data, 1)) == result
    assert outcome(in_chunks(data, 7)) == result


def test_nothing_is_taken_behind_an_end_that_was_a_cut() -> None:
    frame = encode_message({":message-type": "event"}, b"payload")
    decoder = EventStreamDecoder()
    decoder.receive_data(frame)  # so that its shape is known
    assert decoder.next_message() is not None
    decoder.receive_data(frame[:-5])
    with pytest.raises(TruncatedStream):
        decoder.receive_eof()
    decoder.receive_data(frame)
    with pytest.raises(TruncatedStream):
        decoder.next_message()
