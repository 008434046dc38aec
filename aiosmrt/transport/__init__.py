"""The connection pool, and the border where foreign exceptions become ours.

The only folder of the client that imports aiohttp, which makes the connections (names, TLS,
proxies), and keeps those of a session that was given. All else of a connection's life is here.
"""

from __future__ import annotations

from aiosmrt.transport.content_coding import MalformedContent, read_codings
from aiosmrt.transport.decoded import decode_body, open_content
from aiosmrt.transport.descriptors import DESCRIPTOR_ADVICE, have_run_out
from aiosmrt.transport.limits import Limits
from aiosmrt.transport.pool import Pool, PoolOptions
from aiosmrt.transport.pools import Pools
from aiosmrt.transport.proxies import find_proxy
from aiosmrt.transport.response import PooledResponse
from aiosmrt.transport.slot import Slot

__all__ = [
    "DESCRIPTOR_ADVICE",
    "Limits",
    "MalformedContent",
    "Pool",
    "PoolOptions",
    "PooledResponse",
    "Pools",
    "Slot",
    "decode_body",
    "find_proxy",
    "have_run_out",
    "open_content",
    "read_codings",
]
