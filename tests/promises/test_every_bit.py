"""Whatever a line does to an answer, there is an error, or the answer is what it was.

Each bit of a recorded answer of several frames, its HTTP envelope included, is turned, and the
answer is cut at each of its bytes. Harmless is what changes neither a part nor the end: letters of
names, values that say nothing of the parts. The suite takes each bit of every seventh byte, `make
soak` all.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import pytest

from aiosmrt import AiosmrtError, SageMakerRuntimeClient, Timeout

if TYPE_CHECKING:
    from tests.conftest import Connect, EventStreams, SeenRequest, Serve

    Events: TypeAlias = type[EventStreams]

BYTE_STEP = int(os.environ.get("AIOSMRT_BYTE_STEP", "13"))

_PAYLOADS = [b"one ", "zw\N{LATIN SMALL LETTER O WITH DIAERESIS}lf ".encode(), b"\0" * 20]


def _record(events: Events, framing: str) -> bytes:
    """Give an answer of three frames as it is on the wire."""
    if framing == "chunks":
        return events.whole(*_PAYLOADS)
    frames = b"".join(events.part(payload) for payload in _PAYLOADS)
    return events.head(f"content-length: {len(frames)}") + frames


def _turn_bits(answer: bytes, step: int) -> Iterator[bytes]:
    for at in range(0, len(answer), step):
        for bit in range(8):
            yield answer[:at] + bytes([answer[at] ^ 1 << bit]) + answer[at + 1 :]


async def _collect(
    client: SageMakerRuntimeClient, events: Events
) -> tuple[list[bytes], AiosmrtError | None]:
    parts: list[bytes] = []
    try:
        async with events.open(client) as stream:
            async for part in stream:
                parts.append(part.bytes)  # noqa: PERF401 - those before a fault count
    except AiosmrtError as error:
        return parts, error
    return parts, None


async def _sweep(
    answers: list[bytes], serve: Serve, connect: Connect, events: Events
) -> Counter[str]:
    """Count the errors by their class; what has none must be whole."""
    left = iter(answers)

    async def play(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(next(left))
        writer.close()

    seen: Counter[str] = Counter()
    # What waits for more is told by the closing that there is none.
    async with serve(play) as server, connect(server, timeout=Timeout(total=20)) as client:
        for _ in answers:
            parts, error = await _collect(client, events)
            assert parts == _PAYLOADS[: len(parts)]
            if error is None:
                assert parts == _PAYLOADS
            seen["harmless" if error is None else type(error).__name__] += 1
    return seen


@pytest.mark.parametrize("framing", ["chunks", "length"])
@pytest.mark.asyncio
async def test_a_turned_bit_is_an_error_or_harmless(
    framing: str, serve: Serve, connect: Connect, events: Events
) -> None:
    answer = _record(events, framing)
    body = answer.index(b"\r\n\r\n") + 4
    head = await _sweep(
        [turned + answer[body:] for turned in _turn_bits(answer[:body], BYTE_STEP)],
        *(serve, connect, events),
    )
    frames = await _sweep(
        [answer[:body] + turned for turned in _turn_bits(answer[body:], BYTE_STEP)],
        *(serve, connect, events),
    )
    print(f"{framing}: in the head {dict(head)}, in the body {dict(frames)}")  # noqa: T201
    assert frames["harmless"] == 0


@pytest.mark.parametrize("framing", ["chunks", "length"])
@pytest.mark.asyncio
async def test_every_prefix_is_an_error(
    framing: str, serve: Serve, connect: Connect, events: Events
) -> None:
    answer = _record(events, framing)
    prefixes = [answer[:end] for end in range(len(answer))]
    seen = await _sweep(prefixes, serve, connect, events)
    print(f"{framing}: {dict(seen)}")  # noqa: T201
    assert seen["harmless"] == 0
