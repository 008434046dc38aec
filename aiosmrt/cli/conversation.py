"""A conversation with a model that speaks OpenAI's chat shape."""

from __future__ import annotations

import argparse
import contextlib
import time
from typing import Any

import attrs

from aiosmrt.cli.chat_model import CLOSING, OPENING, answer_chat
from aiosmrt.cli.transcript import Transcript
from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.local import LocalEndpoint
from aiosmrt.payload import ChatAccumulator, ToolCall
from aiosmrt.plain_text import to_line
from aiosmrt.sessions import StatefulSession
from aiosmrt.value import JSONValue, write_json

__all__ = ["Conversation"]


class Conversation:
    """What was said so far, and what is said about it to the model.

    Attributes:
        stats: whether to tell how fast each answer came.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.stats: bool = arguments.stats
        self._local: bool = arguments.local
        self._endpoint_name: str = arguments.endpoint_name or "chat"
        self._parameters: dict[str, JSONValue] = {
            name: value
            for name in ("model", "max_tokens", "temperature", "tools")
            if (value := getattr(arguments, name)) is not None
        }
        if arguments.usage:
            self._parameters["stream_options"] = {"include_usage": True}
        self._messages: list[JSONValue] = []
        if arguments.system is not None:
            self._messages.append({"role": "system", "content": arguments.system})
        self._calls: tuple[ToolCall, ...] = ()  # of tools, that the model waits for
        self._results: list[JSONValue] = []  # of the first of them
        self._transcript = Transcript()
        self._keeps_session: bool = arguments.session
        self._session_id: str | None = None  # that was told of
        self._model: SageMakerRuntimeClient | StatefulSession  # of `open`

    async def open(self, stack: contextlib.AsyncExitStack, options: dict[str, Any]) -> None:
        """Make the client, and the endpoint where it is a local one, and a session."""
        if self._local:
            endpoint = await stack.enter_async_context(LocalEndpoint(answer_chat))
            client = endpoint.client()
        else:
            client = SageMakerRuntimeClient(**options)
        self._model = await stack.enter_async_context(client)
        if self._keeps_session:
            # Every question has all that was said before, so another session does as well.
            session = client.session(
                endpoint_name=self._endpoint_name,
                open_body=OPENING,
                close_body=CLOSING,
                reopen=True,
            )
            self._model = await stack.enter_async_context(session)

    @property
    def awaited_tool(self) -> str | None:
        """The name of the tool whose result is to be said next; None where a question is."""
        calls = self._calls[len(self._results) :]
        return (to_line(calls[0].name) or "tool") if calls else None

    async def say(self, words: str) -> None:
        """Print the model's answer as it comes, and keep both.

        The words are a question; or the result of a tool that the model has called, and then the
        model is asked behind the last of them.
        """
        if self._calls:
            call = self._calls[len(self._results)]
            self._results.append({"role": "tool", "tool_call_id": call.id, "content": words})
            if len(self._results) < len(self._calls):
                return
            said, self._results = self._results, []
        else:
            said = [{"role": "user", "content": words}]
        await self._ask(said)

    async def _ask(self, said: list[JSONValue]) -> None:
        body = {"messages": [*self._messages, *said], "stream": True, **self._parameters}
        accumulator = ChatAccumulator()
        pieces, began, first = 0, time.perf_counter(), 0.0
        is_whole = False
        try:
            async with self._model.invoke_endpoint_with_response_stream(
                endpoint_name=self._endpoint_name,
                body=write_json(body),
                content_type="application/json",
            ) as stream:
                async for chunk in stream.iter_chat():
                    if chunk.text or chunk.reasoning or chunk.tool_calls:
                        pieces += 1
                        first = first or time.perf_counter()
                    accumulator.add(chunk)
                    self._transcript.show(chunk)
            is_whole = True
        finally:
            self._transcript.end()
            self._tell_session()
            # Of an answer that was stopped, what was seen counts, but no call that is not whole;
            # without any, nothing was asked.
            message = accumulator.message
            if not is_whole:
                message = attrs.evolve(message, tool_calls=())
            if message.text or message.tool_calls:
                self._messages += [*said, message.to_dict()]
                self._calls = message.tool_calls
        self._transcript.close(message)
        if self.stats and pieces:
            pace = (pieces - 1) / max(time.perf_counter() - first, 1e-9)
            self._transcript.remark(
                f"{pieces} tokens, {pace:.1f}/s, first after {first - began:.3f} s"
            )

    def _tell_session(self) -> None:
        session_id = self._model.session_id if isinstance(self._model, StatefulSession) else None
        if session_id not in (None, self._session_id):
            self._session_id = session_id
            self._transcript.remark(f"session {session_id}")
