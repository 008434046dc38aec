"""A Chromium, and its tabs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import aiohttp
import attrs
import pytest
import pytest_asyncio


@attrs.frozen
class Browser:
    """A Chromium of its own, spoken to by its DevTools protocol."""

    process: subprocess.Popen[bytes]
    url: str  # of the DevTools

    def kill(self) -> None:
        """End it and all that it started, and give it no time."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    program = program or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium, chromium-browser or google-chrome in PATH: install one of them")
    process = subprocess.Popen(
        [
            program,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--no-proxy-server", "--disable-background-networking"),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            *("--remote-debugging-port=0", f"--user-data-dir={tmp_path}", "about:blank"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    with process.stderr:
        started = Browser(process, "")
        try:
            for line in process.stderr:
                _, found, address = line.decode().partition("DevTools listening on ws://")
                if found:
                    started = attrs.evolve(started, url=f"http://{address.partition('/')[0]}")
                    break
            assert started.url, "Chromium has ended"
            yield started
        finally:
            started.kill()


@attrs.frozen
class Tab:
    session: aiohttp.ClientSession
    browser: Browser
    identifier: str
    socket: aiohttp.ClientWebSocketResponse
    numbers: Iterator[int] = attrs.field(factory=itertools.count)

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of the DevTools, and give its result."""
        number = next(self.numbers)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        while (answer := await self.socket.receive_json()).get("id") != number:
            pass
        result: dict[str, Any] = answer["result"]
        return result

    async def evaluate(self, expression: str) -> object:
        result = await self.call("Runtime.evaluate", expression=expression)
        value: object = result["result"].get("value")
        return value

    async def wait_for(self, expression: str) -> object:
        """Wait until it is true, and give what it is."""
        async with asyncio.timeout(10):
            while True:
                if value := await self.evaluate(expression):
                    return value
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        url = f"{self.browser.url}/json/close/{self.identifier}"
        async with self.session.get(url) as response:
            assert response.status == 200


OpenTab: TypeAlias = Callable[[str], Awaitable[Tab]]


@pytest_asyncio.fixture
async def open_tab(browser: Browser) -> AsyncIterator[OpenTab]:
    """Give a coroutine function that opens a page by its URL."""
    async with aiohttp.ClientSession() as session, contextlib.AsyncExitStack() as stack:

        async def open_tab(url: str) -> Tab:
            async with session.put(f"{browser.url}/json/new?{quote(url, safe='')}") as response:
                target = await response.json(content_type=None)
            socket = await stack.enter_async_context(
                session.ws_connect(target["webSocketDebuggerUrl"])
            )
            return Tab(session, browser, target["id"], socket)

        yield open_tab
