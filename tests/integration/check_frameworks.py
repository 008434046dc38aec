"""The recipes of docs/how-to/frameworks.md in the frameworks themselves, against `aiosmrt serve`.

Run by `make integration`, in two environments: with the newest OpenAI SDK, and with its version 2.
What is not installed is skipped.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import attrs
import pytest
import pytest_asyncio

import aiosmrt

HERE = Path(__file__).parent
DOCUMENT = HERE.parent.parent / "docs/how-to/frameworks.md"

# The headings of the recipes, and what each is written for.
PACKAGES = {
    "The OpenAI SDK": "openai",
    "pydantic-ai": "pydantic_ai",
    "OpenAI Agents": "agents",
    "LangChain": "langchain_openai",
    "Strands": "strands",
}
# What a recipe gives: shows an answer as it comes, and tells how many tokens it took.
Answer: TypeAlias = Callable[[str, Callable[[str], object]], Coroutine[object, object, int]]


def _find_recipes() -> dict[str, str]:
    """Give the program of each recipe, its lines where they are in the document."""
    heading, is_program = "", False
    programs: dict[str, str] = {}
    for number, line in enumerate(DOCUMENT.read_text(encoding="utf-8").splitlines()):
        if line.startswith("## "):
            heading = line.removeprefix("## ")
            programs[heading] = "\n" * number
        is_fence = line.startswith("```")
        if is_fence:
            is_program = line == "```python"
        if heading:
            programs[heading] += f"{line if is_program and not is_fence else ''}\n"
    return programs


def test_every_recipe_is_run() -> None:
    assert list(_find_recipes()) == list(PACKAGES)


@attrs.define
class Book:
    """What the model, in another process, has noted of its runs."""

    path: Path

    def read(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines()

    async def wait_for(self, line: str) -> None:
        """Wait until there is such a line."""
        deadline = time.monotonic() + 10
        while line not in self.read():
            assert time.monotonic() < deadline, self.read()
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Book]]:
    """The scripted model, behind a server in a process of its own."""
    book = Book(tmp_path_factory.mktemp("book") / "book")
    book.path.touch()
    environment = {**os.environ, "PYTHONPATH": str(HERE), "AIOSMRT_BOOK": str(book.path)}
    command = [sys.executable, "-m", "aiosmrt", "serve", "--model", "scripted_model:model"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip(), book
        finally:
            server.send_signal(signal.SIGTERM)


@pytest.fixture
def book(served: tuple[str, Book]) -> Book:
    served[1].path.write_text("", encoding="utf-8")
    return served[1]


@pytest_asyncio.fixture
async def client(
    served: tuple[str, Book], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[aiosmrt.SageMakerRuntimeClient]:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    async with aiosmrt.SageMakerRuntimeClient(
        region_name="us-east-1",
        endpoint_url=served[0],
        aws_access_key_id="local",
        aws_secret_access_key="local-secret",
    ) as made:
        yield made
        assert made.stats().open_streams == 0


@pytest_asyncio.fixture(params=PACKAGES)
async def answer(request: pytest.FixtureRequest, client: aiosmrt.SageMakerRuntimeClient) -> Answer:
    package = PACKAGES[request.param]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    module: dict[str, Any] = {"aiosmrt": aiosmrt, "client": client}
    exec(compile(_find_recipes()[request.param], str(DOCUMENT), "exec"), module)
    made: Answer = module["answer"]
    return made


T = TypeVar("T", bound=BaseException)


def _find(error: BaseException | None, kind: type[T]) -> T:
    """Give the error of ours, which may be the cause of a framework's."""
    seen = []
    while error is not None and not isinstance(error, kind):
        seen.append(error)
        error = error.__cause__
    assert error is not None, seen
    return error


@pytest.mark.asyncio
async def test_text_is_shown_as_it_comes(answer: Answer, book: Book) -> None:
    shown: list[str] = []

    def show(text: str) -> None:
        shown.append(text)
        with book.path.open("a", encoding="utf-8") as lines:
            lines.write("shown\n")  # for which the model waits

    tokens = await answer("wait", show)
    assert "".join(shown).split() == ["one", "two", "three"]
    assert tokens == 7
    lines = book.read()
    assert lines[:2] == ["begin: wait", "shown"]
    assert sorted({*lines}) == ["begin: wait", "ended: wait", "shown"]


@pytest.mark.parametrize("said", ["weather", "old weather"])
@pytest.mark.asyncio
async def test_a_tool_is_called_once_and_its_answer_told(
    said: str, answer: Answer, book: Book
) -> None:
    shown: list[str] = []
    tokens = await answer(said, shown.append)
    assert "".join(shown).split() == ["sunny", "in", "Paris"]
    assert tokens == 14
    assert book.read() == [f"begin: {said}", f"ended: {said}", "begin: tool", "ended: tool"]


@pytest.mark.asyncio
async def test_a_fault_in_the_middle_comes_behind_what_was_sound(
    answer: Answer, book: Book
) -> None:
    shown: list[str] = []
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of whichever kind it is on top
        await answer("break", shown.append)
    error = _find(caught.value, aiosmrt.ModelStreamError)
    assert "out of memory" in error.message
    assert error.may_have_run
    assert len(error.attempts) == 1
    assert book.read() == ["begin: break", "failed: break"]


@pytest.mark.asyncio
async def test_an_end_without_its_mark_is_none(answer: Answer, book: Book) -> None:
    shown: list[str] = []
    with pytest.raises(Exception) as caught:  # noqa: PT011 - as above
        await answer("stop short", shown.append)
    assert _find(caught.value, aiosmrt.TruncatedStream).may_have_run
    assert book.read() == ["begin: stop short", "ended: stop short"]


@pytest.mark.asyncio
async def test_a_refusal_is_told_and_not_tried_again(answer: Answer, book: Book) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - as above
        await answer("refuse", print)
    error = _find(caught.value, aiosmrt.ModelError)
    assert error.original_status_code == 500
    assert error.original_json == {"error": {"message": "out of memory"}}
    await asyncio.sleep(1)  # what the SDK would wait for, at most, before it asks again
    assert book.read() == ["begin: refuse"]


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.05, 0.2])
@pytest.mark.asyncio
async def test_a_cancelled_task_stops_the_model(
    answer: Answer, book: Book, seconds: float, client: aiosmrt.SageMakerRuntimeClient
) -> None:
    for _ in range(5):
        book.path.write_text("", encoding="utf-8")
        asking = asyncio.ensure_future(answer("endless", lambda _: None))
        await asyncio.sleep(seconds)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(asking), 10)
        if "begin: endless" in book.read():
            await book.wait_for("stopped: endless")
    assert client.stats().open_streams == 0


@pytest.mark.asyncio
async def test_an_answer_that_is_left_stops_the_model(answer: Answer, book: Book) -> None:
    class Left(Exception):
        pass

    def leave(text: str) -> None:
        raise Left

    gc.disable()  # it stops by being left, not by being found
    try:
        with pytest.raises(Left):
            await answer("endless", leave)
        await book.wait_for("stopped: endless")
    finally:
        gc.enable()


@pytest.mark.asyncio
async def test_awss_own_route_takes_a_token_of_ours(
    client: aiosmrt.SageMakerRuntimeClient, book: Book
) -> None:
    openai: Any = pytest.importorskip("openai")
    where = {"base_url": client.openai_base_url("llm"), "api_key": client.bearer_token}
    ask = {"model": "", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    async with (
        openai.AsyncOpenAI(**where) as ai,
        await ai.chat.completions.create(**ask) as stream,
    ):
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces).split() == ["one", "two", "three"]
    assert book.read() == ["begin: hello", "ended: hello"]
