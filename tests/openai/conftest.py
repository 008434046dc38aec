"""Containers that chat, and SDK clients that reach them through this package."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar, TypeAlias

import attrs
import openai
import pytest

import aiosmrt
from aiosmrt.local import InvocationRequest, LocalEndpoint
from aiosmrt.openai import connect

Document: TypeAlias = dict[str, Any]
Model: TypeAlias = Callable[[InvocationRequest], object]


class Chats:
    """Writes what containers of OpenAI's shape send."""

    ASK: ClassVar[dict[str, Any]] = {"model": "", "messages": [{"role": "user", "content": "Hi"}]}
    DONE = b"data: [DONE]\n\n"

    @staticmethod
    def chunk(text: str = "", reason: str | None = None, **delta: Any) -> Document:
        """Write a chunk of a stream."""
        choice = {"index": 0, "delta": {"content": text, **delta}, "finish_reason": reason}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }

    @staticmethod
    def whole(text: str) -> Document:
        """Write a whole answer."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }

    @staticmethod
    def event(document: object) -> bytes:
        """Write a document as a server-sent event."""
        return f"data: {json.dumps(document)}\n\n".encode()

    @staticmethod
    def line(document: object) -> bytes:
        """Write a document as a JSON line."""
        return f"{json.dumps(document)}\n".encode()

    @classmethod
    def stream(cls, *texts: str) -> list[bytes]:
        """Write a sound stream, a part for each text."""
        chunks = [*map(cls.chunk, texts), cls.chunk(reason="stop")]
        return [*map(cls.event, chunks), cls.DONE]


@pytest.fixture
def chats() -> type[Chats]:
    """Give what writes what containers send."""
    return Chats


@attrs.frozen
class Talk:
    """An SDK client, and the endpoint that it reaches."""

    ai: openai.AsyncOpenAI
    endpoint: LocalEndpoint
    client: aiosmrt.SageMakerRuntimeClient

    async def stream(self, **asked: Any) -> list[Any]:
        """Give the chunks of a streamed chat."""
        stream = await self.ai.chat.completions.create(**Chats.ASK, stream=True, **asked)
        return [chunk async for chunk in stream]

    async def say(self, **asked: Any) -> Any:
        """Give a whole completion."""
        return await self.ai.chat.completions.create(**Chats.ASK, **asked)


@contextlib.asynccontextmanager
async def _talk(model: Model, **route: Any) -> AsyncIterator[Talk]:
    async with (
        LocalEndpoint(model) as endpoint,
        endpoint.client() as client,
        connect(client, **{"endpoint_name": "llm", **route}) as ai,
    ):
        yield Talk(ai, endpoint, client)


StartTalk: TypeAlias = Callable[..., contextlib.AbstractAsyncContextManager[Talk]]


@pytest.fixture
def talk() -> StartTalk:
    """Give what connects an SDK client with a model, over a local endpoint."""
    return _talk
