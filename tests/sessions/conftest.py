"""A model that remembers its sessions, and answers of any session."""

from __future__ import annotations

import datetime
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import attrs
import pytest
import pytest_asyncio

from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure, ModelResponse
from aiosmrt.models import InvokeEndpointResponse, ResponseMetadata

OPEN = {"requestType": "NEW_SESSION"}
CLOSE = {"requestType": "CLOSE"}


@attrs.define
class Memory:
    """A model that answers with all that it was told in a session, as JSON or in parts.

    Its sessions are `s0`, `s1` and so on. It opens one for any body, closes one where it is told
    to, and may be made to wait, or to fail, before it answers.
    """

    told: dict[str, list[str]] = attrs.field(factory=dict)
    seen: list[tuple[str | None, str]] = attrs.field(factory=list)  # session and body
    ends: str = ""  # of the sessions that are opened, as `; Expires=…`
    prolongs: bool = False  # whether each answer names its session
    before: Callable[[str], Awaitable[None]] | None = None  # is given the body

    async def __call__(self, request: InvocationRequest) -> ModelResponse:
        body = request.body.decode()
        self.seen.append((request.session_id, body))
        if self.before is not None:
            await self.before(body)
        if body == "fail":
            raise ModelFailure(500, "as asked")
        session_id = request.session_id or ""
        opened = session_id if self.prolongs else None
        if session_id == "NEW_SESSION":
            session_id = f"s{len(self.told)}"
            self.told[session_id] = []
            opened = session_id + self.ends
        if body not in map(json.dumps, (OPEN, CLOSE)):
            self.told[session_id].append(body)
        closed = session_id if body == json.dumps(CLOSE) else None
        told = self.told[session_id]
        if request.operation == "InvokeEndpointWithResponseStream":
            return ModelResponse(iter([f"{word} " for word in told]), closed_session_id=closed)
        return ModelResponse(list(told), new_session_id=opened, closed_session_id=closed)

    @property
    def ids(self) -> list[str | None]:
        return [session_id for session_id, _ in self.seen]


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest_asyncio.fixture
async def client(memory: Memory) -> AsyncIterator[SageMakerRuntimeClient]:
    """Give a client of an endpoint that has the memory."""
    async with LocalEndpoint(memory) as endpoint, endpoint.client() as client:
        yield client


Answer: TypeAlias = Callable[..., InvokeEndpointResponse]


@pytest.fixture
def answer() -> Answer:
    """Give a function that makes an answer: the session that it opens, its end, its `Date`."""

    def make(
        opened: str | None = None,
        expires_at: datetime.datetime | None = None,
        *,
        closed: str | None = None,
        date: str | None = "Sun, 22 Nov 2026 10:00:00 GMT",
    ) -> InvokeEndpointResponse:
        headers = {} if date is None else {"date": date}
        return InvokeEndpointResponse(
            body=b"",
            content_type=None,
            invoked_production_variant=None,
            custom_attributes=None,
            new_session_id=opened,
            new_session_expires_at=expires_at,
            closed_session_id=closed,
            metadata=ResponseMetadata("1-1-1", 200, headers, (), 0.0, 0.0, 0.0),
        )

    return make
