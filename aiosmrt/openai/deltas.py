"""Deltas as the SDK adds them up: all that is text is said once, in pieces that have an index.

Many containers repeat the role in each chunk, some the id and the name of a tool call in each of
its pieces, and some make a new id for each. Some leave the index of a call out, or give all calls
the same. Older releases of TGI write a call without a list around it, its arguments as an object
and its id as a number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from aiosmrt.payload import ToolCall, ToolCallReader
from aiosmrt.value import JSONValue

__all__ = ["DeltaWriter", "is_more_than_text", "write_calls"]

_MORE: Final = ("role", "tool_calls", "function_call")


def is_more_than_text(choices: list[JSONValue]) -> bool:
    """Tell whether the choices of a chunk have what a `DeltaWriter` may change."""
    deltas = (_get(choice, "delta") for choice in choices)
    return any(delta.get(name) for delta in deltas for name in _MORE)


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

    def _write(self, place: int, choice: JSONValue) -> bool:
        delta = _get(choice, "delta")
        index = choice.get("index") if isinstance(choice, dict) else None
        index = index if isinstance(index, int) else place
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
