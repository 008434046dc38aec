"""The shapes in which language models send text, by name, as JMESPath expressions."""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["DONE", "PRESETS", "Preset"]

# What OpenAI's protocol, and so most servers, send as the last event.
DONE: Final = "[DONE]"

_GENERATED_TEXT: Final = "not_null(generated_text, [0].generated_text)"


@attrs.frozen
class Preset:
    """Where a server's documents have what. Each is null in a document that has it not."""

    text: str  # the piece of text in a document of a stream
    holder: str  # what holds it, in every document of a stream, be there a text or not
    whole_text: str  # the text in the one document of an answer that did not come as a stream
    whole_holder: str
    end: str  # what only the last document of a stream has
    done: str | None = None  # the data of the event behind the last document


PRESETS: Final = {
    "openai-chat": Preset(
        text="choices[0].delta.content",
        holder="choices[0].delta",
        whole_text="choices[0].message.content",
        whole_holder="choices[0].message",
        end="choices[0].finish_reason",
        done=DONE,
    ),
    "openai-completion": Preset(
        text="choices[0].text",
        holder="choices[0].text",
        whole_text="choices[0].text",
        whole_holder="choices[0].text",
        end="choices[0].finish_reason",
        done=DONE,
    ),
    # Text Generation Inference marks tokens that are not part of the text.
    "tgi": Preset(
        text="[token][?!special].text | [0]",
        holder="token",
        whole_text=_GENERATED_TEXT,
        whole_holder=_GENERATED_TEXT,
        end="not_null(generated_text, details.finish_reason)",
    ),
    # DJL's Large Model Inference: today's JSON lines, and those of its older releases.
    "lmi": Preset(
        text="token.text || outputs[0]",
        holder="token || outputs",
        whole_text=_GENERATED_TEXT,
        whole_holder=_GENERATED_TEXT,
        end="not_null(generated_text, details.finish_reason)",
    ),
}
