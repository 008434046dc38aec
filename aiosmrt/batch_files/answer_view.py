"""How an answer stands in a line of the output: as the members that say what came. Pure."""

from __future__ import annotations

import base64
import json
import re
from typing import Final, TypeAlias

from aiosmrt.batch_files.input_row import parse_json
from aiosmrt.errors import AiosmrtError, InvalidJSON, InvalidText, ParameterError, ServiceError
from aiosmrt.models import AsyncInferenceOutput, InvokeEndpointResponse
from aiosmrt.payload import ChatMessage

__all__ = ["VIEWS", "may_have_run", "show_error", "show_response"]

VIEWS: Final = ("json", "text", "raw", "chat")
"""What can be asked for; without it, the content type decides. A shape may follow `chat:`."""

_Answer: TypeAlias = InvokeEndpointResponse | AsyncInferenceOutput

_JSON: Final = re.compile(r"\s*[\w.+-]+/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)


def show_response(response: _Answer, view: str | None) -> bytes:
    """Give the member `response`.

    JSON stands there as the model wrote it, on one line; text as a string; bytes as a string of
    base64, with `encoding` beside it; of a chat the assistant's message, or a list of those of
    several choices. Without a view, what is called JSON is JSON, and all else text; what is not as
    it is called is the next of the three.

    Raises:
        PayloadError: the answer is not what the view needs.
        ModelStreamError, TruncatedStream: a chat has failed, or has no end.
    """
    if view is not None and view.startswith("chat"):
        messages = response.chat(view.partition(":")[2] or "openai-chat")
        shown = [_describe_message(message) for message in messages]
        return b'"response": ' + _encode(shown[0] if len(shown) == 1 else shown)
    if view == "json" or (view is None and _JSON.match(response.content_type or "")):
        try:
            return b'"response": ' + _write_json(response.body)
        except InvalidJSON:
            if view is not None:
                raise
    if view == "text" or view is None:
        try:
            return b'"response": ' + _encode(response.text())
        except (UnicodeDecodeError, LookupError) as error:
            if view is not None:
                raise InvalidText(f"the answer is no text: {error}") from None
    encoded = base64.b64encode(response.body)
    return b'"response": "%s", "encoding": "base64"' % encoded


def may_have_run(error: Exception) -> bool:
    """Tell whether the model may have worked for it: an error that is not ours proves nothing."""
    return error.may_have_run if isinstance(error, AiosmrtError) else True


def show_error(error: Exception, answer: _Answer | None = None) -> bytes:
    """Give the member `error`; of an answer that is not what was expected, `body` beside it."""
    members: dict[str, object] = {
        "may_have_run": answer is not None or may_have_run(error),
        "type": type(error).__name__,
    }
    if isinstance(error, ServiceError):
        members |= {"code": error.code, "status": error.status}
    members["message"] = str(error)
    shown = b'"error": ' + json.dumps(members).encode()
    if answer is None:
        return shown
    try:
        return shown + b', "body": ' + _encode(answer.body.decode())
    except UnicodeDecodeError:
        return shown + b', "body_base64": "%s"' % base64.b64encode(answer.body)


def _write_json(body: bytes) -> bytes:
    body = body.removeprefix(b"\xef\xbb\xbf").strip()
    try:
        parse_json(body, "the answer")
    except ParameterError as error:
        raise InvalidJSON(str(error)) from None
    # There are none but between its tokens: a string has none.
    return body.replace(b"\r", b" ").replace(b"\n", b" ")


def _describe_message(message: ChatMessage) -> dict[str, object]:
    beside = {
        "reasoning": message.reasoning,
        "refusal": message.refusal,
        "finish_reason": message.finish_reason,
        "usage": message.usage,
    }
    return {**message.to_dict(), **{name: value for name, value in beside.items() if value}}


def _encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
