"""What the words of a script may say, checked where they are written. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from aiosmrt.errors import ConfigurationError

__all__ = [
    "check_count",
    "check_flag",
    "check_header",
    "check_seconds",
    "check_status",
    "check_text",
    "suggest",
]

_LONGEST = 10**9  # seconds: what a date of these years can be moved by


def check_count(name: str, value: Any, least: int) -> int:  # noqa: ANN401 - what a script has
    """Give a number back.

    Raises:
        ConfigurationError: it is no int, or less than `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} must be an int of {least} or more, not {value!r}")
    return value


def check_seconds(name: str, value: Any, least: float = 0) -> float:  # noqa: ANN401 - as above
    """Give a time back, in seconds.

    Raises:
        ConfigurationError: it is no finite number, less than `least`, or of more than 30 years.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ConfigurationError(f"{name} must be a number of seconds, not {value!r}")
    if not least <= value <= _LONGEST:
        raise ConfigurationError(f"{name} must be {least} to {_LONGEST} seconds, not {value!r}")
    return value


def check_status(value: Any, least: int, most: int = 599) -> int:  # noqa: ANN401 - as above
    """Give an HTTP status back.

    Raises:
        ConfigurationError: it is none of these.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(f"status must be an int from {least} to {most}, not {value!r}")
    return value


def check_text(name: str, value: Any) -> str:  # noqa: ANN401 - as above
    """Give a text back.

    Raises:
        ConfigurationError: it is no str, or none that UTF-8 can hold.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a str, not {type(value).__qualname__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{name} holds half of a surrogate pair: {error}") from error
    return value


def check_header(name: str, value: Any) -> str:  # noqa: ANN401 - as above
    """Give a header's value back.

    Raises:
        ConfigurationError: no header can carry it.
    """
    if re.search(r"[\r\n\0]", check_text(name, value)):
        raise ConfigurationError(f"{name} goes out as a header and contains CR, LF or NUL")
    return str(value)


def check_flag(name: str, value: Any) -> bool:  # noqa: ANN401 - as above
    """Give a yes or no back.

    Raises:
        ConfigurationError: it is neither True nor False: "no" would mean yes.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, not {value!r}")
    return value


def suggest(name: object, known: Iterable[str]) -> str:
    """Name what was probably meant by a name that is not known, to be put behind the complaint."""
    import difflib  # noqa: PLC0415 - start-up time

    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    # Or it is a word of a longer name, as `session` is of `session_id`.
    near = near or [longer for longer in names if f"_{name}_" in f"_{longer}_"]
    return f"; did you mean {near[0]!r}?" if near else ""
