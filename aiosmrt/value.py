"""What makes a class a value: equality, hash and representation by its fields. JSON's values."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator
from typing import Self, TypeAlias, cast

import attrs

from aiosmrt.errors import ParameterError

__all__ = ["JSONValue", "Partial", "Shown", "Value", "write_json"]

JSONValue: TypeAlias = "dict[str, JSONValue] | list[JSONValue] | str | int | float | bool | None"
"""What `json.loads` can give."""


def write_json(value: object) -> str:
    """Write a value as JSON, which has no words for NaN and the infinities (RFC 8259, section 6).

    Raises:
        ParameterError: there is such a number; the text says where.
        TypeError, ValueError, RecursionError: JSON has no words for something else.
    """
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        problem = _find_unwritable(value)
        if problem is None:
            raise
    raise ParameterError(f"{problem}, which JSON cannot say: send a finite number, or null")


def _find_unwritable(value: object) -> str | None:
    """Say where there is a number that JSON cannot write."""
    pending: list[tuple[str, object]] = [("", value)]
    seen: set[int] = set()  # containers, which may hold each other
    while pending:
        place, one = pending.pop()
        where = f" at {place}" if place else ""
        if _is_unwritable(one):
            return f"the value{where} is {one}"
        if isinstance(one, dict | list | tuple) and id(one) not in seen:
            seen.add(id(one))
            items = one.items() if isinstance(one, dict) else enumerate(one)
            for key, item in reversed(list(items)):
                if _is_unwritable(key):
                    return f"a key{where} is {key}"
                pending.append((f"{place}[{key!r}]", item))
    return None


def _is_unwritable(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


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


class Partial(Value):
    """The base of values that can be laid over another: what one was not given is the other's.

    A field that was given counts as given, even with the value that it has by default.
    """

    __slots__ = ("_given",)

    _given: frozenset[str]

    def __new__(cls, *values: object, **named: object) -> Self:
        """Take note of what is given: attrs' constructor is told of defaults as of all else."""
        made = super().__new__(cls)
        object.__setattr__(made, "_given", frozenset(named).union(_names(cls)[: len(values)]))
        return made

    def __reduce__(self) -> tuple[Callable[[], Self], tuple[()]]:
        given = {name: getattr(self, name) for name in self._given}
        return functools.partial(self.__class__, **given), ()

    def over(self, base: Self) -> Self:
        """Give one with the fields that this was given, and all others from `base`."""
        merged = self.__class__(
            **{
                name: getattr(self if name in self._given else base, name)
                for name in _names(self.__class__)
            }
        )
        object.__setattr__(merged, "_given", self._given | base._given)
        return merged


def _names(kind: type) -> list[str]:
    return [field.name for field in attrs.fields(cast("type[attrs.AttrsInstance]", kind))]


def _show(value: object, field: attrs.Attribute[object]) -> str:
    return field.repr(value) if callable(field.repr) else repr(value)


def _fields(value: object) -> tuple[attrs.Attribute[object], ...]:
    fields: tuple[attrs.Attribute[object], ...] = attrs.fields(
        cast("type[attrs.AttrsInstance]", value.__class__)
    )
    return fields


def _read(value: object) -> Iterator[object]:
    return (getattr(value, field.name) for field in _fields(value))
