"""A client's pools: one for each event loop that it is used in."""

from __future__ import annotations

import asyncio
import os

from aiosmrt.errors import ClientClosed
from aiosmrt.transport.pool import Pool, PoolOptions

__all__ = ["Pools"]


class Pools:
    """The pools of a client and of all clients derived from it.

    Sockets belong to a loop: a client at module level, used under one `asyncio.run` after another
    or in several threads, has a pool in each. After a fork they belong to the parent.
    """

    def __init__(self) -> None:
        self._pools: list[Pool] = []
        self._last: Pool | None = None
        self._process = os.getpid()
        self._parents: list[Pool] = []
        self.closed = False

    @property
    def open(self) -> bool:
        """Whether there is a pool that somebody has to close."""
        return self._process == os.getpid() and any(not pool.closed for pool in self._pools)

    def find(self) -> Pool | None:
        """Give the running loop's pool, `None` if there is none yet.

        Raises:
            ClientClosed: the client was closed.
        """
        if self.closed:
            raise ClientClosed("the client is closed; make another one")
        if self._process != os.getpid():
            # Closing them here would tell the parent's selector to forget its sockets.
            self._parents += self._pools
            self._pools, self._last, self._process = [], None, os.getpid()
        loop = asyncio.get_running_loop()
        if self._last is not None and self._last.is_of(loop) and not self._last.closed:
            return self._last
        self._pools = [pool for pool in self._pools if not pool.closed]
        self._last = next((pool for pool in self._pools if pool.is_of(loop)), None)
        return self._last

    async def make(self, options: PoolOptions) -> Pool:
        """Give the running loop's pool, made now if there is none yet."""
        pool = self.find()
        if pool is None:
            pool = self._last = Pool(options)
            self._pools.append(pool)
            await pool.keep()
        return pool

    async def aclose(self) -> None:
        """Close the pools; those of other running loops in their own loops. Idempotent."""
        self.closed = True
        pools, self._pools, self._last = self._pools, [], None
        here = asyncio.get_running_loop()
        if self._process != os.getpid():
            return
        for pool in pools:
            if pool.is_of(here):
                await pool.aclose()
            elif pool.loop.is_running():
                await asyncio.wrap_future(
                    asyncio.run_coroutine_threadsafe(pool.aclose(), pool.loop)
                )
            # A loop that does not run closes its pool when it shuts down.
