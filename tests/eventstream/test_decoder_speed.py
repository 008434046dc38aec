"""The decoder against a peer in the same run, with half of what is wanted as slack.

`python -m benchmarks.decoder` gives the figures themselves.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer

from aiosmrt.eventstream import EventStreamDecoder, encode_message

PART = {
    ":event-type": "PayloadPart",
    ":content-type": "application/octet-stream",
    ":message-type": "event",
}
MiB = 1 << 20


@pytest.fixture(autouse=True)
def _untraced() -> None:
    if sys.gettrace() is not None:
        pytest.skip("what is traced takes the tracer's time")


def in_chunks(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def decode(chunks: Sequence[bytes]) -> int:
    decoder = EventStreamDecoder()
    count = 0
    for chunk in chunks:
        decoder.receive_data(chunk)
        while decoder.next_message() is not None:
            count += 1
    return count


def decode_with_botocore(chunks: Sequence[bytes]) -> int:
    buffer = EventStreamBuffer()
    count = 0
    for chunk in chunks:
        buffer.add_data(chunk)
        count += sum(1 for _ in buffer)
    return count


def compare(one: Callable[[], object], other: Callable[[], object], rounds: int) -> float:
    """Give the best time of one over the best of the other, of this thread alone."""
    times: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        for work, taken in zip((one, other), times, strict=True):
            before = time.thread_time()
            work()
            taken.append(time.thread_time() - before)
    return min(times[0]) / min(times[1])


@pytest.mark.parametrize(("pieces", "wanted"), [(1, 10), (3, 7)])
def test_small_frames_against_botocore(pieces: int, wanted: float) -> None:
    frame = encode_message(PART, bytes(32))
    chunks = in_chunks(frame, -(-len(frame) // pieces)) * 1000
    assert decode(chunks) == decode_with_botocore(chunks) == 1000
    peer, ours = partial(decode_with_botocore, chunks), partial(decode, chunks)
    assert compare(peer, ours, 10) > wanted / 2


@pytest.mark.parametrize(("length", "size", "wanted"), [(MiB, 65_536, 2), (16 * MiB, 1024, 4)])
def test_long_frames_against_a_bare_hash(length: int, size: int, wanted: float) -> None:
    data = encode_message(PART, bytes(length)) * (16 * MiB // length)
    ours, peer = partial(decode, in_chunks(data, size)), partial(crc32, data)
    assert compare(ours, peer, 5) < 2 * wanted
