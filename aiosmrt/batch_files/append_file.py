"""A file that grows by whole lines, also where the disk is full. All of it blocks."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["AppendFile", "Reserve", "sync_folder"]

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_MODE: Final = 0o666  # less the umask, as `open` has it
_ZEROS: Final = bytes(1 << 16)


class Reserve:
    """Room on the disk that is kept for what must still be written when the disk is full.

    A file of that size is it: it goes when the room is needed.

    Args:
        path: of the file.

    Attributes:
        used: whether the room was needed.
        is_short: whether the disk has not had as much room as was asked for.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._size = 0
        # Room may be needed in one thread while another asks for more.
        self._lock = threading.Lock()
        self.used: bool = False
        self.is_short: bool = False

    def hold(self, size: int) -> None:
        """Keep at least so many bytes, or as many as there are, unless they were needed already."""
        with self._lock:
            if size <= self._size or self.used:
                return
            try:
                self._grow(size)
            except OSError:
                self.is_short = True

    def _grow(self, size: int) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _MODE)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size)
                self._size = size
            while self._size < size:
                self._size += os.write(descriptor, _ZEROS)
        finally:
            os.close(descriptor)

    def use(self) -> bool:
        """Give the room back to the disk; false where there is none."""
        with self._lock:
            used, self.used = self.used, True
            self._remove()
        return not used

    def drop(self) -> None:
        """Remove the file. Idempotent."""
        with self._lock:
            self._remove()

    def _remove(self) -> None:
        self._size = 0
        with contextlib.suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108 - a name, as the user has it


class AppendFile:
    """A file whose end is always that of a line.

    Args:
        path: of a regular file, which is made where there is none.
        reserve: where room comes from when the disk is full.

    Attributes:
        size: bytes that it has.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str, reserve: Reserve | None = None) -> None:
        self.path = path
        self._reserve = reserve
        # Other threads write than those that see to it that all is on the disk.
        self._lock = threading.Lock()
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self.path, flags, _MODE)
        self.size: int = os.fstat(self._descriptor).st_size

    def append(self, data: bytes) -> None:
        """Add whole lines: all of them, or none.

        Raises:
            OSError: they cannot be written.
        """
        with self._lock:
            try:
                self._write(data)
            except OSError as error:
                if error.errno not in _FULL or self._reserve is None or not self._reserve.use():
                    raise
                self._write(data)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.size)
            raise OSError(error.errno, error.strerror, self.path) from None
        self.size += len(data)

    def truncate(self, size: int) -> None:
        """Cut off what is behind so many bytes.

        Raises:
            OSError: it cannot be cut.
        """
        os.ftruncate(self._descriptor, size)
        self.size = size

    def replace(self, work: Callable[[], None]) -> None:
        """Close it while another is put into its place, and open that.

        Raises:
            OSError: it was not, or cannot be opened.
        """
        self.close()
        work()
        self._open()

    def sync(self) -> int:
        """Wait until all that was appended is on the disk; give how many bytes the file has there.

        Raises:
            OSError: it is not.
        """
        size = self.size
        os.fsync(self._descriptor)
        return size

    def lock(self) -> bool:
        """Keep other processes from locking it until it is closed; false where one has locked it.

        Windows has no such locks.
        """
        try:
            import fcntl  # noqa: PLC0415 - not on Windows
        except ModuleNotFoundError:
            return True
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system that knows no locks
            return True
        return True

    def close(self) -> None:
        """Close it. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def sync_folder(path: str) -> None:
    """See to it that a file that was made or renamed is found under its name after a crash."""
    folder = os.path.dirname(path) or os.curdir  # noqa: PTH120 - as above
    with contextlib.suppress(OSError):  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
