"""A bearer token for programs that speak to the OpenAI-compatible route by themselves."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from typing import Any

from aiosmrt.cli.terminal import warn
from aiosmrt.client import SageMakerRuntimeClient

__all__ = ["print_token"]


async def print_token(arguments: argparse.Namespace, options: dict[str, Any]) -> None:
    """Print a token alone, or with what belongs to it as one line of JSON.

    Raises:
        AiosmrtError: there are no credentials, or the arguments cannot be used.
    """
    began = datetime.datetime.now(datetime.UTC)
    endpoint_name, component = arguments.endpoint_name, arguments.inference_component_name
    async with SageMakerRuntimeClient(**options) as client:
        token = await client.bearer_token(expires_in=arguments.expires_in)
        url = None
        if endpoint_name is not None or component is not None:
            url = client.openai_base_url(endpoint_name, component)
        offset = datetime.timedelta(seconds=client.clock_offset)
        record = {
            "token": str(token),
            "expires_at": token.expires_at.isoformat(),
            "region": client.region_name,
            "base_url": url,
        }
    sys.stdout.write(f"{json.dumps(record) if arguments.json else token}\n")
    life = token.expires_at - began - offset
    if life < datetime.timedelta(seconds=arguments.expires_in - 1):
        warn(f"the token lives for {life.total_seconds():.0f} s: its credentials end then")
