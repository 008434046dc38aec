"""InvokeEndpoint: calls per second and CPU per call, 1 KiB there, 1 KiB back, 32 in flight.

python -m benchmarks.invoke
"""

from __future__ import annotations

from benchmarks.harness import Goal
from benchmarks.peers import Work
from benchmarks.throughput import ask

if __name__ == "__main__":
    ask(
        "invoke",
        __doc__.partition("\n")[0],
        work=Work("invoke", "bytes-1024"),
        unit="calls",
        goals=[
            Goal("calls_per_second_vs_aiobotocore", "at least", 5.5, 7),
            Goal("calls_per_second_vs_capo", "at least", 4, 5),
            Goal("cpu_vs_aiohttp", "at most", 1.15, 1),
            Goal("tls_cpu_vs_aiohttp", "at most", 1.05),
        ],
    )
