"""The text that language models stream, out of the usual shapes of JSON. Pure.

Containers send either JSON documents one after the other (JSON lines) or server-sent events with
one document each. What the pieces of text are called differs; a JMESPath expression says it.
"""

from __future__ import annotations

import copy
from typing import Final, cast

from aiosmrt.errors import (
    AiosmrtError,
    InvalidJSON,
    ModelStreamError,
    PayloadError,
    TruncatedStream,
)
from aiosmrt.payload.documents import JSONDocumentDecoder
from aiosmrt.payload.failures import find_failure
from aiosmrt.payload.large_document import LargeDocument
from aiosmrt.payload.presets import DONE
from aiosmrt.payload.reports import IDLE, DataLeft, ReportDecoder, find_named_failure, parse_data
from aiosmrt.payload.sse import ServerSentEvent
from aiosmrt.payload.text import BYTE_ORDER_MARK, replace_halves
from aiosmrt.payload.text_path import TextPath
from aiosmrt.tracebacks import drop_tracebacks
from aiosmrt.value import JSONValue

__all__ = ["TokenDecoder"]

_SPACE: Final = b" \t\r\n"
_DOCUMENT_BEGINS: Final = b'{["'
_EVENT_BEGINS: Final = b":deir"  # of a comment, or of data, event, id and retry
_REPLACEMENT: Final = "\ufffd"


class TokenDecoder:
    """Turns a payload of JSON lines or server-sent events into pieces of text.

    Which of the two it is says the first byte behind white space and byte order marks, else the
    content type. The text can be written as UTF-8, whatever a model escapes: the halves of a
    surrogate pair in two pieces become one character, and half of one alone becomes U+FFFD.

    Args:
        path: the name of a preset, or a JMESPath expression that gives a string, or null where
            there is no text.
        content_type: of the payload.
        done: the data of the event that marks the end; a preset knows its own.
        require_done: whether an end without it is an error. For documents that are no events, and
            servers that send none, it is what only the last document of a preset has.

    Raises:
        ConfigurationError: the path is neither.
        ValueError: `require_done` with an expression and without `done`.
    """

    slice_length: Final = 1024  # bytes; measured: 10 ms, of empty documents

    def __init__(
        self,
        path: str,
        content_type: str | None = None,
        *,
        done: str | None = None,
        require_done: bool = False,
    ) -> None:
        self._path = TextPath(path)
        if require_done and done is None and not self._path.is_preset:
            raise ValueError("require_done needs done, or a preset, which knows what marks the end")
        self._done = self._path.done if done is None else done.strip(IDLE)
        self._missing = require_done
        self._content_type = (content_type or "").partition(";")[0].strip().lower()
        # Both take what comes before the first byte that says which, so that both can say where
        # they are.
        self._documents = JSONDocumentDecoder()
        self._events = ReportDecoder()
        self._decoder: JSONDocumentDecoder | ReportDecoder | None = None
        self._mark = b""  # what has come of a byte order mark before that byte
        self._left: list[ServerSentEvent] = []  # the first of them for its steps to be taken
        self._number = 0  # of the document that is looked at
        self._half = ""  # of a surrogate pair, at the end of the last piece
        self._fault: AiosmrtError | None = None

    def receive(self, data: bytes) -> list[str]:
        """Take the next bytes and give the pieces of text that they complete.

        Raises:
            PayloadError: the payload is not what it should be, or the path gives no string.
            ModelStreamError: the model server reported a failure, in place of a text or behind it.
        """
        if self._fault is not None:
            raise copy.copy(self._fault)
        if self._left:
            left, self._left = self._left, []
            return self._extract(self._events, left)
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
        """Take note that the payload has ended; errors as `receive`.

        Raises:
            PayloadError: no document had a place for a text, or what came was none.
            TruncatedStream: what marks the end has not come, and it was required.
        """
        if self._fault is not None:
            raise copy.copy(self._fault)
        tokens: list[str] = []
        if self._decoder is None and self._mark:
            self._decoder = self._choose(self._mark[:1])
            self._decoder.receive(self._mark)
        if self._decoder is not None:
            tokens = self._extract(self._decoder, self._decoder.finish())
            if self._decoder.large is not None:
                return tokens
        if self._half and self._fault is None:
            self._half = ""
            tokens.append(_REPLACEMENT)
        if not tokens and self._fault is None:
            self._fault = self._judge_end()
            if self._fault is not None:
                raise copy.copy(self._fault)
        return tokens

    def leave_large(self) -> None:
        """Leave documents that are too long for one step in `large`, from now on."""
        self._documents.leave_large()
        self._events.leave_large()

    @property
    def large(self) -> LargeDocument | None:
        """A document whose steps are to be taken before the next call, which gives its text."""
        return None if self._decoder is None else self._decoder.large

    def _judge_end(self) -> AiosmrtError | None:
        """Give what is wrong with a payload that has ended, and of which all was sound."""
        if not self._number and self._events.foreign:
            return PayloadError(
                "the payload is neither JSON nor server-sent events, it begins with "
                f"{self._events.foreign!r}"
            )
        error = self._path.refuse()
        if error is None and self._missing:
            by_event = self._done is not None and self._decoder is not self._documents
            mark = f"the event {self._done!r}" if by_event else "its last document"
            return TruncatedStream(f"the stream ended without {mark}: the model stopped early")
        return error

    def _pass_over(self, data: bytes) -> None:
        try:
            self._documents.receive(data)
            self._events.receive(data)
        except PayloadError as error:
            self._fault = drop_tracebacks(copy.copy(error))
            raise

    def _choose(self, first: bytes) -> JSONDocumentDecoder | ReportDecoder:
        # Containers name the one and send the other; but where the one begins the other cannot.
        if first in _DOCUMENT_BEGINS:
            return self._documents
        if first in _EVENT_BEGINS or self._content_type == "text/event-stream":
            return self._events
        return self._documents

    def _extract(
        self,
        decoder: JSONDocumentDecoder | ReportDecoder,
        documents: list[JSONValue] | list[ServerSentEvent],
    ) -> list[str]:
        tokens: list[str] = []
        try:
            for index, document in enumerate(documents):
                self._number += 1
                try:
                    text, failure = self._read(document)
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
                if failure is not None:
                    raise copy.copy(failure)  # this frame keeps the other
        except DataLeft:  # by the first: only what is longer than a slice is
            self._left = cast("list[ServerSentEvent]", documents)
            self._number -= 1
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
            return replace_halves(text)
        return text

    def _read(
        self, document: JSONValue | ServerSentEvent
    ) -> tuple[str | None, ModelStreamError | None]:
        """Give the text in a document or an event, and the failure that it reports."""
        by_event = isinstance(document, ServerSentEvent)
        if isinstance(document, ServerSentEvent):
            failure = find_named_failure(document, self._events.decode)
            if failure is not None:
                return None, failure
            data = document.data.strip(IDLE)
            if data in ("", DONE, self._done):
                self._missing = self._missing and data != self._done
                return None, None
            document = parse_data(document, self._events.decode)
        document = self._path.select(document)
        try:
            text = self._path.find(document)
        except InvalidJSON:
            failure = find_failure(document)
            if failure is None:
                raise
            return None, failure
        if self._missing and (self._done is None or not by_event):
            self._missing = not self._path.is_end(document)
        failure = find_failure(document, has_text=bool(text))
        if (
            failure is not None
            and not self._path.is_preset
            and find_failure(document, by_reason=False)
        ):
            text = None  # an expression may find the report's own words
        return text, failure
