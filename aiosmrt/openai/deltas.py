"""Deltas as the SDK adds them up: all that is text is said once, in pieces that have an index.

Many containers repeat the role in each chunk, some the id and the name of a tool call in each of
its pieces, and some make a new id for each. Some leave the index of a call out, or give all calls
the same. Older releases of TGI write a call without a list around it, its arguments as an object
and its id as a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from aiosmrt.payload import ToolCall, ToolCallReader
from aiosmrt.value import JSONValue

__all__ = ["DeltaWriter", "cut_role", "is_more_than_text", "write_calls"]

_CALLS: Final = ("tool_calls", "function_call")
_MORE: Final = frozenset(("role", *_CALLS))


# A string's own quotation marks would be escaped, so this is a member with its name.
_cut_role = re.compile(rb'"role": ?"assistant", ?|, ?"role": ?"assistant"').sub


def cut_role(chunk: bytes) -> bytes | None:
    """Give a chunk, as JSON, without its role; None where it is not plain to see where that is."""
    if chunk.count(b'"role"') != 1 or b"\\u" in chunk:  # a name may be escaped
        return None
    cut = _cut_role(b"", chunk, 1)
    return cut if len(cut) < len(chunk) else None


def is_more_than_text(choices: list[JSONValue]) -> bool:
    """Tell whether the choices of a chunk have what a `DeltaWriter` may change."""
    for choice in choices:
        delta = _get(choice, "delta")
        if not _MORE.isdisjoint(delta) and any(map(delta.get, _MORE)):
            return True
    return False


def write_calls(choices: list[JSONValue]) -> bool:
    """Write ids and arguments as text in the choices of a whole answer; tell if any were none."""
    messages = [_get(choice, "message") for choice in choices]
    changed = [_write_arguments(_get(message, "function_call")) for message in messages]
    for call in (call for message in messages for call in _list_calls(message)):
        call_id = call.get("id")
        if isinstance(call_id, int):
            call["id"] = str(call_id)
            changed.append(True)
        changed.append(_write_arguments(_get(call, "function")))
    return any(changed)


class DeltaWriter:
    """Writes the deltas of a stream."""

    def __init__(self) -> None:
        self._begun: set[int] = set()  # choices whose role was said
        self._readers: dict[int, ToolCallReader] = {}  # by choice

    def write(self, choices: list[JSONValue]) -> bool:
        """Write the deltas in the choices of a chunk, and tell whether that changes them.

        Raises:
            InvalidJSON: a member has a value of another kind than it should.
        """
        changed = [self._write(place, choice) for place, choice in enumerate(choices)]
        return any(changed)

    def drop_roles(self, choices: list[JSONValue]) -> bool:
        """Drop roles that were said, and tell whether all is done by that: else nothing is."""
        deltas = [_get(choice, "delta") for choice in choices]
        said = [_find_index(place, choice) in self._begun for place, choice in enumerate(choices)]
        if not all(said) or any(delta.get(name) for delta in deltas for name in _CALLS):
            return False
        for delta in deltas:
            if delta.get("role"):
                del delta["role"]
        return True

    def _write(self, place: int, choice: JSONValue) -> bool:
        delta = _get(choice, "delta")
        index = _find_index(place, choice)
        changed = False
        if delta.get("role"):
            if index in self._begun:
                del delta["role"]
                changed = True
            self._begun.add(index)
        if delta.get("tool_calls"):
            reader = self._readers.setdefault(index, ToolCallReader())
            return _write_pieces(delta, reader) or changed
        return _write_arguments(_get(delta, "function_call")) or changed


def _find_index(place: int, choice: JSONValue) -> int:
    index = choice.get("index") if isinstance(choice, dict) else None
    return index if isinstance(index, int) else place


def _write_pieces(delta: dict[str, JSONValue], reader: ToolCallReader) -> bool:
    pieces = [*reader.read(delta, is_whole=False)]
    calls = [*_list_calls(delta)]
    changed = [_write_piece(call, piece) for call, piece in zip(calls, pieces, strict=True)]
    if isinstance(delta["tool_calls"], dict):
        delta["tool_calls"] = [*calls]
        return True
    return any(changed)


def _write_piece(call: dict[str, JSONValue], piece: ToolCall) -> bool:
    """Write what a piece says of its call that was not said before; tell if that changes it."""
    changed = call.get("index") != piece.index
    call["index"] = piece.index
    function = _get(call, "function")
    for holder, name, value in ((call, "id", piece.id), (function, "name", piece.name)):
        said = holder.get(name)
        if value and said != value:
            holder[name] = value
        elif not value and said not in (None, ""):
            del holder[name]
        else:
            continue
        changed = True
    return _write_arguments(function) or changed


def _write_arguments(function: dict[str, JSONValue]) -> bool:
    arguments = function.get("arguments")
    if not isinstance(arguments, dict):
        return False
    function["arguments"] = json.dumps(arguments)
    return True


def _list_calls(holder: dict[str, JSONValue]) -> Iterator[dict[str, JSONValue]]:
    calls = holder.get("tool_calls")
    for call in calls if isinstance(calls, list) else [calls]:
        if isinstance(call, dict):
            yield call


def _get(holder: JSONValue, name: str) -> dict[str, JSONValue]:
    """Give a member that is an object, an empty one where there is none."""
    member = holder.get(name) if isinstance(holder, dict) else None
    return member if isinstance(member, dict) else {}
