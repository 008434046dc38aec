"""A guard for tests: no connection leaves this machine."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Collection, Iterable
from types import TracebackType
from typing import Any, Self

from aiosmrt.settings import is_loopback

__all__ = ["LoopbackGuard"]

_LOCAL = ("", "0.0.0.0", "::", "ip6-localhost", "ip6-loopback")  # noqa: S104 - compared only
# Where each has the address: in front, behind flags, and behind what may be left out.
_METHODS = {"connect": 0, "connect_ex": 0, "sendto": -1, "sendmsg": 3}
_LOOK_UPS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr")


class LoopbackGuard:
    """Refuses connections, and look-ups of names, that leave this machine, while it is entered.

    It covers the sockets of Python, and so asyncio's own event loops, and uvloop's connections; not
    what other libraries in C open.

    Args:
        allowed: names and addresses that are let through, and where these names lead to.

    Attributes:
        refused: the places that were refused, one entry for each attempt.
    """

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self.refused: list[str] = []
        self._allowed = set(allowed)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for name, place in _METHODS.items():
                # In front of what `socket.socket` inherits from C.
                setattr(socket.socket, name, self._guard(name, place))
                stack.callback(delattr, socket.socket, name)
            for name in _LOOK_UPS:
                stack.callback(setattr, socket, name, getattr(socket, name))
                setattr(socket, name, self._guard_look_up(getattr(socket, name)))
            with contextlib.suppress(ImportError):
                self._guard_uvloop(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _guard(self, name: str, place: int) -> Callable[..., Any]:
        method = getattr(socket.socket, name)

        def guarded(connection: socket.socket, *arguments: Any) -> Any:  # noqa: ANN401 - see socket
            addressed = place < len(arguments) and arguments[place] is not None
            if addressed and connection.family in (socket.AF_INET, socket.AF_INET6):
                problem = self._judge(*arguments[place][:2])
                if problem and name == "connect_ex":
                    return errno.ECONNREFUSED
                if problem:
                    raise ConnectionRefusedError(problem)
            return method(connection, *arguments)

        return guarded

    def _guard_look_up(self, look_up: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(host: Any, port: Any = None, *rest: Any, **options: Any) -> Any:  # noqa: ANN401 - see socket
            self._check_name(host, port)
            asked = (host,) if look_up.__name__ != "getaddrinfo" else (host, port, *rest)
            found = look_up(*asked, **options)
            if host in self._allowed:
                self._allowed.update(_list_addresses(found))
            return found

        return guarded

    def _guard_uvloop(self, stack: contextlib.ExitStack) -> None:
        """Guard what it does without the sockets of Python.

        Raises:
            ImportError: it is not there.
        """
        import uvloop  # noqa: PLC0415 - an extra

        kind: Any = uvloop.Loop
        connect, find = kind.create_connection, kind.getaddrinfo

        async def create_connection(
            loop: object,
            factory: object,
            host: object = None,
            port: object = None,
            **options: object,
        ) -> object:
            if problem := self._judge(host, port):
                raise ConnectionRefusedError(problem)
            return await connect(loop, factory, host, port, **options)

        async def getaddrinfo(
            loop: object, host: object, port: object, **options: object
        ) -> object:
            self._check_name(host, port)
            found = await find(loop, host, port, **options)
            if host in self._allowed:
                self._allowed.update(_list_addresses(found))
            return found

        # In front of what the class inherits from C.
        for guarded in (create_connection, getaddrinfo):
            setattr(kind, guarded.__name__, guarded)
            stack.callback(delattr, kind, guarded.__name__)

    def _check_name(self, host: object, port: object) -> None:
        # A name of one's own is looked up by many, and leads nowhere by that.
        problem = "" if host == socket.gethostname() else self._judge(host, port)
        if problem:
            raise socket.gaierror(socket.EAI_FAIL, problem)

    def _judge(self, host: object, port: object) -> str:
        """Say that a place is refused; nothing where it is not."""
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if not isinstance(name, str) or name in self._allowed or _is_local(name):
            return ""
        place = name if port is None else f"{name} port {port}"
        self.refused.append(place)
        return f"{place} is not this machine, and refused"


def _list_addresses(found: Any) -> Iterable[str]:  # noqa: ANN401 - see the look-ups
    """Give the addresses in what a look-up has found."""
    if isinstance(found, str):
        return [found]
    if isinstance(found, tuple):
        return found[2]  # type: ignore[no-any-return]  # name, aliases, addresses
    return [entry[4][0] for entry in found]


def _is_local(host: str) -> bool:
    return host in _LOCAL or is_loopback(host.partition("%")[0])
