"""The examples run, against a local endpoint.

`make integration` has those for Ray and scikit-learn.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest
import pytest_asyncio

from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure

EXAMPLES = Path(__file__).parent.parent / "examples"

pytest_plugins = ["pytester"]


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest_asyncio.fixture
async def endpoint(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalEndpoint]:
    async with LocalEndpoint() as local:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", local.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"{local.url}/s3")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local-secret")
        yield local


def test_the_list_has_every_example() -> None:
    listed = re.findall(r"^\| `(\S+)` \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(file.name for file in EXAMPLES.glob("*.py"))


@pytest.mark.asyncio
async def test_the_agent_calls_its_tool(
    endpoint: LocalEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    _load("chat_script").script(endpoint)
    await _load("agent").main("llm", "Do I need a coat in Oslo?")
    assert capsys.readouterr().out == "It rains in Oslo: take a coat.\n"
    _, second = endpoint.requests
    assert second.json["messages"][-1]["content"] == "4 °C and rain in Oslo"


@pytest.mark.asyncio
async def test_the_batch_has_a_line_for_each_row(
    endpoint: LocalEndpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def model(request: InvocationRequest) -> object:
        text = json.loads(request.body)["inputs"]
        if text == "text 7":
            raise ModelFailure(400, "not this one")
        return text.upper()

    endpoint.answer(model=model, times=None)
    source, target = tmp_path / "rows.csv", tmp_path / "answers.csv"
    source.write_text("text\n" + "".join(f"text {number}\n" for number in range(100)))
    await _load("batch").main("e", str(source), str(target))
    with target.open(newline="") as file:
        rows = {row["text"]: row for row in csv.DictReader(file)}
    assert len(rows) == 100
    assert rows["text 8"]["answer"] == "TEXT 8"
    assert "not this one" in rows["text 7"]["error"]
    assert capsys.readouterr().out == "1 rows failed\n"


@pytest.mark.asyncio
async def test_asynchronous_answers_are_printed_by_the_names_of_their_files(
    endpoint: LocalEndpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.answer(model=lambda request: {"length": len(request.body)}, times=None)
    files = [tmp_path / "small.json", tmp_path / "large.json"]
    files[0].write_bytes(b"x" * 10)
    files[1].write_bytes(b"x" * 200_000)
    await _load("async_inference").main("big", "s3://aiosmrt-local/inputs/", *map(str, files))
    printed = capsys.readouterr().out.splitlines()
    assert sorted(printed) == sorted(
        [f'{files[0]} {{"length": 10}}', f'{files[1]} {{"length": 200000}}']
    )


def test_the_tests_of_the_chat_server_pass(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they are, without the options of these tests."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    plugins = ("-p", "no:cacheprovider", "-p", "aiosmrt.pytest_plugin")
    # Apart, since a framework that is imported again in this process is a mix of two copies.
    tests = EXAMPLES / "test_chat_server.py"
    pytester.runpytest_subprocess(*plugins, tests).assert_outcomes(passed=3)
