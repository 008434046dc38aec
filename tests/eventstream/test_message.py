from __future__ import annotations

import pytest

from aiosmrt.eventstream import Byte, EventStreamDecoder, Message, encode_message


def test_messages_are_equal_when_headers_and_payload_are() -> None:
    assert Message({"a": "b"}, b"c") == Message({"a": "b"}, b"c")
    assert Message({"a": "b"}, b"c") != Message({"a": "b"}, b"")
    assert Message({"a": "b"}, b"c") != Message({}, b"c")
    other: object = ({}, b"c")
    assert Message({}, b"c") != other


def test_a_decoded_message_equals_one_made_by_hand() -> None:
    decoder = EventStreamDecoder()
    decoder.receive_data(encode_message({"a": "b"}, b"c") * 2)
    assert decoder.next_message() == Message({"a": "b"}, b"c")
    assert decoder.next_message() == Message(headers={"a": "b"}, payload=b"c")


def test_repr_shows_the_values() -> None:
    assert repr(Message({"a": Byte(1)}, b"c")) == "Message(headers={'a': Byte(1)}, payload=b'c')"


def test_repr_of_a_decoded_message_is_the_same() -> None:
    decoder = EventStreamDecoder()
    decoder.receive_data(encode_message({"a": "b"}, b"c"))
    assert repr(decoder.next_message()) == "Message(headers={'a': 'b'}, payload=b'c')"


def test_repr_does_not_spill_a_large_payload() -> None:
    shown = repr(Message({}, b"x" * 1_000_000))
    assert "1000000 bytes" in shown
    assert len(shown) < 200


def test_headers_that_messages_share_are_read_only() -> None:
    decoder = EventStreamDecoder()
    decoder.receive_data(encode_message({"a": "b"}, b"1") * 3)
    first = decoder.next_message()
    assert first is not None
    with pytest.raises(TypeError):
        first.headers["a"] = "changed"  # type: ignore[index]  # that it is no dict is the point
    with pytest.raises(AttributeError):
        first.headers.clear()  # type: ignore[attr-defined]  # the same
    first.payload = b"changed"
    assert decoder.next_message() == Message({"a": "b"}, b"1")
    decoder.receive_data(encode_message({"a": "b"}, b"1"))
    assert decoder.next_message() == Message({"a": "b"}, b"1")
