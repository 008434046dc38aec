"""One call as its observers see it: it begins once, and ends once."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Generator, Mapping, Sequence
from typing import TypeVar

import attrs

from aiosmrt.hooks import Ending, Hook, Hooks, OnEnd, OnStart, Service, list_hooks
from aiosmrt.models import Attempt, ResponseMetadata
from aiosmrt.randomness import make_uuid
from aiosmrt.value import JSONValue, Shown

__all__ = ["Observation", "tell"]

_log = logging.getLogger("aiosmrt")

E = TypeVar("E")


def _find_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


@attrs.define(eq=False, repr=False)
class Observation(Shown):
    """One call as its observers see it: it begins once, and ends once."""

    hooks: Hooks
    operation: str
    endpoint_name: str
    service: Service = "sagemaker-runtime"
    call_id: str = attrs.field(factory=make_uuid)
    began: float = attrs.field(factory=time.perf_counter)
    attempts: Sequence[Attempt] = attrs.field(default=(), init=False)
    origin: str | None = attrs.field(default=None, init=False)
    region_name: str | None = attrs.field(default=None, init=False)
    view: str | None = attrs.field(default=None, init=False)  # of a stream
    usage: Mapping[str, JSONValue] | None = attrs.field(default=None, init=False)
    _loop: asyncio.AbstractEventLoop | None = attrs.field(factory=_find_loop, init=False)
    _begun: bool = attrs.field(default=False, init=False)
    _over: bool = attrs.field(default=False, init=False)

    async def start(self) -> None:
        """Tell that the call has begun, once.

        Raises:
            Exception: what a hook raises; the call is over then.
        """
        if self._begun:
            return
        self._begun = True
        if self.hooks.on_start is not None:
            try:
                await tell(self.hooks.on_start, self._describe_start())
            except BaseException as error:
                await self.end(None, error)
                raise

    async def end(
        self,
        metadata: ResponseMetadata | None,
        error: BaseException | None = None,
        parts: int | None = None,
        size: int | None = None,
        outcome: Ending = "ok",
    ) -> None:
        """Tell that the call is over, once; what an error comes to needs no word.

        What a hook raises is logged: whoever made the call gets what it came to in any case.
        """
        if isinstance(error, GeneratorExit):
            # Its task was thrown away, and nothing can be awaited in it any longer.
            self.end_detached(metadata, parts, size)
        elif not self._over:
            self._over = True
            if self.hooks.on_end is not None:
                if error is not None:
                    cancelled = isinstance(error, asyncio.CancelledError)
                    outcome = "cancelled" if cancelled else "error"
                event = self._describe_end(metadata, error, parts, size, outcome)
                for hook in list_hooks(self.hooks.on_end):
                    await self._tell_of_end(hook, event)

    def end_detached(
        self, metadata: ResponseMetadata | None, parts: int | None = None, size: int | None = None
    ) -> None:
        """Tell, where nobody waits for that, that the call was left.

        The collector may be who has found out, in any thread and between any two lines of a hook:
        so the call's event loop tells of it, unless that is closed.
        """
        if self._over:
            return
        self._over = True
        if self.hooks.on_end is None:
            return
        event = self._describe_end(metadata, None, parts, size, "left")
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._tell_detached, self.hooks.on_end, event)
            except RuntimeError:  # it is closed
                pass
            else:
                return
        self._tell_detached(self.hooks.on_end, event)

    def refuse(self, error: Exception) -> None:
        """Tell of a call that was refused by what is no coroutine."""
        self._begun = self._over = True
        if self.hooks.on_start is not None:
            self._tell_detached(self.hooks.on_start, self._describe_start())
        if self.hooks.on_end is not None:
            event = self._describe_end(None, error, None, None, "error")
            self._tell_detached(self.hooks.on_end, event)

    def _describe_start(self) -> OnStart:
        return OnStart(self.operation, self.endpoint_name, self.call_id, self.service)

    def _describe_end(
        self,
        metadata: ResponseMetadata | None,
        error: BaseException | None,
        parts: int | None,
        size: int | None,
        outcome: Ending,
    ) -> OnEnd:
        return OnEnd(
            operation=self.operation,
            endpoint_name=self.endpoint_name,
            metadata=metadata,
            error=error,
            parts_received=parts,
            bytes_received=size,
            outcome=outcome,
            elapsed=time.perf_counter() - self.began,
            call_id=self.call_id,
            service=self.service,
            attempts=tuple(self.attempts),
            origin=self.origin,
            region_name=self.region_name,
            view=self.view,
            usage=self.usage,
        )

    async def _tell_of_end(self, hook: Hook[OnEnd], event: OnEnd) -> None:
        try:
            outcome = hook(event)
            if outcome is not None and inspect.isawaitable(outcome):
                await outcome
        except Exception:  # noqa: BLE001 - whatever an observer raises
            self._log_failure(event)

    def _tell_detached(self, hooks: Hook[E], event: E) -> None:
        """Call hooks whose failure could be raised to nobody; with a task for what takes time."""
        for hook in list_hooks(hooks):
            try:
                outcome = hook(event)
                if outcome is not None and inspect.isawaitable(outcome):
                    self._see_through(outcome, event)
            except Exception:  # noqa: BLE001 - whatever an observer raises
                self._log_failure(event)

    def _see_through(self, outcome: Awaitable[None], event: object) -> None:
        if _find_loop() is not None:
            task = asyncio.ensure_future(self._await(outcome, event))
            _telling.add(task)
            task.add_done_callback(_telling.discard)
            return
        steps = outcome.__await__()
        try:
            next(steps)
        except StopIteration:
            return
        if isinstance(steps, Generator):
            steps.close()
        raise RuntimeError("this hook waits for something, and the call's event loop is closed")

    async def _await(self, outcome: Awaitable[None], event: object) -> None:
        try:
            await outcome
        except Exception:  # noqa: BLE001 - whatever an observer raises
            self._log_failure(event)

    def _log_failure(self, event: object) -> None:
        _log.exception(
            "%s failed for %s on %s, which is what it is all the same",
            "on_end" if isinstance(event, OnEnd) else "on_start",
            self.operation,
            self.endpoint_name,
        )


# Of calls that nobody waits for any longer; what is in here is not dropped, too.
_telling: set[asyncio.Task[None]] = set()


async def tell(hook: Hook[E], event: E) -> None:
    """Call the hooks of a station, all of them; the first exception of them is raised behind."""
    failure: BaseException | None = None
    try:
        for each in list_hooks(hook):
            try:
                outcome = each(event)
                if outcome is not None and inspect.isawaitable(outcome):
                    await outcome
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - of an observer, or a cancellation
                failure = failure or error
        if failure is not None:
            raise failure
    finally:
        del failure  # or this frame and it would keep each other
