"""Server-sent events (`text/event-stream`): bytes to events, and events to bytes."""

from __future__ import annotations

from aiosmrt.payload.sse import EventDecoder, ServerSentEvent, encode, encode_comment

__all__ = ["EventDecoder", "ServerSentEvent", "encode", "encode_comment"]
