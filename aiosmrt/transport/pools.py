"""A client's pools: one for each event loop that it is used in."""

from __future__ import annotations

import asyncio
import os

from aiosmrt.errors import ClientClosed
from aiosmrt.models import ClientStats
from aiosmrt.transport.pool import Pool, PoolOptions

__all__ = ["Pools"]

# Seconds that closing waits for another thread's loop, which may be about to stop.
_CLOSING = 1.0


class Pools:
    """The pools of a client and of all clients derived from it.

    Sockets belong to a loop: a client at module level, used under one `asyncio.run` after another
    or in several threads, has a pool in each. After a fork they belong to the parent.
    """

    def __init__(self) -> None:
        # By loop, with no more than one operation on it at a time: threads share it.
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}
        self._process = os.getpid()
        self._parents: list[Pool] = []
        self.closed: bool = False

    @property
    def open(self) -> bool:
        """Whether there is a pool that somebody has to close."""
        self._leave_the_parents()
        return any(not pool.closed for pool in tuple(self._pools.values()))

    def count(self) -> ClientStats:
        """Tell what those that are open are busy with."""
        self._leave_the_parents()
        counts = [pool.count() for pool in tuple(self._pools.values()) if not pool.closed]
        return ClientStats(
            in_flight=sum(count.in_flight for count in counts),
            waiting_for_slot=sum(count.waiting_for_slot for count in counts),
            open_streams=sum(count.open_streams for count in counts),
            idle_connections=sum(count.idle_connections for count in counts),
        )

    def find(self) -> Pool | None:
        """Give the running loop's pool, `None` if there is none yet.

        Raises:
            ClientClosed: the client was closed.
        """
        if self.closed:
            raise ClientClosed("the client is closed; make another one")
        self._leave_the_parents()
        pool = self._pools.get(asyncio.get_running_loop())
        return None if pool is None or pool.closed else pool

    async def make(self, options: PoolOptions) -> Pool:
        """Give the running loop's pool, made now if there is none yet."""
        pool = self.find()
        if pool is None:
            for other in tuple(self._pools.values()):
                if other.closed:
                    self._pools.pop(other.loop, None)
            pool = self._pools[asyncio.get_running_loop()] = Pool(options)
            await pool.keep()
        return pool

    async def aclose(self, grace: float = 0.0) -> None:
        """Close the pools; those of other running loops in their own loops. Idempotent.

        Args:
            grace: as for a pool; no further call is taken meanwhile.
        """
        self.closed = True
        self._leave_the_parents()
        await asyncio.gather(*(self._close(pool, grace) for pool in tuple(self._pools.values())))

    async def _close(self, pool: Pool, grace: float) -> None:
        if pool.loop is asyncio.get_running_loop():
            await pool.aclose(grace)
        elif pool.loop.is_running():
            there = asyncio.run_coroutine_threadsafe(pool.aclose(grace), pool.loop)
            await asyncio.wait([asyncio.wrap_future(there)], timeout=grace + _CLOSING)
        # A loop that does not run, or stops meanwhile, closes its pool when it shuts down.

    def _leave_the_parents(self) -> None:
        """Start anew after a fork."""
        if self._process != os.getpid():
            # Closing them here, or collecting them as garbage, would tell the parent's selector
            # to forget its sockets.
            self._parents += self._pools.values()
            self._pools, self._process = {}, os.getpid()
