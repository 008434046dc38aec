"""No secret is in what is kept or passed on: logs, events, pickles, spans, files, output.

A model repeats all that it was sent, as careless ones do. Each secret is a word of its own, looked
for in everything that a program, a command or the local endpoint writes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import openai
import pytest
import pytest_asyncio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import aiosmrt
import aiosmrt.openai
from aiosmrt import otel
from aiosmrt.cli import main
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure

KEY = "canary-secret-key"
TOKEN = "canary-session-token"
HEADER = "canary-header"
ATTRIBUTE = "canary-attribute"
PASSWORD = "canary-password"
CANARIES = (KEY, TOKEN, HEADER, ATTRIBUTE, PASSWORD)


def find_canaries(*shown: object) -> set[str]:
    """Give the secrets that are in texts, bytes or what values show."""
    texts = [
        one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in shown
    ]
    return {canary for canary in CANARIES for text in texts if canary in text}


async def _repeat(request: InvocationRequest) -> object:
    said = f"{dict(request.headers)} {request.custom_attributes}"
    if b"fail" in request.body:
        raise ModelFailure(500, said)
    if request.operation == "InvokeEndpointWithResponseStream":
        return _stream()
    return {"answer": 1}


async def _stream() -> AsyncIterator[str]:
    yield "one"
    yield "two"


def _show_error(error: BaseException) -> list[object]:
    told = traceback.TracebackException.from_exception(error)
    return [repr(error), *told.format(), pickle.dumps(error), repr(vars(error))]


@attrs.frozen
class Client:
    """A client whose options are secrets, and what its hooks are told."""

    client: aiosmrt.SageMakerRuntimeClient
    events: list[object]

    async def call_in_every_way(self) -> list[object]:
        """Call with and without success, and give what the errors show."""
        shown: list[object] = [repr(self.client)]
        for body in (b"fail", b"go on"):
            given: Any = {
                "endpoint_name": "e",
                "body": body,
                "custom_attributes": ATTRIBUTE,
                "headers": {"x-api-key": HEADER},
            }
            for make in (self._invoke, self._read, self._wait):
                try:
                    shown.append(repr(await make(given)))
                except aiosmrt.AiosmrtError as error:
                    shown += _show_error(error)
        return shown

    async def _invoke(self, given: Any) -> object:
        return await self.client.invoke_endpoint(**given)

    async def _read(self, given: Any) -> object:
        async with self.client.invoke_endpoint_with_response_stream(**given) as stream:
            await stream.read()
            return stream

    async def _wait(self, given: Any) -> object:
        return await (await self.client.invoke_endpoint_async(**given)).result(timeout=5)


@pytest_asyncio.fixture
async def endpoint() -> AsyncIterator[LocalEndpoint]:
    async with LocalEndpoint(_repeat, access_key_id="AKID", secret_access_key=KEY) as endpoint:
        yield endpoint


@pytest_asyncio.fixture
async def client(endpoint: LocalEndpoint) -> AsyncIterator[Client]:
    events: list[object] = []
    names = [field.name for field in attrs.fields(aiosmrt.Hooks)]
    async with endpoint.client(
        aws_session_token=TOKEN,
        poll_interval=0.02,
        hooks=aiosmrt.Hooks(**dict.fromkeys(names, events.append)),
    ) as client:
        yield Client(client, events)


@pytest.mark.asyncio
async def test_logs_events_errors_and_pickles(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    shown = await client.call_in_every_way()
    dead = client.client.with_options(endpoint_url="http://localhost:9")
    with pytest.raises(aiosmrt.ConnectError) as caught:
        await dead.invoke_endpoint(endpoint_name="e", body=b"x", custom_attributes=ATTRIBUTE)
    shown += _show_error(caught.value)
    records = [repr(vars(record)) for record in caplog.records]
    assert len(client.events) > 20
    assert len(records) > 10
    assert not find_canaries(*shown, *map(repr, client.events), caplog.text, *records)


@pytest.mark.asyncio
async def test_a_proxys_password(endpoint: LocalEndpoint, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    proxy = f"http://user:{PASSWORD}@127.0.0.1:9"
    async with endpoint.client(proxy=proxy, proxy_headers={"x-proxy": HEADER}) as client:
        with pytest.raises(aiosmrt.ConnectError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
        shown = [repr(client), repr(aiosmrt.Config(proxy=proxy)), caplog.text]
    assert not find_canaries(*_show_error(caught.value), *shown)


@pytest.mark.asyncio
async def test_spans(client: Client) -> None:
    exporter, tracers = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider(shutdown_on_exit=False)
    otel.instrument(client.client, tracer_provider=tracers, meter_provider=meters, propagate=True)
    await client.call_in_every_way()
    spans = [span.to_json() for span in exporter.get_finished_spans()]
    assert len(spans) >= 6
    assert not find_canaries(*spans)


@pytest.mark.asyncio
async def test_errors_of_the_openai_sdk(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "aiosmrt")
    ours = client.client.with_options(
        params={"custom_attributes": ATTRIBUTE}, headers={"x-api-key": HEADER}
    )
    async with aiosmrt.openai.connect(ours, endpoint_name="e") as sdk:
        with pytest.raises(openai.OpenAIError) as caught:
            await sdk.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "fail"}]
            )
    told = traceback.TracebackException.from_exception(caught.value)
    assert not find_canaries(*told.format(), repr(caught.value), caplog.text)


@pytest.mark.asyncio
async def test_bearer_tokens(
    client: Client,
    endpoint: LocalEndpoint,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    token = await client.client.bearer_token()
    assert token not in repr(client.events)
    url = f"{client.client.openai_base_url('e')}/chat/completions"
    for sent, status in ((token, 424), (f"{token}x", 403)):
        headers = {"authorization": f"Bearer {sent}"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json={"messages": ["fail"]}, headers=headers) as response,
        ):
            said = await response.text()
            assert response.status == status
        assert sent not in caplog.text
        if status != 424:  # those are the model's words
            assert sent not in said
    assert not find_canaries(caplog.text)


@pytest.mark.asyncio
async def test_what_an_endpoint_records(
    client: Client, endpoint: LocalEndpoint, tmp_path: Path
) -> None:
    path = tmp_path / "script.json"
    endpoint.record(to=path)
    await client._invoke(
        {
            "endpoint_name": "e",
            "body": b"go on",
            "custom_attributes": ATTRIBUTE,
            "headers": {"x-api-key": HEADER},
        }
    )
    await asyncio.sleep(0)
    assert json.loads(path.read_text())
    assert not find_canaries(path.read_text(), repr(endpoint), repr(endpoint.requests))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEndpoint]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    logger = logging.getLogger("aiosmrt")
    level = logger.level
    with LocalEndpoint(_repeat, access_key_id="AKID", secret_access_key=KEY) as endpoint:
        yield endpoint
    # A command sets up the log of its process.
    logger.handlers.clear()
    logger.setLevel(level)


def test_the_files_of_a_batch(
    served: LocalEndpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"a": "fail"}\n{"a": "go on"}\n' * 3)
    arguments = ["batch", "--input", str(rows), "--endpoint-name", "e"]
    arguments += ["--endpoint-url", served.url, "--param", f"custom_attributes={ATTRIBUTE}"]
    arguments += ["--output", str(tmp_path / "out.jsonl"), "--report", str(tmp_path / "r.html")]
    assert main([*arguments, "-vv"]) == 1
    told = capsys.readouterr()
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(files) >= 4
    assert not find_canaries(told.out, told.err)
    assert {path.name: find_canaries(data) for path, data in files.items()} == {
        path.name: set() for path in files
    }


@pytest.mark.parametrize("command", ["invoke", "stream", "invoke-async", "config"])
@pytest.mark.parametrize("body", ["fail", "go on"])
def test_what_the_command_prints(
    command: str, body: str, served: LocalEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [command, "--endpoint-url", served.url, "-vv"]
    if command == "config":
        arguments = arguments[:-1]
    else:
        arguments += ["--endpoint-name", "e", "--body", body, "--custom-attributes", ATTRIBUTE]
    main(arguments)
    told = capsys.readouterr()
    assert told.out + told.err
    assert not find_canaries(told.out, told.err)
