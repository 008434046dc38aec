"""One message of an event stream: what a verified frame says."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from aiosmrt.eventstream.headers import HeaderValue

__all__ = ["Message"]

_SHOWN = 64  # bytes of the payload in a repr: a frame may hold 24 MiB


def _headers_repr(headers: Mapping[str, HeaderValue]) -> str:
    return repr(dict(headers))


def _payload_repr(payload: bytes) -> str:
    if len(payload) <= _SHOWN:
        return repr(payload)
    return f"<{len(payload)} bytes, {payload[:_SHOWN]!r}...>"


# Not frozen: one is made per frame, and attrs' frozen slotted __init__ takes 193 ns against 82 ns;
# a slot for weak references would be another 7.
@attrs.define(weakref_slot=False)
class Message:
    """Headers and payload of one frame.

    Two messages are equal when their headers and payloads are. Messages of one decoder may share
    one read-only mapping of headers.

    Attributes:
        headers: by name, such as `:event-type`.
        payload: the bytes behind them.
    """

    headers: Mapping[str, HeaderValue] = attrs.field(repr=_headers_repr)
    payload: bytes = attrs.field(repr=_payload_repr)
