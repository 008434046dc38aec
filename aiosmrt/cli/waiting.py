"""Waiting for an asynchronous output at the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time

from aiosmrt.async_inference import AsyncInvocation
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
        sys.stderr.write(f"{invocation.to_json()}\n")
        raise
    finally:
        logger.removeHandler(warnings)
        showing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await showing
    return output.body


class _Warnings(logging.Handler):
    """Prints what is logged, above the line that a terminal shows."""

    def emit(self, record: logging.LogRecord) -> None:
        wiped = "\r\x1b[K" if sys.stderr.isatty() else ""
        sys.stderr.write(f"{wiped}aiosmrt: {to_line(record.getMessage())}\n")


async def _show(location: str) -> None:
    if not sys.stderr.isatty():
        return
    began = time.monotonic()
    place = to_line(location)
    try:
        while True:
            sys.stderr.write(f"\r{time.monotonic() - began:4.0f} s  waiting for {place}")
            sys.stderr.flush()
            await asyncio.sleep(1)
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
