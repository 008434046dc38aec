"""A relay in processes of its own: `python -m tests.promises.relaying_server RELAY FD WORKERS`.

It takes browsers from a listening socket that it was given, as gunicorn and uvicorn hand one to
their workers; `AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME` says where the model is.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import uvicorn
from aiohttp import web
from starlette.middleware import Middleware

import aiosmrt
from tests.promises.conftest import (
    PassingMiddleware,
    relay_by_aiohttp,
    relay_by_fastapi,
    relay_by_starlette,
)


def _connect() -> aiosmrt.SageMakerRuntimeClient:
    return aiosmrt.SageMakerRuntimeClient(region_name="us-east-1", max_connections=500)


def make_fastapi() -> Any:
    """Make a relay as the guide has it."""
    return relay_by_fastapi(_connect())


def make_fastapi_behind_middleware() -> Any:
    """Make one behind two of what wraps `receive` and `send`."""
    application = relay_by_fastapi(_connect())
    application.user_middleware = [Middleware(PassingMiddleware), Middleware(PassingMiddleware)]
    return application


def make_starlette() -> Any:
    """Make a relay behind a middleware."""
    return relay_by_starlette(_connect())


def _run_aiohttp(listener: socket.socket, workers: int) -> None:
    for _ in range(workers - 1):
        if os.fork() == 0:
            break
    web.run_app(relay_by_aiohttp(_connect()), sock=listener, print=None, handler_cancellation=True)


def main(relay: str, fd: int, workers: int) -> None:
    """Serve until it is killed."""
    if relay == "aiohttp":
        _run_aiohttp(socket.socket(fileno=fd), workers)
    else:
        factory = f"tests.promises.relaying_server:make_{relay}"
        uvicorn.run(factory, factory=True, fd=fd, workers=workers, log_level="error", ws="none")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
