from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt import PayloadPart, PayloadTooLarge, ResponseStream, TruncatedStream
from aiosmrt.asgi import formats
from aiosmrt.asgi.formats import EventFormat, LineFormat
from aiosmrt.sse import EventDecoder


@attrs.define
class _Stream:
    """Parts that are there."""

    parts: list[bytes]
    cut: bool = False  # behind them
    content_type: str | None = "text/event-stream"
    bytes_received: int = 0

    async def __aiter__(self) -> AsyncIterator[PayloadPart]:
        for part in self.parts:
            self.bytes_received += len(part)
            yield PayloadPart(part)
        if self.cut:
            raise TruncatedStream("cut")


def _write(parts: list[bytes], *, cut: bool = False) -> list[bytes]:
    """Give the pieces that are written of these parts, up to their end or to a cut."""
    pieces: list[bytes] = []

    async def write() -> None:
        stream = cast("ResponseStream", _Stream(parts, cut))
        async for piece in EventFormat(None).write(stream):
            pieces.append(piece)  # noqa: PERF401 - those before a cut count

    with contextlib.suppress(TruncatedStream):
        asyncio.run(write())
    return pieces


def _decode(data: bytes) -> tuple[list[Any], list[Any]]:
    decoder = EventDecoder(errors="replace")
    return decoder.receive(data), decoder.finish()


_LINES = st.sampled_from([b"data: a", b"data", b"id: 7", b": c", b"event: e", b"x", b"", b"\xff"])
_BREAKS = st.sampled_from([b"\n", b"\r", b"\r\n"])
_PAYLOADS = st.lists(st.tuples(_LINES, _BREAKS).map(b"".join), max_size=12).map(b"".join)


@given(_PAYLOADS, st.lists(st.integers(0, 100)))
def test_events_are_passed_on_byte_by_byte_and_whole(payload: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(payload), *(min(cut, len(payload)) for cut in cuts)})
    parts = [payload[begin:end] for begin, end in itertools.pairwise(places)]
    pieces = _write(parts)
    assert b"".join(pieces) == payload
    # Between them, a comment changes nothing, and an event of ours is by itself.
    whole, rest = _decode(payload)
    if not rest:
        assert _decode(EventFormat.heartbeat.join([*pieces, b""])) == (whole, [])
    for number in range(len(pieces)):
        found, unfinished = _decode(b"".join(pieces[:number]) + EventFormat(None).fail("ours"))
        assert unfinished == []
        assert [event.data for event in found[:-1]] == [
            event.data for event in whole[: len(found) - 1]
        ]
        assert (found[-1].event, found[-1].data) == ("error", "ours")


@given(_PAYLOADS)
def test_whole_events_do_not_wait(payload: bytes) -> None:
    found, _ = _decode(payload)
    for parts in ([payload], [payload[place : place + 1] for place in range(len(payload))]):
        written = b"".join(_write(parts, cut=True))
        assert payload.startswith(written)
        assert _decode(written) == (found, [])


def test_an_event_without_an_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "DEFAULT_MAX_LENGTH", 10)
    assert _write([b"data: 1\n\n" * 5]) == [b"data: 1\n\n" * 5]
    with pytest.raises(PayloadTooLarge, match="longer than 10 bytes") as caught:
        _write([b"data: 1\n\n", b"data: 12345"])
    assert (caught.value.offset, caught.value.limit) == (9, 10)


def test_the_work_is_linear_in_the_bytes() -> None:
    """A long event in small parts is searched once: else this would take minutes."""
    parts = [b"data: x\n"] * 100_000
    began = time.thread_time()
    assert b"".join(_write([*parts, b"\n"])) == b"data: x\n" * 100_000 + b"\n"
    assert time.thread_time() - began < 5


def test_lines_have_no_comment() -> None:
    assert LineFormat(None).heartbeat == b""
    assert LineFormat(None).fail('a"') == b'{"error": "a\\""}\n'
