"""A model that speaks OpenAI's chat shape and always says the same: for `aiosmrt chat --local`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from aiosmrt.local import InvocationRequest, ModelFailure, ModelResponse
from aiosmrt.payload import encode

__all__ = ["CLOSING", "OPENING", "answer_chat"]

# What asks for a session, and for its end, as AWS's containers have it.
OPENING = {"requestType": "NEW_SESSION"}
CLOSING = {"requestType": "CLOSE"}

_PAUSE = 0.03  # seconds a word


def answer_chat(request: InvocationRequest) -> ModelResponse:
    """Answer the last message of a conversation, word by word.

    Where there are tools, a question calls the first of them, and its result is the answer.

    Raises:
        ModelFailure: 400, the body is no conversation.
    """
    try:
        body = json.loads(request.body)
        if body in (OPENING, CLOSING):
            closed = request.session_id if body == CLOSING else None
            return ModelResponse({}, closed_session_id=closed)
        messages = body["messages"]
        asked = [message["content"] for message in messages if message["role"] == "user"]
        said = messages[-1]["content"]
        if messages[-1]["role"] == "tool":
            deltas = _speak(f"The tool said: {said}")
        elif tools := body.get("tools"):
            deltas = _call(tools[0]["function"]["name"], said)
        else:
            text = f"You said: {said} (question {len(asked)} of this conversation)"
            deltas = [*_think(f"That is question {len(asked)}."), *_speak(text)]
        prompt = sum(len(str(message["content"]).split()) for message in messages)
        counts = bool((body.get("stream_options") or {}).get("include_usage"))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelFailure(400, f"no conversation: {error!r}") from error
    usage = {"prompt_tokens": prompt, "completion_tokens": len(deltas)} if counts else None
    return ModelResponse(_stream(deltas, usage), content_type="text/event-stream")


def _think(text: str) -> list[dict[str, Any]]:
    return [{"reasoning": f"{word} "} for word in text.split(" ")]


def _speak(text: str) -> list[dict[str, Any]]:
    return [{"content": f"{word} "} for word in text.split(" ")]


def _call(name: str, text: str) -> list[dict[str, Any]]:
    arguments = json.dumps({"text": text}, ensure_ascii=False)
    begin = {"index": 0, "id": "call_1", "function": {"name": name, "arguments": ""}}
    pieces = [arguments[place : place + 4] for place in range(0, len(arguments), 4)]
    goes_on = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
    return [*_think("A tool knows."), *({"tool_calls": [piece]} for piece in (begin, *goes_on))]


async def _stream(
    deltas: list[dict[str, Any]], usage: dict[str, int] | None
) -> AsyncIterator[bytes]:
    for delta in deltas:
        yield encode(json.dumps({"choices": [{"index": 0, "delta": delta}]}))
        await asyncio.sleep(_PAUSE)
    reason = "tool_calls" if "tool_calls" in deltas[-1] else "stop"
    yield encode(json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
    if usage is not None:
        yield encode(json.dumps({"choices": [], "usage": usage}))
    yield encode("[DONE]")
