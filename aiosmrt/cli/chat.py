"""`aiosmrt chat`: a conversation at the terminal with a model that speaks OpenAI's chat shape."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from aiosmrt.cli.chat_model import answer_chat
from aiosmrt.cli.terminal import Output, complain
from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.errors import AiosmrtError
from aiosmrt.local import LocalEndpoint
from aiosmrt.plain_text import to_line
from aiosmrt.value import write_json

__all__ = ["chat"]

T = TypeVar("T")

_FAILED = 1
_HELP = """\
/help   this
/stats  tell how fast each answer came, or no longer
/exit   leave, as Ctrl-D does
//WORD  say /WORD to the model
Ctrl-C  stop an answer
"""


def chat(arguments: argparse.Namespace, options: dict[str, Any]) -> int:
    """Ask and print until the input ends, or `/exit`.

    Ctrl-C stops an answer and closes its stream; what had come of it stays in the conversation.
    `/help` says what else there is; a word with a slash that is none of it is not sent to a model.

    Returns:
        The exit status: 0 after `/exit`, which somebody has typed who saw what failed; else 1 when
        an answer failed or a command was unknown.
    """
    with _run_loop() as loop:
        conversation = _Conversation(arguments)
        stack = contextlib.AsyncExitStack()
        try:
            _run(loop, conversation.open(stack, options))
            return _converse(loop, conversation)
        finally:
            _run(loop, stack.aclose())


def _converse(loop: asyncio.AbstractEventLoop, conversation: _Conversation) -> int:
    status = 0
    prompt = "> " if sys.stdin.isatty() else ""
    if prompt:
        sys.stderr.write("/help says what you can do here.\n")
    while True:
        try:
            question = input(prompt).strip()
            if question == "/exit":
                return 0
            if question.startswith("/") and not question.startswith("//"):
                status = status if _obey(conversation, question) else _FAILED
            elif question:
                _run(loop, conversation.ask(question.removeprefix("/")))
        except EOFError:
            return status
        except (KeyboardInterrupt, asyncio.CancelledError):
            sys.stdout.write("\n")  # on with the next question
        except AiosmrtError as error:
            status = _FAILED
            complain(error)


def _obey(conversation: _Conversation, question: str) -> bool:
    """Do what a word with a slash says; false where there is no such word."""
    if question == "/stats":
        conversation.stats = not conversation.stats
        sys.stderr.write(f"stats are {'on' if conversation.stats else 'off'}\n")
    elif question == "/help":
        sys.stderr.write(_HELP)
    else:
        word = to_line(question.split(maxsplit=1)[0])
        sys.stderr.write(f"aiosmrt: there is no {word}, nothing was sent; try /help\n")
        return False
    return True


class _Conversation:
    """What was said so far, and what is said about it to the model."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.stats: bool = arguments.stats
        self._local: bool = arguments.local
        self._endpoint_name: str = arguments.endpoint_name or "chat"
        self._parameters = {
            name: value
            for name in ("model", "max_tokens", "temperature")
            if (value := getattr(arguments, name)) is not None
        }
        self._messages: list[dict[str, str]] = []
        if arguments.system is not None:
            self._messages.append({"role": "system", "content": arguments.system})
        self._output = Output()
        self._client: SageMakerRuntimeClient  # of `open`

    async def open(self, stack: contextlib.AsyncExitStack, options: dict[str, Any]) -> None:
        """Make the client, and the endpoint where it is a local one."""
        if self._local:
            endpoint = await stack.enter_async_context(LocalEndpoint(answer_chat))
            self._client = endpoint.client()
        else:
            self._client = SageMakerRuntimeClient(**options)
        await stack.enter_async_context(self._client)

    async def ask(self, question: str) -> None:
        """Print the answer as it comes, and keep both."""
        asked = {"role": "user", "content": question}
        messages = [*self._messages, asked]
        body = {"messages": messages, "stream": True, **self._parameters}
        tokens: list[str] = []
        began = first = time.perf_counter()
        try:
            async with self._client.invoke_endpoint_with_response_stream(
                endpoint_name=self._endpoint_name,
                body=write_json(body),
                content_type="application/json",
            ) as stream:
                async for token in stream.iter_tokens("openai-chat"):
                    if not tokens:
                        first = time.perf_counter()
                    tokens.append(token)
                    self._print(token)
        finally:
            # Of an answer that was stopped, what was seen counts; without any, nothing was asked.
            if tokens:
                answer = {"role": "assistant", "content": "".join(tokens)}
                self._messages += [asked, answer]
                self._print("\n")
        if self.stats and tokens:
            pace = (len(tokens) - 1) / max(time.perf_counter() - first, 1e-9)
            sys.stderr.write(
                f"[{len(tokens)} tokens, {pace:.1f} tokens/s, first token after "
                f"{first - began:.3f} s]\n"
            )

    def _print(self, text: str) -> None:
        self._output.write(text.encode("utf-8", "replace"))


@contextlib.contextmanager
def _run_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run a loop in a thread, so that it goes on while this one waits for a question."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="aiosmrt-chat")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[object, object, T]) -> T:
    """Wait for the work; Ctrl-C cancels it, and what it has open is closed before this returns."""
    tasks: list[asyncio.Task[T]] = []

    async def supervise() -> None:
        tasks.append(asyncio.create_task(work))
        await asyncio.wait(tasks)

    async def cancel() -> None:
        tasks[0].cancel()

    done = asyncio.run_coroutine_threadsafe(supervise(), loop)
    while True:
        try:
            done.result()
            break
        except KeyboardInterrupt:
            asyncio.run_coroutine_threadsafe(cancel(), loop)
    return tasks[0].result()
