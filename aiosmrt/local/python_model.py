"""A Python callable behind the endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, cast

import attrs

from aiosmrt.errors import ServiceError
from aiosmrt.local.answers import (
    Answer,
    adopt_error,
    encode_value,
    make_model_error,
)
from aiosmrt.local.model import InvocationRequest, Model, ModelFailure, ModelResponse
from aiosmrt.value import write_json

if TYPE_CHECKING:
    from aiosmrt.local.model import ResponseBody

__all__ = ["PythonModel"]

logger: logging.Logger = logging.getLogger(__name__)

_END = object()


@attrs.frozen
class PythonModel:
    """Runs a model: what is async on the loop, the rest in threads of the executor."""

    model: Model
    executor: Executor

    async def is_ready(self) -> bool:
        """Say whether calls can be taken: always."""
        return True

    @contextlib.asynccontextmanager
    async def answer(self, request: InvocationRequest) -> AsyncIterator[Answer]:
        """Call the model; leaving closes its generator, wherever it stands.

        Raises:
            ServiceError: what the model raised, if it was one, else a ModelError; the parts raise
                it too.
        """
        try:
            result = await self._call(request)
            if isinstance(result, ModelResponse):
                head = result
            else:
                head = ModelResponse(cast("ResponseBody", result))
            head, source = self._open(head)
        except (Exception, asyncio.CancelledError) as error:
            if _is_asked_for(error):
                raise
            raise _convert(request, error) from error
        async with contextlib.aclosing(_guard(request, source)) as parts:
            yield Answer(head, parts)

    async def _call(self, request: InvocationRequest) -> object:
        # Not in a thread: a wait for it that is cancelled would leave a coroutine that nobody
        # awaits. An instance may be async by its class' __call__.
        if any(
            inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
            for function in (self.model, type(self.model).__call__)
        ):
            result = self.model(request)
        else:
            loop = asyncio.get_running_loop()
            result = await loop.run_in_executor(self.executor, self._begin, request)
        return await result if inspect.isawaitable(result) else result

    def _begin(self, request: InvocationRequest) -> object:
        try:
            return self.model(request)
        except StopIteration as error:
            # No future carries it: the call would wait for ever.
            raise RuntimeError("the model raised StopIteration") from error

    def _open(self, head: ModelResponse) -> tuple[ModelResponse, AsyncGenerator[object]]:
        body: object = head.body
        if isinstance(body, AsyncIterable):
            return head, _iterate(body)
        if isinstance(body, Iterator):
            return head, _iterate_in_thread(body, self.executor)
        if not isinstance(body, bytes | bytearray | memoryview | str):
            body = write_json(body).encode()
            head = attrs.evolve(head, content_type=head.content_type or "application/json")
        return head, _iterate_once(body)


async def _iterate_once(value: object) -> AsyncGenerator[object]:
    yield value


async def _iterate(source: AsyncIterable[object]) -> AsyncGenerator[object]:
    try:
        async for part in source:
            yield part
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()


async def _iterate_in_thread(
    iterator: Iterator[object], executor: Executor
) -> AsyncGenerator[object]:
    loop = asyncio.get_running_loop()
    # A generator cannot be closed while it runs: a close() after a cancelled wait for advance()
    # has to let that one end first.
    turn = threading.Lock()

    def advance() -> object:
        with turn:
            return next(iterator, _END)

    def close() -> None:
        with turn:
            getattr(iterator, "close", lambda: None)()

    try:
        while (part := await loop.run_in_executor(executor, advance)) is not _END:
            yield part
    finally:
        await asyncio.shield(loop.run_in_executor(executor, close))


async def _guard(
    request: InvocationRequest, source: AsyncGenerator[object]
) -> AsyncGenerator[bytes | str]:
    """Give the parts of a model; its exceptions become the service's."""
    try:
        async for part in source:
            if isinstance(part, bytes | str):
                encode_value(part)  # half of a surrogate pair has no bytes
                yield part
            elif isinstance(part, bytearray | memoryview):
                yield bytes(part)
            else:
                raise TypeError(  # noqa: TRY301 - it is a fault of the model like any other
                    f"a part of a stream is bytes or str, not {type(part).__qualname__}"
                )
    except (Exception, asyncio.CancelledError) as error:
        if _is_asked_for(error):
            raise
        raise _convert(request, error) from error
    finally:
        # What goes wrong here has nobody to be told to, and must not stand in for a cancellation.
        try:
            await source.aclose()
        except Exception:
            logger.exception("the model failed while its stream was closed")


def _is_asked_for(error: BaseException) -> bool:
    """Tell the end of this task from a cancellation that the model met with somewhere else."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _convert(request: InvocationRequest, error: BaseException) -> ServiceError:
    if isinstance(error, ServiceError):
        return adopt_error(error, request.endpoint_name)
    if isinstance(error, ModelFailure):
        return make_model_error(request.endpoint_name, error.status, error.message)
    logger.error("the model failed on endpoint %r", request.endpoint_name, exc_info=error)
    said = f"{type(error).__qualname__}: {error}"
    return make_model_error(request.endpoint_name, 500, said)
