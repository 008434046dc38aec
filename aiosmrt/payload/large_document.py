"""A JSON document that is too long for one step, piece by piece.

Python's parser takes a document whole, in some 20 ms a MiB, in which no other thread runs either.
Here it is given pieces. A piece ends at a comma or behind an opening bracket. What is open there is
closed for the parser, so that the piece is a document of its own, and what the parser makes of it
goes into the containers that are open.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

if TYPE_CHECKING:
    from aiosmrt.value import JSONValue

__all__ = ["LARGE", "LargeDocument"]

LARGE: Final = 128 * 1024  # characters; measured: up to 4 ms in one step
_PIECE: Final = 16 * 1024  # characters; measured: up to 4 ms, of brackets

_LONG: Final = 64 * 1024  # characters of a string that is no piece of its own

_STRING: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PLAIN: Final = r'[^"\[\]{}]*+'
_FLAT: Final = rf"{_PLAIN}(?:{_STRING}{_PLAIN})*+"

# Each matches at every position, be it nothing, and no further than it is told.
_Match: TypeAlias = Callable[[str, int, int], re.Match[str]]
_match_space = cast("_Match", re.compile(r"[ \t\n\r]*+").match)
_match_in_string = cast("_Match", re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL).match)
# What closes all that it opens: most of a document is passed over in C.
_WHOLE: Final = rf"{_PLAIN}(?:(?:{_STRING}|\[{_FLAT}\]|\{{{_FLAT}\}}){_PLAIN})*+"
_match_whole = cast("_Match", re.compile(_WHOLE, re.DOTALL).match)
_match_to_comma = cast("_Match", re.compile(r'[^",\[\]{}]*+').match)
# A part of a string, which splits no escape sequence, and no two that are a surrogate pair.
_ESCAPES: Final = r'\\[^u]|\\u[dD][89abAB]..\\u[^"\\]{4}|\\u[^"\\]{4}'
_match_in_part = cast(
    "_Match", re.compile(rf'(?:[^"\\]{{1,64}}+|{_ESCAPES}){{0,4096}}+', re.DOTALL).match
)

_NO_BRACKET: Final = ("", ",")
_CLOSING: Final = {"[": "]", "{": "}"}
_OCCUPIED: Final = {"[": '[""', "{": '{"":""'}  # as if a member was before
_UNFINISHED: Final = ("", "[", "{", ",", ":")  # what no comma may follow

_Container: TypeAlias = list[Any] | dict[str, Any]
_decode: Final = cast("Callable[[str], Any]", json.JSONDecoder().decode)
# Of an object, its last name and what is there: where a document goes on.
_decode_last: Final = cast(
    "Callable[[str], Any]",
    json.JSONDecoder(object_pairs_hook=lambda pairs: pairs[-1] if pairs else None).decode,
)


class LargeDocument:
    """The value of a JSON document, which comes out in steps.

    It is what `json.loads` gives, or its error at the same position. Containers may be in each
    other as deep as for `json.loads`, too.

    Attributes:
        text: the document.
        steps: those that are left, of some milliseconds each; who iterates over them takes them.
    """

    __slots__ = ("_deepest", "_error", "_fresh", "_open", "_position", "_value", "steps", "text")

    def __init__(self, text: str) -> None:
        self.text: str = text
        self._position = 0  # up to which the text is in the value
        self._open: list[_Container] = []  # containers, from outside
        self._fresh = True  # whether the last of them has no member yet
        self._deepest = 0  # the most that were open at once: as deep the parser goes
        self._value: JSONValue = None
        self._error: ValueError | RecursionError | None = None
        self.steps: Iterator[None] = self._take_steps()

    def finish(self) -> JSONValue:
        """Take the steps that are left at once, and give the value.

        Raises:
            ValueError: the text is not one JSON document, or a number has too many digits.
            RecursionError: too many containers are in each other.
        """
        for _ in self.steps:
            pass
        if self._error is not None:
            raise copy.copy(self._error)
        return self._value

    def _take_steps(self) -> Iterator[None]:
        try:
            yield from self._parse()
        except (ValueError, RecursionError) as error:
            self._error = error

    def _parse(self) -> Iterator[None]:
        text = self.text
        begin = yield from self._skip_space(0)
        first = text[begin : begin + 1]
        self._position = begin + 1
        if first in _CLOSING:
            container: _Container = [] if first == "[" else {}
            self._value = container
            self._open.append(container)
            while self._open:
                self._position = yield from self._skip_space(self._position)
                yield from self._take_piece()
        elif first == '"' and (end := (yield from self._skip_string(begin + 1))):
            self._value = yield from self._join_string(end)
        else:
            self._value = _decode(text)
            return
        end = yield from self._skip_space(self._position)
        if end < len(text):
            raise json.JSONDecodeError("Extra data", text, end)

    def _skip_space(self, position: int) -> Generator[None, None, int]:
        while (end := _match_space(self.text, position, position + _PIECE).end()) > position:
            position = end
            yield
        return position

    def _skip_string(self, position: int) -> Generator[None, None, int | None]:
        """Give the end of the string whose first character is at `position`, if it has one."""
        text = self.text
        while True:
            position = _match_in_string(text, position, position + _PIECE).end()
            found = text[position : position + 1]
            if found == '"':
                return position + 1
            if not found:
                return None
            if found == "\\":  # of an escape sequence that goes on
                position += 2
            yield

    def _join_string(self, end: int) -> Generator[None, None, str]:
        """Decode the string that goes on here, part by part."""
        text, position = self.text, self._position
        parts: list[str] = []
        while position < end - 1:
            stop = _match_in_part(text, position, end - 1).end()
            if stop == position:  # at what is no escape sequence: the parser says it
                stop = end - 1
            part: Any = self._decode(f'"{text[position:stop]}"', position - 1, 0)
            parts.append(part)
            position = stop
            yield
        self._position = end
        return "".join(parts)

    def _take_piece(self) -> Iterator[None]:
        """Find the end of the next piece, and take what is before it."""
        text, position = self.text, self._position
        limit = position + _PIECE
        opened: list[str] = []  # what closes the containers that the piece opens
        while True:
            position = _match_whole(text, position, max(position, limit)).end()
            if position >= limit:
                position = yield from self._seek(position)
            found = text[position : position + 1]
            if found == '"':
                end = yield from self._skip_string(position + 1)
                if end and end - position > _LONG and (yield from self._is_value(end)):
                    yield from self._take_string(position + 1, end, opened)
                    return
                position = end or len(text)
                continue
            if found in _NO_BRACKET:
                break
            position += 1
            if found in _CLOSING:
                opened.append(_CLOSING[found])
                if position > limit:
                    break
            elif opened:
                opened.pop()
            else:
                self._close(position)
                if position > limit or not self._open:
                    return
        yield
        self._take_part(position, opened, fresh=found in _CLOSING)

    def _seek(self, position: int) -> Generator[None, None, int]:
        """Give the place of the next comma, quotation mark or bracket, or the end of the text."""
        text = self.text
        while position < len(text) and text[position] not in ',"[]{}':
            yield
            position = _match_to_comma(text, position, position + _PIECE).end()
        return position

    def _is_value(self, end: int) -> Generator[None, None, bool]:
        """Tell whether the string that ends there is no name of a member, nor the last there is."""
        end = yield from self._skip_space(end)
        return self.text[end : end + 1] not in ("", ":")

    def _take_string(self, begin: int, end: int, opened: list[str]) -> Iterator[None]:
        """Take what is before a long string, and then the string."""
        try:
            container, name = self._take_part(begin, [*opened, '"'], fresh=True)
        except json.JSONDecodeError:
            # It is where a name should be, maybe: the parser looks at what is in it first.
            after = yield from self._skip_space(end)
            self._decode(*self._complete(after + 1, None, '"'))
            raise
        container[name] = yield from self._join_string(end)
        self._fresh = False

    def _close(self, end: int) -> None:
        """Take the last members of the innermost container; its bracket is the last character."""
        last = self._look_back(end - 1)
        members = self._decode(*self._complete(end, "", last))
        if last:
            self._add(members)
        self._open.pop()
        self._position, self._fresh = end, False

    def _take_part(self, end: int, opened: list[str], *, fresh: bool) -> tuple[_Container, Any]:
        """Take what is before `end`, where a comma is, or what a container or string begins with.

        Returns:
            The container of what the part opened last, and where it is in there.
        """
        text = self.text
        last = self._look_back(end)
        if end == len(text) or (not fresh and last in _UNFINISHED and (last or self._fresh)):
            # With the comma, and without an end: the parser says what is wrong.
            self._decode(*self._complete(end + 1, None, last))
        closing = "".join(reversed(opened)) + _CLOSING[_get_opening(self._open[-1])]
        document, shift, depth = self._complete(end, closing, last)
        members = self._decode(document, shift, depth)
        if last:
            self._add(members)
        # The last name of an object need not be where the last one came: it may be there twice.
        names: Any = _unwrap(_decode_last(document), depth) if "}" in closing[1:] else None
        container, name = self._open[-1], cast("Any", None)
        for _ in opened:
            container, name = self._open[-1], -1
            if isinstance(container, list):
                names = names and names[-1]
            else:
                name, names = names
            if isinstance(container[name], list | dict):
                self._open.append(container[name])
        self._deepest = max(self._deepest, len(self._open))
        self._position, self._fresh = end, fresh
        return container, name

    def _look_back(self, end: int) -> str:
        """Give the last character before `end` that is not blank, if there is one."""
        begin = self._position
        while end > begin:
            found = self.text[max(begin, end - _PIECE) : end].rstrip()
            if found:
                return found[-1]
            end -= _PIECE
        return ""

    def _complete(self, end: int, closing: str | None, last: str) -> tuple[str, int, int]:
        """Make a document of the text up to `end`.

        Args:
            end: of what the innermost container goes on with.
            closing: the brackets that this lacks, `None` where it is to lack them.
            last: its last character that is not blank and not its own bracket.

        Returns:
            The document, how much further its characters are in the text, and how many containers
            are around the one that goes on.
        """
        text, begin = self.text, self._position
        opening = _get_opening(self._open[-1])
        if not self._fresh:
            comma = _match_space(text, begin, end).end()
            if last != "," and text.startswith(",", comma, end):
                begin = comma + 1
            else:  # blank, or the parser says what is wrong
                opening = _OCCUPIED[opening]
        part = text[begin:end]
        depth = len(self._open) - 1
        if depth + part.count("[") + part.count("{") < self._deepest:
            depth = 0  # the parser has been as deep as that
        before = "[" * depth + opening
        after = "" if closing is None else closing + "]" * depth
        return f"{before}{part}{after}", begin - len(before), depth

    def _decode(self, document: str, shift: int, depth: int) -> _Container:
        try:
            return _unwrap(_decode(document), depth)
        except json.JSONDecodeError as error:
            raise json.JSONDecodeError(error.msg, self.text, error.pos + shift) from None

    def _add(self, members: _Container) -> None:
        container = self._open[-1]
        if isinstance(container, list):
            container.extend(members)
        else:
            container.update(members)


def _get_opening(container: _Container) -> str:
    return "[" if isinstance(container, list) else "{"


def _unwrap(document: _Container, depth: int) -> _Container:
    container: Any = document
    for _ in range(depth):
        container = container[0]
    found: _Container = container
    return found
