"""The server's side of ASGI, with a browser that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

import attrs
import pytest

from aiosmrt.asgi.answer import Application


@attrs.define
class Exchange:
    """One request, and what was sent for it."""

    messages: list[MutableMapping[str, Any]] = attrs.field(factory=list)
    left: asyncio.Event = attrs.field(factory=asyncio.Event)  # by the browser
    reads: asyncio.Event = attrs.field(factory=asyncio.Event)  # who does not makes `send` wait
    sending: int = 0
    gone: bool = False  # what is sent raises

    async def receive(self) -> MutableMapping[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        assert self.sending == 0, "two messages at once"
        self.sending += 1
        try:
            if self.gone:
                raise OSError("the connection is gone")
            self.messages.append(message)
            await self.reads.wait()
        finally:
            self.sending -= 1

    def ask(self, application: Application) -> asyncio.Task[None]:
        return asyncio.ensure_future(self._ask(application))

    async def _ask(self, application: Application) -> None:
        await application({"type": "http"}, self.receive, self.send)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def is_whole(self) -> bool:
        return [message.get("more_body", True) for message in self.messages].count(False) == 1 and (
            self.messages[-1]["more_body"] is False
        )


@pytest.fixture
def exchange() -> Exchange:
    """Give a request whose browser reads all, and stays."""
    made = Exchange()
    made.reads.set()
    return made


@pytest.fixture
def make_exchange() -> Callable[[], Exchange]:
    """Give what makes requests whose browser reads nothing yet."""
    return Exchange
