"""A conversation at the terminal, through pipes and through a terminal of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeAlias

import attrs
import pytest

from aiosmrt.cli.chat import _run, _run_loop
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure
from aiosmrt.sse import encode

RunCommand: TypeAlias = Callable[..., subprocess.CompletedProcess[Any]]

CHAT = [sys.executable, "-m", "aiosmrt", "chat"]
KEYS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local-secret"}


@attrs.define
class Endless:
    """A model that answers `for ever` for ever, and keeps what it was asked."""

    url: str = ""
    bodies: list[dict[str, object]] = attrs.field(factory=list)
    stopped: threading.Event = attrs.field(factory=threading.Event)

    async def answer(self, request: InvocationRequest) -> object:
        body = json.loads(request.body)
        self.bodies.append(body)
        if body["messages"][-1]["content"] == "fail":
            raise ModelFailure(400, "no such prompt")
        return self.stream(body["messages"][-1]["content"])

    async def stream(self, question: str) -> AsyncIterator[bytes]:
        endless = question in ("for ever", "call for ever")
        content = CLEARED if question == "clear" else "word "
        try:
            while True:
                delta: dict[str, object] = {"content": content}
                if question == "call for ever":
                    call = {"index": 0, "function": {"name": "f", "arguments": "["}}
                    delta = {"reasoning": "Hm. ", "tool_calls": [call]}
                yield encode(json.dumps({"choices": [{"delta": delta}]}))
                if question == "cut":
                    return
                if not endless:
                    break
                await asyncio.sleep(0.01)
            yield encode("[DONE]")
        finally:
            if endless:
                self.stopped.set()


CLEARED = "\x1b[2J\x1b]0;mine\x07word "


def _read_messages(body: dict[str, object]) -> list[dict[str, str]]:
    messages = body["messages"]
    assert isinstance(messages, list)
    return messages


@pytest.fixture
def endless() -> Iterator[Endless]:
    model = Endless()
    ready, done = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        async with LocalEndpoint(model.answer) as endpoint:
            model.url = endpoint.url
            loops.append(asyncio.get_running_loop())
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(10)
    yield model
    loops[0].call_soon_threadsafe(done.set)
    thread.join()


@pytest.fixture
def chat(run_command: RunCommand) -> RunCommand:
    """Give what runs `aiosmrt chat`: its arguments, and what is typed."""
    return lambda *arguments, given: run_command("chat", *arguments, given=given, environment=KEYS)


def test_a_conversation_with_the_built_in_model(chat: RunCommand) -> None:
    given = "hello\n\n/stats\nzwölf\n/stats\nbye\n/exit\nnot asked\n"
    done = chat("--local", "--stats", given=given)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "You said: hello (question 1 of this conversation) ",
        "You said: zwölf (question 2 of this conversation) ",
        "You said: bye (question 3 of this conversation) ",
    ]
    # Stats are of the first and the last.
    first, second, third = (
        rf"\[reasoning: That is question {number}\. \]\n\[tokens: \d+ prompt, 12 completion\]\n"
        for number in (1, 2, 3)
    )
    stats = r"\[12 tokens, \d+\.\d/s, first after \d\.\d+ s\]\n"
    assert re.fullmatch(
        f"{first}{stats}stats are off\n{second}stats are on\n{third}{stats}", done.stderr
    )


def test_a_tool_is_played_by_whoever_asks(chat: RunCommand) -> None:
    tools = json.dumps([{"type": "function", "function": {"name": "get_weather"}}])
    done = chat("--local", "--no-usage", "--tools", tools, given="in Zürich?\n12 degrees\n")
    assert done.returncode == 0
    assert done.stdout == "The tool said: 12 degrees \n"
    assert done.stderr == '[reasoning: A tool knows. ]\n[call get_weather {"text": "in Zürich?"}]\n'


def test_a_session_is_kept_for_a_conversation(chat: RunCommand) -> None:
    done = chat("--local", "--session", "-v", given="one\ntwo\n")
    assert done.returncode == 0
    assert len(re.findall(r"^\[session [0-9a-f-]{36}\]$", done.stderr, re.MULTILINE)) == 1
    # Opened before the first question, and closed behind the last.
    requests = re.findall(r"/chat/(\S+): 200", done.stderr)
    asked = "invocations-response-stream"
    assert requests == ["invocations", asked, asked, "invocations"]


@pytest.mark.parametrize("tools", ["{", "{}", "@/nowhere/at/all"])
def test_tools_that_are_none_are_wrong_usage(chat: RunCommand, tools: str) -> None:
    done = chat("--local", "--tools", tools, given="hello\n")
    assert done.returncode == 2
    assert "argument --tools: " in done.stderr


def test_a_word_with_a_slash_is_for_the_command(chat: RunCommand, endless: Endless) -> None:
    where = ("--endpoint-name", "e", "--endpoint-url", endless.url, "--region", "us-east-1")
    done = chat(*where, given="/help\n/quit\n/etc/hosts is what?\n//slash it\n")
    assert done.returncode == 1
    for word in ("/help", "/stats", "/exit", "//WORD", "Ctrl-C"):
        assert word in done.stderr
    unknown = [line for line in done.stderr.splitlines() if line.startswith("aiosmrt: ")]
    assert unknown == [
        f"aiosmrt: there is no {word}, nothing was sent; try /help"
        for word in ("/quit", "/etc/hosts")
    ]
    assert [body["messages"] for body in endless.bodies] == [
        [{"role": "user", "content": "/slash it"}]
    ]


def test_who_leaves_has_seen_what_failed(chat: RunCommand, endless: Endless) -> None:
    where = ("--endpoint-name", "e", "--endpoint-url", endless.url, "--region", "us-east-1")
    assert chat(*where, given="fail\n/exit\n").returncode == 0
    assert chat(*where, given="fail\n").returncode == 1


def test_a_pipe_gets_the_answer_as_it_is(chat: RunCommand, endless: Endless) -> None:
    where = ("--endpoint-name", "e", "--endpoint-url", endless.url, "--region", "us-east-1")
    done = chat(*where, given="clear\n")
    assert done.stdout == "\x1b[2J\x1b]0;mine\x07word \n"


def test_an_answer_that_ends_without_proof_is_kept_and_complained_of(
    chat: RunCommand, endless: Endless
) -> None:
    where = ("--endpoint-name", "e", "--endpoint-url", endless.url, "--region", "us-east-1")
    done = chat(*where, given="cut\nagain\n")
    assert done.returncode == 1
    assert done.stdout == "word \nword \n"
    assert done.stderr.startswith("aiosmrt: TruncatedStream: the stream ended without the event")
    assert done.stderr.count("\n") == 1
    roles = [message["role"] for message in _read_messages(endless.bodies[-1])]
    assert roles == ["user", "assistant", "user"]


def test_a_number_that_json_has_no_words_for_is_not_sent(
    chat: RunCommand, endless: Endless
) -> None:
    where = ("--endpoint-name", "e", "--endpoint-url", endless.url, "--region", "us-east-1")
    done = chat(*where, "--temperature", "nan", given="one\n")
    assert done.returncode == 1
    assert done.stderr.startswith("aiosmrt: ParameterError: the value at ['temperature'] is nan")
    assert not endless.bodies


def test_what_is_sent_and_what_becomes_of_failures(chat: RunCommand, endless: Endless) -> None:
    where = ("--endpoint-name", "e", "--endpoint-url", endless.url, "--region", "us-east-1")
    more = ("--system", "Be brief.", "--model", "m", "--max-tokens", "5", "--temperature", "0.5")
    done = chat(*where, *more, given="one\nfail\ntwo\n")
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["word ", "word "]
    assert done.stderr.startswith("aiosmrt: ModelError (HTTP 424): ")
    assert done.stderr.count("\n") == 1
    first, failed, last = endless.bodies
    system = {"role": "system", "content": "Be brief."}
    asked = {"role": "user", "content": "one"}
    assert first == {
        "messages": [system, asked],
        "stream": True,
        "model": "m",
        "max_tokens": 5,
        "temperature": 0.5,
        "stream_options": {"include_usage": True},
    }
    assert failed["model"] == "m"
    # What failed was not said.
    answered = {"role": "assistant", "content": "word "}
    assert last["messages"] == [system, asked, answered, {"role": "user", "content": "two"}]


@pytest.mark.parametrize("arguments", [(), ("--local", "--endpoint-name", "e")])
def test_wrong_usage(chat: RunCommand, arguments: tuple[str, ...]) -> None:
    assert chat(*arguments, given="").returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_an_interrupt_stops_the_answer_and_keeps_the_conversation(endless: Endless) -> None:
    import pty

    where = ["--endpoint-name", "e", "--endpoint-url", endless.url, "--region", "us-east-1"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        # Of a terminal that is its own, an interrupt goes to it.
        [sys.executable, "-c", _LOGIN, *CHAT, *where],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **KEYS, "TERM": "dumb"},
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            _expect(ours, b"> ")
            os.write(ours, b"for ever\n")
            _expect(ours, b"word word ")
            os.write(ours, b"\x03")
            assert endless.stopped.wait(60)
            _expect(ours, b"> ")
            os.write(ours, b"clear\n")
            # What would control the terminal is left out.
            assert b"\x1b" not in _expect(ours, b"word ")
            _expect(ours, b"> ")
            endless.stopped.clear()
            os.write(ours, b"call for ever\n")
            _expect(ours, b"[reasoning: Hm. ]\r\n[call f []\r\n[reasoning: Hm. ]")
            os.write(ours, b"\x03")
            assert endless.stopped.wait(60)
            _expect(ours, b"\n> ")  # for no tool
            os.write(ours, b"last\n")
            _expect(ours, b"word ")
            os.write(ours, b"\x04")
            assert process.wait(60) == 0
        finally:
            process.kill()
            os.close(ours)
    messages = _read_messages(endless.bodies[-1])
    # Of a call that is not whole, nothing was said.
    assert [message["content"] for message in messages[2:]] == ["clear", CLEARED, "last"]
    messages = messages[:3]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"].startswith("word word ")


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to threads here")
def test_an_interrupt_that_does_not_end_a_wait_stops_an_answer() -> None:
    """As one that another thread is given, or that comes just before the wait."""

    async def find_thread() -> int:
        return threading.get_ident()

    with _run_loop() as loop:
        other = _run(loop, find_thread())
        timer = threading.Timer(0.2, signal.pthread_kill, (other, signal.SIGINT))
        timer.start()
        with pytest.raises(asyncio.CancelledError):
            _run(loop, asyncio.sleep(20))
        timer.join()


# Takes the terminal on standard input for its own, and becomes the command.
_LOGIN = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def _expect(terminal: int, text: bytes) -> bytes:
    """Give what comes until this has come."""
    seen = b""
    deadline = time.monotonic() + 60
    os.set_blocking(terminal, False)
    while text not in seen:
        assert time.monotonic() < deadline, seen
        try:
            seen += os.read(terminal, 1)
        except BlockingIOError:
            time.sleep(0.01)
    return seen
