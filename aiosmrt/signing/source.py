"""Where credentials come from, and how they are fetched from there.

Keys that are given, or set in the environment, are at hand and need no botocore; a coroutine
function is awaited on the loop; everything else is botocore's, which blocks (files, processes,
metadata services, STS) and runs in a thread.

That thread is a daemon: an executor's would hold up the interpreter's exit for a metadata service
that does not answer. The outcome is a `concurrent.futures.Future`, which belongs to no event loop:
every waiter wraps it anew, so that a cancelled one disturbs nobody and one `asyncio.run()` goes on
with the flight of the one before.
"""

from __future__ import annotations

import asyncio
import copy
import datetime
import inspect
import math
import os
import sys
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeAlias, TypeVar

from aiosmrt.config import Credentials, CredentialsSource
from aiosmrt.errors import AiosmrtError, ClientClosed, ConfigurationError, CredentialsError
from aiosmrt.masking import Secrets
from aiosmrt.signing.chain import Chain, name_method
from aiosmrt.signing.clock import Clock
from aiosmrt.signing.keys import VARIABLES, find_fault, take_environment
from aiosmrt.threads import submit
from aiosmrt.tracebacks import forget_locals, walk_chain

__all__ = ["Flight", "Source", "end_of"]

_ADVICE = (
    "Pass aws_access_key_id= and aws_secret_access_key=, credentials= or profile_name=, or set "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or give the machine a role."
)

_Found = TypeVar("_Found", bound=Credentials | None)
_Outcome: TypeAlias = "Future[Credentials | AiosmrtError]"


class Source:
    """Where credentials come from.

    Args:
        given: what `CredentialProvider` was given, or botocore's chain.
        key_prefix: what the names of the options that keys were given by begin with.
        environ: where keys are looked for before the chain is asked.
        clock: this machine's time in seconds since the epoch.
        correction: how far that is from the service's time, by which credentials end.

    Attributes:
        description: what it is, for people, without its secrets.

    Raises:
        ConfigurationError: it is none.
    """

    def __init__(
        self,
        given: CredentialsSource | Chain,
        *,
        key_prefix: str,
        environ: Mapping[str, str],
        clock: Callable[[], float],
        correction: Clock,
    ) -> None:
        self._given = given
        self.description: str = _describe(given)
        self._key_prefix = key_prefix
        self._environ = environ
        self._clock = clock
        self._correction = correction

    @property
    def place(self) -> str:
        """Where in it credentials are from, or looked for at the moment, for people."""
        given = self._given
        if isinstance(given, Chain):
            where = given.describe()
        else:
            where = name_method(getattr(given, "method", None) or "")
        return f"{self.description.partition(' (')[0]} ({where})" if where else self.description

    def now(self) -> float:
        """Give the service's time in seconds since the epoch, as far as it is known."""
        return self._clock() + self._correction.offset

    def forget(self) -> None:
        """Look anew when credentials are fetched next, where those found are kept."""
        if isinstance(self._given, Chain):
            self._given.forget()

    def fetch(self) -> Flight:
        """Begin to fetch credentials; what is at hand is there at once."""
        given = self._given
        outcome = _new_outcome()
        at_hand = self._judge(self._look_around)
        if at_hand is not None:
            outcome.set_result(at_hand)
        elif callable(given) and not _is_botocores(given):
            task = asyncio.get_running_loop().create_task(self._call(given))
            task.add_done_callback(lambda done: self._land(done, outcome))
            return Flight(outcome, task)
        else:
            self._freeze_in_thread(given, outcome)
        return Flight(outcome)

    def _look_around(self) -> Credentials | None:
        """Give credentials that can be had without waiting."""
        if isinstance(self._given, Credentials):
            return self._given
        if isinstance(self._given, Chain) and self._given.profile_name is None:
            keys = take_environment(self._environ)
            if keys is not None:
                self._given.method = "env"
            return keys
        return None

    async def _call(self, function: Callable[[], Awaitable[object]]) -> Credentials:
        """Await the user's function on the loop; what it gives may be botocore's, which blocks."""
        awaitable = function()
        if not inspect.isawaitable(awaitable):
            raise ConfigurationError(
                f"The function given as credentials= returned {type(awaitable).__name__} and not "
                f"an awaitable, so it may block the event loop: make it `async def`."
            )
        given = await awaitable
        if isinstance(given, Credentials):
            return given
        frozen = _new_outcome()
        self._freeze_in_thread(given, frozen)
        outcome = await asyncio.wrap_future(frozen)
        if isinstance(outcome, Credentials):
            return outcome
        raise copy.copy(outcome) from outcome.__cause__

    def _freeze_in_thread(self, source: object, outcome: _Outcome) -> None:
        submit(lambda: self._judge(lambda: self._freeze(source)), outcome.set_result)

    def _freeze(self, source: object) -> Credentials:
        """Ask botocore's objects; this blocks."""
        # The chain's judge by the corrected clock, other people's by this machine's.
        now = self.now if isinstance(source, Chain) else self._clock
        if hasattr(source, "get_credentials"):
            source = source.get_credentials()
            if source is None:
                raise self._failure(f"No AWS credentials were found: {self.description} has none.")
        frozen: Any = source
        try:
            if hasattr(source, "get_frozen_credentials"):
                frozen = source.get_frozen_credentials()
            seconds = _seconds_left(source)
        except TypeError as error:
            # Nothing else of botocore's subtracts times; a zone that is missing it does not notice.
            if "offset-naive" not in str(error):
                raise
            raise ConfigurationError(
                f"The end of the credentials that {self.place} gave has no zone, so that nobody "
                "knows when that is: it must be a time such as 2030-01-31T23:59:59Z (ISO 8601)."
            ) from None
        if not hasattr(frozen, "access_key"):
            if inspect.iscoroutine(frozen):  # aiobotocore's objects have coroutine methods
                frozen.close()
            raise ConfigurationError(
                f"Not credentials: {self.description} gave a {type(frozen).__name__}. Around an "
                f"object whose methods are coroutines, give an `async def` that awaits them."
            )
        end = None
        if seconds is not None:
            end = datetime.datetime.fromtimestamp(now() + seconds, datetime.UTC)
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token, end)

    def _judge(self, fetch: Callable[[], _Found]) -> _Found | AiosmrtError:
        """Make every way a fetch can go an outcome: somebody may be waiting for one."""
        handled = sys.exception()
        try:
            credentials = fetch()
            return self._find_fault(credentials) or credentials
        except BaseException as error:  # noqa: BLE001, in a thread nobody else would see it
            return self._explain(error, handled)

    def _land(self, done: asyncio.Task[Credentials], outcome: _Outcome) -> None:
        # Not raised here, or its traceback would refer to the task that keeps it.
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if not outcome.done():
            outcome.set_result(self._judge(done.result) if error is None else self._explain(error))

    def _explain(self, error: BaseException, handled: BaseException | None = None) -> AiosmrtError:
        """Make what a fetch has raised an error of ours."""
        # The frames have what was read from variables, files, processes and services.
        forget_locals(*walk_chain(error, handled))
        if isinstance(error, AiosmrtError):
            return error
        given = self._given
        where = given.describe() if isinstance(given, Chain) else ""
        failure = self._failure(
            f"Fetching {self.description} failed ({type(error).__name__}"
            f"{where and f' from {where}'}): {str(error) or 'no details'}."
        )
        failure.__cause__ = error
        # Whoever gives credentials may have quoted some, which nobody here knows.
        Secrets(()).mask_error(failure)
        return failure

    def _find_fault(self, credentials: Credentials | None) -> CredentialsError | None:
        """Say why what was found is of no use, if it is not."""
        if credentials is None:
            return None
        if self.now() >= end_of(credentials):
            offset = self._correction.offset
            clock = f" by the service's clock ({offset:+.0f} s from this machine's)"
            end = f"{credentials.expires_at}{clock if offset else ''}"
            return self._failure(f"Expired: {self.place} ended at {end}.")
        fault = find_fault(credentials, self._name_key)
        return None if fault is None else CredentialsError(fault)

    def _name_key(self, attribute: str) -> str:
        """Say where a key is from."""
        given = self._given
        prefix = self._key_prefix
        if isinstance(given, Chain):
            if given.method == "env":
                names = VARIABLES[attribute]
                name = next((name for name in names if self._environ.get(name)), names[0])
                return f"the environment variable {name}"
            prefix = "aws_" if given.reads_files else ""
        return f"the {prefix}{attribute} of {self.place}"

    def _failure(self, text: str) -> CredentialsError:
        return CredentialsError(f"{text} {_ADVICE}" if isinstance(self._given, Chain) else text)


class Flight:
    """One fetch. Its outcome is never an exception of the future, which has many waiters."""

    def __init__(self, outcome: _Outcome, task: asyncio.Task[Credentials] | None = None) -> None:
        self.outcome = outcome
        self.task = task
        self.pid: int = os.getpid()
        # As one loop sees the outcome.
        self._landing: asyncio.Future[Credentials | AiosmrtError] | None = None

    async def join(self, limit: float | None) -> bool:
        """Wait for it, for `limit` seconds at most, and tell whether it is over.

        One future serves all who wait in a loop: a thousand of them are not to be told one by one
        from a thread, which contends with the loop for the interpreter.
        """
        loop = asyncio.get_running_loop()
        landing = self._landing
        if landing is None or landing.get_loop() is not loop:
            landing = self._landing = asyncio.wrap_future(self.outcome)
        await asyncio.wait((landing,), timeout=limit)
        return self.outcome.done()

    async def cancel(self) -> None:
        """End its task, and tell those who wait for it that the client is closed."""
        if self.task is None or self.outcome.done():
            return
        self.outcome.set_result(ClientClosed("the client was closed while it fetched credentials"))
        self.task.cancel()
        await asyncio.wait([self.task])

    def is_lost(self) -> bool:
        """Say whether its thread did not come along in a fork, or its task is on another loop."""
        return self.pid != os.getpid() or (
            self.task is not None and self.task.get_loop() is not asyncio.get_running_loop()
        )


def end_of(credentials: Credentials) -> float:
    """Give the end in seconds since the epoch, infinity for credentials without one."""
    return credentials.expires_at.timestamp() if credentials.expires_at else math.inf


def _new_outcome() -> _Outcome:
    outcome: _Outcome = Future()
    # From here on cancel(), which the wrapper of a cancelled waiter passes on, does nothing.
    outcome.set_running_or_notify_cancel()
    return outcome


def _is_botocores(source: object) -> bool:
    """Tell a session, credentials and frozen credentials of botocore by what is asked of them."""
    names = ("get_credentials", "get_frozen_credentials", "access_key")
    return any(hasattr(source, name) for name in names)


def _describe(source: object) -> str:
    """Name the source for errors, without its secrets, or refuse it."""
    if isinstance(source, Credentials):
        return "the keys given as arguments"
    if isinstance(source, Chain):
        if source.profile_name is not None:
            return f"the profile {source.profile_name!r}"
        return "the default chain (environment, shared files, container, instance metadata)"
    if _is_botocores(source):
        return "the botocore object given as credentials="
    if callable(source):
        return "the function given as credentials="
    raise ConfigurationError(
        f"credentials= is a {type(source).__name__}: give an aiosmrt.Credentials, credentials or "
        f"a session of botocore, or a coroutine function that returns credentials."
    )


def _seconds_left(source: object) -> int | None:
    """Find out how long botocore's credentials live: rounded up, `None` for those without an end.

    Their expiry has no public name, but `refresh_needed(refresh_in=seconds)`, which compares it
    and does nothing else, has: twenty questions tell it to the second (up to 12 days, after which
    one looks again). Rounding up puts our 15 minutes inside botocore's, so that it does refresh.
    """
    needed = getattr(source, "refresh_needed", None)
    if needed is None or not needed(refresh_in=math.inf):
        return None
    return bisect_left(range(2**20), 1, key=lambda seconds: needed(refresh_in=seconds))
