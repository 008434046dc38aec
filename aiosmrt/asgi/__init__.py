"""Relays: a model's stream passed on to a browser by an ASGI server, without a dependency.

`relay` is an ASGI application for one request, `RelayResponse` the same as a response that
Starlette and FastAPI take::

    @app.post("/chat")
    async def chat(request: Request) -> RelayResponse:
        return RelayResponse(
            client.invoke_endpoint_with_response_stream(
                endpoint_name="llm", body=await request.body()
            )
        )

Nothing else stops a model for a browser that has left: servers do not cancel an application, and
before its first token a model may work for a minute. A relay looks for that from the beginning to
the end, also while a slow browser reads nothing, and then closes the stream, which stops the model.

What fails before the first part has a status of its own, and says no more than the error's
`public_text`; what fails later is an event `error`. Both are logged in full. While the model is
silent, comments keep the connection alive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiosmrt.asgi.answer import relay

if TYPE_CHECKING:
    from aiosmrt.asgi.response import RelayResponse
else:

    def __getattr__(name: str) -> object:
        # Only this needs Starlette.
        if name != "RelayResponse":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from aiosmrt.asgi.response import RelayResponse  # noqa: PLC0415 - see above

        globals()[name] = RelayResponse
        return RelayResponse


__all__ = ["RelayResponse", "relay"]
