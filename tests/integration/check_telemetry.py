"""Spans by OTLP in a server that is not ours, MLflow's, and what that shows of a chat.

Run by `make integration`, in an environment of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import aiosmrt
import aiosmrt.otel
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path}/spans.db"),
        *("--default-artifact-root", str(tmp_path)),
    ]
    log = tmp_path / "log"
    with (
        log.open("wb") as written,
        subprocess.Popen(command, start_new_session=True, stdout=written, stderr=written) as server,
    ):
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(240):
                assert server.poll() is None, log.read_text()
                try:
                    urllib.request.urlopen(f"{url}/health", timeout=5).close()
                    break
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.5)
            yield url
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(20)


async def _answer(request: InvocationRequest) -> object:
    if request.operation == "InvokeEndpoint":
        raise ModelFailure(503, "no GPU left")
    return _say()


async def _say() -> AsyncIterator[str]:
    for text in ("Once ", "upon"):
        yield _write({"choices": [{"index": 0, "delta": {"content": text}}]})
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    yield _write({"choices": [last], "usage": usage})
    yield "data: [DONE]\n\n"


def _write(document: dict[str, Any]) -> str:
    return f"data: {json.dumps(document)}\n\n"


async def _call(tracers: Any) -> None:
    async with LocalEndpoint(_answer) as endpoint, endpoint.client() as client:
        aiosmrt.otel.instrument(client, tracer_provider=tracers)
        async with client.invoke_endpoint_with_response_stream(
            endpoint_name="llm", json={"messages": [], "stream": True}
        ) as stream:
            async for _ in stream.iter_chat():
                pass
        with pytest.raises(aiosmrt.ModelError):
            await client.invoke_endpoint(endpoint_name="llm", body=b"{}")


def test_spans_arrive_with_all_that_they_say(
    collector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    mlflow.set_tracking_uri(collector)
    experiment = mlflow.create_experiment("calls")
    exporter = OTLPSpanExporter(
        f"{collector}/v1/traces", headers={"x-mlflow-experiment-id": experiment}
    )
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(exporter))
    asyncio.run(_call(tracers))
    tracers.shutdown()

    found = mlflow.search_traces(locations=[experiment], return_type="list")
    spans = {span.name: span for trace in found for span in trace.data.spans}
    print(json.dumps({name: span.attributes for name, span in spans.items()}, indent=2))
    streamed = spans["SageMaker Runtime.InvokeEndpointWithResponseStream"]
    assert streamed.attributes["rpc.method"] == (
        "SageMaker Runtime/InvokeEndpointWithResponseStream"
    )
    # What MLflow itself has made of them.
    assert streamed.attributes["mlflow.spanType"] == "CHAT_MODEL"
    assert streamed.attributes["mlflow.llm.model"] == "llm"
    tokens = {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}
    assert streamed.attributes["mlflow.chat.tokenUsage"] == tokens
    assert streamed.status.status_code.value in {"OK", "UNSET"}
    failed = spans["SageMaker Runtime.InvokeEndpoint"]
    assert failed.attributes["error.type"] == "ModelError"
    assert failed.status.status_code.value == "ERROR"
