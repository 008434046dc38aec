"""What a model server reports as a failure inside a success: HTTP had said 200 already. Pure.

Servers agree on no form of it, but all say it in one of few ways: a member is called an error, a
document or an event is called a failure, a status is one of HTTP's refusals, or the reason to end
is none of the model's. Only such members are judged, never the text that a model generates, and
what is null, false, empty or zero says nothing.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

from aiosmrt.errors import ModelStreamError
from aiosmrt.payload.text import replace_halves
from aiosmrt.value import JSONValue

__all__ = ["find_failure", "name_failure", "names_failure"]

# What a member of a document says.
_REPORT: Final = "what failed"
_WORDS: Final = "more about it"
_NAME: Final = "what the document is"
_STATUS: Final = "how the request went"
_REASON: Final = "why the model ended"
_PLACE: Final = "an object in which some servers say the above"

# Names of members, without case and separators; where several are there, the first says most. Who
# writes them: `error` everybody; `error_message` and `error_type` TGI and LMI, whose tokens have an
# `error_msg`; `ErrorCode` and `__type` AWS; a flat `object`, `message` and `code` vLLM and NIM;
# `type` Anthropic, TorchServe and OpenAI's Responses, which has the rest in `response`; `detail`
# FastAPI; `meta_info` SGLang; `done_reason` Ollama.
_ERRORS: Final = (
    "errormessage",
    "errormsg",
    "exceptionmessage",
    "error",
    "errors",
    "exception",
    "err",
)
_EXPLANATIONS: Final = ("message", "msg", "detail", "description")
_HTTP_STATUSES: Final = ("statuscode", "httpstatuscode", "httpstatus")
_STATUSES: Final = ("code", *_HTTP_STATUSES, "status")
_REASONS: Final = ("finishreason", "donereason", "completionreason", "stopreason")
_ROLES: Final = {
    **dict.fromkeys((*_ERRORS, "errorcode", "errortype", "errordetails"), _REPORT),
    **dict.fromkeys(("iserror", "err", "failure", "fault", "traceback"), _REPORT),
    **dict.fromkeys(_EXPLANATIONS, _WORDS),
    **dict.fromkeys(("object", "type", "event", "eventtype", "state"), _NAME),
    **dict.fromkeys((*_STATUSES, "success", "ok"), _STATUS),
    **dict.fromkeys(_REASONS, _REASON),
    **dict.fromkeys(("choices", "delta", "token", "details", "metainfo", "response"), _PLACE),
}
_SEPARATORS: Final = dict.fromkeys(map(ord, "_-. "))
_LONGEST_NAME: Final = 40  # characters; nothing longer is known, and none is remembered
_DEPTH: Final = 3  # objects in each other; a chunk of a chat has its deepest report in the second

# Words of names and reasons. vLLM and SGLang end with abort or error, TensorRT-LLM with cancelled
# or timeout, Mistral, LMI and OpenRouter with error, Cohere with ERROR or USER_CANCEL, DeepSeek
# with insufficient_system_resource: the model would have gone on. `length`, `content_filter`,
# `refusal` and `tool_calls` are its own ends: asked again, it ends so again.
_fails: Final = re.compile(
    "abort(ed)?|cancel(l?ed)?|crash(ed)?|errors?|exception|fail(ed|ure)?|fatal|insufficient"
    "|interrupted|overloaded|timed|timeout|unavailable"
).fullmatch
# It is not the stream that failed, as in `response.mcp_call.failed`, or nothing did.
_OTHERS: Final = frozenset(("tool", "function", "call", "mcp", "item", "step", "no"))
_find_words: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])").findall

_NOTHING: Final = frozenset(("", "none", "null", "nil", "false", "ok", "success", "0"))
_REFUSALS: Final = range(400, 600)  # of HTTP's statuses


def find_failure(
    document: JSONValue, *, has_text: bool = False, by_reason: bool = True
) -> ModelStreamError | None:
    """Give the failure that a document reports, in place of a text or beside one.

    Its `message` is what the server says of it, the member as JSON where there are no words, and
    its `error_code` the server's code, status or type.

    Args:
        document: one document or the data of one event.
        has_text: whether a text was found in it: then a `detail` is not FastAPI's refusal.
        by_reason: whether it counts that a text ended for a reason that is a failure.
    """
    if not isinstance(document, dict) or _is_silent(document, _DEPTH):
        return None
    reports = [
        *_collect(document, _DEPTH, whole=True, has_text=has_text),
        *(_collect_reasons(document, _DEPTH) if by_reason else ()),
    ]
    if not reports:
        return None
    message, code = next((report for report in reports if report[0]), reports[0])
    return _build(message or _show(document), code, document)


def name_failure(name: str, data: str, document: JSONValue) -> ModelStreamError:
    """Give the failure that an event reports by its name.

    Args:
        name: of the event.
        data: of the event.
        document: the data, parsed; None where they are no JSON.
    """
    if isinstance(document, dict):
        words = _find_text(document) or _show(document)
        found = find_failure(document)
        return found or _build(words, _find_code(document) or name, document)
    return _build(document if isinstance(document, str) else data, name, {})


def names_failure(name: str) -> bool:
    """Tell whether a name is that of a failure, such as `error` or `InternalServerException`."""
    return len(name) <= _LONGEST_NAME and _judge_name(name)


@functools.lru_cache(maxsize=512)
def _judge_name(name: str) -> bool:
    if len(name.split()) != 1:  # a sentence
        return False
    words = {word.lower() for word in _find_words(name)}
    return any(map(_fails, words)) and words.isdisjoint(_OTHERS)


def _build(message: str, code: str | None, fields: dict[str, JSONValue]) -> ModelStreamError:
    error = ModelStreamError(replace_halves(message.strip()), status=200, fields=fields)
    error.error_code = code and replace_halves(code)
    return error


@functools.lru_cache(maxsize=512)
def _classify(name: str) -> str | None:
    name = _normalize(name)
    # AWS's event streams have a member for each kind of exception.
    return _REPORT if name.endswith("exception") else _ROLES.get(name)


def _normalize(name: str) -> str:
    return name.translate(_SEPARATORS).lower()


def _is_silent(members: dict[str, JSONValue], depth: int) -> bool:
    """Tell of most documents, and quickly, that no member of theirs could report a failure."""
    for name, value in members.items():
        if value is None or len(name) > _LONGEST_NAME:
            continue
        role = _classify(name)
        if role is _PLACE:
            for inner in value if isinstance(value, list) else (value,):
                if depth > 1 and isinstance(inner, dict) and not _is_silent(inner, depth - 1):
                    return False
        elif role is _NAME or role is _REASON:
            if not isinstance(value, str) or names_failure(value):
                return False
        elif role is not None and (role is not _WORDS or name == "detail"):
            return False
    return True


def _collect(
    members: dict[str, JSONValue], depth: int, *, whole: bool, has_text: bool
) -> Iterator[tuple[str, str | None]]:
    """Give the message and the code of each report in an object and in its places.

    Args:
        members: of the object.
        depth: how many objects may be in each other.
        whole: whether the object is a document by itself: a token has a type and a state, too.
        has_text: as for `find_failure`.
    """
    found = _sort(members)
    if _is_report(members, found, whole=whole, has_text=has_text):
        told = (value for value in found.get(_REPORT, ()) if isinstance(value, dict))
        yield next(filter(None, map(_find_text, (members, *told))), ""), _find_code(members)
    for inner in _find_inner(found) if depth > 1 else ():
        is_whole = inner is members.get("response")
        yield from _collect(inner, depth - 1, whole=is_whole, has_text=has_text)


def _sort(members: dict[str, JSONValue]) -> dict[str, list[JSONValue]]:
    """Give the values of members that may say anything, by what they say."""
    found: dict[str, list[JSONValue]] = {}
    for name, value in members.items():
        if value is not None and len(name) <= _LONGEST_NAME and (role := _classify(name)):
            found.setdefault(role, []).append(value)
    return found


def _find_inner(found: dict[str, list[JSONValue]]) -> Iterator[dict[str, JSONValue]]:
    for place in found.get(_PLACE, ()):
        for inner in place if isinstance(place, list) else (place,):
            if isinstance(inner, dict):
                yield inner


def _collect_reasons(members: dict[str, JSONValue], depth: int) -> Iterator[tuple[str, str | None]]:
    """Give the reasons to end that are failures: a word, or SGLang's object whose type is it."""
    # One in an object: beside a finish_reason, vLLM's stop_reason is the user's own stop string.
    reason = next(_pick(members, _REASONS), None)
    told: dict[str, JSONValue] = reason if isinstance(reason, dict) else {"type": reason}
    word = told.get("type")
    if isinstance(word, str) and names_failure(word):
        text = _find_text(told) or f"the model ended for the reason {word!r}"
        yield text, _find_code(told) or word
    for inner in _find_inner(_sort(members)) if depth > 1 else ():
        yield from _collect_reasons(inner, depth - 1)


def _is_report(
    members: dict[str, JSONValue],
    found: dict[str, list[JSONValue]],
    *,
    whole: bool,
    has_text: bool,
) -> bool:
    has_words = any(isinstance(words, str) and words for words in found.get(_WORDS, ()))
    return (
        any(_says_something(value, has_words=has_words) for value in found.get(_REPORT, ()))
        or (whole and _refuses(members, found, has_words=has_words))
        or (whole and not has_text and _is_detail(members))
    )


def _refuses(
    members: dict[str, JSONValue], found: dict[str, list[JSONValue]], *, has_words: bool
) -> bool:
    """Tell whether a document is called a failure, or has the status of one."""
    statuses = found.get(_STATUS, ())
    names = found.get(_NAME, ())
    if any(isinstance(name, str) and names_failure(name) for name in names):
        return True
    status = members.get("status")
    if isinstance(status, str) and names_failure(status):
        return True
    if any(map(_is_refusal, _pick(members, _HTTP_STATUSES))):
        return True
    # A code or a status by itself may be part of what a model was asked for.
    others = sum(value is not None for value in members.values()) - len(statuses)
    reports = len(found.get(_REPORT, ()))
    if any(map(_is_refusal, statuses)) and (has_words or reports or not others):
        return True
    if reports and reports == others and any(map(_is_code, _pick(members, _STATUSES))):
        return True  # nothing but an error without words, and a code of the server's own
    return has_words and any(members.get(name) is False for name in ("success", "ok"))


def _is_detail(members: dict[str, JSONValue]) -> bool:
    return _says_something(members.get("detail")) and all(
        value is None for name, value in members.items() if name != "detail"
    )


def _says_something(value: JSONValue, depth: int = _DEPTH, *, has_words: bool = False) -> bool:
    """Tell whether a member that is called an error holds one.

    Args:
        value: of the member.
        depth: how far it is looked into; what is deeper says something.
        has_words: whether there are words beside it.
    """
    if isinstance(value, str):
        return value.strip().lower() not in _NOTHING
    if isinstance(value, dict | list):
        values: Iterable[JSONValue] = value.values() if isinstance(value, dict) else value
        if depth == 0:
            return bool(value)
        return any(_says_something(inner, depth - 1, has_words=True) for inner in values)
    if isinstance(value, bool):
        return value
    # A number may be an error's measure; it is its code where it is a status, or words explain it.
    return _is_refusal(value) or (has_words and isinstance(value, int) and value != 0)


def _is_refusal(status: JSONValue) -> bool:
    if isinstance(status, str) and re.fullmatch("[0-9]{3}", status):
        status = int(status)
    return isinstance(status, int) and status in _REFUSALS


def _is_code(status: JSONValue) -> bool:
    """Tell whether it is a number that says no success: neither 0 nor one of HTTP's."""
    if not isinstance(status, int) or isinstance(status, bool):
        return False
    return status != 0 and status not in range(100, 400)


def _find_text(members: dict[str, JSONValue], depth: int = _DEPTH) -> str:
    """Give the words of a report, empty where it has none."""
    for value in _pick(members, (*_ERRORS, *_EXPLANATIONS)):
        told = value[0] if isinstance(value, list) and value else value
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(told, dict) and depth and (text := _find_text(told, depth - 1)):
            return text
    return ""


def _find_code(members: dict[str, JSONValue], depth: int = _DEPTH) -> str | None:
    """Give the code or status of a report, else its type, the inner one first."""
    told = [*_pick(members, _ERRORS)]
    for value in told:
        if isinstance(value, dict) and depth and (code := _find_code(value, depth - 1)):
            return code
    codes = _pick(members, ("errorcode", *_STATUSES, "errortype", "type"))
    for value in (*(value for value in told if isinstance(value, int)), *codes):
        known = isinstance(value, str | int) and not isinstance(value, bool) and value
        if known and value not in ("error", "failed"):
            return str(value)
    return None


def _show(members: dict[str, JSONValue]) -> str:
    """Write what is called an error, which may be empty, else the whole document."""
    value: JSONValue = members
    for error in _pick(members, _ERRORS):
        if isinstance(error, str):
            return ""
        if isinstance(error, dict | list):
            value = error
    try:
        return json.dumps(value)
    except RecursionError:
        return "an error that is nested too deeply to be shown"


def _pick(members: dict[str, JSONValue], names: Iterable[str]) -> Iterator[JSONValue]:
    """Give the members that have one of these names and a value, in the order of the names."""
    found = {
        _normalize(name): value
        for name, value in members.items()
        if value is not None and len(name) <= _LONGEST_NAME
    }
    return (found[name] for name in names if name in found)
