"""What calls give back: frozen values, no behaviour beyond decoding themselves."""

from __future__ import annotations

import datetime
import json
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import attrs

from aiosmrt.errors import Attempt
from aiosmrt.redaction import redact
from aiosmrt.tracebacks import hides_locals
from aiosmrt.value import JSONValue, Value

if TYPE_CHECKING:
    from aiosmrt.payload import ChatMessage, ServerSentEvent

__all__ = [
    "AsyncInferenceOutput",
    "Attempt",
    "BearerToken",
    "ClientStats",
    "ConcurrencyLimit",
    "InvokeEndpointAsyncResponse",
    "InvokeEndpointResponse",
    "JSONValue",
    "PayloadPart",
    "ResponseMetadata",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Decoder(Protocol[T_co]):
    @property
    def slice_length(self) -> int: ...

    def receive(self, data: bytes) -> Sequence[T_co]: ...

    def finish(self) -> Sequence[T_co]: ...


@attrs.frozen(eq=False, repr=False)
class ResponseMetadata(Value):
    """What is known of a call beside its result, times in seconds.

    Attributes:
        request_id: the service's id of the last request.
        status: the HTTP status.
        headers: of the answer, names in lower case.
        attempts: what was tried, one entry per request that was begun.
        slot_wait: seconds of waiting for a place in the connection pool, over all attempts.
        time_to_first_byte: seconds from the last attempt's first byte out to its answer's
            head.
        total: seconds from the call to its result; for a stream, so far or to its end.
    """

    request_id: str | None
    status: int
    headers: Mapping[str, str] = attrs.field(repr=redact)
    attempts: tuple[Attempt, ...]
    slot_wait: float
    time_to_first_byte: float
    total: float


@attrs.frozen(eq=False, repr=False)
class ConcurrencyLimit(Value):
    """How many calls an endpoint is given at a time by `max_in_flight="auto"`.

    Attributes:
        calls: how many calls may be in flight.
        reason: why so many, in words.
        settled: whether it is kept, until refusals or latency tell otherwise; now and then one
            step more is tried.
    """

    calls: int
    reason: str
    settled: bool


@attrs.frozen(eq=False, repr=False)
class ClientStats(Value):
    """What a client is busy with at a moment, over all its event loops and derived clients.

    Calls that wait for something else than a place (credentials, a back-off, capacity) are in none
    of these; neither are requests to S3, which have places of their own.

    Attributes:
        in_flight: calls that have a place in the pool, open streams included.
        waiting_for_slot: calls that wait for a place.
        open_streams: response streams whose connection is not given back yet.
        idle_connections: connections kept for later calls; those of a `session` that was
            given do not count.
        limits: of each endpoint that `map` has called with `max_in_flight="auto"`, how many
            calls it is given at a time; of one event loop, where there are several.
    """

    in_flight: int
    waiting_for_slot: int
    open_streams: int
    idle_connections: int
    limits: Mapping[str, ConcurrencyLimit] = attrs.field(factory=dict)


@attrs.frozen(eq=False, repr=False)
class _Whole(Value):
    """A body that came whole, and its views."""

    body: bytes = attrs.field(repr=redact)
    content_type: str | None

    @hides_locals
    def text(self) -> str:
        """Decode the body by the content type's charset, UTF-8 where it names none.

        A byte order mark at its beginning is no part of the text.

        Raises:
            UnicodeDecodeError: the body is not in that charset.
            LookupError: Python knows no such charset.
        """
        text = self.body.decode(_charset(self.content_type) or "utf-8")
        return text.removeprefix("\ufeff")

    def iter_lines(self) -> Generator[str]:
        """Give the body line by line, as `ResponseStream.iter_lines` gives a stream.

        Raises:
            InvalidText: a line is not UTF-8, after those before it were given.
        """
        from aiosmrt.payload import LineDecoder  # noqa: PLC0415 - start-up time

        return _decode(LineDecoder(), self.body)

    def iter_json(self) -> Generator[Any]:
        """Give the value of each JSON document in the body: JSON lines, or concatenated.

        They are typed as those of `json`.

        Raises:
            InvalidJSON: a document is none, after those before it were given.
        """
        from aiosmrt.payload import JSONDocumentDecoder  # noqa: PLC0415 - start-up time

        return _decode(JSONDocumentDecoder(), self.body)

    def iter_events(self) -> Generator[ServerSentEvent]:
        """Give the server-sent events in the body.

        Raises:
            InvalidText: a field is not UTF-8, after the events before it were given.
        """
        from aiosmrt.payload import EventDecoder  # noqa: PLC0415 - start-up time

        return _decode(EventDecoder(), self.body)

    @hides_locals
    def chat(
        self, shape: str = "openai-chat", *, require_done: bool = True
    ) -> tuple[ChatMessage, ...]:
        """Give what a chat model has said: a message for each choice, mostly one.

        A stream that came as a body is read, too.

        Args:
            shape: `openai-chat`, `openai-completion`, `tgi` or `lmi`.
            require_done: as for `ResponseStream.iter_chat`.

        Raises:
            ConfigurationError: there is no such shape.
            PayloadError: the body has no such documents.
            ModelStreamError: the model server reported a failure.
            TruncatedStream: the model has not marked its end.
        """
        from aiosmrt.payload import ChatAccumulator, ChatDecoder  # noqa: PLC0415 - start-up time

        accumulator = ChatAccumulator()
        for chunk in _decode(
            ChatDecoder(shape, self.content_type, require_done=require_done), self.body
        ):
            accumulator.add(chunk)
        return accumulator.messages

    @hides_locals
    def json(self) -> Any:  # noqa: ANN401 - see below
        """Parse the whole body as one JSON document.

        It is typed as what `json.loads` gives: only its reader knows what a model answers, and a
        union of all that JSON has would have each index narrowed. Who wants that has it with
        `answer: aiosmrt.JSONValue = response.json()`.

        Raises:
            ValueError: the body is not one JSON document.
        """
        try:
            return json.loads(self.body)
        except RecursionError as error:
            raise ValueError("the body is nested too deeply to be parsed") from error


@attrs.frozen(eq=False, repr=False)
class InvokeEndpointResponse(_Whole):
    """The answer of InvokeEndpoint.

    Attributes:
        body: the bytes of it.
        content_type: its media type; `None` where none was named.
        invoked_production_variant: the variant that answered.
        custom_attributes: what the container has said beside its answer; the service calls
            it sensitive.
        new_session_id: of the session that was opened, the id alone.
        new_session_expires_at: when that session ends, in UTC.
        closed_session_id: of the session that was closed.
        metadata: what is known of the call beside its result.
    """

    invoked_production_variant: str | None
    custom_attributes: str | None = attrs.field(repr=False)
    new_session_id: str | None
    new_session_expires_at: datetime.datetime | None
    closed_session_id: str | None
    metadata: ResponseMetadata


@attrs.frozen(eq=False, repr=False)
class AsyncInferenceOutput(_Whole):
    """The output of an asynchronous invocation.

    Attributes:
        body: the bytes of it.
        content_type: its media type; `None` where none was named.
        metadata: of the request to S3 that gave it.
    """

    metadata: ResponseMetadata


@attrs.frozen(eq=False, repr=False)
class InvokeEndpointAsyncResponse(Value):
    """The answer of InvokeEndpointAsync: where the output, or the failure, will be.

    Attributes:
        inference_id: the id of the invocation.
        output_location: where the output will be, `s3://…`.
        failure_location: where the failure would be, `s3://…`.
        metadata: what is known of the call beside its result.
    """

    inference_id: str | None
    output_location: str | None
    failure_location: str | None
    metadata: ResponseMetadata


# Not frozen: one is made per frame, and attrs' frozen slotted __init__ costs three times as much.
@attrs.define(eq=False, repr=False)
class PayloadPart(Value):
    """One part of a response stream.

    Attributes:
        bytes: what came in it, whose borders mean nothing.
    """

    bytes: bytes = attrs.field(repr=redact)


class BearerToken(str):
    """A bearer token for SageMaker's OpenAI-compatible route: a text, which its `repr` hides.

    Attributes:
        expires_at: when it ends, in UTC.
    """

    __slots__ = ("expires_at",)

    expires_at: datetime.datetime

    def __new__(cls, token: str, expires_at: datetime.datetime) -> Self:
        """Make one of a text and its end."""
        made = super().__new__(cls, token)
        made.expires_at = expires_at
        return made

    def __getnewargs__(self) -> tuple[str, datetime.datetime]:  # type: ignore[override]
        return str(self), self.expires_at

    def __repr__(self) -> str:
        return f"<BearerToken until {self.expires_at:%Y-%m-%dT%H:%M:%SZ}>"


def _decode(decoder: _Decoder[T], body: bytes) -> Generator[T]:
    # In slices, since an event loop may be waiting for the next value.
    for begin in range(0, len(body), decoder.slice_length):
        yield from decoder.receive(body[begin : begin + decoder.slice_length])
    # Until nothing is left: what is wrong comes after what is sound.
    while values := decoder.finish():
        yield from values


def _charset(content_type: str | None) -> str | None:
    for parameter in (content_type or "").split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"') or None
    return None
