"""The page of the example in a real browser; `AIOSMRT_SCREENSHOT` names a file for its picture.

Started by `make browser`; skipped where there is no Chromium.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import pytest_asyncio
import uvicorn

from aiosmrt.local import InvocationRequest, LocalEndpoint
from tests.browser.conftest import OpenTab

Until: TypeAlias = Callable[..., Awaitable[None]]

EXAMPLE = Path(__file__).parents[2] / "examples/chat_server.py"
SAY = """
(text => {
  const form = document.querySelector("form");
  form.prompt.value = text;
  form.requestSubmit();
})
"""
HAS_SPOKEN = "document.querySelector('p:last-child.assistant')?.textContent === {}"
IS_DONE = f"{HAS_SPOKEN} && document.querySelector('form').stop.disabled"


@pytest.fixture
def running() -> list[str]:
    """Give the prompts whose answers are under way."""
    return []


@pytest_asyncio.fixture
async def page(running: list[str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Serve the example, in front of a model that never ends where it is asked for that."""

    async def model(request: InvocationRequest) -> AsyncIterator[str]:
        prompt = json.loads(request.body)["messages"][-1]["content"]
        running.append(prompt)
        try:
            for word in f"You said: {prompt}".split():
                choice = {"index": 0, "delta": {"content": f"{word} "}}
                yield f"data: {json.dumps({'choices': [choice]})}\n\n"
            if prompt == "stay":
                await asyncio.Event().wait()
            yield "data: [DONE]\n\n"
        finally:
            running.remove(prompt)

    async with LocalEndpoint(model) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", endpoint.url)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local-secret")
        spec = importlib.util.spec_from_file_location("chat_server", EXAMPLE)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(module.application, log_config=None, timeout_graceful_shutdown=0)
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            await serving


@pytest.mark.asyncio
async def test_a_conversation(page: str, open_tab: OpenTab) -> None:
    tab = await open_tab(page)
    await tab.wait_for("typeof form === 'object'")
    for prompt in ("hello from the browser", "and once more"):
        await tab.evaluate(f"{SAY}({json.dumps(prompt)})")
        await tab.wait_for(IS_DONE.format(json.dumps(f"You said: {prompt} ")))
    assert await tab.evaluate("document.querySelectorAll('p').length") == 4
    assert await tab.evaluate("messages.length") == 4
    if target := os.environ.get("AIOSMRT_SCREENSHOT"):
        size = {"width": 720, "height": 400, "deviceScaleFactor": 1, "mobile": False}
        await tab.call("Emulation.setDeviceMetricsOverride", **size)
        picture = await tab.call("Page.captureScreenshot", format="png")
        await asyncio.to_thread(Path(target).write_bytes, base64.b64decode(picture["data"]))


@pytest.mark.asyncio
async def test_the_button_stops_the_model(
    page: str, open_tab: OpenTab, running: list[str], until: Until
) -> None:
    tab = await open_tab(page)
    await tab.wait_for("typeof form === 'object'")
    await tab.evaluate(f"{SAY}('stay')")
    await tab.wait_for(HAS_SPOKEN.format("'You said: stay '"))
    assert running == ["stay"]
    await tab.evaluate("form.stop.click()")
    await tab.wait_for("document.querySelector('p.failed')?.dataset.error === 'stopped'")
    await until(lambda: not running)
