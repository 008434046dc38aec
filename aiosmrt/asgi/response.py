"""A relay as a response of Starlette, which FastAPI's are, too."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.background import BackgroundTask
from starlette.responses import Response

from aiosmrt.asgi.answer import (
    DEFAULT_HEARTBEAT,
    Headers,
    Receive,
    Relay,
    Scope,
    Send,
    build_headers,
)
from aiosmrt.asgi.formats import ViewOf, choose_format
from aiosmrt.response_stream import ResponseStreamOpening

__all__ = ["RelayResponse"]


class RelayResponse(Response):
    """A model's stream as the response of an endpoint: see `relay`, which has these arguments, too.

    Its `headers` and cookies can be changed as those of any response; they are in a refusal, too.

    Args:
        opening: what `invoke_endpoint_with_response_stream` gave, not opened yet.
        view: gives what is written, out of the open stream; by default its events, lines or text.
        media_type: of the answer: `text/event-stream`, or `application/jsonl` and its like.
        heartbeat: seconds of silence after which a comment is sent; `None` for never.
        headers: more of them.
        background: what is done when the answer has ended, also when the browser has left.

    Raises:
        ValueError: a media type that cannot be written, or a heartbeat that is not above 0.
    """

    def __init__(
        self,
        opening: ResponseStreamOpening,
        view: ViewOf | None = None,
        *,
        media_type: str = "text/event-stream",
        heartbeat: float | None = DEFAULT_HEARTBEAT,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        # Not super().__init__(): there is no body, nor a length of it.
        self.status_code = 200
        self.media_type = media_type
        self.background = background
        self.raw_headers: Headers = build_headers(media_type, headers)
        self._relay = Relay(opening, choose_format(media_type, view), heartbeat, self.raw_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as an ASGI application.

        Raises:
            Exception: what a view, an observer or the background task raises.
        """
        await self._relay(scope, receive, send)
        if self.background is not None:
            await self.background()
