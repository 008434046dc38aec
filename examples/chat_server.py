"""A chat in the browser: words as they come, and a button that stops the model.

    pip install aiosmrt fastapi uvicorn
    ENDPOINT_NAME=llm uvicorn --app-dir examples chat_server:application

The endpoint's container speaks OpenAI's chat shape (vLLM, SGLang, LMI, TGI).
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Body, FastAPI
from fastapi.responses import HTMLResponse

from aiosmrt import ResponseStream, SageMakerRuntimeClient
from aiosmrt.asgi import RelayResponse

ENDPOINT_NAME = os.environ.get("ENDPOINT_NAME", "llm")

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Chat</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto }
  p { white-space: pre-wrap; padding: .6rem 1rem; border-radius: 1rem; background: #f0f1f3 }
  p.user { margin-left: 20%; background: #0b5fff; color: white }
  p.failed::after { content: " — " attr(data-error); color: #b00020 }
  form { display: flex; gap: .5rem }
  input { flex: 1; font: inherit; padding: .5rem }
  button { font: inherit }
</style>
<main></main>
<form><input name="prompt" autofocus autocomplete="off" placeholder="Say something">
<button name="send">Send</button> <button name="stop" type="button" disabled>Stop</button></form>
<script>
const form = document.querySelector("form"), messages = [];
let stopping = null;

function show(role) {
  const item = document.createElement("p");
  item.className = role;
  document.querySelector("main").append(item);
  return item;
}

// The answer is JSON lines: a string for each token, an object where it failed.
async function* read(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split("\\n");
    rest = lines.pop();
    yield* lines.map(line => JSON.parse(line));
  }
}

async function answer(item) {
  const response = await fetch("/chat", {
    method: "POST", signal: stopping.signal, body: JSON.stringify(messages),
    headers: {"content-type": "application/json"},
  });
  if (!response.ok) throw new Error((await response.json()).error);
  for await (const token of read(response)) {
    if (token.error) throw new Error(token.error);
    item.textContent += token;
  }
}

form.addEventListener("submit", async event => {
  event.preventDefault();
  const content = form.prompt.value;
  form.reset();
  show("user").textContent = content;
  messages.push({role: "user", content});
  stopping = new AbortController();
  form.send.disabled = !(form.stop.disabled = false);
  const item = show("assistant");
  try {
    await answer(item);
  } catch (error) {
    item.classList.add("failed");
    item.dataset.error = stopping.signal.aborted ? "stopped" : error.message;
  }
  messages.push({role: "assistant", content: item.textContent});
  form.send.disabled = !(form.stop.disabled = true);
});
form.stop.addEventListener("click", () => stopping.abort());
</script>
</html>
"""


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    """Open the client with the server, and give what is open 20 seconds at its end."""
    async with SageMakerRuntimeClient(max_connections=500) as client:
        application.state.client = client
        yield
        await client.aclose(grace=20)


application = FastAPI(lifespan=lifespan)


@application.get("/", response_class=HTMLResponse)
async def show_page() -> str:
    """Give the page."""
    return PAGE


@application.post("/chat")
async def chat(messages: list[dict[str, Any]] = Body()) -> RelayResponse:  # noqa: B008, FAST002
    """Pass on what the model says; when the browser leaves, or stops it, the model is stopped."""
    opening = application.state.client.invoke_endpoint_with_response_stream(
        endpoint_name=ENDPOINT_NAME, json={"messages": messages, "stream": True}
    )
    return RelayResponse(opening, _say, media_type="application/jsonl")


def _say(stream: ResponseStream) -> AsyncIterator[str]:
    return stream.iter_tokens("openai-chat")
