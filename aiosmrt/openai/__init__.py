"""The OpenAI SDK over this client: every container that speaks its shapes, and every promise kept.

It needs the extra `aiosmrt[openai]`::

    ai = aiosmrt.openai.connect(client, endpoint_name="llm")
    ask = {"model": "", "messages": [...], "stream": True}
    async for chunk in await ai.chat.completions.create(**ask):
        ...

Requests are signed InvokeEndpoint calls, or response streams whose end is proven. The SDK asks no
model again: the client does, where it knows that none has run. What is raised is an error of the
SDK's and one of this package's at the same time.
"""

from __future__ import annotations

try:
    import openai as _openai  # noqa: F401 - only to say what is missing
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "aiosmrt.openai needs the OpenAI SDK: pip install aiosmrt[openai]", name="openai"
    ) from _error

from aiosmrt.openai.connection import connect
from aiosmrt.openai.invocation import Route
from aiosmrt.openai.transport import SageMakerTransport
from aiosmrt.sessions import Invoker

__all__ = ["Invoker", "Route", "SageMakerTransport", "connect"]
