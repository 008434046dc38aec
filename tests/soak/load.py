"""Tasks that call in every way, and clients that come and go meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import random
import ssl
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import openai

import aiosmrt
import aiosmrt.batch
import aiosmrt.openai
import aiosmrt.sessions  # which the first call would import
from tests.soak.books import Books

__all__ = ["Load"]

_TIMEOUT: Final = aiosmrt.Timeout(connect=3, first_byte=2, idle=2, slot=10, total=20)
_CLIENTS: Final = 4  # at a time
_LIFE: Final = 15.0  # seconds of each


def _make_body() -> bytes:
    return bytes(int(10 ** random.uniform(1, random.choice((4, 4, 5.5)))))


@attrs.define
class Load:
    """Calls a server for some seconds.

    Attributes:
        url: of the server.
        trust: whom its certificate is from.
        books: which the clients' hooks keep.
        wrong: what was raised that is no error of this package, and slots that were kept.
    """

    url: str
    trust: ssl.SSLContext | None
    books: Books
    wrong: list[str] = attrs.field(factory=list)
    _clients: list[aiosmrt.SageMakerRuntimeClient] = attrs.field(factory=list)
    _until: float = 0.0
    _tokens: int = 0

    async def begin(self) -> None:
        """Connect, and have done what is imported, or made, at a first call.

        The first of the clients stays until the end: what such a one gathers would be a leak.
        """
        self._clients = [self._connect() for _ in range(_CLIENTS)]
        await asyncio.gather(*map(self._call, 10 * [_invoke, _chat]))

    async def run(self, seconds: float, tasks: int) -> None:
        """Have so many tasks call for so many seconds, and wait until they have ended."""
        self._until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self._change_clients())
            group.create_task(self._keep_books())
            for _ in range(tasks):
                group.create_task(self._work())
        await self.books.compare(all_of_them=True)

    async def end(self) -> None:
        """Leave nothing behind."""
        while self._clients:
            await self._close(self._clients.pop(), 0)

    def _connect(self) -> aiosmrt.SageMakerRuntimeClient:
        return aiosmrt.SageMakerRuntimeClient(
            region_name="us-east-1",
            endpoint_url=self.url,
            s3_endpoint_url=f"{self.url}/s3",
            credentials=self._find_credentials,
            verify=self.trust,
            max_connections=random.choice((10, 30, 100)),
            keep_alive=random.choice((0.05, 1, 12)),
            max_connection_age=random.choice((None, 0.5)),
            timeout=_TIMEOUT,
            retry=aiosmrt.RetryPolicy(
                mode=random.choice(("standard", "standard", "adaptive")),
                base_delay=0.01,
                throttle_base_delay=0.02,
                max_delay=0.2,
                quota=None,
                capacity_wait=random.choice((0, 0, 2)),
            ),
            poll_interval=0.05,
            hooks=self.books.hooks,
            s3_input_prefix="s3://aiosmrt-local/in/",
        )

    async def _find_credentials(self) -> aiosmrt.Credentials:
        """Give keys that soon end, wrong ones at times, or none."""
        await asyncio.sleep(random.random() * 0.02)
        chance = random.random()
        if chance < 0.05:
            raise RuntimeError("the vault is closed")
        self._tokens += 1
        return aiosmrt.Credentials(
            "local",
            "wrong" if chance < 0.06 else "local-secret",
            f"token-{self._tokens}",
            # Half of it before their end they are renewed, and in its last tenth calls wait.
            datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2 + 6 * chance),
        )

    async def _change_clients(self) -> None:
        while time.monotonic() < self._until:
            pause = random.uniform(0.5, 1.5) * _LIFE / _CLIENTS
            await asyncio.sleep(min(pause, self._until - time.monotonic()))
            place = random.randrange(1, _CLIENTS)
            client, self._clients[place] = self._clients[place], self._connect()
            await self._close(client, random.choice((0, 0.2, 1)))

    async def _close(self, client: aiosmrt.SageMakerRuntimeClient, grace: float) -> None:
        await client.aclose(grace)
        deadline = time.monotonic() + 2
        while (stats := client.stats()) != aiosmrt.ClientStats(0, 0, 0, 0):
            if time.monotonic() > deadline:
                self.wrong.append(f"slots: {stats} of a client that was closed")
                return
            await asyncio.sleep(0.02)

    async def _keep_books(self) -> None:
        while time.monotonic() < self._until:
            await asyncio.sleep(1)
            await self.books.compare()

    async def _work(self) -> None:
        ways = (_invoke, _invoke, _invoke, _stream, _stream, _stream, _wait, _map, _talk, _chat)
        while time.monotonic() < self._until:
            await self._call(random.choice(ways))
            await asyncio.sleep(random.random() * 0.2)

    async def _call(self, way: Callable[[Any], Awaitable[None]]) -> None:
        """Call, and break the call off at times."""
        calling = asyncio.ensure_future(way(random.choice(self._clients)))
        if random.random() < 0.1:
            await asyncio.wait([calling], timeout=random.random() ** 2)
            calling.cancel()
        try:
            await asyncio.wait([calling])
            await calling
        except (aiosmrt.AiosmrtError, openai.OpenAIError):
            pass
        except asyncio.CancelledError:
            if not calling.cancelled():
                raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is wrong
            self.wrong.append(f"raised: {''.join(traceback.format_exception(error))}")
        finally:
            del calling  # an error refers to this frame, and would be its own garbage


async def _invoke(client: aiosmrt.SageMakerRuntimeClient) -> None:
    await client.invoke_endpoint(endpoint_name="invoke", body=_make_body())


async def _stream(client: aiosmrt.SageMakerRuntimeClient) -> None:
    async with client.invoke_endpoint_with_response_stream(
        endpoint_name="stream", body=_make_body()
    ) as stream:
        name: Any = random.choice(("__aiter__", "iter_text", "iter_lines", "iter_json"))
        view = getattr(stream, name)()
        leave = random.random() < 0.2
        async for _ in view:
            if leave and random.random() < 0.3:
                break
            if random.random() < 0.02:
                await asyncio.sleep(random.random() * 0.1)


async def _wait(client: aiosmrt.SageMakerRuntimeClient) -> None:
    invocation = await client.invoke_endpoint_async(endpoint_name="async", body=_make_body())
    await invocation.result(timeout=3)


async def _map(client: aiosmrt.SageMakerRuntimeClient) -> None:
    rows: Any = (
        {"endpoint_name": "batch", "body": _make_body()} for _ in range(random.randrange(1, 20))
    )
    leave = random.random() < 0.2
    async with client.map(rows, max_in_flight=4) as outcomes:
        async for _ in outcomes:
            if leave and random.random() < 0.3:
                break


async def _talk(client: aiosmrt.SageMakerRuntimeClient) -> None:
    async with client.session(
        endpoint_name="session",
        close_body={"requestType": "CLOSE"},
        reopen=random.random() < 0.5,
        close_timeout=1,
    ) as session:
        for _ in range(random.randrange(1, 5)):
            with contextlib.suppress(aiosmrt.ServiceError):
                await session.invoke_endpoint(body=_make_body())


async def _chat(client: aiosmrt.SageMakerRuntimeClient) -> None:
    said: Any = [{"role": "user", "content": "x" * random.randrange(10_000)}]
    async with aiosmrt.openai.connect(client, endpoint_name="openai") as ai:
        if random.random() < 0.3:
            await ai.chat.completions.create(model="m", messages=said)
            return
        leave = random.random() < 0.2
        async with await ai.chat.completions.create(
            model="m", messages=said, stream=True
        ) as chunks:
            async for _ in chunks:
                if leave and random.random() < 0.1:
                    break
