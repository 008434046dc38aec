"""An answer that a fault strikes in its body; the connection ends with it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping

from aiosmrt.errors import ServiceError
from aiosmrt.local.answers import (
    Answer,
    encode_exception,
    encode_part,
    encode_value,
    name_content_type,
    write_headers,
)
from aiosmrt.local.exchange import Exchange
from aiosmrt.local.faults import Fault
from aiosmrt.local.model import InvocationRequest
from aiosmrt.local.raw_answer import RawAnswer
from aiosmrt.local.s3 import S3Answer
from aiosmrt.service import INVOKE_ENDPOINT_WITH_RESPONSE_STREAM

__all__ = ["send_struck", "send_struck_object"]


async def send_struck(
    exchange: Exchange, request: InvocationRequest, answer: Answer, fault: Fault
) -> None:
    """Answer InvokeEndpoint or InvokeEndpointWithResponseStream until a fault ends it.

    Raises:
        ServiceError: from the parts of a whole answer, and the first of a stream; nothing was sent.
        ConnectionError: the client hung up.
    """
    if request.operation == INVOKE_ENDPOINT_WITH_RESPONSE_STREAM.name:
        await _stream(exchange, request, answer, fault)
        return
    parts = [encode_value(part) async for part in answer.parts]
    await _send_whole(exchange, 200, _write_head(request, answer, None), parts, fault)


async def send_struck_object(exchange: Exchange, answer: S3Answer, fault: Fault) -> None:
    """Answer for S3, in one part, until a fault ends it.

    Raises:
        ConnectionError: the client hung up.
    """
    await _send_whole(exchange, answer.status, answer.headers, [answer.body], fault)


async def _send_whole(
    exchange: Exchange, status: int, headers: Mapping[str, str], parts: list[bytes], fault: Fault
) -> None:
    # Where the fault strikes behind all that there is, something has to be missing.
    before, whole = (sum(map(len, some)) for some in (parts[: fault.position - 1], parts))
    wire = await exchange.begin_raw(headers, max(whole, before + 1), status)
    await _play(wire, _iterate(parts), fault, b"")


async def _stream(
    exchange: Exchange, request: InvocationRequest, answer: Answer, fault: Fault
) -> None:
    # Before a first part that never comes there is a head.
    part = None if fault.position == 1 else await anext(answer.parts, None)
    wire = await exchange.begin_raw(_write_head(request, answer, part), None)
    framed = request.has_frames
    last = b"".join(encode_part(b"")) if framed else b""
    try:
        await _play(wire, _frame(part, answer, framed=framed), fault, last)
    except ServiceError as error:
        if framed:
            await wire.write(encode_exception(error))
            await wire.end()
        await wire.close()


def _write_head(
    request: InvocationRequest, answer: Answer, part: bytes | str | None
) -> dict[str, str]:
    content_type = answer.head.content_type or name_content_type(part)
    written = write_headers(request, answer.head, content_type)
    if not request.has_frames:
        written["Content-Type"] = content_type
    return written


async def _play(wire: RawAnswer, frames: AsyncGenerator[bytes], fault: Fault, last: bytes) -> None:
    """Send frames, one of which a fault strikes; where there are too few, `last` behind them."""
    number, struck = 0, False
    async with contextlib.aclosing(frames):
        while not wire.over:
            number += 1
            frame = await anext(frames, None)
            if not struck and (frame is None or number == fault.position):
                struck = True
                frame = await fault.strike(wire, last if frame is None else frame)
            if frame is None:
                break
            await wire.write(frame)
    if not wire.over:
        await wire.end()


async def _frame(
    first: bytes | str | None, answer: Answer, *, framed: bool
) -> AsyncGenerator[bytes]:
    part = await anext(answer.parts, None) if first is None else first
    while part is not None:
        if framed:
            for frame in encode_part(encode_value(part)):
                yield frame
        else:
            yield encode_value(part)
        part = await anext(answer.parts, None)


async def _iterate(parts: list[bytes]) -> AsyncGenerator[bytes]:
    for part in parts:
        yield part
