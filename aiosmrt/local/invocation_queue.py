"""InvokeEndpointAsync behind its immediate answer: a queue, workers, time limits, files."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from urllib.parse import unquote

import attrs

from aiosmrt.errors import ServiceError
from aiosmrt.local.answers import BUCKET, Answer, QueuedInvocation, place_output
from aiosmrt.local.model import InvocationRequest
from aiosmrt.local.objects import ObjectStore, StoredObject
from aiosmrt.threads import run_in_thread

__all__ = ["InvocationQueue"]

logger = logging.getLogger(__name__)

# The service model's words on what a request leaves out, in seconds.
_REQUEST_TTL = 21_600
_INVOCATION_TIMEOUT = 900

_HTTPS = re.compile(r"https://[^/]+/s3/([^?#]+)")


@attrs.define(eq=False)
class InvocationQueue:
    """Runs invocations in the order they came, so many at a time, and files what comes of them.

    Each is a task that waits for its turn, so that it expires on time however long the others
    take. `aclose` must be awaited.

    Args:
        answer: calls the model.
        objects: where input is found, and output or failure put.
        workers: how many invocations run at a time.
        second: how long a second of the service's lasts here, in seconds.
    """

    answer: Callable[[InvocationRequest], AbstractAsyncContextManager[Answer]]
    objects: ObjectStore
    workers: int
    second: float = 1.0
    _places: asyncio.Semaphore = attrs.field(init=False)
    _invocations: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)

    @_places.default
    def _make_places(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(self.workers)

    def __attrs_post_init__(self) -> None:
        # Whoever polls is told that the object is missing, not that its bucket is.
        self.objects.make_bucket(BUCKET)

    def put(self, request: InvocationRequest) -> QueuedInvocation:
        """Queue an invocation and say where its output, or its failure, will be."""
        queued = place_output(request)
        request = attrs.evolve(request, inference_id=queued.inference_id)
        invocation = asyncio.create_task(self._settle(request, queued))
        self._invocations.add(invocation)
        invocation.add_done_callback(self._invocations.discard)
        return queued

    async def aclose(self) -> None:
        """Cancel what waits and what runs, and wait for its end; nothing more is filed."""
        while self._invocations:
            for invocation in self._invocations:
                invocation.cancel()
            await asyncio.wait(self._invocations)

    async def _settle(self, request: InvocationRequest, queued: QueuedInvocation) -> None:
        location = queued.failure_location
        try:
            stored = await self._process(request)
            location = queued.output_location
        except ServiceError as error:
            stored = _write_failure(error.message)
        except Exception:
            logger.exception("the local endpoint failed on invocation %r", queued.inference_id)
            stored = _write_failure("The local endpoint failed; its log says why.")
        self.objects.put(location, stored)

    async def _process(self, request: InvocationRequest) -> StoredObject:
        ttl = request.request_ttl_seconds or _REQUEST_TTL
        expired = f"The request expired: RequestTTLSeconds, {ttl}, went by while it was queued."
        async with _limit(ttl * self.second, expired):
            await self._places.acquire()
        try:
            timeout = request.invocation_timeout_seconds or _INVOCATION_TIMEOUT
            late = f"The model did not answer within InvocationTimeoutSeconds, {timeout}."
            async with _limit(timeout * self.second, late):
                return await self._invoke(request)
        finally:
            self._places.release()

    async def _invoke(self, request: InvocationRequest) -> StoredObject:
        if request.input_location is not None:
            request = attrs.evolve(request, body=self._read(request.input_location))
        async with self.answer(request) as answer:
            body, content_type = await answer.collect()
        # Hashing a large output takes its time.
        return await run_in_thread(functools.partial(StoredObject, body, content_type))

    def _read(self, location: str) -> bytes:
        match = _HTTPS.match(location)
        try:
            return self.objects.get(f"s3://{unquote(match[1])}" if match else location).body
        except ServiceError as error:
            raise ServiceError(
                f"InputLocation {location} cannot be read: {error.code}: {error.message}",
                code="ValidationError",
                status=400,
            ) from error


@contextlib.asynccontextmanager
async def _limit(seconds: float, message: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise ServiceError(message, code="RequestTimeout", status=408) from None


def _write_failure(message: str) -> StoredObject:
    return StoredObject(message.encode(errors="replace"), "text/plain; charset=utf-8")
