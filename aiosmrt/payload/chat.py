"""What a chat model says: chunk by chunk, and whole. Values alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs

from aiosmrt.errors import InvalidJSON
from aiosmrt.tracebacks import hides_locals
from aiosmrt.value import JSONValue, Value

__all__ = ["ChatChunk", "ChatMessage", "ToolCall"]

_EXCERPT: Final = 24  # characters of malformed arguments that their error shows


# Not frozen, as chunks are not: attrs' frozen slotted __init__ costs three times as much.
@attrs.define(eq=False, repr=False)
class ToolCall(Value):
    """A call of a tool that a model asks for: whole in a message, in a chunk a piece of one.

    Attributes:
        index: of the call, counts from 0; pieces of one call have the same.
        id: what the answer to the call names it by; empty where the server has none, and in a
            piece behind the one that says it.
        name: of the tool; empty in a piece behind the one that says it.
        arguments: JSON text, of which a piece may end anywhere.
    """

    index: int
    id: str
    name: str
    arguments: str

    @hides_locals
    def parse_arguments(self) -> Any:  # noqa: ANN401 - as `json.loads`
        """Parse the arguments of a whole call, typed as what `json.loads` gives.

        Models call a tool that takes nothing with `{}` or with an empty text: both are `{}` here.

        Raises:
            InvalidJSON: they are not one JSON document; `offset` counts the bytes of them before
                the place at fault.
        """
        if not self.arguments.strip():
            return {}
        try:
            return json.loads(self.arguments)
        except json.JSONDecodeError as error:
            position, reason = error.pos, error.msg
        except (ValueError, RecursionError) as error:  # a number of too many digits, or too deep
            position, reason = 0, str(error)
        offset = len(self.arguments[:position].encode("utf-8", "surrogatepass"))
        rest = self.arguments[position : position + _EXCERPT]
        raise InvalidJSON(
            f"the arguments of the tool call {self.name!r} are malformed JSON at byte {offset}:"
            f" {reason}; they {f'go on with {rest!r}' if rest else 'end there'}",
            offset=offset,
        )


# Not frozen: one is made per document of a stream, and attrs' frozen slotted __init__ costs three
# times as much.
@attrs.define(eq=False, repr=False)
class ChatChunk(Value):
    """What one document of a stream says of one choice.

    Texts are empty where it says none, and can be written as UTF-8: the halves of a surrogate pair
    in two chunks become one character, and half of one alone becomes U+FFFD.

    Attributes:
        index: of the choice, counts from 0; what is said of all choices has 0, too.
        text: a piece of the answer.
        reasoning: a piece of what the model thinks before it.
        refusal: a piece of why the model does not answer, which some servers do not call a text.
        tool_calls: pieces of the tool calls that it asks for.
        finish_reason: why the choice ended, in the server's word, such as `stop`, `length` or
            `tool_calls`; TGI says `eos_token`.
        usage: tokens counted so far, as the server says them; those of TGI and LMI as
            `prompt_tokens` and `completion_tokens`.
        raw: the document, as `json.loads` gives it; a document of several choices is that of as
            many chunks. None for what became of half of a surrogate pair at the end.
    """

    index: int
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Mapping[str, JSONValue] | None = None
    raw: JSONValue = attrs.field(default=None, repr=False)


@attrs.frozen(eq=False, repr=False)
class ChatMessage(Value):
    """What a model has said in one choice: all of it, or so far.

    Attributes:
        index: of the choice, counts from 0: a request may ask for several answers.
        text: the answer, may be empty.
        reasoning: what the model thought before it, may be empty.
        refusal: why the model did not answer, where its server does not call that a text.
        tool_calls: the tool calls that it asks for, by their index.
        finish_reason: why it ended, in the server's word; None where the server gave none.
        usage: tokens of the whole answer, of all choices, as of `ChatChunk`; None where the server
            counts none.
    """

    index: int
    text: str
    reasoning: str
    refusal: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str | None
    usage: Mapping[str, JSONValue] | None

    def to_dict(self) -> dict[str, JSONValue]:
        """Give it as the next request has it among its messages, in OpenAI's chat shape.

        The reasoning is left out: models are not to see it again.
        """
        message: dict[str, JSONValue] = {"role": "assistant", "content": self.text}
        if self.refusal:
            message["refusal"] = self.refusal
        if self.tool_calls:
            message["content"] = self.text or None
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.tool_calls
            ]
        return message
