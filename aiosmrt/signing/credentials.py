"""Credentials: found as botocore finds them, fetched off the loop, renewed before they end.

One fetch serves everybody who waits; while the old ones hold, nobody does.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from aiosmrt.config import Credentials, CredentialsSource
from aiosmrt.errors import ConfigurationError, CredentialsTimeout
from aiosmrt.signing.chain import Chain
from aiosmrt.signing.clock import Clock
from aiosmrt.signing.keys import take_arguments
from aiosmrt.signing.source import Flight, Source, end_of
from aiosmrt.tracebacks import hides_locals

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

    Attributes:
        source: where they come from.

    Raises:
        ConfigurationError: the arguments cannot be used, or not together.
    """

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
        correction = correction or Clock()
        find_region = region_name if callable(region_name) else lambda: region_name
        self.source: Source = Source(
            Chain(profile_name, find_region, correction) if given is None else given,
            key_prefix="" if keys is None else "aws_",
            environ=environ,
            clock=clock,
            correction=correction,
        )
        self._cached: Credentials | None = None
        self._renew_at = self._block_at = -math.inf
        self._flight: Flight | None = None

    def __repr__(self) -> str:
        # One whose constructor has failed is shown by tracebacks.
        known = hasattr(self, "source")
        return f"<CredentialProvider: {self.description if known else 'not made to its end'}>"

    @property
    def description(self) -> str:
        """Where they come from, for people."""
        return self.source.description

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
        cached, renew_at = self._cached, self._renew_at
        if cached is not None and renew_at == math.inf:  # as keys that are given
            return cached
        now = self.source.now()
        if cached is not None and now < renew_at:
            return cached
        flight = self._flight = self._flight or self.source.fetch()
        if flight.outcome.done():
            self._land()
            return self._settle(flight, now)
        return cached if now < self._block_at else None

    async def get(self, limit: float | None = None) -> Credentials:
        """Give credentials that hold, without suspending where there are some.

        Args:
            limit: seconds to wait for them, `None` is no limit. The fetch goes on, for whoever
                asks later: it may be waiting for a person, and a second one would not help.

        Raises:
            CredentialsTimeout: none came within the limit.
            CredentialsError, ConfigurationError: as `find`.
        """
        now = self.source.now()
        found = self.find()
        if found is not None:
            return found
        flight = self._flight
        assert flight is not None  # noqa: S101 - what `find` does not give is on its way
        if not await flight.join(limit) and limit is not None:
            where = self.source.place
            raise CredentialsTimeout(
                f"no credentials came from {where} within {limit:g} s (Timeout.credentials); the "
                "fetch goes on, for later calls",
                limit="credentials",
                seconds=float(limit),
            )
        self._land()
        return self._settle(flight, now)

    async def get_renewed(self, limit: float | None = None) -> Credentials:
        """Give credentials as `get`, but wait for new ones where they are being renewed."""
        found = await self.get(limit)
        flight = self._flight
        if flight is None:
            return found
        await flight.join(limit)
        return await self.get(limit)

    def _settle(self, flight: Flight, now: float) -> Credentials:
        """Give what a flight that is over has brought, or old credentials if they still hold."""
        outcome = flight.outcome.result()
        if isinstance(outcome, Credentials):
            return outcome
        if self._cached is not None and now < self._block_at:
            return self._cached
        # Every caller gets an error of their own, to which the call adds what it knows.
        raise copy.copy(outcome) from outcome.__cause__

    def invalidate(self, credentials: Credentials) -> None:
        """Have the next `get` fetch anew if these, which the service refused, are still at hand."""
        if credentials == self._cached:
            self._cached = None
            self.source.forget()

    async def aclose(self) -> None:
        """End the fetch under way: a coroutine is cancelled, a thread waited for, for a second.

        Nothing else is held open, and `get` can still be called.
        """
        flight = self._flight
        if flight is None or flight.is_lost():
            return
        if flight.task is not None:
            self._flight = None
            await flight.cancel()
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(flight.outcome), _CLOSING)

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
        now = self.source.now()
        if isinstance(outcome, Credentials):
            self._cached = outcome
            end = end_of(outcome)
            self._block_at = end - min(_MANDATORY, (end - now) / 10)
        elif self._cached is not None and now < self._block_at:
            end = end_of(self._cached)
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
