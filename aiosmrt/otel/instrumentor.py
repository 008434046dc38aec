"""What `opentelemetry-instrument` calls: every client of the process is instrumented."""

from __future__ import annotations

from collections.abc import Collection

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from aiosmrt.calls import CallBuilder
from aiosmrt.otel.telemetry import Telemetry

__all__ = ["AiosmrtInstrumentor"]


class AiosmrtInstrumentor(BaseInstrumentor):
    """Has the calls of all clients of the process be spans and metrics."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Tell what is instrumented, which is where this is."""
        return ()

    def _instrument(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        propagate: bool = False,
        **_: object,
    ) -> None:
        telemetry = Telemetry(tracer_provider, meter_provider, propagate=propagate)
        CallBuilder.every_telemetry = telemetry

    def _uninstrument(self, **_: object) -> None:
        CallBuilder.every_telemetry = None
