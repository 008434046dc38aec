"""A file that is there whole or not at all. It blocks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from typing import BinaryIO

from aiosmrt.batch_files.append_file import sync_folder

__all__ = ["open_whole"]


@contextlib.contextmanager
def open_whole(path: str) -> Generator[BinaryIO]:
    """Open a file beside another, which takes its place at the end of the block, on the disk first.

    Where the block fails, the old one stays, and nothing is left beside it.

    Raises:
        OSError: it cannot be written.
    """
    place = os.path.realpath(path)  # a link stays one
    part = f"{place}.part"
    try:
        with open(part, "wb") as file:  # noqa: PTH123 - a name, as the user has it
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, place)  # noqa: PTH105 - as above
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or path) from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)  # noqa: PTH108 - as above
    sync_folder(place)
