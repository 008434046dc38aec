"""Every option, each with a case that shows on the wire what it does."""

from __future__ import annotations

import asyncio
import datetime
import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import aiohttp
import aiohttp.abc
import attrs
import botocore
import botocore.session
import pytest
import trustme

import aiosmrt
from aiosmrt.local.authorization import SignedRequest, check_authorization

if TYPE_CHECKING:
    from tests.conftest import Answer, Converse, EventStreams, SeenRequest, Serve, Tls, WireServer

    Events: TypeAlias = type[EventStreams]
    Case: TypeAlias = Callable[["Lab"], Awaitable[None]]

KEYS: dict[str, Any] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "AKID",
    "aws_secret_access_key": "secret",
}
NO_KEYS: dict[str, Any] = {"aws_access_key_id": None, "aws_secret_access_key": None}
AT_ONCE: dict[str, Any] = {"base_delay": 0.0, "throttle_base_delay": 0.0}
SERVER = object()


# What comes with some statuses.
_DRESSED: dict[int, tuple[bytes, dict[str, str]]] = {
    400: (b'{"Message": "It has no capacity"}', {"x_amzn_errortype": "ValidationError"}),
    424: (b'{"OriginalStatusCode": 503}', {"x_amzn_errortype": "ModelError"}),
}


@attrs.frozen
class Lab:
    """What a case needs."""

    serve: Serve
    serve_raw: Serve
    read_nothing: Converse
    until: Callable[..., Awaitable[None]]
    respond: Callable[..., bytes]
    events: Events
    tls: Tls
    authority: trustme.CA
    monkeypatch: pytest.MonkeyPatch
    caplog: pytest.LogCaptureFixture
    folder: Path

    @asynccontextmanager
    async def connect(
        self, answer: Answer | None = None, *, tls: ssl.SSLContext | None = None, **options: Any
    ) -> AsyncIterator[tuple[aiosmrt.SageMakerRuntimeClient, WireServer]]:
        """Give a client with these options, and the server that it calls."""
        async with self.serve(answer or self.answer, tls=tls) as server:
            # Some cases have it for a proxy, or for an S3.
            there = {name: server.url for name, value in options.items() if value is SERVER}
            chosen = {"endpoint_url": server.url, **KEYS, **options, **there}
            async with aiosmrt.SageMakerRuntimeClient(**chosen) as client:
                yield client, server

    async def ask(
        self, options: dict[str, Any], derived: dict[str, Any] | None = None
    ) -> SeenRequest:
        """Give the request that a client sends, or one that is derived from it."""
        async with self.connect(**options) as (client, server):
            await invoke(client if derived is None else client.with_options(**derived))
            (request,) = server.requests
            return request

    async def answer(self, request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        if request.target.endswith("-stream"):
            writer.write(self.events.whole(b"a", b"bc"))
        elif request.target.endswith("async-invocations"):
            location = {"x_amzn_sagemaker_outputlocation": "s3://bucket/output"}
            writer.write(self.respond(202, b'{"InferenceId": "i"}', **location))
        else:
            writer.write(self.respond())

    def fail(self, *statuses: int) -> Answer:
        """Give what answers with these statuses in turn, and then with successes."""
        left = list(statuses)

        async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
            if left:
                fields, code = _DRESSED.get(left[0], (b"{}", {}))
                writer.write(self.respond(left.pop(0), fields, **code))
            else:
                await self.answer(request, writer)

        return answer


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    names = [field.name for field in attrs.fields(Lab) if field.name != "folder"]
    return Lab(**{name: request.getfixturevalue(name) for name in names}, folder=tmp_path)


async def invoke(client: aiosmrt.SageMakerRuntimeClient, **parameters: Any) -> Any:
    return await client.invoke_endpoint(**{"endpoint_name": "mine", "body": "x", **parameters})


async def hang(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
    await request.reader.read()


# --- the table

TABLE: list[tuple[tuple[str, ...], Case]] = []


def row(*names: str) -> Callable[[Case], Case]:
    """Enter a case for options; a dot leads to a part of one."""

    def enter(case: Case) -> Case:
        TABLE.append((names, case))
        return case

    return enter


def sent(name: str, pattern: str) -> Callable[[SeenRequest], bool]:
    return lambda request: re.fullmatch(pattern, request.headers.get(name, "")) is not None


def shown(name: str, value: object, holds: Callable[[SeenRequest], bool]) -> None:
    """Enter that the requests of a client with an option show it, and of one derived, too."""

    @row(name)
    async def case(lab: Lab) -> None:
        option, _, part = name.partition(".")
        made = {"retry": aiosmrt.RetryPolicy, "timeout": aiosmrt.Timeout}
        given = {option: made[option](**{part: value}) if part else value}
        assert holds(await lab.ask({**(NO_KEYS if name == "credentials" else {}), **given}))
        assert holds(await lab.ask({}, given))


async def fetch_keys() -> aiosmrt.Credentials:
    return aiosmrt.Credentials("FETCHED", "secret")


def add_header(event: aiosmrt.BeforeSend) -> None:
    event.headers["x-hook"] = "was here"


shown("region_name", "eu-west-1", sent("authorization", r".*/eu-west-1/sagemaker/.*"))
shown("credentials", fetch_keys, sent("authorization", r".*=FETCHED/.*"))
shown(
    "credentials",
    aiosmrt.Credentials("OTHER", "secret", "token"),
    lambda request: (
        "Credential=OTHER/" in request.headers["authorization"]
        and request.headers["x-amz-security-token"] == "token"
    ),
)
shown("api_version", "2017-05-13", lambda request: request.target.startswith("/endpoints/mine/"))
shown("signature_version", aiosmrt.UNSIGNED, lambda request: "authorization" not in request.headers)
shown("signature_version", botocore.UNSIGNED, lambda request: "x-amz-date" not in request.headers)
shown("signature_version", "v4", sent("authorization", r"AWS4-HMAC-SHA256 .*"))
shown("system_clock_offset", -86_400 * 3650, sent("x-amz-date", r"201\d.*"))
shown("params", {"accept": "text/csv"}, sent("accept", "text/csv"))
shown("params", {"target_variant": "v2"}, sent("x-amzn-sagemaker-target-variant", "v2"))
shown("headers", {"X-Next-Year": "1"}, sent("x-next-year", "1"))
shown("hooks", aiosmrt.Hooks(before_send=add_header), sent("x-hook", "was here"))
shown("user_agent_extra", "my/1.0", sent("user-agent", r"aiosmrt/.* my/1\.0"))
shown("user_agent_appid", "my app", sent("user-agent", r"aiosmrt/.* app/my-app.*"))
shown("retry.max_attempts", 7, sent("amz-sdk-request", "attempt=1; max=7"))
shown("retry.mode", "off", sent("amz-sdk-request", "attempt=1; max=1"))


# --- where to, and as whom


@row("endpoint_url")
async def _endpoint_url(lab: Lab) -> None:
    async with lab.connect() as (client, server):
        await invoke(client)
        assert client.endpoint_url == server.url
        assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"


@row("profile_name")
async def _profile(lab: Lab) -> None:
    lines = "[profile dev]\nregion=eu-west-3\naws_access_key_id=DEV\naws_secret_access_key=s\n"
    (lab.folder / "config").write_text(lines)
    lab.monkeypatch.setenv("AWS_CONFIG_FILE", str(lab.folder / "config"))
    seen = await lab.ask({**NO_KEYS, "region_name": None, "profile_name": "dev"})
    assert re.search(r"Credential=DEV/\d+/eu-west-3/", seen.headers["authorization"])


@row("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
async def _keys(lab: Lab) -> None:
    keys = {
        "aws_access_key_id": "MINE",
        "aws_secret_access_key": "mine",
        "aws_session_token": "token",
    }
    for seen in (await lab.ask(keys), await lab.ask({}, keys)):
        signed = SignedRequest(seen.method, seen.target, seen.headers, seen.body)
        now = datetime.datetime.now(datetime.UTC)
        check_authorization(signed, aiosmrt.Credentials("MINE", "mine"), now)
        assert seen.headers["x-amz-security-token"] == "token"


@row("use_ssl", "use_fips_endpoint", "use_dualstack_endpoint")
async def _names_of_hosts(lab: Lab) -> None:
    """A proxy sees which host is called."""
    plain: dict[str, Any] = {"endpoint_url": None, "proxy": SERVER, "use_ssl": False}
    for options, host in (
        ({}, "runtime.sagemaker.us-east-1.amazonaws.com"),
        ({"use_fips_endpoint": True}, "runtime-fips.sagemaker.us-east-1.amazonaws.com"),
        ({"use_dualstack_endpoint": True}, "runtime.sagemaker.us-east-1.api.aws"),
    ):
        seen = await lab.ask({**plain, **options})
        assert seen.target == f"http://{host}/endpoints/mine/invocations"
    async with lab.connect(lab.fail(403), **{**plain, "use_ssl": True}) as (client, server):
        with pytest.raises(aiosmrt.ConnectError):
            await invoke(client.with_options(retry=aiosmrt.RetryPolicy(mode="off")))
        assert server.requests[0].target == "runtime.sagemaker.us-east-1.amazonaws.com:443"


@row("verify")
async def _verify(lab: Lab) -> None:
    bundle = lab.folder / "bundle.pem"
    bundle.write_bytes(lab.authority.cert_pem.bytes())
    for verify, trusted in (
        (str(bundle), True),
        (lab.tls.client, True),
        (False, True),
        (True, False),
    ):
        off = aiosmrt.RetryPolicy(mode="off")
        async with lab.connect(tls=lab.tls.server, verify=verify, retry=off) as (client, server):
            if trusted:
                await invoke(client)
            else:
                with pytest.raises(aiosmrt.ConnectError, match="verify"):
                    await invoke(client)
            assert len(server.requests) == trusted


@row("client_cert")
async def _client_certificate(lab: Lab) -> None:
    seen: list[str] = []

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        seen.append(str(writer.get_extra_info("peercert")["subjectAltName"]))
        writer.write(lab.respond())

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    lab.authority.configure_trust(context)
    lab.authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle, pair = str(lab.folder / "bundle.pem"), str(lab.folder / "pair.pem")
    lab.authority.cert_pem.write_to_path(bundle)
    lab.authority.issue_cert("me@example").private_key_and_cert_chain_pem.write_to_path(pair)
    async with lab.connect(answer, tls=context, verify=bundle, client_cert=pair) as (client, _):
        await invoke(client)
    assert "me@example" in seen[0]


# --- the way there


@row("max_connections")
async def _connections(lab: Lab) -> None:
    for number in (1, 2):
        at_once: list[int] = []
        under_way = 0

        async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
            nonlocal under_way
            under_way += 1
            at_once.append(under_way)  # noqa: B023 - it is called in this round only
            await asyncio.sleep(0.02)
            under_way -= 1
            writer.write(lab.respond())

        async with lab.connect(answer, max_connections=number) as (client, server):
            await asyncio.gather(*(invoke(client) for _ in range(4)))
            assert max(at_once) == server.connections == number


@row("keep_alive", "max_connection_age")
async def _ends_of_connections(lab: Lab) -> None:
    for options, connections in (
        ({}, 1),
        ({"keep_alive": 0.05}, 2),
        ({"keep_alive": None, "max_connection_age": None}, 1),
        ({"max_connection_age": 0.05}, 2),
    ):
        async with lab.connect(**options) as (client, server):
            await invoke(client)
            await asyncio.sleep(0.1)
            await invoke(client)
            assert server.connections == connections


@row("session")
async def _session(lab: Lab) -> None:
    class Resolver(aiohttp.abc.AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: int = 0) -> Any:
            return [
                {"hostname": host, "host": "127.0.0.1", "port": port}
                | {"family": 2, "proto": 0, "flags": 0}
            ]

        async def close(self) -> None:
            """Nothing is open."""

    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=Resolver()), headers={"x-mine": "1"}
        ) as session,
        lab.connect(session=session) as (client, server),
    ):
        here = client.with_options(
            endpoint_url=f"http://models.example:{server.port}", use_ssl=False
        )
        await invoke(here)
        await client.aclose()
        assert not session.closed
        assert server.requests[0].headers["host"] == f"models.example:{server.port}"
        assert "x-mine" not in server.requests[0].headers


@row("proxy", "proxy_headers")
async def _proxy(lab: Lab) -> None:
    for scheme, line in (
        ("http", "POST http://models.example/endpoints/mine/invocations"),
        ("https", "CONNECT models.example:443"),
    ):
        async with lab.connect(
            lab.fail(403),
            endpoint_url=f"{scheme}://models.example",
            use_ssl=False,
            proxy=SERVER,
            proxy_headers={"Proxy-Authorization": "Bearer me"},
            retry=aiosmrt.RetryPolicy(mode="off"),
        ) as (client, server):
            with pytest.raises(aiosmrt.AiosmrtError):
                await invoke(client)
            (seen,) = server.requests
            assert f"{seen.method} {seen.target}" == line
            assert seen.headers["proxy-authorization"] == "Bearer me"


@row("proxy_verify", "proxy_client_cert")
async def _proxy_tls(lab: Lab) -> None:
    other = trustme.CA()
    mine, bundle = str(lab.folder / "mine.pem"), str(lab.folder / "proxies.pem")
    other.issue_cert("me@example").private_key_and_cert_chain_pem.write_to_path(mine)
    other.cert_pem.write_to_path(bundle)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    other.issue_cert("127.0.0.1").configure_cert(context)
    other.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    shown: list[Any] = []

    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        shown.append(writer.get_extra_info("peercert"))
        writer.write(lab.respond())

    async with lab.connect(
        answer,
        tls=context,
        endpoint_url="http://models.example",
        use_ssl=False,
        proxy=SERVER,
        proxy_verify=bundle,
        proxy_client_cert=mine,
    ) as (client, server):
        await invoke(client)
        assert server.requests[0].target.startswith("http://models.example/")
    assert ("email", "me@example") in shown[0]["subjectAltName"]


@row("correct_clock_skew")
async def _skew(lab: Lab) -> None:
    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        if request.headers["x-amz-date"].startswith("1970"):
            writer.write(lab.respond())
        else:
            headers = {"x_amzn_errortype": "RequestExpired", "date": formatdate(0, usegmt=True)}
            writer.write(lab.respond(403, **headers))

    async with lab.connect(answer) as (client, server):
        with pytest.raises(aiosmrt.ServiceError):
            await invoke(client.with_options(correct_clock_skew=False))
        assert len(server.requests) == 1
        await invoke(client)
        assert len(server.requests) == 3
        assert client.clock_offset < -1e9


# --- how long


@row(*(f"timeout.{field.name}" for field in attrs.fields(aiosmrt.Timeout)))
async def _time_limits(lab: Lab) -> None:
    """Each limit ends a call that nothing else would end."""

    async def half(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(lab.respond(200, b"12345")[:-1])
        await writer.drain()
        await hang(request, writer)

    none = dict.fromkeys(field.name for field in attrs.fields(aiosmrt.Timeout))
    errors = aiosmrt.errors
    once: dict[str, Any] = {"retry": aiosmrt.RetryPolicy(mode="off"), "max_connections": 1}
    async with (
        lab.connect(hang, timeout=aiosmrt.Timeout(**none), **once) as (client, silent),
        lab.connect(half, timeout=aiosmrt.Timeout(**none), **once) as (halved, _),
        lab.serve_raw(lab.read_nothing) as deaf,
    ):

        async def ended_by(
            name: str, called: aiosmrt.SageMakerRuntimeClient, body: bytes = b"x"
        ) -> type[BaseException]:
            limit = aiosmrt.Timeout(**{**none, name: 0.05})
            with pytest.raises(TimeoutError, match=rf"0\.05 s \(Timeout\.{name}\)") as caught:
                await invoke(called, timeout=limit, body=body)
            return caught.type

        # TCP is there, and nobody to shake hands with.
        secure = client.with_options(endpoint_url=f"https://127.0.0.1:{silent.port}")
        assert await ended_by("connect", secure) is errors.ConnectTimeout
        unread = client.with_options(endpoint_url=deaf.url)
        assert await ended_by("write", unread, bytes(6_000_000)) is errors.WriteTimeout
        assert await ended_by("first_byte", client) is errors.FirstByteTimeout
        assert await ended_by("total", client) is errors.TotalTimeout
        assert await ended_by("idle", halved) is errors.IdleTimeout
        async with asyncio.TaskGroup() as group:
            before = len(silent.requests)
            occupied = group.create_task(invoke(client))
            await lab.until(lambda: len(silent.requests) > before)
            assert await ended_by("slot", client) is errors.SlotTimeout
            occupied.cancel()

        async def fetch() -> aiosmrt.Credentials:
            await asyncio.Event().wait()
            raise AssertionError

        keyless = client.with_options(credentials=fetch)
        assert await ended_by("credentials", keyless) is errors.CredentialsTimeout
        with pytest.raises(aiosmrt.TotalTimeout):
            await invoke(client.with_options(timeout=0.05))


# --- how often


async def _attempt(lab: Lab, *statuses: int, **policy: Any) -> list[aiosmrt.Attempt]:
    """Call with a policy what answers with these statuses first."""
    retry = aiosmrt.RetryPolicy(**{**AT_ONCE, **policy})
    async with lab.connect(lab.fail(*statuses), retry=retry) as (client, server):
        try:
            attempts = (await invoke(client)).metadata.attempts
        except aiosmrt.AiosmrtError as error:
            attempts = error.attempts
        assert len(server.requests) == len(attempts)
        return list(attempts)


@row("retry.max_attempts", "retry.mode")
async def _how_many_attempts(lab: Lab) -> None:
    assert len(await _attempt(lab, 503, 503, 503, 503, max_attempts=2)) == 2
    assert len(await _attempt(lab, 503, 503, 503, 503, max_attempts=5)) == 5
    assert len(await _attempt(lab, 503, mode="off")) == 1


@row("retry.base_delay", "retry.throttle_base_delay", "retry.max_delay")
async def _delays(lab: Lab) -> None:
    for status, mine, other in (
        (503, "base_delay", "throttle_base_delay"),
        (429, "throttle_base_delay", "base_delay"),
    ):
        (first, _) = await _attempt(lab, status, **{mine: 0.0, other: 9.0})
        assert first.delay == 0.0
        (first, _) = await _attempt(lab, status, **{mine: 0.01, other: 0.0})
        assert first.delay is not None
        assert 0.0 < first.delay <= 0.01
        (first, _) = await _attempt(lab, status, **{mine: 9.0}, max_delay=0.0)
        assert first.delay == 0.0


@row("retry.quota")
async def _quota(lab: Lab) -> None:
    assert len(await _attempt(lab, 503, 503)) == 3
    assert len(await _attempt(lab, 503, 503, quota=14)) == 2
    assert len(await _attempt(lab, 503, quota=0)) == 1
    assert len(await _attempt(lab, *[503] * 40, max_attempts=50)) == 36
    assert len(await _attempt(lab, *[503] * 40, max_attempts=50, quota=None)) == 41


@row("retry.capacity_wait")
async def _capacity_wait(lab: Lab) -> None:
    assert len(await _attempt(lab, 400)) == 1
    attempts = await _attempt(lab, 400, 400, 400, capacity_wait=5, max_attempts=1)
    assert [attempt.status for attempt in attempts] == [400, 400, 400, 200]


@row("retry.backoff")
async def _backoff(lab: Lab) -> None:
    asked: list[tuple[int, str]] = []

    def backoff(attempt: int, error: aiosmrt.AiosmrtError) -> float | None:
        asked.append((attempt, type(error).__name__))
        return 0.001 if attempt == 1 else None

    attempts = await _attempt(lab, 503, 503, backoff=backoff)
    assert [attempt.delay for attempt in attempts] == [0.001, None]
    assert asked == [(1, "ServiceError"), (2, "ServiceError")]


@row("retry.retry_may_have_run", "retry.retry_model_error")
async def _what_has_run(lab: Lab) -> None:
    assert len(await _attempt(lab, 500)) == 1
    assert len(await _attempt(lab, 500, retry_may_have_run=True)) == 2
    assert len(await _attempt(lab, 424, retry_may_have_run=True)) == 1
    assert len(await _attempt(lab, 424, retry_model_error={503})) == 2
    assert len(await _attempt(lab, 424, retry_model_error={500})) == 1
    assert len(await _attempt(lab, 424, retry_model_error=lambda error: True)) == 2


# --- what is checked, and what is told


@row("parameter_validation")
async def _validation(lab: Lab) -> None:
    too_long = {"target_variant": "v" * 64}
    async with lab.connect() as (client, server):
        for checked in (True, {"max"}, {"max", "pattern"}):
            with pytest.raises(aiosmrt.ParameterError, match="target_variant"):
                await invoke(client.with_options(parameter_validation=checked), **too_long)
        assert server.connections == 0
        for unchecked in (False, {"pattern"}):
            await invoke(client.with_options(parameter_validation=unchecked), **too_long)
        assert len(server.requests) == 2


@row(*(f"hooks.{field.name}" for field in attrs.fields(aiosmrt.Hooks)))
async def _hooks(lab: Lab) -> None:
    told: list[object] = []
    stations = [field.name for field in attrs.fields(aiosmrt.Hooks)]
    hooks = aiosmrt.Hooks(**dict.fromkeys(stations, told.append))
    retry = aiosmrt.RetryPolicy(**AT_ONCE)
    async with (
        lab.connect(lab.fail(503), hooks=hooks, retry=retry) as (client, _),
        client.invoke_endpoint_with_response_stream(endpoint_name="mine", body="x") as stream,
    ):
        assert await stream.read() == b"abc"
    start, before, after, retried, again, success, first, *parts, end = told
    assert isinstance(start, aiosmrt.OnStart)
    assert isinstance(before, aiosmrt.BeforeSend)
    assert isinstance(after, aiosmrt.AfterHeaders)
    assert isinstance(retried, aiosmrt.OnRetry)
    assert isinstance(again, aiosmrt.BeforeSend)
    assert isinstance(success, aiosmrt.AfterHeaders)
    assert isinstance(first, aiosmrt.OnFirstPart)
    sizes = [event.size for event in parts if isinstance(event, aiosmrt.OnParts)]
    assert (sum(sizes), len(sizes)) == (3, len(parts))
    assert isinstance(end, aiosmrt.OnEnd)
    assert (before.attempt, after.status, retried.attempt.status) == (1, 503, 503)
    assert (again.attempt, success.status, first.size, end.bytes_received) == (2, 200, 1, 3)


@row("the logger aiosmrt")
async def _logging(lab: Lab) -> None:
    lab.caplog.set_level(logging.DEBUG, "aiosmrt")
    await _attempt(lab, 503)
    lines = [(record.levelno, record.getMessage()) for record in lab.caplog.records]
    lines = [
        line
        for line, record in zip(lines, lab.caplog.records, strict=True)
        if record.name == "aiosmrt"
    ]
    debug, info = logging.DEBUG, logging.INFO
    assert [level for level, _ in lines] == [debug, debug, info, debug, debug]
    assert "attempt 1 failed with 503" in lines[2][1]
    assert "attempt 2 ended" in lines[-1][1]


# --- asynchronous inference


@row("s3_endpoint_url", "s3_input_prefix")
async def _s3(lab: Lab) -> None:
    async with (
        lab.serve(lab.answer) as s3,
        lab.connect(s3_endpoint_url=s3.url, s3_input_prefix="s3://bucket/in/") as (client, server),
    ):
        await client.invoke_endpoint_async(endpoint_name="mine", body=bytes(128_001))
    (put,) = s3.requests
    assert put.method == "PUT"
    assert re.fullmatch(r"/bucket/in/[0-9a-f-]{36}", put.target)
    assert len(put.body) == 128_001
    where = server.requests[0].headers["x-amzn-sagemaker-inputlocation"]
    assert where == f"s3:/{put.target}"


@row("s3_put_headers", "s3_expected_bucket_owner")
async def _s3_headers(lab: Lab) -> None:
    async with (
        lab.serve(lab.answer) as s3,
        lab.connect(
            s3_endpoint_url=s3.url,
            s3_input_prefix="s3://bucket/in/",
            s3_put_headers={"X-Amz-Server-Side-Encryption": "aws:kms"},
            s3_expected_bucket_owner="123456789012",
        ) as (client, server),
    ):
        await client.invoke_endpoint_async(endpoint_name="mine", body=bytes(128_001))
        other = client.with_options(s3_put_headers={}, s3_expected_bucket_owner=None)
        await other.invoke_endpoint_async(endpoint_name="mine", body=bytes(128_001))
    put, plain = (request.headers for request in s3.requests)
    assert put["x-amz-server-side-encryption"] == "aws:kms"
    assert put["x-amz-expected-bucket-owner"] == "123456789012"
    assert not {"x-amz-server-side-encryption", "x-amz-expected-bucket-owner"} & plain.keys()
    for request in server.requests:
        assert not {"x-amz-server-side-encryption", "x-amz-expected-bucket-owner"} & (
            request.headers.keys()
        )


@row("poll_interval", "max_poll_interval")
async def _polling(lab: Lab) -> None:
    """With the pauses that are the default, so many looks would take longer than there is time."""
    looks = 12
    missing = lab.respond(404, b"<Error><Code>NoSuchKey</Code></Error>")

    async def s3(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        done = len(storage.requests) > looks
        writer.write(lab.respond(200, b"done") if done else missing)

    options: dict[str, Any] = {"poll_interval": 0.01, "max_poll_interval": 0.01}
    async with (
        lab.serve(s3) as storage,
        lab.connect(s3_endpoint_url=storage.url, **options) as (client, _),
    ):
        invocation = await client.invoke_endpoint_async(endpoint_name="mine", body="x")
        assert (await invocation.result(timeout=1.0)).body == b"done"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("x-a", "b\r\nc", "x-a contains CR"),
        ("x a", "b", "'x a' is not a header name"),
        ("Content-Length", "1", "set by the client itself"),
        ("X-Amz-Checksum-CRC32", "AAAAAA==", "set by the client itself"),
        ("x-amz-expected-bucket-owner", "1", "set by the client itself"),
    ],
)
def test_headers_that_no_upload_can_have_are_refused_at_once(
    name: str, value: str, words: str
) -> None:
    with pytest.raises(aiosmrt.ConfigurationError, match=f"s3_put_headers: .*{words}"):
        aiosmrt.SageMakerRuntimeClient(s3_put_headers={name: value})


# --- the table is whole


@pytest.mark.parametrize(
    "case", [case for _, case in TABLE], ids=[", ".join(names) for names, _ in TABLE]
)
@pytest.mark.asyncio
async def test_an_option_does_on_the_wire_what_it_says(case: Case, lab: Lab) -> None:
    await case(lab)


TABLE_OF_NAMES = (Path(__file__).parents[2] / "docs/how-to/migrate.md").read_text()
# The options of the JavaScript SDK v2 that mean something to this service.
ELSEWHERE = """
    accessKeyId apiVersion apiVersions clientSideMonitoring correctClockSkew credentialProvider
    customUserAgent endpoint httpOptions logger maxRedirects maxRetries paramValidation region
    retryDelayOptions secretAccessKey sessionToken signatureCache signatureVersion sslEnabled
    systemClockOffset useDualstackEndpoint useFipsEndpoint
"""


@pytest.mark.parametrize("name", re.findall(r"\w+", ELSEWHERE))
def test_a_name_from_elsewhere_is_refused_and_has_a_row_that_says_what_it_is_here(
    name: str,
) -> None:
    options: dict[str, Any] = {name: None}
    with pytest.raises(TypeError, match=f"no client option '{name}': .* "):
        aiosmrt.SageMakerRuntimeClient(**options)
    rows = TABLE_OF_NAMES.partition("| JavaScript SDK v2 | here |")[2].partition("\n\n")[0]
    assert any(re.search(rf"`{name}\b", line.split("|")[1]) for line in rows.strip().splitlines())


@pytest.mark.parametrize("version", ["v2", "v3", "s3v4"])
def test_another_signature_is_refused_with_what_there_is(version: str) -> None:
    with pytest.raises(aiosmrt.ConfigurationError, match=r"'v4' only; aiosmrt\.UNSIGNED"):
        aiosmrt.SageMakerRuntimeClient(signature_version=version)


def test_every_option_has_a_case_here() -> None:
    options = {field.name for field in attrs.fields(aiosmrt.Config)}
    parts = {
        f"{name}.{field.name}"
        for name, kind in (
            ("timeout", aiosmrt.Timeout),
            ("retry", aiosmrt.RetryPolicy),
            ("hooks", aiosmrt.Hooks),
        )
        for field in attrs.fields(kind)
    }
    tried = {name for names, _ in TABLE for name in names}
    assert {*tried, "timeout", "retry"} == {*options, *parts, "the logger aiosmrt"}
