"""A burst of 1,000 events of 32 bytes in each response stream: events per second, CPU per event.

    python -m benchmarks.burst

All events of a stream come at once, each in a chunk of its own, as fast as the client reads; 32
streams in flight. Plain aiohttp reads the bytes and looks into none of them.
"""

from __future__ import annotations

from benchmarks.harness import Goal
from benchmarks.peers import Work
from benchmarks.throughput import ask

_EVENTS = 1000

if __name__ == "__main__":
    ask(
        "burst",
        __doc__.partition("\n")[0],
        work=Work("stream", f"burst-{_EVENTS}-32"),
        unit="events",
        per_call=_EVENTS,
        goals=[
            Goal("events_per_second_vs_aiobotocore", "at least", 5, 7),
            Goal("events_per_second_vs_capo", "at least", 4.5, 7),
            Goal("cpu_vs_aiohttp", "at most", 2.2, 1.7),
            Goal("tls_cpu_vs_aiohttp", "at most", 2.2, 1.7),
        ],
    )
