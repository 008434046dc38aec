"""What the SDK is answered: as OpenAI would, and never with a reason to ask again."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any, Final

from aiosmrt.calls import FailureKind, classify, read_retry_after
from aiosmrt.errors import AiosmrtError, ModelError, ModelStreamError, ParameterError, ServiceError
from aiosmrt.models import ResponseMetadata
from aiosmrt.openai.chunks import NoChoices
from aiosmrt.openai.errors import NotServed, join, wrap
from aiosmrt.openai.family import Request, Response, adopt, find_family
from aiosmrt.payload import View, find_failure, replace_halves
from aiosmrt.response_stream import ResponseStream
from aiosmrt.service import lacks_capacity
from aiosmrt.tracebacks import drop_tracebacks

__all__ = ["Parts", "answer", "refuse"]

_JSON: Final = "application/json"
# The SDK obeys it before it looks at a status. What may be attempted again this client has.
_SETTLED: Final = {"x-should-retry": "false"}
_AMAZON: Final = "x-amzn-"  # what tells of the variant, of a session, of custom attributes

_REFUSALS: Final = range(400, 600)  # of HTTP's statuses
_SERVER_ERROR: Final = 500  # and above

_PIECE: Final = 16 * 1024  # bytes that are given at once, or little more


class Refusal:
    """A response whose error is raised with all that it knows."""

    error: AiosmrtError

    def raise_for_status(self: Any) -> None:
        """Raise the error as one that is the SDK's, too; the SDK asks for it."""
        raise join(self.error, self.request, self) from self.error.__cause__


class Parts:
    """The body of an answer that goes on: server-sent events, and a fault as an error of both.

    Args:
        first: of the chunks, which has come.
        chunks: the others.
        stream: what they come from, which is closed with the answer.
        request: the SDK's.
    """

    def __init__(
        self,
        first: bytes | None,
        chunks: View[bytes],
        stream: ResponseStream,
        request: Request,
    ) -> None:
        self._first = first
        self._chunks = chunks
        self._stream = stream
        self._request = request

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            return await self._receive()
        except AiosmrtError as error:
            raise join(error, self._request) from error.__cause__
        except StopAsyncIteration:
            raise
        except Exception as error:
            raise wrap(error, self._request) from error

    async def _receive(self) -> bytes:
        """Give what is there in one piece: each costs the SDK and its client a few coroutines."""
        pieces = [await anext(self._chunks)]
        size = len(pieces[0])
        take = self._stream._take_ready  # noqa: SLF001 - of this very package
        while size < _PIECE and (piece := self._chunks.take_ready(take)) is not None:
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)

    async def aclose(self) -> None:
        """Stop the model, where it is not at its end."""
        await self._stream.aclose()


def answer(
    request: Request, body: bytes | Parts, metadata: ResponseMetadata | None = None
) -> Response:
    """Give the answer of a success: JSON, or server-sent events that go on."""
    whole = isinstance(body, bytes)
    headers = {**_SETTLED, "content-type": _JSON if whole else "text/event-stream"}
    if metadata is not None:
        theirs = metadata.headers.items()
        headers |= {name: value for name, value in theirs if name.startswith(_AMAZON)}
        headers["x-request-id"] = metadata.request_id or ""
    family = find_family(request)
    # What is whole is read by the client, too, which takes the time till then.
    stream = family.ByteStream(body) if whole else body
    made: Response = family.Response(
        200, headers=_encode(headers, family), request=request, stream=stream
    )
    return made


def refuse(error: AiosmrtError, request: Request) -> Response | None:
    """Give the answer for what the service, the container or this client refuses.

    It keeps the error, without tracebacks. Its status is the container's where that has answered,
    else the service's; its body is OpenAI's envelope, the container's own where that has sent one.

    Returns:
        None for an error that is no answer, and is to be raised.
    """
    status = _find_status(error)
    if status is None:
        return None
    headers = {**_SETTLED, "content-type": _JSON, "x-request-id": error.request_id or ""}
    asked = read_retry_after(error.headers) if isinstance(error, ServiceError) else None
    if asked is not None:
        headers["retry-after"] = str(math.ceil(asked))
    kind = "server_error" if status >= _SERVER_ERROR else "invalid_request_error"
    envelope = {"type": kind, "param": None, **_describe(error)}
    family = find_family(request)
    made: Any = adopt(Refusal, family, "Response")
    # Not by the family: it refuses what a container may well say, half a character or a NaN.
    content = replace_halves(json.dumps({"error": envelope}, ensure_ascii=False)).encode()
    refusal = made(status, headers=_encode(headers, family), content=content, request=request)
    refusal.error = drop_tracebacks(error)
    refused: Response = refusal
    return refused


def _encode(headers: dict[str, str], family: ModuleType) -> Any:  # noqa: ANN401 - of a family
    """Give the family's headers; by itself it takes none that are not ASCII."""
    return family.Headers(headers, encoding="utf-8")


def _find_status(error: AiosmrtError) -> int | None:
    if isinstance(error, ParameterError | NoChoices):
        return 404 if isinstance(error, NotServed) else 400
    if not isinstance(error, ServiceError):
        return None
    if classify(error) is FailureKind.THROTTLING:
        return 429
    if lacks_capacity(error):
        return 503
    status: int | str | None = error.status
    if isinstance(error, ModelError):
        status = error.original_status_code
    elif isinstance(error, ModelStreamError):  # and a status of 200
        status = error.error_code
    number = int(status) if str(status).isdecimal() and status else 0
    return number if number in _REFUSALS else 502


def _describe(error: AiosmrtError) -> dict[str, object]:
    """Give what an envelope says of an error: `message` and `code`, and what a container adds."""
    if not isinstance(error, ServiceError):
        return {"message": error.args[0], "code": type(error).__name__}
    if isinstance(error, ModelError):
        said = error.original_json
        for theirs in (said.get("error"), said) if isinstance(said, dict) else ():
            if isinstance(theirs, dict) and isinstance(theirs.get("message"), str):
                return {"code": None, **theirs}
        failure = find_failure(said)
        if failure is not None:
            return {"message": failure.message, "code": failure.error_code}
        return {"message": error.original_message or error.message, "code": error.code}
    return {"message": error.message or str(error), "code": error.code}
