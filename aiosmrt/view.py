"""A view of a response stream: one decoder over all of its parts."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Generic, Protocol, Self, TypeVar

from aiosmrt.errors import AiosmrtError, ModelStreamError, TruncatedStream
from aiosmrt.models import PayloadPart
from aiosmrt.payload import TextDecoder
from aiosmrt.sse import EventDecoder, ServerSentEvent

__all__ = ["Decoder", "MarkedEventDecoder", "TextPieceDecoder", "View"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Decoder(Protocol[T_co]):
    """What turns payload bytes into values: see `aiosmrt.payload`."""

    def receive(self, data: bytes) -> Iterable[T_co]:
        """Take the next bytes, in any split, and give what they complete."""

    def finish(self) -> Iterable[T_co]:
        """Take note of the proven end, and give what it completes."""


_NOTHING: Final = PayloadPart(b"")


class View(Generic[T]):
    """The values that a decoder finds in the parts of a stream, in order."""

    __slots__ = (
        "_ask_again",
        "_decoder",
        "_ended",
        "_fail",
        "_ready",
        "_receive",
        "drop",
    )

    def __init__(
        self,
        receive: Callable[[], Awaitable[PayloadPart | None]],
        decoder: Decoder[T],
        fail: Callable[[AiosmrtError], Awaitable[AiosmrtError]],
    ) -> None:
        self._receive = receive  # gives the next part, `None` at the proven end
        self._decoder = decoder
        self._fail = fail  # takes what the decoder refuses, and gives the error to raise
        self._ready: deque[T] = deque()
        self._ask_again = False
        self._ended = False
        self.drop: Callable[[], None] = self._ready.clear  # forgets what was not given yet

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            # Behind sound values there may be a fault, which is not to wait for the next part.
            part = _NOTHING if self._ask_again else await self._receive()
            try:
                if part is None:
                    self._ready.extend(self._decoder.finish())
                    self._ended = not self._ready
                else:
                    self._ready.extend(self._decoder.receive(part.bytes))
            except AiosmrtError as error:
                self._ask_again = False  # the stream repeats what was raised
                raise await self._fail(error) from error.__cause__
            self._ask_again = bool(self._ready)
        return self._ready.popleft()


class TextPieceDecoder:
    """Text as a list of at most one piece, as a view takes it; errors as `TextDecoder`."""

    def __init__(self, errors: str) -> None:
        self._decoder = TextDecoder(errors)

    def receive(self, data: bytes) -> list[str]:
        """Take the next bytes and give the text that they complete."""
        text = self._decoder.receive(data)
        return [text] if text else []

    def finish(self) -> list[str]:
        """Take note of the proven end."""
        text = self._decoder.finish()
        return [text] if text else []


class MarkedEventDecoder:
    """Server-sent events up to a marker that says that the model is done.

    Args:
        done: the data of the marker, which is not given; `None` where there is none.
        require_done: whether an end without the marker is an error.
        raise_on_error: whether an event whose data is `{"error": ...}` is raised.

    Raises:
        ValueError: a marker is required, and there is none.
    """

    def __init__(
        self, decoder: EventDecoder, done: str | None, *, require_done: bool, raise_on_error: bool
    ) -> None:
        if require_done and done is None:
            raise ValueError("require_done needs done: the data of the event that marks the end")
        self._decoder = decoder
        self._done = done
        self._missing = require_done
        self._raise_on_error = raise_on_error
        self._fault: AiosmrtError | None = None

    def receive(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and give the events that they complete.

        Raises:
            PayloadError: as `EventDecoder.receive`.
            ModelStreamError: the model sent an error, and errors are to be raised.
        """
        self._repeat()
        return self._select(self._decoder.receive(data))

    def finish(self) -> list[ServerSentEvent]:
        """Take note of the proven end.

        Raises:
            TruncatedStream: the marker has not come, and it was required.
        """
        self._repeat()
        events = self._select(self._decoder.finish())
        if self._missing and not events:
            self._fault = TruncatedStream(
                f"the stream ended without the event {self._done!r}: the model stopped early"
            )
            raise self._fault
        return events

    def _repeat(self) -> None:
        if self._fault is not None:
            raise self._fault.with_traceback(None)  # or it would grow with every call

    def _select(self, events: list[ServerSentEvent]) -> list[ServerSentEvent]:
        selected: list[ServerSentEvent] = []
        for event in events:
            if self._done is not None and event.data == self._done:
                self._missing = False
                continue
            if self._raise_on_error and event.data.startswith("{"):
                self._fault = _find_error(event.data)
                if self._fault is not None:
                    if not selected:
                        raise self._fault
                    break
            selected.append(event)
        return selected


def _find_error(data: str) -> ModelStreamError | None:
    from aiosmrt.tokens import find_error  # noqa: PLC0415 - slow, and few streams need it

    try:
        return find_error(json.loads(data))
    except (ValueError, RecursionError):
        return None
