"""A model written in Python: what it is given, what it may give back, how it is found by name."""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, TypeAlias

import attrs

from aiosmrt.errors import ConfigurationError
from aiosmrt.value import JSONValue, Shown

__all__ = [
    "InvocationRequest",
    "Model",
    "ModelFailure",
    "ModelResponse",
    "ResponseBody",
    "echo",
    "load_model",
]


@attrs.frozen
class InvocationRequest:
    """One accepted request: the members of the operation's input, by their names in snake_case.

    A member that was not sent, or that the operation does not have, is `None`.

    Attributes:
        operation: the service's name of it: `InvokeEndpoint`, `InvokeEndpointAsync` or
            `InvokeEndpointWithResponseStream`.
        endpoint_name: the endpoint that was called.
        body: what was sent; of an asynchronous invocation, what is at its `input_location`,
            too.
        content_type: the media type of the body.
        accept: the media type that is wished for the answer.
        custom_attributes: what was sent for the container beside the body.
        target_model: the model of a multi-model endpoint.
        target_variant: the production variant that is to answer.
        target_container_hostname: the container of an endpoint that has several.
        inference_id: the id that was given to the call.
        enable_explanations: a JMESPath expression that says which records are explained.
        inference_component_name: the inference component that is to answer.
        session_id: the session, or `NEW_SESSION`.
        prefix_aware_id: whose prompts begin alike.
        input_location: where the input is, `s3://…`; to a step for an operation of S3's, which is
            `operation` then, the object.
        s3_output_path_extension: what is put behind the output's path.
        filename: the name of the output.
        request_ttl_seconds: seconds that the request may wait in the queue.
        invocation_timeout_seconds: seconds that the model may take.
        path: of the container, at which a model server is asked: `/invocations`, or
            `/v1/chat/completions` for a request of the OpenAI-compatible route, whose `operation`
            is InvokeEndpoint, or InvokeEndpointWithResponseStream for `"stream": true`.
        headers: of the request, names in lower case, repeated ones joined by a comma.
        request_id: the id that its answer carries.
        attempt: the number of it in its call, counts from 1; SDKs say it in `amz-sdk-request`.
    """

    operation: str
    endpoint_name: str
    body: bytes = attrs.field(default=b"", repr=False)
    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = attrs.field(default=None, repr=False)
    target_model: str | None = None
    target_variant: str | None = None
    target_container_hostname: str | None = None
    inference_id: str | None = None
    enable_explanations: str | None = None
    inference_component_name: str | None = None
    session_id: str | None = None
    prefix_aware_id: str | None = None
    input_location: str | None = None
    s3_output_path_extension: str | None = None
    filename: str | None = None
    request_ttl_seconds: int | None = None
    invocation_timeout_seconds: int | None = None
    path: str = "/invocations"
    # How it came is no part of what was asked for.
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False, eq=False)
    request_id: str = attrs.field(default="", repr=False, eq=False)
    attempt: int = attrs.field(default=1, repr=False, eq=False)

    @property
    def has_frames(self) -> bool:
        """Whether its stream comes in frames: not on the OpenAI-compatible route."""
        return self.path == "/invocations"

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are U+FFFD in it."""
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:  # noqa: ANN401 - as `json.loads` has it
        """The body as a value.

        Raises:
            ValueError: it is no JSON, or too deep.
        """
        try:
            return json.loads(self.body)
        except RecursionError as error:
            raise ValueError(f"the body is too deep to be read: {error}") from error


ResponseBody: TypeAlias = "JSONValue | bytes | Iterator[bytes | str] | AsyncIterator[bytes | str]"
"""What a model may answer with: one value, or an iterator with one payload part each."""


def _check_header(_: object, attribute: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{attribute.name} must be a str, not {type(value).__qualname__}")
    if value is not None and re.search(r"[\r\n\0]", value):
        raise ValueError(f"{attribute.name} goes out as a header and contains CR, LF or NUL")


def _header() -> str | None:
    field: str | None = attrs.field(default=None, validator=_check_header)
    return field


@attrs.frozen(repr=False)
class ModelResponse(Shown):
    """An answer with more than a body.

    Without a `content_type` bytes are `application/octet-stream`, text is
    `text/plain; charset=utf-8` and any other value is `application/json`; an iterator is named
    for its first part.

    Attributes:
        body: one value, or an iterator with one payload part each.
        content_type: the media type of the answer.
        custom_attributes: what is said beside the answer.
        new_session_id: of a session that is opened: the id, or
            `<id>; Expires=<yyyy-mm-ddThh:mm:ssZ>`; where the request asks for one, and there is
            none here, the endpoint makes one that the model does not get to know.
        closed_session_id: of a session that is closed.
        invoked_production_variant: the variant that answered; `None` is the one asked for,
            or AllTraffic.

    Raises:
        ValueError: a value that no header can carry.
    """

    body: ResponseBody = attrs.field(repr=False)
    content_type: str | None = _header()
    custom_attributes: str | None = attrs.field(default=None, validator=_check_header, repr=False)
    new_session_id: str | None = _header()
    closed_session_id: str | None = _header()
    invoked_production_variant: str | None = _header()


class ModelFailure(Exception):
    """Raised by a model to fail as a container does that answers with this HTTP status.

    Attributes:
        status: what the caller sees as `OriginalStatusCode`, usually 400 to 599.
        message: what the caller sees as `OriginalMessage`.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


Model: TypeAlias = Callable[[InvocationRequest], object]
"""A function of one `InvocationRequest`, sync (run in a thread) or async.

It returns a `ResponseBody`, a `ModelResponse`, or an awaitable of either. A `ModelFailure` that it
raises is a ModelError of the service; a service error, such as `aiosmrt.ThrottlingException("slow
down")`, is answered as it is.
"""


def echo(request: InvocationRequest) -> ModelResponse:
    """Answer with the request: the built-in model.

    InvokeEndpoint gives JSON, `{"echo": <the body as text>, "bytes": <its length>}`; a stream
    gives the body back, one word with the white space after it per part.
    """
    if request.operation == "InvokeEndpointWithResponseStream":
        words = (match[0] for match in re.finditer(rb"\s*\S+\s*|\s+", request.body))
        return ModelResponse(
            words, content_type=request.content_type, custom_attributes=request.custom_attributes
        )
    text = request.body.decode("utf-8", "replace")
    return ModelResponse(
        {"echo": text, "bytes": len(request.body)}, custom_attributes=request.custom_attributes
    )


def load_model(reference: str) -> Model:
    """Import the model that `package.module:function` names, from the current folder first.

    Raises:
        ConfigurationError: the reference is malformed, the module cannot be imported, or what it
            names is missing or not callable.
    """
    module_name, colon, path = reference.partition(":")
    if not (module_name and colon and path):
        raise ConfigurationError(
            f"model {reference!r}: write it as package.module:function, for instance app.model:run"
        )
    folder = os.getcwd()  # noqa: PTH109 - sys.path holds str
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigurationError(
            f"model {reference!r}: importing {module_name} failed "
            f"({type(error).__name__}: {error}); modules are searched in {folder} and in "
            "Python's own path"
        ) from error
    try:
        model: object = functools.reduce(getattr, path.split("."), module)
    except AttributeError as error:
        raise ConfigurationError(f"model {reference!r}: {error}") from error
    if not callable(model):
        raise ConfigurationError(
            f"model {reference!r} is a {type(model).__name__}, not something to call"
        )
    return model
