from __future__ import annotations

from collections.abc import Callable

import pytest
from botocore.eventstream import EventStreamBuffer

from aiosmrt.eventstream import EventStreamDecoder, Message, encode_message


def test_the_smallest_message_is_the_specifications(frame: Callable[..., bytes]) -> None:
    # Sixteen bytes, as in the vectors of every SDK.
    expected = bytes.fromhex("00000010 00000000 05c248eb 7d98c8ff")
    assert encode_message({}, b"") == expected == frame()


def test_headers_and_payload_are_framed(frame: Callable[..., bytes]) -> None:
    assert encode_message({"a": "b", "c": True}, b"payload") == frame(
        b"\1a\7\0\1b\1c\0", b"payload"
    )


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_are_a_payload(kind: Callable[[bytes], bytes | bytearray | memoryview]) -> None:
    assert encode_message({}, kind(b"payload")) == encode_message({}, b"payload")


def test_botocore_reads_what_is_written() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(encode_message({":message-type": "event", "n": 7}, b"payload"))
    (event,) = buffer
    assert (event.headers, event.payload) == ({":message-type": "event", "n": 7}, b"payload")


def test_more_than_a_service_takes_is_written() -> None:
    payload = bytes(24 * 1024 * 1024 + 1)
    decoder = EventStreamDecoder()
    decoder.receive_data(encode_message({}, payload))
    assert decoder.next_message() == Message({}, payload)


@pytest.mark.parametrize("payload", ["text", None, 5, ["x"]])
def test_a_payload_of_another_type_is_refused(payload: bytes) -> None:
    with pytest.raises(TypeError, match=f"a payload is bytes, not {type(payload).__name__}"):
        encode_message({}, payload)


def test_a_message_beyond_the_length_field_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosmrt.eventstream.encoder._MAX_LENGTH", 99)
    assert len(encode_message({}, bytes(83))) == 99
    with pytest.raises(ValueError, match="a message of 100 bytes, 99 are the most"):
        encode_message({}, bytes(84))
