"""An answer whose body was compressed, given as it was before."""

from __future__ import annotations

import asyncio

from aiosmrt.errors import AiosmrtError, ConnectionLost, UnexpectedResponse
from aiosmrt.http import Response, ResponseHead
from aiosmrt.redaction import Redacted
from aiosmrt.transport.content_coding import (
    ContentDecoder,
    IncompleteContent,
    MalformedContent,
    read_codings,
)

__all__ = ["DecodedResponse", "decode_body", "open_content"]


class DecodedResponse:
    """An answer whose codings are taken off as it comes: an `aiosmrt.http.Response`.

    Attributes:
        head: status and headers, as they came.
    """

    def __init__(self, response: Response, decoder: ContentDecoder) -> None:
        self.head: ResponseHead = response.head
        self._response = response
        self._decoder = decoder

    async def receive(self) -> bytes:
        """Give the next bytes, `b""` at the proven end; what came before a fault is given first.

        Raises:
            ConnectionLost: the coding stops before its end, though the body does not.
            UnexpectedResponse: the bytes are not what their coding says.
            TransportError: as from the response itself.
        """
        try:
            return await self._receive()
        except MalformedContent as error:
            why, incomplete = str(error), isinstance(error, IncompleteContent)
        # Not above: the decoder's frames have bytes of the body.
        raise self._refuse(why, incomplete=incomplete)

    async def _receive(self) -> bytes:
        decoder = self._decoder
        while True:
            while not decoder.dry:
                # A few bytes may become gigabytes.
                await asyncio.sleep(0)
                if given := decoder.take():
                    return given
            data = await self._response.receive()
            if not data:
                decoder.receive_eof()
                return b""
            decoder.receive_data(data)
            del data  # the traceback of what comes would show it

    def _refuse(self, why: str, *, incomplete: bool) -> AiosmrtError:
        coding = self.head.headers.get("content-encoding")
        text = f"the answer's content encoding is {coding!r}, which cannot be taken off: {why}"
        fault: AiosmrtError = (
            ConnectionLost(text)
            if incomplete
            else UnexpectedResponse(text, status=self.head.status, headers=self.head.headers)
        )
        fault.may_have_run = True
        return fault

    def close(self) -> None:
        """Close the connection unless the body was read to its end. Idempotent."""
        self._response.close()


def open_content(response: Response) -> Response:
    """Give an answer whose body is as it was before somebody compressed it.

    Raises:
        MalformedContent: its coding cannot be decoded.
    """
    codings = read_codings(response.head.headers)
    return DecodedResponse(response, ContentDecoder(codings)) if codings else response


async def decode_body(head: ResponseHead, body: Redacted[bytes], limit: int) -> bytes:
    """Take off the codings of a whole body.

    Args:
        head: of the answer.
        body: as it came.
        limit: the most bytes that it may become.

    Raises:
        MalformedContent: it cannot be decoded, or becomes larger.
    """
    codings = read_codings(head.headers)
    if not codings:
        return body.value
    decoder = ContentDecoder(codings)
    decoder.receive_data(body.value)
    pieces: Redacted[list[bytes]] = Redacted([])
    size = 0
    while not decoder.dry:
        await asyncio.sleep(0)
        pieces.value.append(decoder.take())
        size += len(pieces.value[-1])
        if size > limit:
            raise MalformedContent(f"it becomes more than {limit} bytes")
    decoder.receive_eof()
    return b"".join(pieces.value)
