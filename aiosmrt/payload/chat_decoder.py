"""UTF-8 bytes to what a chat model says, chunk by chunk. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from aiosmrt.errors import AiosmrtError, ConfigurationError, InvalidJSON, ModelStreamError
from aiosmrt.payload.chat import ChatChunk, ToolCall
from aiosmrt.payload.failures import find_failure
from aiosmrt.payload.misfits import Misfits, name_kind
from aiosmrt.payload.model_documents import ModelDocumentDecoder, name_truncated
from aiosmrt.payload.shapes import DONE, SHAPES
from aiosmrt.payload.text import HalfJoiner, replace_halves
from aiosmrt.payload.tool_calls import ToolCallReader
from aiosmrt.value import JSONValue

__all__ = ["ChatDecoder"]

_TEXT: Final = "text"
_REASONING: Final = "reasoning"
_REFUSAL: Final = "refusal"


@attrs.define
class _Choice:
    """What is known of a choice beside its text."""

    is_over: bool = False
    joiners: dict[str | int, HalfJoiner] = attrs.field(factory=dict)  # by what the text is of
    calls: ToolCallReader = attrs.field(factory=ToolCallReader)

    def join(self, place: str | int, text: str) -> str:
        """Join the halves of surrogate pairs in the texts that go on with each other."""
        if not text or (text.isascii() and place not in self.joiners):
            return text
        return self.joiners.setdefault(place, HalfJoiner()).join(text)


class ChatDecoder(ModelDocumentDecoder[ChatChunk]):
    """Turns the answer of a chat model, as a stream or whole, into chunks: see `ChatChunk`.

    A chunk is given for each choice in each document, and one for a usage that stands alone.

    Args:
        shape: `openai-chat`, `openai-completion`, `tgi` or `lmi`.
        content_type: of the payload.
        require_done: whether an end that is not proven is an error.

    Raises:
        ConfigurationError: there is no such shape.
    """

    def __init__(
        self,
        shape: str = "openai-chat",
        content_type: str | None = None,
        *,
        require_done: bool = True,
    ) -> None:
        if shape not in SHAPES:
            raise ConfigurationError(f"shape={shape!r} is none of {', '.join(SHAPES)}")
        super().__init__(content_type, DONE)
        self.shape: str = shape
        self._shape = SHAPES[shape]
        self._requires_done = require_done
        self._form: str | None = None  # of the documents that have a place for a text
        self._choices: dict[int, _Choice] = {}
        asked = f"the shape {shape!r} ({self._shape.path})"
        self._misfits = Misfits(asked, "read them with another view")

    @property
    def is_proven(self) -> bool:
        """Whether the model has ended: by the event `[DONE]`, or by a reason for each choice.

        An answer that did not come as a stream is whole as it is.
        """
        choices = self._choices.values()
        return self._is_marked or (bool(choices) and all(choice.is_over for choice in choices))

    def is_over(self, index: int) -> bool:
        """Tell whether a choice has ended, with a reason or without."""
        known = self._choices.get(index)
        return known is not None and known.is_over

    def read(self, document: JSONValue, values: list[ChatChunk]) -> ModelStreamError | None:
        """Add the chunks in a document, and give the failure that it reports.

        Raises:
            InvalidJSON: a member has a value of another kind than it should.
        """
        try:
            chunks = self._read_choices(document)
        except InvalidJSON:
            failure = find_failure(document)
            if failure is None:
                raise
            return failure
        values += chunks
        failure = find_failure(document, has_text=bool(chunks))
        if not chunks and failure is None and self._form is None:
            self._misfits.note(document)
        return failure

    def _read_choices(self, document: JSONValue) -> list[ChatChunk]:
        shape = self._shape
        chunks: list[ChatChunk] = []
        choices = shape.find_choices(document)
        for position, choice in enumerate(choices):
            holder = shape.find_holder(choice)
            if holder is not None:
                self._form = "stream"
                text = shape.find_text(choice)
            elif self._form == "stream":
                text = None
                if shape.find_end(choice) is None:
                    continue
            else:
                holder = shape.find_whole_holder(choice)
                if holder is None:
                    continue
                self._form = "whole"
                text = shape.find_whole_text(choice)
            chunks.append(self._read_choice(position, choice, holder, text))
            chunks[-1].raw = document
        usage = shape.find_usage(document)
        if usage is not None and not choices:
            chunks.append(ChatChunk(0, raw=document))
        if usage is not None and chunks:
            self.usage: Mapping[str, JSONValue] | None = usage
            chunks[-1].usage = usage
        return chunks

    def _read_choice(
        self, position: int, choice: JSONValue, holder: JSONValue, text: JSONValue
    ) -> ChatChunk:
        index = self._shape.find_index(choice)
        if index is None:
            index = position
        known = self._choices.get(index)
        if known is None:
            known = self._choices[index] = _Choice()
        chunk = ChatChunk(index)
        if isinstance(text, str):
            chunk.text = text
        elif text is not None:
            chunk.text, chunk.reasoning = _read_parts(text)
        chunk.text = known.join(_TEXT, chunk.text)
        if isinstance(holder, dict):
            self._read_more(chunk, known, holder)
        if self._form == "whole" or self._shape.find_end(choice) is not None:
            known.is_over = True
            chunk.finish_reason = _read_reason(self._shape.find_reason(choice))
        return chunk

    def _read_more(self, chunk: ChatChunk, known: _Choice, holder: dict[str, JSONValue]) -> None:
        """Read what a delta or a message says beside a text."""
        # Newer and older servers; those in between write both.
        reasoning = holder.get("reasoning") or holder.get("reasoning_content")
        if reasoning:
            chunk.reasoning += _read_text(reasoning, "reasoning")
        if chunk.reasoning:
            chunk.reasoning = known.join(_REASONING, chunk.reasoning)
        refusal = holder.get("refusal")
        if refusal:
            chunk.refusal = known.join(_REFUSAL, _read_text(refusal, "refusal"))
        if holder.get("tool_calls") or holder.get("function_call"):
            calls = tuple(known.calls.read(holder, is_whole=self._form == "whole"))
            for call in calls:
                call.arguments = known.join(call.index, call.arguments)
            chunk.tool_calls = calls

    def _flush(self) -> list[ChatChunk]:
        chunks: list[ChatChunk] = []
        for index, known in self._choices.items():
            rests = {place: joiner.flush() for place, joiner in known.joiners.items()}
            if any(rests.values()):
                chunk = ChatChunk(index)
                chunk.text = rests.pop(_TEXT, "")
                chunk.reasoning = rests.pop(_REASONING, "")
                chunk.refusal = rests.pop(_REFUSAL, "")
                chunk.tool_calls = tuple(
                    ToolCall(place, "", "", rest)
                    for place, rest in rests.items()
                    if isinstance(place, int) and rest
                )
                chunks.append(chunk)
        return chunks

    def _refuse_end(self) -> AiosmrtError | None:
        error = self._misfits.refuse() if self._form is None else None
        if error is None and self._requires_done and not self.is_proven:
            missing = "its last document" if self._shape.done is None else "a finish reason"
            running = [str(index) for index, known in self._choices.items() if not known.is_over]
            if len(self._choices) > 1:
                missing += f" of choice {', '.join(running)}"
            if self.framing == "events" and self._shape.done is not None:
                missing = f"the event {DONE!r} or {missing}"
            return name_truncated(missing)
        return error


def _read_text(value: JSONValue, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidJSON(f"the {what} is {name_kind(value)}, not a string")
    return value


def _read_parts(content: JSONValue) -> tuple[str, str]:
    """Give the text and the reasoning of a content that is a list of parts, as Mistral's is."""
    if not isinstance(content, list):
        raise InvalidJSON(f"the text is {name_kind(content)}, not a string")
    thoughts = [part.get("thinking") for part in content if isinstance(part, dict)]
    return _join(content), "".join(_join(thought) for thought in thoughts)


def _join(parts: JSONValue) -> str:
    """Join the texts in a list of parts; a text alone is one, too."""
    words = (
        part.get("text") if isinstance(part, dict) else part
        for part in (parts if isinstance(parts, list) else [parts])
    )
    return "".join(word for word in words if isinstance(word, str))


def _read_reason(reason: JSONValue) -> str | None:
    if isinstance(reason, dict):  # as SGLang writes it
        reason = reason.get("type")
    return None if reason is None else replace_halves(_read_text(reason, "reason to end"))
