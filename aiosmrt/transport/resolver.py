"""Names become addresses: by the system, in threads of our own."""

from __future__ import annotations

import socket
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from aiosmrt.threads import run_in_thread

__all__ = ["Resolver"]

# Addresses of a family that this machine has no interface for are of no use. Of its own name there
# may be nothing but those (a container without a network, Windows).
_USABLE: Final = socket.AI_ADDRCONFIG
_OWN: Final = "localhost"

# Windows has none of it, and no such fault.
_OTHER_FAULT: Final = getattr(socket, "EAI_SYSTEM", socket.EAI_FAIL)

_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Resolver(AbstractResolver):
    """Asks `getaddrinfo`, as every other program on the machine does.

    It honours /etc/hosts, nsswitch.conf, search domains and split DNS, and orders addresses by RFC
    6724. aiohttp's own resolver would be another one as soon as aiodns is installed, for whatever
    reason, which reads /etc/resolv.conf alone; without aiodns it would ask in the loop's default
    executor, where the application's own slow work may be in front.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Give the addresses of a host.

        Whoever is cancelled goes; the look-up runs on in its thread, and its result is dropped.

        Raises:
            OSError: there are none, or nobody could be asked.
        """
        return await run_in_thread(lambda: _look_up(host, port, family))

    async def close(self) -> None:
        """Have nothing to close."""


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    flags = 0 if host.lower() == _OWN else _USABLE
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=flags)
    except socket.gaierror:
        raise
    except OSError as error:
        # The number is of whatever the system did last, and may say something else.
        raise socket.gaierror(_OTHER_FAULT, error.strerror) from error
    return [
        ResolveResult(
            hostname=host,
            # With the zone of a link-local address, which is not in the address itself.
            host=socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
            if kind == socket.AF_INET6 and len(address) > 3 and address[3]  # noqa: PLR2004 - its place
            else str(address[0]),
            port=port,
            family=kind,
            proto=protocol,
            flags=_NUMERIC,
        )
        for kind, _, protocol, _, address in found
    ]
