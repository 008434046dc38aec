"""File descriptors: whether they have run out, and what to do then."""

from __future__ import annotations

import errno
import os
import socket
import ssl

__all__ = ["DESCRIPTOR_ADVICE", "have_run_out"]

DESCRIPTOR_ADVICE = (
    "raise the limit of open files (ulimit -n), or lower max_connections, so that calls wait for a "
    "place instead"
)

_RAN_OUT = (errno.EMFILE, errno.ENFILE)


def have_run_out(error: BaseException | None) -> bool:
    """Tell whether an error is, or hides, that the process or the machine has no descriptor left.

    Some do not say what they have met: a name look-up that can open neither file nor socket knows
    no such host, a folder of authorities that cannot be read has none, and of several addresses
    that failed only a text is left. After such an error one is looked for.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _RAN_OUT:
            return True
        if isinstance(error, socket.gaierror | ssl.SSLError) or (
            isinstance(error, OSError) and error.errno is None
        ):
            return not _is_one_left()
        error = error.__cause__
    return False


def _is_one_left() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in _RAN_OUT
    return True
