"""The text that language models stream, out of the usual shapes of JSON. Pure.

Containers send either JSON documents one after the other (JSON lines) or server-sent events with
one document each. What the pieces of text are called differs; a JMESPath expression says it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Final, cast

from aiosmrt.errors import (
    ConfigurationError,
    InvalidJSON,
    ModelStreamError,
    PayloadError,
)
from aiosmrt.payload.documents import JSONDocumentDecoder
from aiosmrt.payload.sse import EventDecoder, ServerSentEvent
from aiosmrt.payload.text import BYTE_ORDER_MARK
from aiosmrt.tracebacks import drop_tracebacks
from aiosmrt.value import JSONValue

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

# White space and byte order marks say nothing.
IDLE: Final = " \t\r\n\ufeff"
_SPACE: Final = b" \t\r\n"
_DOCUMENT_BEGINS: Final = b'{["'
_EVENT_BEGINS: Final = b":deir"  # of a comment, or of data, event, id and retry
_EXCERPT: Final = 100  # characters of what is no JSON that its error shows
_REASON: Final = 200  # characters of what JMESPath says, which may show a whole document
_REPLACEMENT: Final = "\ufffd"

_decode: Final = cast("Callable[[str], JSONValue]", json.JSONDecoder().decode)


class TokenDecoder:
    """Turns a payload of JSON lines or server-sent events into pieces of text.

    Which of the two it is says the first byte behind white space and byte order marks, else the
    content type. The text can be written as UTF-8, whatever a model escapes: the halves of a
    surrogate pair in two pieces become one character, and half of one alone becomes U+FFFD.

    Args:
        path: the name of a preset, or a JMESPath expression that gives a string, or null where
            there is no text.
        content_type: of the payload.

    Raises:
        ConfigurationError: the path is neither.
    """

    slice_length: Final = 1024  # bytes; measured: 5 ms, of empty documents

    def __init__(self, path: str, content_type: str | None = None) -> None:
        import jmespath  # noqa: PLC0415 - start-up time

        try:
            self._path = jmespath.compile(PRESETS.get(path, path))
        except Exception as error:  # its own, and those of recursion and of long numbers
            raise ConfigurationError(
                f"{path!r} is neither a preset ({', '.join(PRESETS)}) nor a JMESPath expression: "
                f"{_describe(error)}"
            ) from error
        self._content_type = (content_type or "").partition(";")[0].strip().lower()
        # Both take what comes before the first byte that says which, so that both can say where
        # they are.
        self._documents = JSONDocumentDecoder()
        self._events = EventDecoder()
        self._decoder: JSONDocumentDecoder | EventDecoder | None = None
        self._mark = b""  # what has come of a byte order mark before that byte
        self._number = 0  # of the document that is looked at
        self._half = ""  # of a surrogate pair, at the end of the last piece
        self._fault: PayloadError | ModelStreamError | None = None

    def receive(self, data: bytes) -> list[str]:
        """Take the next bytes and give the pieces of text that they complete.

        Raises:
            PayloadError: the payload is not what it should be, or the path gives no string.
            ModelStreamError: the model sent an error in place of text.
        """
        if self._fault is not None:
            raise copy.copy(self._fault)
        if self._decoder is None:
            data = self._mark + data
            rest = data.replace(BYTE_ORDER_MARK, b" ").lstrip(_SPACE)
            if BYTE_ORDER_MARK.startswith(rest):  # or there is none
                self._mark = rest
                self._pass_over(data.removesuffix(rest))
                return []
            self._decoder = self._choose(rest[:1])
        return self._extract(self._decoder, self._decoder.receive(data))

    def finish(self) -> list[str]:
        """Take note that the payload has ended; errors as `receive`."""
        if self._fault is not None:
            raise copy.copy(self._fault)
        if self._decoder is None:
            if not self._mark:
                return []
            self._decoder = self._choose(self._mark[:1])
            self._decoder.receive(self._mark)
        tokens = self._extract(self._decoder, self._decoder.finish())
        if self._half and self._fault is None:
            self._half = ""
            tokens.append(_REPLACEMENT)
        return tokens

    def _pass_over(self, data: bytes) -> None:
        try:
            self._documents.receive(data)
            self._events.receive(data)
        except PayloadError as error:
            self._fault = drop_tracebacks(copy.copy(error))
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
                if text and (self._half or not text.isascii()):
                    text = self._pair(text)
                if text:
                    tokens.append(text)
        except (PayloadError, ModelStreamError) as error:
            self._fault = drop_tracebacks(copy.copy(error))
            if not tokens:
                raise
        return tokens

    def _pair(self, text: str) -> str:
        """Join the halves of surrogate pairs, and replace those that are alone."""
        text = self._half + text
        self._half = ""
        try:
            text.encode()
        except UnicodeEncodeError:
            if "\ud800" <= text[-1] <= "\udbff":  # its other half may come
                self._half = text[-1]
                text = text[:-1]
            return _replace_halves(text)
        return text

    def _read(self, document: JSONValue | ServerSentEvent) -> str | None:
        if isinstance(document, ServerSentEvent):
            if document.data.strip(IDLE) in ("", _DONE):
                return None
            document = parse_document(document.data)
        reported = find_error(document)
        if reported is not None:
            raise copy.copy(reported)  # this frame keeps the other
        try:
            text: JSONValue = self._path.search(document)
        except Exception as error:  # its functions raise what Python does on what a model sends
            raise InvalidJSON(
                f"the path {self._path.expression!r} does not fit: {_describe(error)}"
            ) from error
        if text is None or isinstance(text, str):
            return text
        raise InvalidJSON(
            f"the path {self._path.expression!r} gives a {type(text).__name__}, not a string"
        )


def _describe(error: Exception) -> str:
    """Say in one short line what JMESPath met."""
    try:
        reason = " ".join(str(error).split())
    except (ValueError, RecursionError):  # it shows what it met, which may be nested too deeply
        reason = ""
    if len(reason) > _REASON:
        reason = f"{reason[:_REASON]}…"
    return _replace_halves(reason) or type(error).__name__


def _replace_halves(text: str) -> str:
    """Put U+FFFD for each half of a surrogate pair that is alone: UTF-8 has none."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def parse_document(data: str) -> JSONValue:
    """Parse the data of an event, which may begin with a byte order mark.

    Raises:
        InvalidJSON: it is not one JSON document.
    """
    try:
        return _decode(data.lstrip(IDLE))
    except (ValueError, RecursionError) as error:
        raise InvalidJSON(f"the event's data is not JSON: {data[:_EXCERPT]!r}") from error


def find_error(document: JSONValue) -> ModelStreamError | None:
    """Give the error that a model server reports inside a success: `{"error": ...}`."""
    if not isinstance(document, dict) or not document.get("error"):
        return None
    reported = document["error"]
    message = reported.get("message") if isinstance(reported, dict) else reported
    try:
        text = message if isinstance(message, str) else json.dumps(reported)
    except RecursionError:
        text = "an error that is nested too deeply to be shown"
    return ModelStreamError(_replace_halves(text), status=200, fields=document)
