from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest

import aiosmrt
from aiosmrt.errors import ConfigurationError, ModelStreamError
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure
from aiosmrt.local.exchange import Exchange


@pytest.mark.asyncio
async def test_a_client_of_ours_leads_to_it() -> None:
    async with (
        LocalEndpoint(access_key_id="mine", secret_access_key="my-secret") as endpoint,
        endpoint.client(params={"endpoint_name": "e"}) as client,
    ):
        assert client.endpoint_url == endpoint.url
        answer = await client.invoke_endpoint(body=b"a b", session_id="NEW_SESSION")
        assert answer.json() == {"echo": "a b", "bytes": 3}
        assert answer.new_session_id is not None
        assert answer.new_session_expires_at is not None
        async with client.invoke_endpoint_with_response_stream(body=b"a b") as stream:
            assert [part.bytes async for part in stream] == [b"a ", b"b"]
        invocation = await client.invoke_endpoint_async(input_location="s3://bucket/key")
        assert invocation.output_location is not None


@pytest.mark.asyncio
async def test_a_client_sees_a_broken_stream_with_its_code() -> None:
    def fail(request: InvocationRequest) -> Iterator[bytes]:
        yield b"1"
        raise ModelFailure(500, "out of memory")

    async with LocalEndpoint(fail) as endpoint, endpoint.client() as client:
        stream = await client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"")
        with pytest.raises(ModelStreamError, match="out of memory") as caught:
            _ = [part async for part in stream]
    assert caught.value.error_code == "StreamBroken"
    assert caught.value.parts_received == 1


@pytest.mark.asyncio
async def test_ping(http: aiohttp.ClientSession) -> None:
    async with LocalEndpoint() as endpoint, http.get(f"{endpoint.url}/ping") as response:
        assert response.status == 200
        assert "x-amzn-RequestId" in response.headers


@pytest.mark.asyncio
async def test_only_so_many_requests_are_kept(http: aiohttp.ClientSession) -> None:
    async with LocalEndpoint(auth=False, keep_requests=2) as endpoint:
        for number in range(4):
            url = f"{endpoint.url}/endpoints/e{number}/invocations"
            async with http.post(url) as response:
                assert response.status == 200
    assert [request.endpoint_name for request in endpoint.requests] == ["e2", "e3"]


@pytest.mark.asyncio
async def test_leaving_ends_calls_and_closes_their_generators(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()
    # The time limit is for connections; closing takes longer, and is waited for.
    monkeypatch.setattr("aiosmrt.local.endpoint._LINGER", 0.01)

    async def endless(request: InvocationRequest) -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.2)
            closed.set()

    async with LocalEndpoint(endless, auth=False) as endpoint:
        url = f"{endpoint.url}/endpoints/e/invocations-response-stream"
        response = await http.post(url)
        await response.content.readany()
    assert closed.is_set()
    with pytest.raises(aiohttp.ClientPayloadError):
        await response.read()


@pytest.mark.asyncio
async def test_leaving_waits_for_models_in_threads(http: aiohttp.ClientSession) -> None:
    running, finish, finished = (threading.Event() for _ in range(3))

    def model(request: InvocationRequest) -> bytes:
        running.set()
        finish.wait(10)
        finished.set()
        return b""

    async with LocalEndpoint(model, auth=False) as endpoint:
        url = f"{endpoint.url}/endpoints/e/invocations"
        call = asyncio.create_task(http.post(url))
        await asyncio.to_thread(running.wait, 10)
        asyncio.get_running_loop().call_later(0.05, finish.set)
    assert finished.is_set()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await call


@pytest.mark.asyncio
async def test_it_can_be_entered_again(http: aiohttp.ClientSession) -> None:
    endpoint = LocalEndpoint()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no URL before"):
            _ = endpoint.url
        async with endpoint, http.get(f"{endpoint.url}/ping") as response:
            assert response.status == 200


def test_it_runs_without_an_event_loop(connect: Callable[..., Any]) -> None:
    endpoint = LocalEndpoint(lambda request: {"length": len(request.body)})
    for _ in range(2):
        with endpoint:
            answer = connect(endpoint).invoke_endpoint(EndpointName="e", Body=b"abc")
            with answer["Body"] as body:
                assert body.read() == b'{"length": 3}'
    assert not [thread for thread in threading.enumerate() if "aiosmrt-local" in thread.name]
    with pytest.raises(RuntimeError, match="no URL before"):
        _ = endpoint.url


def test_what_goes_wrong_in_its_thread_is_raised_outside() -> None:
    with LocalEndpoint() as endpoint:
        port = int(endpoint.url.rpartition(":")[2])
        with (
            pytest.raises(ConfigurationError, match="cannot listen"),
            LocalEndpoint(port=port),
        ):
            pytest.fail("two servers on one port")


def test_it_is_not_entered_twice_at_a_time() -> None:
    endpoint = LocalEndpoint()
    with endpoint:
        url = endpoint.url
        with pytest.raises(RuntimeError, match=f"runs already, at {url}"), endpoint:
            pytest.fail("one endpoint at two ports")
        assert endpoint.url == url
    with endpoint:
        assert endpoint.url


@pytest.mark.asyncio
async def test_with_a_thread_of_its_own_it_serves_clients_on_any_loop() -> None:
    with LocalEndpoint() as endpoint:
        endpoint.hang("part 2", text="never")
        async with endpoint.client(timeout=aiosmrt.Timeout(first_byte=0.1, idle=0.1)) as client:
            with pytest.raises(aiosmrt.IdleTimeout):
                await client.invoke_endpoint(endpoint_name="e", body=b"x")
            assert (await client.invoke_endpoint(endpoint_name="e", body=b"x")).json()[
                "echo"
            ] == "x"


@pytest.mark.asyncio
async def test_the_url_can_be_connected_to_whatever_it_listens_on(
    http: aiohttp.ClientSession,
) -> None:
    for host in ("0.0.0.0", "localhost"):
        async with LocalEndpoint(host=host) as endpoint:
            assert re.fullmatch(r"http://(127\.0\.0\.1|\[::1\]):\d+", endpoint.url)
            async with http.get(f"{endpoint.url}/ping") as response:
                assert response.status == 200


@pytest.mark.asyncio
async def test_a_taken_port_is_named() -> None:
    async with LocalEndpoint() as endpoint:
        port = int(endpoint.url.rpartition(":")[2])
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1 port {port}"):
            async with LocalEndpoint(port=port):
                pytest.fail("two servers on one port")


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 65536), ("127.0.0.1", -1), ("a..b", 0)])
@pytest.mark.asyncio
async def test_a_place_that_is_none_is_named(host: str, port: int) -> None:
    endpoint = LocalEndpoint(host=host, port=port)
    with pytest.raises(ConfigurationError, match=f"cannot listen on {host} port {port}"):
        await endpoint.__aenter__()


def test_contradicting_arguments_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="exclude each other"):
        LocalEndpoint(lambda request: b"", upstream="http://127.0.0.1:8080")
    with pytest.raises(ConfigurationError, match="model must be callable, not str"):
        LocalEndpoint("package.module:function")  # type: ignore[arg-type] # the mistake under test
    with pytest.raises(ConfigurationError, match=r"not '127\.0\.0\.1:8080'"):
        LocalEndpoint(upstream="127.0.0.1:8080")


@pytest.mark.asyncio
async def test_a_client_that_has_gone_before_its_refusal_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def send_error(self: Exchange, _: object) -> None:
        assert self.request.transport is not None
        self.request.transport.abort()
        raise ConnectionResetError("Cannot write to closing transport")

    monkeypatch.setattr(Exchange, "send_error", send_error)
    async with (
        LocalEndpoint(secret_access_key="another") as endpoint,
        endpoint.client(aws_secret_access_key="wrong") as client,
    ):
        with pytest.raises(aiosmrt.ConnectionLost):
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
