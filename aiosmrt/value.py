"""What makes a class a value: equality, hash and representation by its fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, cast

import attrs

__all__ = ["JSONValue", "Shown", "Value"]

JSONValue: TypeAlias = "dict[str, JSONValue] | list[JSONValue] | str | int | float | bool | None"
"""What `json.loads` can give."""


class Shown:
    """The base of attrs classes made with `repr=False` that have a representation all the same.

    It is the one that attrs would write, with `repr=` of the fields; but an object that is not made
    to its end, whose constructor has failed, has one, too: tracebacks show it.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        shown = [
            f"{field.name}={_show(getattr(self, field.name), field)}"
            for field in _fields(self)
            if field.repr and hasattr(self, field.name)
        ]
        return f"{self.__class__.__qualname__}({', '.join(shown)})"


class Value(Shown):
    """The base of attrs classes made with `eq=False, repr=False` that are values all the same.

    attrs writes these three methods for each class, and compiles them whenever the package is
    imported: that takes longer than all else about a class. What comes of them here is the same.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return tuple(_read(self)) == tuple(_read(other))

    def __hash__(self) -> int:
        return hash((self.__class__, *_read(self)))


def _show(value: object, field: attrs.Attribute[object]) -> str:
    return field.repr(value) if callable(field.repr) else repr(value)


def _fields(value: object) -> tuple[attrs.Attribute[object], ...]:
    fields: tuple[attrs.Attribute[object], ...] = attrs.fields(
        cast("type[attrs.AttrsInstance]", value.__class__)
    )
    return fields


def _read(value: object) -> Iterator[object]:
    return (getattr(value, field.name) for field in _fields(value))
