"""The step of a pipeline, called as Ray Data calls it; `make integration` has it on a cluster."""

from __future__ import annotations

import asyncio
import json
from array import array
from typing import Any

import pytest

import aiosmrt
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure
from aiosmrt.ray import Invoke

pytestmark = pytest.mark.asyncio


def _model(request: InvocationRequest) -> object:
    if request.body == b"fail":
        raise ModelFailure(400, "as asked")
    if request.operation == "InvokeEndpointWithResponseStream":
        return iter([b"he", b"llo"])
    return {"length": len(request.body)}


def _set_up(monkeypatch: pytest.MonkeyPatch, endpoint: LocalEndpoint) -> None:
    """Let the environment say what it would say on a worker."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint.url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local-secret",
    }.items():
        monkeypatch.setenv(name, value)


async def _run(invoke: Invoke, **columns: Any) -> dict[str, Any]:
    try:
        (batch,) = [batch async for batch in invoke(columns)]
    finally:
        await invoke.aclose()
    return batch


async def test_answers_come_behind_the_columns_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with LocalEndpoint(_model) as endpoint:
        _set_up(monkeypatch, endpoint)
        invoke = Invoke(endpoint_name="e", response="json")
        batch = await _run(invoke, id=[7, 8, 9], body=["a", "fail", b"abc"])
    assert batch["id"] == [7, 8, 9]
    assert batch["response"] == [{"length": 1}, None, {"length": 3}]
    assert batch["content_type"] == ["application/json", None, "application/json"]
    assert all(batch["request_id"])
    assert batch["attempts"] == [1, 1, 1]
    assert batch["error_type"] == [None, "ModelError", None]
    assert "as asked" in batch["error"][1]
    assert batch["may_have_run"] == [None, True, None]


async def test_a_function_gives_the_request_and_another_reads_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with LocalEndpoint(_model) as endpoint:
        _set_up(monkeypatch, endpoint)
        invoke = Invoke(
            request=lambda row: {"endpoint_name": row["to"], "json": row["x"]},
            response=lambda answer: answer.json()["length"],
        )
        batch = await _run(invoke, to=["a", "b"], x=[1, [1, 2]])
        asked = sorted((request.endpoint_name, request.body) for request in endpoint.requests)
    assert batch["response"] == [1, 6]
    assert asked == [("a", b"1"), ("b", b"[1, 2]")]


async def test_lists_within_a_body_are_arrays_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"inputs": array("d", [1, 2]), "messages": [{"ids": array("b", [3])}], "n": None}
    async with LocalEndpoint(_model) as endpoint:
        _set_up(monkeypatch, endpoint)
        await _run(Invoke(endpoint_name="e"), body=[body])
        await _run(Invoke(endpoint_name="e", request=lambda row: {"json": row["b"]}), b=[body])
        asked = [json.loads(request.body) for request in endpoint.requests]
    assert asked == [{"inputs": [1, 2], "messages": [{"ids": [3]}], "n": None}] * 2


async def test_a_row_of_which_no_request_can_be_made_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ask(row: dict[str, Any]) -> Any:
        return {"body": str(2 // row["x"])}

    async with LocalEndpoint(_model) as endpoint:
        _set_up(monkeypatch, endpoint)
        batch = await _run(Invoke(endpoint_name="e", request=ask), x=[1, 0, 2])
        assert batch["response"] == ['{"length": 1}', None, '{"length": 1}']
        assert batch["error_type"] == [None, "ZeroDivisionError", None]
        assert (batch["attempts"], batch["may_have_run"]) == ([1, 0, 1], [None, False, None])
        assert len(endpoint.requests) == 2
        with pytest.raises(ZeroDivisionError):
            await _run(Invoke(endpoint_name="e", request=ask, on_error="raise"), x=[1, 0, 2])


async def test_a_result_is_waited_for_as_long_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def model(_: InvocationRequest) -> object:
        await asyncio.sleep(60)
        return b""

    async with LocalEndpoint(model) as endpoint:
        _set_up(monkeypatch, endpoint)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"{endpoint.url}/s3")
        options: Any = {"operation": "invoke_endpoint_async", "result_timeout": 0.1}
        batch = await _run(Invoke(endpoint_name="e", **options), body=["a"])
        assert batch["error_type"] == ["AsyncInferenceTimeout"]
        assert "within 0.1 s" in batch["error"][0]


async def test_an_answer_that_cannot_be_read_is_the_error_of_its_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with LocalEndpoint(lambda _: b"no JSON") as endpoint:
        _set_up(monkeypatch, endpoint)
        batch = await _run(Invoke(endpoint_name="e", response="json"), body=["a"])
        assert batch["error_type"] == ["JSONDecodeError"]
        assert (batch["response"], batch["may_have_run"]) == ([None], [True])
        with pytest.raises(ValueError, match="Expecting value"):
            await _run(Invoke(endpoint_name="e", response="json", on_error="raise"), body=["a"])


async def test_an_error_is_raised_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with LocalEndpoint(_model) as endpoint:
        _set_up(monkeypatch, endpoint)
        with pytest.raises(aiosmrt.ModelError, match="as asked"):
            await _run(Invoke(endpoint_name="e", on_error="raise"), body=["a", "fail"])


async def test_batches_of_an_actor_share_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    async with LocalEndpoint(_model) as endpoint:
        _set_up(monkeypatch, endpoint)
        invoke = Invoke(endpoint_name="e", max_in_flight=3)
        batch = await _run(invoke, body=["x"] * 20)
        assert batch["attempts"] == [1] * 20
        assert invoke.client.stats().idle_connections <= 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"on_error": "ignore"}, "on_error='ignore'"),
        ({"response": "xml"}, "response='xml'"),
        ({"client": {"aws_secret_access_key": "hidden"}}, "pickled"),
        ({"max_in_flight": 0}, "max_"),
    ],
)
async def test_what_cannot_be_used_is_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(aiosmrt.ConfigurationError, match=says) as caught:
        Invoke(endpoint_name="e", **options)
    assert "hidden" not in str(caught.value)


async def test_a_batch_of_another_format_and_a_column_that_is_not_there_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(TypeError, match="batch_format"):
        await anext(aiter(Invoke(endpoint_name="e")([1, 2])))  # type: ignore[arg-type]
    with pytest.raises(aiosmrt.ConfigurationError, match="the columns are id"):
        await _run(Invoke(endpoint_name="e"), id=[1])
