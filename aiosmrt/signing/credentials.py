"""Credentials: found as botocore finds them, fetched off the loop, renewed before they end.

Where they come from decides how they are fetched. Keys that are given, or set in the environment,
are at hand and need no botocore; a coroutine function is awaited on the loop; everything else is
botocore's, which blocks (files, processes, metadata services, STS) and runs in a thread.

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
import logging
import math
import os
import sys
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

from aiosmrt.config import Credentials, CredentialsSource
from aiosmrt.errors import (
    AiosmrtError,
    ConfigurationError,
    CredentialsError,
    CredentialsTimeout,
)
from aiosmrt.masking import Secrets
from aiosmrt.signing.chain import Chain, name_method
from aiosmrt.signing.clock import Clock
from aiosmrt.signing.keys import VARIABLES, find_fault, take_arguments, take_environment
from aiosmrt.threads import submit
from aiosmrt.tracebacks import forget_locals, hides_locals, walk_chain

__all__ = ["CredentialProvider"]

_logger = logging.getLogger(__name__)

# Seconds before the end of credentials at which they are renewed in the background. It is
# botocore's advisory window: asked earlier, its objects would not refresh.
_ADVISORY = 15 * 60.0
# Seconds before the end at which calls wait for new ones: time enough for a request to arrive.
# botocore's mandatory window, 10 minutes, would fail calls that the old ones serve well.
_MANDATORY = 60.0
# Seconds that closing waits for a thread, which cannot be cancelled.
_CLOSING = 1.0

_ADVICE = (
    "Pass aws_access_key_id= and aws_secret_access_key=, credentials= or profile_name=, or set "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or give the machine a role."
)

_Found = TypeVar("_Found", bound=Credentials | None)
_Outcome: TypeAlias = "Future[Credentials | AiosmrtError]"


class CredentialProvider:
    """Gives credentials that hold now; one fetch at a time, whoever asks and however often.

    Args:
        credentials: an `aiosmrt.Credentials`, a credentials object of botocore, a session of
            botocore or boto3, or a coroutine function that returns credentials and is called
            again before their `expires_at`, or only after `invalidate` where that is `None`.
        access_key_id, secret_access_key, session_token: in place of `credentials`.
        profile_name: a profile of the shared files. It beats keys in the environment, which the
            variable `AWS_PROFILE` does not (as in botocore).
        region_name: where STS is called if the source needs it, or what gives it: that is asked
            where credentials are fetched, and may block.
        environ: where keys are looked for; botocore itself reads the process's environment.
        clock: this machine's time in seconds since the epoch.
        correction: how far that is from the service's time, by which credentials end.

    Without credentials, keys and profile, the environment's keys count (`AWS_ACCESS_KEY_ID`,
    `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_CREDENTIAL_EXPIRATION`), else what botocore's
    chain finds. Nothing is read before the first `get`.

    Raises:
        ConfigurationError: the arguments cannot be used, or not together.
    """

    description = "not made to its end"

    @hides_locals
    def __init__(
        self,
        credentials: CredentialsSource | None = None,
        *,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        session_token: str | None = None,
        profile_name: str | None = None,
        region_name: str | Callable[[], str | None] | None = None,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
        correction: Clock | None = None,
    ) -> None:
        keys = take_arguments(access_key_id, secret_access_key, session_token)
        if keys is not None and credentials is not None:
            raise ConfigurationError(
                "Both credentials= and aws_access_key_id= are given: leave one of them out."
            )
        given = keys if credentials is None else credentials
        self._correction = correction or Clock()
        find_region = region_name if callable(region_name) else lambda: region_name
        self._source = (
            Chain(profile_name, find_region, self._correction) if given is None else given
        )
        self.description = _describe(self._source)
        self._key_prefix = "" if keys is None else "aws_"
        self._environ = environ
        self._clock = clock
        self._cached: Credentials | None = None
        self._renew_at = self._block_at = -math.inf
        self._flight: _Flight | None = None

    def __repr__(self) -> str:
        return f"<CredentialProvider: {self.description}>"

    @property
    def source(self) -> str:
        """Where credentials are from, or looked for at the moment, for people."""
        source = self._source
        if isinstance(source, Chain):
            where = source.describe()
        else:
            where = name_method(getattr(source, "method", None) or "")
        return f"{self.description.partition(' (')[0]} ({where})" if where else self.description

    def find(self) -> Credentials | None:
        """Give credentials that hold, `None` where it takes waiting: then `get` gives them.

        They are renewed in the background when 15 minutes of their life are left, or half of it if
        that is less. In the last minute, or the last tenth, it takes waiting.

        Raises:
            CredentialsError: there are none, or they have ended; the next time it is tried again.
            ConfigurationError: what was given as credentials does not give any.
        """
        if self._flight is not None:
            self._land()
        now = self._now()
        if self._cached is not None and now < self._renew_at:
            return self._cached
        flight = self._flight = self._flight or self._start()
        if flight.outcome.done():
            self._land()
            return self._settle(flight, now)
        return self._cached if now < self._block_at else None

    async def get(self, limit: float | None = None) -> Credentials:
        """Give credentials that hold, without suspending where there are some.

        Args:
            limit: seconds to wait for them, `None` is no limit. The fetch goes on, for whoever
                asks later: it may be waiting for a person, and a second one would not help.

        Raises:
            CredentialsTimeout: none came within the limit.
            CredentialsError, ConfigurationError: as `find`.
        """
        now = self._now()
        found = self.find()
        if found is not None:
            return found
        flight = self._flight
        assert flight is not None  # noqa: S101 - what was not found is on its way
        landing = asyncio.wrap_future(flight.outcome)
        try:
            await asyncio.wait((landing,), timeout=limit)
        finally:
            landing.cancel()
        if limit is not None and landing.cancelled():
            raise CredentialsTimeout(
                f"no credentials came from {self.source} within {limit:g} s (Timeout.credentials)",
                limit="credentials",
                seconds=float(limit),
            )
        self._land()
        return self._settle(flight, now)

    def _settle(self, flight: _Flight, now: float) -> Credentials:
        """Give what a flight that is over has brought, or old credentials if they still hold."""
        outcome = flight.outcome.result()
        if isinstance(outcome, Credentials):
            return outcome
        if self._cached is not None and now < self._block_at:
            return self._cached
        # Every caller gets an error of their own, to which the call adds what it knows.
        raise copy.copy(outcome) from outcome.__cause__

    def _now(self) -> float:
        return self._clock() + self._correction.offset

    def invalidate(self, credentials: Credentials) -> None:
        """Have the next `get` fetch anew if these, which the service refused, are still at hand."""
        if credentials == self._cached:
            self._cached = None
            if isinstance(self._source, Chain):
                self._source.forget()

    async def aclose(self) -> None:
        """End the fetch under way: a coroutine is cancelled, a thread waited for, for a second.

        Nothing else is held open, and `get` can still be called.
        """
        flight = self._flight
        if flight is None or flight.is_lost():
            return
        if flight.task is not None:
            self._flight = None
            flight.task.cancel()
        with suppress(TimeoutError):
            limit = _CLOSING if flight.task is None else None
            await asyncio.wait_for(asyncio.wrap_future(flight.outcome), limit)

    def _start(self) -> _Flight:
        source = self._source
        outcome = _new_outcome()
        at_hand = self._judge(self._look_around)
        if at_hand is not None:
            outcome.set_result(at_hand)
        elif callable(source) and not _is_botocores(source):
            task = asyncio.get_running_loop().create_task(self._call(source))
            task.add_done_callback(lambda done: outcome.set_result(self._judge_call(done)))
            return _Flight(outcome, task)
        else:
            self._freeze_in_thread(source, outcome)
        return _Flight(outcome)

    def _land(self) -> None:
        """Take in the outcome of a flight that is over, and plan the next one."""
        flight = self._flight
        if flight is None:
            return
        if not flight.outcome.done():
            if flight.is_lost():
                self._flight = None
            return
        self._flight = None
        outcome = flight.outcome.result()
        now = self._now()
        if isinstance(outcome, Credentials):
            self._cached = outcome
            end = _end_of(outcome)
            self._block_at = end - min(_MANDATORY, (end - now) / 10)
        elif self._cached is not None and now < self._block_at:
            end = _end_of(self._cached)
            _logger.warning(
                "Credentials could not be renewed, the old ones serve for %.0f more seconds: %s",
                end - now,
                outcome,
            )
        else:
            return
        # Halving what is left, also after a failure and after a source gave the same once more,
        # spaces the attempts at any length of life: 15 minutes before the end, 7.5, 3.75, ...
        self._renew_at = min(self._block_at, end - min(_ADVISORY, (end - now) / 2))

    def _look_around(self) -> Credentials | None:
        """Give credentials that can be had without waiting."""
        if isinstance(self._source, Credentials):
            return self._source
        if isinstance(self._source, Chain) and self._source.profile_name is None:
            keys = take_environment(self._environ)
            if keys is not None:
                self._source.method = "env"
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
        now = self._now if isinstance(source, Chain) else self._clock
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
                f"The end of the credentials that {self.source} gave has no zone, so that nobody "
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

    def _judge_call(self, done: asyncio.Task[Credentials]) -> Credentials | AiosmrtError:
        # Not raised here, or its traceback would refer to the task that keeps it.
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        return self._judge(done.result) if error is None else self._explain(error)

    def _explain(self, error: BaseException, handled: BaseException | None = None) -> AiosmrtError:
        """Make what a fetch has raised an error of ours."""
        # The frames have what was read from variables, files, processes and services.
        forget_locals(*walk_chain(error, handled))
        if isinstance(error, AiosmrtError):
            return error
        source = self._source
        where = source.describe() if isinstance(source, Chain) else ""
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
        if self._now() >= _end_of(credentials):
            offset = self._correction.offset
            clock = f" by the service's clock ({offset:+.0f} s from this machine's)"
            end = f"{credentials.expires_at}{clock if offset else ''}"
            return self._failure(f"Expired: {self.source} ended at {end}.")
        fault = find_fault(credentials, self._name_key)
        return None if fault is None else self._failure(fault)

    def _name_key(self, attribute: str) -> str:
        """Say where a key is from."""
        source = self._source
        prefix = self._key_prefix
        if isinstance(source, Chain):
            if source.method == "env":
                names = VARIABLES[attribute]
                name = next((name for name in names if self._environ.get(name)), names[0])
                return f"the environment variable {name}"
            prefix = "aws_" if source.reads_files else ""
        return f"the {prefix}{attribute} of {self.source}"

    def _failure(self, text: str) -> CredentialsError:
        return CredentialsError(f"{text} {_ADVICE}" if isinstance(self._source, Chain) else text)


class _Flight:
    """One fetch. Its outcome is never an exception of the future, which has many waiters."""

    def __init__(self, outcome: _Outcome, task: asyncio.Task[Credentials] | None = None) -> None:
        self.outcome = outcome
        self.task = task
        self.pid = os.getpid()

    def is_lost(self) -> bool:
        """Say whether its thread did not come along in a fork, or its task is on another loop."""
        return self.pid != os.getpid() or (
            self.task is not None and self.task.get_loop() is not asyncio.get_running_loop()
        )


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


def _end_of(credentials: Credentials) -> float:
    """Give the end in seconds since the epoch, infinity for credentials without one."""
    return credentials.expires_at.timestamp() if credentials.expires_at else math.inf


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
