from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest

import aiosmrt
from aiosmrt.calls import answers
from aiosmrt.models import InvokeEndpointResponse
from aiosmrt.service.model import OPERATIONS

if TYPE_CHECKING:
    from tests.conftest import Connect, EventStreams, Leftovers, Serve

    Events: TypeAlias = type[EventStreams]

Respond: TypeAlias = Callable[..., bytes]

GOOD = b'{"ok": true, "text": "once upon a time"}'
STREAM = "InvokeEndpointWithResponseStream"


def _deflate_raw(data: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=-15)
    return squeezer.compress(data) + squeezer.flush()


COMPRESSED = [
    ("gzip", gzip.compress(GOOD, mtime=0)),
    ("x-gzip", gzip.compress(GOOD, mtime=0)),
    ("GZip", gzip.compress(GOOD, mtime=0)),
    ("deflate", zlib.compress(GOOD)),
    ("deflate", _deflate_raw(GOOD)),
    ("deflate, gzip", gzip.compress(zlib.compress(GOOD), mtime=0)),
    ("utf-8, gzip", gzip.compress(GOOD, mtime=0)),
    ("gzip", gzip.compress(GOOD[:10], mtime=0) + gzip.compress(GOOD[10:], mtime=0)),
]
UNREADABLE = [
    ("br", b"\x0b\x02\x80hello\x03"),
    ("gzip, zstd", b"(\xb5/\xfd" + bytes(999)),
    ("gzip", gzip.compress(GOOD, mtime=0)[:-3]),
    ("gzip", gzip.compress(GOOD, mtime=0) + b"<html>"),
    ("gzip", GOOD),
    ("deflate", GOOD),
    ("gzip,gzip,gzip,gzip,gzip,gzip", GOOD),
]


@pytest.mark.parametrize(
    "value",
    ["utf-8", "UTF-8", "", "identity", "Identity", "none", "binary", "8bit", "aws-chunked", ","],
)
@pytest.mark.asyncio
async def test_a_coding_that_names_no_compression_is_none(
    value: str, serve: Serve, connect: Connect, events: Events, respond: Respond
) -> None:
    answer = respond(200, GOOD, content_encoding=value)
    async with serve(events.play(answer)) as server, connect(server) as client:
        response = await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert response.body == GOOD
    stream = events.head(content_encoding=value) + events.chunk(events.part(GOOD)) + events.END
    async with (
        serve(events.play(stream)) as server,
        connect(server) as client,
        events.open(client) as opened,
    ):
        assert await events.collect(opened) == [GOOD]


@pytest.mark.parametrize(("value", "body"), COMPRESSED)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.asyncio
async def test_a_compression_that_nobody_asked_for_is_taken_off(
    *,
    value: str,
    body: bytes,
    chunked: bool,
    serve: Serve,
    events: Events,
    respond: Respond,
    leftovers: Leftovers,
) -> None:
    answer = respond(200, body, content_encoding=value)
    if chunked:
        head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {value}\r\ntransfer-encoding: chunked\r\n\r\n"
        halves = events.chunk(body[:9]), events.chunk(body[9:])
        answer = b"".join([head.encode(), *halves, events.END])
    async with serve(events.play(answer)) as server:
        client = leftovers.connect(server.url)
        # An encoding that was refused was not asked for either.
        for headers in ({}, {"accept-encoding": "identity"}, {"accept-encoding": "br"}):
            response = await leftovers.call(client, "InvokeEndpoint", headers=headers)
            assert isinstance(response, InvokeEndpointResponse)
            assert response.json() == {"ok": True, "text": "once upon a time"}
            assert response.metadata.headers["content-encoding"] == value
        assert server.connections == 1
        await leftovers.check(client, server)


@pytest.mark.asyncio
async def test_repeated_headers_are_codings_in_turn(
    serve: Serve, connect: Connect, events: Events, respond: Respond
) -> None:
    body = gzip.compress(zlib.compress(GOOD))
    answer = respond(200, body, content_encoding="deflate\r\ncontent-encoding: gzip")
    async with serve(events.play(answer)) as server, connect(server) as client:
        response = await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert response.body == GOOD


@pytest.mark.parametrize(("value", "body"), UNREADABLE)
@pytest.mark.asyncio
async def test_of_an_answer_that_cannot_be_read_all_is_kept(
    *, value: str, body: bytes, serve: Serve, events: Events, respond: Respond, leftovers: Leftovers
) -> None:
    large = body if value != "br" else body * 100_000
    async with serve(events.play(respond(200, large, content_encoding=value))) as server:
        client = leftovers.connect(server.url)
        error = await leftovers.fail(client)
        assert isinstance(error, aiosmrt.UnexpectedResponse)
        assert f"content encoding is {value!r}" in str(error)
        assert len(str(error)) < 1500
        assert error.body == large
        assert error.body_start == large[:200]
        assert error.may_have_run
        await leftovers.check(client, server)


@pytest.mark.asyncio
async def test_a_bomb_is_an_error_and_lets_others_run(
    serve: Serve, events: Events, respond: Respond, leftovers: Leftovers
) -> None:
    bomb = gzip.compress(bytes(1 << 20)) * 129
    passes = 0

    async def count() -> None:
        nonlocal passes
        while True:
            await asyncio.sleep(0)
            passes += 1

    async with serve(events.play(respond(200, bomb, content_encoding="gzip"))) as server:
        client = leftovers.connect(server.url)
        counting = asyncio.create_task(count())
        error = await leftovers.fail(client)
        counting.cancel()
        assert isinstance(error, aiosmrt.UnexpectedResponse)
        assert f"it becomes more than {1 << 27} bytes" in str(error)
        assert error.body == bomb
        assert passes > 500  # one for each 256 KiB
        await leftovers.check(client, server)


@pytest.mark.asyncio
async def test_an_answer_may_become_as_large_as_the_limit(
    serve: Serve,
    connect: Connect,
    events: Events,
    respond: Respond,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers, "_DECODED", 1 << 20)
    answer = respond(200, gzip.compress(bytes(1 << 20)), content_encoding="gzip")
    async with serve(events.play(answer)) as server, connect(server) as client:
        response = await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert response.body == bytes(1 << 20)


@pytest.mark.parametrize("accepted", ["gzip", "br, GZIP;q=0.5", "deflate, gzip"])
@pytest.mark.asyncio
async def test_a_coding_that_was_asked_for_is_left_on(
    accepted: str, serve: Serve, connect: Connect, events: Events, respond: Respond
) -> None:
    squeezed = gzip.compress(GOOD)
    answer = respond(200, squeezed, content_encoding="gzip")
    async with serve(events.play(answer)) as server, connect(server) as client:
        response = await client.invoke_endpoint(
            endpoint_name="e", body=b"", headers={"Accept-Encoding": accepted}
        )
        assert response.body == squeezed


@pytest.mark.asyncio
async def test_an_acknowledgement_may_be_compressed(
    serve: Serve, connect: Connect, events: Events, respond: Respond
) -> None:
    body = gzip.compress(b'{"InferenceId": "i"}')
    place = "s3://bucket/output"
    answer = respond(202, body, content_encoding="gzip", x_amzn_sagemaker_outputlocation=place)
    async with serve(events.play(answer)) as server, connect(server) as client:
        for headers in ({}, {"accept-encoding": "gzip"}):
            invocation = await client.invoke_endpoint_async(
                endpoint_name="e", body=b"{}", headers=headers
            )
            assert invocation.inference_id == "i"


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("status", [400, 424, 503])
@pytest.mark.asyncio
async def test_a_refusal_may_be_compressed(
    *,
    operation: str,
    status: int,
    serve: Serve,
    events: Events,
    respond: Respond,
    leftovers: Leftovers,
) -> None:
    body = gzip.compress(b'{"Message": "no such thing", "OriginalMessage": "no such thing"}')
    answer = respond(status, body, content_encoding="gzip")
    async with serve(events.play(answer)) as server:
        client = leftovers.connect(server.url)
        error = await leftovers.fail(client, operation)
        assert isinstance(error, aiosmrt.ServiceError)
        assert error.message == "no such thing"
        await leftovers.check(client, server)


@pytest.mark.parametrize(("value", "body"), UNREADABLE)
@pytest.mark.asyncio
async def test_a_refusal_that_cannot_be_read_is_one_all_the_same(
    *, value: str, body: bytes, serve: Serve, events: Events, respond: Respond, leftovers: Leftovers
) -> None:
    answer = respond(503, body, content_encoding=value, x_amzn_errortype="ServiceUnavailable")
    async with serve(events.play(answer)) as server:
        client = leftovers.connect(server.url)
        error = await leftovers.fail(client)
        assert isinstance(error, aiosmrt.ServiceUnavailable)
        assert error.body == (b"" if error.fields else body)
        await leftovers.check(client, server)


@pytest.mark.asyncio
async def test_of_a_refusal_that_is_no_json_all_is_kept(
    serve: Serve, events: Events, respond: Respond, leftovers: Leftovers
) -> None:
    page = b"<html>" + b"it is down" * 1000
    async with serve(events.play(respond(502, page, content_type="text/html"))) as server:
        client = leftovers.connect(server.url)
        error = await leftovers.fail(client)
        assert isinstance(error, aiosmrt.ServiceError)
        assert error.body == page
        assert len(str(error)) < 500
        await leftovers.check(client, server)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("status", "framing", "says"),
    [
        (204, "content-length: 5", "no body"),
        (204, "transfer-encoding: chunked", "no body"),
        (206, "content-length: 5", "a part"),
    ],
)
@pytest.mark.asyncio
async def test_a_status_that_takes_the_body_away_is_no_success(
    *,
    operation: str,
    status: int,
    framing: str,
    says: str,
    serve: Serve,
    events: Events,
    leftovers: Leftovers,
) -> None:
    answer = f"HTTP/1.1 {status} X\r\n{framing}\r\n\r\nhello".encode()
    async with serve(events.play(answer)) as server:
        error = await leftovers.fail(leftovers.connect(server.url), operation)
        assert isinstance(error, aiosmrt.UnexpectedResponse)
        assert error.may_have_run
        assert says in str(error)


@pytest.mark.asyncio
async def test_no_content_is_an_answer_of_no_bytes(
    serve: Serve, events: Events, connect: Connect
) -> None:
    answer = b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n"
    async with serve(events.play(answer)) as server, connect(server) as client:
        response = await client.invoke_endpoint(endpoint_name="e", body=b"x")
        assert response.body == b""


@pytest.mark.asyncio
async def test_of_a_page_in_place_of_a_stream_all_is_kept(
    serve: Serve, events: Events, respond: Respond, leftovers: Leftovers
) -> None:
    page = b'{"generated_text": "' + b"all at once" * 100_000 + b'"}'
    async with serve(events.play(respond(200, page))) as server:
        client = leftovers.connect(server.url)
        error = await leftovers.fail(client, STREAM)
        assert isinstance(error, aiosmrt.UnexpectedResponse)
        assert error.body == page
        await leftovers.check(client, server)


@pytest.mark.asyncio
async def test_of_a_page_without_end_not_more_is_kept_than_the_limit(
    serve: Serve, connect: Connect, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_KEPT", 1 << 20)
    head = events.head(content_type="text/html")
    flood = events.play(head, *[events.chunk(bytes(1 << 18))] * 100)
    async with serve(flood) as server, connect(server) as client:
        with pytest.raises(aiosmrt.UnexpectedResponse) as caught:
            await events.open(client)
        assert 1 << 20 <= len(caught.value.body) < 1 << 21


# --- streams


def _squeeze(*frames: bytes) -> list[bytes]:
    """Compress frames so that each can be read as soon as it is there, as servers flush."""
    squeezer = zlib.compressobj(wbits=31)
    pieces = [squeezer.compress(frame) + squeezer.flush(zlib.Z_SYNC_FLUSH) for frame in frames]
    return [*pieces, squeezer.flush()]


@pytest.mark.parametrize("value", ["gzip", "X-Gzip", "utf-8,gzip"])
@pytest.mark.asyncio
async def test_parts_of_a_compressed_stream_are_given_as_they_come(
    value: str, serve: Serve, events: Events, leftovers: Leftovers
) -> None:
    go_on = asyncio.Event()
    first, second, end = _squeeze(events.part(b"once"), events.part(b"upon"))
    head = events.head(content_encoding=value)
    pieces = (events.chunk(second), events.chunk(end), events.END)
    async with serve(events.play(head, events.chunk(first), go_on, *pieces)) as server:
        client = leftovers.connect(server.url)
        async with events.open(client) as stream:
            assert (await anext(stream)).bytes == b"once"
            go_on.set()
            assert await events.collect(stream) == [b"upon"]
        assert server.connections == server.open_connections == 1  # it was given back
        await leftovers.check(client, server)


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
@pytest.mark.asyncio
async def test_a_compressed_stream_of_a_stated_length(
    size: int, serve: Serve, connect: Connect, events: Events
) -> None:
    parts = [b"once", b"x" * 100_000, b"upon"]
    body = b"".join(gzip.compress(events.part(part)) for part in parts)
    head = events.head(f"content-length: {len(body)}", content_encoding="gzip")
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    async with (
        serve(events.play(head, *pieces)) as server,
        connect(server) as client,
        events.open(client) as stream,
    ):
        assert await events.collect(stream) == parts


@pytest.mark.asyncio
async def test_a_compressed_stream_that_is_cut_in_its_coding(
    serve: Serve, events: Events, leftovers: Leftovers
) -> None:
    """HTTP has its end, and the frames have theirs: only the coding tells."""
    *pieces, _ = _squeeze(events.part(b"once"), events.part(b"upon"))
    body = [events.chunk(piece) for piece in pieces]
    head = events.head(content_encoding="gzip")
    async with serve(events.play(head, *body, events.END)) as server:
        client = leftovers.connect(server.url)
        async with events.open(client) as stream:
            parts, error = await events.read_to_fault(stream)
        assert [part.bytes for part in parts] == [b"once", b"upon"]
        assert isinstance(error, aiosmrt.TruncatedStream)
        assert "gzip stops before its end" in str(error)
        assert "after 2 parts, 8 bytes" in str(error)
        await leftovers.check(client, server)


@pytest.mark.asyncio
async def test_a_compressed_stream_that_is_damaged(
    serve: Serve, events: Events, leftovers: Leftovers
) -> None:
    first, _ = _squeeze(events.part(b"once"))
    head = events.head(content_encoding="gzip")
    body = events.chunk(first), events.chunk(b"\xff" * 100)
    async with serve(events.play(head, *body, events.END)) as server:
        client = leftovers.connect(server.url)
        async with events.open(client) as stream:
            parts, error = await events.read_to_fault(stream)
        assert [part.bytes for part in parts] == [b"once"]
        assert isinstance(error, aiosmrt.UnexpectedResponse)
        assert "it is no gzip" in str(error)
        assert error.may_have_run
        await leftovers.check(client, server)


@pytest.mark.asyncio
async def test_a_stream_whose_coding_cannot_be_decoded_is_kept(
    serve: Serve, events: Events, leftovers: Leftovers
) -> None:
    body = bytes(range(256)) * 2000
    answer = events.head(content_encoding="br") + events.chunk(body) + events.END
    async with serve(events.play(answer)) as server:
        client = leftovers.connect(server.url)
        error = await leftovers.fail(client, STREAM)
        assert isinstance(error, aiosmrt.UnexpectedResponse)
        assert "'br' cannot be decoded" in str(error)
        assert error.body == body
        await leftovers.check(client, server)


@pytest.mark.asyncio
async def test_a_bomb_of_a_stream_comes_as_slowly_as_it_is_read(
    serve: Serve, events: Events, leftovers: Leftovers
) -> None:
    frame = events.part(bytes(1 << 20))
    body = gzip.compress(frame) * 500
    answer = events.head(f"content-length: {len(body)}", content_encoding="gzip") + body
    async with serve(events.play(answer)) as server:
        client = leftovers.connect(server.url)
        async with events.open(client) as stream:
            for _ in range(3):
                assert len((await anext(stream)).bytes) == 1 << 20
            assert stream._payloads == []
        await leftovers.check(client, server)
