"""Keys that the service refuses are fetched anew, once; a wrong clock is in `test_caller.py`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from aiosmrt import (
    AiosmrtError,
    Credentials,
    CredentialsError,
    RetryPolicy,
    SageMakerRuntimeClient,
    ServiceError,
    Timeout,
    TotalTimeout,
)

if TYPE_CHECKING:
    from tests.conftest import Connect, SeenRequest, Serve

    Respond = Callable[..., bytes]

# Of SageMaker Runtime, of services before it, and of S3.
CODES = (
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
)
OFF = RetryPolicy(mode="off")
NO_KEYS: dict[str, Any] = {"aws_access_key_id": None, "aws_secret_access_key": None}


@attrs.define
class Service:
    """Takes no keys but those of some ids."""

    respond: Respond
    good: tuple[str, ...] = ("NEW",)
    code: str = "ExpiredTokenException"
    used: list[str] = attrs.field(factory=list)

    async def __call__(self, request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        key = request.headers["authorization"].split("Credential=")[1].partition("/")[0]
        self.used.append(key)
        if key in self.good:
            writer.write(self.respond(body=b'{"InferenceId": "i"}'))
        else:
            told_by_s3 = f"<Error><Code>{self.code}</Code></Error>".encode()
            writer.write(self.respond(403, told_by_s3, x_amzn_errortype=self.code))


@pytest.fixture
def service(respond: Respond) -> Service:
    return Service(respond)


@attrs.define
class Vault:
    """A function given as `credentials=`: the keys of one id after another, then the last."""

    ids: list[str]
    asked: int = 0

    async def __call__(self) -> Credentials:
        self.asked += 1
        await asyncio.sleep(0)
        key = self.ids.pop(0) if len(self.ids) > 1 else self.ids[0]
        if not key:
            raise CredentialsError("the vault is closed")
        return Credentials(key, "secret", "token")


async def _invoke(client: SageMakerRuntimeClient, **given: Any) -> Any:
    return await client.invoke_endpoint(endpoint_name="e", **{"body": b"x", **given})


@pytest.mark.parametrize("code", CODES)
@pytest.mark.asyncio
async def test_refused_keys_are_fetched_anew(
    code: str,
    service: Service,
    serve: Serve,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "aiosmrt")
    service.code = code
    vault = Vault(["OLD", "NEW"])
    async with (
        serve(service) as server,
        connect(server, credentials=vault, **NO_KEYS, retry=OFF) as client,
    ):
        response = await _invoke(client)
        assert service.used == ["OLD", "NEW"]
        refused, answered = response.metadata.attempts
        assert (refused.error, refused.delay, refused.may_have_run) == (code, 0.0, False)
        assert answered.status == 200
        await _invoke(client)
        assert service.used == ["OLD", "NEW", "NEW"]
    (line,) = caplog.messages
    assert "the credentials were refused, and there are new ones; signed anew" in line


async def _stream(client: SageMakerRuntimeClient) -> None:
    async with client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x"):
        pass


async def _submit(client: SageMakerRuntimeClient) -> None:
    await client.invoke_endpoint_async(endpoint_name="e", body=b"x")


async def _submit_by_s3(client: SageMakerRuntimeClient) -> None:
    await client.invoke_endpoint_async(
        endpoint_name="e", body=bytes(200_000), s3_input_prefix="s3://bucket/in/"
    )


@pytest.mark.parametrize("call", [_stream, _submit, _submit_by_s3])
@pytest.mark.asyncio
async def test_whatever_is_called(
    call: Callable[[SageMakerRuntimeClient], Any],
    service: Service,
    serve: Serve,
    connect: Connect,
) -> None:
    vault = Vault(["OLD", "NEW"])
    async with (
        serve(service) as server,
        connect(
            server, credentials=vault, **NO_KEYS, s3_endpoint_url=server.url, retry=OFF
        ) as client,
    ):
        try:
            await call(client)
        except AiosmrtError:
            assert call is _stream  # which is answered by no stream
    assert service.used[:2] == ["OLD", "NEW"]
    assert "OLD" not in service.used[1:]


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give a function that writes keys of an id into the shared credentials file."""
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def write(key: str) -> None:
        file.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key=secret\n")

    return write


async def _gather(client: SageMakerRuntimeClient) -> list[Any]:
    return await asyncio.gather(*(_invoke(client) for _ in range(20)), return_exceptions=True)


@pytest.mark.asyncio
async def test_after_another_process_has_renewed_the_file_no_call_fails(
    service: Service, serve: Serve, connect: Connect, keys: Callable[[str], None]
) -> None:
    service.good = ("OLD",)
    keys("OLD")
    async with serve(service) as server, connect(server, **NO_KEYS) as client:
        await _invoke(client)
        service.good, service.used = ("NEW",), []
        keys("NEW")
        outcomes = await _gather(client)
    assert {len(response.metadata.attempts) for response in outcomes} == {2}
    assert sorted(service.used) == ["NEW"] * 20 + ["OLD"] * 20


@pytest.mark.asyncio
async def test_with_the_file_as_it_was_each_call_is_attempted_once(
    service: Service, serve: Serve, connect: Connect, keys: Callable[[str], None]
) -> None:
    keys("OLD")
    async with serve(service) as server, connect(server, **NO_KEYS) as client:
        errors = await _gather(client)
        assert len(server.requests) == 20
    for error in errors:
        assert isinstance(error, ServiceError)
        assert len(error.attempts) == 1
        assert "; not attempted again: a new look at the default chain" in str(error)
        assert str(error).endswith("gave the same keys")


@pytest.mark.asyncio
async def test_new_keys_that_are_refused_too_are_the_last(
    service: Service, serve: Serve, connect: Connect
) -> None:
    vault = Vault(["OLD", "OLDER", "NEW"])
    async with serve(service) as server, connect(server, credentials=vault, **NO_KEYS) as client:
        with pytest.raises(ServiceError) as caught:
            await _invoke(client)
        assert len(caught.value.attempts) == 2
        # The next call does not begin with what was refused.
        await _invoke(client)
    assert service.used == ["OLD", "OLDER", "NEW"]


@pytest.mark.asyncio
async def test_a_fetch_that_fails_does_not_hide_the_refusal(
    service: Service, serve: Serve, connect: Connect
) -> None:
    vault = Vault(["OLD", "", "NEW"])
    async with serve(service) as server, connect(server, credentials=vault, **NO_KEYS) as client:
        with pytest.raises(ServiceError, match="fetching credentials anew failed: the vault is"):
            await _invoke(client)
        await _invoke(client)
    assert service.used == ["OLD", "NEW"]


@pytest.mark.asyncio
async def test_keys_that_were_given_are_what_they_are(
    service: Service, serve: Serve, connect: Connect
) -> None:
    async with serve(service) as server, connect(server) as client:
        with pytest.raises(ServiceError, match="the keys given as arguments gave the same keys"):
            await _invoke(client)
    assert service.used == ["AKIDEXAMPLE"]


@pytest.mark.asyncio
async def test_a_body_that_is_sent_once_is_not_sent_again(
    service: Service, serve: Serve, connect: Connect
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"

    vault = Vault(["OLD", "NEW"])
    async with serve(service) as server, connect(server, credentials=vault, **NO_KEYS) as client:
        with pytest.raises(ServiceError, match="there are new credentials for later calls, but"):
            await _invoke(client, body=chunks())
        await _invoke(client)
    assert service.used == ["OLD", "NEW"]


@pytest.mark.asyncio
async def test_a_fetch_is_within_the_total(
    service: Service, serve: Serve, connect: Connect
) -> None:
    async def fetch() -> Credentials:
        if service.used:
            await asyncio.sleep(60)
        return Credentials("OLD", "secret")

    async with serve(service) as server, connect(server, credentials=fetch, **NO_KEYS) as client:
        with pytest.raises(TotalTimeout) as caught:
            await _invoke(client, timeout=Timeout(total=0.5))
    (attempt,) = caught.value.attempts
    assert attempt.error == "ExpiredTokenException"
    assert not caught.value.may_have_run


@pytest.mark.asyncio
async def test_other_refusals_concern_no_keys(
    service: Service, serve: Serve, connect: Connect
) -> None:
    service.code = "AccessDeniedException"
    vault = Vault(["OLD", "NEW"])
    async with serve(service) as server, connect(server, credentials=vault, **NO_KEYS) as client:
        with pytest.raises(ServiceError):
            await _invoke(client)
    assert vault.asked == 1
