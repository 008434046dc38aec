"""Tool calls as the SDK's users read them: an index in each piece, and arguments that are text.

Some containers leave the index out, or give all calls the same; older releases of TGI write a call
without a list around it, and its arguments as an object.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from aiosmrt.payload import ToolCallReader
from aiosmrt.value import JSONValue

__all__ = ["ToolCallNumbers", "has_calls", "write_arguments"]


def has_calls(choices: list[JSONValue]) -> bool:
    """Tell whether there are pieces of tool calls in the choices of a chunk."""
    return any(_get(choice, "delta").get("tool_calls") for choice in choices)


def write_arguments(choices: list[JSONValue]) -> bool:
    """Write arguments as text in the choices of a whole answer, and tell whether any were none."""
    messages = (_get(choice, "message") for choice in choices)
    changed = [_write_text(call) for message in messages for call in _list_calls(message)]
    return any(changed)


class ToolCallNumbers:
    """Numbers the calls of a stream."""

    def __init__(self) -> None:
        self._readers: dict[int, ToolCallReader] = {}  # by choice

    def write(self, choices: list[JSONValue]) -> bool:
        """Write the numbers into the choices of a chunk, and tell whether that changes them.

        Raises:
            InvalidJSON: a member has a value of another kind than it should.
        """
        changed = [self._write(place, choice) for place, choice in enumerate(choices)]
        return any(changed)

    def _write(self, place: int, choice: JSONValue) -> bool:
        delta = _get(choice, "delta")
        if not delta.get("tool_calls"):
            return False
        index = choice.get("index") if isinstance(choice, dict) else None
        index = index if isinstance(index, int) else place
        reader = self._readers.setdefault(index, ToolCallReader())
        changed = isinstance(delta["tool_calls"], dict)
        pieces = [*reader.read(delta, is_whole=False)]
        calls = [*_list_calls(delta)]
        for call, piece in zip(calls, pieces, strict=True):
            changed = _write_text(call) or changed or call.get("index") != piece.index
            call["index"] = piece.index
        if changed:
            delta["tool_calls"] = [*calls]
        return changed


def _write_text(call: dict[str, JSONValue]) -> bool:
    function = _get(call, "function")
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
