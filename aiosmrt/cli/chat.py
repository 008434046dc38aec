"""`aiosmrt chat`: a conversation at the terminal with a model that speaks OpenAI's chat shape."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from aiosmrt.cli.conversation import Conversation
from aiosmrt.cli.terminal import complain
from aiosmrt.errors import AiosmrtError
from aiosmrt.plain_text import to_line

__all__ = ["chat"]

T = TypeVar("T")

_FAILED = 1
_LOOK = 0.2  # seconds from one look at signals to the next
_HELP = """\
/help   this
/stats  tell how fast an answer came
/exit   leave, as Ctrl-D does
//WORD  say /WORD to the model
Ctrl-C  stop an answer
NAME>   waits for that tool's result
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
        conversation = Conversation(arguments)
        stack = contextlib.AsyncExitStack()
        try:
            _run(loop, conversation.open(stack, options))
            return _converse(loop, conversation)
        finally:
            _run(loop, stack.aclose())


def _converse(loop: asyncio.AbstractEventLoop, conversation: Conversation) -> int:
    status = 0
    asks = sys.stdin.isatty()
    if asks:
        sys.stderr.write("/help says what you can do here.\n")
    while True:
        try:
            question = input(f"{conversation.awaited_tool or ''}> " if asks else "").strip()
            if question == "/exit":
                return 0
            if question.startswith("/") and not question.startswith("//"):
                status = status if _obey(conversation, question) else _FAILED
            elif question:
                _run(loop, conversation.say(question.removeprefix("/")))
        except EOFError:
            return status
        except (KeyboardInterrupt, asyncio.CancelledError):
            sys.stdout.write("\n")  # on with the next question
        except AiosmrtError as error:
            status = _FAILED
            complain(error)


def _obey(conversation: Conversation, question: str) -> bool:
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
        # A signal that comes just before this waits, or that the system gives to another thread,
        # does not end the wait.
        try:
            done.result(timeout=_LOOK)
            break
        except TimeoutError:
            continue
        except KeyboardInterrupt:
            asyncio.run_coroutine_threadsafe(cancel(), loop)
    return tasks[0].result()
