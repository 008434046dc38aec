"""One span and the measures of each call, made of what hooks are told."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TypeVar

import attrs
from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from aiosmrt.hooks import BeforeSend, Hooks, OnEnd, OnFirstPart, OnParts, OnStart
from aiosmrt.otel.attributes import (
    ERROR_TYPE,
    Attributes,
    Names,
    bound_error_type,
    describe_attempt,
    describe_end,
    describe_server,
    describe_start,
    find_error_type,
)
from aiosmrt.otel.gen_ai import (
    describe_model_call,
    find_operation,
    read_usage,
)
from aiosmrt.otel.instruments import Instruments

__all__ = ["Observer"]

_log = logging.getLogger("aiosmrt")

_CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
_LONGEST = 1024  # characters of them

E = TypeVar("E")


@attrs.define(eq=False)
class _Observed:
    """A call that goes on."""

    names: Names
    inner: context.Context | None = None  # in which the call's span is current
    outer: context.Context | None = None  # what was current before, until that is restored
    # Of a stream, seconds since its call began.
    first_at: float | None = None
    last_at: float = 0.0


def _never_fails(
    station: Callable[[Observer, E], None],
) -> Callable[[Observer, E], None]:
    """Have a call go on without telemetry, where that fails."""

    @functools.wraps(station)
    def tell(observer: Observer, event: E) -> None:
        try:
            station(observer, event)
        except Exception:  # noqa: BLE001 - whatever a provider raises
            _log.exception("telemetry failed; the call goes on without it")

    return tell


@attrs.define(eq=False)
class Observer:
    """Makes spans and metrics of calls.

    Args:
        tracer: makes the spans; `None` where nobody wants any.
        instruments: take the measures; `None` where nobody wants any.
        propagate: whether the model is told of the trace.
        gen_ai: whether more is said of streams that are read as a language model's.
    """

    _tracer: trace.Tracer | None
    _instruments: Instruments | None
    _propagate: bool
    _gen_ai: bool
    _calls: dict[str, _Observed] = attrs.field(factory=dict, init=False)

    @property
    def hooks(self) -> Hooks:
        """What tells this of calls."""
        return Hooks(
            on_start=self._begin,
            before_send=self._add_trace if self._propagate and self._tracer is not None else None,
            on_first_part=None if self._tracer is None else self._open,
            on_parts=self._note_parts if self._gen_ai else None,
            on_end=self._end,
        )

    @_never_fails
    def _begin(self, event: OnStart) -> None:
        call = self._calls[event.call_id] = _Observed(describe_start(event))
        try:
            if self._instruments is not None:
                self._instruments.active.add(1, call.names.dimensions)
        finally:  # neither is lost to the other
            if self._tracer is not None:
                span = self._tracer.start_span(
                    call.names.span, kind=trace.SpanKind.CLIENT, attributes=call.names.attributes
                )
                call.outer = context.get_current()
                call.inner = trace.set_span_in_context(span)
                context.attach(call.inner)

    @_never_fails
    def _add_trace(self, event: BeforeSend) -> None:
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, self._calls[event.call_id].inner)
        parent = carrier.get("traceparent")
        given = event.headers.get(_CUSTOM_ATTRIBUTES)
        joined = f"{given},traceparent={parent}" if given else f"traceparent={parent}"
        if parent is not None and len(joined) <= _LONGEST:
            event.headers[_CUSTOM_ATTRIBUTES] = joined

    @_never_fails
    def _open(self, event: OnFirstPart) -> None:
        """Let the span of a stream not be current any longer: what follows is the program's."""
        _restore(self._calls[event.call_id])

    @_never_fails
    def _note_parts(self, event: OnParts) -> None:
        call = self._calls[event.call_id]
        operation = find_operation(event.view)
        if call.first_at is None:
            call.first_at = event.elapsed
        elif operation is not None and self._instruments is not None:
            self._instruments.model.time_per_chunk.record(
                event.elapsed - call.last_at, _describe_model_call(call, operation, None)
            )
        call.last_at = event.elapsed

    def _end(self, event: OnEnd) -> None:
        call = self._calls.pop(event.call_id, None)
        if call is None:
            return
        _restore(call)
        operation = find_operation(event.view) if self._gen_ai else None
        try:
            if self._instruments is not None:
                self._measure(self._instruments, event, call)
                if operation is not None:
                    described = _describe_model_call(call, operation, event)
                    self._instruments.model.measure(event, described, call.first_at)
        finally:
            if call.inner is not None:
                _end_span(trace.get_current_span(call.inner), event, call, operation)

    def _measure(self, instruments: Instruments, event: OnEnd, call: _Observed) -> None:
        dimensions = call.names.dimensions
        instruments.active.add(-1, dimensions)
        ended: Attributes = {**dimensions, "aiosmrt.outcome": event.outcome}
        ended |= describe_server(event.origin)
        error_type = find_error_type(event)
        if error_type is not None:
            ended[ERROR_TYPE] = error_type
        instruments.duration.record(event.elapsed, ended, call.inner)
        if event.attempts:
            waited = sum(attempt.slot_wait for attempt in event.attempts)
            instruments.slot_wait.record(waited, dimensions, call.inner)
        for attempt in event.attempts:
            if attempt.delay is not None and attempt.error is not None:
                why = {**dimensions, ERROR_TYPE: bound_error_type(attempt.error)}
                instruments.retries.add(1, why, call.inner)


def _describe_model_call(call: _Observed, operation: str, event: OnEnd | None) -> Attributes:
    described = describe_model_call(operation, call.names.endpoint_name)
    if event is not None:
        described |= describe_server(event.origin)
        error_type = find_error_type(event)
        if error_type is not None:
            described[ERROR_TYPE] = error_type
    return described


def _end_span(span: trace.Span, event: OnEnd, call: _Observed, operation: str | None) -> None:
    if span.is_recording():
        span.set_attributes(describe_end(event))
        if operation is not None:
            span.set_attributes(describe_model_call(operation, call.names.endpoint_name))
            span.set_attribute("gen_ai.request.stream", True)  # noqa: FBT003 - an attribute
            span.set_attributes(read_usage(event.usage))
            if call.first_at is not None:
                span.set_attribute("gen_ai.response.time_to_first_chunk", call.first_at)
        for attempt in event.attempts:
            began = int(attempt.started_at.timestamp() * 1e9)
            span.add_event("aiosmrt.attempt", describe_attempt(attempt), began)
        if find_error_type(event) is not None:
            span.set_status(trace.StatusCode.ERROR, getattr(event.error, "public_text", None))
    span.end()


def _restore(call: _Observed) -> None:
    """Make current what was so before the call, unless that ends elsewhere."""
    outer, call.outer = call.outer, None
    # Not by the token of what was attached: a dropped call ends in a context of its own.
    if outer is not None and trace.get_current_span() is trace.get_current_span(call.inner):
        context.attach(outer)
