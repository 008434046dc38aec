"""Every call ends once, and what is said of it agrees with what the server has counted."""

from __future__ import annotations

import asyncio
import collections
import json
from typing import Final

import attrs

import aiosmrt

__all__ = ["Books"]

_SETTLED: Final = 2.0  # seconds after which nothing of a call is on its way any more
_REFUSED: Final = 403  # signatures that were wrong; the server counts what was signed


@attrs.define
class Books:
    """What the hooks of clients have told, until it is compared.

    Attributes:
        port: of the server's books.
        open: calls that have begun, and not ended.
        outcomes: how calls ended, by endpoint, `s3` for all that were S3's, and outcome.
        errors: what those ended with that failed, by code where the service has said one.
        counted: attempts, and whole requests and runs by the server's books.
        wrong: what does not agree, in words.
    """

    port: int
    open: dict[str, str] = attrs.field(factory=dict)
    outcomes: collections.Counter[tuple[str, str]] = attrs.field(factory=collections.Counter)
    errors: collections.Counter[str] = attrs.field(factory=collections.Counter)
    counted: collections.Counter[str] = attrs.field(factory=collections.Counter)
    wrong: list[str] = attrs.field(factory=list)
    _ended: dict[str, tuple[float, aiosmrt.OnEnd]] = attrs.field(factory=dict)

    @property
    def hooks(self) -> aiosmrt.Hooks:
        """What a client is given."""
        return aiosmrt.Hooks(on_start=self._start, on_end=self._end)

    def _start(self, event: aiosmrt.OnStart) -> None:
        if event.call_id in self.open or event.call_id in self._ended:
            self.wrong.append(f"{event.call_id} began twice")
        self.open[event.call_id] = event.operation

    def _end(self, event: aiosmrt.OnEnd) -> None:
        if self.open.pop(event.call_id, None) is None:
            self.wrong.append(f"{event.call_id} ended without a beginning, or twice: {event}")
        ours = event.service == "sagemaker-runtime"
        self.outcomes[event.endpoint_name if ours else event.service, event.outcome] += 1
        if ours:
            if event.outcome == "error":
                self.errors[_name(event.error)] += 1
            self._ended[event.call_id] = (asyncio.get_running_loop().time(), event)

    async def compare(self, *, all_of_them: bool = False) -> None:
        """Compare calls that ended a while ago with the server's books, and forget them."""
        if all_of_them:
            await asyncio.sleep(_SETTLED)
        before = asyncio.get_running_loop().time() - _SETTLED
        settled = [event for at, event in self._ended.values() if at <= before]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(json.dumps([event.call_id for event in settled]).encode() + b"\n")
        told = json.loads(await reader.read())
        writer.close()
        await writer.wait_closed()
        # One at a time, since they go with all that their errors keep: what is timed are the
        # callbacks of others.
        while settled:
            event = settled.pop()
            del self._ended[event.call_id]
            self._compare(event, *told[event.call_id])
            await asyncio.sleep(0)
        if all_of_them:
            self.wrong += [f"{each} ({name}) never ended" for each, name in self.open.items()]

    def _compare(self, event: aiosmrt.OnEnd, whole: int, ran: int) -> None:
        attempts = event.attempts
        answered = sum(attempt.status not in (None, _REFUSED) for attempt in attempts)
        # The attempt in which a call was broken off is none of those that are told.
        most = len(attempts) + (event.outcome in ("cancelled", "left"))
        self.counted.update(attempts=len(attempts), whole=whole, ran=ran)
        problems = {
            f"the model ran {ran} times": ran > 1,
            f"{answered} to {most} attempts can have come whole, {whole} have": not (
                answered <= whole <= most
            ),
        }
        if event.outcome == "ok":
            problems["it is answered, and has not run"] = ran != 1
        if event.outcome == "error":
            may = getattr(event.error, "may_have_run", False)
            told = sum(attempt.may_have_run for attempt in attempts)
            problems["it ran, and is told not to have"] = ran > may
            problems[f"of {told} attempts it is told that they may have run"] = ran > told
        for problem, there in problems.items():
            if there:
                shown = (event.operation, event.outcome, repr(event.error), attempts)
                self.wrong.append(f"{event.call_id}: {problem}; {shown}")


def _name(error: BaseException | None) -> str:
    code = error.code if isinstance(error, aiosmrt.ServiceError) else None
    return code or type(error).__name__
