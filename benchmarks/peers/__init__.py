"""The clients that are measured: a module each, imported only where its client is measured.

A module has `connect(url, connections)`, an asynchronous context manager that gives a `Peer`; those
of `TLS_PEERS` also take the context of an endpoint that has a certificate of our own.
"""

from __future__ import annotations

import importlib
import ssl
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from typing import cast

from benchmarks.peers import javascript
from benchmarks.peers.peer import AsyncPeer, Peer, Sample, Work

__all__ = [
    "ASYNC_PEERS",
    "PEERS",
    "TLS_PEERS",
    "AsyncPeer",
    "Peer",
    "Sample",
    "Work",
    "connect",
    "explain_absence",
]

ASYNC_PEERS = ("aiosmrt", "aiohttp", "aiobotocore", "capo")
PEERS = (*ASYNC_PEERS, "boto3", "javascript")
TLS_PEERS = ("aiosmrt", "aiohttp")

_DISTRIBUTIONS = {"capo": "capo_sagemaker_runtime"}


def explain_absence(name: str) -> str | None:
    """Say why a peer cannot be measured here, `None` where it can."""
    if name != "javascript":
        module = _DISTRIBUTIONS.get(name, name)
        return None if find_spec(module) else f"{module} is not installed"
    if javascript.read_version() is None:
        return "node or its SDK is not installed; `make bench` has npm install it"
    return None


def connect(
    name: str, url: str, connections: int, tls: ssl.SSLContext | None = None
) -> AbstractAsyncContextManager[Peer]:
    """Make the client `name` for the endpoint at `url`, with so many connections at most."""
    module = importlib.import_module(f"benchmarks.peers.{name}")
    options = {} if tls is None else {"tls": tls}
    return cast("AbstractAsyncContextManager[Peer]", module.connect(url, connections, **options))
