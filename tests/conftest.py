"""What the tests of several rooms need: servers that are real, and an environment that is not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar, Unpack, cast

import attrs
import botocore
import pytest
import pytest_asyncio
import trustme

import aiosmrt
from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.config import RetryPolicy, Timeout
from aiosmrt.errors import AiosmrtError, PayloadError
from aiosmrt.eventstream import encode_message
from aiosmrt.hooks import Hooks, OnEnd
from aiosmrt.http import Request
from aiosmrt.response_stream import ResponseStream, ResponseStreamOpening
from aiosmrt.service.model import spell
from aiosmrt.service.parameters import ClientOptions
from aiosmrt.transport import Pool, PooledResponse
from aiosmrt.transport.limits import Limits

with contextlib.suppress(ModuleNotFoundError):  # tests/integration runs in environments without it
    import hypothesis

    hypothesis.settings.register_profile(
        "suite",
        max_examples=int(os.environ.get("AIOSMRT_EXAMPLES", "50")),
        deadline=None,  # as the next: the machine may have other work to do
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("suite")

# From this release on botocore knows all that tests ask it for as a judge.
_JUDGE = (1, 44)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what an old botocore cannot judge: the client works with it all the same."""
    if tuple(int(number) for number in botocore.__version__.split(".")[:2]) >= _JUDGE:
        return
    skip = pytest.mark.skip(reason=f"botocore {botocore.__version__} is too old a judge")
    for item in items:
        if item.get_closest_marker("newest_botocore"):
            item.add_marker(skip)


def pytest_collection_finish() -> None:
    """Keep the collector from all that is imported: a look at it takes a third of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of the machine's own AWS settings, proxies or CA bundle reaches a test.

    Nor do settings of Python's by which a process writes otherwise, or compiles all anew.
    """
    for name in os.environ:
        if name.startswith("AWS_") or name.lower().endswith(("_proxy", "_ca_bundle")):
            monkeypatch.delenv(name)
    for name in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path_factory.getbasetemp()  # one for each test would take its time
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def vectors() -> Path:
    """The folder of test vectors."""
    folder = os.environ.get("AIOSMRT_VECTORS")
    if not folder:
        pytest.skip("AIOSMRT_VECTORS does not name the folder of test vectors")
    return Path(folder)


@attrs.define
class SeenRequest:
    """A request as it came off the wire."""

    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    raw_head: bytes
    # Reading it to its end waits until the client closes the connection.
    reader: asyncio.StreamReader = attrs.field(repr=False)


@attrs.define
class WireServer:
    """A server that hands out bytes as it is told to."""

    port: int
    scheme: str = "http"
    requests: list[SeenRequest] = attrs.field(factory=list)
    connections: int = 0  # ever made
    open_connections: int = 0
    closed: asyncio.Event = attrs.field(factory=asyncio.Event)  # set whenever one is closed

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


Answer: TypeAlias = Callable[[SeenRequest, asyncio.StreamWriter], Awaitable[None]]
Serve: TypeAlias = Callable[..., contextlib.AbstractAsyncContextManager[WireServer]]


async def _read_request(reader: asyncio.StreamReader) -> SeenRequest | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    headers = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    try:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return SeenRequest(method, target, headers, body, head, reader)


Converse: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ServeRaw: TypeAlias = Callable[..., contextlib.AbstractAsyncContextManager[WireServer]]

# Of sockets that must not swallow what nobody reads.
_SMALL_BUFFER = 1 << 16


@contextlib.asynccontextmanager
async def _serve_raw(
    converse: Converse, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[WireServer]:
    tasks: set[asyncio.Task[None]] = set()
    transports: list[asyncio.WriteTransport] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            tasks.add(task)
        transports.append(writer.transport)
        seen.connections += 1
        seen.open_connections += 1
        try:
            await converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            seen.open_connections -= 1
            seen.closed.set()
            if task is not None:
                tasks.discard(task)

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALL_BUFFER)
    seen = WireServer(listener.getsockname()[1], "http" if tls is None else "https")
    server = await asyncio.start_server(connected, sock=listener, ssl=tls)
    try:
        yield seen
    finally:
        closed = asyncio.create_task(server.wait_closed())
        await asyncio.sleep(0)  # who begins to wait for it later is told at once
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks)
        # A polite end of TLS waits for the other side, which may be gone.
        for transport in transports:
            with contextlib.suppress(AttributeError):  # what asyncio has closed has no loop
                transport.abort()
        # A handshake that the other side has given up may not have heard of it yet.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closed, 1)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def _serve(answer: Answer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[WireServer]:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing() and (request := await _read_request(reader)) is not None:
            seen.requests.append(request)
            await answer(request, writer)
            await writer.drain()

    async with _serve_raw(converse, tls=tls) as seen:
        yield seen


@pytest.fixture
def serve() -> Serve:
    """Give a server that answers each request by a coroutine that writes raw bytes."""
    return _serve


@pytest.fixture
def serve_raw() -> ServeRaw:
    """Give a server that hands each connection to a coroutine: reader, writer.

    Its sockets have small buffers, so that what it does not read stays with the client soon.
    """
    return _serve_raw


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that nobody trusts yet."""
    return trustme.CA()


@attrs.frozen
class Tls:
    """The contexts of both sides."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="session")
def tls(authority: trustme.CA) -> Tls:
    """A server's context with a certificate for 127.0.0.1, and a client's that trusts it."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Tls(server, client)


@pytest.fixture
def strict_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have default contexts made as Python 3.13 makes them."""
    make = ssl.create_default_context

    def make_strictly(*args: Any, **options: Any) -> ssl.SSLContext:
        context = make(*args, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", make_strictly)


async def _exchange(
    pool: Pool,
    url: str,
    body: bytes = b"{}",
    *,
    timeout: Timeout | None = None,  # noqa: ASYNC109 - it is what is tested
    headers: dict[str, str] | None = None,
) -> PooledResponse:
    limits = Limits(timeout or Timeout())
    slot = None
    pool.enter(limits)
    try:
        with limits:
            slot = await pool.acquire(limits)
            request = Request("POST", url, "/endpoints/e/invocations", dict(headers or {}), body)
            return await pool.send(request, slot, limits)
    except BaseException:
        if slot is not None:
            slot.release()
        raise
    finally:
        pool.leave(limits)


@pytest.fixture
def exchange() -> Callable[..., Awaitable[PooledResponse]]:
    """Give a coroutine function that sends one request over a pool, as a call does."""
    return _exchange


@pytest.fixture
def quiet_loop(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """See to it that no callback has raised: an event loop only logs that."""
    yield
    logged = [record for record in caplog.get_records("call") if record.name == "asyncio"]
    assert not [record.getMessage() for record in logged if record.levelno >= logging.ERROR]


async def _until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come about"
        await asyncio.sleep(0.005)


_PACKAGE = os.path.dirname(aiosmrt.__file__)  # noqa: PTH120 - as code objects have it


class Cancellation:
    """Cancels a task when it, or a task that the package made for it, is suspended the n-th time.

    Either while it waits, or just when what it waits for has come ("woken"), or because the time
    is over that somebody has set for it ("timeout").
    """

    def __init__(self, number: int, moment: str = "waiting") -> None:
        self._left = number
        self._moment = moment
        self._scope = asyncio.timeout(None)
        self._task: asyncio.Task[Any] | None = None

    @property
    def struck(self) -> bool:
        return self._left <= 0

    async def strike(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Give what the coroutine returns, `None` where it was cancelled."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(self._make_task)
        try:
            self._task = asyncio.create_task(self._run(coroutine))
            with contextlib.suppress(
                TimeoutError if self._moment == "timeout" else asyncio.CancelledError
            ):
                return await self._task
            return None
        finally:
            loop.set_task_factory(None)

    async def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        async with self._scope:
            return await _Counted(coroutine, self._suspend)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        if coroutine.cr_code.co_filename.startswith(_PACKAGE):
            coroutine = _await(_Counted(coroutine, self._suspend))
        return asyncio.Task(coroutine, loop=loop, **options)

    def _suspend(self, awaited: asyncio.Future[object] | None) -> None:
        self._left -= 1
        if self._left != 0:
            return
        assert self._task is not None
        cancel = self._task.cancel
        if self._moment == "timeout":
            self._scope.reschedule(asyncio.get_running_loop().time())
        elif awaited is None or self._moment == "waiting":
            asyncio.get_running_loop().call_soon(cancel)
        else:
            awaited.add_done_callback(lambda _: cancel())


class _Counted:
    """A coroutine that tells whenever it is suspended, and by what."""

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        suspend: Callable[[asyncio.Future[object] | None], None],
    ) -> None:
        self._coroutine = coroutine
        self._suspend = suspend

    def __await__(self) -> Generator[Any, None, Any]:
        steps = self._coroutine.__await__()
        thrown: BaseException | None = None
        while True:
            try:
                awaited = steps.send(None) if thrown is None else steps.throw(thrown)
            except StopIteration as end:
                return end.value
            thrown = None
            self._suspend(awaited)
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 - passed on, as `yield from` does
                thrown = error


async def _await(counted: _Counted) -> Any:
    return await counted


@pytest.fixture
def cancellation() -> type[Cancellation]:
    """Give what cancels a coroutine at its n-th await."""
    return Cancellation


_ESTABLISHED = 1  # TCP_ESTABLISHED of Linux' include/net/tcp_states.h


async def _read_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    # uvloop's is none by its class.
    cast("asyncio.Transport", writer.transport).pause_reading()
    raw: socket.socket = writer.get_extra_info("socket")

    def is_gone() -> bool:
        # Who does not read is not told of the connection's end either, but uvloop closes it.
        with contextlib.suppress(OSError, ValueError):
            return raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED
        return True

    await _until(is_gone, 30)


@pytest.fixture
def read_nothing() -> Converse:
    """Give a conversation that reads a head, and then nothing until the connection is gone."""
    if not hasattr(socket, "TCP_INFO"):
        pytest.skip("needs TCP_INFO to see a reset without reading")
    return _read_nothing


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Give a coroutine function that waits until a condition holds, for 30 seconds at most."""
    return _until


def _respond(status: int = 200, body: bytes = b"{}", **headers: str) -> bytes:
    fields = {"content-length": str(len(body)), "content-type": "application/json"}
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Because\r\n{head}\r\n".encode() + body


@pytest.fixture
def respond() -> Callable[..., bytes]:
    """Give a function that writes a whole HTTP answer: status, body, header_names=values."""
    return _respond


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """Give the URL of moto's server: S3 and SageMaker Runtime by other hands, in a process."""
    pytest.importorskip("moto")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "moto does not answer"
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


def _all_it_says(error: BaseException) -> object:
    return type(error), error.args, vars(error), str(error), error.__cause__


@pytest.fixture
def all_it_says() -> Callable[[BaseException], object]:
    """Give a function that tells all that is in an error, to be compared with another's."""
    return _all_it_says


Connect: TypeAlias = Callable[..., SageMakerRuntimeClient]


def _connect(server: WireServer, **options: Unpack[ClientOptions]) -> SageMakerRuntimeClient:
    defaults: ClientOptions = {
        "region_name": "eu-west-1",
        "endpoint_url": server.url,
        "aws_access_key_id": "AKIDEXAMPLE",
        "aws_secret_access_key": "not-a-secret",
    }
    chosen: ClientOptions = {**defaults, **options}
    return SageMakerRuntimeClient(**chosen)


@pytest.fixture
def connect() -> Connect:
    """Give a function that makes a client of a server: its options are keyword arguments."""
    return _connect


T = TypeVar("T")
Step: TypeAlias = "bytes | asyncio.Event | Answer"


class EventStreams:
    """Both sides of event streams: answers, whole or in pieces, and the reading of them."""

    END = b"0\r\n\r\n"

    @staticmethod
    def head(framing: str = "transfer-encoding: chunked", **headers: str) -> bytes:
        """Write the head of an answer, up to where its body begins."""
        fields = {
            "x-amzn-requestid": "7-7-7",
            "x-amzn-sagemaker-content-type": "text/plain",
            "content-type": "application/vnd.amazon.eventstream",
        }
        fields.update({name.replace("_", "-"): value for name, value in headers.items()})
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"HTTP/1.1 200 OK\r\n{lines}{framing}\r\n\r\n".encode()

    @staticmethod
    def part(payload: bytes, event_type: str = "PayloadPart") -> bytes:
        """Write the frame of an event."""
        return encode_message({":message-type": "event", ":event-type": event_type}, payload)

    @staticmethod
    def exception(kind: str, payload: bytes) -> bytes:
        """Write the frame of an exception."""
        return encode_message({":message-type": "exception", ":exception-type": kind}, payload)

    @staticmethod
    def chunk(*frames: bytes) -> bytes:
        """Write frames as one chunk of HTTP."""
        body = b"".join(frames)
        return b"%x\r\n%b\r\n" % (len(body), body)

    @classmethod
    def whole(cls, *payloads: bytes) -> bytes:
        """Write an answer of these parts, each in a chunk of its own."""
        return b"".join([cls.head(), *(cls.chunk(cls.part(p)) for p in payloads), cls.END])

    @staticmethod
    def play(*steps: Step) -> Answer:
        """Answer every request with bytes, pauses until an event, and what else is to be done."""

        async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
            for step in steps:
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                elif isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    await step(request, writer)

        return answer

    @staticmethod
    def play_in_turn(*answers: bytes) -> Answer:
        """Answer the first request with the first bytes, and so on."""
        left = iter(answers)

        async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
            writer.write(next(left))

        return answer

    @staticmethod
    async def close(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        """Close the connection in order."""
        writer.close()

    @staticmethod
    async def reset(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        """Throw the connection away."""
        writer.transport.abort()

    @staticmethod
    async def hang(request: SeenRequest, _: asyncio.StreamWriter) -> None:
        """Send nothing more until the client closes the connection."""
        assert await request.reader.read() == b""

    @staticmethod
    def open(client: SageMakerRuntimeClient) -> ResponseStreamOpening:
        """Ask an endpoint for a stream."""
        return client.invoke_endpoint_with_response_stream(endpoint_name="llm", body=b"{}")

    @staticmethod
    async def collect(stream: ResponseStream) -> list[bytes]:
        """Read the parts that are left."""
        return [part.bytes async for part in stream]

    @staticmethod
    async def read_to_fault(view: AsyncIterator[T]) -> tuple[list[T], AiosmrtError | None]:
        """Read a view to its end or to its fault, and give what came before it."""
        values = []
        try:
            async for value in view:
                values.append(value)  # noqa: PERF401 - those before a fault count
        except AiosmrtError as error:
            return values, error
        return values, None


@pytest.fixture
def events() -> type[EventStreams]:
    """Give what writes answers of event streams."""
    return EventStreams


class Decoder(Protocol):
    """What turns payload bytes into values: see `aiosmrt.payload`."""

    def receive(self, data: bytes, /) -> Iterable[object]: ...
    def finish(self) -> Iterable[object]: ...


MakeDecoder: TypeAlias = Callable[[], Decoder]


@attrs.define
class Decoded:
    """What a decoder made of a payload."""

    early: list[Any] = attrs.field(factory=list)  # before the end; of text, its characters
    late: list[Any] = attrs.field(factory=list)  # at the end
    error: AiosmrtError | None = None
    at_end: bool = False  # whether the error came with the end
    places: list[int] = attrs.field(factory=list)  # where the values begin, if the decoder tells

    @property
    def values(self) -> list[Any]:
        return self.early + self.late

    def view(self) -> object:
        """Give what two of the same payload have in common."""
        error = self.error and (type(self.error), vars(self.error), str(self.error))
        return repr(self.early), repr(self.late), error, self.at_end, self.places


class Decoding:
    """Decodes payloads in many splits, which must agree."""

    # What of documents, lines and events begins, ends or breaks them.
    TRAILING = (b"\n", b"\r", b"\n\n", b'" ', b"1", b":", b"]", b"data: x\n\n", b"\xff\n", b"\xbf")

    @staticmethod
    def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
        """Cut at any places."""
        ends = [*sorted({place % (len(data) + 1) for place in places}), len(data)]
        return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    @classmethod
    def run(cls, make: MakeDecoder, chunks: Iterable[bytes]) -> Decoded:
        """Decode one split, and see to it that an error stays."""
        decoder = make()
        decoded = Decoded()
        try:
            cls._feed(decoder, chunks, decoded)
        except AiosmrtError as error:
            decoded.error = error
        if decoded.error is not None:
            again = (decoder.finish, *(lambda d=d: decoder.receive(d) for d in (b"", b"1 \n\n")))
            for repeat in again:
                with pytest.raises(type(decoded.error)) as caught:
                    repeat()
                assert _all_it_says(caught.value) == _all_it_says(decoded.error)
        return decoded

    @staticmethod
    def _feed(decoder: Decoder, chunks: Iterable[bytes], decoded: Decoded) -> None:
        locate = getattr(decoder, "locate", None)

        def take(values: Iterable[object]) -> list[object]:
            taken = list(values)
            if locate is not None:
                decoded.places += map(locate, range(len(taken)))
            return taken

        for chunk in chunks:
            decoded.early += take(decoder.receive(chunk))
        assert not decoder.receive(b"")  # raises what is known already
        decoded.at_end = True
        decoded.late += take(decoder.finish())
        assert not decoder.finish()  # nothing is given twice, and a fault behind values is raised

    @classmethod
    def decode(cls, make: MakeDecoder, data: bytes) -> Decoded:
        """Decode whole, byte by byte, at every split point and with trailing bytes."""
        decoded = cls.run(make, [data])
        view = decoded.view()
        for size in (1, 2, 3, 7, 100):
            assert cls.run(make, cls.cut(data, range(0, len(data), size))).view() == view, size
        for split in range(len(data) + 1) if len(data) < 500 else ():
            assert cls.run(make, [data[:split], b"", data[split:]]).view() == view, split
        for trailing in cls.TRAILING:
            more = cls.run(make, [data + trailing])
            for chunks in ([data, trailing], cls.cut(data + trailing, range(len(data)))):
                assert cls.run(make, chunks).view() == more.view(), trailing
            if decoded.at_end:
                assert more.early[: len(decoded.early)] == decoded.early, trailing
            else:
                assert more.view() == view, trailing  # a fault before the end is final
        return decoded

    @classmethod
    def give(cls, make: MakeDecoder, data: bytes) -> list[Any]:
        """Decode what is sound, and give the values."""
        decoded = cls.decode(make, data)
        assert decoded.error is None
        return decoded.values

    @classmethod
    def fail(
        cls, make: MakeDecoder, data: bytes, expected: type[PayloadError]
    ) -> tuple[list[Any], int, str]:
        """Decode what has a fault before its end: values before it, its offset and its text."""
        decoded = cls.decode(make, data)
        assert type(decoded.error) is expected
        assert isinstance(decoded.error, PayloadError)
        assert not decoded.late
        return decoded.early, decoded.error.offset, str(decoded.error)


@pytest.fixture(scope="session")
def decoding() -> type[Decoding]:
    """Give what decodes payloads in many splits."""
    return Decoding


class Observer:
    """Notes what it is told of, by the names of the hooks."""

    def __init__(self) -> None:
        self.events: list[object] = []

    async def __call__(self, event: object) -> None:
        await asyncio.sleep(0)
        self.events.append(event)

    @property
    def ends(self) -> list[OnEnd]:
        return [event for event in self.events if isinstance(event, OnEnd)]

    @property
    def hooks(self) -> Hooks:
        return Hooks(on_first_part=self, on_end=self.events.append)


@pytest.fixture
def observer() -> Observer:
    """Give what notes the events of a client's hooks."""
    return Observer()


Respond: TypeAlias = Callable[..., bytes]
Until: TypeAlias = Callable[..., Awaitable[None]]


class Leftovers:
    """Makes clients of a single slot, and looks for what their failed calls left behind."""

    def __init__(self, good: WireServer, until: Until) -> None:
        self._good = good
        self._until = until

    @staticmethod
    def connect(endpoint_url: str, **options: Any) -> SageMakerRuntimeClient:
        defaults = {
            "region_name": "eu-west-1",
            "endpoint_url": endpoint_url,
            "aws_access_key_id": "AKIDEXAMPLE",
            "aws_secret_access_key": "not-a-secret",
            "max_connections": 1,
            "retry": RetryPolicy(max_attempts=1),
        }
        return SageMakerRuntimeClient(**{**defaults, **options})

    @staticmethod
    async def call(client: SageMakerRuntimeClient, operation: str, **parameters: Any) -> object:
        given = {"endpoint_name": "my-endpoint", "body": b"{}", **parameters}
        outcome: object = await getattr(client, spell(operation))(**given)
        return outcome

    async def fail(
        self,
        client: SageMakerRuntimeClient,
        operation: str = "InvokeEndpoint",
        **parameters: Any,
    ) -> AiosmrtError:
        """Make a call that must fail, and give its error."""
        with pytest.raises(AiosmrtError) as caught:
            await self.call(client, operation, **parameters)
        error = caught.value
        assert error.operation == operation
        assert error.endpoint_name == (parameters.get("endpoint_name", "my-endpoint") or None)
        assert error.operation in str(error)
        return error

    async def check(self, client: SageMakerRuntimeClient, server: WireServer | None = None) -> None:
        """Close the client: its slot was free, and no connection and no task is left."""
        ready = client.with_options(
            endpoint_url=self._good.url,
            region_name="eu-west-1",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="not-a-secret",
            use_fips_endpoint=None,
            timeout=Timeout(slot=1),
        )
        response = await ready.invoke_endpoint(endpoint_name="e", body=b"")
        assert response.body == b"fine"
        await client.aclose()
        await self._until(lambda: self._good.open_connections == 0)
        if server is not None:
            await self._until(lambda: server.open_connections == 0)
        await self._until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


@pytest_asyncio.fixture
async def leftovers(serve: Serve, respond: Respond, until: Until) -> AsyncIterator[Leftovers]:
    async with serve(EventStreams.play(respond(200, b"fine"))) as good:
        yield Leftovers(good, until)
