"""The text that language models stream, out of the usual shapes of JSON. Pure.

Containers send either JSON documents one after the other (JSON lines) or server-sent events with
one document each. What the pieces of text are called differs; a JMESPath expression says it.
"""

from __future__ import annotations

import json
from typing import Final

from aiosmrt.errors import (
    ConfigurationError,
    InvalidJSON,
    ModelStreamError,
    PayloadError,
)
from aiosmrt.models import JSONValue
from aiosmrt.payload import JSONDocumentDecoder
from aiosmrt.sse import EventDecoder, ServerSentEvent

__all__ = ["PRESETS", "TokenDecoder", "find_error"]

PRESETS: Final = {
    "openai-chat": "choices[0].delta.content",
    "openai-completion": "choices[0].text",
    # Text Generation Inference marks tokens that are not part of the text.
    "tgi": "[token][?!special].text | [0]",
    # DJL's Large Model Inference: today's JSON lines, and those of its older releases.
    "lmi": "token.text || outputs[0]",
}
"""Shapes by name, as JMESPath expressions."""

# What OpenAI's protocol, and so most servers, send as the last event.
_DONE: Final = "[DONE]"

_SPACE: Final = b" \t\r\n"
_DOCUMENT_BEGINS: Final = b'{["'
_EVENT_BEGINS: Final = b":deir"  # of a comment, or of data, event, id and retry
_EXCERPT: Final = 100  # characters of what is no JSON that its error shows


class TokenDecoder:
    """Turns a payload of JSON lines or server-sent events into pieces of text.

    Which of the two it is says the first byte that is no white space, else the content type.

    Args:
        path: the name of a preset, or a JMESPath expression that gives a string, or null where
            there is no text.
        content_type: of the payload.

    Raises:
        ConfigurationError: the path is neither.
    """

    def __init__(self, path: str, content_type: str | None = None) -> None:
        import jmespath  # noqa: PLC0415 - start-up time
        import jmespath.exceptions  # noqa: PLC0415

        self._misfit = jmespath.exceptions.JMESPathError
        try:
            self._path = jmespath.compile(PRESETS.get(path, path))
        except self._misfit as error:
            raise ConfigurationError(
                f"{path!r} is neither a preset ({', '.join(PRESETS)}) nor a JMESPath expression: "
                f"{' '.join(str(error).split())}"
            ) from error
        self._content_type = (content_type or "").partition(";")[0].strip().lower()
        # Both take the white space before the first byte, so that both can say where they are.
        self._documents = JSONDocumentDecoder()
        self._events = EventDecoder()
        self._decoder: JSONDocumentDecoder | EventDecoder | None = None
        self._number = 0  # of the document that is looked at
        self._fault: PayloadError | ModelStreamError | None = None

    def receive(self, data: bytes) -> list[str]:
        """Take the next bytes and give the pieces of text that they complete.

        Raises:
            PayloadError: the payload is not what it should be, or the path gives no string.
            ModelStreamError: the model sent an error in place of text.
        """
        if self._fault is not None:
            raise self._fault.with_traceback(None)
        if self._decoder is None:
            first = data.lstrip(_SPACE)[:1]
            if not first:
                self._take_space(data)
                return []
            self._decoder = self._choose(first)
        return self._extract(self._decoder, self._decoder.receive(data))

    def finish(self) -> list[str]:
        """Take note that the payload has ended; errors as `receive`."""
        if self._fault is not None:
            raise self._fault.with_traceback(None)
        decoder = self._decoder
        return [] if decoder is None else self._extract(decoder, decoder.finish())

    def _take_space(self, data: bytes) -> None:
        try:
            self._documents.receive(data)
            self._events.receive(data)
        except PayloadError as error:
            self._fault = error
            raise

    def _choose(self, first: bytes) -> JSONDocumentDecoder | EventDecoder:
        # Containers name the one and send the other; but where the one begins the other cannot.
        if first in _DOCUMENT_BEGINS:
            return self._documents
        if first in _EVENT_BEGINS or self._content_type == "text/event-stream":
            return self._events
        return self._documents

    def _extract(
        self,
        decoder: JSONDocumentDecoder | EventDecoder,
        documents: list[JSONValue] | list[ServerSentEvent],
    ) -> list[str]:
        tokens: list[str] = []
        try:
            for index, document in enumerate(documents):
                self._number += 1
                try:
                    text = self._read(document)
                except InvalidJSON as error:
                    offset = decoder.locate(index)
                    place = f"document {self._number}, at byte {offset} of the payload"
                    raise InvalidJSON(
                        f"{place}: {error.args[0]}", offset=offset
                    ) from error.__cause__
                if text:
                    tokens.append(text)
        except (PayloadError, ModelStreamError) as error:
            self._fault = error
            if not tokens:
                raise
        return tokens

    def _read(self, document: JSONValue | ServerSentEvent) -> str | None:
        if isinstance(document, ServerSentEvent):
            if document.data in ("", _DONE):
                return None
            document = _parse(document.data)
        error = find_error(document)
        if error is not None:
            raise error
        try:
            text: JSONValue = self._path.search(document)
        except self._misfit as error:
            raise InvalidJSON(
                f"the path {self._path.expression!r} does not fit: {' '.join(str(error).split())}"
            ) from error
        if text is None or isinstance(text, str):
            return text
        raise InvalidJSON(
            f"the path {self._path.expression!r} gives a {type(text).__name__}, not a string"
        )


def _parse(data: str) -> JSONValue:
    try:
        parsed: JSONValue = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidJSON(f"the event's data is not JSON: {data[:_EXCERPT]!r}") from error
    return parsed


def find_error(document: JSONValue) -> ModelStreamError | None:
    """Give the error that a model server reports inside a success: `{"error": ...}`."""
    if not isinstance(document, dict) or not document.get("error"):
        return None
    reported = document["error"]
    message = reported.get("message") if isinstance(reported, dict) else reported
    text = message if isinstance(message, str) else json.dumps(reported)
    return ModelStreamError(text, status=200, fields=document)
