"""A container's whole answer as OpenAI's."""

from __future__ import annotations

import contextlib
import json
import time

from aiosmrt.errors import AiosmrtError, PayloadError
from aiosmrt.models import InvokeEndpointResponse
from aiosmrt.openai.body import parse
from aiosmrt.openai.chunks import (
    build_usage,
    choose_shape,
    name_reason,
    refuse_choices,
    write_reason,
)
from aiosmrt.openai.deltas import write_calls
from aiosmrt.openai.invocation import CHAT, EMBEDDINGS, Invocation
from aiosmrt.payload import ChatMessage, find_failure
from aiosmrt.redaction import Redacted
from aiosmrt.tracebacks import hides_locals
from aiosmrt.value import JSONValue

__all__ = ["read_whole"]


async def read_whole(invocation: Invocation, response: InvokeEndpointResponse) -> bytes:
    """Give the answer's JSON: as it is where it is OpenAI's, or of its text.

    Raises:
        PayloadError: it is no answer of a model, or has too few choices.
        ModelStreamError: the model server reported a failure.
        TruncatedStream: it is a stream without its end.
    """
    document = Redacted[JSONValue](None)
    with contextlib.suppress(ValueError, RecursionError):  # a stream, maybe
        document.value = await parse(response.body)
    try:
        return _read(invocation, response, document)
    except AiosmrtError as error:
        metadata = response.metadata
        error.operation = invocation.operation.name
        error.endpoint_name = invocation.parameters.get("endpoint_name")
        error.request_id, error.attempts = metadata.request_id, metadata.attempts
        error.may_have_run = True
        raise


@hides_locals
def _read(
    invocation: Invocation, response: InvokeEndpointResponse, read: Redacted[JSONValue]
) -> bytes:
    document = read.value
    choices = _find_choices(document, "message" if invocation.task == CHAT else "text")
    if choices is not None or (document is not None and invocation.task == EMBEDDINGS):
        # That a choice has ended early is seen in it.
        failure = find_failure(document, has_text=choices is not None, by_reason=False)
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # else its traceback and it would hold each other
        if _write(choices or []):
            return json.dumps(document).encode()
        return response.body
    messages = _read_messages(invocation, response, document)
    refuse_choices(invocation, document)
    return json.dumps(_build(invocation, response, messages)).encode()


def _read_messages(
    invocation: Invocation, response: InvokeEndpointResponse, document: JSONValue
) -> tuple[ChatMessage, ...]:
    try:
        return response.chat(choose_shape(document, invocation.task))
    except PayloadError as error:
        if document is not None or type(error) is not PayloadError:
            raise
        # A stream, of no chunks: of tokens, maybe.
        for shape in ("tgi", "lmi"):
            with contextlib.suppress(PayloadError):
                return response.chat(shape)
        raise


def _find_choices(document: JSONValue, name: str) -> list[dict[str, JSONValue]] | None:
    """Give the choices of OpenAI's answer, None of another: each has what it says in a member."""
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list):
        return None
    named = [choice for choice in choices if isinstance(choice, dict)]
    named = [choice for choice in named if choice.get(name) is not None]
    return named if len(named) == len(choices) else None


def _write(choices: list[dict[str, JSONValue]]) -> bool:
    """Write choices as the SDK's users read them, and tell whether they were otherwise."""
    changed = [write_reason(choice) for choice in choices]
    return write_calls([*choices]) or any(changed)


def _build(
    invocation: Invocation, response: InvokeEndpointResponse, messages: tuple[ChatMessage, ...]
) -> dict[str, JSONValue]:
    is_chat = invocation.task == CHAT
    built: dict[str, JSONValue] = {
        "id": f"chatcmpl-{response.metadata.request_id}",
        "object": "chat.completion" if is_chat else "text_completion",
        "created": int(time.time()),
        "model": invocation.model,
        "choices": [_build_choice(message, is_chat=is_chat) for message in messages],
    }
    usage = build_usage(messages[0].usage)
    if usage is not None:
        built["usage"] = usage
    return built


def _build_choice(message: ChatMessage, *, is_chat: bool) -> JSONValue:
    choice: dict[str, JSONValue] = {
        "index": message.index,
        "finish_reason": name_reason(message.finish_reason),
    }
    if not is_chat:
        return {**choice, "text": message.text}
    said = message.to_dict()
    if message.reasoning:
        said["reasoning_content"] = message.reasoning
    return {**choice, "message": said}
