"""What stands for a value that must not be shown: in a repr, a text, or a traceback with locals.

Many tools show the local variables of the frames in a traceback (Sentry, rich, loguru, pytest).
They do more than to ask for a `repr`: they walk through mappings and sequences, subclasses too, and
cut text and bytes to length. So what is secret is a field of an object that is neither, and which
does not show it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Generic, TypeVar

__all__ = ["Redacted", "redact", "redact_url", "show_url"]

T_co = TypeVar("T_co", covariant=True)


class Redacted(Generic[T_co]):
    """Carries a value through frames, and does not show it: `<Redacted dict: accept, body>`."""

    __slots__ = ("value",)

    def __init__(self, value: T_co) -> None:
        self.value: T_co = value

    def __repr__(self) -> str:
        value = getattr(self, "value", None)
        return f"<Redacted {type(value).__name__}: {redact(value).strip('<>')}>"


def redact(value: object) -> str:
    """Tell what may be known of a value: the names in a mapping, the size of bytes and lists."""
    if value is None:
        return "None"
    if isinstance(value, Mapping):
        return f"<{', '.join(map(str, value))}>"
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    return "<...>"


def redact_url(url: str) -> str:
    """Give a URL, or what stands in its place, without user, password, query and fragment.

    What precedes the last `@` may be a password, also where the URL is malformed.
    """
    shown = re.sub(r"\A([A-Za-z][A-Za-z0-9+.-]*://)?.*@", r"\1****@", url, flags=re.DOTALL)
    return re.sub(r"([?#]).+", r"\1****", shown, flags=re.DOTALL)


def show_url(url: object) -> str:
    """Give the repr of an option that is a URL, or something else in its place."""
    return repr(redact_url(url)) if isinstance(url, str) else repr(url)
