"""An answer on a connection of the pool."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Collection

from aiosmrt.errors import AiosmrtError, ConnectionLost, StreamClosed, TransportError
from aiosmrt.http import ResponseHead
from aiosmrt.redaction import Redacted
from aiosmrt.tracebacks import drop_tracebacks
from aiosmrt.transport.alarm import Alarm
from aiosmrt.transport.border import describe
from aiosmrt.transport.exchange import Exchange
from aiosmrt.transport.limits import Limits
from aiosmrt.transport.slot import Slot, Slots

__all__ = ["PooledResponse"]

# Seconds. With a peer faster than its reader the next bytes are always there, at once or as soon as
# the loop has looked. A reader that was not kept waiting for so long, for so long, lets others run,
# or a server would never notice that its client hung up: anyio cancels only what waits.
_SLICE = 0.01


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
        "_exchange",
        "_fault",
        "_finished",
        "_limits",
        "_received",
        "_slot",
        "_waiting_since",
        "head",
        "time_to_first_byte",
    )

    def __init__(
        self, head: ResponseHead, exchange: Exchange, slot: Slot, limits: Limits, alarm: Alarm
    ) -> None:
        self.head: ResponseHead = head
        self.time_to_first_byte: float = time.perf_counter() - (exchange.begun_at or 0.0)
        self._exchange = exchange
        self._slot = slot
        self._limits = limits
        self._alarm = alarm
        self._fault: AiosmrtError | None = None
        self._finished = False
        self._received = 0
        self._waiting_since: float | None = None
        self._busy_since = alarm.time()  # when the reader last had to wait
        limits.awaited = "idle"

    async def receive(self) -> bytes:  # noqa: C901 - for each event; calls would cost more
        """Give the next bytes of the body as soon as they are there, `b""` at its proven end.

        Raises:
            ConnectionLost: the body broke off, after all that came before was given.
            IdleTimeout, FirstByteTimeout, TotalTimeout: nothing came in time.
            ClientClosed, StreamClosed: somebody closed it meanwhile.
            RuntimeError: another task is in here.
        """
        if self._finished or self._fault is not None or self._waiting_since is not None:
            return self._give_nothing()
        exchange = self._exchange
        pieces = exchange.answer.pieces
        now = self._alarm.time()
        try:
            if now - self._busy_since > _SLICE:
                await self._let_others_run(now)
            if not pieces and exchange.is_dry():
                self._waiting_since = now
                expires_at = self._limits.expires_at(now)
                if expires_at is not None:
                    self._alarm.set(self, expires_at)
                await exchange.wait()
                # Most of what comes has a part of the body.
                while not pieces and exchange.is_dry() and self._fault is None:
                    await exchange.wait()
                resumed = self._alarm.time()
                if resumed - now > _SLICE:
                    self._busy_since = resumed
        finally:
            if self._waiting_since is not None:
                self._waiting_since = None
                self._alarm.unset(self)
        if self._fault is not None:
            raise copy.copy(self._fault)
        data = exchange.take()
        self._received += len(data)
        if exchange.error is not None:
            self._break_off(exchange.error, data)
        elif exchange.answer.complete:
            self._finish(data)
        elif self._limits.are_over():
            # A consumer so slow that it never waits would otherwise go on for ever.
            self._limits.note("whoever reads the answer")
            self.fail(self._limits.expire())
        return data

    def _give_nothing(self) -> bytes:
        if self._fault is not None:
            raise copy.copy(self._fault)
        if not self._finished:
            raise RuntimeError("this response is being read by another task")
        return b""

    async def _let_others_run(self, now: float) -> None:
        self._waiting_since = self._busy_since = now
        await asyncio.sleep(0)

    async def read(self) -> bytes:
        """Give the whole rest of the body; errors as `receive`, with what came in their `body`."""
        chunks: Redacted[list[bytes]] = Redacted([])
        try:
            chunks.value.append(await self.receive())
            while not self._finished:
                chunks.value.append(await self.receive())
        except TransportError as error:
            error.body += b"".join(chunks.value)
            if isinstance(self._fault, TransportError):
                self._fault.body = error.body  # for who reads on
            raise
        return chunks.value[0] if len(chunks.value) == 1 else b"".join(chunks.value)

    def _finish(self, data: bytes) -> None:
        if self._exchange.answer.delimited:
            self._finished = True
            self.close()
            return
        self._fault = ConnectionLost(
            "the body's end was shown only by the connection closing, which a cut looks like too, "
            f"after {self._received} bytes: whether the answer is whole cannot be known. Let the "
            "server send Content-Length or, in HTTP/1.1, Transfer-Encoding: chunked"
        )
        self._fault.may_have_run = True
        self.close()
        if not data:
            raise copy.copy(self._fault)

    def _break_off(self, error: Exception, data: bytes) -> None:
        """Note why nothing will come behind `data`."""
        fault = ConnectionLost(
            f"the connection was lost after {self._received} bytes of the answer: {describe(error)}"
        )
        fault.may_have_run = True
        fault.__cause__ = error
        self._fault = drop_tracebacks(fault)
        self.close()
        if not data:
            raise copy.copy(fault)

    def ring(self) -> None:
        """Fail the wait, unless its limit was lifted meanwhile."""
        # On a busy loop the alarm can be before a reader for whom something has come already.
        if self._waiting_since is None or not self._exchange.is_dry():
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

    def is_left_to_its_reader(self, slots: Slots, calls: Collection[Limits]) -> bool:
        """Tell whether it has one of these places still, and is none of these calls any longer."""
        return self._slot.belongs_to(slots) and self._limits not in calls

    def close(self) -> None:
        """Close the connection unless the body was read to its end; free the slot. Idempotent."""
        if not self._finished:
            if self._fault is None:
                self._fault = StreamClosed("the response stream was closed")
            self._exchange.close()
        self._slot.release()
