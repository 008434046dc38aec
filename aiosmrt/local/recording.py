"""Answers written down as a script that gives them again, parts and pauses included."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import attrs

from aiosmrt.errors import InternalStreamFailure, ModelError, ModelStreamError, ServiceError
from aiosmrt.local.answers import STREAM_ERRORS, Answer, encode_value, name_content_type
from aiosmrt.local.limits import Backend
from aiosmrt.local.model import InvocationRequest, ModelResponse
from aiosmrt.threads import run_in_thread

__all__ = ["Recorder", "RecordingBackend"]

_FAILURES = (0, *range(300, 600))  # the statuses of a container that `model_error` takes
_BESIDE = ("custom_attributes", "closed_session_id", "invoked_production_variant")


def pack(data: bytes) -> str | dict[str, str]:
    """Write bytes as a script has them: as text, where they are that."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _pack_text(text: str) -> str:
    """Write words as a script has them, which takes no half of a surrogate pair."""
    return text.encode(errors="replace").decode()


class Recorder:
    """Writes steps into a file, one a line, which is a whole script after each of them.

    Args:
        path: of the file; what is there is replaced.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.write_text("[\n]\n", encoding="utf-8")

    async def write(self, step: dict[str, object]) -> None:
        """Put a step behind the others."""
        line = json.dumps(step, ensure_ascii=False)
        await run_in_thread(lambda: self._append(line))

    def _append(self, line: str) -> None:
        with self._lock, self._path.open("r+b") as file:
            end = file.seek(-len("]\n"), 2)
            separator = b",\n" if end > len("[\n") else b"\n"
            file.seek(end - 1)
            # Half of a surrogate pair is written as JSON escapes it.
            file.write(separator + f"{line}\n]\n".encode(errors="backslashreplace"))


@attrs.frozen
class RecordingBackend:
    """Has what another one answers written down; an answer whose reader has left is not."""

    backend: Backend
    recorder: Recorder

    async def is_ready(self) -> bool:
        """Say whether calls can be taken."""
        return await self.backend.is_ready()

    @contextlib.asynccontextmanager
    async def answer(self, request: InvocationRequest) -> AsyncIterator[Answer]:
        """Call the model.

        Raises:
            ServiceError: as the model; the parts raise it too.
        """
        took = _Taking(request)
        async with contextlib.AsyncExitStack() as stack:
            try:
                answer = await stack.enter_async_context(self.backend.answer(request))
            except ServiceError as error:
                await self.recorder.write(took.describe_refusal(error))
                raise
            parts = self._take(answer, took)
            async with contextlib.aclosing(parts):
                yield attrs.evolve(answer, parts=parts)

    async def _take(self, answer: Answer, took: _Taking) -> AsyncGenerator[bytes | str]:
        try:
            async for part in answer.parts:
                took.add(part)
                yield part
        except ServiceError as error:
            await self.recorder.write(took.describe_failure(answer.head, error))
            raise
        await self.recorder.write(took.describe(answer.head))


class _Taking:
    """What comes of one request."""

    def __init__(self, request: InvocationRequest) -> None:
        self._request = request
        self._parts: list[bytes | str] = []
        self._pauses: list[float] = []
        self._last = time.monotonic()

    def add(self, part: bytes | str) -> None:
        """Take note of a part, which has come now."""
        now = time.monotonic()
        self._parts.append(part)
        self._pauses.append(round(now - self._last, 3))
        self._last = now

    def describe(self, head: ModelResponse) -> dict[str, object]:
        """Give a step that answers like this."""
        return {"answer": {**self._match(), **self._describe_content(head)}}

    def describe_refusal(self, error: ServiceError) -> dict[str, object]:
        """Give a step that fails like this before any part."""
        if isinstance(error, ModelError) and error.original_status_code in _FAILURES:
            message = _pack_text(error.original_message)
            said = {"status": error.original_status_code, "message": message}
            return {"model_error": {**said, **self._match()}}
        if self._request.operation == "InvokeEndpointAsync":
            # By then it was queued: what comes of it is a failure file, and no refusal.
            message = _pack_text(f"{error.code}: {error.message}")
            return {"model_error": {"status": error.status, "message": message, **self._match()}}
        if self._streams and error.code in STREAM_ERRORS:
            return self._describe_break(error, {})
        message = _pack_text(error.message)
        refusal = {"code": error.code, "message": message, "status": error.status}
        return {"answer": {"error": refusal, **self._match()}}

    def describe_failure(self, head: ModelResponse, error: ServiceError) -> dict[str, object]:
        """Give a step that fails like this behind the parts."""
        if not (self._streams and self._parts):
            return self.describe_refusal(error)
        return self._describe_break(error, self._describe_content(head))

    @property
    def _streams(self) -> bool:
        return self._request.operation == "InvokeEndpointWithResponseStream"

    def _describe_break(self, error: ServiceError, content: dict[str, object]) -> dict[str, object]:
        told = {"after": len(self._parts), "message": _pack_text(error.message)}
        options = {**told, **self._match(), **content}
        if isinstance(error, InternalStreamFailure):
            return {"internal_stream_failure": options}
        code = error.error_code if isinstance(error, ModelStreamError) else None
        return {"stream_error": {"code": code or "StreamBroken", **options}}

    def _match(self) -> dict[str, object]:
        request = self._request
        on: dict[str, object] = {"endpoint_name": request.endpoint_name}
        try:
            on["json"] = request.json
        except ValueError:
            body = pack(request.body)
            on["text" if isinstance(body, str) else "body"] = body
        return {"on": on, "operation": request.operation}

    def _describe_content(self, head: ModelResponse) -> dict[str, object]:
        first = self._parts[0] if self._parts else None
        said: dict[str, Any] = {"content_type": head.content_type or name_content_type(first)}
        for name in _BESIDE:
            if (value := getattr(head, name)) is not None:
                said[name] = value
        parts = [encode_value(part) for part in self._parts]
        if self._streams:
            # A value that is no str would be written as a line of JSON.
            return {"stream": [pack(part) for part in parts], "pace": self._pauses or 0.0, **said}
        body = pack(b"".join(parts))
        return {"text" if isinstance(body, str) else "body": body, **said}
