"""Chunks of a chat to whole messages. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from aiosmrt.payload.chat import ChatChunk, ChatMessage, ToolCall
from aiosmrt.value import JSONValue

__all__ = ["ChatAccumulator"]


@attrs.define
class _Choice:
    """The pieces of a choice so far."""

    text: list[str] = attrs.field(factory=list)
    reasoning: list[str] = attrs.field(factory=list)
    refusal: list[str] = attrs.field(factory=list)
    calls: dict[int, _Call] = attrs.field(factory=dict)
    finish_reason: str | None = None


@attrs.define
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = attrs.field(factory=list)


class ChatAccumulator:
    """Adds the chunks of a stream up to messages, one per choice, that can be had at any time.

    The work is linear in the chunks. Behind a fault, it has what had come before.
    """

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}
        self._usage: Mapping[str, JSONValue] | None = None

    def add(self, chunk: ChatChunk) -> None:
        """Add the next chunk."""
        if chunk.usage is not None:
            self._usage = chunk.usage  # servers count up, or once
        choice = self._choices.get(chunk.index)
        if choice is None:
            choice = self._choices[chunk.index] = _Choice()
        if chunk.text:
            choice.text.append(chunk.text)
        if chunk.reasoning:
            choice.reasoning.append(chunk.reasoning)
        if chunk.refusal:
            choice.refusal.append(chunk.refusal)
        for piece in chunk.tool_calls:
            _add_call(choice.calls, piece)
        if chunk.finish_reason is not None:
            choice.finish_reason = chunk.finish_reason

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """The message of each choice that a chunk was added of, by index."""
        return tuple(map(self._build, sorted(self._choices)))

    @property
    def message(self) -> ChatMessage:
        """The message of choice 0, empty where no chunk of it was added."""
        return self._build(0)

    def _build(self, index: int) -> ChatMessage:
        choice = self._choices.get(index) or _Choice()
        return ChatMessage(
            index=index,
            text="".join(choice.text),
            reasoning="".join(choice.reasoning),
            refusal="".join(choice.refusal),
            tool_calls=tuple(
                ToolCall(number, call.id, call.name, "".join(call.arguments))
                for number, call in sorted(choice.calls.items())
            ),
            finish_reason=choice.finish_reason,
            usage=self._usage,
        )


def _add_call(calls: dict[int, _Call], piece: ToolCall) -> None:
    call = calls.get(piece.index)
    if call is None:
        call = calls[piece.index] = _Call()
    call.id = call.id or piece.id  # some servers make a new one for each piece
    if piece.name != call.name:  # some repeat it in each
        call.name += piece.name
    if piece.arguments:
        call.arguments.append(piece.arguments)
