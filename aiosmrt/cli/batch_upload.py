"""The output of a batch, when it is whole, as an object in S3."""

from __future__ import annotations

import asyncio
import functools
import os
from typing import Final

from aiosmrt.async_inference import S3, S3Location
from aiosmrt.cli.terminal import warn
from aiosmrt.errors import AiosmrtError, ParameterError
from aiosmrt.threads import run_in_thread

__all__ = ["store_output"]

_LARGEST: Final = 256 << 20  # bytes, all of which are in memory meanwhile


async def store_output(path: str, s3: S3, location: S3Location) -> None:
    """Store an output.

    Raises:
        ParameterError: it is too large.
        AiosmrtError: S3 has not taken it.
        OSError: it cannot be read.
    """
    size, body = await run_in_thread(functools.partial(_read, path))
    if size > _LARGEST:
        raise ParameterError(
            f"{path} has {size} bytes, of which {_LARGEST} can be stored at once: "
            f"aws s3 cp {path} {location}"
        )
    try:
        await s3.put(location, body, "application/x-ndjson")
    except (AiosmrtError, asyncio.CancelledError):  # by Ctrl-C
        warn(f"{path} has all of it; the same command stores it with --resume")
        raise
    warn(f"{path} is stored as {location}")


def _read(path: str) -> tuple[int, bytes]:
    with open(path, "rb") as file:  # noqa: PTH123 - a name
        return os.fstat(file.fileno()).st_size, file.read(_LARGEST)
