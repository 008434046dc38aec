"""The two families of HTTP clients under the OpenAI SDK: `httpx2`, and `httpx` before it.

They look alike and do not mix: a client takes answers of its own family alone. The SDK is built on
httpx2 since its version 3, on httpx before.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import openai

if TYPE_CHECKING:
    from httpx2 import AsyncBaseTransport, AsyncClient, Request, Response
else:
    AsyncClient = openai.DefaultAsyncHttpxClient.__base__
    _built_on = importlib.import_module(AsyncClient.__module__)
    AsyncBaseTransport = _built_on.AsyncBaseTransport
    Request = _built_on.Request
    Response = _built_on.Response

__all__ = ["AsyncBaseTransport", "AsyncClient", "Request", "Response", "adopt", "find_family"]

T = TypeVar("T")


def find_family(request: Request) -> ModuleType:
    """Give the package that a request is of, in which it is to be answered."""
    return importlib.import_module(type(request).__module__)


@functools.cache
def adopt(kind: type[T], family: ModuleType, base: str) -> type[T]:
    """Give a class as a subclass of what a family has under the name `base`."""
    return type(kind.__name__, (kind, getattr(family, base)), {"__module__": kind.__module__})
