"""A container's stream as OpenAI's: server-sent events of chunks, `[DONE]` behind a proven end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Final

from aiosmrt.errors import AiosmrtError, ModelStreamError, PayloadError
from aiosmrt.openai.deltas import DeltaWriter, cut_role, is_more_than_text
from aiosmrt.openai.invocation import CHAT, Invocation
from aiosmrt.openai.template import ChunkTemplate
from aiosmrt.payload import (
    DONE,
    LARGE,
    ChatChunk,
    ChatDecoder,
    ModelDocumentDecoder,
    ServerSentEvent,
    ToolCall,
    find_failure,
    name_truncated,
)
from aiosmrt.value import JSONValue

__all__ = [
    "ChunkDecoder",
    "NoChoices",
    "build_usage",
    "choose_shape",
    "name_reason",
    "refuse_choices",
    "write_reason",
]

_DATA: Final = b"data: "

_decode_json: Final[Callable[[str], tuple[JSONValue, int]]] = json.JSONDecoder().raw_decode

# What servers call OpenAI's `stop`.
_REASONS: Final = {"eos_token": "stop", "stop_sequence": "stop"}


class NoChoices(PayloadError):
    """Several answers were asked for, and the container's documents hold one."""


class ChunkDecoder(ModelDocumentDecoder[bytes]):
    """Turns what a container streams, or sends whole, into server-sent events as OpenAI's.

    Chunks of OpenAI's are passed on as they are, be they events or JSON lines, but for what their
    readers rely on and servers leave out; of documents of other shapes chunks are made. `[DONE]`
    comes last, once the model has marked its end.

    Args:
        invocation: what is answered.
        content_type: of the payload.
        answer_id: of the answer, where the container gives it none.
    """

    def __init__(self, invocation: Invocation, content_type: str | None, answer_id: str) -> None:
        super().__init__(content_type, DONE)
        self._invocation = invocation
        self._is_chat = invocation.task == CHAT
        self._head: dict[str, JSONValue] = {
            "id": answer_id,
            "object": "chat.completion.chunk" if self._is_chat else "text_completion",
            "created": int(time.time()),
            "model": invocation.model,
        }
        self._data = ""  # of the event that is looked at; empty for a JSON line
        self._over: dict[int, bool] = {}  # whether a choice has ended
        self._reader: ChatDecoder | None = None  # of documents that are no chunks
        self._begun: set[int] = set()  # choices of which a chunk was made
        self._ended: set[int] = set()  # those of which the last one was
        self._misfit = ""
        self._deltas = DeltaWriter()
        self._template = ChunkTemplate()
        self._is_between = False  # whether what comes next is the beginning of an event
        self._has_ended = False

    def receive(self, data: bytes) -> list[bytes]:
        """Take the next bytes and give the events that they complete, all in one piece.

        Raises:
            PayloadError: the payload is no answer of a model, or `NoChoices`.
            ModelStreamError: the model server reported a failure.
        """
        if self._is_between and self._fault is None:
            if not data:
                self._skip(0, 0)  # which raises what was wrong before
                return []
            if (passed := self._pass_on(data)) is not None:
                return [passed]
        values = super().receive(data)
        if data:
            self._is_between = (
                data.endswith(b"\n\n") and self.framing == "events" and self.large is None
            )
        return [b"".join(values)] if values else values

    def _pass_on(self, data: bytes) -> bytes | None:
        """Give what is passed on for whole events that are as most are, and take note of them.

        They are looked at without what events of all kinds need. None where one is another.
        """
        *events, rest = data.split(b"\n\n")
        if rest:
            return None
        passed: list[bytes] = []
        for event in events:
            written = self._template.write(event) or self._write_usual(event)
            if written is None:
                return None
            passed.append(written)
        self._skip(len(events), len(data))
        return data if passed == events else b"\n\n".join(passed) + b"\n\n"

    def _write_usual(self, event: bytes) -> bytes | None:
        """Give what is passed on for a chunk of a text; None for another event."""
        self._data = _find_data(event)
        document = _parse(self._data)
        choices = self._complete(document)
        if choices is None or not self._data or find_failure(document, has_text=True) is not None:
            return None
        written = event
        if is_more_than_text(choices):
            if not self._deltas.drop_roles(choices):
                return None
            written = cut_role(event) or _DATA + json.dumps(document).encode()
        if not self._note(choices):
            self._template.learn(event, written)
        return written

    def _read_event(self, event: ServerSentEvent, values: list[bytes]) -> ModelStreamError | None:
        # A break is white space there, and a mark in front is none of JSON.
        self._data = event.data.lstrip("\ufeff").replace("\n", " ")
        return super()._read_event(event, values)

    def read(self, document: JSONValue, values: list[bytes]) -> ModelStreamError | None:
        """Add the events that a document becomes, and give the failure that it reports.

        Raises:
            InvalidJSON: it is not what it should be.
        """
        choices = self._complete(document)
        if choices is not None:
            if self._deltas.write(choices):
                self._data = ""  # it is another one now
            failure = find_failure(document, has_text=True)
            # The SDK knows a few reports itself, and would raise them without what is known here.
            if failure is None or find_failure(document, has_text=True, by_reason=False) is None:
                self._note(choices)
                values.append(_encode(self._data or json.dumps(document)))
            return failure
        return self._rewrite(document, values)

    def _complete(self, document: JSONValue) -> list[JSONValue] | None:
        """Give the choices of a chunk, None of another document.

        Within a stream servers leave out what has nothing in it: the delta of an end, the choices
        of a usage. The SDK's users rely on both, and on OpenAI's words for an end. Its `stream()`
        passes over a chunk that is not called one: TGI 1.4.3 calls it a `text_completion`.
        """
        if not isinstance(document, dict):
            return None
        if self._over and document.get("choices") is None and document.get("usage"):
            document["choices"] = []
            self._data = ""  # it is another one now
        choices = document.get("choices")
        if not isinstance(choices, list):
            return None
        name = "delta" if self._is_chat else "text"
        for choice in choices:
            if not isinstance(choice, dict):
                return None
            if write_reason(choice):
                self._data = ""
            if choice.get(name) is None:
                if name not in choice and not (self._over and choice.get("finish_reason")):
                    return None
                choice[name] = {} if self._is_chat else ""
                self._data = ""
        if document.get("object") != self._head["object"]:
            document["object"] = self._head["object"]
            self._data = ""
        return choices

    def _note(self, choices: list[JSONValue]) -> bool:
        """Take note of the choices, and tell whether one has ended here."""
        has_ended = False
        for position, choice in enumerate(choices):
            if isinstance(choice, dict):
                index = choice.get("index")
                index = index if isinstance(index, int) else position
                is_over = bool(choice.get("finish_reason"))
                self._over[index] = is_over or self._over.get(index, False)
                has_ended = has_ended or is_over
        return has_ended

    def _rewrite(self, document: JSONValue, values: list[bytes]) -> ModelStreamError | None:
        """Make chunks of a document of another shape: of a token, or of a whole answer."""
        reader = self._reader or ChatDecoder(choose_shape(document, self._invocation.task))
        chunks: list[ChatChunk] = []
        failure = reader.read(document, chunks)
        if chunks:
            self._reader = reader  # what has no chunk says nothing of the shape of what has one
            refuse_choices(self._invocation, document)
        values += [_encode(json.dumps(self._build(chunk, reader))) for chunk in chunks]
        if not chunks and not self._misfit:
            names = ", ".join(document) if isinstance(document, dict) else "no members"
            self._misfit = f"the container's documents are no chunks of OpenAI's: they have {names}"
        return failure

    def _build(self, chunk: ChatChunk, reader: ChatDecoder) -> dict[str, JSONValue]:
        choice: dict[str, JSONValue] = {"index": chunk.index, "finish_reason": None}
        if reader.is_over(chunk.index) and chunk.index not in self._ended:
            choice["finish_reason"] = name_reason(chunk.finish_reason)
            self._ended.add(chunk.index)
        begins = chunk.index not in self._begun
        self._begun.add(chunk.index)
        if self._is_chat:
            # The role comes once: the SDK adds up all that comes again.
            choice["delta"] = {**({"role": "assistant"} if begins else {}), **_build_delta(chunk)}
        else:
            choice["text"] = chunk.text
        raw = chunk.raw if isinstance(chunk.raw, dict) else {}
        built = self._head | {name: raw[name] for name in self._head if name in raw}
        built |= {"object": self._head["object"], "choices": [choice]}
        usage = build_usage(chunk.usage)
        if usage is not None:
            built["usage"] = usage
        return built

    def _flush(self) -> list[bytes]:
        if self._has_ended or not self._is_proven():
            return []
        self._has_ended = True
        # By the mark alone, maybe: OpenAI has a reason, too, without which some wait for one.
        running = [index for index, is_over in self._over.items() if not is_over]
        running += self._begun - self._ended - self._over.keys()
        return [*map(self._end, running), _encode(DONE)]

    def _end(self, index: int) -> bytes:
        """Give the last chunk of a choice of which the container has sent none."""
        delta: dict[str, JSONValue] = {"delta": {}} if self._is_chat else {"text": ""}
        choice: JSONValue = {"index": index, "finish_reason": name_reason(None), **delta}
        return _encode(json.dumps({**self._head, "choices": [choice]}))

    def _is_proven(self) -> bool:
        if self._is_misfit():
            return False
        over = self._over.values()
        is_over = len(over) >= max(self._invocation.choices, 1) and all(over)
        return self._is_marked or is_over or (self._reader is not None and self._reader.is_proven)

    def _is_misfit(self) -> bool:
        """Tell whether all that came was of another kind: what it said is lost, marked or not."""
        return bool(self._misfit) and self._reader is None and not self._over

    def _refuse_end(self) -> AiosmrtError | None:
        if self._is_misfit():
            return PayloadError(self._misfit)
        if self._is_proven():
            return None
        asked = self._invocation.choices
        which = f" of each of {asked} choices" if asked > 1 else ""
        return name_truncated(f"a finish reason{which} or the event {DONE!r}")


def _find_data(event: bytes) -> str:
    """Give the data of an event of one line, empty where there is more to it."""
    if not event.startswith(_DATA) or b"\n" in event or b"\r" in event or len(event) > LARGE:
        return ""
    try:
        return event[len(_DATA) :].decode()
    except UnicodeDecodeError:
        return ""


def _parse(data: str) -> JSONValue:
    """Parse what may be no JSON, or have blanks around it: that is None."""
    try:
        document, end = _decode_json(data)
    except (ValueError, RecursionError):
        return None
    return document if end == len(data) else None


def _encode(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


def choose_shape(document: JSONValue, task: str) -> str:
    """Give the name of the shape of a document that is no chunk of OpenAI's."""
    if isinstance(document, dict | list) and not _has_choices(document):
        return "lmi" if "outputs" in document else "tgi"
    return "openai-chat" if task == CHAT else "openai-completion"


def refuse_choices(invocation: Invocation, document: JSONValue) -> None:
    """Refuse several choices of a document that has no place for them.

    Raises:
        NoChoices: naming how many there were to be.
    """
    if invocation.choices > 1 and not _has_choices(document):
        raise NoChoices(
            f"{invocation.choices} answers were asked for, and what the container sends holds one:"
            " ask for each by itself"
        )


def name_reason(reason: str | None) -> str:
    """Give OpenAI's word for why an answer has ended; it has one for each end.

    Who reads a stream by a framework would lose the text where there is none.
    """
    return _REASONS.get(reason, reason) if reason else "stop"


def write_reason(choice: dict[str, JSONValue]) -> bool:
    """Write OpenAI's word for why a choice has ended, and tell whether it was another."""
    reason = choice.get("finish_reason")
    if not isinstance(reason, str) or reason not in _REASONS:
        return False
    choice["finish_reason"] = _REASONS[reason]
    return True


def build_usage(usage: Mapping[str, JSONValue] | None) -> dict[str, JSONValue] | None:
    """Give what was counted as OpenAI has it, with the sum; None where a part was not counted.

    Its readers add up all three.
    """
    usage = usage or {}
    asked, said = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not (isinstance(asked, int) and isinstance(said, int)):
        return None
    return {"total_tokens": asked + said, **usage}


def _has_choices(document: JSONValue) -> bool:
    return isinstance(document, dict) and "choices" in document


def _build_delta(chunk: ChatChunk) -> dict[str, JSONValue]:
    delta: dict[str, JSONValue] = {"content": chunk.text}
    if chunk.reasoning:
        delta["reasoning_content"] = chunk.reasoning
    if chunk.refusal:
        delta["refusal"] = chunk.refusal
    if chunk.tool_calls:
        delta["tool_calls"] = [_build_call(call) for call in chunk.tool_calls]
    return delta


def _build_call(call: ToolCall) -> JSONValue:
    function: dict[str, JSONValue] = {"arguments": call.arguments}
    if call.name:
        function["name"] = call.name
    built: dict[str, JSONValue] = {"index": call.index, "type": "function", "function": function}
    return {**built, "id": call.id} if call.id else built
