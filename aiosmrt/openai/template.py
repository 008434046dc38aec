"""Chunks that differ in their text alone: most of a stream, and known without being parsed."""

from __future__ import annotations

import json
import re
from typing import Final

from aiosmrt.value import JSONValue

__all__ = ["ChunkTemplate"]

# The inside of a JSON string, RFC 8259, section 7; whether it is UTF-8 is seen elsewhere.
_CHARACTER: Final = rb'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))'
_is_inside = re.compile(_CHARACTER + rb"*+").fullmatch
# What a model says, and what it thinks, under its newer and older name.
_find_text = re.compile(
    rb'"(content|reasoning|reasoning_content)": ?"(' + _CHARACTER + rb'++)"'
).search
_DATA: Final = b"data: "
_MISSES: Final = 16  # of templates that fitted nothing, after which no other is made


class ChunkTemplate:
    """Knows an event by another one, of which all is the same but the text of its delta.

    What a document says beside its text is what is judged in it; where that is the same, byte by
    byte, so is the judgement.
    """

    def __init__(self) -> None:
        self._before = self._behind = b""
        self._written: tuple[bytes, bytes] | None = None  # of those, what is passed on
        self._misses = 0

    def write(self, event: bytes) -> bytes | None:
        """Give what is passed on for an event that is as the one that was learned.

        Args:
            event: without the blank line at its end. Where its text is no UTF-8 it is no such one.
        """
        before, behind = self._before, self._behind
        if not (before and event.startswith(before) and event.endswith(behind)):
            return None
        if len(event) < len(before) + len(behind):
            return None  # they share a quotation mark, maybe
        text = event[len(before) : len(event) - len(behind)]
        self._misses = 0
        if not (text.isascii() or _is_utf8(text)) or _is_inside(text) is None:
            return None
        return event if self._written is None else text.join(self._written)

    def learn(self, event: bytes, written: bytes) -> None:
        """Take an event that says nothing beside a text of its only choice.

        Args:
            event: its only line, which begins with `data: `.
            written: what is passed on for it.
        """
        if self._misses == _MISSES or _find_text(event) is None:
            return
        self._misses += 1
        split = _split(event)
        given = split if written is event else _split(written)
        # Which text is found in either depends on how it is written.
        if split is not None and given is not None and split[0] == given[0]:
            _, self._before, self._behind = split
            self._written = None if given is split else given[1:]


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _split(event: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Give the name of the text of a chunk, and what is before it and behind it.

    None where that is not all that is said beside it.
    """
    found = _find_text(event)
    if found is None or not event.startswith(_DATA):
        return None
    before, behind = event[: found.start(2)], event[found.end(2) :]
    # As the parser has it: nothing else, such as a name that is there twice, depends on it.
    is_all = _parse(before + behind) == _remove_text(_parse(event), found[1].decode())
    return (found[1], before, behind) if is_all else None


def _parse(event: bytes) -> JSONValue:
    document: JSONValue = json.loads(event.removeprefix(_DATA))
    return document


def _remove_text(document: JSONValue, name: str) -> object:
    """Give the document with an empty text in its only choice, None where it is another kind."""
    match document:
        case {"choices": [{"delta": {**delta}, **choice}], **members} if delta.get(name):
            said = {**choice, "delta": {**delta, name: ""}}
            return {**members, "choices": [said]}
    return None
