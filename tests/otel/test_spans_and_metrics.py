"""Spans and metrics of calls, as OpenTelemetry's SDK collects them in memory."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from opentelemetry import context, metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import aiosmrt
from aiosmrt import otel
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure

if TYPE_CHECKING:
    from tests.conftest import Connect, EventStreams, Serve, Until

DURATION = "rpc.client.call.duration"
ACTIVE = "aiosmrt.client.active_calls"
RETRIES = "aiosmrt.client.retries"
SLOT_WAIT = "aiosmrt.client.slot.wait_time"
_ONCE = aiosmrt.RetryPolicy(max_attempts=1)


class Collected:
    """What was exported."""

    def __init__(self, sampler: sampling.Sampler = sampling.ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)

    def instrument(
        self, client: aiosmrt.SageMakerRuntimeClient, *, propagate: bool = False
    ) -> None:
        otel.instrument(
            client,
            tracer_provider=self.tracers,
            meter_provider=self.meters,
            propagate=propagate,
        )

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, those of calls and of this file."""
        return list(self._exporter.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        """The only one."""
        (span,) = self.spans
        return span

    def measure(self, name: str) -> dict[str, tuple[Mapping[str, Any], float]]:
        """Give the points of a metric: by the error, or the outcome, their dimensions and count."""
        data = self._reader.get_metrics_data()
        found: dict[str, tuple[Mapping[str, Any], float]] = {}
        for resource in [] if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points if metric.name == name else ():
                        named = dict(point.attributes or {})
                        key = named.get("error.type") or named.get("aiosmrt.outcome") or ""
                        value: Any = getattr(point, "count", None) or getattr(point, "value", 0)
                        found[str(key)] = named, value
        return found

    def count(self, name: str) -> dict[str, float]:
        return {key: value for key, (_, value) in self.measure(name).items()}

    def shutdown(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()


@pytest.fixture
def collected() -> Iterator[Collected]:
    made = Collected()
    yield made
    made.shutdown()


_CHAT = [
    b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n',
    b'data: {"choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}]}\n\n',
    (
        b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, '
        b'"prompt_tokens_details": {"cached_tokens": 5}, '
        b'"completion_tokens_details": {"reasoning_tokens": "many"}}}\n\n'
    ),
    b"data: [DONE]\n\n",
]


async def _chat() -> AsyncIterator[bytes]:
    for part in _CHAT:
        yield part
        await asyncio.sleep(0.01)


def _model(request: InvocationRequest) -> object:
    if request.accept == "text/event-stream":
        return _chat()
    if request.body.startswith(b"fail"):
        raise ModelFailure(418, "the prompt was SECRET")
    if request.operation == "InvokeEndpointWithResponseStream":
        return iter([b"once ", b"upon ", b"a time"])
    return {"ok": True}


@pytest_asyncio.fixture
async def endpoint() -> AsyncIterator[LocalEndpoint]:
    async with LocalEndpoint(_model) as local:
        yield local


@pytest_asyncio.fixture
async def client(
    endpoint: LocalEndpoint, collected: Collected
) -> AsyncIterator[aiosmrt.SageMakerRuntimeClient]:
    async with endpoint.client() as made:
        collected.instrument(made)
        yield made


def _describe(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.mark.asyncio
async def test_a_call_is_a_client_span(
    client: aiosmrt.SageMakerRuntimeClient, endpoint: LocalEndpoint, collected: Collected
) -> None:
    response = await client.invoke_endpoint(endpoint_name="my-llm", body="x")
    span = collected.span
    assert span.name == "SageMaker Runtime.InvokeEndpoint"
    assert span.kind is trace.SpanKind.CLIENT
    assert span.status.status_code is trace.StatusCode.UNSET
    described = _describe(span)
    port = int(endpoint.url.rpartition(":")[2])
    expected = {
        "rpc.system": "aws-api",
        "rpc.system.name": "aws-api",
        "rpc.service": "SageMaker Runtime",
        "rpc.method": "SageMaker Runtime/InvokeEndpoint",
        "aws.sagemaker.endpoint.name": "my-llm",
        "aws.sagemaker.production_variant.name": response.invoked_production_variant,
        "aws.request_id": response.metadata.request_id,
        "cloud.region": client.region_name,
        "server.address": "127.0.0.1",
        "server.port": port,
        "http.response.status_code": 200,
        "aiosmrt.outcome": "ok",
        "aiosmrt.attempts": 1,
        "aiosmrt.slot_wait": response.metadata.slot_wait,
        "aiosmrt.time_to_first_byte": response.metadata.time_to_first_byte,
    }
    assert described.pop("aiosmrt.call_id")
    assert described == expected
    (event,) = span.events
    assert event.name == "aiosmrt.attempt"
    assert event.attributes is not None
    assert event.attributes["aiosmrt.attempt.number"] == 1
    assert span.start_time is not None
    assert event.timestamp >= span.start_time - 1_000_000  # of two clocks
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "aiosmrt"
    assert span.instrumentation_scope.version == aiosmrt.__version__


@pytest.mark.asyncio
async def test_a_call_is_measured(
    client: aiosmrt.SageMakerRuntimeClient, endpoint: LocalEndpoint, collected: Collected
) -> None:
    await client.invoke_endpoint(endpoint_name="my-llm", body="x")
    with pytest.raises(aiosmrt.ModelError):
        await client.invoke_endpoint(endpoint_name="my-llm", body="fail")
    common = {
        "rpc.system.name": "aws-api",
        "rpc.method": "SageMaker Runtime/InvokeEndpoint",
        "aws.sagemaker.endpoint.name": "my-llm",
    }
    server = {"server.address": "127.0.0.1", "server.port": int(endpoint.url.rpartition(":")[2])}
    assert collected.measure(DURATION) == {
        "ok": ({**common, **server, "aiosmrt.outcome": "ok"}, 1),
        "ModelError": (
            {**common, **server, "aiosmrt.outcome": "error", "error.type": "ModelError"},
            1,
        ),
    }
    assert collected.measure(SLOT_WAIT) == {"": (common, 2)}
    assert collected.measure(ACTIVE) == {"": (common, 0)}
    assert collected.measure(RETRIES) == {}


@pytest.mark.asyncio
async def test_a_failure_says_its_type_and_nothing_of_what_was_said(
    client: aiosmrt.SageMakerRuntimeClient, collected: Collected
) -> None:
    with pytest.raises(aiosmrt.ModelError):
        await client.invoke_endpoint(
            endpoint_name="e", body="fail PRIVATE", custom_attributes="tenant=HIDDEN"
        )
    span = collected.span
    described = _describe(span)
    assert described["error.type"] == "ModelError"
    assert described["aws.sagemaker.original_status_code"] == 418
    assert described["http.response.status_code"] == 424
    assert described["aiosmrt.may_have_run"] is True
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description == f"ModelError (request id {described['aws.request_id']})"
    shown = span.to_json()
    for secret in ("SECRET", "PRIVATE", "HIDDEN", "local-secret"):
        assert secret not in shown


@pytest.mark.asyncio
async def test_attempts_are_events(
    serve: Serve,
    events: type[EventStreams],
    respond: Callable[..., bytes],
    connect: Connect,
    collected: Collected,
) -> None:
    busy = respond(503, b"", **{"x-amzn-requestid": "1-1-1"})
    async with (
        serve(events.play_in_turn(busy, busy, respond(200, b"fine"))) as server,
        connect(server, retry=aiosmrt.RetryPolicy(base_delay=0)) as client,
    ):
        collected.instrument(client)
        await client.invoke_endpoint(endpoint_name="e", body="x")
    span = collected.span
    assert _describe(span)["aiosmrt.attempts"] == 3
    assert [event.name for event in span.events] == ["aiosmrt.attempt"] * 3
    first, _, last = [dict(event.attributes or {}) for event in span.events]
    assert first["http.response.status_code"] == 503
    assert first["aws.request_id"] == "1-1-1"
    assert first["aiosmrt.attempt.may_have_run"] is False
    assert "aiosmrt.attempt.delay" in first
    assert "error.type" not in last
    assert collected.count(RETRIES) == {str(first["error.type"]): 2}
    assert collected.count(DURATION) == {"ok": 1}


@pytest.mark.asyncio
async def test_what_is_refused_before_it_is_sent_is_a_span(
    client: aiosmrt.SageMakerRuntimeClient, collected: Collected
) -> None:
    mistaken: Any = client
    with pytest.raises(aiosmrt.ParameterError):
        await client.invoke_endpoint(endpoint_name="no such name!", body="x")
    with pytest.raises(TypeError):
        mistaken.invoke_endpoint_with_response_stream(endpoint_name="e", bodi=b"")
    assert [_describe(span)["error.type"] for span in collected.spans] == [
        "ParameterError",
        "TypeError",
    ]
    measured = collected.measure(DURATION)
    # What is no name makes no series of its own.
    assert measured["ParameterError"][0]["aws.sagemaker.endpoint.name"] == "_OTHER"
    assert collected.count(ACTIVE) == {"": 0}


TTFC = "gen_ai.client.operation.time_to_first_chunk"
TPOC = "gen_ai.client.operation.time_per_output_chunk"
MODEL_DURATION = "gen_ai.client.operation.duration"
TOKENS = "gen_ai.client.token.usage"


async def _read_chat(client: aiosmrt.SageMakerRuntimeClient, view: str) -> None:
    async with client.invoke_endpoint_with_response_stream(
        endpoint_name="my-llm", body=b"x", accept="text/event-stream"
    ) as stream:
        if view == "chat":
            assert [chunk.text async for chunk in stream.iter_chat()] == ["a", "b", ""]
        elif view == "events":
            assert len([event async for event in stream.iter_events()]) == 4
        else:
            assert [token async for token in stream.iter_tokens(view)] == ["a", "b"]


@pytest.mark.parametrize(
    ("opted_in", "view", "operation"),
    [
        (True, "chat", "chat"),
        (True, "openai-chat", "chat"),
        (True, "choices[0].delta.content || ''", "text_completion"),
        (True, "events", None),
        (False, "chat", None),
    ],
)
@pytest.mark.asyncio
async def test_more_is_said_of_a_models_stream_where_that_is_asked_for(
    *,
    opted_in: bool,
    view: str,
    operation: str | None,
    endpoint: LocalEndpoint,
    collected: Collected,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if opted_in:
        monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http, gen_ai_latest_experimental")
    async with endpoint.client() as client:
        collected.instrument(client)
        await _read_chat(client, view)
    span = collected.span
    assert span.name == "SageMaker Runtime.InvokeEndpointWithResponseStream"
    described = {
        name: value for name, value in _describe(span).items() if name.startswith("gen_ai.")
    }
    if operation is None:
        assert described == {}
        assert not any(map(collected.measure, (TTFC, TPOC, MODEL_DURATION, TOKENS)))
        return
    common = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "aws.sagemaker",
        "gen_ai.request.model": "my-llm",
    }
    told = {
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 5,
    }
    assert 0 < described.pop("gen_ai.response.time_to_first_chunk") < 5
    assert described == common | {"gen_ai.request.stream": True} | (told if view == "chat" else {})
    server = {name: value for name, value in _describe(span).items() if name.startswith("server.")}
    assert collected.measure(MODEL_DURATION) == {"": (common | server, 1)}
    assert collected.measure(TTFC) == {"": (common | server, 1)}
    (between,) = collected.measure(TPOC).values()
    assert between[0] == common
    assert 1 <= between[1] <= 3  # what comes at once is one
    assert bool(collected.measure(TOKENS)) == (view == "chat")


@pytest.mark.asyncio
async def test_what_is_left_early_is_measured_as_far_as_it_came(
    endpoint: LocalEndpoint, collected: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    async with endpoint.client() as client:
        collected.instrument(client)
        async with client.invoke_endpoint_with_response_stream(
            endpoint_name="my-llm", body=b"x", accept="text/event-stream"
        ) as stream:
            await anext(aiter(stream.iter_chat()))
    assert collected.count(MODEL_DURATION) == {"": 1}
    assert collected.count(TTFC) == {"": 1}
    assert collected.count(TOKENS) == {}


async def _finish(stream: aiosmrt.ResponseStream) -> None:
    await stream.read()
    await stream.aclose()


async def _leave(stream: aiosmrt.ResponseStream) -> None:
    await anext(stream)
    await stream.aclose()


async def _drop(stream: aiosmrt.ResponseStream) -> None:
    await anext(stream)


@pytest.mark.parametrize(
    ("read", "outcome", "parts"), [(_finish, "ok", 3), (_leave, "left", 1), (_drop, "left", 1)]
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.asyncio
async def test_the_span_of_a_stream_ends_when_that_ends(
    *,
    read: Callable[[aiosmrt.ResponseStream], Any],
    outcome: str,
    parts: int,
    client: aiosmrt.SageMakerRuntimeClient,
    collected: Collected,
    until: Until,
) -> None:
    stream = await client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x")
    assert collected.spans == []
    assert collected.count(ACTIVE) == {"": 1}
    await read(stream)
    del stream
    gc.collect()
    await until(lambda: bool(collected.spans))
    described = _describe(collected.span)
    assert described["aiosmrt.outcome"] == outcome
    assert described["aiosmrt.parts_received"] == parts
    assert "error.type" not in described
    assert collected.span.status.status_code is trace.StatusCode.UNSET
    assert collected.count(DURATION) == {outcome: 1}
    assert collected.count(ACTIVE) == {"": 0}


@pytest.mark.asyncio
async def test_the_span_of_a_stream_that_is_cut_has_its_error(
    serve: Serve, events: type[EventStreams], connect: Connect, collected: Collected
) -> None:
    cut = events.play(events.head(), events.chunk(events.part(b"once")), events.close)
    async with serve(cut) as server, connect(server) as client:
        collected.instrument(client)
        async with events.open(client) as stream:
            assert await events.read_to_fault(stream)
            assert _describe(collected.span)["error.type"] == "StreamConnectionLost"
    assert _describe(collected.span)["aiosmrt.parts_received"] == 1
    assert collected.span.status.status_code is trace.StatusCode.ERROR


@pytest.mark.asyncio
async def test_a_cancelled_call_is_one(
    serve: Serve, events: type[EventStreams], connect: Connect, collected: Collected
) -> None:
    async with serve(events.hang) as server, connect(server) as client:
        collected.instrument(client)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.invoke_endpoint(endpoint_name="e", body=b"x")
        # What comes behind is not within it.
        assert trace.get_current_span() is trace.INVALID_SPAN
    assert _describe(collected.span)["error.type"] == "cancelled"
    assert collected.span.status.status_code is trace.StatusCode.ERROR
    assert collected.count(DURATION) == {"cancelled": 1}


@pytest.mark.asyncio
async def test_a_span_is_within_what_was_current_and_current_for_what_is_within(
    client: aiosmrt.SageMakerRuntimeClient, collected: Collected
) -> None:
    tracer = collected.tracers.get_tracer("test")

    def note(event: object) -> None:
        tracer.start_span(type(event).__name__).end()

    hooked = client.with_options(
        hooks=aiosmrt.Hooks(on_start=note, after_headers=note, on_end=note)
    )
    with tracer.start_as_current_span("outer"):
        await hooked.invoke_endpoint(endpoint_name="e", body=b"x")
        tracer.start_span("after").end()
    spans = {span.name: span for span in collected.spans}
    call, outer = spans["SageMaker Runtime.InvokeEndpoint"], spans["outer"]
    assert call.parent == outer.context
    assert spans["after"].parent == outer.context
    for name in ("OnStart", "AfterHeaders", "OnEnd"):
        assert spans[name].parent == call.context


@pytest.mark.asyncio
async def test_what_reads_a_stream_is_not_within_its_span(
    client: aiosmrt.SageMakerRuntimeClient, collected: Collected
) -> None:
    before = context.get_current()

    async def read(stream: aiosmrt.ResponseStream) -> None:
        await stream.read()

    with trace.use_span(trace.INVALID_SPAN):
        opened = client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x")
        async with opened as stream:
            assert trace.get_current_span() is trace.INVALID_SPAN
            await asyncio.create_task(read(stream))  # ends it in a context of its own
            assert trace.get_current_span() is trace.INVALID_SPAN
    assert context.get_current() is before
    assert len(collected.spans) == 1


@pytest.mark.asyncio
async def test_calls_at_a_time_are_told_apart(
    client: aiosmrt.SageMakerRuntimeClient, collected: Collected
) -> None:
    tracer = collected.tracers.get_tracer("test")

    async def ask(number: int) -> None:
        with tracer.start_as_current_span(f"e{number}"):
            await client.invoke_endpoint(endpoint_name=f"e{number}", body=b"x")

    await asyncio.gather(*map(ask, range(20)))
    parents = {span.context.span_id: span.name for span in collected.spans if span.context}
    calls = [span for span in collected.spans if span.kind is trace.SpanKind.CLIENT]
    assert len(calls) == 20
    for span in calls:
        assert span.parent is not None
        assert parents[span.parent.span_id] == _describe(span)["aws.sagemaker.endpoint.name"]


@pytest.mark.asyncio
async def test_what_traces_aiohttp_is_within_the_span_of_a_call(
    endpoint: LocalEndpoint, collected: Collected
) -> None:
    of_aiohttp: Any = pytest.importorskip("opentelemetry.instrumentation.aiohttp_client")
    instrumentor = of_aiohttp.AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=collected.tracers)
    try:
        async with endpoint.client() as client:
            collected.instrument(client)
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
            async with client.invoke_endpoint_with_response_stream(
                endpoint_name="e", body=b"x"
            ) as stream:
                await stream.read()
                assert trace.get_current_span() is trace.INVALID_SPAN
    finally:
        instrumentor.uninstrument()
    requests = [span for span in collected.spans if span.name == "POST"]
    calls = [span for span in collected.spans if span.name != "POST"]
    assert [span.parent for span in requests] == [span.context for span in calls]
    assert [span.parent for span in calls] == [None, None]


@pytest.mark.asyncio
async def test_requests_to_s3_are_spans_of_their_own(
    client: aiosmrt.SageMakerRuntimeClient, collected: Collected
) -> None:
    invocation = await client.invoke_endpoint_async(
        endpoint_name="e", body=b"x" * 200_000, s3_input_prefix="s3://aiosmrt-local/in/"
    )
    await invocation.result(timeout=10)
    spans = {span.name: span for span in collected.spans}
    put, call = spans["S3.PutObject"], spans["SageMaker Runtime.InvokeEndpointAsync"]
    assert put.parent == call.context
    described = _describe(put)
    assert described["aws.s3.bucket"] == "aiosmrt-local"
    assert described["aws.s3.key"].startswith("in/")
    assert described["rpc.method"] == "S3/PutObject"
    assert "aws.sagemaker.endpoint.name" not in described
    assert spans["S3.GetObject"].parent is None
    # A key is no dimension.
    dimensions = [named for named, _ in collected.measure(DURATION).values()]
    assert not [named for named in dimensions if "aws.s3.key" in named]


@pytest.mark.parametrize(
    ("given", "sent"),
    [(None, "traceparent={}"), ("a=b", "a=b,traceparent={}"), ("x" * 1000, "x" * 1000)],
)
@pytest.mark.asyncio
async def test_a_trace_goes_on_in_the_model_where_that_is_asked_for(
    *, given: str | None, sent: str, endpoint: LocalEndpoint, collected: Collected
) -> None:
    async with endpoint.client() as client:
        collected.instrument(client, propagate=True)
        # The endpoint checks the signature, which that is in.
        await client.invoke_endpoint(endpoint_name="e", body=b"x", custom_attributes=given)
    span = collected.span.context
    assert span is not None
    parent = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
    assert endpoint.requests[0].custom_attributes == sent.format(parent)


@pytest.mark.asyncio
async def test_a_trace_stands_behind_what_a_hook_has_set(
    endpoint: LocalEndpoint, collected: Collected
) -> None:
    def add(event: aiosmrt.BeforeSend) -> None:
        event.headers["x-amzn-sagemaker-custom-attributes"] = "tenant=7"

    async with endpoint.client(hooks=aiosmrt.Hooks(before_send=add)) as client:
        collected.instrument(client, propagate=True)
        await client.invoke_endpoint(endpoint_name="e", body=b"x")
    assert (endpoint.requests[0].custom_attributes or "").startswith("tenant=7,traceparent=00-")


@pytest.mark.parametrize("propagate", [False, True])
@pytest.mark.asyncio
async def test_no_other_header_tells_of_a_trace(
    *,
    propagate: bool,
    serve: Serve,
    events: type[EventStreams],
    respond: Callable[..., bytes],
    connect: Connect,
    collected: Collected,
) -> None:
    async with serve(events.play(respond(200, b"fine"))) as server, connect(server) as client:
        collected.instrument(client, propagate=propagate)
        await client.invoke_endpoint(endpoint_name="e", body=b"x")
        (request,) = server.requests
    assert ("x-amzn-sagemaker-custom-attributes" in request.headers) == propagate
    known = {"traceparent", "tracestate", "baggage", "b3", "x-amzn-trace-id"}
    assert not known & request.headers.keys()


@pytest.mark.asyncio
async def test_what_is_not_sampled_is_measured_all_the_same(endpoint: LocalEndpoint) -> None:
    collected = Collected(sampling.ALWAYS_OFF)
    async with endpoint.client() as client:
        collected.instrument(client)
        await client.invoke_endpoint(endpoint_name="e", body=b"x")
    assert collected.spans == []
    assert collected.count(DURATION) == {"ok": 1}
    collected.shutdown()


@pytest.mark.asyncio
async def test_spans_and_metrics_can_be_had_alone(
    endpoint: LocalEndpoint, collected: Collected
) -> None:
    async with endpoint.client() as client:
        otel.instrument(
            client,
            tracer_provider=collected.tracers,
            meter_provider=metrics.NoOpMeterProvider(),
        )
        await client.invoke_endpoint(endpoint_name="e", body=b"x")
        assert len(collected.spans) == 1
        otel.instrument(
            client,
            tracer_provider=trace.NoOpTracerProvider(),
            meter_provider=collected.meters,
        )
        await client.invoke_endpoint(endpoint_name="e", body=b"x")
    assert len(collected.spans) == 1
    assert collected.count(DURATION) == {"ok": 1}


@pytest.mark.asyncio
async def test_a_client_that_is_instrumented_twice_is_so_once(
    client: aiosmrt.SageMakerRuntimeClient, collected: Collected
) -> None:
    collected.instrument(client)
    await client.with_options(hooks=None).invoke_endpoint(endpoint_name="e", body=b"x")
    assert len(collected.spans) == 1
    assert collected.count(DURATION) == {"ok": 1}


@pytest.mark.asyncio
async def test_nobody_is_told_where_nobody_listens(endpoint: LocalEndpoint) -> None:
    async with endpoint.client() as client:
        otel.instrument(
            client,
            tracer_provider=trace.NoOpTracerProvider(),
            meter_provider=metrics.NoOpMeterProvider(),
        )
        assert client._builder.find_hooks() is None
        otel.instrument(client)  # and no provider was set in this process
        assert client._builder.find_hooks() is None
        await client.invoke_endpoint(endpoint_name="e", body=b"x")


class _Broken(sampling.Sampler):
    def should_sample(self, *_: object, **__: object) -> sampling.SamplingResult:
        raise OSError("no sampler")

    def get_description(self) -> str:
        return "broken"


@pytest.mark.asyncio
async def test_a_call_goes_on_without_telemetry_that_fails(
    endpoint: LocalEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    collected = Collected(_Broken())
    async with endpoint.client() as client:
        collected.instrument(client, propagate=True)
        response = await client.invoke_endpoint(endpoint_name="e", body=b"x")
        async with client.invoke_endpoint_with_response_stream(
            endpoint_name="e", body=b"x"
        ) as stream:
            await stream.read()
    assert response.json() == {"ok": True}
    assert "no sampler" in caplog.text
    collected.shutdown()


class _NoMeters(metrics.NoOpMeterProvider):
    def get_meter(self, *_: Any, **__: Any) -> metrics.Meter:
        raise OSError("no meter")


class _BrokenInstrument:
    def __init__(self, *_: object, **__: object) -> None:
        pass

    def add(self, *_: object) -> None:
        raise OSError("no measure")

    record = add


class _BrokenMeter(metrics.NoOpMeter):
    create_histogram = create_counter = create_up_down_counter = _BrokenInstrument  # type: ignore[assignment]


class _BrokenMeters(metrics.NoOpMeterProvider):
    def get_meter(self, *_: Any, **__: Any) -> metrics.Meter:
        return _BrokenMeter("broken")


@pytest.mark.asyncio
async def test_a_provider_that_fails_is_not_asked_again(
    endpoint: LocalEndpoint, collected: Collected, caplog: pytest.LogCaptureFixture
) -> None:
    async with endpoint.client() as client:
        otel.instrument(client, tracer_provider=collected.tracers, meter_provider=_NoMeters())
        for _ in range(3):
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
            await asyncio.sleep(0.12)
    assert caplog.text.count("OSError: no meter") == 1


@pytest.mark.asyncio
async def test_a_span_is_not_lost_to_a_measure_that_fails(
    endpoint: LocalEndpoint, collected: Collected
) -> None:
    async with endpoint.client() as client:
        otel.instrument(client, tracer_provider=collected.tracers, meter_provider=_BrokenMeters())
        await client.invoke_endpoint(endpoint_name="e", body=b"x")
    assert collected.span.name == "SageMaker Runtime.InvokeEndpoint"


@pytest.mark.asyncio
async def test_clients_are_instrumented_from_now_on_and_no_longer(
    endpoint: LocalEndpoint, collected: Collected
) -> None:
    """Those that were made before, too."""
    instrumentor = pytest.importorskip("aiosmrt.otel.instrumentor").AiosmrtInstrumentor()
    async with endpoint.client() as client:
        instrumentor.instrument(tracer_provider=collected.tracers, meter_provider=collected.meters)
        try:
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
            assert len(collected.spans) == 1
        finally:
            instrumentor.uninstrument()
        await client.invoke_endpoint(endpoint_name="e", body=b"x")
    assert len(collected.spans) == 1


@pytest.mark.asyncio
async def test_a_status_without_a_code_is_the_type_of_its_error(collected: Collected) -> None:
    """As of a proxy's page."""
    async with LocalEndpoint() as local, local.client(retry=_ONCE) as client:
        local.proxy_page(502)
        collected.instrument(client)
        with pytest.raises(aiosmrt.ServiceError):
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
    assert _describe(collected.span)["error.type"] == "502"
    assert collected.count(DURATION) == {"502": 1}


@pytest.mark.asyncio
async def test_codes_that_somebody_makes_up_are_few_series(
    collected: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiosmrt.otel.attributes._foreign_types", set())
    codes = iter([*(f"Fault{number}" for number in range(110)), "ThrottlingException", "Fault0"])

    def model(_: InvocationRequest) -> object:
        raise aiosmrt.ServiceError("", code=next(codes), status=400)

    async with LocalEndpoint(model) as local, local.client(retry=_ONCE) as client:
        collected.instrument(client)
        for _ in range(112):
            with pytest.raises(aiosmrt.ServiceError):
                await client.invoke_endpoint(endpoint_name="e", body=b"x")
    counted = collected.count(DURATION)
    assert len(counted) == 102
    assert counted["_OTHER"] == 10
    assert counted["ThrottlingException"] == 1
    assert counted["Fault0"] == 2


@pytest.mark.parametrize("count", [-1, 2**63, 10**400], ids=["negative", "65 bits", "huge"])
@pytest.mark.asyncio
async def test_what_is_no_count_of_tokens_is_not_measured(
    *, count: int, collected: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter would fail with it, and again each time."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": %d, "completion_tokens": 2}}\n\n'

    def model(_: InvocationRequest) -> object:
        return iter([*_CHAT[:2], usage % count, _CHAT[-1]])

    async with LocalEndpoint(model) as local, local.client() as client:
        collected.instrument(client)
        await _read_chat(client, "chat")
    assert "gen_ai.usage.input_tokens" not in _describe(collected.span)
    assert _describe(collected.span)["gen_ai.usage.output_tokens"] == 2
    (tokens,) = collected.measure(TOKENS).values()
    assert tokens[0]["gen_ai.token.type"] == "output"


_PROGRAM = """
import asyncio

import aiosmrt
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

class Printer(SpanExporter):
    def export(self, spans):
        for span in spans:
            if span.name.startswith("SageMaker"):
                print(span.name, span.attributes["aiosmrt.outcome"])
        return SpanExportResult.SUCCESS

trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(Printer()))

async def main():
    async with aiosmrt.SageMakerRuntimeClient(region_name="us-east-1") as client:
        await client.invoke_endpoint(endpoint_name="e", body=b"x")
        async with client.with_options().invoke_endpoint_with_response_stream(
            endpoint_name="e", body=b"x"
        ) as stream:
            await anext(stream)

asyncio.run(main())
"""


@pytest.mark.parametrize("disabled", ["", "aiosmrt"])
@pytest.mark.asyncio
async def test_every_client_of_a_process_is_seen(*, disabled: str, endpoint: LocalEndpoint) -> None:
    """By the command `opentelemetry-instrument`, in a process of its own."""
    pytest.importorskip("opentelemetry.distro")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from opentelemetry.instrumentation.auto_instrumentation import run; run()",
        sys.executable,
        "-c",
        _PROGRAM,
        env={
            **os.environ,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": endpoint.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local-secret",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": disabled,
        },
        stdout=subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    assert printed.decode().splitlines() == (
        []
        if disabled
        else [
            "SageMaker Runtime.InvokeEndpoint ok",
            "SageMaker Runtime.InvokeEndpointWithResponseStream left",
        ]
    )


def test_it_says_what_it_needs() -> None:
    program = """
        import sys
        sys.modules["opentelemetry"] = None
        import aiosmrt
        try:
            aiosmrt.otel
        except ImportError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "pip install 'aiosmrt[otel]'" in done.stdout
