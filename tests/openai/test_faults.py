"""What a user of the SDK sees of each fault, and how often the model ran: the table in faults.md.

The SDK is left its own retries, two of them, and the client its policy of three attempts. With
`AIOSMRT_WRITE_TABLES=1` the table is written anew.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import openai
import pytest

import aiosmrt
from aiosmrt.openai import SageMakerTransport
from aiosmrt.openai.family import AsyncClient

if TYPE_CHECKING:
    from tests.conftest import Answer, EventStreams, SeenRequest
    from tests.openai.conftest import Chats

Respond: TypeAlias = Callable[..., bytes]

TABLE: Final = Path(__file__).with_name("faults.md")
_INTRODUCTION: Final = """\
# Faults, as a user of the OpenAI SDK sees them

Written and checked by `test_faults.py`, where the SDK is left its two retries. An error is one of
the SDK's and one of this package's. `requests` are what the server has received, by the three
attempts that the client's policy allows; `runs` are those that its model has begun to answer.

| fault | asked for | raised as | and as | status | chunks | requests | runs | `may_have_run` |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""
_PATIENCE: Final = 1.5  # seconds that a hang is waited for


@attrs.define
class Fault:
    """What a server does to each request, or to one after the other."""

    answers: list[Answer]  # the last one again and again
    runs: list[bool]  # whether the model runs
    for_whole: bool = True
    for_stream: bool = True
    patience: float = 20.0  # seconds


@attrs.define
class Book:
    """What a server has seen."""

    requests: int = 0
    runs: int = 0

    def serve(self, fault: Fault) -> Answer:
        async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
            number = min(self.requests, len(fault.answers) - 1)
            self.requests += 1
            self.runs += fault.runs[number]
            await fault.answers[number](request, writer)

        return answer


_ENVELOPE: Final = {"error": {"message": "too long", "type": "BadRequestError", "code": 400}}
Named: TypeAlias = Iterator[tuple[str, Fault]]


class Wire:
    """Writes what a server with a fault sends."""

    def __init__(self, events: type[EventStreams], respond: Respond, chats: type[Chats]) -> None:
        self.events, self.respond, self.chats = events, respond, chats
        self.head = events.head(x_amzn_sagemaker_content_type="text/event-stream")
        self.one = self.write(chats.chunk("a"))
        self.frame = events.part(chats.event(chats.chunk("b")))
        self.body = respond(200, json.dumps(chats.whole("a")).encode())

    def write(self, document: object) -> bytes:
        """Write a document as an event in a part."""
        return self.events.chunk(self.events.part(self.chats.event(document)))

    async def answer(self, request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        parts = map(self.events.part, self.chats.stream("a", "b"))
        stream = self.head + b"".join(map(self.events.chunk, parts)) + self.events.END
        writer.write(stream if "stream" in request.target else self.body)

    async def halve(self, request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(self.head + self.one if "stream" in request.target else self.body[:-5])

    def refuse(self, status: int, code: str, **fields: object) -> Answer:
        body = json.dumps({"message": "as asked", **fields}).encode()
        return self.events.play(self.respond(status, body, x_amzn_errortype=code))

    def fail(self, status: int, words: str) -> Fault:
        fields = {"OriginalStatusCode": status, "OriginalMessage": words}
        return Fault([self.refuse(424, "ModelError", **fields)], [True])

    def begin(self, step: Answer, patience: float = 20.0) -> Fault:
        return Fault([self.events.play(self.halve, step)], [True], patience=patience)

    def stream(self, *parts: bytes) -> Fault:
        sent = self.head + b"".join(parts) + self.events.END
        return Fault([self.events.play(sent)], [True], for_whole=False)

    def whole(self, body: bytes) -> Fault:
        return Fault([self.events.play(self.respond(200, body))], [True], for_stream=False)


def _list_refusals(wire: Wire) -> Named:
    yield "none", Fault([wire.answer], [True])
    yield "throttled", Fault([wire.refuse(400, "ThrottlingException")], [False])
    once = [wire.refuse(429, "ThrottlingException"), wire.answer]
    yield "throttled once", Fault(once, [False, True])
    yield "not ready", Fault([wire.refuse(429, "ModelNotReadyException")], [False])
    yield "unavailable", Fault([wire.refuse(503, "ServiceUnavailable")], [False])
    yield "no right", Fault([wire.refuse(403, "AccessDeniedException")], [False])
    yield "model refuses (400)", wire.fail(400, json.dumps(_ENVELOPE))
    yield "model fails (500)", wire.fail(500, "out of memory")
    yield "model does not answer", wire.fail(0, "")
    yield "service fails", Fault([wire.refuse(500, "InternalFailure")], [True])
    page = wire.events.play(wire.respond(302, b"", location="/x"))
    yield "no page of the service", Fault([page], [False])
    yield "no JSON", wire.whole(b"<html>")
    yield "error in a success", wire.whole(json.dumps(_ENVELOPE).encode())


def _list_losses(wire: Wire) -> Named:
    events = wire.events
    yield "hang before the answer", Fault([events.hang], [True], patience=_PATIENCE)
    yield "hang in the middle", wire.begin(events.hang, _PATIENCE)
    yield "reset before the answer", Fault([events.reset], [True])
    yield "closed before the answer", Fault([events.close], [True])
    yield "reset in the middle", wire.begin(events.reset)
    yield "closed in the middle", wire.begin(events.close)
    cut = events.chunk(wire.frame[:-7])
    yield "cut in a frame, and ended", wire.stream(wire.one, cut)
    closed = events.play(wire.head + wire.one + cut, events.close)
    yield "cut in a frame, and closed", Fault([closed], [True], for_whole=False)
    yield "a checksum is wrong", wire.stream(wire.one, events.chunk(wire.frame[:-1] + b"?"))


def _list_failures_in_streams(wire: Wire) -> Named:
    events, one = wire.events, wire.one
    for kind in ("ModelStreamError", "InternalStreamFailure"):
        exception = events.chunk(events.exception(kind, b'{"Message": "as asked"}'))
        yield f"{kind} first", wire.stream(exception)
        yield f"{kind} in the middle", wire.stream(one, exception)
    yield "error of the container first", wire.stream(wire.write(_ENVELOPE))
    yield "error of the container in the middle", wire.stream(one, wire.write(_ENVELOPE))
    aborted = wire.write(wire.chats.chunk("b", "abort"))
    yield "reason to end is `abort`", wire.stream(one, aborted)
    no_json = events.chunk(events.part(b"data: {\n\n"))
    yield "no JSON in the middle", wire.stream(one, no_json)
    yield "end is missing", wire.stream(one)
    yield "nothing at all", wire.stream()


@pytest.fixture
def faults(events: type[EventStreams], respond: Respond, chats: type[Chats]) -> dict[str, Fault]:
    wire = Wire(events, respond, chats)
    return dict([*_list_refusals(wire), *_list_losses(wire), *_list_failures_in_streams(wire)])


async def _ask(ai: openai.AsyncOpenAI, asked: dict[str, Any], chunks: list[object]) -> None:
    if not asked["stream"]:
        await ai.chat.completions.create(**asked)
        return
    async with await ai.chat.completions.create(**asked) as stream:
        async for chunk in stream:
            chunks.append(chunk)  # noqa: PERF401 - those before a fault count


def _describe(error: BaseException | None) -> list[str]:
    if error is None:
        return ["nothing", "", "", ""]
    assert isinstance(error, openai.APIError), repr(error)
    ours, theirs = type(error).__bases__
    assert issubclass(ours, aiosmrt.AiosmrtError)
    assert issubclass(theirs, openai.APIError)
    known: Any = error
    assert known.endpoint_name == "llm"
    status = getattr(error, "status_code", "")
    return [f"`{theirs.__name__}`", f"`{ours.__name__}`", f"{status}", str(known.may_have_run)]


async def _meet(
    client: aiosmrt.SageMakerRuntimeClient, chats: type[Chats], mode: str, patience: float = 20.0
) -> list[str]:
    chunks: list[object] = []
    transport = SageMakerTransport(client, endpoint_name="llm")
    ai = openai.AsyncOpenAI(
        api_key="x",
        base_url="http://sagemaker/v1",
        timeout=patience,
        http_client=AsyncClient(transport=transport),
    )
    assert ai.max_retries == 2
    error: BaseException | None = None
    async with ai:
        try:
            await _ask(ai, {**chats.ASK, "stream": mode == "stream"}, chunks)
        except openai.OpenAIError as raised:
            error = raised
    theirs, ours, status, ran = _describe(error)
    assert client.stats().in_flight == 0
    return [mode, theirs, ours, status, str(len(chunks)), ran]


@pytest.mark.asyncio
async def test_the_table_is_what_happens(
    serve: Any, connect: Any, chats: type[Chats], faults: dict[str, Fault]
) -> None:
    policy = aiosmrt.RetryPolicy(base_delay=0.001, throttle_base_delay=0.001)

    async def fill(name: str, fault: Fault, mode: str) -> str:
        book = Book()
        async with serve(book.serve(fault)) as server, connect(server, retry=policy) as client:
            _, theirs, ours, status, chunks, ran = await _meet(client, chats, mode, fault.patience)
        # Nothing is paid twice, and what ran is never said not to have.
        assert book.runs <= 1
        assert ran in ("", str(True)) or not book.runs
        seen = (str(book.requests), str(book.runs))
        chunks = chunks if mode == "stream" else ""
        return f"| {' | '.join((name, mode, theirs, ours, status, chunks, *seen, ran))} |"

    asked = [
        (name, fault, mode)
        for name, fault in faults.items()
        for mode, is_asked in (("whole", fault.for_whole), ("stream", fault.for_stream))
        if is_asked
    ]
    rows: dict[tuple[str, str], str] = {}
    for hangs in (False, True):  # by themselves, or a busy loop would end what is only slow
        some = [one for one in asked if (one[1].patience == _PATIENCE) is hangs]
        filled = await asyncio.gather(*(fill(*one) for one in some))
        rows |= {(one[0], one[2]): row for one, row in zip(some, filled, strict=True)}
    lines = [rows[name, mode].replace("  ", " ") for name, _, mode in asked]
    table = _INTRODUCTION + "\n".join(lines) + "\n"
    if os.environ.get("AIOSMRT_WRITE_TABLES"):
        TABLE.write_text(table)
    assert table == TABLE.read_text()


@pytest.mark.asyncio
async def test_where_nobody_listens_nothing_ran(connect: Any, chats: type[Chats]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    policy = aiosmrt.RetryPolicy(base_delay=0.001)
    async with aiosmrt.SageMakerRuntimeClient(
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        retry=policy,
    ) as client:
        for mode in ("whole", "stream"):
            seen = await _meet(client, chats, mode)
            assert seen == [mode, "`APIConnectionError`", "`ConnectError`", "", "0", "False"]
