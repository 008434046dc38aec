"""Other implementations' test vectors, read from the folder that AIOSMRT_VECTORS names."""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
    HeaderValue,
    Integer,
    Long,
    Message,
    Short,
    Timestamp,
    encode_message,
)

Decode = Callable[..., tuple[list[Message], EventStreamError | None]]
Entry = dict[str, Any]

ERRORS: dict[str, type[EventStreamError]] = {
    "prelude_checksum": PreludeChecksumMismatch,
    "message_checksum": MessageChecksumMismatch,
    "message_length": InvalidLength,
    "headers_length": InvalidLength,
    "payload_length": InvalidLength,
    "duplicate_header": InvalidHeader,
    "header_value_length": InvalidHeader,
    "truncated": TruncatedStream,
}

NUMBERS: dict[int, type[Byte | Short | Integer | Long | Timestamp]] = {
    2: Byte,
    3: Short,
    4: Integer,
    5: Long,
    8: Timestamp,
}


def folder() -> Path:
    return Path(os.environ["AIOSMRT_VECTORS"]) / "eventstream"


def entries(*, decodes: bool | None = None, service_limit: bool = False) -> list[Any]:
    if "AIOSMRT_VECTORS" not in os.environ:
        skip = pytest.mark.skip(reason="AIOSMRT_VECTORS does not name the folder of test vectors")
        return [pytest.param({}, id="no vectors", marks=skip)]
    return [
        pytest.param(entry, id=f"{entry['group']}-{entry['name']}")
        for entry in json.loads((folder() / "index.json").read_text())
        if entry.get("over_or_under_a_service_side_limit", False) == service_limit
        # What an event means is no matter of framing: those that mean nothing are sound frames.
        and decodes in (None, entry["polarity"] == "positive" or entry["layer"] == "event")
    ]


def stream(entry: Entry) -> bytes:
    if "file" in entry:
        return (folder() / str(entry["file"])).read_bytes()
    generate = entry["generate"]
    fill = bytes.fromhex(generate["fill_hex"]) * int(generate["fill_count"])
    return b"".join(
        (bytes.fromhex(generate["hex_prefix"]), fill, bytes.fromhex(generate["hex_suffix"]))
    )


def value_of(header: Entry) -> HeaderValue:
    value = header["value"]
    match header["type"]:
        case 0 | 1:
            return bool(value)
        case 6:
            return base64.b64decode(value)
        case 7:
            # The official files, which name no types, have strings in base64 too.
            return str(value) if "type_name" in header else base64.b64decode(value).decode()
        case 9:
            return uuid.UUID(bytes=base64.b64decode(value))
        case number:
            return NUMBERS[number](value)


def messages_of(entry: Entry) -> list[Message]:
    decoded = json.loads((folder() / entry["decoded"]).read_text())
    return [
        Message(
            {header["name"]: value_of(header) for header in message["headers"]},
            base64.b64decode(message["payload"]),
        )
        for message in (decoded if isinstance(decoded, list) else [decoded])
    ]


@pytest.mark.parametrize("entry", entries(decodes=True))
def test_sound_frames_decode_and_encode_to_the_same_bytes(entry: Entry, decode: Decode) -> None:
    data, expected = stream(entry), messages_of(entry)
    messages, error = decode(data)
    assert error is None
    assert messages == expected
    for message, wanted in zip(messages, expected, strict=True):
        assert list(map(type, message.headers.values())) == list(map(type, wanted.headers.values()))
    assert b"".join(encode_message(m.headers, m.payload) for m in messages) == data


@pytest.mark.parametrize("entry", entries(decodes=False))
def test_unsound_frames_raise_their_error(entry: Entry, decode: Decode) -> None:
    # `invalid_header_value_length` is among them, a byte array of 32,768 bytes: the grammar of the
    # specification says `byte data<1..2^15-1>`, and what clients MUST NOT validate are only the
    # two "additional size restrictions" on a payload and on all headers together.
    messages, error = decode(stream(entry))
    assert messages == []
    assert error is not None
    kinds = (entry["error_kind"], *entry.get("also_acceptable", ()))
    assert type(error) in {ERRORS[kind] for kind in kinds}
    assert error.offset == 0


@pytest.mark.parametrize("entry", entries(service_limit=True))
def test_service_side_limits_are_not_ours(entry: Entry, decode: Decode) -> None:
    data = stream(entry)
    declared = int.from_bytes(data[:4])
    messages, error = decode(data)
    if declared == len(data):
        assert error is None
        assert messages == [Message({}, b"0" * entry["generate"]["fill_count"])]
    else:  # botocore's lacks the last 16 bytes of what it declares: nobody there reads so far
        assert messages == []
        assert isinstance(error, TruncatedStream)
    messages, error = decode(data[:12], max_message_length=declared - 1)
    assert messages == []
    assert isinstance(error, InvalidLength)
