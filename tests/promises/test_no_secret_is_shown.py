"""No traceback with locals shows a secret, whichever way a call fails.

Each failure below is made with a word of its own in place of each secret, against real sockets.
Then all is looked at that tools which print local variables would show of the error, its causes
and its contexts: they ask for a `repr`, walk through mappings, sequences and the fields of attrs
classes, and cut text and bytes to length.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import gzip
import hashlib
import io
import itertools
import json
import re
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import aiohttp
import attrs
import botocore.credentials
import pytest
from botocore.utils import ContainerMetadataFetcher

import aiosmrt
from aiosmrt import (
    AiosmrtError,
    BeforeSend,
    Config,
    Credentials,
    Hooks,
    RetryPolicy,
    SageMakerRuntimeClient,
    Timeout,
)
from aiosmrt.async_inference.s3_protocol import S3Endpoint
from aiosmrt.eventstream import encode_message
from aiosmrt.service.model import OPERATIONS, spell
from aiosmrt.signing.credentials import CredentialProvider

if TYPE_CHECKING:
    from tests.conftest import Answer, Converse, EventStreams, SeenRequest, Serve, ServeRaw, Tls

SECRET_KEY = "hidden-secret-key"
TOKEN = "hidden-session-token"
HEADER = "hidden-header"
ATTRIBUTE = "hidden-attribute"
BODY = "hidden-body"
ANSWER = "hidden-answer"
PASSWORD = "hidden-password"
BASIC = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
SECRETS = (SECRET_KEY, TOKEN, HEADER, ATTRIBUTE, BODY, ANSWER, PASSWORD, BASIC)
SIGNATURE = re.compile(r"Signature=[0-9a-f]{64}|AWS4-HMAC-SHA256")

PLAIN = "InvokeEndpoint"
STREAM = "InvokeEndpointWithResponseStream"
ASYNC = "InvokeEndpointAsync"
NOWHERE = "http://127.0.0.1:9"


# --- what is shown


def _show(value: object, depth: int = 0) -> Iterator[str]:
    """Give all that Sentry, rich, loguru or pytest would print of a value."""
    yield repr(value)
    if isinstance(value, str | bytes | bytearray):
        yield repr(value[:80])
    elif depth < 5:
        yield from _show_parts(value, depth + 1)


def _show_parts(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, Mapping):
        for pair in list(value.items()):
            yield from _show(pair, depth)
    elif isinstance(value, Sequence | AbstractSet):
        for item in list(value):
            yield from _show(item, depth)
    elif attrs.has(type(value)):
        for field in attrs.fields(cast("type[attrs.AttrsInstance]", type(value))):
            shown = getattr(value, field.name, None)
            if callable(field.repr):
                yield field.repr(shown)
            elif field.repr:
                yield from _show(shown, depth)


def _follow(error: BaseException | None, seen: list[BaseException]) -> list[BaseException]:
    """Give an error with all that is behind it."""
    if error is not None and not any(error is one for one in seen):
        seen.append(error)
        for behind in (error.__cause__, error.__context__, *getattr(error, "exceptions", ())):
            _follow(behind, seen)
    return seen


def _list_frames(error: BaseException) -> list[FrameType]:
    """Give the frames of a traceback but those of this file, whose locals are the secrets."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return [frame for frame in frames if frame.f_code.co_filename != __file__]


def _failed_in_the_package(error: BaseException) -> bool:
    folder = str(Path(aiosmrt.__file__).parent)
    return any(frame.f_code.co_filename.startswith(folder) for frame in _list_frames(error))


def _find_leaks(error: BaseException) -> set[str]:
    """Say which secrets are shown, and where."""
    leaks: set[str] = set()

    def look(value: object, where: str) -> None:
        for shown in _show(value):
            leaks.update(f"{secret} in {where}" for secret in SECRETS if secret in shown)
            if SIGNATURE.search(shown):
                leaks.add(f"a signature in {where}")

    for one in _follow(error, []):
        kind = type(one).__name__
        look([str(one), one, one.args, getattr(one, "__notes__", ())], f"the text of {kind}")
        if not isinstance(one, AiosmrtError):
            # botocore keeps what it made its text of, which nobody shows.
            attributes = {name: value for name, value in vars(one).items() if name != "kwargs"}
            look(attributes, f"the attributes of {kind}")
        for frame in _list_frames(one):
            place = f"{frame.f_code.co_qualname} ({Path(frame.f_code.co_filename).name})"
            for name, value in frame.f_locals.items():
                look(value, f"{name} of {place}")
    return leaks


# --- what a failure is made with


@attrs.define
class Stage:
    """What a failure is made with: fixtures by their names, and what all failures need."""

    serve: Serve
    serve_raw: ServeRaw
    respond: Callable[..., bytes]
    events: type[EventStreams]
    tls: Tls
    tmp_path: Path
    monkeypatch: pytest.MonkeyPatch
    read_nothing: Converse
    reached: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)  # by a call

    @staticmethod
    def connect(url: str = NOWHERE, **options: Any) -> SageMakerRuntimeClient:
        defaults = {
            "region_name": "eu-west-1",
            "endpoint_url": url,
            "aws_access_key_id": "AKIDEXAMPLE",
            "aws_secret_access_key": SECRET_KEY,
            "aws_session_token": TOKEN,
            "headers": {"x-key": HEADER},
            "params": {"custom_attributes": ATTRIBUTE},
            "retry": RetryPolicy(max_attempts=1),
        }
        return SageMakerRuntimeClient(**{**defaults, **options})

    @contextlib.asynccontextmanager
    async def client_of(
        self, answer: bytes | Answer, *, tls: bool = False, **options: Any
    ) -> AsyncIterator[SageMakerRuntimeClient]:
        """Give a client of a server that answers so, and then closes the connection."""
        chosen = _send(answer) if isinstance(answer, bytes) else answer
        if tls:
            options.setdefault("verify", self.tls.client)
        async with (
            self.serve(chosen, tls=self.tls.server if tls else None) as server,
            self.connect(server.url, **options) as client,
        ):
            yield client

    async def wait(self, _: SeenRequest, __: asyncio.StreamWriter) -> None:
        """Answer nothing to a request."""
        self.reached.set()
        await asyncio.sleep(60)

    async def say_nothing(self, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        """Answer nothing on a connection."""
        await reader.read(1)
        self.reached.set()
        await asyncio.sleep(60)

    async def cancel(self, call: Any) -> None:
        """Cancel a call that waits for somebody."""
        task = asyncio.create_task(call)
        await asyncio.wait_for(self.reached.wait(), 10)
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    def cut(self, status: int = 200, **headers: str) -> bytes:
        """Write the beginning of an answer."""
        whole = self.respond(status, ANSWER.encode(), **headers)
        return whole.replace(b"content-length: 13", b"content-length: 100")

    def configure(self, *lines: str) -> None:
        """Write a shared config file with the profile `p`."""
        path = self.tmp_path / "config"
        path.write_text("\n".join(["[profile p]", "region = eu-west-1", *lines]))
        self.monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
        self.monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.fixture
def stage(request: pytest.FixtureRequest) -> Stage:
    names = [field.name for field in attrs.fields(Stage) if field.init]
    return Stage(**{name: request.getfixturevalue(name) for name in names})


def _send(data: bytes, *, close: bool = True) -> Answer:
    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if close:
            await writer.drain()
            writer.close()

    return answer


async def _call(client: SageMakerRuntimeClient, operation: str = PLAIN, **given: Any) -> None:
    parameters = {
        "endpoint_name": "e",
        "body": BODY.encode(),
        "custom_attributes": ATTRIBUTE,
        "headers": {"x-secret": HEADER},
        **given,
    }
    outcome = await getattr(client, spell(operation))(**parameters)
    if operation == STREAM:
        async with outcome:
            await outcome.read()
    elif operation == ASYNC:
        await outcome.result(timeout=5)


def _raise(*_: object) -> None:
    raise ZeroDivisionError


Failure: TypeAlias = Callable[..., Awaitable[None]]
FAILURES: dict[str, Callable[[Stage], Awaitable[None]]] = {}


def failure(*cases: object) -> Callable[[Failure], Failure]:
    """Note a way to fail, once or for each of these cases."""

    def note(function: Failure) -> Failure:
        name = function.__name__
        if not cases:
            FAILURES[name] = function
        for number, case in enumerate(cases):
            label = case if isinstance(case, str) else number

            async def fail(stage: Stage, case: object = case) -> None:
                await function(stage, case)

            FAILURES[f"{name}[{label}]"] = fail
        return function

    return note


each_operation = failure(*OPERATIONS)


# --- services that repeat what they were sent


def _repeat(request: SeenRequest, *left_out: str) -> str:
    """Say of a signature what the service says, and S3 and STS do, too."""
    headers = sorted(request.headers.items())
    signed = "".join(f"{name}:{value}\n" for name, value in headers if name not in left_out)
    return (
        "The request signature we calculated does not match the signature you provided.\n\nThe "
        f"Canonical String for this request should have been\n'POST\n{request.target}\n\n{signed}"
    )


def _answer_by(make: Callable[[SeenRequest], bytes]) -> Answer:
    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(make(request))
        await writer.drain()
        writer.close()

    return answer


ECHOES: dict[str, Callable[[Stage, SeenRequest], bytes]] = {
    "a message": lambda stage, request: stage.respond(
        403,
        json.dumps({"message": _repeat(request)}).encode(),
        x_amzn_errortype="InvalidSignatureException",
    ),
    "a message in a message": lambda stage, request: stage.respond(
        400, json.dumps({"message": json.dumps({"why": _repeat(request)})}).encode()
    ),
    "a code": lambda stage, request: stage.respond(
        400, json.dumps({"__type": " ".join(request.headers.values()).replace(":", "")}).encode()
    ),
    "a model's message": lambda stage, request: stage.respond(
        424,
        json.dumps({"OriginalMessage": _repeat(request), "LogStreamArn": "a"}).encode(),
        x_amzn_errortype="ModelError",
    ),
    "a page": lambda stage, request: stage.respond(502, f"<p>{_repeat(request)}".encode()),
    "a page that is no stream": lambda stage, request: stage.respond(
        200, b"<p>" + request.headers["x-amz-security-token"].encode() + request.raw_head
    ),
    "a place": lambda stage, request: stage.respond(
        302,
        b"",
        location=f"/x?X-Amz-Security-Token={request.headers['x-amz-security-token']}&X-Amz-Signature="
        + request.headers["authorization"].rpartition("=")[2],
    ),
    "an exception": lambda stage, request: b"".join(
        [
            stage.events.head(),
            stage.events.chunk(
                stage.events.part(b"a"),
                stage.events.exception(
                    "ModelStreamError",
                    # No model is sent that, and a call forgets it with its head.
                    json.dumps({"Message": _repeat(request, "authorization")}).encode(),
                ),
            ),
            stage.events.END,
        ]
    ),
    "a name of a header": lambda stage, request: stage.respond(
        503, b"{}", x_amzn_errortype=request.headers["x-amz-security-token"]
    ),
}


@failure(*itertools.product(OPERATIONS, ECHOES))
async def a_service_that_repeats_what_it_was_sent(stage: Stage, case: tuple[str, str]) -> None:
    operation, echo = case
    if operation != STREAM and echo == "an exception":
        echo = "a message"
    if operation == PLAIN and echo == "a page that is no stream":
        echo = "a page"
    answer = _answer_by(lambda request: ECHOES[echo](stage, request))
    async with stage.client_of(answer) as client:
        await _call(client, operation)


@failure("named", "token", "bytes", "place")
async def an_s3_that_repeats_what_it_was_sent(stage: Stage, echo: str) -> None:
    def make(request: SeenRequest) -> bytes:
        token = request.headers["x-amz-security-token"]
        said = {
            "named": f"<Message>x-amz-security-token:{token}</Message>",
            "token": f"<Token-0>{token}</Token-0><Message>Token {token} is wrong</Message>",
            "bytes": f"<Message>{_repeat(request).encode().hex(' ')}</Message>",
            "place": "",
        }[echo]
        status = 301 if echo == "place" else 400
        body = f"<Error><Code>InvalidToken</Code>{said}</Error>".encode()
        return stage.respond(status, body, location=f"/?X-Amz-Security-Token={token}")

    async with (
        stage.serve(_answer_by(make)) as server,
        stage.connect(s3_endpoint_url=server.url) as client,
    ):
        saved = json.dumps({"output_location": "s3://bucket/out"})
        await client.resume_async_invocation(saved).result(timeout=1)


@failure()
async def an_sts_that_repeats_what_it_was_sent(stage: Stage) -> None:
    stage.configure(
        "role_arn = arn:aws:iam::123456789012:role/r",
        "source_profile = s",
        "[profile s]",
        "aws_access_key_id = AKIDEXAMPLE",
        f"aws_secret_access_key = {SECRET_KEY}",
        f"aws_session_token = {TOKEN}",
    )

    def make(request: SeenRequest) -> bytes:
        echo = _repeat(request, "authorization")  # which is never part of what is signed
        said = f"<Code>SignatureDoesNotMatch</Code><Message>{echo}</Message>"
        return stage.respond(403, f"<ErrorResponse><Error>{said}</Error></ErrorResponse>".encode())

    async with stage.serve(_answer_by(make)) as server:
        stage.monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
        await _fetch(stage, profile_name="p")


@failure()
async def a_process_that_quotes_its_keys(stage: Stage) -> None:
    script = stage.tmp_path / "process.py"
    quoted = f"no: {{'SecretAccessKey': '{SECRET_KEY}', 'SessionToken': '{TOKEN}'}}"
    script.write_text(f"import sys; sys.exit({quoted!r})")
    stage.configure(f"credential_process = {sys.executable} -S {script}")
    await _fetch(stage, profile_name="p")


# --- connections


def _find_free_url() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


@each_operation
async def no_connection(stage: Stage, operation: str) -> None:
    async with stage.connect(_find_free_url()) as client:
        await _call(client, operation)


def _squeeze(text: bytes) -> bytes:
    """Make a gzip whose bytes show what is in it, and which is cut before its end."""
    return gzip.compress(text, compresslevel=0)[:-3]


@failure(*itertools.product(OPERATIONS, ["br", "gzip"]))
async def a_coding_that_cannot_be_taken_off(stage: Stage, case: tuple[str, str]) -> None:
    operation, coding = case
    squeezed = _squeeze(stage.events.part(ANSWER.encode()) * 3)
    answer = stage.respond(200, squeezed + b"\xff" * 9, content_encoding=coding)
    if operation == STREAM:
        head = stage.events.head(f"content-length: {len(squeezed)}", content_encoding=coding)
        answer = head + squeezed
    async with stage.client_of(answer) as client:
        await _call(client, operation)


@failure()
async def a_reader_that_is_cancelled_while_a_coding_is_taken_off(stage: Stage) -> None:
    bomb = gzip.compress(ANSWER.encode() * 80_000) * 120
    answer = stage.respond(200, bomb, content_encoding="gzip")
    async with stage.client_of(answer) as client:
        task = asyncio.create_task(_call(client))
        asyncio.get_running_loop().call_later(0.03, task.cancel)
        await task


@failure()
async def a_certificate_nobody_knows(stage: Stage) -> None:
    async with stage.client_of(b"", tls=True, verify=True) as client:
        await _call(client)


@failure()
async def tls_with_a_port_of_http(stage: Stage) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 No\r\n\r\n")

    async with (
        stage.serve_raw(refuse) as server,
        stage.connect(server.url.replace("http:", "https:")) as client,
    ):
        await _call(client)


@failure()
async def a_host_without_an_address(stage: Stage) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    stage.monkeypatch.setattr(socket, "getaddrinfo", fail)
    async with stage.connect("https://nowhere.invalid") as client:
        await _call(client)


@failure()
async def a_reset(stage: Stage) -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.03)
        writer.transport.abort()

    async with stage.serve_raw(reset) as server, stage.connect(server.url) as client:
        await _call(client, body=BODY.encode() * 200_000)


@failure(b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
async def no_answer(stage: Stage, answer: bytes) -> None:
    async with stage.client_of(answer) as client:
        await _call(client)


@failure()
async def no_answer_over_tls(stage: Stage) -> None:
    async with stage.client_of(b"", tls=True) as client:
        await _call(client)


# --- time limits, cancellation, closing


@failure("slot", "first_byte", "total")
async def a_limit(stage: Stage, limit: str) -> None:
    timeout = Timeout(**{limit: 0.03})
    async with stage.client_of(stage.wait, max_connections=1, timeout=timeout) as client:
        first = asyncio.create_task(_call(client, timeout=Timeout()))
        try:
            await asyncio.sleep(0.01)
            if limit != "slot":
                first.cancel()
            await _call(client)
        finally:
            first.cancel()
            await asyncio.wait([first])


@failure()
async def the_connect_limit(stage: Stage) -> None:
    async with stage.serve_raw(stage.say_nothing) as proxy:
        url = proxy.url.replace("//", f"//user:{PASSWORD}@")
        limit = Timeout(connect=0.03)
        async with stage.connect("https://127.0.0.1:9", proxy=url, timeout=limit) as client:
            await _call(client)


@failure()
async def the_write_limit(stage: Stage) -> None:
    limit = Timeout(write=0.03)
    async with (
        stage.serve_raw(stage.read_nothing) as server,
        stage.connect(server.url, timeout=limit) as client,
    ):
        await _call(client, body=BODY.encode() * 500_000)


@each_operation
async def the_idle_limit(stage: Stage, operation: str) -> None:
    answer = stage.cut(OPERATIONS[operation].status)
    if operation == STREAM:
        part = stage.events.part(ANSWER.encode())
        answer = stage.events.head() + stage.events.chunk(part, part[:-1])
    limit = Timeout(idle=0.03)
    async with stage.client_of(_send(answer, close=False), timeout=limit) as client:
        await _call(client, operation)


@each_operation
async def cancelled_before_the_answer(stage: Stage, operation: str) -> None:
    async with stage.client_of(stage.wait) as client:
        await stage.cancel(_call(client, operation))


@failure("200", "400")
async def cancelled_in_an_answer(stage: Stage, status: str) -> None:
    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(stage.cut(int(status)))
        stage.reached.set()

    async with stage.client_of(answer) as client:
        await stage.cancel(_call(client))


@failure()
async def cancelled_at_a_proxy(stage: Stage) -> None:
    async with stage.serve_raw(stage.say_nothing) as proxy:
        url = proxy.url.replace("//", f"//user:{PASSWORD}@")
        async with stage.connect("https://127.0.0.1:9", proxy=url) as client:
            await stage.cancel(_call(client))


@failure()
async def cancelled_while_a_body_is_read(stage: Stage) -> None:
    async def read() -> AsyncIterator[bytes]:
        yield BODY.encode()
        stage.reached.set()
        await asyncio.sleep(60)

    async with stage.connect() as client:
        await stage.cancel(_call(client, body=read()))


@failure()
async def a_client_closed_during_a_call(stage: Stage) -> None:
    async with stage.client_of(stage.wait) as client:
        call = asyncio.create_task(_call(client))
        await stage.reached.wait()
        await client.aclose()
        await call


@failure()
async def a_client_closed_before_a_call(stage: Stage) -> None:
    client = stage.connect()
    await client.aclose()
    await _call(client)


# --- answers


@each_operation
async def a_refused_signature(stage: Stage, operation: str) -> None:
    answer = stage.respond(403, b'{"message": "no"}', x_amzn_errortype="InvalidSignatureException")
    async with stage.client_of(answer, retry=None) as client:
        await _call(client, operation)


@each_operation
async def throttling(stage: Stage, operation: str) -> None:
    answer = stage.respond(429, b"{}", x_amzn_errortype="ThrottlingException")
    policy = RetryPolicy(throttle_base_delay=0, max_attempts=2)
    async with stage.client_of(_send(answer, close=False), retry=policy) as client:
        await _call(client, operation)


@failure()
async def a_redirect(stage: Stage) -> None:
    async with stage.client_of(stage.respond(307, b"", location="http://x/")) as client:
        await _call(client)


@failure(PLAIN, ASYNC, "TLS")
async def a_cut_answer(stage: Stage, operation: str) -> None:
    tls = operation == "TLS"
    operation = PLAIN if tls else operation
    answer = stage.cut(OPERATIONS[operation].status, x_amzn_sagemaker_custom_attributes=ATTRIBUTE)
    async with stage.client_of(answer, tls=tls) as client:
        await _call(client, operation)


@failure()
async def a_bad_chunk(stage: Stage) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    async with stage.client_of(head + b"d\r\n" + ANSWER.encode() + b"\r\nZZ\r\n") as client:
        await _call(client)


@failure("checksum", "exception", "nameless", "cut", "end")
async def a_bad_stream(stage: Stage, wrong: str) -> None:
    events, part = stage.events, stage.events.part(ANSWER.encode())
    bad = {
        "checksum": part[:-1] + b"\0",
        "exception": events.exception("ModelStreamError", b'{"Message": "no"}'),
        "nameless": encode_message({}, ANSWER.encode()),
        "cut": part[:-5],
        "end": b"",
    }[wrong]
    end = b"" if wrong == "end" else events.END
    answer = events.head() + events.chunk(part) + events.chunk(part, bad) + end
    async with stage.client_of(answer) as client:
        await _call(client, STREAM)


@failure()
async def a_stream_that_is_bad_at_once(stage: Stage) -> None:
    frame = encode_message({}, ANSWER.encode())
    answer = stage.events.head() + stage.events.chunk(frame) + stage.events.END
    async with stage.client_of(answer) as client:
        await _call(client, STREAM)


@failure("iter_text", "iter_lines", "iter_json", "iter_events", "iter_tokens", "iter_chat")
async def a_payload_that_the_view_cannot_read(stage: Stage, view: str) -> None:
    # Never malformed where the secret is: some characters of that place are told.
    text = ANSWER.encode()
    payloads = [text + b"\n\n", b"data: " + text + b"\xff" + text, b"\n\n"]
    if view in ("iter_json", "iter_tokens", "iter_chat"):
        payloads = [b'{"error": null, "a": "' + text + b'"}', b'{"b": "' + text]
    path = ("openai-chat",) if view == "iter_tokens" else ()
    async with (
        stage.client_of(stage.events.whole(*payloads)) as client,
        client.invoke_endpoint_with_response_stream(endpoint_name="e", body=BODY) as stream,
    ):
        async for _ in getattr(stream, view)(*path):
            pass


@failure("text", "json")
async def a_body_that_cannot_be_read(stage: Stage, view: str) -> None:
    async with stage.client_of(stage.respond(200, ANSWER.encode() + b"\xff")) as client:
        response = await client.invoke_endpoint(endpoint_name="e", body=BODY)
    getattr(response, view)()


# --- parameters


class _Broken:
    def __init__(self) -> None:
        self._chunks: list[object] = [BODY.encode()]

    def read(self, _: int, /) -> object:
        if not self._chunks:
            raise OSError("broken")
        return self._chunks.pop()


class _Mixed:
    async def __aiter__(self) -> AsyncIterator[object]:
        yield BODY
        yield {"prompt": BODY}


class _BrokenOff:
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield BODY.encode()
        raise OSError("broken")


WRONG_PARAMETERS: list[dict[str, Any]] = [
    {"endpoint_name": ""},
    {"endpoint_name": 5},
    {"custom_attributes": f"{ATTRIBUTE}\r\n"},
    {"custom_attributes": f"{ATTRIBUTE} größe"},
    {"custom_attributes": ATTRIBUTE.encode()},
    {"accept": "x" * 2000},
    {"body": {"prompt": BODY}},
    {"body": f"{BODY}\ud800"},
    {"body": BODY * 600_000},
    {"body": BODY.encode() * 600_000},
    {"body": bytearray(BODY.encode() * 600_000)},
    {"body": io.BytesIO(BODY.encode() * 600_000)},
    {"body": io.StringIO(f"{BODY}\ud800")},
    {"body": _Broken()},
    {"body": _Mixed()},
    {"body": _BrokenOff()},
    {"headers": {"x-secret": f"{HEADER}\n"}},
    {"headers": {"x secret": HEADER}},
    {"headers": {"authorization": HEADER}},
    {"headers": {"x-secret": HEADER.encode()}},
    {"headers": HEADER},
    {"timeout": -1},
    {"Accept": "x"},
]


@failure(*[(operation, wrong) for operation in OPERATIONS for wrong in WRONG_PARAMETERS])
async def a_wrong_parameter(stage: Stage, case: tuple[str, dict[str, Any]]) -> None:
    operation, wrong = case
    body = wrong.get("body")
    if isinstance(body, io.BytesIO | io.StringIO):
        body.seek(0)
    async with stage.connect() as client:
        await _call(client, operation, **wrong)


@failure(
    (PLAIN, {"EndpointName": "e", "Body": BODY.encode(), "accept": "x"}),
    ("Invoke", {"Body": BODY}),
    (PLAIN, {"EndpointName": "", "Body": BODY, "CustomAttributes": ATTRIBUTE}),
    (STREAM, {"EndpointName": "", "Body": BODY, "CustomAttributes": ATTRIBUTE}),
)
async def a_wrong_call_in_the_services_spelling(
    stage: Stage, case: tuple[Any, dict[str, object]]
) -> None:
    async with stage.connect() as client:
        await client.call(*case)


# --- options

URL = f"http://user:{PASSWORD}@127.0.0.1"
OPTIONS: dict[str, Any] = {
    "aws_access_key_id": "AKIDEXAMPLE",
    "aws_secret_access_key": SECRET_KEY,
    "aws_session_token": TOKEN,
    "region_name": "eu-west-1",
    "endpoint_url": URL,
    "s3_endpoint_url": URL,
    "headers": {"x-key": HEADER},
    "params": {"custom_attributes": ATTRIBUTE},
    "proxy": URL,
    "proxy_headers": {"x-key": PASSWORD},
}
WRONG_OPTIONS: list[dict[str, Any]] = [
    {"region_name": 5},
    {"aws_secret_access_key": SECRET_KEY.encode()},
    {"aws_secret_access_key": None},
    {"credentials": Credentials("a", SECRET_KEY)},
    {"headers": [HEADER]},
    {"params": {"Body": BODY}},
    {"params": BODY},
    {"proxy": f"user:{PASSWORD}@host"},
    {"verify": 5},
    {"timeout": "soon"},
    {"retry": 3},
    {"max_connections": 0},
    {"hooks": 5},
    {"signature_version": "v2"},
    {"client_cert": 5},
    {"proxy_verify": 5},
    {"proxy_client_cert": 5},
    {"parameter_validation": {"x"}},
    {"poll_interval": 0},
    {"secretAccessKey": SECRET_KEY},
]


@failure(*WRONG_OPTIONS)
async def a_wrong_option(_: Stage, wrong: dict[str, Any]) -> None:
    SageMakerRuntimeClient(**{**OPTIONS, **wrong})


@failure(*WRONG_OPTIONS)
async def a_wrong_option_of_a_derived_client(_: Stage, wrong: dict[str, Any]) -> None:
    keys = {name: OPTIONS[name] for name in OPTIONS if name.startswith("aws_")}
    SageMakerRuntimeClient(**OPTIONS).with_options(**{**keys, **wrong})


@failure(*WRONG_OPTIONS)
async def a_wrong_field_of_a_config(_: Stage, wrong: dict[str, Any]) -> None:
    SageMakerRuntimeClient(Config(**{**OPTIONS, **wrong}))


@failure("endpoint_url", "region_name", "profile_name", "verify", "proxy")
async def options_that_come_to_nothing(stage: Stage, name: str) -> None:
    bad = {
        "endpoint_url": URL,
        "region_name": "nowhere!",
        "profile_name": "nobody",
        "verify": "/nowhere",
        "proxy": f"http://user:{PASSWORD}@[::1",
    }
    good = {**OPTIONS, "endpoint_url": NOWHERE, "proxy": None}
    async with SageMakerRuntimeClient(**{**good, name: bad[name]}) as client:
        await _call(client)


@failure()
async def a_password_for_s3(stage: Stage) -> None:
    async with stage.connect(s3_endpoint_url=URL) as client:
        await _call(client, ASYNC, body=BODY * 20_000, s3_input_prefix="s3://bucket/")


@failure()
async def headers_for_s3_that_cannot_be_reached(stage: Stage) -> None:
    options: dict[str, Any] = {"s3_put_headers": {"x-secret": HEADER}}
    async with stage.connect(s3_endpoint_url=NOWHERE, **options) as client:
        await _call(client, ASYNC, body=BODY * 20_000, s3_input_prefix="s3://bucket/")


@failure(f"{HEADER}\n", HEADER.encode())
async def headers_for_s3_that_cannot_be_sent(stage: Stage, value: Any) -> None:
    SageMakerRuntimeClient(s3_put_headers={"x-secret": value})


@failure()
async def two_ways_to_name_the_host_of_s3(_: Stage) -> None:
    S3Endpoint("us-east-1", URL, use_fips_endpoint=True).locate("bucket", "us-east-1")


@failure("AWS_MAX_ATTEMPTS", "AWS_ENDPOINT_URL", "HTTP_PROXY", "AWS_PROFILE")
async def a_wrong_variable(stage: Stage, name: str) -> None:
    wrong = {
        "AWS_MAX_ATTEMPTS": "many",
        "AWS_ENDPOINT_URL": URL,
        "AWS_PROFILE": "nobody",
        "HTTP_PROXY": f"http://user:{PASSWORD}@[::1",
    }
    stage.monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    stage.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    stage.monkeypatch.setenv(name, wrong[name])
    url = None if name == "AWS_ENDPOINT_URL" else NOWHERE
    async with SageMakerRuntimeClient(region_name="eu-west-1", endpoint_url=url) as client:
        await _call(client)


@failure()
async def a_url_that_cannot_be_told(_: Stage) -> None:
    client = SageMakerRuntimeClient(**OPTIONS)
    pytest.fail(client.endpoint_url)


# --- credentials


async def _fetch(stage: Stage, **options: Any) -> None:
    """Make a call whose credentials cannot be had."""
    keys = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    async with stage.connect(**{**dict.fromkeys(keys), **options}) as client:
        await _call(client)


@failure({}, {"AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z"})
async def keys_in_the_environment(stage: Stage, more: dict[str, str]) -> None:
    stage.monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    stage.monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    for name, value in more.items():
        stage.monkeypatch.setenv(name, value)
        stage.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    await _fetch(stage)


@failure("\n", "\udcff", "ö")
async def a_token_that_cannot_be_sent(stage: Stage, end: str) -> None:
    async with stage.connect(aws_session_token=f"{TOKEN}{end}") as client:
        await _call(client)


@failure()
async def credentials_from_a_function_that_fails(stage: Stage) -> None:
    async def give() -> Credentials:
        raise OSError("no vault")

    await _fetch(stage, credentials=give)


@failure()
async def credentials_from_a_function_that_does_not_wait(stage: Stage) -> None:
    await _fetch(stage, credentials=lambda: Credentials("a", SECRET_KEY, TOKEN))


@failure(
    f'{{"Version": 1, "SecretAccessKey": "{SECRET_KEY}", '.encode(),
    f'{{"Version": 7, "SessionToken": "{TOKEN}"}}'.encode(),
    b'"' + SECRET_KEY.encode() + b"\xff",
    f'{{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": " {SECRET_KEY}"}}'.encode(),
    (
        f'{{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "{SECRET_KEY}", '
        f'"SessionToken": "{TOKEN}", "Expiration": "2030-01-01T00:00:00"}}'
    ).encode(),
)
async def a_process_that_says_nonsense(stage: Stage, said: bytes) -> None:
    script = stage.tmp_path / "process.py"
    script.write_text(f"import os; os.write(1, {said!r})")
    stage.configure(f"credential_process = {sys.executable} -S {script}")
    await _fetch(stage, profile_name="p")


@failure()
async def a_role_that_is_not_to_be_had(stage: Stage) -> None:
    stage.configure(
        "role_arn = arn:aws:iam::123456789012:role/r",
        "source_profile = s",
        "[profile s]",
        "aws_access_key_id = AKIDEXAMPLE",
        f"aws_secret_access_key = {SECRET_KEY}",
        f"aws_session_token = {TOKEN}",
    )
    async with stage.serve(_send(stage.respond(403, b"<ErrorResponse/>"))) as server:
        stage.monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
        await _fetch(stage, profile_name="p")


@failure()
async def a_web_identity_that_is_refused(stage: Stage) -> None:
    identity = stage.tmp_path / "identity"
    identity.write_text(TOKEN)
    stage.monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r")
    stage.monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(identity))
    stage.monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    async with stage.serve(_send(stage.respond(400, b"<ErrorResponse/>"))) as server:
        stage.monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
        await _fetch(stage)


@failure("500", "200")
async def a_container_that_gives_no_credentials(stage: Stage, status: str) -> None:
    # What a refusal says is shown, as a service's words are.
    said = f'{{"SecretAccessKey": "{SECRET_KEY}", ' if status == "200" else "no"
    stage.monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
    stage.monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", TOKEN)
    answer = _send(stage.respond(int(status), said.encode()), close=False)
    async with stage.serve(answer) as server:
        stage.monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/x")
        await _fetch(stage)


@failure()
async def a_single_sign_on_that_is_refused(stage: Stage) -> None:
    start_url = "https://d-1.awsapps.com/start"
    stage.configure(
        f"sso_start_url = {start_url}",
        "sso_region = eu-west-1",
        "sso_account_id = 123456789012",
        "sso_role_name = r",
    )
    provider = botocore.credentials.SSOProvider
    stage.monkeypatch.setattr(provider, "_SSO_TOKEN_CACHE_DIR", str(stage.tmp_path))
    name = hashlib.sha1(start_url.encode()).hexdigest()
    token = {"accessToken": TOKEN, "expiresAt": "2099-01-01T00:00:00Z"}
    (stage.tmp_path / f"{name}.json").write_text(json.dumps(token))
    async with stage.serve(_send(stage.respond(401, b"{}"))) as server:
        stage.monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", server.url)
        await _fetch(stage, profile_name="p")


@failure("client", "provider")
async def a_malformed_file_of_credentials(stage: Stage, who: str) -> None:
    path = stage.tmp_path / "credentials"
    path.write_text(f"[default]\naws_access_key_id = a\naws_secret_access_key {SECRET_KEY}\n")
    stage.monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    if who == "client":
        await _fetch(stage)
    else:
        await CredentialProvider().get()


@failure("2030-01-01T00:00:00Z", datetime.datetime(2030, 1, 1))  # noqa: DTZ001 - that is it
async def credentials_whose_end_is_none(_: Stage, end: Any) -> None:
    Credentials("a", SECRET_KEY, TOKEN, end)


@failure({"session_token": TOKEN}, {"credentials": Credentials("b", SECRET_KEY)})
async def a_wrong_provider(_: Stage, wrong: dict[str, Any]) -> None:
    keys = {"access_key_id": "a", "secret_access_key": SECRET_KEY} if len(wrong) > 1 else {}
    CredentialProvider(**{**keys, "session_token": TOKEN, **wrong})


# --- hooks and traces


@failure("on_start", "before_send", "after_headers", "on_retry", "on_end")
async def a_hook_that_fails(stage: Stage, name: str) -> None:
    answer = stage.respond(429, b"{}", x_amzn_errortype="ThrottlingException")
    policy, hooks = RetryPolicy(throttle_base_delay=0), Hooks(**{name: _raise})
    async with stage.client_of(_send(answer, close=False), retry=policy, hooks=hooks) as client:
        await _call(client)


@failure()
async def a_hook_that_fails_after_the_answer(stage: Stage) -> None:
    answer = stage.respond(200, ANSWER.encode())
    async with stage.client_of(answer, hooks=Hooks(after_headers=_raise)) as client:
        await _call(client)


@failure()
async def a_hook_that_fails_at_the_first_part(stage: Stage) -> None:
    answer = stage.events.whole(ANSWER.encode())
    async with stage.client_of(answer, hooks=Hooks(on_first_part=_raise)) as client:
        await _call(client, STREAM)


@failure({"x-secret": f"{HEADER}\n"}, {"authorization": HEADER}, {"x-secret": 5})
async def a_hook_that_adds_what_cannot_be_sent(stage: Stage, added: dict[str, Any]) -> None:
    def add(event: BeforeSend) -> None:
        event.headers["x-other"] = HEADER
        event.headers.update(added)

    async with stage.connect(hooks=Hooks(before_send=add)) as client:
        await _call(client)


@failure("on_request_start", "on_request_headers_sent", "on_request_chunk_sent")
async def a_trace_that_fails(stage: Stage, name: str) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    config = aiohttp.TraceConfig()
    getattr(config, name).append(fail)
    async with (
        aiohttp.ClientSession(trace_configs=[config]) as session,
        stage.client_of(stage.respond(), session=session) as client,
    ):
        await _call(client)


# --- proxies


@failure(
    ("https", b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"),
    ("https", b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"),
    ("https", b"nonsense\r\n\r\n"),
    ("https", b""),
    ("http", b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"),
    ("http", b""),
)
async def a_proxy_that_refuses(stage: Stage, case: tuple[str, bytes]) -> None:
    scheme, answer = case
    async with stage.serve(_send(answer)) as proxy:
        url = proxy.url.replace("//", f"//user:{PASSWORD}@")
        async with stage.connect(f"{scheme}://127.0.0.1:9", proxy=url) as client:
            await _call(client)


@failure("http", "https")
async def a_proxy_that_is_not_there(stage: Stage, scheme: str) -> None:
    url = _find_free_url().replace("//", f"//user:{PASSWORD}@")
    async with stage.connect(f"{scheme}://127.0.0.1:9", proxy=url) as client:
        await _call(client)


@failure("\r\n", "\ud800")
async def a_header_for_the_proxy_that_cannot_be_sent(stage: Stage, end: str) -> None:
    async with stage.serve(_send(b"")) as proxy:
        headers = {"x-key": f"{PASSWORD}{end}"}
        async with stage.connect(proxy=proxy.url, proxy_headers=headers) as client:
            await _call(client)


# --- asynchronous inference


async def _answer_async(stage: Stage, s3: bytes | Answer, **given: Any) -> None:
    """Accept an invocation, and answer so for S3."""
    ask_s3 = _send(s3) if isinstance(s3, bytes) else s3
    accepted = stage.respond(
        202,
        b'{"InferenceId": "i"}',
        x_amzn_sagemaker_outputlocation="s3://bucket/out",
        x_amzn_sagemaker_failurelocation="s3://bucket/failure",
    )

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        if request.target.startswith("/endpoints"):
            writer.write(accepted)
        else:
            await ask_s3(request, writer)

    async with stage.serve(answer) as server:
        options = {"s3_endpoint_url": server.url, "s3_input_prefix": "s3://bucket/in/"}
        async with stage.connect(server.url, **options) as client:
            await _call(client, ASYNC, **given)


@failure("403", "500")
async def an_upload_that_is_refused(stage: Stage, status: str) -> None:
    body = BODY.encode() * 20_000
    await _answer_async(stage, stage.respond(int(status), b""), body=body)


@failure()
async def an_upload_that_is_cancelled(stage: Stage) -> None:
    await stage.cancel(_answer_async(stage, stage.wait, body=BODY * 20_000))


@failure()
async def an_upload_without_a_prefix(stage: Stage) -> None:
    async with stage.connect() as client:
        await _call(client, ASYNC, body=bytearray(BODY.encode() * 20_000))


@failure()
async def a_wrong_call_with_an_upload(stage: Stage) -> None:
    await _answer_async(stage, b"", body=BODY * 20_000, custom_attributes=f"{ATTRIBUTE}\n")


@failure()
async def an_output_that_is_refused(stage: Stage) -> None:
    denied = b"<Error><Code>InvalidAccessKeyId</Code></Error>"
    await _answer_async(stage, stage.respond(403, denied))


@failure()
async def an_output_that_is_cut(stage: Stage) -> None:
    await _answer_async(stage, stage.cut())


@failure()
async def an_acknowledgement_that_is_none(stage: Stage) -> None:
    async with stage.client_of(stage.respond(202, b"{}")) as client:
        await _call(client, ASYNC)


@failure("whole", "cut")
async def a_download_that_fails(stage: Stage, answer: str) -> None:
    whole = answer == "whole"
    given = stage.respond(200, ANSWER.encode()) if whole else stage.cut()
    async with (
        stage.serve(_send(given)) as server,
        stage.connect(s3_endpoint_url=server.url) as client,
    ):
        saved = json.dumps({"output_location": "s3://bucket/out"})
        invocation = client.resume_async_invocation(saved)
        await invocation.download(stage.tmp_path / ("nowhere" if whole else ".") / "out")


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.asyncio
async def test_no_traceback_with_locals_shows_a_secret(name: str, stage: Stage) -> None:
    failed: BaseException | None = None
    try:
        await FAILURES[name](stage)
    except BaseException as error:  # noqa: BLE001 - a cancellation is one, too
        failed = error
    assert failed is not None, "it did not fail"
    assert _failed_in_the_package(failed), repr(failed)
    assert not _find_leaks(failed), repr(failed)
    # Whatever is shown has a repr, also what is not made to its end.
    traceback.TracebackException.from_exception(failed, capture_locals=True)


@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.asyncio
async def test_what_is_logged_of_a_hook_that_fails_shows_no_secret(
    status: int, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    answer = stage.respond(status, ANSWER.encode() if status == 200 else b"{}")
    async with stage.client_of(answer, hooks=Hooks(on_end=_raise)) as client:
        with contextlib.suppress(AiosmrtError):
            await _call(client)
    (failed,) = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert failed is not None
    assert _failed_in_the_package(failed), repr(failed)
    assert not _find_leaks(failed), repr(failed)


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.asyncio
async def test_nothing_that_is_told_of_an_echo_has_a_secret(
    echo: str, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Attributes, logs and what hooks are told; a body is what came, in bytes."""
    told: list[object] = []
    caplog.set_level("DEBUG", "aiosmrt")

    def note(_: int, error: AiosmrtError) -> float:
        told.append(error)
        return 0.0

    policy = RetryPolicy(max_attempts=2, backoff=note)
    answer = _answer_by(lambda request: ECHOES[echo](stage, request))
    hooks = Hooks(on_retry=told.append, on_end=told.append)
    async with stage.client_of(answer, retry=policy, hooks=hooks) as client:
        with pytest.raises(AiosmrtError) as caught:
            await _call(client, STREAM)
    words = [str(caught.value), caplog.text]
    for one in (caught.value, *told):
        error = getattr(one, "error", one)
        words.append(repr({**vars(error), "body": None}))
    for text in words:
        assert not [secret for secret in SECRETS if secret in text]
        assert not SIGNATURE.search(text.replace("AWS4-HMAC-SHA256", ""))


@pytest.mark.parametrize("make", [str, str.encode, lambda text: {"a": text}, lambda text: [text]])
def test_what_would_be_shown_is_found(make: Callable[[str], object]) -> None:
    @attrs.frozen
    class Shown:
        value: object

        def __repr__(self) -> str:
            return "nothing"

    for value in (make(BODY), Shown(make(BODY))):
        assert any(BODY in shown for shown in _show(value))
