"""Asynchronous inference: waiting for an output or a failure in S3, here or in another process."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import datetime
import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import attrs

from aiosmrt.async_inference.look import Listings, find_failure, find_output, read_failure
from aiosmrt.async_inference.part_file import PartFile
from aiosmrt.async_inference.s3 import S3, S3Object
from aiosmrt.async_inference.s3_protocol import S3Location, may_be_absent
from aiosmrt.calls import FailureKind, classify
from aiosmrt.errors import (
    AiosmrtError,
    AsyncInferenceError,
    ClientClosed,
    ConfigurationError,
    ParameterError,
    ServiceError,
    SlotTimeout,
    TransportError,
)
from aiosmrt.masking import Secrets
from aiosmrt.models import AsyncInferenceOutput, ResponseMetadata
from aiosmrt.randomness import generator
from aiosmrt.redaction import Redacted
from aiosmrt.tracebacks import drop_tracebacks
from aiosmrt.value import Shown

__all__ = [
    "AsyncInferenceTimeout",
    "AsyncInvocation",
    "Polling",
    "Wait",
    "read_output",
]

_log = logging.getLogger("aiosmrt")

# Seconds that the look at the deadline may take beyond it.
_LAST_LOOK = 5.0
# Bytes that are gathered before a thread writes them.
_BLOCK = 1 << 20
_EXPIRED = ("ExpiredToken", "ExpiredTokenException")


@attrs.frozen
class Polling:
    """How S3 is polled: pauses in seconds, each `GROWTH` times the one before."""

    GROWTH = 1.6

    first: float = 0.5
    longest: float = 15.0


@attrs.define(eq=False, repr=False)
class Wait(Shown):
    """One wait: its deadline, its pauses, and what it has put up with."""

    polling: Polling
    timeout: float | None  # seconds
    s3: S3
    _deadline: float = attrs.field(init=False)
    _pause: float = attrs.field(init=False)
    _warned: set[str] = attrs.field(factory=set, init=False)  # kinds of failed looks
    listings: Listings = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        limit = self.timeout
        number = isinstance(limit, int | float) and not isinstance(limit, bool)
        if not (limit is None or number):
            raise ParameterError(f"timeout={limit!r}: seconds, 0 to look once, or None")
        self.postpone(float("inf") if limit is None else limit)
        self._pause = self.polling.first
        self.listings = Listings(self.s3)

    def postpone(self, seconds: float) -> None:
        """Have the deadline so many seconds from now."""
        self._deadline = asyncio.get_running_loop().time() + seconds

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, 0 after it."""
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    @contextlib.asynccontextmanager
    async def limit_look(self) -> AsyncIterator[None]:
        """Bound a look into S3, which may begin before the deadline and end a little after.

        Raises:
            TransportError: it did not end by then; its text says what it was waiting for.
        """
        seconds = max(self.remaining, _LAST_LOOK)
        try:
            async with asyncio.timeout(None if seconds == float("inf") else seconds):
                yield
        except TimeoutError as error:
            if isinstance(error, AiosmrtError):
                raise
            # Which of the two it is differs between Python's versions.
            cancelled = error.__cause__ or error.__context__
            awaited = "; ".join(getattr(cancelled, "__notes__", ["waiting for S3"]))
        else:
            return
        # A loop may ring a little early.
        self._deadline = asyncio.get_running_loop().time()
        raise TransportError(f"the look was given up after {seconds:g} s, {awaited}")

    async def rest(self, within: float = float("inf")) -> bool:
        """Pause until the next look, for at most so many seconds.

        Returns:
            `False`, without a pause, where there must be none.
        """
        remaining = min(self.remaining, within)
        if not remaining:
            return False
        # Jittered downwards, so that many waiters do not look at the same time.
        pause = min(self._pause * generator.uniform(0.5, 1), remaining)
        # If the client was closed meanwhile, the next look says so.
        with contextlib.suppress(ClientClosed):
            await self.s3.pause(pause)
        self._pause = min(self._pause * Polling.GROWTH, self.polling.longest)
        return True

    def hurry(self) -> None:
        """Begin with short pauses again."""
        self._pause = self.polling.first

    def warn(self, error: AiosmrtError) -> None:
        """Say how a look has failed, once for each kind of failure."""
        denied = may_be_absent(error)
        kind = error.code if isinstance(error, ServiceError) else type(error).__name__
        if denied:
            kind = "denied"  # which HEAD and GET say differently
        if kind in self._warned:
            return
        self._warned.add(kind)
        if denied:
            _log.warning(
                "%s; waiting on, since without s3:ListBucket S3 says this of an object that is not "
                "there yet, too, and cannot list many at once: allow s3:ListBucket on the bucket",
                _describe(error),
            )
        else:
            _log.warning(
                "a look into S3 failed, and is repeated until the deadline: %s", _describe(error)
            )

    def puts_up_with(self, error: AiosmrtError, former: AiosmrtError | None) -> bool:
        """Tell whether what the error says may change until the deadline, and warn of it."""
        may_change = (
            classify(error) is not FailureKind.OTHER
            or isinstance(error, SlotTimeout)
            # The next look is signed with new credentials.
            or (_is_expired(error) and not (former and _is_expired(former)))
        )
        if may_change:
            self.warn(error)
        return may_change


def _describe(error: AiosmrtError) -> str:
    """Give the text of a failed look: it was S3 that was asked, and no model."""
    told = copy.copy(error)
    told.attempts, told.may_have_run = (), False
    return str(told)


def _is_expired(error: AiosmrtError) -> bool:
    return isinstance(error, ServiceError) and error.code in _EXPIRED


class AsyncInferenceTimeout(AiosmrtError, TimeoutError):
    """No output and no failure of an asynchronous invocation was found within the time given.

    Where S3 could not be asked at last, its text and its cause say why.

    Attributes:
        invocation: what was waited for, and can be again.
        seconds: how long that was.
    """

    def __init__(
        self,
        message: str,
        *,
        invocation: AsyncInvocation | None = None,
        seconds: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.invocation = invocation
        self.seconds = seconds


@attrs.frozen
class AsyncInvocation:
    """An invocation that was accepted: where its output, or its failure, will be.

    Waiting can be given up, by cancellation too, and begun again, as often as wanted, in any
    process: `to_json` and `SageMakerRuntimeClient.resume_async_invocation`.

    Attributes:
        inference_id: the id of the invocation.
        output_location: where the output will be, `s3://…`.
        failure_location: where the failure would be, `s3://…`.
        endpoint_name: the endpoint that was called.
        submitted_at: when it was acknowledged, in UTC.
        metadata: of the acknowledgement; `None` for one resumed, which is equal all the
            same.
    """

    inference_id: str | None
    output_location: str | None
    failure_location: str | None
    endpoint_name: str | None = None
    submitted_at: datetime.datetime | None = None
    metadata: ResponseMetadata | None = attrs.field(default=None, eq=False)
    _s3: S3 | None = attrs.field(default=None, eq=False, repr=False)
    _polling: Polling = attrs.field(factory=Polling, eq=False, repr=False)
    # Of the call, which the words of a failure may repeat; they are known in this process alone.
    _secrets: Secrets = attrs.field(default=Secrets(()), eq=False, repr=False)

    def __reduce__(self) -> tuple[object, ...]:
        # A client is not pickled: the copy can be resumed.
        values = [getattr(self, name) for name in (*_SAVED, "metadata")]
        return type(self), tuple(values)

    async def result(self, timeout: float | None = 900.0) -> AsyncInferenceOutput:  # noqa: ASYNC109 - part of the design
        """Wait for the output and give it whole, as it is stored, whatever its `Content-Encoding`.

        Args:
            timeout: seconds to wait until it is there (`None`: without end, 0: look once); reading
                it may take longer, as long as bytes come.

        Raises:
            AsyncInferenceError: there is a failure instead, with its text.
            AsyncInferenceTimeout: neither is there yet; waiting can go on.
            ServiceError: `AccessDenied`, at once where that cannot mean that it is not there yet,
                else when S3 said so to the end; or another refusal.
            UnexpectedResponse: the output was replaced while it was read.
            AiosmrtError: S3 cannot be asked, or the output not be read.
        """
        with self._place():
            return await read_output(await self._wait(timeout))

    async def iter_output(self, timeout: float | None = 900.0) -> AsyncGenerator[bytes]:  # noqa: ASYNC109 - as above
        """Wait for the output and give its bytes as they come; arguments and errors as `result`.

        A connection that dies on the way is replaced by another, which goes on from there.
        """
        with self._place():
            found = await self._wait(timeout)
            try:
                while chunk := await found.receive():
                    yield chunk
                    del chunk  # the traceback of what comes next would show it
            finally:
                found.close()

    async def download(self, path: str | os.PathLike[str], timeout: float | None = 900.0) -> None:  # noqa: ASYNC109 - as above
        """Wait for the output and write it to a file, which is there whole or not at all.

        Args:
            path: of the file, which is replaced where it exists; the output is gathered beside it.
            timeout: as for `result`.

        Raises:
            OSError: it cannot be written.
            AiosmrtError: as `result`.
        """
        part = PartFile(path)
        try:
            block = Redacted(bytearray())
            async with contextlib.aclosing(self.iter_output(timeout)) as chunks:
                async for chunk in chunks:
                    block.value += chunk
                    del chunk  # the traceback of what comes next would show it
                    if len(block.value) >= _BLOCK:
                        await part.write(bytes(block.value))
                        block.value.clear()
            await part.write(bytes(block.value))
            await part.finish()
        finally:
            await part.discard()

    def to_json(self) -> str:
        """Write down all that `resume_async_invocation` needs, as a JSON object."""
        submitted_at = None if self.submitted_at is None else self.submitted_at.isoformat()
        values = {name: getattr(self, name) for name in _SAVED}
        return json.dumps({**values, "submitted_at": submitted_at})

    @classmethod
    def from_json(cls, text: str, s3: S3, polling: Polling) -> AsyncInvocation:
        """Read what `to_json` has written; unknown members are left alone.

        Raises:
            ParameterError: it is something else.
        """
        wrong = "this is not what AsyncInvocation.to_json() gives"
        try:
            fields = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise ParameterError(f"{wrong}: {error}") from error
        if not isinstance(fields, dict) or "output_location" not in fields:
            raise ParameterError(f"{wrong}: there is no output_location")
        values = {name: fields.get(name) for name in _SAVED}
        for name, value in values.items():
            if not (value is None or isinstance(value, str)):
                raise ParameterError(f"{wrong}: {name} is {value!r}")
        submitted_at = values.pop("submitted_at")
        try:
            parsed = None if submitted_at is None else datetime.datetime.fromisoformat(submitted_at)
        except ValueError as error:
            raise ParameterError(f"{wrong}: submitted_at is {submitted_at!r}") from error
        for name in ("output_location", "failure_location"):
            location = values[name]
            if location is not None:
                S3Location.parse_object(location)
        return cls(**values, submitted_at=parsed, s3=s3, polling=polling, secrets=Secrets(()))

    def _reach_s3(self) -> S3:
        if self._s3 is None:
            raise ConfigurationError(
                "this invocation has no client (was it pickled?): give its to_json() to "
                "client.resume_async_invocation()"
            )
        return self._s3

    async def look(self, wait: Wait) -> S3Object | ServiceError | None:
        """Ask S3 once for the output, then for the failure.

        Where both exist the output counts: it was paid for, and a failure may be that of an
        earlier attempt.

        Returns:
            The output; `None` where neither is there; or how S3 denies to say so.

        Raises:
            AsyncInferenceError: there is a failure and no output.
            ServiceError: access is denied to what is there.
            AiosmrtError: S3 did not tell.
        """
        s3, output = self._reach_s3(), self.output_location
        if output is None:
            raise self._fail("the endpoint named no output location: there is nothing to wait for")
        location = S3Location.parse_object(output)
        found, denied = await find_output(s3, location, wait.listings)
        if found is not None:
            return found
        if self.failure_location is None:
            return denied
        place = S3Location.parse_object(self.failure_location)
        failed, hidden = await find_failure(s3, place, wait.listings)
        if not failed:
            return denied or hidden
        # The output may have come since the first look.
        found, _ = await find_output(s3, location, wait.listings)
        if found is None:
            raise self._fail(await read_failure(s3, place))
        return found

    def _fail(self, text: str) -> AsyncInferenceError:
        return AsyncInferenceError(
            self._secrets.mask(text),
            inference_id=self.inference_id,
            failure_location=self.failure_location,
        )

    def give_up(self, seconds: float, trouble: AiosmrtError | None) -> AiosmrtError:
        """Build the error of a wait of so many seconds; `trouble` is S3's last answer."""
        if trouble is not None and may_be_absent(trouble):
            return copy.copy(trouble)
        found = f"neither output nor failure within {seconds:g} s"
        if trouble is not None:
            found = (
                f"S3 did not tell within {seconds:g} s whether the output is there; the last "
                f"look into S3 failed: {_describe(trouble)}"
            )
            self.place(trouble)
        error = AsyncInferenceTimeout(
            f"{found}: call result() again, or keep to_json() for later; awaited: "
            f"{self.output_location}",
            invocation=self,
            seconds=seconds,
        )
        error.__cause__ = trouble
        return error

    async def _wait(self, seconds: float | None) -> S3Object:
        """Look until there is an output."""
        wait = Wait(self._polling, seconds, self._reach_s3())
        trouble: AiosmrtError | None = None
        while True:
            try:
                async with wait.limit_look():
                    found = await self.look(wait)
                if isinstance(found, S3Object):
                    return found
                trouble = found
                if found is not None:
                    wait.warn(found)
            except AiosmrtError as error:
                if not wait.puts_up_with(error, trouble):
                    raise
                trouble = drop_tracebacks(error)
            if not await wait.rest():
                break
        raise self.give_up(wait.timeout or 0.0, trouble)

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        try:
            yield
        except AiosmrtError as error:
            self.place(error)
            raise

    def place(self, error: AiosmrtError) -> None:
        """Tell an error which invocation it belongs to."""
        error.operation = error.operation or "InvokeEndpointAsync"
        error.endpoint_name = error.endpoint_name or self.endpoint_name
        # It was accepted.
        error.may_have_run = True


_SAVED = ("inference_id", "output_location", "failure_location", "endpoint_name", "submitted_at")


async def read_output(found: S3Object) -> AsyncInferenceOutput:
    """Read an object to its end, and close it."""
    chunks: Redacted[list[bytes]] = Redacted([])
    try:
        while chunk := await found.receive():
            chunks.value.append(chunk)
            del chunk  # the traceback of what comes next would show it
    finally:
        found.close()
    return AsyncInferenceOutput(b"".join(chunks.value), found.content_type, found.metadata)
