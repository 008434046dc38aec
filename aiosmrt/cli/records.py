"""Answers with all that is known of them: as JSON Lines, or as a head before the body."""

from __future__ import annotations

import base64
import datetime
import json

from aiosmrt.models import InvokeEndpointResponse, ResponseMetadata
from aiosmrt.plain_text import to_line
from aiosmrt.response_stream import ResponseStream

__all__ = [
    "describe",
    "describe_body",
    "describe_metadata",
    "write_head",
    "write_line",
    "write_metadata",
]

_MEMBERS = (
    "content_type",
    "invoked_production_variant",
    "custom_attributes",
    "new_session_id",
    "new_session_expires_at",
    "closed_session_id",
)


def describe(answer: InvokeEndpointResponse | ResponseStream) -> dict[str, object]:
    """Give the members that came, and the metadata, without the body."""
    members: dict[str, object] = {}
    for name in _MEMBERS:
        value = getattr(answer, name, None)  # a stream has no sessions
        if value is not None:
            is_time = isinstance(value, datetime.datetime)
            members[name] = value.isoformat() if is_time else value
    return {**members, "metadata": describe_metadata(answer.metadata)}


def describe_metadata(metadata: ResponseMetadata) -> dict[str, object]:
    """Give what is known of the call; times in seconds."""
    return {
        "request_id": metadata.request_id,
        "status": metadata.status,
        "attempts": len(metadata.attempts),
        # Below a microsecond there is nothing but the clock's noise.
        "slot_wait": round(metadata.slot_wait, 6),
        "time_to_first_byte": round(metadata.time_to_first_byte, 6),
        "total": round(metadata.total, 6),
    }


def describe_body(body: bytes) -> dict[str, object]:
    """Give the body as text where it is UTF-8, else as `body_base64`."""
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


def write_line(record: dict[str, object]) -> bytes:
    """Write one line of JSON Lines, in ASCII: no word of a model controls a terminal."""
    return f"{json.dumps(record)}\n".encode()


def write_head(answer: InvokeEndpointResponse | ResponseStream) -> bytes:
    """Write a line for each member and each figure, and an empty one, as `curl -i` does."""
    members = describe(answer)
    del members["metadata"]
    return _write_lines(members) + write_metadata(answer.metadata)


def write_metadata(metadata: ResponseMetadata) -> bytes:
    """Write a line for each figure, and an empty one."""
    return _write_lines(describe_metadata(metadata)) + b"\n"


def _write_lines(values: dict[str, object]) -> bytes:
    lines = [f"{name}: {to_line(str(value))}\n" for name, value in values.items()]
    return "".join(lines).encode("utf-8", "replace")
