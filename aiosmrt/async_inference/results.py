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

__all__ = ["AsyncInferenceResult", "Rounds", "wait_for_results"]

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
    rounds = Rounds(s3, polling, seconds)
    for invocation in invocations:
        rounds.join(invocation)
    wait = rounds.wait
    while rounds.open:
        over, gave = not wait.remaining, False
        for batch in await rounds.find():
            for result in await rounds.read(batch):
                yield result
                gave = True
        # Whoever took a result may have kept it beyond the deadline: there is a last look then.
        if rounds.open and (over or not (await wait.rest() or gave)):
            break
    for invocation in rounds.open:
        yield rounds.give_up(invocation, seconds or 0.0)


class Rounds:
    """Looks for the results of many invocations, round by round; more can join between two.

    Args:
        s3: where to look.
        polling: the pauses between rounds; after a round that found something, short again.
        seconds: until the last round, `None` for none.

    Attributes:
        wait: the pauses.
    """

    def __init__(self, s3: S3, polling: Polling, seconds: float | None) -> None:
        self.wait: Wait = Wait(polling, seconds, s3)
        self._s3 = s3
        self._polling = polling
        # What S3 said last of each that it did not tell about.
        self._troubles: dict[AsyncInvocation, AiosmrtError | None] = {}
        self._folders = _Folders(s3)

    @property
    def open(self) -> tuple[AsyncInvocation, ...]:
        """Those that have no result yet."""
        return tuple(self._troubles)

    def join(self, invocation: object) -> AsyncInvocation:
        """Look for one more; gives it as it will be in its result.

        Raises:
            TypeError: it is no invocation.
        """
        adopted = _adopt(invocation, self._s3, self._polling)
        self._troubles.setdefault(adopted, None)
        return adopted

    def leave(self, invocation: AsyncInvocation) -> None:
        """Look for one no more."""
        self._troubles.pop(invocation, None)

    async def find(self) -> list[list[AsyncInvocation]]:
        """Begin a round: give those that are worth a look, as many together as to be read."""
        found = await self._folders.find(self._troubles, self.wait)
        return [found[start : start + _BATCH] for start in range(0, len(found), _BATCH)]

    async def read(self, batch: list[AsyncInvocation]) -> list[AsyncInferenceResult]:
        """Give the results that there are of these; they are looked for no more."""
        there = [one for one in batch if one in self._troubles]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_read(one, self._troubles, self.wait)) for one in there]
        results = [result for task in tasks if (result := task.result()) is not None]
        for result in results:
            self._troubles.pop(result.invocation, None)
            self.wait.hurry()
        return results

    def give_up(self, invocation: AsyncInvocation, seconds: float) -> AsyncInferenceResult:
        """Give the result of one that was looked for long enough."""
        error = invocation.give_up(seconds, self._troubles.pop(invocation, None))
        return _fail(invocation, error)


def _adopt(invocation: object, s3: S3, polling: Polling) -> AsyncInvocation:
    if not isinstance(invocation, AsyncInvocation):
        raise TypeError(
            "wait_for_results() takes AsyncInvocations, which client.resume_async_invocation() "
            f"makes of what to_json() gave, not {invocation!r}"
        )
    return attrs.evolve(invocation, s3=s3, polling=polling)


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
                locations = [
                    S3Location.parse_object(place) for place in places if place is not None
                ]
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
