"""What is written for people to read: plain text, whoever has chosen the words."""

from __future__ import annotations

import codecs
import contextlib
import sys

from aiosmrt.plain_text import strip_controls, to_line

__all__ = ["Output", "complain"]


def complain(error: Exception) -> None:
    """Say on one line of standard error what went wrong."""
    sys.stderr.write(f"aiosmrt: {type(error).__name__}: {to_line(str(error))}\n")


class Output:
    """Standard output: a file or a pipe gets a model's bytes as they are, a terminal text.

    What controls a terminal, such as the sequences that move its cursor or set its title, could
    make it show what nobody has said, and is left out.
    """

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, data: bytes) -> None:
        """Write the next bytes, in any split, at once."""
        if self.is_terminal:
            data = strip_controls(self._decoder.decode(data)).encode()
        sys.stdout.buffer.write(data)
        with contextlib.suppress(ValueError):
            sys.stdout.buffer.flush()
