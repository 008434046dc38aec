from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import aiosmrt
from aiosmrt.errors import ConfigurationError
from aiosmrt.local import LocalEndpoint
from aiosmrt.local.script import Script
from aiosmrt.local.script_file import LINES

YAML = """
# a comment
- throttle: 2
- answer: {json: {"ok": true}, on: llm}
- answer:
    stream: [a, {base64: /w==}, {line: 1}]
    on: {endpoint_name: llm, json: {"n": 2}}
- answer: {error: {code: AccessDeniedException, message: never, status: 403}}
- cut: {after: 1, inside: frame, chat: Once upon a time}
- internal_failure
- clock: 10
"""


async def _take_all(path: Path) -> None:
    async with LocalEndpoint(strict=True) as endpoint:
        endpoint.follow(path)
        retry = aiosmrt.RetryPolicy(backoff=lambda number, error: 0.0)
        async with endpoint.client(retry=retry, params={"endpoint_name": "llm"}) as client:
            assert (await client.invoke_endpoint(body=b"x")).json() == {"ok": True}
            async with client.invoke_endpoint_with_response_stream(json={"n": 2}) as stream:
                assert [part.bytes async for part in stream] == [b"a", b"\xff", b'{"line": 1}\n']
            with pytest.raises(aiosmrt.ServiceError, match="AccessDeniedException"):
                await client.invoke_endpoint(body=b"x")
            async with client.invoke_endpoint_with_response_stream(body=b"x") as stream:
                with pytest.raises(aiosmrt.TruncatedStream):
                    await stream.read()
            with pytest.raises(aiosmrt.InternalFailure):
                await client.invoke_endpoint(body=b"x")
        endpoint.assert_complete()


@pytest.mark.asyncio
async def test_a_script_can_be_yaml_or_json(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    path = tmp_path / "script.yaml"
    path.write_text(YAML)
    await _take_all(path)
    other = tmp_path / "script.json"
    other.write_text(json.dumps(yaml.safe_load(YAML)).replace('"true": ', '"on": '))
    await _take_all(other)


def test_a_step_of_a_file_says_where_it_stands(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "script.yaml"
    path.write_text("- throttle: 2\n\n- answer: {text: a}\n")
    endpoint = LocalEndpoint()
    endpoint.follow(path)
    with pytest.raises(AssertionError) as caught:
        endpoint.assert_complete()
    assert "throttle(times=2) (script.yaml, line 1)" in str(caught.value)
    assert "answer(text='a') (script.yaml, line 3)" in str(caught.value)


@pytest.mark.asyncio
async def test_a_script_can_be_python(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text("def script(endpoint):\n    endpoint.answer(text=__file__)\n")
    async with LocalEndpoint(strict=True) as endpoint, endpoint.client() as client:
        endpoint.follow(path)
        answer = await client.invoke_endpoint(endpoint_name="e", body=b"x")
        assert answer.text() == str(path)


@pytest.mark.asyncio
async def test_a_script_can_name_a_model(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text('[{"answer": {"model": "aiosmrt.local.model:echo"}}]')
    async with LocalEndpoint(strict=True) as endpoint, endpoint.client() as client:
        endpoint.follow(str(path))
        answer = await client.invoke_endpoint(endpoint_name="e", body=b"x")
        assert answer.json()["echo"] == "x"


def test_every_step_can_be_written_in_a_file() -> None:
    methods = {name for name in vars(Script) if not name.startswith("_")}
    assert methods - {"assert_complete", "follow", "record"} == set(LINES)
    assert len(LINES) == len(set(LINES))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("s.json", "[", "cannot be read"),
        ("s.yaml", "- a: [", "cannot be read"),
        ("s.json", "{}", "is no list of steps, but a dict"),
        ("s.json", '["throttle", {"thottle": 2}]', "step 2: there is no step 'thottle'; did you"),
        ("s.json", '[{"throttle": {"tims": 2}}]', "step 1: throttle() has no option tims; did you"),
        ("s.yaml", "- throttle\n\n- thottle: 2\n", "s.yaml, line 3: there is no step 'thottle'"),
        ("s.yaml", "- throttle: [\n", "line 2, column 1"),
        ("s.json", '[{"answer": "hello"}]', "an answer says what it is, as in {text: 'hello'}"),
        ("s.json", '[{"answer": {"stream": "abc"}}]', "stream is a list of parts"),
        ("s.json", '[{"answer": {"error": "throttle"}}]', "error has code, message and status"),
        ("s.json", '[{"answer": {"error": {"cod": "a"}}}]', "no 'cod'; did you mean 'code'?"),
        ("s.json", '[{"answer": {"error": {"status": "a"}}}]', "status must be an int from 400"),
        ("s.json", '[{"cut": {"inside": "x"}}]', "step 1: inside must be"),
        ("s.json", '[{"a": 1, "b": 2}]', "step 1: a step is one word"),
        ("s.json", '[{"answer": {"body": {"base64": "?"}}}]', "step 1: base64"),
        ("s.json", '[{"answer": {"model": "nowhere:f"}}]', "step 1: model 'nowhere:f'"),
        ("s.json", '[{"follow": "s.json"}]', "no step 'follow'"),
        ("s.py", "1/0", "ZeroDivisionError"),
        ("s.py", "x = 1", "no function script(endpoint)"),
        ("s.py", "async def script(endpoint): ...", "which is not async"),
        ("s.py", "def script(e):\n    e.throttle(0)\n", "s.py, line 2: times must be an int"),
        ("s.py", "def script(e):\n    other\n", "s.py, line 2: NameError: name 'other'"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_place(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        LocalEndpoint().follow(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.json cannot be read"):
        LocalEndpoint().follow(tmp_path / "none.json")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        LocalEndpoint().record(to=tmp_path / "no folder" / "script.json")


def test_yaml_needs_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = tmp_path / "script.yaml"
    path.write_text(YAML)
    with pytest.raises(ConfigurationError, match=r"needs the extra aiosmrt\[yaml\]"):
        LocalEndpoint().follow(path)
