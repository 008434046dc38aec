"""Tests of the chat server, with faults that no real endpoint plays on request.

    pip install aiosmrt fastapi httpx2 pytest
    pytest examples/test_chat_server.py

`sagemaker_runtime` is a fixture of aiosmrt: a local endpoint with a script.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from chat_server import application
from fastapi.testclient import TestClient

from aiosmrt.local import LocalEndpoint

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def page(sagemaker_runtime: LocalEndpoint) -> Iterator[TestClient]:
    """Serve the application, whose client finds the local endpoint in the environment."""
    with TestClient(application) as client:
        yield client


def read(text: str) -> list[Any]:
    """Give the values of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_a_model_is_passed_on(page: TestClient, sagemaker_runtime: LocalEndpoint) -> None:
    sagemaker_runtime.answer(chat="Once upon a time")
    answer = page.post("/chat", json=HELLO)
    assert "".join(read(answer.text)) == "Once upon a time"
    assert sagemaker_runtime.requests.only().json["messages"] == HELLO


def test_a_busy_endpoint_has_a_status(page: TestClient, sagemaker_runtime: LocalEndpoint) -> None:
    sagemaker_runtime.throttle(3)
    answer = page.post("/chat", json=HELLO)
    assert answer.status_code == 429
    assert answer.json()["error"].startswith("ThrottlingException")


def test_a_cut_answer_is_told_of(page: TestClient, sagemaker_runtime: LocalEndpoint) -> None:
    sagemaker_runtime.cut(after=2, inside="frame", chat="Once upon a time")
    *tokens, end = read(page.post("/chat", json=HELLO).text)
    assert "".join(tokens).startswith("Once")
    assert end["error"].startswith("TruncatedStream")
