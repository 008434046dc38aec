"""A chat model that does as the last message says, and keeps a book of what became of each run."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiosmrt.local import InvocationRequest, ModelFailure

_HEAD = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
_USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
_ARGUMENTS = ('{"ci', 'ty": "Pa', 'ris"}', "")


def _call(arguments: str, name: str | None = None, **members: object) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": 0, "type": "function", "function": function, **members}]}


_CALLS = {
    "weather": [
        {"role": "assistant", **_call("", "get_weather", id="call-1")},
        *map(_call, _ARGUMENTS),
    ],
    # As vLLM up to 0.8 does, and with the role in each chunk, as TGI has it.
    "old weather": [
        {"role": "assistant", **_call(piece, "get_weather", id=f"call-{number}")}
        for number, piece in enumerate(_ARGUMENTS)
    ],
}


async def model(request: InvocationRequest) -> object:
    """Answer in OpenAI's chat shape: `weather` calls a tool, and what a tool said is repeated."""
    asked = json.loads(request.body)
    last = asked["messages"][-1]
    words = _read(last["content"])
    said = "tool" if last["role"] == "tool" else words
    _note("begin", said)
    if asked["model"] or request.operation != "InvokeEndpointWithResponseStream":
        raise ModelFailure(400, "the model has no name, and only streams")
    if said == "refuse":
        raise ModelFailure(500, json.dumps({"error": {"message": "out of memory"}}))
    wants_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
    return _stream(said, words, wants_usage=wants_usage)


async def _stream(said: str, words: str, *, wants_usage: bool) -> AsyncIterator[str]:
    how = "stopped"
    try:
        if said in _CALLS:
            for delta in _CALLS[said]:
                yield _write(delta)
            yield _write({}, "tool_calls")
        else:
            yield _write({"role": "assistant", "content": ""})
            for word in (words if said == "tool" else "one two three").split():
                yield _write({"content": f"{word} "})
                if said == "wait":
                    await _wait_until_shown()
                if said == "break":
                    raise ModelFailure(500, "out of memory")  # noqa: TRY301 - as a model does
            while said == "endless":
                yield _write({"content": "more "})
                await asyncio.sleep(0.01)
            how = "ended"
            if said == "stop short":
                return
            yield _write({}, "stop")
        if wants_usage:
            yield f"data: {json.dumps({**_HEAD, 'choices': [], 'usage': _USAGE})}\n\n"
        yield "data: [DONE]\n\n"
        how = "ended"
    except ModelFailure:
        how = "failed"
        raise
    finally:
        _note(how, said)


async def _wait_until_shown() -> None:
    """Go on when the test has seen a word of it, and has written so into the book."""
    for _ in range(3000):
        if "shown" in _read_book():
            return
        await asyncio.sleep(0.02)
    raise ModelFailure(500, "nobody has seen the first word for a minute")


def _write(delta: dict[str, Any], reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return f"data: {json.dumps({**_HEAD, 'choices': [choice]})}\n\n"


def _read(content: object) -> str:
    """Take the text out of a message, which some write in pieces."""
    if isinstance(content, list):
        return "".join(piece["text"] for piece in content)
    return str(content)


def _read_book() -> str:
    return Path(os.environ["AIOSMRT_BOOK"]).read_text(encoding="utf-8")


def _note(how: str, said: str) -> None:
    with Path(os.environ["AIOSMRT_BOOK"]).open("a", encoding="utf-8") as book:
        book.write(f"{how}: {said}\n")
