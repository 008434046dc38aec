from __future__ import annotations

import asyncio
import socket

import pytest

from aiosmrt.local import LocalEndpoint, LoopbackGuard


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "example.invalid", "2001:db8::1", "::ffff:192.0.2.1"]
)
def test_what_leaves_this_machine_is_refused(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    before = (socket.socket.connect, socket.getaddrinfo)
    with LoopbackGuard() as guard, socket.socket(family) as connection:
        with pytest.raises(ConnectionRefusedError, match=f"{host} port 443 is not this machine"):
            connection.connect((host, 443))
        with pytest.raises(ConnectionRefusedError):
            connection.connect_ex((host, 443))
        with pytest.raises(socket.gaierror, match="not this machine"):
            socket.getaddrinfo(host, 443)
    assert guard.refused == [f"{host} port 443"] * 3
    assert (socket.socket.connect, socket.getaddrinfo) == before


def test_datagrams_are_refused_too() -> None:
    with LoopbackGuard(), socket.socket(type=socket.SOCK_DGRAM) as connection:
        with pytest.raises(ConnectionRefusedError):
            connection.sendto(b"x", ("192.0.2.1", 53))
        assert connection.sendto(b"x", 0, ("127.0.0.1", 9)) == 1


@pytest.mark.asyncio
async def test_an_event_loop_is_covered() -> None:
    with LoopbackGuard() as guard:
        for host in ("192.0.2.1", "example.invalid"):
            with pytest.raises(OSError, match="not this machine"):
                await asyncio.open_connection(host, 443)
    assert len(guard.refused) == 2


@pytest.mark.asyncio
async def test_this_machine_is_let_through() -> None:
    with LoopbackGuard() as guard:
        async with LocalEndpoint() as endpoint, endpoint.client() as client:
            assert (await client.invoke_endpoint(endpoint_name="e", body=b"x")).json()
        for host in ("127.8.8.8", "localhost", "::1", "0.0.0.0", b"localhost", None):
            assert socket.getaddrinfo(host, 80)
    assert guard.refused == []


def test_what_is_allowed_is_let_through() -> None:
    with LoopbackGuard(["192.0.2.1"]) as guard:
        assert socket.getaddrinfo("192.0.2.1", 443)
    assert guard.refused == []
