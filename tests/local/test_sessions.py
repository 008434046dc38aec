"""The endpoint's part in stateful sessions: alone, and to clients of two makes."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import pytest

from aiosmrt.errors import ModelError
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelResponse
from aiosmrt.local.sessions import Sessions

Connect: TypeAlias = Callable[..., Any]

_NOW = datetime.datetime(2026, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
_SECOND = datetime.timedelta(seconds=1)
_ANSWER = ModelResponse(b"")


def _ask(session_id: str | None, endpoint_name: str = "e") -> InvocationRequest:
    return InvocationRequest("InvokeEndpoint", endpoint_name, session_id=session_id)


def _open(sessions: Sessions, told: str | None = None, endpoint_name: str = "e") -> str:
    answer = attrs.evolve(_ANSWER, new_session_id=told)
    head = sessions.note(_ask("NEW_SESSION", endpoint_name), answer, _NOW)
    assert head.new_session_id is not None
    return head.new_session_id


def _check(sessions: Sessions, session_id: str, seconds: float, endpoint_name: str = "e") -> str:
    """Give what is said against a session after so many seconds, nothing if it is let through."""
    try:
        sessions.check(_ask(session_id, endpoint_name), _NOW + seconds * _SECOND)
    except ModelError as error:
        return f"{error.original_status_code}: {error.original_message}"
    return ""


def test_a_session_gets_an_id_and_an_end_where_the_model_names_none() -> None:
    sessions = Sessions(60)
    session_id, _, end = _open(sessions).partition("; ")
    assert end == "Expires=2026-02-03T04:06:06Z"
    assert not _check(sessions, session_id, 59)
    assert _open(sessions, "mine") == "mine; Expires=2026-02-03T04:06:06Z"
    assert not _check(sessions, "mine", 59)
    assert _open(sessions, "own; Expires=2026-02-03T04:05:08Z").startswith("own; ")
    assert not _check(sessions, "own", 1)
    assert _check(sessions, "own", 2) == "400: Bad request: session expired: own"


def test_what_is_not_open_at_the_endpoint_is_refused_in_a_containers_words() -> None:
    sessions = Sessions(60)
    _open(sessions, "a")
    assert not _check(sessions, "a", 1)
    assert _check(sessions, "a", 1, "another") == "400: Bad request: session not found: a"
    assert _check(sessions, "b", 1) == "400: Bad request: session not found: b"
    sessions.check(_ask(None), _NOW)
    sessions.check(_ask("NEW_SESSION"), _NOW)


def test_the_model_closes_and_renews() -> None:
    sessions = Sessions(60)
    _open(sessions, "a")
    later = attrs.evolve(_ANSWER, new_session_id="a; Expires=2026-02-03T05:00:00Z")
    assert sessions.note(_ask("a"), later, _NOW) == later
    assert not _check(sessions, "a", 61)
    assert sessions.note(_ask("a"), _ANSWER, _NOW) == _ANSWER
    sessions.note(_ask("a"), attrs.evolve(_ANSWER, closed_session_id="a"), _NOW)
    assert "not found" in _check(sessions, "a", 1)


def test_what_has_ended_is_forgotten() -> None:
    sessions = Sessions(60)
    for number in range(100):
        _open(sessions, f"s{number}; Expires=2026-02-03T04:05:05Z")
    assert len(sessions._ends) == 1


def _remember() -> Callable[[InvocationRequest], ModelResponse]:
    """Give a model that knows how often it was called in each session."""
    counts: dict[str, int] = {}

    def model(request: InvocationRequest) -> ModelResponse:
        session_id = request.session_id or ""
        if session_id == "NEW_SESSION":
            session_id = f"s{len(counts)}"
            counts[session_id] = 0
            return ModelResponse("0", new_session_id=session_id)
        counts[session_id] += 1
        closed = session_id if request.body == b"close" else None
        return ModelResponse(str(counts[session_id]), closed_session_id=closed)

    return model


@pytest.mark.asyncio
async def test_a_model_has_a_state_of_each_session() -> None:
    async with (
        LocalEndpoint(_remember(), session_seconds=3600) as endpoint,
        endpoint.client(params={"endpoint_name": "e", "body": b""}) as client,
    ):
        ids = [
            (await client.invoke_endpoint(session_id="NEW_SESSION")).new_session_id for _ in "ab"
        ]
        assert ids == ["s0", "s1"]
        for session_id, count in [("s0", "1"), ("s0", "2"), ("s1", "1"), ("s0", "3")]:
            assert (await client.invoke_endpoint(session_id=session_id)).text() == count
        async with client.invoke_endpoint_with_response_stream(session_id="s1") as stream:
            assert await stream.read() == b"2"
        closed = await client.invoke_endpoint(session_id="s0", body=b"close")
        assert closed.closed_session_id == "s0"
        for session_id in ("s0", "never"):
            for call in (client.invoke_endpoint, client.invoke_endpoint_with_response_stream):
                with pytest.raises(ModelError, match=f"session not found: {session_id}"):
                    await call(session_id=session_id)
        assert (await client.invoke_endpoint(session_id="s1")).text() == "3"


@pytest.mark.asyncio
async def test_boto3_is_told_the_same(connect: Connect) -> None:
    async with LocalEndpoint(_remember()) as endpoint:
        client = connect(endpoint)

        def converse() -> None:
            ask = {"EndpointName": "e", "Body": b"close"}
            opened = client.invoke_endpoint(**ask, SessionId="NEW_SESSION")
            session_id = opened["NewSessionId"].split(";")[0]
            closed = client.invoke_endpoint(**ask, SessionId=session_id)
            assert closed["ClosedSessionId"] == session_id
            for answer in (opened, closed):
                answer["Body"].close()
            with pytest.raises(client.exceptions.ModelError) as caught:
                client.invoke_endpoint(**ask, SessionId=session_id)
            assert caught.value.response["OriginalStatusCode"] == 400
            assert session_id in caught.value.response["OriginalMessage"]

        await asyncio.to_thread(converse)
