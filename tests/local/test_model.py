from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from aiosmrt.errors import ConfigurationError
from aiosmrt.local import InvocationRequest, ModelFailure, ModelResponse, load_model
from aiosmrt.local.model import echo
from aiosmrt.service.model import OPERATIONS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_request_has_every_member_that_an_operation_has() -> None:
    members = {name for operation in OPERATIONS.values() for name in operation.parameters}
    assert {field.name for field in attrs.fields(InvocationRequest)} == {
        *(*members, "operation", "path"),
        *("headers", "request_id", "attempt"),
    }


def test_a_request_does_not_show_what_the_service_calls_sensitive() -> None:
    request = InvocationRequest("InvokeEndpoint", "e", b"private", custom_attributes="secret")
    assert "private" not in repr(request)
    assert "secret" not in repr(request)


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\0b"])
@pytest.mark.parametrize("name", ["content_type", "custom_attributes", "new_session_id"])
def test_a_response_refuses_what_no_header_can_carry(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name} goes out as a header"):
        ModelResponse(b"", **{name: value})


def test_a_failure_pickles() -> None:
    failure = pickle.loads(pickle.dumps(ModelFailure(507, "full")))
    assert (failure.status, failure.message) == (507, "full")


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"", []),
        (b"one", [b"one"]),
        (b"  one two\n\nthree ", [b"  one ", b"two\n\n", b"three "]),
        (b" \n", [b" \n"]),
        (b"\xff\xfe \x00", [b"\xff\xfe ", b"\x00"]),
    ],
)
def test_the_built_in_model_streams_its_input_word_by_word(body: bytes, parts: list[bytes]) -> None:
    response = echo(InvocationRequest("InvokeEndpointWithResponseStream", "e", body))
    assert isinstance(response.body, Iterator)
    assert list(response.body) == parts


def test_the_built_in_model_answers_with_json() -> None:
    response = echo(InvocationRequest("InvokeEndpoint", "e", "ä\N{SNOWMAN}".encode()))
    assert response.body == {"echo": "ä\N{SNOWMAN}", "bytes": 5}


def test_a_model_is_loaded_from_the_current_folder(folder: Path) -> None:
    (folder / "house").mkdir()
    (folder / "house" / "model.py").write_text(
        "class Big:\n"
        "    @staticmethod\n"
        "    def run(request): return b'big'\n"
        "def run(request): return request.body\n"
    )
    request = InvocationRequest("InvokeEndpoint", "e", b"x")
    assert load_model("house.model:run")(request) == b"x"
    assert load_model("house.model:Big.run")(request) == b"big"
    assert sys.path.count(str(folder)) == 1


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("broken", "write it as package.module:function"),
        ("broken:", "write it as package.module:function"),
        (":run", "write it as package.module:function"),
        ("nowhere.model:run", r"importing nowhere.model failed \(ModuleNotFoundError"),
        ("broken:run", r"importing broken failed \(ZeroDivisionError"),
        ("sound:walk", "has no attribute 'walk'"),
        ("sound:number", "'sound:number' is a int, not something to call"),
    ],
)
def test_a_wrong_reference_says_what_is_wrong_with_it(
    folder: Path, reference: str, problem: str
) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "sound.py").write_text("number = 1\ndef run(request): ...\n")
    with pytest.raises(ConfigurationError, match=problem):
        load_model(reference)
