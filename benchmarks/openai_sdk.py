"""Chats by the OpenAI SDK, over this client and over its own: CPU per chunk, time to the first.

    python -m benchmarks.openai_sdk

Both ask one server: one for a response stream of SageMaker's, checked and proven, the other for the
server-sent events themselves. The chunks come all at once, with a text alone or with probabilities
and a usage in each, or one every 2 ms in each of 8 streams.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import attrs

import aiosmrt
from benchmarks.harness import (
    OURS,
    Goal,
    Ratios,
    interleave,
    parse_options,
    print_report,
    ratio,
    run,
    serve,
    tabulate,
)

if TYPE_CHECKING:
    import openai

_THEIRS = "httpx2"
_GOALS = [
    Goal("burst_cpu_vs_httpx2", "at most", 1.0),
    Goal("logprobs_cpu_vs_httpx2", "at most", 1.0),
    Goal("paced_cpu_vs_httpx2", "at most", 1.0),
    Goal("first_chunk_vs_httpx2", "at most", 1.0),
]
_BURST, _LOGPROBS, _PACED, _SHORT = "chat-500-0", "logprobs-500-0", "chat-100-2", "chat-3-0"
_STREAMS = 8  # in flight, where the chunks are paced
_CALLS = 30  # one after the other, for the first chunk


@attrs.frozen
class _Sample:
    burst: float  # CPU seconds per chunk
    logprobs: float  # the same
    paced: float  # the same
    first: float  # median of the seconds to the first chunk


@asynccontextmanager
async def _connect(name: str, url: str, endpoint: str) -> AsyncIterator[openai.AsyncOpenAI]:
    import openai  # noqa: PLC0415 - it need not be there

    if name == _THEIRS:
        async with openai.AsyncOpenAI(api_key="x", base_url=f"{url}/{endpoint}/v1") as ai:
            yield ai
        return
    async with (
        aiosmrt.SageMakerRuntimeClient(
            region_name="us-east-1",
            endpoint_url=url,
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret",
        ) as client,
        aiosmrt.openai.connect(client, endpoint_name=endpoint) as ai,
    ):
        yield ai


async def _read(ai: openai.AsyncOpenAI) -> tuple[int, float]:
    """Give how many chunks came, and the seconds to the first."""
    began, first, chunks = time.perf_counter(), 0.0, 0
    stream = await ai.chat.completions.create(
        model="", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    async for _ in stream:
        chunks += 1
        if chunks == 1:
            first = time.perf_counter() - began
    return chunks, first


async def _measure_cpu(ai: openai.AsyncOpenAI, streams: int) -> float:
    began = time.process_time()
    outcomes = await asyncio.gather(*(_read(ai) for _ in range(streams)))
    return (time.process_time() - began) / sum(chunks for chunks, _ in outcomes)


async def _measure(
    burst: openai.AsyncOpenAI,
    logprobs: openai.AsyncOpenAI,
    paced: openai.AsyncOpenAI,
    short: openai.AsyncOpenAI,
) -> _Sample:
    return _Sample(
        burst=await _measure_cpu(burst, 1),
        logprobs=await _measure_cpu(logprobs, 1),
        paced=await _measure_cpu(paced, _STREAMS),
        first=statistics.median([(await _read(short))[1] for _ in range(_CALLS)]),
    )


async def _ask(names: Sequence[str], url: str, rounds: int) -> dict[str, list[_Sample]]:
    async with AsyncExitStack() as stack:
        measures = {}
        for name in names:
            clients = [
                await stack.enter_async_context(_connect(name, url, endpoint))
                for endpoint in (_BURST, _LOGPROBS, _PACED, _SHORT)
            ]
            measures[name] = partial(_measure, *clients)
            await measures[name]()
        return await interleave(measures, rounds)


def main() -> None:
    options = parse_options(__doc__, rounds=11, peers=(_THEIRS,))
    print(__doc__.partition("\n")[0])
    if find_spec("openai") is None or find_spec("httpx2") is None:
        print("openai: skipped, it is not installed, or not on httpx2")
        return
    ratios: dict[str, Ratios] = {}
    names = (OURS, _THEIRS)
    with serve() as url:
        for loop in options.loops:
            samples = run(partial(_ask, names, url, options.rounds), loop)
            columns = {
                field: {name: [getattr(one, field) for one in samples[name]] for name in names}
                for field in ("burst", "logprobs", "paced", "first")
            }
            ratios[loop] = {
                f"{title}_vs_{_THEIRS}": ratio(columns[field][OURS], columns[field][_THEIRS])
                for field, title in (
                    ("burst", "burst_cpu"),
                    ("logprobs", "logprobs_cpu"),
                    ("paced", "paced_cpu"),
                    ("first", "first_chunk"),
                )
            }
            rows = [
                (
                    name,
                    *(f"{statistics.median(columns[field][name]) * 1e6:,.0f}" for field in columns),
                )
                for name in names
            ]
            cpu = [f"{name}: CPU µs/chunk" for name in ("burst", "logprobs", "paced")]
            head = (loop, *cpu, "first chunk: µs")
            print(f"\n{tabulate(head, rows)}")
    print_report("openai_sdk", ratios, _GOALS)


if __name__ == "__main__":
    main()
