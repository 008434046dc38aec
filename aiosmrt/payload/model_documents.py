"""The documents that model servers send, as JSON lines or server-sent events. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Final, Generic, Literal, TypeVar, cast

from aiosmrt.errors import (
    AiosmrtError,
    InvalidJSON,
    ModelStreamError,
    PayloadError,
    TruncatedStream,
)
from aiosmrt.payload.documents import JSONDocumentDecoder
from aiosmrt.payload.large_document import LargeDocument
from aiosmrt.payload.reports import IDLE, DataLeft, ReportDecoder, find_named_failure, parse_data
from aiosmrt.payload.shapes import DONE
from aiosmrt.payload.sse import ServerSentEvent
from aiosmrt.payload.text import BYTE_ORDER_MARK
from aiosmrt.tracebacks import drop_tracebacks
from aiosmrt.value import JSONValue

__all__ = ["ModelDocumentDecoder", "name_truncated"]

T = TypeVar("T")

_SPACE: Final = b" \t\r\n"
_DOCUMENT_BEGINS: Final = b'{["'
_EVENT_BEGINS: Final = b":deir"  # of a comment, or of data, event, id and retry


class ModelDocumentDecoder(Generic[T]):
    """Turns a payload of JSON lines or server-sent events into what is read in its documents.

    Which of the two it is says the first byte behind white space and byte order marks, else the
    content type. What is read, and what is wrong with an end, say those who are made of it.

    Args:
        content_type: of the payload.
        done: the data of the event that marks the end; None where none does.

    Attributes:
        shape: the name of what the documents look like; None where it has none.
        usage: tokens counted so far, as the server says them; None where nothing is known of them.
    """

    slice_length: Final = 1024  # bytes; measured: 10 ms, of empty documents
    shape: str | None = None
    usage: Mapping[str, JSONValue] | None = None

    def __init__(self, content_type: str | None, done: str | None) -> None:
        self._done = done
        self._is_marked = False  # whether that event has come
        self._content_type = (content_type or "").partition(";")[0].strip().lower()
        # Both take what comes before the first byte that says which, so that both can say where
        # they are.
        self._documents = JSONDocumentDecoder()
        self._events = ReportDecoder()
        self._decoder: JSONDocumentDecoder | ReportDecoder | None = None
        self._mark = b""  # what has come of a byte order mark before that byte
        self._left: list[ServerSentEvent] = []  # the first of them for its steps to be taken
        self._number = 0  # of the document that is looked at
        self._fault: AiosmrtError | None = None

    def receive(self, data: bytes) -> list[T]:
        """Take the next bytes and give what the documents hold that they complete.

        Raises:
            PayloadError: the payload is not what it should be.
            ModelStreamError: the model server reported a failure, in place of something or behind
                it.
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

    def finish(self) -> list[T]:
        """Take note that the payload has ended; errors as `receive`.

        Raises:
            PayloadError: no document had a place for what is looked for, or what came was none.
            TruncatedStream: what marks the end has not come, and it was required.
        """
        if self._fault is not None:
            raise copy.copy(self._fault)
        values: list[T] = []
        if self._decoder is None and self._mark:
            self._decoder = self._choose(self._mark[:1])
            self._decoder.receive(self._mark)
        if self._decoder is not None:
            values = self._extract(self._decoder, self._decoder.finish())
            if self._decoder.large is not None:
                return values
        if self._fault is None:
            values += self._flush()
        if not values and self._fault is None:
            self._fault = self._judge_end()
            if self._fault is not None:
                raise copy.copy(self._fault)
        return values

    def leave_large(self) -> None:
        """Leave documents that are too long for one step in `large`, from now on."""
        self._documents.leave_large()
        self._events.leave_large()

    @property
    def large(self) -> LargeDocument | None:
        """A document whose steps are to be taken before the next call, which gives its values."""
        return None if self._decoder is None else self._decoder.large

    @property
    def framing(self) -> Literal["documents", "events"] | None:
        """Whether the documents are JSON lines or the data of events; None before the first."""
        if self._decoder is None:
            return None
        return "events" if self._decoder is self._events else "documents"

    def read(self, document: JSONValue, values: list[T]) -> ModelStreamError | None:
        """Add what is in a document to the values, and give the failure that it reports.

        Raises:
            InvalidJSON: it is not what it should be.
        """
        raise NotImplementedError

    def _skip(self, events: int, length: int) -> None:
        """Take note of so many whole events that were read elsewhere.

        Args:
            events: how many.
            length: bytes of them together.

        Raises:
            PayloadError: what was wrong before.
        """
        self._number += events
        self._events.skip(length)

    def _flush(self) -> list[T]:
        """Give what was kept for a document that has not come."""
        raise NotImplementedError

    def _refuse_end(self) -> AiosmrtError | None:
        """Give what is wrong with an end behind documents that were all sound."""
        raise NotImplementedError

    def _judge_end(self) -> AiosmrtError | None:
        if not self._number and self._events.foreign:
            return PayloadError(
                "the payload is neither JSON nor server-sent events, it begins with "
                f"{self._events.foreign!r}"
            )
        return self._refuse_end()

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
    ) -> list[T]:
        values: list[T] = []
        try:
            for index, document in enumerate(documents):
                self._number += 1
                try:
                    failure = (
                        self._read_event(document, values)
                        if isinstance(document, ServerSentEvent)
                        else self.read(document, values)
                    )
                except InvalidJSON as error:
                    offset = decoder.locate(index)
                    place = f"document {self._number}, at byte {offset} of the payload"
                    raise InvalidJSON(
                        f"{place}: {error.args[0]}", offset=offset
                    ) from error.__cause__
                if failure is not None:
                    raise copy.copy(failure)  # this frame keeps the other
        except DataLeft:  # by the first: only what is longer than a slice is
            self._left = cast("list[ServerSentEvent]", documents)
            self._number -= 1
        except (PayloadError, ModelStreamError) as error:
            self._fault = drop_tracebacks(copy.copy(error))
            if not values:
                raise
        return values

    def _read_event(self, event: ServerSentEvent, values: list[T]) -> ModelStreamError | None:
        failure = find_named_failure(event, self._events.decode)
        if failure is not None:
            return failure
        data = event.data.strip(IDLE)
        if data in ("", DONE, self._done):
            self._is_marked = self._is_marked or data == self._done
            return None
        return self.read(parse_data(event, self._events.decode), values)


def name_truncated(missing: str) -> TruncatedStream:
    """Say what the end of a stream lacks."""
    return TruncatedStream(f"the stream ended without {missing}: the model stopped early")
