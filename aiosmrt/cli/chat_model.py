"""A model that speaks OpenAI's chat shape and always says the same: for `aiosmrt chat --local`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from aiosmrt.local import InvocationRequest, ModelFailure, ModelResponse
from aiosmrt.payload import encode

__all__ = ["answer_chat"]

_PAUSE = 0.03  # seconds a word


def answer_chat(request: InvocationRequest) -> ModelResponse:
    """Answer the last message of a conversation, word by word.

    Raises:
        ModelFailure: 400, the body is no conversation.
    """
    try:
        messages = json.loads(request.body)["messages"]
        asked = [message["content"] for message in messages if message["role"] == "user"]
        text = f"You said: {asked[-1]} (question {len(asked)} of this conversation)"
    except (ValueError, LookupError, TypeError) as error:
        raise ModelFailure(400, f"no conversation: {error!r}") from error
    return ModelResponse(_stream(text), content_type="text/event-stream")


async def _stream(text: str) -> AsyncIterator[bytes]:
    for word in text.split(" "):
        delta = {"content": f"{word} "}
        yield encode(json.dumps({"choices": [{"index": 0, "delta": delta}]}))
        await asyncio.sleep(_PAUSE)
    yield encode("[DONE]")
