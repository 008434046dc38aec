"""Waiting for many asynchronous invocations at once, by listings instead of looks at each."""

from __future__ import annotations

import asyncio
import copy
from collections import defaultdict
from collections.abc import AsyncGenerator, Collection, Iterable

import attrs

from aiosmrt.async_inference.invocation import (
    AsyncInvocation,
    Polling,
    Wait,
    read_output,
)
from aiosmrt.async_inference.s3 import S3, S3Object
from aiosmrt.async_inference.s3_protocol import S3Location, may_be_absent
from aiosmrt.calls import FailureKind, classify
from aiosmrt.errors import AiosmrtError, ParameterError
from aiosmrt.models import AsyncInferenceOutput
from aiosmrt.tracebacks import drop_tracebacks

__all__ = ["AsyncInferenceResult", "wait_for_results"]

# Invocations in one folder from which a listing is cheaper than a look at each.
_MANY = 3
# Outputs that are read at a time, and held in memory until they were taken.
_BATCH = 16


@attrs.frozen
class AsyncInferenceResult:
    """What became of one of many invocations: an output or an error.

    Attributes:
        invocation: the one that was waited for.
        output: what it has put out; `None` where it failed.
        error: why there is no output; `None` where there is one.
    """

    invocation: AsyncInvocation
    output: AsyncInferenceOutput | None = None
    error: AiosmrtError | None = None


async def wait_for_results(
    s3: S3, polling: Polling, invocations: Iterable[AsyncInvocation], seconds: float | None
) -> AsyncGenerator[AsyncInferenceResult]:
    """Give each invocation's result once, in the order in which they are found complete.

    A folder (all of a key up to its last slash) in which several outputs or failures are awaited
    costs one listing a round. Between two results nothing runs in the background. Whoever leaves
    early loses nothing: results stay in S3.

    Args:
        s3: where to look.
        polling: the pauses between rounds; after a round that found something, short again.
        invocations: what to wait for; one that is there twice is given once.
        seconds: until those that are not complete are given with an error.

    Raises:
        TypeError: something among them is no invocation.
    """
    wait = Wait(polling, seconds, s3)
    open_ = dict.fromkeys(_adopt(one, s3, polling) for one in invocations)
    # What S3 said last of each that it did not tell about.
    troubles: dict[AsyncInvocation, AiosmrtError | None] = dict(open_)
    folders = _Folders(s3)
    while troubles:
        over = not wait.remaining
        found = await folders.find(troubles, wait)
        for start in range(0, len(found), _BATCH):
            batch = found[start : start + _BATCH]
            results = await _read_all(batch, troubles, wait)
            for result in results:
                troubles.pop(result.invocation)
                wait.hurry()
            for result in results:
                yield result
        if troubles and (over or not await wait.rest()):
            break
    for invocation, trouble in troubles.items():
        yield _fail(invocation, invocation.give_up(wait, trouble))


def _adopt(invocation: object, s3: S3, polling: Polling) -> AsyncInvocation:
    if not isinstance(invocation, AsyncInvocation):
        raise TypeError(
            "wait_for_results() takes AsyncInvocations, which client.resume_async_invocation() "
            f"makes of what to_json() gave, not {invocation!r}"
        )
    return attrs.evolve(invocation, s3=s3, polling=polling)


async def _read_all(
    batch: list[AsyncInvocation],
    troubles: dict[AsyncInvocation, AiosmrtError | None],
    wait: Wait,
) -> list[AsyncInferenceResult]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_read(one, troubles, wait)) for one in batch]
    return [result for task in tasks if (result := task.result()) is not None]


async def _read(
    invocation: AsyncInvocation,
    troubles: dict[AsyncInvocation, AiosmrtError | None],
    wait: Wait,
) -> AsyncInferenceResult | None:
    """Look for one invocation's result, and read it."""
    former, troubles[invocation] = troubles[invocation], None
    try:
        async with wait.limit_look():
            found = await invocation.look(wait)
        if not isinstance(found, S3Object):
            troubles[invocation] = found
            if found is not None:
                wait.warn(found)
            return None
    except AiosmrtError as error:
        troubles[invocation] = drop_tracebacks(copy.copy(error))
        return None if wait.puts_up_with(error, former) else _fail(invocation, error)
    try:
        return AsyncInferenceResult(invocation, output=await read_output(found))
    except AiosmrtError as error:
        return _fail(invocation, error)


def _fail(invocation: AsyncInvocation, error: AiosmrtError) -> AsyncInferenceResult:
    invocation.place(error)
    return AsyncInferenceResult(invocation, error=error)


@attrs.define(eq=False)
class _Folders:
    """Tells by listings which invocations are worth a look."""

    s3: S3
    _unlisted: set[S3Location] = attrs.field(factory=set, init=False)  # that cannot be listed

    async def find(
        self, troubles: dict[AsyncInvocation, AiosmrtError | None], wait: Wait
    ) -> list[AsyncInvocation]:
        """Give those whose output or failure is there, and those that no listing tells about.

        Of the others it is noted why a listing failed.
        """
        awaited: dict[S3Location, list[tuple[str, AsyncInvocation]]] = defaultdict(list)
        found: dict[AsyncInvocation, None] = {}
        for invocation in troubles:
            places = [invocation.output_location, invocation.failure_location]
            try:
                locations = [S3Location.parse(place) for place in places if place is not None]
            except ParameterError:
                locations = []
            if invocation.output_location is None or not locations:
                found[invocation] = None  # a look at it says what is wrong
            for location in locations:
                awaited[location.folder].append((location.key, invocation))
        failed: dict[AsyncInvocation, AiosmrtError] = {}
        for shared, keys in awaited.items():
            there = await self._list(shared, len(keys), wait)
            if isinstance(there, AiosmrtError):
                failed.update((one, copy.copy(there)) for _, one in keys)
            else:
                found.update((one, None) for key, one in keys if there is None or key in there)
        for invocation in troubles:
            if invocation not in found:
                troubles[invocation] = failed.get(invocation)
        return list(found)

    async def _list(
        self, folder: S3Location, awaited: int, wait: Wait
    ) -> Collection[str] | AiosmrtError | None:
        """Give the keys of a folder, or what may pass until the next round.

        `None` says that a look at each is better.
        """
        if awaited < _MANY or folder in self._unlisted:
            return None
        try:
            async with wait.limit_look():
                # A page costs as much as a look: a folder full of old outputs is not worth it.
                keys = await self.s3.list(folder, pages=awaited)
        except AiosmrtError as error:
            if classify(error) is not FailureKind.OTHER:
                wait.warn(error)
                return drop_tracebacks(error)
            if may_be_absent(error):
                wait.listings.close(folder)
                wait.warn(error)
            keys = None  # a look at each says what is wrong
        if keys is None:
            self._unlisted.add(folder)
        return keys
