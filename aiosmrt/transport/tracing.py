"""What the traces of a borrowed session are told of a request."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from aiosmrt.http import Request, ResponseHead
from aiosmrt.transport.adapter import Trace, TracedResponse, make_trace

__all__ = ["Tracing"]


class Tracing:
    """One request, told to the trace configurations of a session as that one would tell it.

    Attributes:
        traces: for the connector, which tells them of names and connections.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        configs: Sequence[aiohttp.TraceConfig],
        request: Request,
    ) -> None:
        self.traces: list[Trace] = [make_trace(session, config) for config in configs]
        query = f"?{request.query}" if request.query else ""
        self._url = URL(request.origin + request.path + query, encoded=True)
        self._headers = CIMultiDict(request.headers)
        self._request = request

    async def begin(self) -> None:
        """Tell that the request begins."""
        for trace in self.traces:
            await trace.send_request_start(self._request.method, self._url, self._headers)

    async def send(self) -> None:
        """Tell that head and body go out."""
        method, body = self._request.method, self._request.body
        for trace in self.traces:
            await trace.send_request_headers(method, self._url, self._headers)
            if body:
                await trace.send_request_chunk_sent(method, self._url, body)

    async def end(self, head: ResponseHead, reason: str) -> None:
        """Tell that the head of the answer is there."""
        method = self._request.method
        response = TracedResponse(method, self._url, self._headers, head, reason)
        for trace in self.traces:
            await trace.send_request_end(method, self._url, self._headers, response)

    async def fail(self, error: BaseException) -> None:
        """Tell that no answer comes."""
        for trace in self.traces:
            await trace.send_request_exception(
                self._request.method, self._url, self._headers, error
            )
