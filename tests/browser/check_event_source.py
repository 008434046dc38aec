"""A relayed stream in a real browser: what its EventSource makes of it, and what hanging up does.

Started by `make browser`; skipped where there is no Chromium.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import attrs
import pytest
import pytest_asyncio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

import aiosmrt
from aiosmrt.asgi import RelayResponse
from aiosmrt.asgi.formats import ViewOf
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure
from aiosmrt.sse import encode
from tests.browser.conftest import OpenTab, Tab

Until: TypeAlias = Callable[..., Awaitable[None]]

PAGE = """<!doctype html>
<meta charset="utf-8">
<ol></ol>
<p>open</p>
<script>
const source = new EventSource("/chat" + location.search);
function show(event) {
  const item = document.createElement("li");
  item.textContent = JSON.stringify([event.type, event.lastEventId, event.data]);
  document.querySelector("ol").append(item);
}
function end(state) {
  source.close();
  document.querySelector("p").textContent = state;
}
// Or the browser keeps the stream of a page that was left, to come back to it.
addEventListener("pagehide", () => source.close());
source.addEventListener("message", show);
source.addEventListener("note", show);
source.addEventListener("done", event => { show(event); end("done"); });
source.addEventListener("error", event => {
  if (event.data === undefined) {
    end(source.readyState === EventSource.CLOSED ? "refused" : "lost");
  } else {
    show(event);
    end("failed");
  }
});
</script>
"""


# --- the model, the relay and its page


@attrs.define
class Upstream:
    """What becomes of the streams of a model that is asked through one connection at most."""

    client: aiosmrt.SageMakerRuntimeClient
    url: str = ""  # of the page
    asked: int = 0
    running: int = 0


_VIEWS: dict[str, ViewOf | None] = {"text": None, "events": aiosmrt.ResponseStream.iter_events}


def _relay(upstream: Upstream) -> Starlette:
    async def show_page(_: Request) -> HTMLResponse:
        return HTMLResponse(PAGE)

    async def relay(request: Request) -> RelayResponse:
        upstream.asked += 1
        opening = upstream.client.invoke_endpoint_with_response_stream(
            endpoint_name="llm", body=request.query_params["prompt"]
        )
        return RelayResponse(opening, _VIEWS[request.query_params["view"]], heartbeat=0.5)

    return Starlette(routes=[Route("/", show_page), Route("/chat", relay)])


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async def model(request: InvocationRequest) -> object:
        if request.body == b"refuse":
            raise ModelFailure(400, "no such prompt")
        return stream(request.body)

    async def stream(body: bytes) -> AsyncIterator[bytes]:
        seen.running += 1
        try:
            if body == b"events":
                sent = encode("zwölf\nBoxkämpfer\n\n jagen") + encode("", id="7", event="note")
                for part in (sent[:9], sent[9:30], sent[30:], b"data: Viktor\r\rdata", b":unter"):
                    yield part
                return
            if body == b"prefill":
                await asyncio.Event().wait()
            yield "zwölf\n".encode()
            if body == b"fail":
                raise ModelFailure(500, "out of memory")
            if body == b"hang":
                await asyncio.Event().wait()
            while body == b"push":
                await asyncio.sleep(0)
                yield b"x" * 10_000
        finally:
            seen.running -= 1

    async with (
        LocalEndpoint(model) as endpoint,
        endpoint.client(
            max_connections=1,
            timeout=aiosmrt.Timeout(slot=1),
            retry=aiosmrt.RetryPolicy(mode="off"),
        ) as client,
    ):
        seen = Upstream(client)
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(_relay(seen), log_config=None, timeout_graceful_shutdown=0)
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            seen.url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            yield seen
        finally:
            server.should_exit = True
            await serving


# --- the page


Show: TypeAlias = Callable[..., Awaitable[Tab]]


@pytest.fixture
def show(open_tab: OpenTab, upstream: Upstream) -> Show:
    async def show(prompt: str, view: str = "text") -> Tab:
        return await open_tab(f"{upstream.url}?prompt={prompt}&view={view}")

    return show


async def wait_for_end(tab: Tab) -> tuple[str, list[list[str]]]:
    """Give what the page says of the stream, and the type, id and data of its events."""
    # While the page is being loaded, there is no paragraph.
    state = await tab.wait_for(
        "(text => text !== 'open' && text)(document.querySelector('p')?.textContent)"
    )
    shown = await tab.evaluate(
        "'[' + [...document.querySelectorAll('li')].map(li => li.textContent).join() + ']'"
    )
    return str(state), json.loads(str(shown))


# --- what the browser sees


@pytest.mark.asyncio
async def test_events_in_the_page(show: Show, upstream: Upstream) -> None:
    tab = await show("events", view="events")
    state, events = await wait_for_end(tab)
    assert state == "done"
    assert events == [
        ["message", "", "zwölf\nBoxkämpfer\n\n jagen"],
        ["note", "7", ""],
        ["message", "7", "Viktor"],
        ["message", "7", "unter"],
        ["done", "7", ""],
    ]
    # Without the event that ends it, the page would ask again and again.
    await asyncio.sleep(4)
    assert (upstream.asked, upstream.running) == (1, 0)


@pytest.mark.asyncio
async def test_text_in_the_page(show: Show) -> None:
    tab = await show("text")
    assert await wait_for_end(tab) == ("done", [["message", "", "zwölf\n"], ["done", "", ""]])


@pytest.mark.asyncio
async def test_a_failure_on_the_way_is_an_event_with_a_type(show: Show) -> None:
    state, events = await wait_for_end(await show("fail"))
    assert state == "failed"
    assert events[0] == ["message", "", "zwölf\n"]
    ((kind, _, text),) = events[1:]
    assert kind == "error"
    assert text.startswith("ModelStreamError (request id ")


@pytest.mark.asyncio
async def test_comments_before_the_first_part_open_the_stream_and_are_not_shown(show: Show) -> None:
    tab = await show("prefill")
    await tab.wait_for("typeof source === 'object' && source.readyState === 1")
    assert await tab.evaluate("document.querySelectorAll('li').length") == 0


@pytest.mark.asyncio
async def test_a_failure_before_the_first_part_is_a_refusal(show: Show) -> None:
    assert await wait_for_end(await show("refuse")) == ("refused", [])


# --- and what it does to the model


async def _close_tab(tab: Tab) -> None:
    await tab.close()


async def _close_source(tab: Tab) -> None:
    await tab.evaluate("source.close()")


async def _go_elsewhere(tab: Tab) -> None:
    await tab.evaluate("location = 'about:blank'")


async def _kill_browser(tab: Tab) -> None:
    tab.browser.kill()


@pytest.mark.parametrize("prompt", ["hang", "push", "prefill"])
@pytest.mark.parametrize("hang_up", [_close_tab, _close_source, _go_elsewhere, _kill_browser])
@pytest.mark.asyncio
async def test_hanging_up_ends_the_generation_within_a_second(
    hang_up: Callable[[Tab], Awaitable[None]],
    prompt: str,
    show: Show,
    upstream: Upstream,
    until: Until,
) -> None:
    tab = await show(prompt)
    if prompt == "prefill":
        await until(lambda: upstream.running == 1)
    else:
        await tab.wait_for("document.querySelectorAll('li').length")
    assert upstream.running == 1
    async with asyncio.timeout(1):
        await hang_up(tab)
        await until(lambda: upstream.running == 0, seconds=1)
        # The only slot is free again, or this would wait.
        async with upstream.client.invoke_endpoint_with_response_stream(
            endpoint_name="llm", body=b"text"
        ) as stream:
            assert await stream.read() == "zwölf\n".encode()
    assert upstream.asked == 1
