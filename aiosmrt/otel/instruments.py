"""What is measured of calls: OpenTelemetry's instruments."""

from __future__ import annotations

from typing import Self

import attrs
from opentelemetry.metrics import Counter, Histogram, Meter, UpDownCounter

from aiosmrt.otel.gen_ai import GenAIInstruments

__all__ = ["Instruments"]

# The conventions of RPC end at 10 seconds; a model has 60, a stream eight minutes.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_LONG = (30, 60, 120, 300, 600)


@attrs.frozen(eq=False)
class Instruments:
    """The instruments of one meter."""

    duration: Histogram
    active: UpDownCounter
    retries: Counter
    slot_wait: Histogram
    model: GenAIInstruments  # of which none is exported that takes no measure

    @classmethod
    def of(cls, meter: Meter) -> Self:
        """Make them."""
        return cls(
            duration=meter.create_histogram(
                "rpc.client.call.duration",
                unit="s",
                description="How long a call took, with all attempts; a stream to its end.",
                explicit_bucket_boundaries_advisory=(*_SECONDS, *_LONG),
            ),
            active=meter.create_up_down_counter(
                "aiosmrt.client.active_calls",
                unit="{call}",
                description="Calls that have begun and not ended, open streams among them.",
            ),
            retries=meter.create_counter(
                "aiosmrt.client.retries",
                unit="{attempt}",
                description="Attempts that have failed, and were followed by another one.",
            ),
            slot_wait=meter.create_histogram(
                "aiosmrt.client.slot.wait_time",
                unit="s",
                description="How long a call waited for a place in the connection pool.",
                explicit_bucket_boundaries_advisory=(*_SECONDS, *_LONG),
            ),
            model=GenAIInstruments.of(meter),
        )
