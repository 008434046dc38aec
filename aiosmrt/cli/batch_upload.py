"""The output of a batch, when it is whole, as an object in S3."""

from __future__ import annotations

import asyncio
import functools
import mmap
import os
from typing import Final, cast

from aiosmrt.async_inference import S3, S3Location
from aiosmrt.cli.terminal import warn
from aiosmrt.errors import AiosmrtError, ParameterError
from aiosmrt.threads import run_in_thread

__all__ = ["store_output"]

_LARGEST: Final = 5 << 30  # bytes, of what is stored at once ("Amazon S3 multipart upload limits")


async def store_output(path: str, s3: S3, location: S3Location) -> None:
    """Store an output.

    Raises:
        ParameterError: it is too large.
        AiosmrtError: S3 has not taken it.
        OSError: it cannot be read.
    """
    body = await run_in_thread(functools.partial(_map, path))
    if len(body) > _LARGEST:
        raise ParameterError(
            f"{path} has {len(body)} bytes, of which {_LARGEST} can be stored at once: "
            f"aws s3 cp {path} {location}"
        )
    try:
        await s3.put(location, body, "application/x-ndjson")
    except (AiosmrtError, asyncio.CancelledError):  # by Ctrl-C
        warn(f"{path} has all of it; the same command stores it with --resume")
        raise
    warn(f"{path} is stored as {location}")


def _map(path: str) -> bytes:
    """Give what is in a file, which the system reads as it is sent, and holds no longer."""
    with open(path, "rb") as file:  # noqa: PTH123 - a name
        if not os.fstat(file.fileno()).st_size:
            return b""
        # It is hashed and sliced as bytes are, which is all that happens to a body.
        return cast("bytes", mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
