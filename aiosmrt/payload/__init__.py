"""What the parts of an answer carry: text, lines, documents, events, tokens, chat.

Pure but for the view, which waits for parts and lets others run, and one line in the log.

A part of a response stream may end anywhere: inside a character, a line break, a number. Each
decoder here takes the payload in any split and gives what it would give for the whole; each is
usable alone::

    decoder = LineDecoder()
    for part in parts:
        for line in decoder.receive(part):
            ...
    for line in decoder.finish():  # when the end of the payload is proven
        ...

What is sound before a fault is given first: then `receive` returns it, and the next call raises
the fault. A decoder that has met a fault raises it at every further call. Whatever the bytes are,
nothing comes out but `PayloadError` and what a decoder's docstring names beside it; anything else
is a bug. The work is linear in the bytes, however they are split.

A call does all the work that its bytes make, and meanwhile nothing else runs on an event loop. With
`slice_length` bytes a call at most, as the views have it, that is some milliseconds, whatever the
bytes are. A JSON document that is longer than that itself takes some 20 ms a MiB; where its decoder
is told to, it leaves the document in `large`, in steps that its caller takes, as the views do.

A byte order mark is no part of the text: it is passed over at the beginning of a payload, before
each JSON document, and before each field of an event.
"""

from __future__ import annotations

from aiosmrt.payload.accumulator import ChatAccumulator
from aiosmrt.payload.bounds import DEFAULT_MAX_LENGTH
from aiosmrt.payload.chat import ChatChunk, ChatMessage, ToolCall
from aiosmrt.payload.chat_decoder import ChatDecoder
from aiosmrt.payload.documents import JSONDocumentDecoder
from aiosmrt.payload.failures import find_failure
from aiosmrt.payload.large_document import LARGE, LargeDocument
from aiosmrt.payload.lines import LineDecoder
from aiosmrt.payload.model_documents import ModelDocumentDecoder, name_truncated
from aiosmrt.payload.shapes import DONE
from aiosmrt.payload.sse import EventDecoder, ServerSentEvent, encode, encode_comment
from aiosmrt.payload.text import replace_halves
from aiosmrt.payload.tokens import TokenDecoder
from aiosmrt.payload.tool_calls import ToolCallReader
from aiosmrt.payload.view import Decoder, MarkedEventDecoder, TextPieceDecoder, View

__all__ = [
    "DEFAULT_MAX_LENGTH",
    "DONE",
    "LARGE",
    "ChatAccumulator",
    "ChatChunk",
    "ChatDecoder",
    "ChatMessage",
    "Decoder",
    "EventDecoder",
    "JSONDocumentDecoder",
    "LargeDocument",
    "LineDecoder",
    "MarkedEventDecoder",
    "ModelDocumentDecoder",
    "ServerSentEvent",
    "TextPieceDecoder",
    "TokenDecoder",
    "ToolCall",
    "ToolCallReader",
    "View",
    "encode",
    "encode_comment",
    "find_failure",
    "name_truncated",
    "replace_halves",
]
