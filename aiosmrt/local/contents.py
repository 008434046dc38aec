"""What a scripted answer says: one value in one of several shapes, whole or as a stream. Pure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, cast

from aiosmrt.errors import ConfigurationError
from aiosmrt.local.answers import name_content_type
from aiosmrt.local.model import InvocationRequest, Model, ModelResponse, ResponseBody
from aiosmrt.local.words import check_text
from aiosmrt.payload import DONE, ServerSentEvent, encode
from aiosmrt.value import write_json

__all__ = ["CONTENTS", "TokenShape", "make_content", "recite"]

TokenShape: TypeAlias = Literal["openai-chat", "openai-completion", "tgi", "lmi"]
"""How a language model's server writes tokens, as `iter_tokens` reads them."""

_STREAM = "InvokeEndpointWithResponseStream"
_JSON = "application/json"
_EVENTS = "text/event-stream"
_LINES = "application/jsonlines"
_PLAIN = name_content_type("")
_BYTES = name_content_type(b"")
_STREAMED = ("role", "content", "tool_calls")  # of a chat message, piece by piece


def make_content(given: Mapping[str, Any]) -> Model | None:
    """Make a model of the content that `AnswerOptions` name; `None` where there is none.

    Raises:
        ConfigurationError: two contents, or one that cannot be written.
        ValueError: a value that no header can carry.
    """
    named = [name for name in CONTENTS if name in given]
    beside = {name: value for name, value in given.items() if name not in (*CONTENTS, "shape")}
    if len(named) > 1:
        raise ConfigurationError(f"{' and '.join(named)}: an answer has one content")
    if "shape" in given and named != ["tokens"]:
        raise ConfigurationError("shape says how tokens are written; there are none")
    if not named:
        if beside:
            raise ConfigurationError(f"{', '.join(beside)}: there is no content to go with it")
        return None
    if named == ["model"]:
        if beside:
            raise ConfigurationError(f"{', '.join(beside)}: a model says it in its ModelResponse")
        if not callable(given["model"]):
            raise ConfigurationError(f"model must be callable, not {given['model']!r}")
        return cast("Model", given["model"])
    answer = _make_answer(named[0], given)
    ModelResponse(b"", **beside)  # says what is wrong here, and not to a client

    def respond(request: InvocationRequest) -> ModelResponse:
        body, content_type = answer(request.operation == _STREAM)
        return ModelResponse(body, **{"content_type": content_type, **beside})

    return respond


def recite(parts: int) -> Model:
    """Make a model that gives so many parts at least: `part 1`, `part 2`, a line each."""

    def respond(_: InvocationRequest) -> ModelResponse:
        lines = (f"part {number}\n" for number in range(1, parts + 1))
        return ModelResponse(lines, content_type=_PLAIN)

    return respond


def _make_answer(name: str, given: Mapping[str, Any]) -> _Answer:
    try:
        if name == "tokens":
            return _make_tokens(given["tokens"], given.get("shape", "openai-completion"))
        return _MAKERS[name](given[name])
    except (TypeError, UnicodeError) as error:
        raise ConfigurationError(f"{name} cannot be written: {error}") from error


# Whether a stream is asked for, in; a body and its content type out.
_Answer: TypeAlias = Callable[[bool], tuple[ResponseBody, str | None]]


def _make_json(value: object) -> _Answer:
    text = write_json(value).encode()
    return lambda _: (text, _JSON)


def _make_text(value: object) -> _Answer:
    text = check_text("text", value)
    return lambda _: (text, _PLAIN)


def _make_body(value: object) -> _Answer:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise ConfigurationError(
            f"body must be bytes, not {type(value).__qualname__}; text= is a str, json= a value"
        )
    body = bytes(value)
    return lambda _: (body, _BYTES)


def _make_stream(parts: Iterable[object]) -> _Answer:
    if isinstance(parts, str | bytes | Mapping):
        raise ConfigurationError("stream is a list of parts; text=, body= and json= are one")
    # At once: a generator would be used up by the first answer.
    written = [part if isinstance(part, bytes | str) else f"{write_json(part)}\n" for part in parts]
    for part in written:
        if isinstance(part, str):
            check_text("a part", part)
    # Named here, since a fault may come before the first part, or change it.
    kind = _PLAIN if written and isinstance(written[0], str) else _BYTES
    return lambda _: (iter(written), kind)


def _make_events(events: Iterable[object]) -> _Answer:
    if isinstance(events, str | bytes | Mapping):
        raise ConfigurationError("events is a list of them")
    written = [_write_event(event) for event in events]
    return lambda _: (iter(written), _EVENTS)


def _write_event(event: object) -> bytes:
    if isinstance(event, ServerSentEvent):
        kind = None if event.event == "message" else event.event
        return encode(event.data, event=kind, id=event.id or None, retry=event.retry)
    return encode(event if isinstance(event, str) else write_json(event))


def _make_chat(said: str | Mapping[str, Any]) -> _Answer:
    if not isinstance(said, str | Mapping):
        raise ConfigurationError(f"chat must be a str or a message, not {type(said).__qualname__}")
    told = {"content": said} if isinstance(said, str) else dict(said)
    message: dict[str, Any] = {"role": "assistant", "content": None, **told}
    text, calls = message["content"] or "", message.get("tool_calls") or []
    beside = {name: value for name, value in told.items() if name not in _STREAMED}
    deltas: list[dict[str, Any]] = [{"role": message["role"], "content": ""}]
    for name, value in beside.items():  # the reasoning of a model, which comes first
        pieces = _split(value) if isinstance(value, str) else [value]
        deltas += ({name: piece} for piece in pieces)
    deltas += ({"content": word} for word in _split(check_text("content", text)))
    deltas += ({"tool_calls": [{"index": n, **call}]} for n, call in enumerate(calls))
    reason = "tool_calls" if calls else "stop"
    usage = _count(text)

    def answer(streams: bool) -> tuple[ResponseBody, str | None]:  # noqa: FBT001 - see _Answer
        if not streams:
            choices = [{"index": 0, "message": message, "finish_reason": reason}]
            whole = {**_head("chat.completion"), "choices": choices, "usage": usage}
            return write_json(whole), _JSON
        head = _head("chat.completion.chunk")
        ends = [*((delta, None) for delta in deltas), ({}, reason)]
        chunks = [
            {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
            for delta, end in ends
        ]
        return iter([*(encode(write_json(chunk)) for chunk in chunks), encode(DONE)]), _EVENTS

    return answer


def _make_tokens(text: str, shape: TokenShape) -> _Answer:
    check_text("tokens", text)
    if shape == "openai-chat":
        return _make_chat(text)
    if shape == "openai-completion":
        return _make_completion(text)
    if shape in ("tgi", "lmi"):
        return _make_generation(text, shape)
    raise ConfigurationError(f"shape must be openai-chat, openai-completion, tgi or lmi: {shape!r}")


def _make_completion(text: str) -> _Answer:
    def answer(streams: bool) -> tuple[ResponseBody, str | None]:  # noqa: FBT001 - see _Answer
        head = _head("text_completion")
        if not streams:
            choice = {"index": 0, "text": text, "finish_reason": "stop"}
            return write_json({**head, "choices": [choice], "usage": _count(text)}), _JSON
        choices = [{"index": 0, "text": word, "finish_reason": None} for word in _split(text)]
        choices.append({"index": 0, "text": "", "finish_reason": "stop"})
        chunks = [encode(write_json({**head, "choices": [choice]})) for choice in choices]
        return iter([*chunks, encode(DONE)]), _EVENTS

    return answer


def _make_generation(text: str, shape: TokenShape) -> _Answer:
    """Answer as Text Generation Inference does, or DJL's Large Model Inference."""
    events = shape == "tgi"
    words = _split(text) or [""]

    def write(number: int, word: str) -> bytes:
        token: dict[str, Any] = {"id": number, "text": word, "logprob": -0.1}
        document: dict[str, Any] = {"token": token}
        last = number == len(words)
        if events:
            token["special"], document["index"] = False, number
        if events or last:
            details = {"finish_reason": "eos_token", "generated_tokens": len(words)}
            document["generated_text"] = text if last else None
            document["details"] = details if last else None
        line = json.dumps(document)
        return encode(line) if events else f"{line}\n".encode()

    def answer(streams: bool) -> tuple[ResponseBody, str | None]:  # noqa: FBT001 - see _Answer
        if not streams:
            whole = {"generated_text": text}
            return write_json([whole] if events else whole), _JSON
        written = [write(number, word) for number, word in enumerate(words, 1)]
        return iter(written), _EVENTS if events else _LINES

    return answer


def _split(text: str) -> list[str]:
    """Give the words, each with the space behind it."""
    words = text.split(" ")
    return [word for word in (*(f"{word} " for word in words[:-1]), words[-1]) if word]


def _head(kind: str) -> dict[str, Any]:
    return {"id": "local-1", "object": kind, "created": int(time.time()), "model": "local"}


def _count(text: str) -> dict[str, int]:
    words = len(_split(text))
    return {"prompt_tokens": 1, "completion_tokens": words, "total_tokens": words + 1}


_MAKERS: dict[str, Callable[[Any], _Answer]] = {
    "json": _make_json,
    "text": _make_text,
    "body": _make_body,
    "stream": _make_stream,
    "events": _make_events,
    "chat": _make_chat,
}
CONTENTS = (*_MAKERS, "tokens", "model")
"""The words that name a content."""
