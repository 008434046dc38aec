"""The SDK over a stateful session."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

import aiosmrt
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelResponse
from aiosmrt.openai import connect

if TYPE_CHECKING:
    from tests.openai.conftest import Chats

pytestmark = pytest.mark.asyncio

_OPEN = {"requestType": "NEW_SESSION"}
_CLOSE = {"requestType": "CLOSE"}


async def test_its_requests_are_calls_of_the_session(chats: type[Chats]) -> None:
    def model(request: InvocationRequest) -> object:
        if request.body == json.dumps(_CLOSE).encode():
            return ModelResponse(b"", closed_session_id=request.session_id)
        if request.operation == "InvokeEndpointWithResponseStream":
            return iter(chats.stream("a", "b"))
        return chats.whole("c")

    async with LocalEndpoint(model) as endpoint, endpoint.client() as client:
        async with client.session(
            endpoint_name="llm", open_body=_OPEN, close_body=_CLOSE
        ) as session:
            ai = connect(session)
            stream = await ai.chat.completions.create(**chats.ASK, stream=True)
            # In order: it is not asked before the stream is over.
            second: asyncio.Task[Any] = asyncio.create_task(ai.chat.completions.create(**chats.ASK))
            assert len([chunk async for chunk in stream]) == 3
            assert (await second).choices[0].message.content == "c"
            assert [model.id async for model in ai.models.list()] == ["llm"]
            await ai.close()
        assert [request.session_id for request in endpoint.requests] == [
            "NEW_SESSION",
            *[session.session_id] * 3,
        ]


async def test_a_session_that_has_ended_is_an_error_of_both_kinds(chats: type[Chats]) -> None:
    async with LocalEndpoint(lambda _: chats.whole("a")) as endpoint, endpoint.client() as client:
        async with client.session(endpoint_name="llm") as session:
            ai = connect(session)
            await ai.chat.completions.create(**chats.ASK)
            session._lifetime.state.refuse(session.session_id or "")
            with pytest.raises(aiosmrt.SessionExpired) as caught:
                await ai.chat.completions.create(**chats.ASK)
            assert isinstance(caught.value, openai.APIConnectionError)
            assert caught.value.reason == "refused"
        assert len(endpoint.requests) == 1
