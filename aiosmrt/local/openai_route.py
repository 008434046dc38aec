"""The OpenAI-compatible route: requests, and errors in OpenAI's envelope. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import unquote

import attrs

from aiosmrt.errors import ModelError, ParameterError, ServiceError
from aiosmrt.local.answers import make_validation_error
from aiosmrt.local.model import InvocationRequest
from aiosmrt.service import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_WITH_RESPONSE_STREAM,
    check_parameters,
    spell,
)

__all__ = ["OpenAIRoute", "encode_openai_error", "find_openai_route"]

_PATH = re.compile(
    r"/endpoints/(?P<endpoint>[^/]+)(?:/inference-components/(?P<component>[^/]+))?"
    r"/openai/v1(?P<rest>/.*)?"
)
_SERVED = "/chat/completions"
_COMPONENT = "x-amzn-sagemaker-inference-component"
_COMPONENT_HEADER = (
    f"the header {_COMPONENT} has no place here: a component is named by the path, "
    "/endpoints/<name>/inference-components/<component>/openai/v1"
)
_SERVER_ERRORS = range(500, 600)  # statuses


@attrs.frozen
class OpenAIRoute:
    """What a path names: an endpoint, a component of it, and the rest, `/chat/completions`."""

    endpoint_name: str
    inference_component_name: str | None
    rest: str

    def read(self, method: str, headers: Mapping[str, str], body: bytes) -> InvocationRequest:
        """Read and check a request; header names are in lower case.

        Of the headers, a model sees the media types alone: what else InvokeEndpoint takes is not
        described for this route.

        Raises:
            ServiceError: 404 for another method or place, 400 for what breaks a rule.
        """
        if (method, self.rest) != ("POST", _SERVED):
            raise ServiceError(
                f"{method} {self.rest or '/'} is not served; there is POST {_SERVED} alone",
                code="NotFoundException",
                status=404,
            )
        if _COMPONENT in headers:
            raise make_validation_error((_COMPONENT_HEADER,))
        given = {
            "endpoint_name": self.endpoint_name,
            "inference_component_name": self.inference_component_name,
            "content_type": headers.get("content-type"),
            "accept": headers.get("accept"),
            "body": body,
        }
        try:
            check_parameters(INVOKE_ENDPOINT, given)
        except ParameterError as error:
            raise make_validation_error(error.problems) from error
        streams = _read_object(body).get("stream") is True
        operation = INVOKE_ENDPOINT_WITH_RESPONSE_STREAM if streams else INVOKE_ENDPOINT
        return InvocationRequest(operation.name, path=f"/v1{_SERVED}", **given)  # type: ignore[arg-type]  # they are checked


def find_openai_route(path: str) -> OpenAIRoute | None:
    """Read a path as on the wire; `None` where it is none of this route."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    component = found["component"]
    return OpenAIRoute(
        unquote(found["endpoint"]),
        None if component is None else unquote(component),
        found["rest"] or "",
    )


def encode_openai_error(error: ServiceError) -> tuple[dict[str, str], bytes]:
    """Give the headers and the body of an error as OpenAI's clients read it."""
    is_servers = isinstance(error, ModelError) or error.status in _SERVER_ERRORS
    fields = {
        "message": error.message,
        "type": "server_error" if is_servers else "invalid_request_error",
        "param": None,
        "code": spell(error.code.removesuffix("Exception")),
    }
    return {"Content-Type": "application/json"}, json.dumps({"error": fields}).encode()


def _read_object(body: bytes) -> dict[str, object]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise make_validation_error((f"the body is no JSON: {error}",)) from error
    if not isinstance(parsed, dict):
        raise make_validation_error(("the body is no JSON object",))
    return parsed
