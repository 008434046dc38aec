"""Whom to tell of a call: asked at each one, since who listens may come later."""

from __future__ import annotations

import logging
import math
import os
import time

import attrs
from opentelemetry import metrics, trace

from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.hooks import Hooks
from aiosmrt.otel.gen_ai import OPT_IN
from aiosmrt.otel.instruments import Instruments
from aiosmrt.otel.observer import Observer
from aiosmrt.version import __version__

__all__ = ["Telemetry", "instrument"]

_log = logging.getLogger("aiosmrt")

# Of the conventions whose names these are.
_SCHEMA = "https://opentelemetry.io/schemas/1.44.0"

# Seconds. As long as a process has set none, the API looks for its name in the environment each
# time, which would be most of what telemetry costs that nobody wants.
_LOOK_AGAIN = 0.1


def _opts_in() -> bool:
    chosen = os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").split(",")
    return OPT_IN in (one.strip() for one in chosen)


@attrs.define(eq=False)
class Telemetry:
    """Whom a client asks at each call whether anybody listens; mostly, nothing has changed.

    Args:
        tracer_provider: where spans go; `None` is the process's own.
        meter_provider: where metrics go; `None` is the process's own.
        propagate: whether the model is told of the trace.
    """

    _tracer_provider: trace.TracerProvider | None = None
    _meter_provider: metrics.MeterProvider | None = None
    _propagate: bool = attrs.field(default=False, kw_only=True)
    _gen_ai: bool = attrs.field(factory=_opts_in, init=False)
    _seen: tuple[object, object] = attrs.field(default=(None, None), init=False)
    _hooks: Hooks | None = attrs.field(default=None, init=False)
    _looks_again: float = attrs.field(default=0.0, init=False)

    def find_hooks(self) -> Hooks | None:
        """Give whom to tell of a call that begins now; `None` where nobody listens."""
        if self._hooks is None:
            now = time.monotonic()
            if now < self._looks_again:
                return None
            self._looks_again = now + _LOOK_AGAIN
        try:
            return self._look()
        except Exception:  # noqa: BLE001 - whatever a provider raises
            _log.exception("telemetry failed; calls go on without it from now on")
            self._hooks, self._looks_again = None, math.inf
            return None

    def _look(self) -> Hooks | None:
        tracers = self._tracer_provider or trace.get_tracer_provider()
        meters = self._meter_provider or metrics.get_meter_provider()
        seen = self._seen
        if tracers is not seen[0] or meters is not seen[1]:
            self._hooks = self._choose_hooks(tracers, meters)
            self._seen = tracers, meters
        return self._hooks

    def _choose_hooks(
        self, tracers: trace.TracerProvider, meters: metrics.MeterProvider
    ) -> Hooks | None:
        tracer = tracers.get_tracer("aiosmrt", __version__, _SCHEMA)
        meter = meters.get_meter("aiosmrt", __version__, _SCHEMA)
        if _is_idle(tracer) and _is_idle(meter):
            return None
        return Observer(
            tracer=None if _is_idle(tracer) else tracer,
            instruments=None if _is_idle(meter) else Instruments.of(meter),
            propagate=self._propagate,
            gen_ai=self._gen_ai,
        ).hooks


def instrument(
    client: SageMakerRuntimeClient,
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    propagate: bool = False,
) -> None:
    """Have each call of a client, and of those derived from it later on, be a span and metrics.

    A client that is instrumented already is instrumented anew.

    Args:
        client: whose calls they are; its hooks stay as they are.
        tracer_provider: where spans go; `None` is the process's own. It may be set later: for as
            long as there is none, it is looked for ten times a second.
        meter_provider: where metrics go; `None` is the process's own.
        propagate: whether the model is to know the trace: `traceparent=…` is put into the custom
            attributes of each request, behind those of the call and a comma, as far as 1,024
            characters reach. They are the only header of the caller's that SageMaker lets through.
    """
    telemetry = Telemetry(tracer_provider, meter_provider, propagate=propagate)
    client._builder.telemetry = telemetry  # noqa: SLF001 - only this has it observed


def _is_idle(source: object) -> bool:
    """Tell whether that is of the API, whose own classes do nothing."""
    return source.__class__.__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))
