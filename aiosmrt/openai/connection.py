"""An OpenAI client whose requests go to a SageMaker endpoint."""

from __future__ import annotations

from typing import Unpack

import openai

from aiosmrt.openai.family import AsyncClient
from aiosmrt.openai.invocation import Route
from aiosmrt.openai.transport import SageMakerTransport
from aiosmrt.sessions import Invoker

__all__ = ["connect"]


def connect(client: Invoker, /, **route: Unpack[Route]) -> openai.AsyncOpenAI:
    """Give an `openai.AsyncOpenAI` whose requests go to an endpoint, through this client.

    Its `close` stops what is open of its streams, and leaves the client open, which is yours.

    Args:
        client: a `SageMakerRuntimeClient`, or a session of one.
        route: where the requests go, `endpoint_name` first of all.

    Raises:
        TypeError: a keyword that says nothing of where requests go, or `session_id` for a session.
    """
    return openai.AsyncOpenAI(
        # Neither leaves this machine; without them, the environment would be asked.
        api_key="sagemaker",
        base_url="http://sagemaker/v1",
        # The client has a policy for that, which knows what has not run.
        max_retries=0,
        http_client=AsyncClient(transport=SageMakerTransport(client, **route)),
    )
