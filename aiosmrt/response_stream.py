"""A response stream: bytes in, payload parts out; owns and closes its HTTP response."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
import warnings
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Self, TypeVar

import attrs

from aiosmrt.calls import Call, CallBuilder, Turn, open_stream
from aiosmrt.errors import (
    AiosmrtError,
    ConnectionLost,
    EventStreamError,
    ServiceError,
    StreamClosed,
    StreamConnectionLost,
)
from aiosmrt.eventstream import EventStreamDecoder
from aiosmrt.hooks import Ending, Hook, OnFirstPart, OnParts
from aiosmrt.http import Response
from aiosmrt.models import PayloadPart, ResponseMetadata
from aiosmrt.payload import (
    DEFAULT_MAX_LENGTH,
    ChatChunk,
    ChatDecoder,
    Decoder,
    JSONDocumentDecoder,
    LineDecoder,
    MarkedEventDecoder,
    ModelDocumentDecoder,
    ServerSentEvent,
    TextPieceDecoder,
    TokenDecoder,
    View,
)
from aiosmrt.redaction import Redacted
from aiosmrt.service import (
    INVOKE_ENDPOINT_WITH_RESPONSE_STREAM,
    Arguments,
    Operation,
    parse_message,
)
from aiosmrt.tracebacks import drop_tracebacks, forget_locals
from aiosmrt.transport import PooledResponse

__all__ = ["ResponseStream", "ResponseStreamOpening", "begin_response_stream"]

_log = logging.getLogger("aiosmrt")

T = TypeVar("T")


class ResponseStream:
    """The parts of a response stream, in order, each once: an asynchronous iterator.

    It ends only when its end is proven. Everything that came whole before a fault is given first;
    then the fault is raised, and raised again by every later read. A cancelled read loses
    nothing: the next one goes on where it would have.

    Leaving its `async with` block, or `aclose`, closes the connection of a stream that is not at
    its end; a stream at its end has given its connection back already.

    Attributes:
        content_type: the media type of the parts' bytes, as the model gave it.
        invoked_production_variant: the variant that answers.
        custom_attributes: what the model sent back with its answer.
        parts_received: the parts that were given so far.
        bytes_received: the payload bytes in them.
    """

    _ended = True  # until there is something to close
    _over: Callable[[], None] | None = None  # tells that it has ended

    def __init__(self, response: Response, call: Call, operation: Operation) -> None:
        self._call = call
        self._operation = operation
        self._decoder = EventStreamDecoder()
        # Of parts not given yet, the last one first; the collector does not look at bytes.
        self._payloads: list[bytes] = []
        self._part_headers: object = None  # headers that are known for those of a part
        self._ahead: AiosmrtError | None = None  # what comes behind those parts
        self._chosen: str | None = None  # how the stream is read
        self._documents: ModelDocumentDecoder[Any] | None = None  # where it is read as a model's
        self._drop_values: Callable[[], None] | None = None  # those of a view, not given yet
        self._fault: AiosmrtError | None = None
        self._loop = asyncio.get_running_loop()
        self.parts_received: int = 0
        self.bytes_received: int = 0
        headers = response.head.headers
        self.content_type: str | None = headers.get("x-amzn-sagemaker-content-type")
        self.invoked_production_variant: str | None = headers.get(
            "x-amzn-invoked-production-variant"
        )
        self.custom_attributes: str | None = headers.get("x-amzn-sagemaker-custom-attributes")
        self._metadata = call.describe(response.head)
        self._response = response
        self._ended = False

    async def begin(self) -> Self:
        """Wait for the first frame: what fails until then is the call's own failure.

        Raises:
            AiosmrtError: the stream failed before its first part.
        """
        call = self._call
        call.limits.await_("first_byte")
        try:
            await self._receive_parts()
            call.limits.await_("idle")
            call.end_attempt()
            self._metadata = attrs.evolve(self._metadata, attempts=tuple(call.attempts))
            call.goes_on = True
            call.request.body = b""  # it is not sent again, and may have megabytes
            await self._tell_first_part()
        except BaseException:
            self._end()  # nobody has it yet: the response is closed by who opens the stream
            raise
        return self

    async def _tell_first_part(self) -> None:
        call = self._call
        if not self._payloads:
            await self._tell_end()
            return
        if call.hooks.on_first_part is not None:
            elapsed, size = time.perf_counter() - call.began, len(self._payloads[-1])
            event = OnFirstPart(
                operation=call.operation,
                endpoint_name=call.endpoint_name,
                elapsed=elapsed,
                size=size,
                call_id=call.call_id,
                service=call.service,
            )
            await call.tell(call.hooks.on_first_part, event)
        if call.hooks.on_parts is not None:
            await self._tell_parts(call.hooks.on_parts)

    async def _tell_parts(self, hook: Hook[OnParts]) -> None:
        """Tell of the parts that have just come."""
        call = self._call
        event = OnParts(
            operation=call.operation,
            endpoint_name=call.endpoint_name,
            elapsed=time.perf_counter() - call.began,
            count=len(self._payloads),
            size=sum(map(len, self._payloads)),
            view=self._name_view(),
            call_id=call.call_id,
            service=call.service,
        )
        await call.tell(hook, event)

    async def _tell_end(self, error: BaseException | None = None, outcome: Ending = "ok") -> None:
        # Until the stream is handed out, its end is the call's.
        if self._call.goes_on:
            parts, size = self.parts_received, self.bytes_received
            self._note_view()
            await self._call.end(self._metadata, error, parts, size, outcome)

    @property
    def metadata(self) -> ResponseMetadata:
        """What is known of the call; `total` grows until the stream has ended."""
        if self._ended:
            return self._metadata
        return attrs.evolve(self._metadata, total=time.perf_counter() - self._call.began)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PayloadPart:
        if self._chosen != "parts":
            self._choose("parts")
        if not self._payloads and not await self._receive_parts():
            raise StopAsyncIteration
        return self._give()

    def iter_text(self, errors: str = "strict") -> View[str]:
        """Give the payload as text, piece by piece, never splitting a character.

        Args:
            errors: what becomes of bytes that are not UTF-8, as for `bytes.decode`.

        Raises:
            InvalidText: while iterating; and all that iterating over the parts raises.
            LookupError: Python knows no such `errors`, or not for decoding.
            RuntimeError: the stream is read in another way already.
        """
        return self._view("text", TextPieceDecoder(errors))

    def iter_lines(self, *, max_line_length: int = DEFAULT_MAX_LENGTH) -> View[str]:
        """Give the payload line by line, the last one too, without the breaks (LF, CR LF or CR).

        Args:
            max_line_length: the most bytes of a line.

        Raises:
            InvalidText, PayloadTooLarge: while iterating; else as `iter_text`.
        """
        return self._view("lines", LineDecoder(max_line_length=max_line_length))

    def iter_json(self, *, max_document_length: int = DEFAULT_MAX_LENGTH) -> View[Any]:
        """Give the value of each JSON document: lines of them, or any that follow each other.

        A document of more than 128 KiB is parsed in steps, between which others run on the event
        loop. Values are typed as `json.loads` types them: only their reader knows what a model
        answers.

        Args:
            max_document_length: the most bytes of a document.

        Raises:
            InvalidJSON, PayloadTooLarge: while iterating; else as `iter_text`.
        """
        return self._view("JSON", JSONDocumentDecoder(max_document_length=max_document_length))

    def iter_events(
        self,
        *,
        done: str | None = None,
        require_done: bool = False,
        raise_on_error: bool = False,
        drop_incomplete: bool = False,
        max_event_length: int = DEFAULT_MAX_LENGTH,
    ) -> View[ServerSentEvent]:
        """Give the payload's server-sent events, by the rules of the HTML standard.

        Args:
            done: the data of an event that marks the end, such as `[DONE]`, blanks around it not
                counted; it is not given, and the stream is still read to its proven end.
            require_done: whether an end without that event raises `TruncatedStream`.
            raise_on_error: whether a failure that the model server reports raises
                `ModelStreamError`, whatever its form: an event or a member called an error, a
                status of 400 to 599, a reason to end such as `error` or `abort`.
            drop_incomplete: whether to drop an event at the end that no blank line follows.
            max_event_length: the most bytes of an event.

        Raises:
            ValueError: `require_done` without `done`.
            InvalidText, PayloadTooLarge: while iterating; else as `iter_text`.
        """
        decoder = MarkedEventDecoder(
            done,
            require_done=require_done,
            raise_on_error=raise_on_error,
            drop_incomplete=drop_incomplete,
            max_event_length=max_event_length,
        )
        return self._view("events", decoder)

    def iter_tokens(
        self, path: str, *, done: str | None = None, require_done: bool = False
    ) -> View[str]:
        """Give the pieces of text that a language model generates; each can be written as UTF-8.

        An answer that came whole, though under a preset's name, gives its text as one piece. Of
        several choices, choice 0 is given alone, and a line in the log tells of the others.

        Args:
            path: where in each JSON document they are: a JMESPath expression, or `openai-chat`,
                `openai-completion`, `tgi` or `lmi`. The documents are JSON lines or the data of
                server-sent events, whichever the first byte or the content type says.
            done: the data of an event that marks the end; a preset knows its own.
            require_done: whether an end without it raises `TruncatedStream`. For servers that send
                no such event, it is what only the last document of a preset has, such as a
                `finish_reason`.

        Raises:
            ConfigurationError: the path is neither.
            ValueError: `require_done` with an expression and without `done`.
            PayloadError: while iterating: not the documents that were expected; at the end: none of
                them had a place for what the path asks for.
            ModelStreamError: while iterating: the model server reported a failure, as for
                `iter_events`; else as `iter_text`.
        """
        decoder = TokenDecoder(path, self.content_type, done=done, require_done=require_done)
        return self._view("tokens", decoder)

    def iter_chat(
        self, shape: str = "openai-chat", *, require_done: bool = True
    ) -> View[ChatChunk]:
        """Give what a chat model says, chunk by chunk; `ChatAccumulator` adds them up.

        A chunk is given for each choice in each document, and one for a usage that stands alone. An
        answer that did not come as a stream is one chunk a choice.

        Args:
            shape: of the documents, which are JSON lines or the data of server-sent events:
                `openai-chat`, `openai-completion`, `tgi` or `lmi`.
            require_done: whether an end that the model has not marked raises `TruncatedStream`,
                behind all chunks: neither came the event `[DONE]`, nor has each choice a reason to
                end (of TGI and LMI: a last document).

        Raises:
            ConfigurationError: there is no such shape.
            PayloadError, ModelStreamError: as for `iter_tokens`.
        """
        decoder = ChatDecoder(shape, self.content_type, require_done=require_done)
        return self._view("chat", decoder)

    async def read(self) -> bytes:
        """Give the whole payload; errors as iterating over the parts, without those before."""
        self._choose("bytes")
        chunks: Redacted[list[bytes]] = Redacted([])
        while (part := await self._take()) is not None:
            chunks.value.append(part.bytes)
        return b"".join(chunks.value)

    def _choose(self, view: str) -> None:
        if self._chosen is not None and not self._chosen == view == "parts":
            raise RuntimeError(
                f"this stream is read as {self._chosen} already: one view per stream, and each of "
                "them gives the whole payload"
            )
        self._chosen = view

    def _name_view(self) -> str | None:
        """Name how the stream is read, for observers."""
        shape = None if self._documents is None else self._documents.shape
        return self._chosen if shape is None else f"{self._chosen}:{shape}"

    def _note_view(self) -> None:
        observation = self._call.observation
        if observation is not None:
            observation.view = self._name_view()
            observation.usage = None if self._documents is None else self._documents.usage

    def _view(self, name: str, decoder: Decoder[T]) -> View[T]:
        self._choose(name)
        if isinstance(decoder, ModelDocumentDecoder):
            self._documents = decoder
        view = View(self._take, decoder, self._refuse, _let_others_run, self.aclose)
        # Not the view: it refers to the stream, and a circle would keep a dropped stream open.
        self._drop_values = view.drop
        return view

    async def _refuse(self, error: AiosmrtError) -> AiosmrtError:
        """End the stream, whose payload is not what the view needs."""
        forget_locals(error, error.__cause__)  # of the decoders' frames
        if isinstance(error, EventStreamError):
            error.offset = (
                self._decoder.offset
            )  # no frame is at fault, but one is missing at the end
        return await self._fail(error)

    async def _fail(self, error: AiosmrtError) -> AiosmrtError:
        """End the stream with that fault, close its connection, and give the error to raise."""
        ended = self._ended
        self._fault = drop_tracebacks(copy.copy(self._place(error)))
        self._payloads.clear()
        self._end()
        self._response.close()
        fault = copy.copy(self._fault)
        if not ended:
            await self._tell_end(fault)
        return fault

    async def _take(self) -> PayloadPart | None:
        """Give the next part, `None` at the proven end."""
        return self._give() if self._payloads or await self._receive_parts() else None

    def _take_ready(self) -> PayloadPart | None:
        """Give the next part, `None` where it is not there yet."""
        return self._give() if self._payloads else None

    def _give(self) -> PayloadPart:
        payload = self._payloads.pop()
        self.parts_received += 1
        self.bytes_received += len(payload)
        return PayloadPart(payload)

    async def _receive_parts(self) -> bool:
        """Wait for the next parts, and tell whether there are any before the proven end."""
        if self._fault is not None:
            raise copy.copy(self._fault)
        if self._ended:
            return False
        try:
            while self._ahead is None and (data := await self._response.receive()):
                self._decoder.receive_data(data)
                del data  # the traceback of what comes would show it
                self._decode()
                if self._payloads:
                    break
            else:
                if self._ahead is not None:
                    raise copy.copy(self._ahead)
                self._decoder.receive_eof()
                self._end()
        except AiosmrtError as error:
            raise await self._fail(error) from error.__cause__
        if not self._payloads:
            await self._tell_end()
            return False
        if self._call.goes_on and self._call.hooks.on_parts is not None:
            try:
                await self._tell_parts(self._call.hooks.on_parts)
            except Exception as error:
                self._close("a hook has ended the stream")
                await self._tell_end(error)
                raise
        return True

    def _decode(self) -> None:
        """Make parts of what has come, up to a fault, which is kept until they were given."""
        payloads, part_headers = self._payloads, self._part_headers
        try:
            for message in self._decoder.take_messages():
                # A decoder gives the same object for the same headers, mostly.
                if message.headers is part_headers:
                    payloads.append(message.payload)
                    continue
                meaning = parse_message(self._operation, message)
                if isinstance(meaning, PayloadPart):
                    payloads.append(meaning.bytes)
                    self._part_headers = part_headers = message.headers
                elif isinstance(meaning, ServiceError):
                    raise copy.copy(meaning)  # this frame keeps the other
                else:
                    _log.debug("%s: a message was skipped: %s", self._operation.name, meaning)
            if self._decoder.error is not None:
                raise copy.copy(self._decoder.error)
        except AiosmrtError as error:
            # Its frames refer to what came, too.
            self._ahead = drop_tracebacks(error)
        payloads.reverse()

    def _place(self, error: AiosmrtError) -> AiosmrtError:
        """Tell the error where in which stream it happened."""
        if isinstance(error, ConnectionLost):
            text = f"the stream was cut: {error.args[0]}"
            lost = StreamConnectionLost(text, offset=self._decoder.offset)
            lost.__cause__ = error.__cause__
            error = lost
        # A stream is the model's output, so the model was at work.
        error.may_have_run = True
        error.parts_received = self.parts_received
        error.bytes_received = self.bytes_received
        self._call.mask(error)
        self._call.place(error)
        return error

    def _call_when_over(self, tell: Callable[[], None]) -> None:
        """Have somebody told, on the loop, when the stream has ended in whatever way."""
        if self._ended:
            tell()
        else:
            self._over = tell

    def _end(self) -> None:
        self._metadata = self.metadata
        self._ended = True
        tell, self._over = self._over, None
        if tell is not None:
            tell()

    async def aclose(self) -> None:
        """Close the connection of a stream that is not at its end, and free its slot. Idempotent.

        A read that is under way, and every later one, raises `StreamClosed`.
        """
        if not self._ended:
            self._close("the stream was closed before its end")
            await self._tell_end(outcome="left")

    def _close(self, why: str) -> None:
        self._payloads.clear()
        if self._drop_values is not None:
            self._drop_values()
        self._end()
        self._fault = self._place(StreamClosed(why))
        self._response.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not self._ended:
            warnings.warn(
                f"a response stream of {self._call.operation} was never closed: use it in an "
                "async with block, or await its aclose()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            if not self._loop.is_closed():
                # The collector may run in any thread.
                self._loop.call_soon_threadsafe(self._response.close)
                if self._over is not None:
                    self._loop.call_soon_threadsafe(self._over)
            if self._call.goes_on:
                self._note_view()
                self._call.end_detached(self.metadata, self.parts_received, self.bytes_received)


class ResponseStreamOpening:
    """A response stream that is not open yet: enter it (`async with`), or await it, once."""

    _open: Callable[[], Awaitable[ResponseStream]] | None = None

    def __init__(self, open_stream: Callable[[], Awaitable[ResponseStream]]) -> None:
        self._open = open_stream
        self._stream: ResponseStream | None = None

    def __await__(self) -> Generator[object, None, ResponseStream]:
        open_stream, self._open = self._open, None
        if open_stream is None:
            raise RuntimeError("this response stream was opened already; make another call")
        return open_stream().__await__()

    async def __aenter__(self) -> ResponseStream:
        self._stream = await self
        return self._stream

    async def __aexit__(self, *_: object) -> None:
        if self._stream is not None:
            await self._stream.aclose()

    def __del__(self) -> None:
        if self._open is not None:
            warnings.warn(
                "a response stream was never opened: nothing was sent; use the call in an "
                "async with block, or await it",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )


async def begin_response_stream(
    builder: CallBuilder, arguments: Arguments, turn: Turn | None = None
) -> ResponseStream:
    """Open what `SageMakerRuntimeClient.invoke_endpoint_with_response_stream` gives."""
    operation = INVOKE_ENDPOINT_WITH_RESPONSE_STREAM
    pool, caller, call = await builder.begin(operation, arguments, turn=turn)

    async def judge(response: PooledResponse, call: Call) -> ResponseStream:
        content = await open_stream(operation, response)
        return await ResponseStream(content, call, operation).begin()

    return await caller.call(call, pool, judge)


async def _let_others_run() -> None:
    await asyncio.sleep(0)
