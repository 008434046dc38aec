"""Response streams: their parts and views, how they are read, and who is told of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt import (
    AiosmrtError,
    ChatChunk,
    ConfigurationError,
    IdleTimeout,
    InvalidJSON,
    InvalidText,
    JSONValue,
    ModelStreamError,
    PayloadError,
    PayloadTooLarge,
    ResponseStream,
    ResponseStreamOpening,
    SageMakerRuntimeClient,
    StreamClosed,
    Timeout,
    TotalTimeout,
    TruncatedStream,
)
from aiosmrt.eventstream import encode_message
from aiosmrt.hooks import Hooks, OnEnd, OnFirstPart
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelResponse
from aiosmrt.sse import ServerSentEvent, encode

if TYPE_CHECKING:
    from tests.conftest import (
        Connect,
        EventStreams,
        Observer,
        SeenRequest,
        Serve,
    )

    Events: TypeAlias = type[EventStreams]

Respond: TypeAlias = Callable[..., bytes]
Until: TypeAlias = Callable[..., Awaitable[None]]


# --- parts


@pytest.mark.asyncio
async def test_parts_come_in_order_and_once(serve: Serve, connect: Connect, events: Events) -> None:
    head = events.head(
        x_amzn_sagemaker_content_type="application/jsonlines",
        x_amzn_invoked_production_variant="AllTraffic",
        x_amzn_sagemaker_custom_attributes="trace=1",
    )
    answer = head + events.whole(b"one", b"", b"three").partition(b"\r\n\r\n")[2]
    async with serve(events.play(answer)) as server, connect(server) as client:
        async with events.open(client) as stream:
            assert stream.content_type == "application/jsonlines"
            assert stream.invoked_production_variant == "AllTraffic"
            assert stream.custom_attributes == "trace=1"
            assert (stream.parts_received, stream.bytes_received) == (0, 0)
            assert [part.bytes async for part in stream] == [b"one", b"", b"three"]
            assert (stream.parts_received, stream.bytes_received) == (3, 8)
            assert [part async for part in stream] == []
        stream = await events.open(client)
        assert await events.collect(stream) == [b"one", b"", b"three"]


@pytest.mark.asyncio
async def test_what_the_answer_does_not_say_is_none(
    serve: Serve, connect: Connect, events: Events, respond: Respond
) -> None:
    answer = respond(body=b"", content_type="application/vnd.amazon.eventstream")
    async with (
        serve(events.play(answer)) as server,
        connect(server) as client,
        events.open(client) as stream,
    ):
        assert stream.content_type is None
        assert stream.invoked_production_variant is None
        assert stream.custom_attributes is None
        assert stream.metadata.request_id is None


@pytest.mark.asyncio
async def test_the_metadata_tell_of_the_call(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async with serve(events.play(events.whole(b"a", b"b"))) as server, connect(server) as client:
        stream = await events.open(client)
        begun = stream.metadata
        assert begun.request_id == "7-7-7"
        assert begun.status == 200
        assert begun.headers["x-amzn-requestid"] == "7-7-7"
        (attempt,) = begun.attempts
        assert (attempt.number, attempt.status, attempt.error) == (1, 200, None)
        assert attempt.may_have_run
        assert 0 <= begun.time_to_first_byte <= begun.total
        await asyncio.sleep(0.01)
        later = stream.metadata
        assert later.total >= begun.total + 0.01
        await events.collect(stream)
        ended = stream.metadata
        assert ended.total >= later.total
        await asyncio.sleep(0.01)
        assert stream.metadata == ended


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 64, 1000])
@pytest.mark.asyncio
async def test_parts_are_the_same_however_http_splits_them(
    size: int, serve: Serve, connect: Connect, events: Events
) -> None:
    parts = [b"one", b"", b"x" * 100, "ä".encode()[:1], "ä".encode()[1:]]
    frames = b"".join(map(events.part, parts))
    pieces = (frames[start : start + size] for start in range(0, len(frames), size))
    answer = events.head() + b"".join(map(events.chunk, pieces)) + events.END
    async with (
        serve(events.play(answer)) as server,
        connect(server) as client,
        events.open(client) as stream,
    ):
        assert await events.collect(stream) == parts


@pytest.mark.asyncio
async def test_unknown_events_are_skipped_and_logged(
    serve: Serve, connect: Connect, events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    answer = b"".join(
        [
            events.head(),
            events.chunk(events.part(b"{}", "initial-response"), events.part(b"a")),
            events.chunk(events.part(b"secret", "Novelty"), events.part(b"b")),
            events.chunk(events.part(b"", "Novelty")),
            events.END,
        ]
    )
    caplog.set_level(logging.DEBUG, "aiosmrt")
    async with (
        serve(events.play(answer)) as server,
        connect(server) as client,
        events.open(client) as stream,
    ):
        assert await events.collect(stream) == [b"a", b"b"]
        assert (stream.parts_received, stream.bytes_received) == (2, 2)
    skipped = [record for record in caplog.records if "skipped" in record.message]
    assert [record.levelno for record in skipped] == [logging.DEBUG] * 3
    assert "'initial-response'" in skipped[0].message
    assert "'Novelty'" in skipped[1].message
    assert "secret" not in caplog.text


@pytest.mark.asyncio
async def test_neither_the_order_of_headers_nor_more_of_them_matter(
    serve: Serve, connect: Connect, events: Events
) -> None:
    frame = encode_message(
        {
            ":content-type": "application/octet-stream",
            "novelty": 5,
            ":event-type": "PayloadPart",
            ":message-type": "event",
        },
        b"a",
    )
    answer = events.head() + events.chunk(frame) + events.END
    async with (
        serve(events.play(answer)) as server,
        connect(server) as client,
        events.open(client) as stream,
    ):
        assert await events.collect(stream) == [b"a"]


# --- its time limits


@pytest.mark.asyncio
async def test_the_idle_limit_holds_between_parts(
    serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    steps = (events.head() + events.chunk(events.part(b"a")), events.hang)
    timeout = Timeout(first_byte=60, idle=0.1)
    async with (
        serve(events.play(*steps)) as server,
        connect(server, timeout=timeout) as client,
        events.open(client) as stream,
    ):
        assert (await anext(stream)).bytes == b"a"
        for _ in range(2):
            with pytest.raises(IdleTimeout) as caught:
                await anext(stream)
            assert (caught.value.limit, caught.value.parts_received) == ("idle", 1)
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_a_slow_consumer_is_not_idle(serve: Serve, connect: Connect, events: Events) -> None:
    timeout = Timeout(first_byte=0.1, idle=0.1)
    answer = events.whole(b"a", b"b", b"c")
    async with (
        serve(events.play(answer)) as server,
        connect(server, timeout=timeout) as client,
        events.open(client) as stream,
    ):
        async for _ in stream:
            await asyncio.sleep(0.15)
        assert stream.parts_received == 3


@pytest.mark.asyncio
async def test_the_total_holds_for_the_reading_too(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async def trickle(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(events.head())
        while True:
            writer.write(events.chunk(events.part(b"a")))
            await asyncio.sleep(0.01)

    async with serve(trickle) as server, connect(server, timeout=0.3) as client:
        async with events.open(client) as stream:
            with pytest.raises(TotalTimeout) as caught:
                await events.collect(stream)
        assert caught.value.parts_received == stream.parts_received > 1


# --- opening


@pytest.mark.asyncio
async def test_a_stream_is_opened_once(serve: Serve, connect: Connect, events: Events) -> None:
    async with serve(events.play(events.whole())) as server, connect(server) as client:
        opening = events.open(client)
        await events.collect(await opening)
        with pytest.raises(RuntimeError, match="opened already"):
            await opening
        with pytest.raises(RuntimeError, match="opened already"):
            async with opening:
                pytest.fail("it was entered")
        assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_an_opening_is_like_any_other_awaitable(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async with serve(events.play(events.whole(b"a"))) as server, connect(server) as client:
        streams = await asyncio.gather(
            events.open(client), asyncio.wait_for(events.open(client), 5)
        )
        for stream in streams:
            async with stream:
                assert await events.collect(stream) == [b"a"]


# --- reading


@pytest.mark.asyncio
async def test_nothing_comes_behind_what_a_view_has_refused(
    serve: Serve, connect: Connect, events: Events
) -> None:
    parts = events.part(b"sound\n") + events.part(b"\xff\n") + events.part(b"more\n")
    async with (
        serve(events.play(events.head() + events.chunk(parts) + events.END)) as server,
        connect(server) as client,
        events.open(client) as stream,
    ):
        lines = stream.iter_lines()
        assert await anext(lines) == "sound"
        for _ in range(3):
            with pytest.raises(InvalidText) as caught:
                await anext(lines)
            assert caught.value.parts_received == stream.parts_received == 2


@pytest.mark.asyncio
async def test_a_cancelled_read_loses_nothing(
    serve: Serve, connect: Connect, events: Events
) -> None:
    more = asyncio.Event()
    frame = events.part(b"second")
    steps = (
        events.head() + events.chunk(events.part(b"first")) + events.chunk(frame[:9]),
        more,
        events.chunk(frame[9:]) + events.END,
    )
    async with (
        serve(events.play(*steps)) as server,
        connect(server) as client,
        events.open(client) as stream,
    ):
        assert (await anext(stream)).bytes == b"first"
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.02)
        more.set()
        assert await events.collect(stream) == [b"second"]


@pytest.mark.asyncio
async def test_reads_cancelled_at_random_lose_nothing(
    serve: Serve, connect: Connect, events: Events
) -> None:
    chance = random.Random(17)
    parts = [b"%d" % number for number in range(200)]
    frames = b"".join(map(events.part, parts))

    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(events.head())
        start = 0
        while start < len(frames):
            size = chance.randrange(1, 200)
            writer.write(events.chunk(frames[start : start + size]))
            start += size
            await asyncio.sleep(0)
        writer.write(events.END)

    async with (
        serve(answer) as server,
        connect(server) as client,
        events.open(client) as stream,
    ):
        received = []
        while True:
            reading = asyncio.ensure_future(anext(stream, None))
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                part = await reading
                if part is None:
                    break
                received.append(part.bytes)
        assert received == parts


@pytest.mark.asyncio
async def test_a_second_reader_is_told_and_the_first_is_not_disturbed(
    serve: Serve, connect: Connect, events: Events, observer: Observer
) -> None:
    more = asyncio.Event()
    steps = (
        events.head() + events.chunk(events.part(b"a")),
        more,
        events.chunk(events.part(b"b")) + events.END,
    )
    async with (
        serve(events.play(*steps)) as server,
        connect(server) as client,
        events.open(client) as stream,
    ):
        await anext(stream)
        reading = asyncio.create_task(events.collect(stream))
        await asyncio.sleep(0.02)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(stream)
        more.set()
        assert await reading == [b"b"]


# --- observers


@pytest.mark.asyncio
async def test_an_observer_is_told_of_the_first_part_and_of_the_end(
    serve: Serve, connect: Connect, events: Events, observer: Observer
) -> None:
    async with (
        serve(events.play(events.whole(b"first", b"second"))) as server,
        connect(server, hooks=observer.hooks) as client,
    ):
        async with events.open(client) as stream:
            (first,) = observer.events
            assert isinstance(first, OnFirstPart)
            assert (first.operation, first.endpoint_name) == (
                "InvokeEndpointWithResponseStream",
                "llm",
            )
            assert first.size == 5
            assert 0 < first.elapsed <= stream.metadata.total
            await events.collect(stream)
            assert len(observer.ends) == 1
        await stream.aclose()
        (end,) = observer.ends
        assert end.error is None
        assert end.metadata == stream.metadata
        assert (end.parts_received, end.bytes_received) == (2, 11)
        assert end.outcome == "ok"
        assert end.elapsed > 0


@pytest.mark.asyncio
async def test_a_stream_of_no_parts_has_an_end_and_no_first_part(
    serve: Serve, connect: Connect, events: Events, observer: Observer
) -> None:
    async with (
        serve(events.play(events.whole())) as server,
        connect(server, hooks=observer.hooks) as client,
    ):
        async with events.open(client) as stream:
            await events.collect(stream)
        (end,) = observer.events
        assert isinstance(end, OnEnd)
        assert (end.error, end.parts_received, end.bytes_received) == (None, 0, 0)


# --- what each view gives


@pytest.mark.asyncio
async def test_every_vector_through_real_frames(
    vectors: Path, serve: Serve, connect: Connect, events: Events
) -> None:
    cases = json.loads((vectors / "llm-framing/cases.json").read_text())
    assert cases
    for case in cases:
        frames = (vectors / "llm-framing" / case["file"]).read_bytes()
        parts = [base64.b64decode(part) for part in case["parts_b64"]]
        for body in (events.head() + events.chunk(frames), events.head()):
            # Once as it is and once a byte at a time; an empty chunk would be HTTP's end.
            singly = b"".join(events.chunk(frames[i : i + 1]) for i in range(len(frames)))
            answer = body if frames and body != events.head() else events.head() + singly
            async with serve(events.play(answer + events.END)) as server, connect(server) as client:
                async with events.open(client) as stream:
                    assert await stream.read() == b"".join(parts), case["name"]
                async with events.open(client) as stream:
                    lines = [line async for line in stream.iter_lines()]
                assert lines == case["expected_lines"], case["name"]
                async with events.open(client) as stream:
                    text = "".join([piece async for piece in stream.iter_text()])
                assert text == b"".join(parts).decode()
                if case["expected_sse_data"] is not None:
                    async with events.open(client) as stream:
                        data = [event.data async for event in stream.iter_events()]
                    assert data == case["expected_sse_data"], case["name"]


@pytest.mark.asyncio
async def test_the_views_of_a_local_endpoint() -> None:
    def model(request: InvocationRequest) -> ModelResponse:
        parts = json.loads(request.body)
        return ModelResponse(iter(parts), content_type=request.content_type)

    chat = [
        encode(json.dumps({"choices": [{"delta": {"content": text}}]})).decode()
        for text in ("Hel", "lo")
    ]
    async with (
        LocalEndpoint(model) as endpoint,
        endpoint.client(params={"endpoint_name": "e"}) as client,
    ):

        def ask(*parts: str, content_type: str = "text/plain") -> ResponseStreamOpening:
            return client.invoke_endpoint_with_response_stream(
                body=json.dumps(parts), content_type=content_type
            )

        async with ask('{"a"', ": 1}\n[", "2]\n3") as stream:
            assert [value async for value in stream.iter_json()] == [{"a": 1}, [2], 3]
        async with ask("a\r", "\nb\r", "c") as stream:
            assert [line async for line in stream.iter_lines()] == ["a", "b", "c"]
        async with ask("event: x\nid: 7\ndata: on", "ce\n\ndata:[DONE]\n\n") as stream:
            assert [event async for event in stream.iter_events(done="[DONE]")] == [
                ServerSentEvent("x", "once", "7")
            ]
            assert stream.parts_received == 2
        async with ask("data: a\n\ndata: b") as stream:
            got = [event.data async for event in stream.iter_events(drop_incomplete=True)]
            assert got == ["a"]
        async with ask(*chat, "data: [DONE]\n\n", content_type="text/event-stream") as stream:
            assert [token async for token in stream.iter_tokens("openai-chat")] == ["Hel", "lo"]
        async with ask('{"token": {"text": "Hel"}}\n{"tok', 'en": {"text": "lo"}}') as stream:
            assert [token async for token in stream.iter_tokens("token.text")] == ["Hel", "lo"]
        async with ask(*chat, "data: [DONE]\n\n", content_type="text/event-stream") as stream:
            assert [chunk.text async for chunk in stream.iter_chat()] == ["Hel", "lo"]
        async with ask('{"token": {"text": "Hel"}}\n{"tok', 'en": {"text": "lo"}}') as stream:
            chunks = stream.iter_chat("lmi", require_done=False)
            assert [chunk.text async for chunk in chunks] == ["Hel", "lo"]


_text = st.text(st.characters(exclude_categories=["Cs"]))


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)


_cuts = st.lists(st.integers(0, 200), max_size=6)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


def test_any_text_and_any_documents_in_any_parts(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async def read(data: bytes, parts: list[bytes], values: list[JSONValue]) -> None:
        assert b"".join(parts) == data
        async with events.open(client) as stream:
            assert b"".join([p async for p in _encode(stream.iter_text())]) == data
        async with events.open(client) as stream:
            assert [value async for value in stream.iter_json()] == values

    async def _encode(pieces: AsyncIterator[str]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            assert piece
            yield piece.encode()

    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(events.whole(*sending))

    sending: list[bytes] = []
    with asyncio.Runner() as runner, contextlib.ExitStack() as after:
        stack = contextlib.AsyncExitStack()
        after.callback(lambda: runner.run(stack.aclose()))

        async def begin() -> SageMakerRuntimeClient:
            server = await stack.enter_async_context(serve(answer))
            return await stack.enter_async_context(connect(server))

        client = runner.run(begin())

        @given(st.lists(_json, max_size=5), st.sampled_from(["\n", " ", "\r\n"]), _cuts)
        def judge(values: list[JSONValue], between: str, cuts: list[int]) -> None:
            documents = [json.dumps(value, ensure_ascii=False) for value in values]
            data = between.join(documents).encode()
            sending[:] = _cut(data, cuts)
            runner.run(read(data, list(sending), values))

        judge()


@pytest.mark.parametrize("cuts", [[], [1], [2], [1, 2], [3], [5]])
@pytest.mark.asyncio
async def test_a_byte_order_mark_is_no_part_of_lines_and_text(
    cuts: list[int], serve: Serve, connect: Connect, events: Events
) -> None:
    data = "\ufeffone\ntwo".encode()
    answer = events.play(events.whole(*_cut(data, cuts)))
    async with serve(answer) as server, connect(server) as client:
        async with events.open(client) as stream:
            assert [line async for line in stream.iter_lines()] == ["one", "two"]
        async with events.open(client) as stream:
            assert "".join([text async for text in stream.iter_text()]) == "one\ntwo"
        async with events.open(client) as stream:
            assert await stream.read() == data  # bytes are as they came


# --- one view


CHOICES: list[tuple[str, Callable[[ResponseStream], Any]]] = [
    ("text", lambda stream: anext(stream.iter_text())),
    ("lines", lambda stream: anext(stream.iter_lines())),
    ("JSON", lambda stream: anext(stream.iter_json())),
    ("events", lambda stream: anext(stream.iter_events())),
    ("tokens", lambda stream: anext(stream.iter_tokens("t"))),
    ("chat", lambda stream: anext(stream.iter_chat())),
    ("parts", anext),
    ("bytes", lambda stream: stream.read()),
]


@pytest.mark.asyncio
async def test_a_view_is_chosen_once(serve: Serve, connect: Connect, events: Events) -> None:
    async with (
        serve(events.play(events.whole(b'"t"', b"\n\n"))) as server,
        connect(server) as client,
    ):
        for first, choose in CHOICES:
            for second, choose_another in CHOICES:
                async with events.open(client) as stream:
                    with contextlib.suppress(StopAsyncIteration, PayloadError):
                        await choose(stream)
                    if first == second == "parts":
                        await choose_another(stream)
                        continue
                    with pytest.raises(RuntimeError, match=f"read as {first} already"):
                        await choose_another(stream)


@pytest.mark.asyncio
async def test_a_refused_view_is_not_chosen_and_costs_nothing(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async with serve(events.play(events.whole(b"a"))) as server, connect(server) as client:
        async with events.open(client) as stream:
            with pytest.raises(ConfigurationError, match="openai-chat"):
                stream.iter_tokens("a b")
            with pytest.raises(ConfigurationError, match="openai-chat"):
                stream.iter_chat("a b")
            with pytest.raises(LookupError, match="unknown"):
                stream.iter_text(errors="unknown")
            with pytest.raises(ValueError, match="require_done"):
                stream.iter_events(require_done=True)
            aiter(stream)  # nor does this choose, before it is read
            assert await stream.read() == b"a"
        assert server.connections == 1


# --- faults of a view


@pytest.mark.asyncio
async def test_errors_of_the_payload_say_where_and_close_the_connection(
    serve: Serve,
    connect: Connect,
    events: Events,
    until: Until,
    all_it_says: Callable[[BaseException], object],
) -> None:
    ends: list[OnEnd] = []
    data = events.head() + events.chunk(events.part(b'{"a": 1}\n'), events.part(b"2\n}"))
    async with (
        serve(events.play(data, events.hang)) as server,
        connect(
            server, max_connections=1, timeout=Timeout(slot=5), hooks=Hooks(on_end=ends.append)
        ) as client,
    ):
        async with events.open(client) as stream:
            view = stream.iter_json()
            values, error = await asyncio.wait_for(events.read_to_fault(view), 5)
            assert values == [{"a": 1}, 2]
            assert isinstance(error, InvalidJSON)
            assert (error.operation, error.endpoint_name) == (
                "InvokeEndpointWithResponseStream",
                "llm",
            )
            assert error.request_id == "7-7-7"
            assert (error.parts_received, error.bytes_received, error.offset) == (2, 12, 11)
            assert error.may_have_run
            assert "after 2 parts, 12 bytes" in str(error)
            assert len(error.attempts) == 1
            # While the block is still open:
            await until(lambda: server.open_connections == 0)
            async with events.open(client):
                pass
            for _ in range(2):
                with pytest.raises(InvalidJSON) as caught:
                    await anext(view)
                assert all_it_says(caught.value) == all_it_says(error)
        assert ends[0].error is error
        assert len(ends) == 2


@pytest.mark.parametrize(
    ("parts", "choose", "values", "kind"),
    [
        ([b"ab", b"c\xff"], lambda s: s.iter_text(), ["ab", "c"], InvalidText),
        ([b"a\nb", b"c\n\xff\nd"], lambda s: s.iter_lines(), ["a", "bc"], InvalidText),
        ([b"a\nb", b"bbb"], lambda s: s.iter_lines(max_line_length=3), ["a"], PayloadTooLarge),
        ([b"1 22", b"22 "], lambda s: s.iter_json(max_document_length=3), [1], PayloadTooLarge),
        (
            [encode("a"), b"data: bbbbbbbbbbbbbbb"],
            lambda s: _data(s.iter_events(max_event_length=12)),
            ["a"],
            PayloadTooLarge,
        ),
        (
            [encode("a") + encode('{"error": "Test error"}')],
            lambda s: _data(s.iter_events(raise_on_error=True)),
            ["a"],
            ModelStreamError,
        ),
        (
            [encode('{"t": "a"}') + encode('{"error": "Test error"}')],
            lambda s: s.iter_tokens("t"),
            ["a"],
            ModelStreamError,
        ),
        ([b'{"t": "a"}{"t": 1}'], lambda s: s.iter_tokens("t"), ["a"], InvalidJSON),
        (
            [b'{"token": {"text": "a"}}{"token": {"text": 1}}'],
            lambda s: s.iter_chat("lmi"),
            [ChatChunk(0, "a", raw={"token": {"text": "a"}})],
            InvalidJSON,
        ),
    ],
)
@pytest.mark.parametrize("end", ["proven", "cut", "none"])
@pytest.mark.asyncio
async def test_the_first_fault_wins_whatever_becomes_of_the_stream(
    *,
    parts: list[bytes],
    choose: Callable[[ResponseStream], AsyncIterator[object]],
    values: list[object],
    kind: type[AiosmrtError],
    end: str,
    serve: Serve,
    connect: Connect,
    events: Events,
    until: Until,
) -> None:
    data = events.head() + b"".join(events.chunk(events.part(part)) for part in parts)
    data += {"proven": events.END, "cut": events.chunk(events.part(b"x")[:9]), "none": b""}[end]

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if end == "cut":
            writer.close()
        elif end == "none":
            await request.reader.read()

    async with serve(answer) as server, connect(server) as client:
        async with events.open(client) as stream:
            got, error = await asyncio.wait_for(events.read_to_fault(choose(stream)), 5)
            assert got == values
            assert type(error) is kind
            assert error is not None
            assert error.request_id == "7-7-7"
            assert error.parts_received == len(parts)
        await until(lambda: end == "proven" or server.open_connections == 0)


_GOOD = {
    "lmi": b'{"token":{"text":"good"}}\n',
    "openai-chat": b'data: {"choices":[{"index":0,"delta":{"content":"good"}}]}\n\n',
}


@pytest.mark.parametrize(
    ("path", "sent", "message"),
    [
        ("lmi", b'{"error":"","code":424}\n', ""),
        ("openai-chat", b'data: {"error_type":"X","error_message":"boom"}\n\n', "boom"),
        ("openai-chat", b"event: error\ndata: overloaded\n\n", "overloaded"),
        ("openai-chat", b'data: {"object":"error","message":"boom","code":500}\n\n', "boom"),
        ("openai-chat", b'error: {"message":"boom"}\n\n', "boom"),
        (
            "openai-chat",
            b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"abort"}]}\n\n',
            "the model ended for the reason 'abort'",
        ),
    ],
)
@pytest.mark.asyncio
async def test_a_failure_inside_a_success_comes_behind_what_was_sound(
    *, path: str, sent: bytes, message: str, serve: Serve, connect: Connect, events: Events
) -> None:
    parts = _cut(_GOOD[path] + sent, [30, len(_GOOD[path]) + 9])
    async with serve(events.play(events.whole(*parts))) as server, connect(server) as client:
        views: list[Callable[[ResponseStream], AsyncIterator[object]]] = [
            lambda stream: stream.iter_tokens(path)
        ]
        if path != "lmi":
            views.append(lambda stream: _data(stream.iter_events(raise_on_error=True)))
        for choose in views:
            async with events.open(client) as stream:
                got, error = await events.read_to_fault(choose(stream))
            assert len(got) == 1
            assert "good" in str(got[0])
            assert isinstance(error, ModelStreamError)
            assert error.message == message
            assert error.parts_received == len(parts)
            assert error.request_id == "7-7-7"
            assert error.may_have_run


@pytest.mark.asyncio
async def test_tokens_of_documents_that_were_not_expected(
    serve: Serve, connect: Connect, events: Events
) -> None:
    sending: list[bytes] = []

    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(events.whole(*sending))

    async def read(*parts: bytes, require_done: bool = False) -> tuple[list[str], object]:
        sending[:] = parts
        async with events.open(client) as stream:
            return await events.read_to_fault(
                stream.iter_tokens("openai-chat", require_done=require_done)
            )

    async with serve(answer) as server, connect(server) as client:
        got, error = await read(b'data:{"token":{"text":"a","special":false}}\n\n')
        assert (got, type(error)) == ([], PayloadError)
        assert "'tgi'" in str(error)
        assert "token" in str(error)
        whole = b'{"choices":[{"message":{"content":"hello"}}]}'
        assert await read(whole[:20], whole[20:]) == (["hello"], None)
        good = _GOOD["openai-chat"]
        assert await read(good, b"data: [DONE] \n\n", require_done=True) == (["good"], None)
        got, error = await read(good, require_done=True)
        assert (got, type(error)) == (["good"], TruncatedStream)


@pytest.mark.asyncio
async def test_a_chat_ends_by_proof(serve: Serve, connect: Connect, events: Events) -> None:
    good = _GOOD["openai-chat"]
    for parts in ([good], [good[:40], good[40:]]):
        async with serve(events.play(events.whole(*parts))) as server, connect(server) as client:
            async with events.open(client) as stream:
                got, error = await events.read_to_fault(stream.iter_chat())
            assert [chunk.text for chunk in got] == ["good"]
            assert isinstance(error, TruncatedStream)
            assert error.may_have_run
            assert error.parts_received == len(parts)
            async with events.open(client) as stream:
                got, error = await events.read_to_fault(stream.iter_chat(require_done=False))
            assert error is None


@pytest.mark.parametrize(
    "choose",
    [
        lambda stream: stream.iter_text(),
        lambda stream: stream.iter_chat("lmi"),
        lambda stream: stream.iter_lines(),
        lambda stream: stream.iter_json(),
        lambda stream: stream.iter_events(),
        lambda stream: stream.iter_tokens("t"),
        lambda stream: stream,
    ],
)
@pytest.mark.asyncio
async def test_closing_a_view_closes_its_stream(
    choose: Callable[[ResponseStream], Any],
    serve: Serve,
    connect: Connect,
    events: Events,
    until: Until,
) -> None:
    sent = b'{"t": "a", "token": {"text": "a"}}\n{"t": "b"}\ndata: c\n\ndata: d\n\n'
    data = events.head() + events.chunk(events.part(sent))
    async with (
        serve(events.play(data, events.hang)) as server,
        connect(server, max_connections=1, timeout=Timeout(slot=5)) as client,
    ):
        stream = await events.open(client)
        async with contextlib.aclosing(choose(stream)) as view:
            await anext(view)
        await until(lambda: server.open_connections == 0)
        with pytest.raises(StreamClosed):
            await anext(view)
        async with events.open(client):  # its slot is free
            pass


async def _data(events: AsyncIterator[ServerSentEvent]) -> AsyncIterator[str]:
    async for event in events:
        yield event.data


@pytest.mark.asyncio
async def test_an_error_object_is_delivered_unless_it_is_to_be_raised(
    serve: Serve, connect: Connect, events: Events
) -> None:
    answer = events.play(events.whole(encode('{"error": "Test error"}')))
    async with serve(answer) as server, connect(server) as client, events.open(client) as stream:
        assert [event.data async for event in stream.iter_events()] == ['{"error": "Test error"}']


@pytest.mark.asyncio
async def test_a_cancelled_read_of_a_view_loses_nothing(
    serve: Serve, connect: Connect, events: Events
) -> None:
    more = asyncio.Event()

    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(events.head() + events.chunk(events.part(b"fir")))
        await more.wait()
        writer.write(events.chunk(events.part(b"st\nlast")) + events.END)

    async with serve(answer) as server, connect(server) as client, events.open(client) as stream:
        view = stream.iter_lines()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(view), 0.02)
        more.set()
        assert [line async for line in view] == ["first", "last"]
