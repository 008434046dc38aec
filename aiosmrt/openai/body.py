"""The bodies of requests and of whole answers: JSON, of up to many megabytes."""

from __future__ import annotations

import asyncio
import json

from aiosmrt.payload import LARGE, LargeDocument
from aiosmrt.value import JSONValue

__all__ = ["parse"]


async def parse(body: bytes) -> JSONValue:
    """Parse a body, and let others run where it takes long.

    Raises:
        ValueError: it is not one JSON document.
        RecursionError: too many containers are in each other.
    """
    if len(body) <= LARGE:
        document: JSONValue = json.loads(body)
        return document
    # As `json.loads` does: a byte order mark, or UTF-16, makes no other answer of a long one.
    large = LargeDocument(body.decode(json.detect_encoding(body), "surrogatepass"))
    for _ in large.steps:
        await asyncio.sleep(0)
    return large.finish()
