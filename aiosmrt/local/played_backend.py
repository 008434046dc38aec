"""What stands behind the endpoint for one request, as a step of the script has it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator

import attrs

from aiosmrt.local.answers import Answer, encode_value
from aiosmrt.local.faults import Hang
from aiosmrt.local.limits import Backend
from aiosmrt.local.model import InvocationRequest
from aiosmrt.local.steps import Play

__all__ = ["PlayedBackend"]


@attrs.frozen
class PlayedBackend:
    """Gives the parts of another one at the pace, and of the size, that a step says."""

    backend: Backend
    play: Play

    async def is_ready(self) -> bool:
        """Say whether calls can be taken."""
        return await self.backend.is_ready()

    @contextlib.asynccontextmanager
    async def answer(self, request: InvocationRequest) -> AsyncIterator[Answer]:
        """Call the model.

        Raises:
            ServiceError: as the model; the parts raise it too.
        """
        async with self.backend.answer(request) as answer:
            parts = answer.parts
            async with contextlib.AsyncExitStack() as stack:
                if self.play.split is not None:
                    parts = self._split(parts, self.play.split)
                    await stack.enter_async_context(contextlib.aclosing(parts))
                # A stream's is struck by whoever writes it.
                queued = request.operation == "InvokeEndpointAsync"
                if self.play.delays or (queued and isinstance(self.play.fault, Hang)):
                    parts = self._delay(parts, queued=queued)
                    await stack.enter_async_context(contextlib.aclosing(parts))
                yield attrs.evolve(answer, parts=parts)

    async def _split(
        self, parts: AsyncIterator[bytes | str], length: int
    ) -> AsyncGenerator[bytes | str]:
        rest = b""
        async for part in parts:
            data = rest + encode_value(part)
            whole = len(data) - len(data) % length
            for start in range(0, whole, length):
                yield data[start : start + length]
            rest = data[whole:]
        if rest:
            yield rest

    async def _delay(
        self, parts: AsyncIterator[bytes | str], *, queued: bool
    ) -> AsyncGenerator[bytes | str]:
        delays = self.play.delays or (0.0,)
        hang = self.play.fault.position if queued and self.play.fault is not None else None
        for number, delay in enumerate(itertools.chain(delays, itertools.repeat(delays[-1])), 1):
            # The end has no delay of its own, but nothing comes in place of a part that hangs.
            part = None if number == hang else await anext(parts, None)
            if part is None and hang is not None:
                await asyncio.Event().wait()
            if part is None:
                return
            await asyncio.sleep(delay)
            yield part
