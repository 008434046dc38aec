"""A view of a response stream: one decoder over all of its parts."""

from __future__ import annotations

import copy
import functools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, Protocol, Self, TypeVar, runtime_checkable

from aiosmrt.errors import AiosmrtError, TruncatedStream
from aiosmrt.payload.bounds import DEFAULT_MAX_LENGTH
from aiosmrt.payload.large_document import LargeDocument
from aiosmrt.payload.reports import (
    IDLE,
    DataLeft,
    ReportDecoder,
    find_named_failure,
    find_told_failure,
)
from aiosmrt.payload.sse import EventDecoder, ServerSentEvent
from aiosmrt.payload.text import TextDecoder

__all__ = ["Decoder", "MarkedEventDecoder", "Part", "TextPieceDecoder", "View"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Decoder(Protocol[T_co]):
    """What turns payload bytes into values: see `aiosmrt.payload`."""

    @property
    def slice_length(self) -> int:
        """The most bytes at once that hold an event loop for some milliseconds only."""

    def receive(self, data: bytes) -> Sequence[T_co]:
        """Take the next bytes, in any split, and give what they complete."""

    def finish(self) -> Sequence[T_co]:
        """Take note of the proven end, and give what it completes."""


@runtime_checkable
class SteppingDecoder(Protocol):
    """A decoder whose documents may be too long for one step."""

    def leave_large(self) -> None:
        """Leave such documents in `large`, from now on."""

    @property
    def large(self) -> LargeDocument | None:
        """A document whose steps are to be taken before the next call, which gives what it has."""


# Seconds. A consumer that never waits, since the next value is always there, lets others run so
# often; `PooledResponse` does the same, but what it gives at once may take long to decode.
_TURN: Final = 0.002


class Part(Protocol):
    """What the payload comes in."""

    @property
    def bytes(self) -> bytes:
        """Its bytes, which end anywhere."""


class View(Generic[T]):
    """The values that a decoder finds in the parts of a stream, in order.

    However long a part is and whatever it holds, the decoder takes it in slices that hold the
    event loop for some milliseconds each, and others run in between. So they do between the steps
    of a document that is long itself.
    """

    __slots__ = (
        "_ask_again",
        "_close",
        "_decoder",
        "_ended",
        "_fail",
        "_let_others_run",
        "_ran_at",
        "_ready",
        "_receive",
        "_rest",
        "_slice_length",
        "_stepping",
        "_unwatched",
        "drop",
    )

    def __init__(
        self,
        receive: Callable[[], Awaitable[Part | None]],
        decoder: Decoder[T],
        fail: Callable[[AiosmrtError], Awaitable[AiosmrtError]],
        let_others_run: Callable[[], Awaitable[None]],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self._receive = receive  # gives the next part, `None` at the proven end
        self._decoder = decoder
        self._slice_length = decoder.slice_length
        self._stepping = decoder if isinstance(decoder, SteppingDecoder) else None
        if self._stepping is not None:
            self._stepping.leave_large()
        self._fail = fail  # takes what the decoder refuses, and gives the error to raise
        self._let_others_run = let_others_run
        self._close = close  # closes what gives the parts
        self._ready: deque[T] = deque()
        self._ask_again = False
        # Of a part that is taken in slices, and behind it what is taken before.
        self._rest: deque[memoryview | LargeDocument] = deque()
        self._unwatched = 0  # bytes since the last look at the clock
        self._ran_at = time.monotonic()  # when others ran last, as far as is known here
        self._ended = False
        self.drop: Callable[[], None] = functools.partial(_clear, self._ready, self._rest)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            data: bytes | None
            if self._ask_again:
                # Behind sound values there may be a fault, which is not to wait for the next part.
                data = b""
            elif self._rest:
                data = await self._take_slice()
            elif (part := await self._receive()) is None:
                data = None
            else:
                data = part.bytes
                if self._is_due(len(data)):
                    self._rest.append(memoryview(data))
                    continue
            try:
                self._decode(data)
            except AiosmrtError as error:
                self._ask_again = False  # the stream repeats what was raised
                self._rest.clear()
                raise await self._fail(error) from error.__cause__
        return self._ready.popleft()

    def take_ready(self, take: Callable[[], Part | None]) -> T | None:
        """Give the next value, None where it is not there, or would take long to decode.

        Args:
            take: gives the next part, `None` where it is to be waited for.
        """
        while not self._ready:
            data = b""
            if not self._ask_again:
                if self._ended or self._rest or (part := take()) is None:
                    return None
                data = part.bytes
                if self._is_due(len(data)):
                    self._rest.append(memoryview(data))
                    return None
            try:
                self._decode(data)
            except AiosmrtError:
                self._ask_again = True  # who waits for the next value is told, by the decoder again
                return None
        return self._ready.popleft()

    def _decode(self, data: bytes | None) -> None:
        """Decode the bytes of a part, or `None` for the proven end."""
        values = self._decoder.finish() if data is None else self._decoder.receive(data)
        self._ready.extend(values)
        self._ask_again = bool(values)
        self._ended = data is None and not values
        if not values and self._stepping is not None and self._stepping.large is not None:
            self._rest.append(self._stepping.large)
            self._ended = False

    async def aclose(self) -> None:
        """Close the stream, as `ResponseStream.aclose` does. Idempotent.

        With it `contextlib.aclosing` takes a view.
        """
        self._give_up()  # what gives the parts tells whether they were all
        self._ask_again = False
        self.drop()
        await self._close()

    def _is_due(self, size: int) -> bool:
        """Tell whether a part is to be taken in slices, or others are to run before."""
        self._unwatched += size
        if self._unwatched <= self._slice_length:
            return False
        if size > self._slice_length or self._is_time():
            return True
        self._unwatched = size
        return False

    def _is_time(self) -> bool:
        """Tell whether others have waited long enough."""
        return time.monotonic() - self._ran_at > _TURN

    async def _take_slice(self) -> bytes:
        """Let others run if it is time, and give the next bytes of a part."""
        rest = self._rest[-1]
        if isinstance(rest, LargeDocument):
            await self._take_steps(rest)
            return b""  # the decoder has it
        if self._is_time():
            await self._let_others_run()
            self._ran_at = time.monotonic()
        if not self._rest:  # somebody has closed the stream meanwhile
            return b""
        self._rest.pop()
        if len(rest) > self._slice_length:
            self._rest.append(rest[self._slice_length :])
        data = bytes(rest[: self._slice_length])
        self._unwatched = len(data)
        return data

    async def _take_steps(self, document: LargeDocument) -> None:
        """Let others run between the steps of a document."""
        for _ in document.steps:
            if self._is_time():
                await self._let_others_run()
                self._ran_at = time.monotonic()
                if not self._rest:  # somebody has closed the stream meanwhile
                    self._give_up()
                    return
        self._rest.pop()

    def _give_up(self) -> None:
        """Decode nothing any more, and take no steps of what is decoded."""
        self._decoder, self._stepping = _Closed(), None


def _clear(*queues: deque[Any]) -> None:
    for queue in queues:
        queue.clear()


class _Closed:
    """A decoder that gives nothing any more."""

    slice_length: Final = 1

    def receive(self, _: bytes) -> list[Any]:
        return []

    def finish(self) -> list[Any]:
        return []


class TextPieceDecoder:
    """Text as a list of at most one piece, as a view takes it; errors as `TextDecoder`."""

    slice_length: Final = TextDecoder.slice_length

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
        done: the data of the marker, which is not given, blanks around it not counted; `None` where
            there is none.
        require_done: whether an end without the marker is an error.
        raise_on_error: whether a failure that the model server reports is raised.
        drop_incomplete, max_event_length: as for `EventDecoder`.

    Raises:
        ValueError: a marker is required, and there is none.
    """

    slice_length: Final = EventDecoder.slice_length

    def __init__(
        self,
        done: str | None = None,
        *,
        require_done: bool = False,
        raise_on_error: bool = False,
        drop_incomplete: bool = False,
        max_event_length: int = DEFAULT_MAX_LENGTH,
    ) -> None:
        if require_done and done is None:
            raise ValueError("require_done needs done: the data of the event that marks the end")
        decoder = ReportDecoder if raise_on_error else EventDecoder
        self._decoder = decoder(drop_incomplete=drop_incomplete, max_event_length=max_event_length)
        self._reports = self._decoder if isinstance(self._decoder, ReportDecoder) else None
        self._done = done and done.strip(IDLE)
        self._missing = require_done
        self._left: list[ServerSentEvent] = []  # the first of them for its steps to be taken
        self._fault: AiosmrtError | None = None

    def receive(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and give the events that they complete.

        Raises:
            PayloadError: as `EventDecoder.receive`.
            ModelStreamError: the model sent an error, and errors are to be raised.
        """
        self._repeat()
        if self._left:
            left, self._left = self._left, []
            return self._select(left)
        return self._select(self._decoder.receive(data))

    def finish(self) -> list[ServerSentEvent]:
        """Take note of the proven end.

        Raises:
            TruncatedStream: the marker has not come, and it was required.
        """
        self._repeat()
        events = self._select(self._decoder.finish())
        if self._missing and not events and self.large is None:
            self._fault = TruncatedStream(
                f"the stream ended without the event {self._done!r}: the model stopped early"
            )
            raise copy.copy(self._fault)
        return events

    def leave_large(self) -> None:
        """Leave data that are too long for one step to the caller, where they are looked at."""
        if self._reports is not None:
            self._reports.leave_large()

    @property
    def large(self) -> LargeDocument | None:
        """Data whose steps are to be taken before the next call, which gives their event."""
        return None if self._reports is None else self._reports.large

    def _repeat(self) -> None:
        if self._fault is not None:
            raise copy.copy(self._fault)

    def _select(self, events: list[ServerSentEvent]) -> list[ServerSentEvent]:
        selected: list[ServerSentEvent] = []
        for event in events:
            if self._reports is not None:
                decode = self._reports.decode
                try:
                    self._fault = find_named_failure(event, decode)
                    self._fault = self._fault or find_told_failure(event, decode)
                except DataLeft:  # by the first: only what is longer than a slice is
                    self._left = events
                    break
                if self._fault is not None:
                    if not selected:
                        raise copy.copy(self._fault)
                    break
            if self._done is not None and event.data.strip(IDLE) == self._done:
                self._missing = False
                continue
            selected.append(event)
        return selected
