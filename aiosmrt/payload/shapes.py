"""The shapes in which language models answer, by name: where their documents have what. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from aiosmrt.value import JSONValue

__all__ = ["DONE", "SHAPES", "Shape"]

# What OpenAI's protocol, and so most servers, send as the last event.
DONE: Final = "[DONE]"


class Shape(Protocol):
    """Where a server's documents have what. What a document has not is null.

    Attributes:
        path: a JMESPath expression for the text in a document of a stream.
        done: the data of the event behind the last document, None where servers send none.
    """

    path: str
    done: str | None

    def find_choices(self, document: JSONValue) -> Sequence[JSONValue]:
        """Give the answers in a document, of which it mostly has one, or pieces of them."""

    def find_index(self, choice: JSONValue) -> int | None:
        """Give the number of a choice, None where it is its place among the others."""

    def find_holder(self, choice: JSONValue) -> JSONValue:
        """Give what holds the text in a stream: it is there also where there is no text."""

    def find_text(self, choice: JSONValue) -> JSONValue:
        """Give the piece of text in a document of a stream."""

    def find_whole_holder(self, choice: JSONValue) -> JSONValue:
        """Give what holds the text of an answer that did not come as a stream."""

    def find_whole_text(self, choice: JSONValue) -> JSONValue:
        """Give the text of an answer that did not come as a stream."""

    def find_end(self, choice: JSONValue) -> JSONValue:
        """Give what only the last document of a stream has for a choice."""

    def find_reason(self, choice: JSONValue) -> JSONValue:
        """Give why a choice ended, in the server's word."""

    def find_usage(self, document: JSONValue) -> dict[str, JSONValue] | None:
        """Give the tokens that were counted, under OpenAI's names."""


class _OpenAI:
    """What OpenAI's two shapes have in common."""

    done: str | None = DONE

    def find_choices(self, document: JSONValue) -> Sequence[JSONValue]:
        choices = document.get("choices") if isinstance(document, dict) else None
        return choices if isinstance(choices, list) else ()

    def find_index(self, choice: JSONValue) -> int | None:
        index = choice.get("index") if isinstance(choice, dict) else None
        return index if isinstance(index, int) and not isinstance(index, bool) else None

    def find_end(self, choice: JSONValue) -> JSONValue:
        # Some servers write an empty reason as long as there is none.
        return choice.get("finish_reason") or None if isinstance(choice, dict) else None

    find_reason = find_end

    def find_usage(self, document: JSONValue) -> dict[str, JSONValue] | None:
        usage = document.get("usage") if isinstance(document, dict) else None
        return usage if isinstance(usage, dict) else None


class _Chat(_OpenAI):
    path = "choices[0].delta.content"

    def find_holder(self, choice: JSONValue) -> JSONValue:
        return choice.get("delta") if isinstance(choice, dict) else None

    def find_text(self, choice: JSONValue) -> JSONValue:
        return _get(self.find_holder(choice), "content")

    def find_whole_holder(self, choice: JSONValue) -> JSONValue:
        return _get(choice, "message")

    def find_whole_text(self, choice: JSONValue) -> JSONValue:
        return _get(self.find_whole_holder(choice), "content")


class _Completion(_OpenAI):
    path = "choices[0].text"

    def find_text(self, choice: JSONValue) -> JSONValue:
        return _get(choice, "text")

    find_holder = find_whole_holder = find_whole_text = find_text


class _Generation:
    """What Text Generation Inference and DJL's Large Model Inference have in common."""

    done: str | None = None

    def find_choices(self, document: JSONValue) -> Sequence[JSONValue]:
        if isinstance(document, list):  # only an answer that did not come as a stream is one
            return [{name: _get(answer, name) for name in _WHOLE} for answer in document]
        return (document,)

    def find_index(self, choice: JSONValue) -> int | None:  # noqa: ARG002 - it counts tokens there
        return None

    def find_whole_text(self, choice: JSONValue) -> JSONValue:
        return _get(choice, "generated_text")

    find_whole_holder = find_whole_text

    def find_end(self, choice: JSONValue) -> JSONValue:
        text = _get(choice, "generated_text")
        return self.find_reason(choice) if text is None else text

    def find_reason(self, choice: JSONValue) -> JSONValue:
        reason = _get(_get(choice, "details"), "finish_reason")
        # LMI upon vLLM writes the number of the token that ended a whole answer; TGI has a word.
        is_token = isinstance(reason, int) and not isinstance(reason, bool)
        return "eos_token" if is_token else reason

    def find_usage(self, document: JSONValue) -> dict[str, JSONValue] | None:
        for choice in self.find_choices(document):
            details = _get(choice, "details")
            if isinstance(details, dict):
                usage = {
                    theirs: details[ours]
                    for ours, theirs in _COUNTS.items()
                    if details.get(ours) is not None
                }
                if usage:
                    return usage
        return None


_WHOLE: Final = ("generated_text", "details")
_COUNTS: Final = {
    "prompt_tokens": "prompt_tokens",
    "input_length": "prompt_tokens",
    "generated_tokens": "completion_tokens",
}


class _TGI(_Generation):
    path = "[token][?!special].text | [0]"

    def find_holder(self, choice: JSONValue) -> JSONValue:
        return _get(choice, "token")

    def find_text(self, choice: JSONValue) -> JSONValue:
        # It marks tokens that are no part of the text.
        token = self.find_holder(choice)
        return None if _is_true(_get(token, "special")) else _get(token, "text")


class _LMI(_Generation):
    """Today's JSON lines, and those of its older releases."""

    path = "token.text || outputs[0]"

    def find_choices(self, document: JSONValue) -> Sequence[JSONValue]:
        outputs = _get(document, "outputs")
        if isinstance(outputs, list) and len(outputs) > 1:
            return [{"outputs": [output]} for output in outputs]
        return super().find_choices(document)

    def find_holder(self, choice: JSONValue) -> JSONValue:
        token = _get(choice, "token")
        return token if _is_true(token) else _get(choice, "outputs")

    def find_text(self, choice: JSONValue) -> JSONValue:
        text = _get(_get(choice, "token"), "text")
        outputs = _get(choice, "outputs")
        if _is_true(text):
            return text
        return outputs[0] if isinstance(outputs, list) and outputs else None


SHAPES: Final[dict[str, Shape]] = {
    "openai-chat": _Chat(),
    "openai-completion": _Completion(),
    "tgi": _TGI(),
    "lmi": _LMI(),
}


def _get(value: JSONValue, name: str) -> JSONValue:
    return value.get(name) if isinstance(value, dict) else None


def _is_true(value: JSONValue) -> bool:
    """Tell whether there is something, as JMESPath has it: 0 is."""
    return bool(value) or (isinstance(value, int | float) and not isinstance(value, bool))
