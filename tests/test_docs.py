"""Every Python block of the documents runs, in order, against a local endpoint."""

from __future__ import annotations

import argparse
import ast
import asyncio
import importlib
import inspect
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import aiosmrt
from aiosmrt.cli.arguments import build_parser
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure, ModelResponse
from aiosmrt.settings.options import _SHAPES_THE_POOL
from aiosmrt.settings.sources import Setting, resolve_settings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(page.relative_to(ROOT).as_posix() for page in DOCS.rglob("*.md"))
# Its blocks need frameworks: `make integration` runs them (tests/integration/check_frameworks.py).
_RUN_ELSEWHERE = {"docs/how-to/frameworks.md"}
DOCUMENTS = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", *sorted({*PAGES} - _RUN_ELSEWHERE)]


_DONE = b"data: [DONE]\n\n"


def _chat(text: str, *, is_stream: bool = False) -> object:
    said = {"role": "assistant", "content": text}
    choice = {"index": 0, "delta" if is_stream else "message": said, "finish_reason": "stop"}
    document = {"id": "1", "created": 1, "model": "m", "choices": [choice]}
    return iter([f"data: {json.dumps(document)}\n\n"]) if is_stream else document


def _stream(request: InvocationRequest) -> object:
    if b'"messages"' in request.body:
        return _chat("there was", is_stream=True)
    if request.accept == "application/json":
        return iter([b'{"a": 1}\n{"a"', b": 2}"])
    if request.accept == "text/event-stream":
        return iter([b'data: {"choices": [{"delta": {"cont', b'ent": "a time"}}]}\n\n', _DONE])
    return iter([b"once", b"upon"])


def _model(request: InvocationRequest) -> object:
    if request.operation == "InvokeEndpointWithResponseStream":
        return _stream(request)
    if request.body == b"fail":
        raise ModelFailure(400, "as asked")
    if b'"CLOSE"' in request.body:
        return ModelResponse(b"", closed_session_id=request.session_id)
    if b'"messages"' in request.body:
        routed = request.path == "/v1/chat/completions"
        return _chat("a whole answer" if routed else "there was")
    return {"ok": True}


@pytest.fixture
def endpoint() -> Iterator[LocalEndpoint]:
    """An endpoint in another thread: the blocks run event loops of their own."""
    ready, done = threading.Event(), asyncio.Event()
    running: list[tuple[LocalEndpoint, asyncio.AbstractEventLoop]] = []

    async def run() -> None:
        async with LocalEndpoint(_model) as local:
            running.append((local, asyncio.get_running_loop()))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(10)
    local, loop = running[0]
    yield local
    loop.call_soon_threadsafe(done.set)
    thread.join()


def _blocks(document: str) -> list[str]:
    return re.findall(
        r"^```python\n(.*?)^```$", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE
    )


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if _blocks(one)])
def test_every_python_block_runs(
    document: str,
    endpoint: LocalEndpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", endpoint.url)
    monkeypatch.chdir(tmp_path)  # a block writes a file
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"{endpoint.url}/s3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local-secret")
    monkeypatch.setattr("os.environ", os.environ.copy())  # a block sets a variable
    module: dict[str, Any] = {"aiosmrt": aiosmrt, "asyncio": asyncio}
    blocks = _blocks(document)
    programs = [block for block in blocks if "asyncio.run(" in block]
    fragments = [block for block in blocks if "asyncio.run(" not in block]
    for program in programs:
        exec(compile(program, document, "exec"), {"__name__": "__main__"})

    async def run() -> None:
        async with aiosmrt.SageMakerRuntimeClient(region_name="us-east-1") as client:
            module["client"] = client
            for fragment in fragments:
                code = compile(fragment, document, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                outcome = types.FunctionType(code, module)()
                if inspect.isawaitable(outcome):
                    await outcome

    if fragments:
        asyncio.run(run())
    printed = f"\n{capsys.readouterr().out}"
    for expected in _PRINTED.get(document, ()):
        assert re.search(expected, printed), (expected, printed)


_WIDEST = 90  # columns that have room in a window of 1280 pixels, between the two lists


def test_no_code_goes_out_of_sight() -> None:
    """What a program prints goes on in the next line; what is typed does not."""
    for page in PAGES:
        text = (ROOT / page).read_text()
        for kind, code in re.findall(r"^```(\S+).*?\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            wide = [line for line in code.splitlines() if len(line) > _WIDEST]
            assert kind == "text" or not wide, (page, wide)


_PRINTED = {
    "README.md": [r"\{'ok': True\} [0-9a-f-]{36}\n", r"\n99 \{'ok': True\}\n", "\nthere was\n"],
    "docs/how-to/call.md": [r"\{'ok': True\} [0-9a-f-]{36}\n", "b'once'", "\n400 as asked"],
    "docs/how-to/streams.md": ["b'once'", "\nonce\nupon\n", '\nmessage {"choices"', "\na time\n"],
    "docs/how-to/sessions.md": [r"\n[0-9a-f-]{36} 20.+\nb'onceupon'\n"],
    "docs/how-to/agents.md": ["\nthere was\nthere was\n"],
    "docs/how-to/openai-route.md": ["\na whole answer\n"],
}


def test_the_readme_is_a_front_page() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 150
    links = re.findall(r"\]\(([^)#:]+)\)", readme)
    assert len(links) > 20
    for link in links:
        assert (ROOT / link).is_file(), link
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for extra in extras:
        assert f"`{extra}`" in readme, extra


def test_on_pypi_the_readme_has_no_link_to_a_file() -> None:
    """As it is built: `nox -s package` looks at what is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    page = (ROOT / "README.md").read_text()
    for one in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        page = re.sub(one["pattern"], one["replacement"], page)
    assert re.findall(r"\]\((?!https?:)[^)]*\)|^\[[^]]+\]:.*", page, re.MULTILINE) == []
    assert "(`docs/tutorial/index.md`)" in page or "/docs/tutorial/index.md)" in page


def test_the_reference_says_what_to_do_about_every_error() -> None:
    errors = (DOCS / "reference/errors.md").read_text().partition("## Classes")[0]
    parents = {
        "AiosmrtError",
        "EventStreamError",
        "PayloadError",
        "TimeLimitError",
        "TransportError",
    }
    for name in {*aiosmrt.errors.__all__, "AsyncInferenceTimeout"} - parents:
        assert f"`{name}`" in errors, f"nothing says what to do about {name}"


@pytest.mark.parametrize("kind", ["Config", "Timeout", "RetryPolicy"])
def test_the_reference_has_every_option(kind: str) -> None:
    """From the docstring, which the page is made of."""
    assert f"{{generated}} options {kind}\n" in (DOCS / "reference/options.md").read_text()
    options: type[Any] = getattr(aiosmrt, kind)
    described = re.findall(r"^    (\w+): ", inspect.getdoc(options) or "", re.MULTILINE)
    assert sorted(described) == sorted(field.name for field in attrs.fields(options))


def test_the_guide_to_limits_has_the_defaults() -> None:
    page = (DOCS / "how-to/timeouts-and-retries.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+|none) \|", page, re.MULTILINE))
    said = {name: None if value == "none" else float(value) for name, value in rows.items()}
    assert said == attrs.asdict(aiosmrt.Timeout())
    assert re.search(r"^\| `total` .+ of a stream to its end \|", page, re.MULTILINE)


def _read_pages(folder: str) -> str:
    return "\n".join(page.read_text() for page in (DOCS / folder).glob("*.md"))


@pytest.mark.parametrize(
    "module", ["", ".asgi", ".eventstream", ".local", ".openai", ".otel", ".sse"]
)
def test_the_reference_has_every_name(module: str) -> None:
    name = f"aiosmrt{module}"
    reference = _read_pages("reference")
    if f"automodule:: {name}\n```" in reference:
        return  # all of it
    skipped = {"__version__", "asgi", "eventstream", "sse"}
    for offered in set(importlib.import_module(name).__all__) - skipped:
        assert re.search(rf":: {re.escape(name)}\.{offered}$", reference, re.MULTILINE), offered


def test_the_reference_has_every_command_and_option() -> None:
    cli = (DOCS / "reference/cli.md").read_text()
    (commands,) = (
        action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    for command in commands.choices:
        assert f"{{generated}} help {command}\n" in cli, command
    options = (DOCS / "reference/options.md").read_text()
    for name in _SHAPES_THE_POOL:
        assert f"`{name}`" in options, name


def test_the_reference_has_every_environment_variable() -> None:
    environment = (DOCS / "reference/environment.md").read_text()
    source = "\n".join(file.read_text() for file in (ROOT / "aiosmrt").rglob("*.py"))
    found = set(re.findall(r"\"(AWS_[A-Z0-9_]+|[A-Z_]+_PROXY|OTEL_[A-Z_]+|_X_AMZN_\w+)\"", source))
    assert len(found) > 15
    for name in found:
        assert f"`{name}`" in environment, name


def test_the_first_of_several_environment_variables_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where each variable names a file, since one of them must
    environment = (DOCS / "reference/environment.md").read_text()
    rows = re.findall(r"^\| (.+?) \| `(\w+)`; the first one wins", environment, re.MULTILINE)
    assert len(rows) > 4
    for row, setting in rows:
        names = re.findall(r"`(\w+)`", row)
        for name in names:
            (tmp_path / name).touch()
        profiles = tmp_path / setting
        profiles.write_text("".join(f"[profile {name}]\n" for name in names))
        environ = {"AWS_CONFIG_FILE": str(profiles), **{name: name for name in names}}
        found = getattr(resolve_settings(environ=environ), setting)
        assert found == Setting(names[0], f"environment variable {names[0]}")


def test_the_house_has_every_wing() -> None:
    house = (DOCS / "explanation/house.md").read_text()
    for wing in (ROOT / "aiosmrt").iterdir():
        if (wing / "__init__.py").exists():
            assert f"`{wing.name}/`" in house, wing.name


def test_the_guide_to_telemetry_has_every_attribute_and_metric() -> None:
    guide = (DOCS / "how-to/telemetry.md").read_text().replace("`.", "`gen_ai.usage.")
    source = "\n".join(file.read_text() for file in (ROOT / "aiosmrt/otel").glob("*.py"))
    names = set(
        re.findall(r"\"((?:aiosmrt|aws|cloud|error|gen_ai|http|rpc|server)\.[a-z_.]+)\"", source)
    )
    assert len(names) > 30
    for name in names - {"aws.sagemaker"}:  # which is a value
        assert f"`{name}`" in guide, name


def test_the_list_for_language_models_has_every_page() -> None:
    listed = (DOCS / "llms.txt").read_text()
    for page in PAGES:
        place = page.removeprefix("docs/").removesuffix(".md").removesuffix("index")
        if place.count("/") and (not place.endswith("/") or place == "tutorial/"):
            assert f"]({place.rstrip('/')}/)" in listed, page


_TUTORIAL = (DOCS / "tutorial/index.md").read_text()
_PORTS = ("8080", "8000")
# Behind a server that was started; whoever types takes as long.
_WAIT = """
until curl -s -o /dev/null http://127.0.0.1:{}/; do sleep 0.05; done
"""


def _choose_ports(text: str) -> str:
    for port in _PORTS:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            text = text.replace(port, str(probe.getsockname()[1]))
    return text


def test_the_tutorial_runs_as_it_is_printed(tmp_path: Path) -> None:
    """Its files are saved, and its commands typed, but those that install it."""
    if not shutil.which("curl"):
        pytest.skip("the tutorial has curl")
    text = _choose_ports(_TUTORIAL.partition("## 2.")[2])
    blocks = re.findall(
        r"^```(\S+)(?: python\n:caption: (\S+)\n)?\n(.*?)^```$", text, re.DOTALL | re.MULTILINE
    )
    script, expected = "", []
    for kind, name, body in blocks:
        if name:
            (tmp_path / name).write_text(body)
        elif kind == "sh":
            script += body
            if body.endswith("&\n"):
                script += _WAIT.format(re.findall(r"--port (\d+)", body)[0])
        elif kind == "text":
            expected += body.splitlines()
    assert len(expected) == 6
    process = subprocess.Popen(
        ["bash", "-c", script + "kill $(jobs -p)\n"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    position = 0
    for line in expected:
        position = printed.find(line, position)
        assert position >= 0, (line, printed)
