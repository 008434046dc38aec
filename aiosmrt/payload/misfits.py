"""Documents that have no place for what was asked for, and what is said of them. Pure."""

from __future__ import annotations

import itertools
from typing import Final

from aiosmrt.errors import PayloadError
from aiosmrt.payload.shapes import SHAPES, Shape
from aiosmrt.value import JSONValue

__all__ = ["KINDS", "Misfits", "name_kind"]

_MEMBERS: Final = 20  # names of members that an error shows
_MEMBER: Final = 40  # characters of each
_SAMPLES: Final = 8  # documents that the shapes are tried on
KINDS: Final[dict[type, str]] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


class Misfits:
    """Keeps what an error at the end would say of documents that do not fit.

    Args:
        asked: what they should have.
        advice: what to do where no shape would fit.
    """

    def __init__(self, asked: str, advice: str) -> None:
        self._asked = asked
        self._advice = advice
        self._number = 0
        self._members: dict[str, None] = {}  # in their order
        self._fitting: set[str] = set()  # shapes that find a text in them

    def note(self, document: JSONValue) -> None:
        """Take note of a document that does not fit."""
        self._number += 1
        names = document if isinstance(document, dict) else [name_kind(document)]
        for name in itertools.islice(names, _MEMBERS - len(self._members)):
            self._members[name[:_MEMBER]] = None
        if self._number <= _SAMPLES:
            fitting = (name for name, shape in SHAPES.items() if _fits(document, shape))
            self._fitting.update(fitting)

    def refuse(self) -> PayloadError | None:
        """Give the error of an end at which no document did fit, if any came."""
        if not self._number:
            return None
        fitting = " or ".join(repr(name) for name in SHAPES if name in self._fitting)
        return PayloadError(
            f"none of the documents that came ({self._number}) has what {self._asked} asks for;"
            f" they have {', '.join(self._members) or 'no members'}:"
            f" {f'{fitting} would fit' if fitting else self._advice}"
        )


def _fits(document: JSONValue, shape: Shape) -> bool:
    return any(
        shape.find_holder(choice) is not None or shape.find_whole_holder(choice) is not None
        for choice in shape.find_choices(document)
    )


def name_kind(value: JSONValue) -> str:
    """Say what kind of JSON value it is, in JSON's words."""
    return KINDS[type(value)]
