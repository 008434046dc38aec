"""`aiosmrt serve`: a local endpoint in a process of its own."""

from __future__ import annotations

import argparse
import contextlib
import ssl
import sys
import tempfile
from pathlib import Path

from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.errors import ParameterError
from aiosmrt.local import ServiceLimits, load_certificate, load_model, make_certificate, serve

__all__ = ["serve_endpoint"]


async def serve_endpoint(arguments: argparse.Namespace) -> None:
    """Run a local endpoint until it is stopped."""
    with contextlib.ExitStack() as stack:
        await _serve_with(arguments, _find_tls(arguments, stack))


def _find_tls(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> ssl.SSLContext | None:
    if arguments.tls_cert is not None:
        return load_certificate(arguments.tls_cert, arguments.tls_key)
    if arguments.tls_key is not None:
        raise ParameterError("--tls-key is of a certificate: give that one, too, by --tls-cert")
    if not arguments.tls:
        return None
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiosmrt-")))
    context, bundle = make_certificate(arguments.host, folder)
    sys.stderr.write(f"AWS_CA_BUNDLE={bundle}\n")
    sys.stderr.flush()
    return context


async def _serve_with(arguments: argparse.Namespace, tls: ssl.SSLContext | None) -> None:
    async with contextlib.AsyncExitStack() as stack:
        upstream: str | SageMakerRuntimeClient | None = arguments.upstream
        if arguments.forward:
            upstream = await stack.enter_async_context(SageMakerRuntimeClient())
        await _serve_behind(arguments, tls, upstream)


async def _serve_behind(
    arguments: argparse.Namespace,
    tls: ssl.SSLContext | None,
    upstream: str | SageMakerRuntimeClient | None,
) -> None:
    await serve(
        load_model(arguments.model) if arguments.model else None,
        upstream=upstream,
        script=arguments.script,
        record=arguments.record,
        host=arguments.host,
        port=arguments.port,
        auth=arguments.auth,
        region_name=arguments.region_name,
        access_key_id=arguments.access_key_id,
        secret_access_key=arguments.secret_access_key,
        s3_endpoint_url=arguments.s3_endpoint_url,
        service_limits=ServiceLimits() if arguments.service_limits else None,
        tls=tls,
    )
