"""The time limits of one call: a single clock that is moved on from one wait to the next."""

from __future__ import annotations

import asyncio
import copy
from types import TracebackType
from typing import Literal, Self, TypeAlias

from aiosmrt.config import Timeout
from aiosmrt.errors import (
    AiosmrtError,
    ConnectTimeout,
    FirstByteTimeout,
    IdleTimeout,
    SlotTimeout,
    TimeLimitError,
    TotalTimeout,
    WriteTimeout,
)
from aiosmrt.http import Delivery
from aiosmrt.transport.alarm import Alarm

__all__ = ["Limits", "Wait"]

Wait: TypeAlias = Literal["slot", "connect", "write", "first_byte", "idle", "total"]

_ERRORS: dict[Wait, tuple[type[TimeLimitError], str]] = {
    "slot": (SlotTimeout, "no place in the connection pool was free"),
    "connect": (ConnectTimeout, "no connection was made"),
    "write": (WriteTimeout, "the server took no more of the request"),
    "first_byte": (FirstByteTimeout, "no byte of the answer came"),
    "idle": (IdleTimeout, "no more of the answer came"),
    "total": (TotalTimeout, "the call was not done"),
}

# What the total found the call waiting for.
_AWAITED: dict[str, str] = {
    "credentials": "credentials",
    "slot": "a place in the connection pool",
    "connect": "a connection",
    "write": "the server to take more of the request",
    "first_byte": "the first byte of the answer",
    "idle": "more of the answer",
}


class Limits:
    """The running limits of one call.

    As a context manager (entered once per attempt) it bounds whatever is awaited inside; what
    is awaited is said by the methods of `aiosmrt.http.Progress` and by `await_`. Outside, it
    tells a response when its wait is over.
    """

    __slots__ = (
        "_alarm",
        "_cancelling",
        "_deadline",
        "_delivery",
        "_ended",
        "_fired",
        "_loop",
        "_noted",
        "_task",
        "_until",
        "awaited",
        "peer",
        "timeout",
    )

    def __init__(self, timeout: Timeout, alarm: Alarm | None = None) -> None:
        self.timeout: Timeout = timeout
        self.awaited: Wait = "total"
        self.peer: str = ""  # to whom a connection is made, for people
        self._noted = ""  # what is awaited where only the total bounds it, for people
        self._loop = asyncio.get_running_loop()
        self._deadline = None if timeout.total is None else self._loop.time() + timeout.total
        self._task: asyncio.Task[object] | None = None  # inside, whose it is
        self._cancelling = 0  # how often others had cancelled it before
        self._fired = False
        self._until: float | None = None  # when what is awaited has lasted too long
        self._alarm = Alarm(self._loop, lasting=False) if alarm is None else alarm
        self._ended: AiosmrtError | None = None
        self._delivery: Delivery | None = None  # what goes out, inside

    def __enter__(self) -> Self:
        self.awaited = "total"
        self._noted = ""
        self._fired = False
        self._delivery = None
        if self._ended is not None:
            raise self.expire()
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a call must be made in a task")
        self._task, self._cancelling = task, task.cancelling()
        self._until = deadline = self._deadline
        if deadline is not None:
            self._alarm.set(self, deadline)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        delivery, self._delivery = self._delivery, None  # which refers to this
        self._alarm.unset(self)
        if not self._fired or task is None:
            return
        # The cancellation is our own unless somebody else has asked for one too.
        ours = task.uncancel() <= self._cancelling and kind is asyncio.CancelledError
        del task  # it keeps what is raised here, whose traceback refers to this frame
        if ours:
            raise self.expire(delivery) from None

    def await_(self, wait: Wait) -> None:
        """Begin (or begin again) a wait, bounded by the limit of its name and by the total."""
        if self._task is None:
            self.awaited = wait
        # What is learned after a limit fired does not change which one that was.
        elif not self._fired:
            self.awaited = wait
            self._until = when = self.expires_at(self._alarm.time())
            if when is None:
                self._alarm.unset(self)
            else:
                self._alarm.set(self, when)

    def note(self, what: str) -> None:
        """Say what is awaited where no limit but the total bounds it."""
        self.awaited, self._noted = "total", what

    def connecting(self, delivery: Delivery) -> None:
        """A connection is being looked for or made; `delivery` knows what goes over it."""
        self._delivery = delivery
        self.await_("connect")

    def writing(self) -> None:
        """The connection is there, or the socket took more of the request."""
        if self._task is not None:
            self.await_("write")

    def sent(self) -> None:
        """The socket took the request's last byte."""
        # An answer may come before the whole request is out; what is awaited then is its body.
        if self._task is not None:
            self.await_("first_byte")

    def allows(self, delay: float) -> bool:
        """Tell whether a pause of `delay` seconds would end before the call must."""
        return self._deadline is None or self._loop.time() + delay < self._deadline

    def are_over(self) -> bool:
        """Tell whether the call has had all of its total."""
        return self._deadline is not None and self._loop.time() >= self._deadline

    def expires_at(self, since: float) -> float | None:
        """Tell, in the loop's time, when the wait that began at `since` has lasted too long."""
        seconds = None if self.awaited == "total" else getattr(self.timeout, self.awaited)
        deadline = self._deadline
        if seconds is None:
            return deadline
        when = float(since + seconds)
        return when if deadline is None or when < deadline else deadline

    def expire(self, delivery: Delivery | None = None) -> AiosmrtError:
        """Build the error of the limit that fired; `delivery` is what was on its way then."""
        may_have_run = delivery is not None and delivery.may_be_whole
        if self._ended is not None:
            ended = copy.copy(self._ended)
            ended.may_have_run = may_have_run
            return ended
        # A loop may ring a little before the time that was set.
        rung = self._fired and self._until == self._deadline
        wait = "total" if rung or self.are_over() else self.awaited
        kind, what = _ERRORS[wait]
        seconds = getattr(self.timeout, wait)
        peer = f" to {self.peer}" if wait == "connect" and self.peer else ""
        awaited = self._name_awaited() if wait == "total" else ""
        error = kind(
            f"{what}{peer} within {seconds:g} s (Timeout.{wait}){awaited}",
            limit=wait,
            seconds=float(seconds),
        )
        error.may_have_run = may_have_run
        return error

    def _name_awaited(self) -> str:
        what = _AWAITED.get(self.awaited, self._noted)
        peer = f" to {self.peer}" if self.awaited == "connect" and self.peer else ""
        return f"; it was waiting for {what}{peer}" if what else ""

    def end(self, error: AiosmrtError) -> None:
        """End the call now, with `error`."""
        self._ended = error
        self.ring()

    def ring(self) -> None:
        """Cancel what is awaited inside."""
        # Once is enough: the task may not have noticed yet.
        if self._task is not None and not self._fired:
            self._fired = True
            self._task.cancel()
