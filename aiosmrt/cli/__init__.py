"""The `aiosmrt` command."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the program's name; by default the process's own.

    Returns:
        The exit status: 0, 1 when the call failed (one line on standard error says why and what
        to do), 2 for wrong usage, 3 when standard output could not be written, 130 after Ctrl-C.
    """
    try:
        # Its imports take most of its start, and Ctrl-C may come then.
        from aiosmrt.cli.command import main as obey  # noqa: PLC0415

        return obey(arguments)
    except KeyboardInterrupt:
        return _INTERRUPTED
