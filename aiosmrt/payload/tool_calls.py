"""Which piece of a stream belongs to which tool call. Pure.

A server should give each call an `index`, which all of its pieces have, and an `id` and a name in
the first. Servers leave out the index, or the id; repeat id and name in each piece; make a new id
for each; give all calls the index 0; or count ids as numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final, TypeVar

import attrs

from aiosmrt.errors import InvalidJSON
from aiosmrt.payload.chat import ToolCall
from aiosmrt.payload.misfits import KINDS, name_kind
from aiosmrt.payload.text import replace_halves
from aiosmrt.value import JSONValue

__all__ = ["ToolCallReader"]

T = TypeVar("T", dict[str, JSONValue], list[JSONValue])


# What tells how deep arguments are: braces, and the strings in which they are none.
_find_marks: Final = re.compile(r'["{}]|\\.?', re.DOTALL).findall


@attrs.define
class _Known:
    """What was said of a call so far."""

    number: int
    id: str = ""
    name: str = ""
    announced: tuple[str, str] | None = None  # id and name of another one, if it comes
    has_arguments: bool = False
    unread: list[str] = attrs.field(factory=list)  # of them, what is behind the below
    depth: int = 0  # braces that are open
    in_string: bool = False

    def is_whole(self) -> bool:
        """Tell whether the arguments are there to their end; each of them is looked at once."""
        arguments = "".join(self.unread)
        marks = _find_marks(arguments)
        # Of an escape sequence, the character may be still to come.
        self.unread = ["\\"] if marks and marks[-1] == "\\" else []
        for mark in marks:
            if mark == '"':
                self.in_string = not self.in_string
            elif not self.in_string and mark in "{}":
                self.depth += 1 if mark == "{" else -1
        return self.has_arguments and not self.depth and not self.in_string

    def is_another(self, piece: ToolCall, *, has_place: bool) -> bool:
        """Tell whether a piece that may be of this call is the beginning of another.

        Args:
            piece: whose id is none that this call is known by.
            has_place: whether the server numbers the calls.
        """
        # Not by the id alone, which may be new in each piece, nor by both: a name may be repeated.
        if not piece.name:
            return False
        if not (piece.id and self.id) and (has_place or not self.name):
            return False
        if piece.name != self.name:
            return True
        # Where calls have ids, what has none is no beginning.
        return bool(piece.id or not self.id) and self.is_whole()

    def add(self, piece: ToolCall) -> None:
        """Take note of a piece, and leave in it what was not said before."""
        piece.index = self.number
        if piece.name == self.name:
            piece.name = ""
        if self.id:
            piece.id = ""
        self.id = self.id or piece.id
        self.name = self.name or piece.name
        if piece.arguments:
            self.unread.append(piece.arguments)
            self.has_arguments = self.has_arguments or not piece.arguments.isspace()


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
            call_id = replace_halves(_read_id(members.get("id")))
            name = replace_halves(_read_text(function.get("name"), "name"))
            index = position if is_whole else members.get("index")
            piece = ToolCall(0, call_id, name, _read_arguments(function.get("arguments")))
            self._find(index, piece).add(piece)
            yield piece

    def _find(self, index: JSONValue, piece: ToolCall) -> _Known:
        """Give the call that a piece belongs to."""
        place = index if isinstance(index, int) and not isinstance(index, bool) else None
        by_id = self._by_id.get(piece.id)
        call = (by_id or self._last) if place is None else self._by_index.get(place)
        if call is not None:
            says_more = bool(piece.arguments.strip())
            if call is not by_id and call.is_another(piece, has_place=place is not None):
                if says_more or piece.name != call.name:
                    call = None
                else:
                    # Another call of the tool, or the last piece of this one, where each has an id
                    # and the name: that is told by what comes next, or does not.
                    call.announced = piece.id, piece.name
                    piece.id = piece.name = ""
            elif call.announced is not None and says_more:
                piece.id, piece.name = call.announced
                call = None
        if call is None:
            call = self._begin(place)
        if place is not None:
            self._by_index[place] = call
        if piece.id:
            self._by_id[piece.id] = call
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


def _read_id(value: JSONValue) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # older releases of TGI count the calls
    return _read_text(value, "id")


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
