"""The connection pool, and the border where foreign exceptions become ours.

The only folder of the client that imports aiohttp. Where aiohttp alone would break a promise, a
comment says so, and a test fails if the way around it stops working.
"""

from __future__ import annotations

from aiosmrt.transport.pool import Pool, PoolOptions
from aiosmrt.transport.pools import Pools
from aiosmrt.transport.response import PooledResponse
from aiosmrt.transport.slot import Slot

__all__ = ["Pool", "PoolOptions", "PooledResponse", "Pools", "Slot"]
