"""The transport under the SDK: requests to invocations, answers to responses."""

from __future__ import annotations

import json
import weakref
from typing import NoReturn, Unpack

from aiosmrt.errors import AiosmrtError, ConfigurationError
from aiosmrt.openai.answer import Parts, answer, refuse
from aiosmrt.openai.chunks import ChunkDecoder
from aiosmrt.openai.errors import NotServed, join, wrap
from aiosmrt.openai.family import AsyncBaseTransport, Request, Response, adopt, find_family
from aiosmrt.openai.invocation import Invocation, Route, check_route, find_task, read_invocation
from aiosmrt.openai.whole import read_whole
from aiosmrt.response_stream import ResponseStream
from aiosmrt.service import INVOKE_ENDPOINT
from aiosmrt.sessions import Invoker

__all__ = ["SageMakerTransport"]


class SageMakerTransport(AsyncBaseTransport):
    """Answers the SDK's requests by invocations of an endpoint.

    `POST …/chat/completions`, `…/completions` and `…/embeddings` are InvokeEndpoint, with
    `"stream": true` InvokeEndpointWithResponseStream; `GET …/models` is answered here.

    It is a transport for clients of both families, httpx2 and httpx.

    Args:
        client: makes the calls; it stays open when the transport is closed.
        route: where they go.

    Raises:
        TypeError: a keyword that says nothing of where they go, or `session_id` for a session.
    """

    def __init__(self, client: Invoker, /, **route: Unpack[Route]) -> None:
        self._client = client
        self._route = {name: value for name, value in route.items() if value is not None}
        check_route(route)
        self._taken = {*self._route}
        if hasattr(client, "session_id"):  # a session sends its own
            if "session_id" in self._route:
                raise TypeError("a session sends its own session_id: give the client for another")
            self._taken.add("session_id")
        named = [self._route.get(name) for name in ("inference_component_name", "endpoint_name")]
        named.append(getattr(client, "endpoint_name", None))  # a session's
        self._names = [name for name in named if name] or ["endpoint"]
        self._open: weakref.WeakSet[Parts] = weakref.WeakSet()

    async def handle_async_request(self, request: Request) -> Response:
        """Answer a request.

        Raises:
            openai.APIError: there is no answer; it is an `AiosmrtError`, too, but for what hooks
                raise.
        """
        try:
            return await self._answer(request)
        except AiosmrtError as error:
            refusal = refuse(error, request)
            if refusal is None:
                raise join(error, request) from error.__cause__
            return refusal
        except Exception as error:
            raise wrap(error, request) from error

    def handle_request(self, request: Request) -> NoReturn:
        """Refuse a request of the SDK's other client, which would ask for it again otherwise.

        Raises:
            ConfigurationError: always; it is an `openai.APIConnectionError`, too.
        """
        text = "SageMakerTransport is asynchronous: it is for AsyncOpenAI, with an AsyncClient"
        raise join(ConfigurationError(text), request)

    async def _answer(self, request: Request) -> Response:
        task = find_task(request)
        if task.startswith("models"):
            return self._list_models(request, task)
        invocation = await read_invocation(request, task, self._route, self._taken, self._names)
        if invocation.operation is INVOKE_ENDPOINT:
            response = await self._client.invoke_endpoint(**invocation.parameters)
            return answer(request, await read_whole(invocation, response), response.metadata)
        stream = await self._client.invoke_endpoint_with_response_stream(**invocation.parameters)
        try:
            return await self._begin(request, invocation, stream)
        except BaseException:
            await stream.aclose()
            raise

    async def _begin(
        self, request: Request, invocation: Invocation, stream: ResponseStream
    ) -> Response:
        answer_id = f"chatcmpl-{stream.metadata.request_id}"
        decoder = ChunkDecoder(invocation, stream.content_type, answer_id)
        chunks = stream._view("chunks", decoder)  # noqa: SLF001 - of this very package
        # What fails before it still has a status.
        first = await anext(chunks, None)
        kind = adopt(Parts, find_family(request), "AsyncByteStream")
        parts = kind(first, chunks, stream, request)
        self._open.add(parts)
        return answer(request, parts, stream.metadata)

    async def aclose(self) -> None:
        """Stop the models whose streams are open; the client stays open. Idempotent."""
        for parts in list(self._open):
            await parts.aclose()

    def _list_models(self, request: Request, task: str) -> Response:
        named = self._names[0]
        model = {"id": named, "object": "model", "created": 0, "owned_by": "sagemaker"}
        asked = task.partition("/")[2]
        if asked and asked != named:
            raise NotServed(f"there is no model {asked!r}, but {named!r}")
        listed: object = model if asked else {"object": "list", "data": [model]}
        return answer(request, json.dumps(listed).encode())
