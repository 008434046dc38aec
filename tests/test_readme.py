"""Every Python block of the documents runs, in order, against a local endpoint."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aiosmrt
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure, ModelResponse

ROOT = Path(__file__).parent.parent
DOCUMENTS = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"]


_DONE = b"data: [DONE]\n\n"


def _chat(text: str, *, is_stream: bool = False) -> object:
    said = {"role": "assistant", "content": text}
    choice = {"index": 0, "delta" if is_stream else "message": said, "finish_reason": "stop"}
    document = {"id": "1", "created": 1, "model": "m", "choices": [choice]}
    return iter([f"data: {json.dumps(document)}\n\n"]) if is_stream else document


def _stream(request: InvocationRequest) -> object:
    if b'"messages"' in request.body:
        return _chat("there was", is_stream=True)
    if request.accept == "application/json":
        return iter([b'{"a": 1}\n{"a"', b": 2}"])
    if request.accept == "text/event-stream":
        return iter([b'data: {"choices": [{"delta": {"cont', b'ent": "a time"}}]}\n\n', _DONE])
    return iter([b"once", b"upon"])


def _model(request: InvocationRequest) -> object:
    if request.operation == "InvokeEndpointWithResponseStream":
        return _stream(request)
    if request.body == b"fail":
        raise ModelFailure(400, "as asked")
    if b'"CLOSE"' in request.body:
        return ModelResponse(b"", closed_session_id=request.session_id)
    if b'"messages"' in request.body:
        routed = request.path == "/v1/chat/completions"
        return _chat("a whole answer" if routed else "there was")
    return {"ok": True}


@pytest.fixture
def endpoint() -> Iterator[LocalEndpoint]:
    """An endpoint in another thread: the blocks run event loops of their own."""
    ready, done = threading.Event(), asyncio.Event()
    running: list[tuple[LocalEndpoint, asyncio.AbstractEventLoop]] = []

    async def run() -> None:
        async with LocalEndpoint(_model) as local:
            running.append((local, asyncio.get_running_loop()))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(10)
    local, loop = running[0]
    yield local
    loop.call_soon_threadsafe(done.set)
    thread.join()


def _blocks(document: str) -> list[str]:
    return re.findall(
        r"^```python\n(.*?)^```$", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE
    )


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_python_block_runs(
    document: str,
    endpoint: LocalEndpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", endpoint.url)
    monkeypatch.chdir(tmp_path)  # a block writes a file
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"{endpoint.url}/s3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local-secret")
    module: dict[str, Any] = {"aiosmrt": aiosmrt, "asyncio": asyncio}
    blocks = _blocks(document)
    programs = [block for block in blocks if "asyncio.run(" in block]
    fragments = [block for block in blocks if "asyncio.run(" not in block]
    for program in programs:
        exec(compile(program, document, "exec"), {"__name__": "__main__"})

    async def run() -> None:
        async with aiosmrt.SageMakerRuntimeClient(region_name="us-east-1") as client:
            module["client"] = client
            for fragment in fragments:
                code = compile(fragment, document, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                outcome = types.FunctionType(code, module)()
                if inspect.isawaitable(outcome):
                    await outcome

    if fragments:
        asyncio.run(run())
    if document == "README.md":
        printed = capsys.readouterr().out
        assert "{'ok': True}" in printed
        assert "b'once'" in printed
        assert "\nonce\nupon\n" in printed
        assert '\nmessage {"choices"' in printed
        assert "\na time\n" in printed
        assert "\na whole answer\n" in printed
        assert "400 as asked" in printed
        assert re.search(r"\n[0-9a-f-]{36} 20.+\nb'onceupon'\n", printed)
        assert "\nthere was\nthere was\n" in printed


def test_the_readme_names_every_error() -> None:
    readme = (ROOT / "README.md").read_text()
    parents = {
        "AiosmrtError",
        "EventStreamError",
        "PayloadError",
        "TimeLimitError",
        "TransportError",
    }
    for name in {*aiosmrt.errors.__all__, "AsyncInferenceTimeout"} - parents:
        assert f"`{name}`" in readme, f"README.md does not say what to do about {name}"


def test_the_readme_names_every_option() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in aiosmrt.Config.__annotations__:
        assert f"`{name}`" in readme, f"README.md does not name the option {name}"
