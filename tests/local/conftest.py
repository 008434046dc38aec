"""boto3 as the judge, and model containers of aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import aiohttp
import boto3
import pytest
import pytest_asyncio
from aiohttp import web
from botocore.config import Config

from aiosmrt.local import LocalEndpoint

Connect: TypeAlias = Callable[..., Any]
Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
RunContainer: TypeAlias = Callable[[Handler], AbstractAsyncContextManager[str]]


@pytest.fixture(scope="session")
def _session() -> boto3.Session:
    return boto3.Session(region_name="eu-central-1")


@pytest.fixture
def connect(_session: boto3.Session) -> Iterator[Connect]:
    """Give a boto3 client of an endpoint that never retries; it is closed after the test."""
    clients = []

    def _connect(
        endpoint: LocalEndpoint,
        key_id: str = "local",
        secret: str = "local-secret",
        *,
        url: str | None = None,
        verify: str | None = None,
        service: str = "sagemaker-runtime",
        **config: object,
    ) -> Any:
        client = _session.client(
            service,
            endpoint_url=url or endpoint.url,
            config=Config(retries={"max_attempts": 0}, proxies={}, **config),
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            verify=verify,
        )
        clients.append(client)
        return client

    yield _connect
    for client in clients:
        client.close()


@pytest.fixture
def connect_s3(connect: Connect) -> Connect:
    """Give a boto3 client of the S3 that an endpoint serves; `s3` are botocore's S3 options."""

    def _connect_s3(
        endpoint: LocalEndpoint,
        *,
        url: str | None = None,
        s3: dict[str, object] | None = None,
        **options: object,
    ) -> Any:
        return connect(
            endpoint,
            service="s3",
            url=f"{url or endpoint.url}/s3",
            s3={"addressing_style": "path", **(s3 or {})},
            **options,
        )

    return _connect_s3


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def run_container() -> RunContainer:
    """Run a handler as a model container on loopback and give its URL."""

    @contextlib.asynccontextmanager
    async def run(handler: Handler) -> AsyncIterator[str]:
        server = web.Server(handler, handler_cancellation=True)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
            await asyncio.sleep(0)

    return run
