"""A file that is there whole or not at all, written off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import Callable
from typing import IO

from aiosmrt.redaction import Redacted
from aiosmrt.threads import run_in_thread

__all__ = ["PartFile"]


class PartFile:
    """Gathers bytes in a temporary file beside its target, and takes the target's place at last.

    Its methods wait for their thread even where they are cancelled, so that no two threads are
    ever at the same file. They raise `OSError`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._file: IO[bytes] | None = None

    async def write(self, data: bytes) -> None:
        """Add bytes; the first ones make the temporary file."""
        added = Redacted(data)
        del data

        def work() -> None:
            if self._file is None:
                folder, name = os.path.split(self._path)
                part = os.path.join(folder, f".{name}.{uuid.uuid4().hex}.part")  # noqa: PTH118
                self._file = open(part, "xb")  # noqa: SIM115, PTH123 - `discard` closes it
            self._file.write(added.value)

        await _run_to_end(work)

    async def finish(self) -> None:
        """Put the file in its place; on the disk first, as a crash may come."""

        def work() -> None:
            if self._file is not None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                os.replace(self._file.name, self._path)  # noqa: PTH105
                self._file = None

        await _run_to_end(work)

    async def discard(self) -> None:
        """Remove what was not finished. Idempotent."""
        file = self._file
        if file is None:
            return

        def work() -> None:
            file.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file.name)  # noqa: PTH108
            self._file = None

        await _run_to_end(work)


async def _run_to_end(work: Callable[[], None]) -> None:
    task = asyncio.create_task(run_in_thread(work))
    # Whoever was cancelled does not ask for the exception.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    cancelled: tuple[object, ...] | None = None
    try:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error.args
        if cancelled is not None:
            raise asyncio.CancelledError(*cancelled)
        task.result()
    finally:
        del task  # the traceback of its exception refers to this frame
