"""One request and its answer over HTTP."""

from __future__ import annotations

import datetime
import json
import logging
import uuid
from collections.abc import Mapping
from email.utils import format_datetime

import attrs
from aiohttp import web

from aiosmrt.errors import ServiceError
from aiosmrt.local.answers import (
    STREAM_ERRORS,
    Answer,
    QueuedInvocation,
    encode_error,
    encode_exception,
    encode_part,
    encode_value,
    make_validation_error,
    name_content_type,
    write_headers,
)
from aiosmrt.local.authorization import SignedRequest, read_scope
from aiosmrt.local.model import InvocationRequest
from aiosmrt.local.openai_route import encode_openai_error, find_openai_route
from aiosmrt.local.raw_answer import RawAnswer
from aiosmrt.local.steps import Page
from aiosmrt.service import INVOKE_ENDPOINT_ASYNC, INVOKE_ENDPOINT_WITH_RESPONSE_STREAM
from aiosmrt.value import Shown

__all__ = ["Exchange"]

logger: logging.Logger = logging.getLogger(__name__)


@attrs.define(repr=False)
class Exchange(Shown):
    """Reads a request and answers it, once; every method raises `ConnectionError` on a hang-up.

    Args:
        request: what came.
        clock_offset: seconds that the service's clock is ahead of this machine's.

    Attributes:
        step: of the script that it was answered by, in words.
    """

    request: web.BaseRequest
    clock_offset: float = 0.0
    request_id: str = attrs.field(init=False, factory=lambda: str(uuid.uuid4()))
    response: web.StreamResponse = attrs.field(init=False)
    step: str = attrs.field(init=False, default="")
    _begun: int | None = attrs.field(init=False, default=None)

    @response.default
    def _make_response(self) -> web.StreamResponse:
        headers = {
            "x-amzn-RequestId": self.request_id,
            "Date": format_datetime(self.now, usegmt=True),
        }
        return web.StreamResponse(headers=headers)

    @property
    def now(self) -> datetime.datetime:
        """The service's time."""
        offset = datetime.timedelta(seconds=self.clock_offset)
        return datetime.datetime.now(datetime.UTC) + offset

    @property
    def status(self) -> int | None:
        """The status of the answer, `None` while no head has gone out."""
        return self.response.status if self.response.prepared else self._begun

    async def begin_raw(
        self, headers: Mapping[str, str], length: int | None, status: int = 200
    ) -> RawAnswer:
        """Send the head of an answer that is written byte by byte; without a length in chunks."""
        wire = RawAnswer(self.request)
        await wire.begin({**self.response.headers, **headers}, length, status)
        self._begun = status
        return wire

    @property
    def method(self) -> str:
        """The HTTP method, in upper case."""
        return self.request.method

    @property
    def target(self) -> str:
        """Path and query as on the wire."""
        return self.request.raw_path

    @property
    def path(self) -> str:
        """The path as on the wire."""
        return self.target.partition("?")[0]

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers, names in lower case, repeated ones joined by a comma."""
        headers = self.request.headers
        return {name.lower(): ",".join(headers.getall(name)) for name in headers}

    async def receive(self, limit: int | None) -> bytes:
        """Give the whole body.

        Raises:
            ValidationError: it is longer than `limit` bytes.
            ConnectionError: the connection is closed.
        """
        if self.headers.get("expect", "").lower() == "100-continue":
            await self.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunks, size = [], 0
        try:
            async for chunk in self.request.content.iter_any():
                chunks.append(chunk)
                size += len(chunk)
                if limit is not None and size > limit:
                    # aiohttp discards the rest, so that a client which sends before it reads gets
                    # to see the answer.
                    raise make_validation_error((f"body must be at most {limit} bytes",))
        except RuntimeError as error:
            # So aiohttp calls a connection that was closed before anybody waited for the body.
            if self.request.transport is not None:
                raise
            raise ConnectionResetError("the connection is closed") from error
        return b"".join(chunks)

    async def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Answer in one piece; to HEAD the body is not sent, but its length is told."""
        self.response.set_status(status)
        self.response.headers.update(headers)
        self.response.content_length = len(body)
        await self.response.prepare(self.request)
        await self.response.write_eof(b"" if self.method == "HEAD" else body)

    async def send_error(self, error: ServiceError) -> None:
        """Answer with an error in the shape of what was asked: the service's, or OpenAI's.

        One that there is in streams alone comes in a stream, where that was asked for.
        """
        if find_openai_route(self.path) is not None:
            headers, body = encode_openai_error(error)
            await self.send(error.status, headers, body)
            return
        streams = self.path.endswith(INVOKE_ENDPOINT_WITH_RESPONSE_STREAM.path)
        if streams and error.code in STREAM_ERRORS:
            headers = {"Content-Type": "application/vnd.amazon.eventstream"}
            await self.send(200, headers, encode_exception(error))
            return
        asked = SignedRequest(self.method, self.target, self.headers, b"")
        headers, body = encode_error(error, read_scope(asked)[0])
        await self.send(error.status, headers, body)

    async def send_queued(self, queued: QueuedInvocation) -> None:
        """Answer InvokeEndpointAsync."""
        headers = {
            "Content-Type": "application/json",
            "X-Amzn-SageMaker-OutputLocation": queued.output_location,
            "X-Amzn-SageMaker-FailureLocation": queued.failure_location,
        }
        body = json.dumps({"InferenceId": queued.inference_id}).encode()
        await self.send(INVOKE_ENDPOINT_ASYNC.status, headers, body)

    async def send_whole(self, request: InvocationRequest, answer: Answer) -> None:
        """Answer InvokeEndpoint with the parts joined.

        Raises:
            ServiceError: from the parts; nothing was sent.
        """
        body, content_type = await answer.collect()
        await self.send(200, write_headers(request, answer.head, content_type), body)

    async def send_stream(self, request: InvocationRequest, answer: Answer) -> None:
        """Answer InvokeEndpointWithResponseStream, each part sent as it comes, in a frame.

        One that is too long for a frame goes out in several.

        Raises:
            ServiceError: from the first part; nothing was sent. Later ones go into the stream.
        """
        part = await anext(answer.parts, None)
        content_type = answer.head.content_type or name_content_type(part)
        self.response.headers.update(write_headers(request, answer.head, content_type))
        self.response.enable_chunked_encoding()
        await self.response.prepare(self.request)
        try:
            while part is not None:
                for frame in encode_part(encode_value(part)):
                    await self.response.write(frame)
                part = await anext(answer.parts, None)
        except ServiceError as error:
            await self.response.write(encode_exception(error))
        await self.response.write_eof()

    async def send_plain_stream(self, answer: Answer) -> None:
        """Answer with the parts as they come, in no frames: the OpenAI-compatible route's stream.

        What goes wrong later than the first part has no words here: the connection is cut.

        Raises:
            ServiceError: from the first part; nothing was sent.
        """
        part = await anext(answer.parts, None)
        self.response.headers["Content-Type"] = answer.head.content_type or "text/event-stream"
        self.response.enable_chunked_encoding()
        await self.response.prepare(self.request)
        try:
            while part is not None:
                await self.response.write(encode_value(part))
                part = await anext(answer.parts, None)
        except ServiceError as error:
            logger.info("the stream is cut: %s", error)
            if self.request.transport is not None:
                self.request.transport.close()
            return
        await self.response.write_eof()

    async def send_page(self, page: Page) -> None:
        """Answer with what is not the service's; nothing of it is the service's then."""
        del self.response.headers["x-amzn-RequestId"]
        await self.send(page.status, page.headers, page.body)
