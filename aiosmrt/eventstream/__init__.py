"""Framing of `application/vnd.amazon.eventstream`, without I/O; useful without the rest.

::

    decoder = EventStreamDecoder()
    for chunk in chunks:
        decoder.receive_data(chunk)
        while (message := decoder.next_message()) is not None:
            ...
    decoder.receive_eof()
"""

from aiosmrt.eventstream.decoder import EventStreamDecoder
from aiosmrt.eventstream.encoder import encode_message
from aiosmrt.eventstream.headers import (
    Byte,
    EncodableHeaderValue,
    HeaderValue,
    Integer,
    Long,
    Short,
    Timestamp,
)
from aiosmrt.eventstream.message import Message

__all__ = [
    "Byte",
    "EncodableHeaderValue",
    "EventStreamDecoder",
    "HeaderValue",
    "Integer",
    "Long",
    "Message",
    "Short",
    "Timestamp",
    "encode_message",
]
