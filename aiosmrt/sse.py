"""Server-sent events (`text/event-stream`), incrementally: bytes to events, and events to bytes.

The rules are those of the WHATWG's HTML standard, sections 9.2.5 and 9.2.6 ("Parsing an event
stream", "Interpreting an event stream")::

    decoder = EventDecoder()
    for part in parts:
        for event in decoder.receive(part):
            ...
    for event in decoder.finish():  # when the end of the stream is proven
        ...

The events are the same in any split of the bytes. What is sound before a fault is given first:
then `receive` returns it, and the next call raises the fault, as does every call after it. Whatever
the bytes are, nothing but `PayloadError` comes out. A call with at most `slice_length` bytes holds
an event loop for some milliseconds only. `EventDecoder` says in which three points it differs from
the standard.

A relay writes events with `encode`, and `encode_comment` keeps its connection alive while the model
is silent.
"""

from __future__ import annotations

from aiosmrt.payload import EventDecoder, ServerSentEvent, encode, encode_comment

__all__ = ["EventDecoder", "ServerSentEvent", "encode", "encode_comment"]
