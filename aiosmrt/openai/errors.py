"""Errors that are two: the SDK's for who catches `openai.APIError`, and ours with all they know.

The SDK raises what is an `OpenAIError` as it is. All else that a transport raises it wraps, and
asks the model again.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, Final, cast

import openai

from aiosmrt.errors import AiosmrtError, ParameterError, PayloadError, ServiceError, TimeLimitError
from aiosmrt.openai.family import Request, Response, find_family

__all__ = ["NotServed", "join", "wrap"]

_STATUSES: Final[dict[int, type[openai.APIStatusError]]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}
_SERVER_ERROR: Final = 500  # and above


class NotServed(ParameterError):
    """A path that no endpoint serves; nothing was sent."""


def join(error: AiosmrtError, request: Request, response: Response | None = None) -> AiosmrtError:
    """Give the error as one that is the SDK's, too.

    Of the class that fits: a child of `APIStatusError` for a response, `APITimeoutError` for a time
    limit, `APIError` for what was reported in a stream, and `APIConnectionError` for the rest. With
    a response, what both name is the SDK's: `message`, `code`, `param`, `type` and `body` are those
    of its envelope.

    Args:
        error: what went wrong; it stays as it is.
        request: the SDK's.
        response: what it was answered, with an envelope.
    """
    known: dict[str, Any] = {"message": error.args[0], "body": None}
    known |= dict.fromkeys(("code", "param", "type"))
    known |= vars(error)
    if response is not None:
        envelope = response.json()["error"]
        known |= {name: envelope[name] for name in ("message", "code", "param", "type")}
        if envelope["code"] is not None:
            known["code"] = str(envelope["code"])
        known |= {"body": envelope, "response": response, "status_code": response.status_code}
    # Its words are made of what it had under those names.
    known |= {"request": request, "_text": str(error)}
    joined = _make(type(error), _choose(error, response), error.args, known)
    joined.__cause__ = error.__cause__
    return joined


def wrap(error: Exception, request: Request) -> openai.APIConnectionError:
    """Give an error of the SDK's for what is none of ours: what a hook raises, say.

    As it is, the SDK would ask again for it.
    """
    text = f"{type(error).__name__}: {error}"
    return openai.APIConnectionError(message=text, request=request)


def _choose(error: AiosmrtError, response: Response | None) -> type[openai.APIError]:
    if response is not None:
        status = response.status_code
        named = _STATUSES.get(status, openai.APIStatusError)
        return openai.InternalServerError if status >= _SERVER_ERROR else named
    if isinstance(error, TimeLimitError):
        return openai.APITimeoutError
    if isinstance(error, ServiceError | PayloadError):
        return openai.APIError
    return openai.APIConnectionError


def _make(
    ours: type[Any], theirs: type[Any], args: tuple[object, ...], known: dict[str, Any]
) -> AiosmrtError:
    kinds: Any = (ours, theirs)  # for mypy, no class of exceptions can be hashed
    kind = _merge(*kinds)
    joined = kind.__new__(kind)  # neither's __init__: what they would set is known
    joined.args = args
    vars(joined).update(known)
    return joined


@functools.cache
def _merge(ours: type[Any], theirs: type[Any]) -> type[AiosmrtError]:
    members = {
        "__doc__": f"{ours.__doc__}\n\nIt is an `openai.{theirs.__name__}`, too.",
        "__module__": __name__,
        "__reduce__": lambda self: (_restore, (ours, theirs, self.args, _pack(self))),
        "__str__": lambda self: self._text,
    }
    return cast("type[AiosmrtError]", type(ours.__name__, (ours, theirs), members))


def _pack(error: AiosmrtError) -> dict[str, Any]:
    """Give what is pickled: of the request neither headers nor body."""
    known = dict(vars(error))
    request: Request = known["request"]
    known["request"] = (find_family(request).__name__, request.method, str(request.url))
    if "response" in known:
        response: Response = known["response"]
        known["response"] = (response.status_code, response.headers.multi_items(), response.content)
    return known


def _restore(
    ours: type[Any], theirs: type[Any], args: tuple[object, ...], known: dict[str, Any]
) -> AiosmrtError:
    name, method, url = known["request"]
    family = importlib.import_module(name)
    known["request"] = request = family.Request(method, url)
    if "response" in known:
        status, headers, content = known["response"]
        known["response"] = family.Response(
            status, headers=headers, content=content, request=request
        )
    return _make(ours, theirs, args, known)
