"""Which piece of a stream belongs to which tool call. Pure.

A server should give each call an `index`, which all of its pieces have, and an `id` and a name in
the first. Servers leave out the index, or the id; repeat id and name in each piece; make a new id
for each; or give all calls the index 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TypeVar

import attrs

from aiosmrt.errors import InvalidJSON
from aiosmrt.payload.chat import ToolCall
from aiosmrt.payload.misfits import KINDS, name_kind
from aiosmrt.payload.text import replace_halves
from aiosmrt.value import JSONValue

__all__ = ["ToolCallReader"]

T = TypeVar("T", dict[str, JSONValue], list[JSONValue])


@attrs.define
class _Known:
    """What was said of a call so far."""

    number: int
    id: str = ""
    name: str = ""
    begun: bool = False  # whether there are arguments
    depth: int = 0  # braces that are open in them, as if none were in strings

    def add(self, arguments: str) -> None:
        """Take note of a piece of the arguments."""
        self.begun = self.begun or bool(arguments)
        self.depth += arguments.count("{") - arguments.count("}")

    def is_another(self, call_id: str, name: str) -> bool:
        """Tell whether a piece of the same index is the beginning of another call."""
        # Not by the id alone, which may be new in each piece, nor by both: a name may be repeated.
        if not (name and call_id and self.id) or call_id == self.id:
            return False
        return name != self.name or (self.begun and not self.depth)


class ToolCallReader:
    """Reads the pieces of the tool calls of one choice, and numbers the calls."""

    __slots__ = ("_by_id", "_by_index", "_last", "_next", "_numbers")

    def __init__(self) -> None:
        self._by_index: dict[int, _Known] = {}  # by the server's
        self._by_id: dict[str, _Known] = {}
        self._last: _Known | None = None
        self._numbers: set[int] = set()
        self._next = 0  # behind all of them

    def read(self, said: dict[str, JSONValue], *, is_whole: bool) -> Iterator[ToolCall]:
        """Give the pieces in a delta, or the calls in a message.

        Raises:
            InvalidJSON: a member has a value of another kind than it should.
        """
        calls = said.get("tool_calls")
        if calls is None or calls == []:
            function = said.get("function_call")  # OpenAI's before there were tools, always one
            calls = [] if function is None else [{"index": 0, "function": function}]
        elif isinstance(calls, dict):
            calls = [calls]  # as older releases of TGI stream one
        for position, call in enumerate(_expect(calls, list, "the tool calls")):
            members = _expect(call, dict, "a tool call")
            function = members.get("function")
            function = {} if function is None else _expect(function, dict, "a function")
            call_id = replace_halves(_read_text(members.get("id"), "id"))
            name = replace_halves(_read_text(function.get("name"), "name"))
            index = position if is_whole else members.get("index")
            arguments = _read_arguments(function.get("arguments"))
            known = self._find(index, call_id, name)
            known.add(arguments)
            yield ToolCall(known.number, call_id, name, arguments)

    def _find(self, index: JSONValue, call_id: str, name: str) -> _Known:
        """Give the call that a piece belongs to."""
        place = index if isinstance(index, int) and not isinstance(index, bool) else None
        call: _Known | None
        if place is not None:
            call = self._by_index.get(place)
            if call is not None and call.is_another(call_id, name):
                call = None
        elif call_id:
            call = self._by_id.get(call_id)
        elif name and self._last is not None and self._last.name:
            call = None
        else:
            call = self._last
        if call is None:
            call = self._begin(place)
        call.id = call.id or call_id
        call.name = call.name or name
        if place is not None:
            self._by_index[place] = call
        if call_id:
            self._by_id[call_id] = call
        self._last = call
        return call

    def _begin(self, place: int | None) -> _Known:
        """Make a call, with the server's number where no other has it."""
        is_free = place is not None and place >= 0 and place not in self._numbers
        number = place if place is not None and is_free else self._next
        self._numbers.add(number)
        self._next = max(self._next, number + 1)
        return _Known(number)


def _read_arguments(value: JSONValue) -> str:
    """Give the text, in which a surrogate pair may be cut."""
    if not isinstance(value, dict):
        return _read_text(value, "arguments")
    try:
        return json.dumps(value)  # older releases of TGI write an object
    except RecursionError as error:
        raise InvalidJSON("the arguments of a tool call are nested too deeply") from error


def _read_text(value: JSONValue, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidJSON(f"the {what} of a tool call: {name_kind(value)}, not a string")
    return value


def _expect(value: JSONValue, kind: type[T], what: str) -> T:
    if not isinstance(value, kind):
        raise InvalidJSON(f"{what}: {name_kind(value)}, not {KINDS[kind]}")
    return value
