"""InvokeEndpointAsync behind its immediate answer: a queue, workers, time limits, files."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import attrs

from aiosmrt.errors import AiosmrtError, ServiceError
from aiosmrt.local.answers import Answer, QueuedInvocation, place_output
from aiosmrt.local.model import InvocationRequest
from aiosmrt.local.storage import Storage
from aiosmrt.value import Shown

__all__ = ["CallModel", "InvocationQueue"]

logger: logging.Logger = logging.getLogger(__name__)

CallModel: TypeAlias = Callable[[InvocationRequest], AbstractAsyncContextManager[Answer]]
"""Calls what stands behind the endpoint, until the context is left."""

# The service model's words on what a request leaves out, in seconds.
_REQUEST_TTL = 21_600
_INVOCATION_TIMEOUT = 900


@attrs.define(eq=False, repr=False)
class InvocationQueue(Shown):
    """Runs invocations in the order they came, so many at a time, and files what comes of them.

    Each is a task that waits for its turn, so that it expires on time however long the others
    take. `aclose` must be awaited.

    Args:
        answer: calls the model.
        storage: where input is found, and output or failure put.
        workers: how many invocations run at a time.
        second: how long a second of the service's lasts here, in seconds.
    """

    answer: CallModel
    storage: Storage
    workers: int
    second: float = 1.0
    _places: asyncio.Semaphore = attrs.field(init=False)
    _invocations: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)

    @_places.default
    def _make_places(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(self.workers)

    def put(self, request: InvocationRequest, call: CallModel | None = None) -> QueuedInvocation:
        """Queue an invocation and say where its output, or its failure, will be.

        Args:
            request: what was asked for.
            call: calls what answers this one, if it is not the model.
        """
        queued = place_output(request)
        request = attrs.evolve(request, inference_id=queued.inference_id)
        invocation = asyncio.create_task(self._settle(request, queued, call or self.answer))
        self._invocations.add(invocation)
        invocation.add_done_callback(self._invocations.discard)
        return queued

    async def fetch(self, request: InvocationRequest) -> InvocationRequest:
        """Give a request with its input, where that can be read by now; it is read later else."""
        if request.input_location is None:
            return request
        with contextlib.suppress(AiosmrtError):
            body = await self.storage.read(request.input_location)
            return attrs.evolve(request, body=body)
        return request

    async def aclose(self) -> None:
        """Cancel what waits and what runs, and wait for its end; nothing more is filed."""
        while self._invocations:
            for invocation in self._invocations:
                invocation.cancel()
            await asyncio.wait(self._invocations)

    async def _settle(
        self, request: InvocationRequest, queued: QueuedInvocation, call: CallModel
    ) -> None:
        try:
            body, content_type = await self._process(request, call)
            await self.storage.write(queued.output_location, body, content_type)
        except AiosmrtError as error:
            failure = error.message if isinstance(error, ServiceError) else str(error)
        except Exception:
            logger.exception("the local endpoint failed on invocation %r", queued.inference_id)
            failure = "The local endpoint failed; its log says why."
        else:
            return
        try:
            told = failure.encode(errors="replace")
            await self.storage.write(queued.failure_location, told, "text/plain; charset=utf-8")
        except AiosmrtError as error:
            logger.error("%s; it would have said: %s", error, failure)  # noqa: TRY400 - it says all

    async def _process(self, request: InvocationRequest, call: CallModel) -> tuple[bytes, str]:
        ttl = request.request_ttl_seconds or _REQUEST_TTL
        expired = f"The request expired: RequestTTLSeconds, {ttl}, went by while it was queued."
        async with _limit(ttl * self.second, expired):
            await self._places.acquire()
        try:
            timeout = request.invocation_timeout_seconds or _INVOCATION_TIMEOUT
            late = f"The model did not answer within InvocationTimeoutSeconds, {timeout}."
            async with _limit(timeout * self.second, late):
                return await self._invoke(request, call)
        finally:
            self._places.release()

    async def _invoke(self, request: InvocationRequest, call: CallModel) -> tuple[bytes, str]:
        if request.input_location is not None and not request.body:
            request = attrs.evolve(request, body=await self._read(request.input_location))
        async with call(request) as answer:
            return await answer.collect()

    async def _read(self, location: str) -> bytes:
        try:
            return await self.storage.read(location)
        except AiosmrtError as error:
            told = f"{error.code}: {error.message}" if isinstance(error, ServiceError) else error
            raise ServiceError(
                f"InputLocation {location} cannot be read: {told}",
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
