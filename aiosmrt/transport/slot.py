"""A call's place in the pool."""

from __future__ import annotations

import asyncio

__all__ = ["Slot"]


class Slot:
    """A call's place in the pool; given back once."""

    __slots__ = ("_slots",)

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots: asyncio.Semaphore | None = slots

    def release(self) -> None:
        """Give the place back; idempotent."""
        if self._slots is not None:
            self._slots.release()
            self._slots = None
