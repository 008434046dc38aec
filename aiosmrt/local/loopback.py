"""A guard for tests: no connection leaves this machine."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any, Self

from aiosmrt.settings import is_loopback

__all__ = ["LoopbackGuard"]

_LOCAL = ("", "0.0.0.0", "::", "ip6-localhost")  # noqa: S104 - compared only
_METHODS = ("connect", "connect_ex", "sendto")


class LoopbackGuard:
    """Refuses connections, and look-ups of names, that leave this machine, while it is entered.

    It covers the sockets of Python, and so asyncio's own event loops, but not what uvloop and other
    libraries in C open.

    Args:
        allowed: names and addresses that are let through.

    Attributes:
        refused: the places that were asked for in vain, each as often as it was.
    """

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self.refused: list[str] = []
        self._allowed = allowed
        self._look_up = socket.getaddrinfo

    def __enter__(self) -> Self:
        for name in _METHODS:
            # In front of what `socket.socket` inherits from C.
            setattr(socket.socket, name, self._guard(name))
        socket.getaddrinfo = self._find
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        socket.getaddrinfo = self._look_up
        for name in _METHODS:
            delattr(socket.socket, name)

    def _guard(self, name: str) -> Callable[..., Any]:
        method = getattr(socket.socket, name)

        def guarded(connection: socket.socket, *arguments: Any) -> Any:  # noqa: ANN401 - see socket
            if connection.family in (socket.AF_INET, socket.AF_INET6):
                problem = self._judge(*arguments[-1][:2])  # the address comes last
                if problem:
                    raise ConnectionRefusedError(problem)
            return method(connection, *arguments)

        return guarded

    def _find(self, host: Any, port: Any, *rest: Any, **options: Any) -> Any:  # noqa: ANN401 - see socket
        problem = self._judge(host, port)
        if problem:
            raise socket.gaierror(socket.EAI_FAIL, problem)
        return self._look_up(host, port, *rest, **options)

    def _judge(self, host: object, port: object) -> str:
        """Say that a place is refused; nothing where it is not."""
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if not isinstance(name, str) or name in self._allowed or _is_local(name):
            return ""
        self.refused.append(f"{name} port {port}")
        return f"{name} port {port} is not this machine, and refused"


def _is_local(host: str) -> bool:
    return host in _LOCAL or is_loopback(host.partition("%")[0])
