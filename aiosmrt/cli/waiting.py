"""Waiting for an asynchronous output at the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import sys
import time

from aiosmrt.async_inference import AsyncInvocation
from aiosmrt.cli.terminal import WIPE, can_rewrite, name_flags
from aiosmrt.plain_text import to_line

__all__ = ["wait_for_output"]


async def wait_for_output(invocation: AsyncInvocation, seconds: float) -> bytes:
    """Wait for an output, with a line on a terminal's standard error that says how long already.

    What the wait puts up with, and logs as a warning, is printed there, too.

    Raises:
        AiosmrtError: as `AsyncInvocation.result`. Before that, what `aiosmrt result` takes to go
            on waiting is written to standard error.
    """
    showing = asyncio.create_task(_show(invocation.output_location or ""))
    warnings = _Warnings(logging.WARNING)
    logger = logging.getLogger("aiosmrt")
    if not logger.isEnabledFor(logging.INFO):  # else it is shown with all that is logged
        logger.addHandler(warnings)
    try:
        output = await invocation.result(timeout=seconds)
    except BaseException:
        sys.stderr.write(f"{_wipe()}{invocation.to_json()}\n")
        raise
    finally:
        logger.removeHandler(warnings)
        showing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await showing
    return output.body


def _wipe() -> str:
    return WIPE if can_rewrite(sys.stderr) else ""


class _Warnings(logging.Handler):
    """Prints what is logged, above the line that a terminal shows."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{_wipe()}aiosmrt: {to_line(name_flags(record.getMessage()))}\n")


async def _show(location: str) -> None:
    if not can_rewrite(sys.stderr):
        return
    began = time.monotonic()
    place = to_line(location)
    try:
        while True:
            # A line that goes on in the next row could not be wiped away.
            room = shutil.get_terminal_size().columns - 1 - len("9999 s  waiting for ")
            shown = place if len(place) <= room else "…" + place[len(place) - max(room, 1) + 1 :]
            sys.stderr.write(f"\r{time.monotonic() - began:4.0f} s  waiting for {shown}")
            sys.stderr.flush()
            await asyncio.sleep(1)
    finally:
        sys.stderr.write(_wipe())
        sys.stderr.flush()
