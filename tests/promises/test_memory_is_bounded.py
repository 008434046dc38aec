"""Memory is bounded.

A slow consumer stops the socket, and fills no list. What has failed is gone as soon as nobody holds
its error: the collector finds nothing of it. A kept error that is raised refers by its traceback to
its keeper: a circle, and in it are the request's body and all that came of the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import types
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import pytest
import uvloop

import aiosmrt
from aiosmrt import (
    AiosmrtError,
    SageMakerRuntimeClient,
    ServiceError,
    Timeout,
)
from aiosmrt.transport.alarm import Alarm
from aiosmrt.transport.connection import PooledConnection

if TYPE_CHECKING:
    from tests.conftest import (
        Connect,
        EventStreams,
        Leftovers,
        SeenRequest,
        Serve,
    )

    Events: TypeAlias = type[EventStreams]


Respond: TypeAlias = Callable[..., bytes]

# `make promises` has more.
PUSHED_MEGABYTES = int(os.environ.get("AIOSMRT_PUSHED_MEGABYTES", "64"))


def _measure_memory() -> int:
    """Bytes of this process in memory now; the peak of `getrusage` never comes down."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
@pytest.mark.asyncio
async def test_a_slow_consumer_keeps_memory_flat(
    serve: Serve, connect: Connect, events: Events
) -> None:
    size = 1 << 18
    count = (PUSHED_MEGABYTES << 20) // size
    payload = (b"x" * 1023 + b"\n") * (size // 1024)

    async def push(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        frame = events.chunk(events.part(payload))
        writer.write(events.head())
        for _ in range(count):
            writer.write(frame)
            await writer.drain()
        writer.write(events.END)

    async with serve(push) as server, connect(server) as client, events.open(client) as stream:
        lines = 0
        highest = before = _measure_memory()
        async for _ in stream.iter_lines():
            lines += 1
            if lines % 4096 == 0:
                await asyncio.sleep(0.02)  # meanwhile the server pushes as it can
                highest = max(highest, _measure_memory())
        assert lines == count * size // 1024
        assert highest - before < 16 << 20


@pytest.mark.asyncio
async def test_a_consumer_that_reads_nothing_stops_the_server(
    serve: Serve, connect: Connect, events: Events
) -> None:
    written = 0

    async def push(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        frame = events.chunk(events.part(b"x" * 65536))
        writer.write(events.head())
        while True:
            writer.write(frame)
            await writer.drain()
            written += len(frame)

    async with (
        serve(push) as server,
        connect(server) as client,
        events.open(client) as stream,
    ):
        before = -1
        while before < written:
            before = written
            await asyncio.sleep(0.1)
        assert written < 8 << 20
        while stream.bytes_received < 16 << 20:  # it goes on when the consumer does
            await anext(stream)
        assert written < 24 << 20


@pytest.mark.asyncio
async def test_an_open_stream_does_not_hold_the_body_that_was_sent(
    serve: Serve, connect: Connect, events: Events
) -> None:
    body = bytes(100_000)
    before = sys.getrefcount(body)
    answer = events.head() + events.chunk(events.part(b"a"))
    async with (
        serve(events.play(answer, events.hang)) as server,
        connect(server) as client,
        client.invoke_endpoint_with_response_stream(endpoint_name="llm", body=body) as stream,
    ):
        assert (await anext(stream)).bytes == b"a"
        assert sys.getrefcount(body) == before


@pytest.mark.asyncio
async def test_a_page_without_end_is_not_read_to_its_end(
    serve: Serve, leftovers: Leftovers
) -> None:
    async def endless(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 403 No\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n%b\r\n" % (b"x" * 0x10000))
            await writer.drain()

    async with serve(endless) as server:
        client = leftovers.connect(server.url)
        error = await leftovers.fail(client)
        assert isinstance(error, ServiceError)
        await leftovers.check(client, server)


# --- what has failed is gone


_PACKAGE = os.path.dirname(aiosmrt.__file__)  # noqa: PTH120 - as code objects have it
_LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
_BODY = b"x" * 200_000

Act: TypeAlias = Callable[[], Awaitable[object]]
Judge: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]

# What a server does: write this, close the connection, or wait for so many seconds. At the end it
# keeps the connection open.
Steps: TypeAlias = tuple[bytes | float | None, ...]
_CUT = None
_PAUSE = 0.01
# Limits that nothing meets but what hangs.
_LIMITS = {
    "hangs": Timeout(first_byte=0.02),
    "body-hangs": Timeout(idle=0.02),
    "head-hangs": Timeout(first_byte=0.02),
    "part-hangs": Timeout(idle=0.02),
}


@pytest.fixture(params=_LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Judge]:
    """Give what runs a test on a loop, without a collector that would hide what it is about."""
    # Handlers keep what is logged, and with it an error that is among the words.
    logging.disable()
    with asyncio.Runner(loop_factory=_LOOPS[request.param]) as runner:
        try:
            yield runner.run
        finally:
            gc.enable()
            logging.disable(logging.NOTSET)


def _find_ours() -> Counter[str]:
    """Count what there is of the package beside what was frozen."""
    found: Counter[str] = Counter()
    for thing in gc.get_objects():
        kind = type(thing)
        code = (
            getattr(thing, "cr_code", None)
            or getattr(thing, "ag_code", None)
            or (isinstance(thing, types.FrameType) and thing.f_code)
        )
        # An alarm waits for its timer, with nobody in it, and a connection for the next call.
        waits = kind is Alarm or (isinstance(thing, PooledConnection) and not thing.lost)
        if (str(kind.__module__).startswith("aiosmrt") and not waits) or (
            isinstance(code, types.CodeType) and code.co_filename.startswith(_PACKAGE)
        ):
            found[kind.__name__] += 1
    return found


async def _fail(act: Act) -> type[BaseException] | None:
    try:
        await act()
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return type(error)
    return None


async def _fail_in_a_task(act: Act) -> type[BaseException] | None:
    """Fail where a task keeps the error, as under `asyncio.gather`."""
    (error,) = await asyncio.gather(_call(act), return_exceptions=True)
    return type(error) if isinstance(error, BaseException) else None


async def _call(act: Act) -> None:
    await act()


async def _watch(acts: dict[str, tuple[Act, object]]) -> None:
    """See to it that each fails as it should, twice, and that nothing is left of the second."""
    for name, (act, kind) in acts.items():
        assert await _fail(act) is kind, name
    await asyncio.sleep(0.05)
    gc.collect()
    gc.disable()
    gc.freeze()
    left = {}
    for name, (act, kind) in acts.items():
        for fail in (_fail, _fail_in_a_task):
            assert await fail(act) is kind, name
            waited = 0
            while (found := _find_ours()) and waited < 100:
                await asyncio.sleep(0.005)  # the loop has to tell of the connection's end
                waited += 1
            if found:
                left[f"{name}, {fail.__name__}"] = found
                gc.freeze()
    assert left == {}


@attrs.frozen
class _Server:
    """Answers by the name of the endpoint, or of the bucket, that is in the target."""

    answers: dict[str, Steps]

    async def answer(self, request: Any, writer: asyncio.StreamWriter) -> None:
        name = request.target.split("/")[2 if request.target.startswith("/endpoints/") else 1]
        for step in self.answers[name]:
            if step is _CUT:
                writer.close()
                return
            if isinstance(step, float):
                await asyncio.sleep(step)
                continue
            writer.write(step)
            await writer.drain()


def _invoke(client: SageMakerRuntimeClient, name: str, timeout: Timeout | None = None) -> Act:
    return lambda: client.invoke_endpoint(endpoint_name=name, body=_BODY, timeout=timeout)


def test_of_calls(run: Judge, serve: Serve, connect: Any, respond: Respond, tls: Any) -> None:
    whole = respond(200, b"y" * 100)
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
    signature = respond(
        403,
        b'{"message": "Signature expired"}',
        x_amzn_errortype="InvalidSignatureException",
        date="Mon, 01 Jan 2024 00:00:00 GMT",
    )
    answers: dict[str, tuple[Steps, object]] = {
        "success": ((whole,), None),
        "model": ((respond(424, x_amzn_errortype="ModelError"),), aiosmrt.ModelError),
        "throttled": (
            (respond(400, x_amzn_errortype="ThrottlingException"),),
            aiosmrt.ThrottlingException,
        ),
        "skew": ((signature,), aiosmrt.ServiceError),
        "refusal-cut": ((respond(424, b"y" * 100)[:-50], _CUT), aiosmrt.ServiceError),
        "encoded": ((respond(content_encoding="gzip"),), aiosmrt.UnexpectedResponse),
        "redirect": ((respond(302),), aiosmrt.UnexpectedResponse),
        "no-http": ((b"SSH-2.0\r\n\r\n",), aiosmrt.UnexpectedResponse),
        "no-answer": ((_CUT,), aiosmrt.ConnectionLost),
        "head-cut": ((whole[:20], _CUT), aiosmrt.ConnectionLost),
        "body-cut": ((whole[:-50], _CUT), aiosmrt.ConnectionLost),
        "no-chunk": ((chunked, b"zz\r\n"), aiosmrt.ConnectionLost),
        "close-delimited": ((b"HTTP/1.1 200 OK\r\n\r\nabc", _CUT), aiosmrt.ConnectionLost),
        "hangs": ((), aiosmrt.FirstByteTimeout),
        "body-hangs": ((whole[:-50],), aiosmrt.IdleTimeout),
    }

    async def main() -> None:
        server = _Server({name: steps for name, (steps, _) in answers.items()})
        retry = aiosmrt.RetryPolicy(backoff=lambda attempt, error: 0.0)
        async with (
            serve(server.answer) as plain,
            serve(server.answer, tls=tls.server) as secure,
            connect(plain, retry=retry) as client,
            connect(secure, retry=retry, verify=tls.client) as trusting,
        ):
            acts: dict[str, tuple[Act, object]] = {}
            for name, (_, kind) in answers.items():
                acts[name] = (_invoke(client, name, _LIMITS.get(name)), kind)
                acts[f"{name}, TLS"] = (_invoke(trusting, name, _LIMITS.get(name)), kind)
            hangs, total = _invoke(client, "hangs"), Timeout(total=0.02)
            untrusting = client.with_options(endpoint_url=secure.url)
            nowhere = client.with_options(endpoint_url="http://127.0.0.2:1")
            unnamed = client.with_options(endpoint_url="http://localhost", region_name="no region")
            penniless = client.with_options(
                aws_access_key_id=None, aws_secret_access_key=None, credentials=_have_none
            )
            acts |= {
                "cancelled": (lambda: _cancel(hangs()), asyncio.CancelledError),
                "closed": (lambda: _close_client(plain, connect), aiosmrt.ClientClosed),
                "total": (_invoke(client, "hangs", total), aiosmrt.TotalTimeout),
                "body total": (_invoke(client, "body-hangs", total), aiosmrt.TotalTimeout),
                "certificate": (_invoke(untrusting, "success"), aiosmrt.ConnectError),
                "refused": (_invoke(nowhere, "success"), aiosmrt.ConnectError),
                "name": (_invoke(client, "!"), aiosmrt.ParameterError),
                "region": (_invoke(unnamed, "success"), aiosmrt.ConfigurationError),
                "credentials": (_invoke(penniless, "success"), aiosmrt.CredentialsError),
            }
            for hook in ("on_start", "before_send", "after_headers", "on_retry", "on_end"):
                hooks = aiosmrt.Hooks(**{hook: _complain})
                hooked = client.with_options(hooks=hooks)
                # What the last one raises is logged, and no more.
                kind = aiosmrt.StreamClosed if hook != "on_end" else aiosmrt.ThrottlingException
                acts[hook] = (_invoke(hooked, "throttled"), kind)
            await _watch(acts)

    run(main())


async def _have_none() -> aiosmrt.Credentials:
    raise OSError("the vault is locked")


def _complain(event: object) -> None:
    raise aiosmrt.StreamClosed("what a hook may well have met")


async def _cancel(coroutine: Awaitable[object]) -> None:
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0.01)
    task.cancel()
    try:
        await task
    finally:
        del task  # it keeps the error that has this frame in its traceback


async def _close_client(server: Any, connect: Any) -> None:
    async with connect(server) as client:
        await client.warm_up()
        task = asyncio.ensure_future(_invoke(client, "hangs")())
        await asyncio.sleep(0.01)
        await client.aclose()
        try:
            await task
        finally:
            del task


async def _read(stream: Any, read: Callable[[Any], AsyncIterator[object]]) -> None:
    """Read to the fault, and once more."""
    values = read(stream)
    with contextlib.suppress(AiosmrtError):
        async for _ in values:
            pass
    async for _ in values:
        pass


def test_of_streams(run: Judge, serve: Serve, connect: Any, respond: Respond, events: Any) -> None:
    first = events.head() + events.chunk(events.part(b"a\n"))
    no_frame = events.chunk(bytes(16))
    no_crc = events.chunk(events.part(b"a")[:-1] + b"?")
    failure = events.chunk(events.exception("ModelStreamError", b'{"Message": "no"}'))
    together = events.chunk(events.part(b"a\n"), bytes(16))
    cases: dict[str, tuple[Steps, object]] = {
        "success": ((first, events.END), None),
        "refused": ((respond(424),), aiosmrt.ServiceError),
        "no-stream": ((respond(),), aiosmrt.UnexpectedResponse),
        "no-frame": ((events.head() + no_frame,), aiosmrt.PreludeChecksumMismatch),
        "no-frame-late": ((first, no_frame), aiosmrt.PreludeChecksumMismatch),
        "no-frame-behind": ((events.head() + together,), aiosmrt.PreludeChecksumMismatch),
        "no-crc-late": ((first, no_crc), aiosmrt.MessageChecksumMismatch),
        "failure": ((events.head() + failure,), aiosmrt.ModelStreamError),
        "failure-late": ((first, failure), aiosmrt.ModelStreamError),
        "truncated": ((first, events.chunk(b"aaa"), events.END), aiosmrt.TruncatedStream),
        "cut": ((first, _CUT), aiosmrt.StreamConnectionLost),
        "no-chunk": ((first, b"zz\r\n"), aiosmrt.StreamConnectionLost),
        "head-hangs": ((events.head(),), aiosmrt.FirstByteTimeout),
        "part-hangs": ((first,), aiosmrt.IdleTimeout),
    }
    views: dict[str, tuple[bytes, object, Callable[[Any], AsyncIterator[object]]]] = {
        "text": (b"a\xff", aiosmrt.InvalidText, lambda s: s.iter_text()),
        "lines": (b"a\n\xff\n", aiosmrt.InvalidText, lambda s: s.iter_lines()),
        "long-line": (b"aaa", aiosmrt.PayloadTooLarge, lambda s: s.iter_lines(max_line_length=2)),
        "json": (b"{}{]", aiosmrt.InvalidJSON, lambda s: s.iter_json()),
        "json-end": (b"{}{", aiosmrt.InvalidJSON, lambda s: s.iter_json()),
        "events": (b"data: a\n\ndata: \xff\n\n", aiosmrt.InvalidText, lambda s: s.iter_events()),
        "unmarked": (
            b"data: a\n\n",
            aiosmrt.TruncatedStream,
            lambda s: s.iter_events(done="[DONE]", require_done=True),
        ),
        "reported": (
            b'data: a\n\ndata: {"error": "no"}\n\n',
            aiosmrt.ModelStreamError,
            lambda s: s.iter_events(raise_on_error=True),
        ),
        "tokens": (b'{"t": "a"}{"t": 1}', aiosmrt.InvalidJSON, lambda s: s.iter_tokens("t")),
        "tokens-error": (
            b'{"error": "no"}',
            aiosmrt.ModelStreamError,
            lambda s: s.iter_tokens("t"),
        ),
        "chat": (
            b'{"choices": [{"delta": {"content": "a"}}]}',
            aiosmrt.TruncatedStream,
            lambda s: s.iter_chat(),
        ),
        "careless": (b"a", aiosmrt.InvalidJSON, lambda s: s._view("values", _Careless())),
    }

    async def main() -> None:
        server = _Server({name: steps for name, (steps, _) in cases.items()})
        for name, (payload, _, _) in views.items():
            server.answers[f"v-{name}"] = (events.whole(payload),)
        server.answers["goes-on"] = (first,)
        server.answers["goes-wrong"] = (first, _PAUSE, b"zz\r\n")
        async with serve(server.answer) as plain, connect(plain) as client:

            def read(name: str, read: Callable[[Any], AsyncIterator[object]] = aiter) -> Act:
                async def act() -> None:
                    async with client.invoke_endpoint_with_response_stream(
                        endpoint_name=name, body=_BODY, timeout=_LIMITS.get(name)
                    ) as stream:
                        await _read(stream, read)

                return act

            acts = {name: (read(name), kind) for name, (_, kind) in cases.items()}
            for name, (_, kind, view) in views.items():
                acts[name] = (read(f"v-{name}", view), kind)
            acts["cut, read"] = (lambda: _read_whole(client), aiosmrt.StreamConnectionLost)
            acts["left"] = (lambda: _leave(client, "goes-on"), None)
            acts["left behind a fault"] = (lambda: _leave(client, "goes-wrong"), None)
            acts["closed"] = (lambda: _close_stream(client), aiosmrt.StreamClosed)
            acts["cancelled"] = (lambda: _cancel(read("goes-on")()), asyncio.CancelledError)
            await _watch(acts)

    run(main())


class _Careless:
    """A decoder that keeps no error, but gives one whose cause knows how it came about."""

    slice_length = 100

    def receive(self, data: bytes) -> list[object]:
        try:
            return [int(data)]
        except ValueError as error:
            raise aiosmrt.InvalidJSON("no number") from error

    def finish(self) -> list[object]:
        return []


async def _read_whole(client: SageMakerRuntimeClient) -> None:
    async with client.invoke_endpoint_with_response_stream(
        endpoint_name="cut", body=_BODY
    ) as stream:
        await stream.read()


async def _leave(client: SageMakerRuntimeClient, name: str) -> None:
    async with client.invoke_endpoint_with_response_stream(
        endpoint_name=name, body=_BODY
    ) as stream:
        await anext(stream)
        await asyncio.sleep(2 * _PAUSE)


async def _close_stream(client: SageMakerRuntimeClient) -> None:
    stream = await client.invoke_endpoint_with_response_stream(endpoint_name="goes-on", body=_BODY)
    await anext(stream)
    task = asyncio.ensure_future(_read(stream, aiter))
    await asyncio.sleep(0.005)
    await stream.aclose()
    try:
        await task
    finally:
        del task


@attrs.frozen
class _Queue(_Server):
    """Accepts every request, whose bucket has the endpoint's name, and is the S3 of these."""

    respond: Respond

    async def answer(self, request: Any, writer: asyncio.StreamWriter) -> None:
        _, name, *rest = request.target.partition("?")[0].split("/")
        if name == "endpoints":
            place = f"s3://{rest[0]}/"
            writer.write(
                self.respond(
                    202,
                    b'{"InferenceId": "i"}',
                    x_amzn_sagemaker_outputlocation=f"{place}output",
                    x_amzn_sagemaker_failurelocation=f"{place}failure",
                )
            )
        elif "list-type" in request.target:
            key = b"" if name == "absent" else b"<Contents><Key>output</Key></Contents>"
            writer.write(self.respond(200, b"<ListBucketResult>%b</ListBucketResult>" % key))
        elif rest == ["output"]:
            await super().answer(request, writer)
        elif name == "failed" and rest == ["failure"]:
            writer.write(self.respond(200, b"" if request.method == "HEAD" else b"no"))
        else:
            missing = (
                b"" if request.method == "HEAD" else b"<Error><Code>NoSuchBucket</Code></Error>"
            )
            writer.write(self.respond(404, missing))


async def _wait_for_many(
    client: SageMakerRuntimeClient, invocation: aiosmrt.AsyncInvocation, number: int
) -> None:
    many = [attrs.evolve(invocation, inference_id=str(n)) for n in range(number)]
    errors = [result.error async for result in client.wait_for_results(many, 0.02)]
    assert len(errors) == number
    if errors[0] is not None:
        raise type(errors[0])("as it was given")


def test_of_asynchronous_inference(
    run: Judge, serve: Serve, connect: Any, respond: Respond, tmp_path: Path
) -> None:
    there = respond(200, b"y" * 100, etag='"e"')
    absent = respond(404, b"<Error><Code>NoSuchKey</Code></Error>")
    denied = respond(403, b"<Error><Code>AccessDenied</Code></Error>")
    outputs: dict[str, tuple[Steps, object]] = {
        "success": ((there,), None),
        "failed": ((absent,), aiosmrt.AsyncInferenceError),
        "absent": ((absent,), aiosmrt.AsyncInferenceTimeout),
        "lost": ((_CUT,), aiosmrt.AsyncInferenceTimeout),
        "broken": ((respond(500),), aiosmrt.AsyncInferenceTimeout),
        "denied": ((denied,), aiosmrt.ServiceError),
        "refused": ((respond(400),), aiosmrt.ServiceError),
        "replaced": ((there[:-50], _CUT), aiosmrt.UnexpectedResponse),
        "cut": ((respond(200, b"y" * 100)[:-50], _CUT), aiosmrt.ConnectionLost),
    }
    queue = _Queue({name: steps for name, (steps, _) in outputs.items()}, respond)

    async def main() -> None:
        retry = aiosmrt.RetryPolicy(backoff=lambda attempt, error: 0.0)
        async with (
            serve(queue.answer) as server,
            connect(server, retry=retry, s3_endpoint_url=server.url, poll_interval=0.005) as client,
        ):

            def wait(
                name: str, wait: Callable[[aiosmrt.AsyncInvocation], Awaitable[object]]
            ) -> Act:
                async def act() -> None:
                    await wait(await client.invoke_endpoint_async(endpoint_name=name, body=b"x"))

                return act

            acts: dict[str, tuple[Act, object]] = {}
            for name, (_, kind) in outputs.items():
                acts[name] = (wait(name, lambda one: one.result(0.02)), kind)
                acts[f"looked for {name}"] = (
                    wait(name, lambda one: _wait_for_many(client, one, 1)),
                    kind,
                )
                acts[f"listed {name}"] = (
                    wait(name, lambda one: _wait_for_many(client, one, 3)),
                    kind,
                )
            acts |= {
                "input": (
                    lambda: client.invoke_endpoint_async(
                        endpoint_name="e", body=_BODY, s3_input_prefix="s3://nowhere/"
                    ),
                    aiosmrt.ServiceError,
                ),
                "no folder": (
                    wait("success", lambda one: one.download(tmp_path / "no" / "folder")),
                    FileNotFoundError,
                ),
                "no file": (
                    wait("cut", lambda one: one.download(tmp_path / "file")),
                    aiosmrt.ConnectionLost,
                ),
                "given up": (
                    lambda: _cancel(wait("absent", lambda one: one.result())()),
                    asyncio.CancelledError,
                ),
            }
            await _watch(acts)

    run(main())
