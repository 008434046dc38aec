"""`aiosmrt serve`: a local endpoint that runs until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from aiosmrt.local.endpoint import LocalEndpoint
from aiosmrt.local.limits import ServiceLimits
from aiosmrt.local.model import Model

if TYPE_CHECKING:
    import ssl

    from aiosmrt.client import SageMakerRuntimeClient

__all__ = ["serve"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def serve(
    model: Model | None = None,
    *,
    upstream: str | SageMakerRuntimeClient | None = None,
    script: Path | None = None,
    record: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    auth: bool = True,
    region_name: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    s3_endpoint_url: str | None = None,
    service_limits: ServiceLimits | None = None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Run a `LocalEndpoint` until SIGINT, SIGTERM or cancellation; a signal is a normal return.

    Its URL, alone, is the first line on standard output once it answers. The arguments are those
    of `LocalEndpoint`, and two files: a script to follow, beside which nothing is answered unless
    there is a model or an upstream, and one to record answers in. Requests are not kept. Signals
    are watched in the main thread alone, and not on Windows, whose event loops cannot.

    Raises:
        ConfigurationError: contradicting arguments, or an address or a file that cannot be used.
        AiosmrtError: the S3 at `s3_endpoint_url` cannot be used.
    """
    stop = asyncio.Event()
    endpoint = LocalEndpoint(
        model,
        upstream=upstream,
        host=host,
        port=port,
        auth=auth,
        region_name=region_name,
        access_key_id=access_key_id,
        secret_access_key=secret_access_key,
        s3_endpoint_url=s3_endpoint_url,
        service_limits=service_limits,
        tls=tls,
        strict=script is not None and model is None and upstream is None,
        keep_requests=0,
    )
    if script is not None:
        endpoint.follow(script)
    if record is not None:
        endpoint.record(to=record)
    watched = _watch(stop)
    try:
        async with endpoint:
            sys.stdout.write(f"{endpoint.url}\n")
            sys.stdout.flush()
            await stop.wait()
    finally:
        for number in watched:
            asyncio.get_running_loop().remove_signal_handler(number)


def _watch(stop: asyncio.Event) -> tuple[signal.Signals, ...]:
    if threading.current_thread() is not threading.main_thread():
        return ()
    loop = asyncio.get_running_loop()
    try:
        for number in _SIGNALS:
            loop.add_signal_handler(number, stop.set)
    except NotImplementedError:
        return ()
    return _SIGNALS
