"""Whose turn it is in a session."""

from __future__ import annotations

import asyncio
import logging

from aiosmrt.plain_text import to_line

__all__ = ["Turn", "Turns"]

_log = logging.getLogger("aiosmrt")

# Seconds of waiting that are worth a line in the log: who reads a stream, and makes a call of the
# same session meanwhile, waits for ever.
_PATIENCE = 5.0


class Turns:
    """Gives turns in the order in which they are asked for, on whichever event loop there is.

    Args:
        endpoint_name: whose session it is, for people.
    """

    def __init__(self, endpoint_name: str) -> None:
        self._endpoint_name = endpoint_name
        self._told_of_waiting = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock: asyncio.Lock | None = None

    def find_lock(self) -> asyncio.Lock:
        """Give what the running loop has to lock.

        Raises:
            RuntimeError: a call is under way on another loop.
        """
        loop = asyncio.get_running_loop()
        if self._lock is None or self._loop is not loop:
            # Of a loop that is closed, nobody is left to give a turn back.
            busy = self._lock is not None and self._lock.locked()
            if busy and self._loop is not None and not self._loop.is_closed():
                raise RuntimeError(
                    "this session has a call under way on another event loop: use it on one at a "
                    "time, or open one for each"
                )
            self._loop, self._lock = loop, asyncio.Lock()
        return self._lock

    def tell_of_waiting(self) -> None:
        """Say in the log that somebody waits for a turn; once."""
        if not self._told_of_waiting:
            self._told_of_waiting = True
            _log.warning(
                "a call has waited %g s for its turn in a session on %s: calls are in order, and a "
                "stream keeps its turn until it is over; close streams as soon as they are of no "
                "use, or give the session in_order=False",
                _PATIENCE,
                to_line(self._endpoint_name),
            )


class Turn:
    """One call's turn: it may be given back and taken again."""

    __slots__ = ("_lock", "_turns")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._lock: asyncio.Lock | None = None

    async def take(self) -> None:
        """Wait for the turn, unless it is taken already."""
        if self._lock is None:
            lock = self._turns.find_lock()
            loop = asyncio.get_running_loop()
            impatience = loop.call_later(_PATIENCE, self._turns.tell_of_waiting)
            try:
                await lock.acquire()
            finally:
                impatience.cancel()
            self._lock = lock

    def release(self) -> None:
        """Pass the turn on, if it is taken."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
