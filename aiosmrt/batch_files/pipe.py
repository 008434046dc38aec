"""An output that is no file: a pipe, a terminal, a device. Nothing can be gone on with."""

from __future__ import annotations

import os
from collections.abc import Sequence

import attrs

from aiosmrt.batch_files.output_line import Record

__all__ = ["Pipe"]


@attrs.define
class Pipe:
    """Takes lines of the output. It blocks.

    Attributes:
        descriptor: of the open file.
        name: of it, for errors.
    """

    descriptor: int
    name: str

    @property
    def fault(self) -> None:
        """Never known beforehand."""
        return

    def write(self, lines: Sequence[bytes], begun: Sequence[int], in_flight: int) -> None:  # noqa: ARG002 - of a journal
        """Write lines.

        Raises:
            OSError: not all of them could be written.
        """
        rest = memoryview(b"".join(lines))
        try:
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.name) from None

    def forget(self, rows: Sequence[int]) -> None:
        """Nothing was noted."""

    def settle(self, record: Record) -> None:
        """Nobody will ask."""

    def sync(self) -> None:
        """What was written is gone."""
