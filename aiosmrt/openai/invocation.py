"""What a request of the SDK asks of an endpoint."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, TypedDict

import attrs
import openai

from aiosmrt.config import Timeout
from aiosmrt.errors import ParameterError
from aiosmrt.openai.body import parse
from aiosmrt.openai.errors import NotServed
from aiosmrt.openai.family import Request
from aiosmrt.redaction import Redacted, redact
from aiosmrt.service import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_WITH_RESPONSE_STREAM,
    Operation,
)
from aiosmrt.tracebacks import hides_locals
from aiosmrt.value import Value

__all__ = [
    "CHAT",
    "EMBEDDINGS",
    "Invocation",
    "Route",
    "check_route",
    "find_task",
    "read_invocation",
]


class Route(TypedDict, total=False):
    """Where the requests go: parameters of `invoke_endpoint`, for all of them.

    Attributes:
        endpoint_name: the endpoint to call.
        inference_component_name: the component to call, where the endpoint has some.
        target_variant: the production variant to call, whatever the weights.
        target_model: the model to call, where the endpoint has many; not for streams.
        target_container_hostname: the container to call, where the endpoint has several.
        session_id: of a stateful session.
        prefix_aware_id: calls with one id and prompts that begin alike go to one instance.
        inference_id: an id for captured data.
        custom_attributes: forwarded to the container as it is: up to 1,024 characters of ASCII.
        enable_explanations: a JMESPath expression in place of the endpoint's; not for streams.
    """

    endpoint_name: str
    inference_component_name: str | None
    target_variant: str | None
    target_model: str | None
    target_container_hostname: str | None
    session_id: str | None
    prefix_aware_id: str | None
    inference_id: str | None
    custom_attributes: str | None
    enable_explanations: str | None


CHAT: Final = "chat/completions"
EMBEDDINGS: Final = "embeddings"
_SERVED: Final = "POST chat/completions, completions and embeddings, and GET models"
# Whatever the base URL is.
_TASKS: Final = {
    "POST": re.compile(r"(?:/.*?)??/(chat/completions|completions|embeddings)/?"),
    "GET": re.compile(r"(?:/.*?)??/(models(?:/.+)?)/?"),
}

# The parameters by their headers, in lower case, those of either operation.
_PARAMETERS: Final = {
    member.field: member.parameter
    for operation in (INVOKE_ENDPOINT, INVOKE_ENDPOINT_WITH_RESPONSE_STREAM)
    for member in operation.request
    if member.location == "header"
}
_AMAZON: Final = "x-amzn-"  # what headers of the service begin with


@attrs.frozen(eq=False, repr=False)
class Invocation(Value):
    """A call to be made.

    Attributes:
        task: `chat/completions`, `completions` or `embeddings`.
        operation: whole, or as a stream.
        model: the name that the request has for it.
        choices: how many answers are asked for, to all prompts together.
        parameters: of the operation.
    """

    task: str
    operation: Operation
    model: str
    choices: int
    parameters: dict[str, Any] = attrs.field(repr=redact)


def check_route(route: Mapping[str, object]) -> None:
    """Refuse a keyword that says nothing of where requests go.

    Raises:
        TypeError: naming the keyword that was probably meant.
    """
    known = list(Route.__annotations__)
    for name in route:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise TypeError(f"an unexpected keyword argument {name!r}: {hint}")


def find_task(request: Request) -> str:
    """Give what is asked for, such as `chat/completions`, or `models/` and a name.

    Raises:
        NotServed: an endpoint does not do it.
    """
    path = request.url.path
    pattern = _TASKS.get(request.method)
    found = pattern and pattern.fullmatch(path)
    if found:
        return found[1]
    hint = "; use chat.completions" if path.rstrip("/").endswith("/responses") else ""
    raise NotServed(
        f"{request.method} {path} is not served: a SageMaker endpoint has {_SERVED}{hint}"
    )


async def read_invocation(
    request: Request,
    task: str,
    route: Mapping[str, object],
    taken: Collection[str],
    names: Collection[object],
) -> Invocation:
    """Read what a POST asks for.

    Args:
        request: the SDK's.
        task: what `find_task` has found.
        route: where it goes.
        taken: parameters that no header can say any more.
        names: of models, that no container knows.

    Raises:
        ParameterError: its body is no JSON object, or it says something twice, or what a stream
            cannot take.
        ConfigurationError: a time limit that is none.
    """
    await request.aread()
    document = await _parse(request)
    invocation = _build(request, task, Redacted(route), taken, document)
    invocation.parameters["body"] = _write_body(request, names, document)
    return invocation


async def _parse(request: Request) -> Redacted[dict[str, Any]]:
    document: Redacted[Any] = Redacted(None)
    problem = ""
    try:
        document.value = await parse(request.content)
    except (ValueError, RecursionError) as error:
        problem = str(error)
    if not isinstance(document.value, dict):
        # Not in there: the parser's error has the body.
        raise ParameterError(f"the body is no JSON object: {problem or 'it is another value'}")
    return document


@hides_locals
def _build(
    request: Request,
    task: str,
    route: Redacted[Mapping[str, object]],
    taken: Collection[str],
    document: Redacted[dict[str, Any]],
) -> Invocation:
    asked = document.value
    model = asked.get("model")
    streams = task != EMBEDDINGS and asked.get("stream") is True
    operation = INVOKE_ENDPOINT_WITH_RESPONSE_STREAM if streams else INVOKE_ENDPOINT
    parameters = {**route.value, **_read_headers(request, taken)}
    for name in parameters:
        if name not in operation.parameters and name != "headers":
            raise ParameterError(f"{operation.name} takes no {name}: ask without stream=True")
    timeout = _read_timeout(request)
    if timeout is not None:
        parameters["timeout"] = timeout
    return Invocation(
        task=task,
        operation=operation,
        model=model if isinstance(model, str) else "",
        choices=_count_choices(asked),
        parameters=parameters,
    )


@hides_locals
def _count_choices(asked: dict[str, Any]) -> int:
    each = asked.get("n")
    each = each if isinstance(each, int) else 1
    prompts = asked.get("prompt")
    # A list of numbers is one prompt, of tokens.
    if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
        return each * len(prompts)
    return each


@hides_locals
def _write_body(
    request: Request, names: Collection[object], document: Redacted[dict[str, Any]]
) -> bytes:
    asked = document.value
    if not asked.get("model") or asked["model"] not in names:
        return request.content
    # An empty one is the container's own. Written no longer than the SDK has: there is a limit.
    text = json.dumps({**asked, "model": ""}, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")  # half a character is escaped, as it was


def _read_headers(request: Request, taken: Collection[str]) -> dict[str, Any]:
    """Give the parameters that are said by headers; no other header reaches a container."""
    given: dict[str, Any] = {}
    others: dict[str, str] = {}
    for name, value in request.headers.items():
        parameter = _PARAMETERS.get(name)
        if parameter is None:
            if name.startswith(_AMAZON):
                others[name] = value
        elif parameter in taken:
            raise ParameterError(
                f"{parameter} is given twice: to connect() or to the transport, and by the header"
                f" {name}"
            )
        elif value != "*/*":
            given[parameter] = value
    return {**given, "headers": others} if others else given


def _read_timeout(request: Request) -> Timeout | None:
    """Give the limits that were said; None where they are the SDK's own, which nobody has said."""
    said = request.extensions.get("timeout")
    if not said or said == openai.DEFAULT_TIMEOUT.as_dict():
        return None
    read = said.get("read")
    return Timeout(
        connect=said.get("connect"),
        write=said.get("write"),
        first_byte=read,
        idle=read,
        slot=said.get("pool"),
    )
