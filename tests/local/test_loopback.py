from __future__ import annotations

import asyncio
import errno
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
        assert connection.connect_ex((host, 443)) == errno.ECONNREFUSED
        with pytest.raises(socket.gaierror, match="not this machine"):
            socket.getaddrinfo(host, 443)
        for look_up in (socket.gethostbyname, socket.gethostbyname_ex, socket.gethostbyaddr):
            with pytest.raises(socket.gaierror, match="not this machine"):
                look_up(host)
    assert guard.refused == [f"{host} port 443"] * 3 + [host] * 3
    assert (socket.socket.connect, socket.getaddrinfo) == before


def test_datagrams_are_refused_too() -> None:
    with LoopbackGuard(), socket.socket(type=socket.SOCK_DGRAM) as connection:
        with pytest.raises(ConnectionRefusedError):
            connection.sendto(b"x", ("192.0.2.1", 53))
        with pytest.raises(ConnectionRefusedError):
            connection.sendmsg([b"x"], [], 0, ("192.0.2.1", 53))
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


def test_an_allowed_name_leads_where_it_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: object, port: object) -> object:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with LoopbackGuard(["db.example"]) as guard, socket.socket() as connection:
        connection.settimeout(0)
        assert connection.connect_ex(("192.0.2.1", 443)) == errno.ECONNREFUSED
        assert socket.getaddrinfo("db.example", 443)
        connection.connect_ex(("192.0.2.1", 443))
    assert guard.refused == ["192.0.2.1 port 443"]


def test_uvloop_is_covered() -> None:
    uvloop = pytest.importorskip("uvloop")
    before = uvloop.Loop.create_connection

    async def reach() -> None:
        for host in ("192.0.2.1", "example.invalid"):
            with pytest.raises(OSError, match="not this machine"):
                await asyncio.open_connection(host, 443)
        with pytest.raises(OSError, match="not this machine"):
            await asyncio.get_running_loop().getaddrinfo("example.invalid", 443)
        async with LocalEndpoint() as endpoint, endpoint.client() as client:
            assert (await client.invoke_endpoint(endpoint_name="e", body=b"x")).json()

    with LoopbackGuard() as guard:
        uvloop.run(reach())
        assert socket.getaddrinfo(socket.gethostname(), 80)
    assert len(guard.refused) == 3
    assert uvloop.Loop.create_connection is before
