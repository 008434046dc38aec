"""An answer on a connection of the pool."""

from __future__ import annotations

import asyncio
import functools

import aiohttp

from aiosmrt.alarm import Alarm
from aiosmrt.errors import AiosmrtError, ConnectionLost, StreamClosed
from aiosmrt.http import ResponseHead
from aiosmrt.limits import Limits
from aiosmrt.transport.border import describe
from aiosmrt.transport.exchange import Exchange
from aiosmrt.transport.slot import Slot

__all__ = ["PooledResponse"]

# Statuses whose answers have no body, whatever their headers say (RFC 9112, section 6.3).
_BODILESS = (204, 304)


# Seconds. With a peer faster than its reader the next bytes are always there, at once or as soon as
# the loop has looked. A reader that was not kept waiting for so long, for so long, lets others run,
# or a server would never notice that its client hung up: anyio cancels only what waits.
_SLICE = 0.01

# The names of headers are always the same ones: this spares a stream that is open its own copies.
_lower = functools.lru_cache(1024)(str.lower)


class PooledResponse:
    """An answer on a connection of the pool: `aiosmrt.http.Response` in the flesh.

    Attributes:
        head: status and headers.
        time_to_first_byte: seconds from the first byte of the request to the head of its answer.
    """

    __slots__ = (
        "__weakref__",
        "_alarm",
        "_busy_since",
        "_content",
        "_delimited",
        "_fault",
        "_finished",
        "_limits",
        "_received",
        "_response",
        "_slot",
        "_waiting_since",
        "head",
        "time_to_first_byte",
    )

    def __init__(
        self,
        response: aiohttp.ClientResponse | Exchange,
        slot: Slot,
        limits: Limits,
        alarm: Alarm,
        time_to_first_byte: float = 0.0,
    ) -> None:
        headers: dict[str, str] = {}
        for name, value in response.headers.items():
            lower = _lower(name)
            headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
        self.head = ResponseHead(response.status, headers)
        self.time_to_first_byte = time_to_first_byte
        self._response = response
        self._content = response.content
        # A body that ends with the connection has no end that could be told from a cut
        # (RFC 9112, section 6.3).
        self._delimited = (
            "content-length" in headers
            or headers.get("transfer-encoding", "").lower().endswith("chunked")
            or response.status in _BODILESS
        )
        self._slot = slot
        self._limits = limits
        self._alarm = alarm
        self._fault: AiosmrtError | None = None
        self._finished = False
        self._received = 0
        self._waiting_since: float | None = None
        self._busy_since = alarm.time()  # when the reader last had to wait
        limits.awaited = "idle"

    async def receive(self) -> bytes:
        """Give the next bytes of the body as soon as they are there, `b""` at its proven end.

        Raises:
            ConnectionLost: the body broke off, after all that came before was given.
            IdleTimeout, FirstByteTimeout, TotalTimeout: nothing came in time.
            ClientClosed, StreamClosed: somebody closed it meanwhile.
            RuntimeError: another task is in here.
        """
        if self._finished or self._fault is not None or self._waiting_since is not None:
            return self._give_nothing()
        content = self._content
        now = self._alarm.time()
        try:
            if now - self._busy_since > _SLICE:
                await self._let_others_run(now)
            if content.total_bytes == self._received and not content.is_eof():
                self._waiting_since = now
                expires_at = self._limits.expires_at(now)
                if expires_at is not None:
                    self._alarm.set(self, expires_at)
                data = await content.readany()
                resumed = self._alarm.time()
                if resumed - now > _SLICE:
                    self._busy_since = resumed
            else:
                data = content.read_nowait()
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            return self._break_off(error)
        finally:
            if self._waiting_since is not None:
                self._waiting_since = None
                self._alarm.unset(self)
        self._received += len(data)
        if not data or (self._delimited and content.at_eof()):
            self._finish()
        elif self._limits.are_over():
            # A consumer so slow that it never waits would otherwise go on for ever.
            self.fail(self._limits.expire())
        return data

    def _give_nothing(self) -> bytes:
        if self._fault is not None:
            raise self._fault
        if not self._finished:
            raise RuntimeError("this response is being read by another task")
        return b""

    async def _let_others_run(self, now: float) -> None:
        self._waiting_since = self._busy_since = now
        await asyncio.sleep(0)

    def _is_dry(self) -> bool:
        """Tell whether there is nothing to read until something comes."""
        content = self._content
        return content.total_bytes == self._received and not content.is_eof()

    async def read(self) -> bytes:
        """Give the whole rest of the body; errors as `receive`."""
        chunks = [await self.receive()]
        while not self._finished:
            chunks.append(await self.receive())
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _finish(self) -> None:
        if not self._delimited:
            self._fault = ConnectionLost(
                "the body's end was shown only by the connection closing, which a cut looks like "
                f"too, after {self._received} bytes"
            )
            self._fault.may_have_run = True
            self.close()
            raise self._fault
        self._finished = True
        self.close()

    def _break_off(self, error: Exception) -> bytes:
        """Note why the body broke off, and rescue what had come before.

        aiohttp raises before it hands out what it already holds: with a consumer that was busy,
        everything received before the cut would be lost.
        """
        if self._fault is not None:
            raise self._fault
        content = self._content
        # There is no public way to take an exception back; the stub allows none.
        content.set_exception(None)  # type: ignore[arg-type]
        rest = content.read_nowait()
        self._received += len(rest)
        fault = ConnectionLost(
            f"the connection was lost after {self._received} bytes of the answer: {describe(error)}"
        )
        fault.may_have_run = True
        fault.__cause__ = error
        self._fault = fault
        self.close()
        if not rest:
            raise fault
        return rest

    def ring(self) -> None:
        """Fail the wait, unless its limit was lifted meanwhile."""
        # On a busy loop the alarm can be before a reader for whom something has come already.
        if self._waiting_since is None or not self._is_dry():
            return
        expires_at = self._limits.expires_at(self._waiting_since)
        if expires_at is None:
            return
        if expires_at > self._alarm.time():
            self._alarm.set(self, expires_at)
        else:
            self.fail(self._limits.expire())

    def fail(self, error: AiosmrtError) -> None:
        """Close the connection and raise `error` from the read under way and every later one."""
        if self._finished or self._fault is not None:
            return
        error.may_have_run = True
        self._fault = error
        self.close()

    def close(self) -> None:
        """Close the connection unless the body was read to its end; free the slot. Idempotent."""
        if not self._finished:
            if self._fault is None:
                self._fault = StreamClosed("the response stream was closed")
            connection = self._response.connection
            if connection is not None and connection.transport is not None:
                # Closing politely would wait for a peer that does not read.
                connection.transport.abort()
            self._response.close()
        self._slot.release()
