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

import aiosmrt
import aiosmrt.batch
import aiosmrt.sessions  # which the first call would import
from tests.soak.books import Books

__all__ = ["Load"]

_TIMEOUT: Final = aiosmrt.Timeout(connect=3, first_byte=1, idle=1, slot=10, total=20)
_E: Final[dict[str, Any]] = {"endpoint_name": "e"}


def _make_body() -> bytes:
    return bytes(int(10 ** random.uniform(1, 5.5)))


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
    _client: Any = None
    _until: float = 0.0
    _tokens: int = 0

    async def run(self, seconds: float, tasks: int) -> None:
        """Have so many tasks call for so many seconds, and leave nothing behind."""
        self._client = self._connect()
        with contextlib.suppress(aiosmrt.AiosmrtError):  # what is imported at the first call
            await self._client.warm_up()
        self._until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self._change_clients())
            group.create_task(self._keep_books())
            for _ in range(tasks):
                group.create_task(self._work())
        await self._close(self._client, 0)
        self._client = None

    def _connect(self) -> aiosmrt.SageMakerRuntimeClient:
        return aiosmrt.SageMakerRuntimeClient(
            region_name="us-east-1",
            endpoint_url=self.url,
            s3_endpoint_url=f"{self.url}/s3",
            credentials=self._find_credentials,
            verify=self.trust,
            max_connections=random.choice((20, 60, 200)),
            keep_alive=random.choice((0.05, 1, 12)),
            max_connection_age=random.choice((None, 0.5)),
            timeout=_TIMEOUT,
            retry=aiosmrt.RetryPolicy(
                mode=random.choice(("standard", "standard", "adaptive")),
                base_delay=0.01,
                throttle_base_delay=0.02,
                max_delay=0.2,
                quota=None,
            ),
            poll_interval=0.05,
            hooks=self.books.hooks,
            s3_input_prefix="s3://aiosmrt-local/in/",
        )

    async def _find_credentials(self) -> aiosmrt.Credentials:
        """Give keys that soon end, wrong ones at times, or none."""
        await asyncio.sleep(random.random() * 0.02)
        chance = random.random()
        if chance < 0.1:
            raise RuntimeError("the vault is closed")
        self._tokens += 1
        return aiosmrt.Credentials(
            "local",
            "wrong" if chance < 0.15 else "local-secret",
            f"token-{self._tokens}",
            # A minute before their end calls wait for others.
            datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60.5 + 3 * chance),
        )

    async def _change_clients(self) -> None:
        while time.monotonic() < self._until:
            await asyncio.sleep(min(random.uniform(1, 4), self._until - time.monotonic()))
            client, self._client = self._client, self._connect()
            await self._close(client, random.choice((0, 0, 0.2)))

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
        ways = (_invoke, _invoke, _invoke, _stream, _stream, _stream, _wait, _map, _talk)
        while time.monotonic() < self._until:
            await self._call(random.choice(ways))
            if random.random() < 0.1:
                await asyncio.sleep(random.random() * 0.2)

    async def _call(self, way: Callable[[Any], Awaitable[None]]) -> None:
        """Call, and break the call off at times."""
        calling = asyncio.ensure_future(way(self._client))
        if random.random() < 0.15:
            await asyncio.wait([calling], timeout=random.random() ** 2)
            calling.cancel()
        try:
            await asyncio.wait([calling])
            await calling
        except aiosmrt.AiosmrtError:
            pass
        except asyncio.CancelledError:
            if not calling.cancelled():
                raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is wrong
            self.wrong.append(f"raised: {''.join(traceback.format_exception(error))}")


async def _invoke(client: aiosmrt.SageMakerRuntimeClient) -> None:
    await client.invoke_endpoint(**_E, body=_make_body())


async def _stream(client: aiosmrt.SageMakerRuntimeClient) -> None:
    async with client.invoke_endpoint_with_response_stream(**_E, body=_make_body()) as stream:
        name: Any = random.choice(("__aiter__", "iter_text", "iter_lines", "iter_json"))
        view = getattr(stream, name)()
        leave = random.random() < 0.2
        async for _ in view:
            if leave and random.random() < 0.3:
                break
            if random.random() < 0.02:
                await asyncio.sleep(random.random() * 0.1)


async def _wait(client: aiosmrt.SageMakerRuntimeClient) -> None:
    invocation = await client.invoke_endpoint_async(**_E, body=_make_body())
    await invocation.result(timeout=3)


async def _map(client: aiosmrt.SageMakerRuntimeClient) -> None:
    rows: Any = ({**_E, "body": _make_body()} for _ in range(random.randrange(1, 20)))
    leave = random.random() < 0.2
    async with client.map(rows, max_in_flight=4) as outcomes:
        async for _ in outcomes:
            if leave and random.random() < 0.3:
                break


async def _talk(client: aiosmrt.SageMakerRuntimeClient) -> None:
    async with client.session(
        **_E, close_body={"requestType": "CLOSE"}, reopen=random.random() < 0.5, close_timeout=1
    ) as session:
        for _ in range(random.randrange(1, 5)):
            with contextlib.suppress(aiosmrt.ServiceError):
                await session.invoke_endpoint(body=_make_body())
