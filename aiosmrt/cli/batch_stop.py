"""Ctrl-C, and the signal that ends a process: once they drain a batch, twice they break it off."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Generator
from types import FrameType
from typing import Final

__all__ = ["take_signals"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def take_signals(react: Callable[[], None]) -> Generator[None]:
    """Have `react` called on the running loop for each signal that asks to end."""
    loop = asyncio.get_running_loop()

    def take(_: int, __: FrameType | None) -> None:
        loop.call_soon_threadsafe(react)

    before = {number: signal.signal(number, take) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
