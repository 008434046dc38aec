"""Pieces of tool calls as the SDK's users add them up: by an index that each piece has."""

from __future__ import annotations

from aiosmrt.payload import ToolCallReader
from aiosmrt.value import JSONValue

__all__ = ["ToolCallNumbers", "has_calls"]


def has_calls(choices: list[JSONValue]) -> bool:
    """Tell whether there are pieces of tool calls in the choices of a chunk."""
    return any(_find_delta(choice).get("tool_calls") for choice in choices)


class ToolCallNumbers:
    """Numbers the calls of a stream where its container does not, or gives all of them one number.

    Older releases of TGI also write a piece without a list, and its arguments as an object.
    """

    def __init__(self) -> None:
        self._readers: dict[int, ToolCallReader] = {}  # by choice

    def write(self, choices: list[JSONValue]) -> bool:
        """Write the numbers into the choices of a chunk, and tell whether that changes them.

        Raises:
            InvalidJSON: a member has a value of another kind than it should.
        """
        changed = False
        for position, choice in enumerate(choices):
            delta = _find_delta(choice)
            if not delta.get("tool_calls"):
                continue
            index = choice.get("index") if isinstance(choice, dict) else None
            index = index if isinstance(index, int) else position
            reader = self._readers.setdefault(index, ToolCallReader())
            pieces = [*reader.read(delta, is_whole=False)]
            said = delta["tool_calls"]
            calls: list[JSONValue] = said if isinstance(said, list) else [said]
            for call, piece in zip(calls, pieces, strict=True):
                if not isinstance(call, dict):
                    continue
                function = call.get("function")
                if isinstance(function, dict) and isinstance(function.get("arguments"), dict):
                    function["arguments"] = piece.arguments
                    changed = True
                if call.get("index") != piece.index:
                    call["index"] = piece.index
                    changed = True
            if calls is not said:
                delta["tool_calls"] = calls
                changed = True
        return changed


def _find_delta(choice: JSONValue) -> dict[str, JSONValue]:
    delta = choice.get("delta") if isinstance(choice, dict) else None
    return delta if isinstance(delta, dict) else {}
