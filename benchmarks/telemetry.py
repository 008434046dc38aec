"""InvokeEndpoint, instrumented by OpenTelemetry: what that adds to the CPU of a call.

    python -m benchmarks.telemetry

One client, and clients derived from it: as it is, once more as it is, instrumented where nobody
listens (the API's no-op providers, and none set), and with the SDK's spans, metrics and both. Spans
go through the SDK's batch processor to an exporter that drops them.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import aiosmrt
from aiosmrt import otel
from benchmarks.harness import (
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
from benchmarks.peers import Sample, Work
from benchmarks.peers import aiosmrt as ours

_WORK = Work("invoke", "bytes-1024")
_IN_FLIGHT = 8
_CALLS = 96  # of a sample: short ones, many of them, since what is looked for is small
_PLAIN = "plain"
_GOALS = [
    Goal("cpu_again_vs_plain", "at most", 1.01),
    Goal("cpu_noop_vs_plain", "at most", 1.03, 1.01),
    Goal("cpu_unset_vs_plain", "at most", 1.03, 1.01),
]


class _Dropped(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        return SpanExportResult.SUCCESS


def _derive(
    client: aiosmrt.SageMakerRuntimeClient,
    tracers: trace.TracerProvider | None,
    meters: metrics.MeterProvider | None,
) -> ours.Client:
    derived = client.with_options()
    otel.instrument(derived, tracer_provider=tracers, meter_provider=meters)
    return ours.Client(derived)


async def _measure(url: str, rounds: int) -> dict[str, list[Sample]]:
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(_Dropped()))
    meters = MeterProvider([InMemoryMetricReader()])
    no_tracers, no_meters = trace.NoOpTracerProvider(), metrics.NoOpMeterProvider()
    async with ours.connect(url, _IN_FLIGHT) as plain:
        client = plain.client
        peers = {
            _PLAIN: plain,
            "again": ours.Client(client.with_options()),
            "unset": _derive(client, None, None),
            "noop": _derive(client, no_tracers, no_meters),
            "spans": _derive(client, tracers, no_meters),
            "metrics": _derive(client, no_tracers, meters),
            "both": _derive(client, tracers, meters),
        }
        measures: dict[str, Callable[[], Awaitable[Sample]]] = {}
        for name, peer in peers.items():
            await peer.repeat(_WORK, _CALLS, _IN_FLIGHT)
            measures[name] = partial(peer.repeat, _WORK, _CALLS, _IN_FLIGHT)
        samples = await interleave(measures, rounds)
    tracers.shutdown()
    meters.shutdown()
    return samples


def main() -> None:
    options = parse_options(__doc__, rounds=101, peers=())
    print(__doc__.partition("\n")[0])
    ratios: dict[str, Ratios] = {}
    with serve() as url:
        for loop in options.loops:
            samples = run(partial(_measure, url, options.rounds), loop)
            costs = {n: [s.cpu / s.calls * 1e6 for s in found] for n, found in samples.items()}
            middle = {name: statistics.median(cost) for name, cost in costs.items()}
            ratios[loop] = {
                f"cpu_{name}_vs_{_PLAIN}": cost / middle[_PLAIN]
                for name, cost in middle.items()
                if name != _PLAIN
            }
            rows = [
                (
                    name,
                    f"{cost:,.1f}",
                    f"{cost - middle[_PLAIN]:+,.1f}",
                    f"{cost / middle[_PLAIN]:.3f}",
                    f"{ratio(costs[name], costs[_PLAIN]):.3f}",
                )
                for name, cost in middle.items()
            ]
            head = (loop, "CPU µs a call", "more", "of medians", "median of pairs")
            print(f"\n{tabulate(head, rows)}")
    print_report("telemetry", ratios, _GOALS)


if __name__ == "__main__":
    main()
