"""The event-stream decoder alone: against botocore's, and against one bare pass of zlib.crc32.

    python -m benchmarks.decoder

Small frames have 32 bytes of payload and the three headers that the service sends.
"""

from __future__ import annotations

import asyncio
import statistics
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from botocore.eventstream import EventStreamBuffer

from aiosmrt.eventstream import EventStreamDecoder
from benchmarks.harness import (
    OURS,
    Goal,
    Ratios,
    interleave,
    parse_options,
    print_report,
    ratio,
    tabulate,
)
from benchmarks.server import make_frame

Decode: TypeAlias = Callable[[Sequence[bytes]], int]

_SMALL = 20_000  # frames
_GOALS = [
    Goal("whole_frames_vs_botocore", "at least", 10, 14),
    Goal("cut_frames_vs_botocore", "at least", 7, 14),
    Goal("frames_of_1_mib_vs_crc32", "at most", 2, 1.5),
    Goal("one_frame_of_16_mib_vs_crc32", "at most", 4, 1.5),
]


def _decode(chunks: Sequence[bytes]) -> int:
    decoder = EventStreamDecoder()
    count = 0
    for chunk in chunks:
        decoder.receive_data(chunk)
        while decoder.next_message() is not None:
            count += 1
    decoder.receive_eof()
    return count


def _decode_with_botocore(chunks: Sequence[bytes]) -> int:
    buffer = EventStreamBuffer()
    count = 0
    for chunk in chunks:
        buffer.add_data(chunk)
        for _ in buffer:
            count += 1
    return count


def _hash(chunks: Sequence[bytes]) -> int:
    zlib.crc32(chunks[0])
    return 0


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def _measure(
    decode: Decode, chunks: Sequence[bytes], frames: int
) -> Callable[[], Awaitable[float]]:
    async def take() -> float:
        began = time.process_time()
        count = decode(chunks)
        took = time.process_time() - began
        assert count in (0, frames)
        return took

    return take


def main() -> None:
    options = parse_options(__doc__, rounds=11, peers=())
    print(__doc__.partition("\n")[0])
    small = make_frame(32)
    one_mib = make_frame(1 << 20)
    sixteen_mib = make_frame(16 << 20)
    botocore, crc32 = ("botocore", _decode_with_botocore), ("crc32", _hash)
    # The last of each: what the peer is given, where that is something else.
    cases: list[tuple[str, int, list[bytes], tuple[str, Decode], list[bytes]]] = []
    for name, chunks in (
        ("whole_frames", [small] * _SMALL),
        ("cut_frames", _cut(small, -(-len(small) // 3)) * _SMALL),
        ("frames_in_64_kib_chunks", _cut(small * _SMALL, 1 << 16)),
    ):
        cases.append((name, _SMALL, chunks, botocore, chunks))
    cases.append(("frames_of_1_mib", 16, _cut(one_mib * 16, 1 << 16), crc32, [one_mib * 16]))
    cases.append(("one_frame_of_16_mib", 1, _cut(sixteen_mib, 1 << 10), crc32, [sixteen_mib]))
    found: Ratios = {}
    rows = []
    for name, frames, chunks, (peer, decode), given in cases:
        samples = asyncio.run(
            interleave(
                {
                    OURS: _measure(_decode, chunks, frames),
                    peer: _measure(decode, given, frames),
                },
                options.rounds,
            )
        )
        times = ratio(samples[peer], samples[OURS])
        times = times if decode is _decode_with_botocore else 1 / times
        found[f"{name}_vs_{peer}"] = times
        rows.append(
            (
                name.replace("_", " "),
                peer,
                *(f"{statistics.median(samples[n]) / frames * 1e6:,.2f}" for n in (OURS, peer)),
                f"{times:.2f}",
            )
        )
    print(f"\n{tabulate(('', 'against', f'{OURS} µs/frame', 'its µs/frame', 'x'), rows)}")
    print_report("decoder", {"asyncio": found}, _GOALS)


if __name__ == "__main__":
    main()
