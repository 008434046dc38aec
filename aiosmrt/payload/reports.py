"""Server-sent events in which a model server may report a failure. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, TypeAlias, cast

from aiosmrt.errors import InvalidJSON, ModelStreamError
from aiosmrt.payload.bounds import DEFAULT_MAX_LENGTH
from aiosmrt.payload.failures import find_failure, name_failure, names_failure
from aiosmrt.payload.large_document import LARGE, LargeDocument
from aiosmrt.payload.sse import EventDecoder, ServerSentEvent
from aiosmrt.value import JSONValue

__all__ = [
    "IDLE",
    "DataLeft",
    "ReportDecoder",
    "find_named_failure",
    "find_told_failure",
    "parse_data",
]

# White space and byte order marks say nothing.
IDLE: Final = " \t\r\n\ufeff"
_EXCERPT: Final = 100  # characters that an error shows of what is not what it should be

_Decode: TypeAlias = Callable[[str], JSONValue]
_decode: Final = cast("_Decode", json.JSONDecoder().decode)


class DataLeft(Exception):
    """Data are too long for one step, and left to be parsed in several."""


class ReportDecoder(EventDecoder):
    """An `EventDecoder` that passes over nothing in which a server may have reported a failure.

    What fails is often not what writes the events. These are events, too: a block that has the name
    of a failure and no data, a line whose name is that of a failure (llama.cpp writes `error: {…}`,
    Python `RuntimeError: …`), and a line that is a JSON object which reports one. Of a block the
    first of them is given, behind its event.

    Attributes:
        foreign: the beginning of the first line that is no field of an event, empty without one.
        large: data whose steps are to be taken.
    """

    __slots__ = ("_leaves_large", "_report", "foreign", "large")

    def __init__(
        self, *, drop_incomplete: bool = False, max_event_length: int = DEFAULT_MAX_LENGTH
    ) -> None:
        super().__init__(drop_incomplete=drop_incomplete, max_event_length=max_event_length)
        self.foreign: str = ""
        self._report: ServerSentEvent | None = None  # of the block that is open
        self._leaves_large = False
        self.large: LargeDocument | None = None

    def leave_large(self) -> None:
        """Leave data that are too long for one step in `large`, from now on."""
        self._leaves_large = True

    def decode(self, text: str) -> JSONValue:
        """Parse data, as `json.loads`.

        Raises:
            DataLeft: they are in `large` now, and this is to be called again behind its steps.
            ValueError: they are not one JSON document.
            RecursionError: they are nested too deeply.
        """
        if len(text) <= LARGE or not self._leaves_large:
            return _decode(text)
        if self.large is None:
            self.large = LargeDocument(text)
            raise DataLeft
        document, self.large = self.large, None
        return document.finish()

    def _pass_over(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").strip()
        self.foreign = self.foreign or text[:_EXCERPT]
        name, _, data = text.partition(":")
        if self._report is not None:
            return
        if text.startswith("{"):
            name, data = "error", text
        elif names_failure(name):
            data = data.strip()
        else:
            return
        told = _parse(data)
        if find_failure(told if data is text else {"error": data if told is None else told}):
            self._report = ServerSentEvent(name, data, self._id)

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        if self._report is None and not self._data and names_failure(self._event):
            self._report = ServerSentEvent(self._event, "", self._id)
        super()._dispatch(events)
        if self._report is not None:
            self._give(events, self._report)
            self._report = None


def parse_data(event: ServerSentEvent, decode: _Decode = _decode) -> JSONValue:
    """Parse the data of an event, which may begin with a byte order mark.

    Raises:
        InvalidJSON: they are not one JSON document.
    """
    try:
        return decode(event.data.lstrip(IDLE))
    except (ValueError, RecursionError) as error:
        raise InvalidJSON(f"the event's data is not JSON: {event.data[:_EXCERPT]!r}") from error


def find_named_failure(
    event: ServerSentEvent, decode: _Decode = _decode
) -> ModelStreamError | None:
    """Give the failure that an event reports by its name, whatever its data are."""
    if event.event == "message" or not names_failure(event.event):
        return None
    return name_failure(event.event, event.data.strip(IDLE), _parse(event.data, decode))


def find_told_failure(event: ServerSentEvent, decode: _Decode = _decode) -> ModelStreamError | None:
    """Give the failure that an event's data report, which may be no JSON."""
    if not event.data.lstrip(IDLE).startswith("{"):
        return None
    return find_failure(_parse(event.data, decode))


def _parse(data: str, decode: _Decode = _decode) -> JSONValue:
    """Parse what may be no JSON: that is None."""
    try:
        return decode(data.strip(IDLE))
    except (ValueError, RecursionError):
        return None
