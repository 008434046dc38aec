"""Answers of chat models as their servers write them, made by hand, and what is said in each."""

from __future__ import annotations

import json
from collections.abc import Iterable

import attrs

from aiosmrt.models import JSONValue
from aiosmrt.payload import ChatMessage, ToolCall
from aiosmrt.sse import encode

__all__ = ["RECORDINGS", "Recording", "write_events", "write_lines"]


@attrs.frozen
class Recording:
    """A payload, the shape of its documents, and the messages in it."""

    name: str
    shape: str
    payload: bytes = attrs.field(repr=False)
    messages: tuple[ChatMessage, ...]
    content_type: str = "application/json"


def write_lines(documents: Iterable[JSONValue]) -> bytes:
    """Write JSON lines."""
    return b"".join(json.dumps(d, ensure_ascii=False).encode() + b"\n" for d in documents)


def write_events(documents: Iterable[JSONValue], done: str = "[DONE]") -> bytes:
    """Write server-sent events, and the event behind the last."""
    events = [encode(json.dumps(document, ensure_ascii=False)) for document in documents]
    return b"".join(events) + (encode(done) if done else b"")


def say(
    text: str = "",
    finish_reason: str | None = "stop",
    *,
    index: int = 0,
    reasoning: str = "",
    calls: Iterable[ToolCall] = (),
    usage: dict[str, JSONValue] | None = None,
) -> ChatMessage:
    """Make a message."""
    return ChatMessage(index, text, reasoning, "", tuple(calls), finish_reason, usage)


def _chunk(delta: JSONValue, finish_reason: str | None = None, index: int = 0) -> JSONValue:
    return {
        "id": "chatcmpl-7",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        ],
    }


def _call(index: int | None, arguments: str, call_id: str = "", name: str = "") -> JSONValue:
    piece: dict[str, JSONValue] = {"function": {"arguments": arguments}}
    if index is not None:
        piece["index"] = index
    if call_id:
        piece = {**piece, "id": call_id, "type": "function"}
    if name:
        piece["function"] = {"name": name, "arguments": arguments}
    return piece


_USAGE: dict[str, JSONValue] = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "prompt_tokens_details": None,
}
_WEATHER = ToolCall(0, "call_a", "get_weather", '{"city": "Zürich"}')
_TIME = ToolCall(1, "call_b", "get_time", "{}")

_VLLM: list[JSONValue] = [
    _chunk({"role": "assistant", "content": "", "reasoning_content": None}),
    _chunk({"reasoning": "Hm, "}),
    _chunk({"reasoning": "«Zwölf»?", "reasoning_content": "«Zwölf»?"}),
    _chunk({"content": "Zw"}),
    _chunk({"content": "ölf 🧮"}),
    _chunk({"content": ""}, "stop"),
    {"id": "chatcmpl-7", "choices": [], "usage": _USAGE},
]
_VLLM_SAYS = say("Zwölf 🧮", reasoning="Hm, «Zwölf»?", usage=_USAGE)

_TOOLS: list[JSONValue] = [
    _chunk({"role": "assistant", "content": None, "tool_calls": None}),
    _chunk({"tool_calls": [_call(0, "", "call_a", "get_weather")]}),
    _chunk({"tool_calls": [_call(0, '{"city": "Zü')]}),
    _chunk({"tool_calls": [_call(0, 'rich"}'), _call(1, "", "call_b", "get_time")]}),
    _chunk({"tool_calls": [_call(1, "{}")]}),
    _chunk({}, "tool_calls"),
]
_TOOLS_SAY = say("", "tool_calls", calls=[_WEATHER, _TIME])

_TWO: list[JSONValue] = [
    _chunk({"content": "A"}),
    _chunk({"content": "B"}, index=1),
    {
        "choices": [
            {"index": 1, "delta": {"content": "b"}, "finish_reason": "length"},
            {"index": 0, "delta": {"content": "a"}, "finish_reason": None},
        ]
    },
    _chunk({}, "stop"),
]

_COMPLETION: list[JSONValue] = [
    {"object": "text_completion", "choices": [{"index": 0, "text": "Zw", "finish_reason": None}]},
    {"object": "text_completion", "choices": [{"index": 0, "text": "ölf", "finish_reason": ""}]},
    {"object": "text_completion", "choices": [{"index": 0, "text": "", "finish_reason": "length"}]},
]

_TGI: list[JSONValue] = [
    {
        "index": index,
        "token": {"id": index, "text": text, "logprob": -0.1, "special": text == "</s>"},
        "generated_text": "Zwölf" if text == "</s>" else None,
        "details": {"finish_reason": "eos_token", "generated_tokens": 3, "input_length": 9}
        if text == "</s>"
        else None,
    }
    for index, text in enumerate(("Zw", "ölf", "</s>"), 1)
]
_TGI_USAGE: dict[str, JSONValue] = {"prompt_tokens": 9, "completion_tokens": 3}

_LMI: list[JSONValue] = [
    {"token": {"id": 1, "text": "Zw", "log_prob": -0.1}},
    {"token": {"id": 2, "text": "ölf", "log_prob": -0.1}},
]
_LMI_END: JSONValue = {"token": {"id": 3, "text": "", "log_prob": 0}, "generated_text": "Zwölf"}
_LMI_DETAILS: JSONValue = {
    "token": {"id": 3, "text": " €", "log_prob": 0},
    "generated_text": "Zwölf €",
    "details": {"finish_reason": "length", "generated_tokens": 3, "inputs": "…"},
}

_WHOLE: JSONValue = {
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Hm.",
                "tool_calls": [
                    {
                        "id": call.id,
                        "type": "function",
                        "function": {"name": call.name, "arguments": call.arguments},
                    }
                    for call in (_WEATHER, _TIME)
                ],
            },
            "finish_reason": "tool_calls",
        },
        {"index": 1, "message": {"content": "Zwölf"}, "finish_reason": "stop"},
    ],
    "usage": _USAGE,
}

RECORDINGS = [
    Recording("vLLM", "openai-chat", write_events(_VLLM), (_VLLM_SAYS,), "text/event-stream"),
    Recording("chat as lines", "openai-chat", write_lines(_VLLM), (_VLLM_SAYS,)),
    Recording("tools", "openai-chat", write_events(_TOOLS), (_TOOLS_SAY,)),
    Recording("tools as lines", "openai-chat", write_lines(_TOOLS), (_TOOLS_SAY,)),
    Recording(
        "two choices",
        "openai-chat",
        write_events(_TWO, done=""),
        (say("Aa"), say("Bb", "length", index=1)),
    ),
    Recording(
        "completion", "openai-completion", write_events(_COMPLETION), (say("Zwölf", "length"),)
    ),
    Recording(
        "TGI", "tgi", write_events(_TGI, done=""), (say("Zwölf", "eos_token", usage=_TGI_USAGE),)
    ),
    Recording("LMI", "lmi", write_lines([*_LMI, _LMI_END]), (say("Zwölf", None),)),
    Recording(
        "LMI with details, as events",
        "lmi",
        write_events([*_LMI, _LMI_DETAILS]),
        (say("Zwölf €", "length", usage={"completion_tokens": 3}),),
    ),
    Recording(
        "older LMI",
        "lmi",
        write_lines(
            [{"outputs": ["Zw"]}, {"outputs": ["ölf"], "details": {"finish_reason": "stop"}}]
        ),
        (say("Zwölf"),),
    ),
    Recording(
        "whole chat",
        "openai-chat",
        write_lines([_WHOLE]),
        (
            say("", "tool_calls", reasoning="Hm.", calls=[_WEATHER, _TIME], usage=_USAGE),
            say("Zwölf", index=1, usage=_USAGE),
        ),
    ),
    Recording(
        "whole completion",
        "openai-completion",
        write_lines([{"choices": [{"index": 0, "text": "Zwölf", "finish_reason": "stop"}]}]),
        (say("Zwölf"),),
    ),
    Recording(
        "whole TGI",
        "tgi",
        write_lines(
            [
                [
                    {
                        "generated_text": "Zwölf",
                        "details": {"finish_reason": "length", "generated_tokens": 3},
                    }
                ]
            ]
        ),
        (say("Zwölf", "length", usage={"completion_tokens": 3}),),
    ),
    Recording(
        "whole LMI", "lmi", write_lines([{"generated_text": "Zwölf"}]), (say("Zwölf", None),)
    ),
]
