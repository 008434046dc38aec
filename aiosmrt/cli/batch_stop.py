"""Ctrl-C, and the signals that end a process: one drains a batch, two of them break it off."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Generator
from types import FrameType
from typing import Final

from aiosmrt.hooks import OnRetry

__all__ = ["take_signals", "was_refused"]

_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows does not have the last


@contextlib.contextmanager
def take_signals(react: Callable[[], object]) -> Generator[None]:
    """Have `react` called on the running loop for each signal that asks to end."""
    loop = asyncio.get_running_loop()

    def take(_: int, __: FrameType | None) -> None:
        loop.call_soon_threadsafe(react)

    found = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = {number: signal.signal(number, take) for number in found if not _is_by_nohup(number)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_by_nohup(number: signal.Signals) -> bool:
    """Tell whether somebody has said that the end of a session is not to end this process."""
    return number.name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN


def was_refused(event: OnRetry) -> bool:
    """Tell whether it is a row that waits, and no model has it: S3 is asked of rows that were."""
    return event.service == "sagemaker-runtime" and not event.error.may_have_run
