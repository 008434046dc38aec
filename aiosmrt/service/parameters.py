"""The parameters of the operations, typed for editors and type checkers.

They are keyword arguments in the service's words, in snake_case. A test compares them with
`aiosmrt.service.model`.
"""

from __future__ import annotations

import inspect
import ssl
from collections.abc import AsyncIterable, Awaitable, Collection, Mapping
from typing import Any, Protocol, TypeAlias, TypedDict

from aiosmrt.config import Config, CredentialsSource, Path, RetryPolicy, Timeout
from aiosmrt.hooks import Hooks
from aiosmrt.http import Session
from aiosmrt.redaction import redact

__all__ = [
    "Arguments",
    "BinaryFile",
    "Body",
    "CallOptions",
    "ClientOptions",
    "InvokeEndpointAsyncParameters",
    "InvokeEndpointParameters",
    "InvokeEndpointWithResponseStreamParameters",
    "SessionBody",
    "SessionParameters",
]


class BinaryFile(Protocol):
    """An open file, binary or (its text encoded as UTF-8) text; `read` may be to be awaited."""

    def read(self, size: int, /) -> bytes | str | Awaitable[bytes | str]:
        """Give up to `size` bytes or characters, nothing at the end."""


Body: TypeAlias = (
    bytes | bytearray | memoryview | str | BinaryFile | AsyncIterable[bytes] | AsyncIterable[str]
)
"""What a body can be given as; text is encoded as UTF-8."""


class CallOptions(TypedDict, total=False):
    """What every call takes beside the operation's parameters."""

    headers: Mapping[str, str] | None
    timeout: Timeout | float | None
    json: object


class _Common(CallOptions, total=False):
    endpoint_name: str
    content_type: str | None
    accept: str | None
    custom_attributes: str | None
    inference_id: str | None


class _Routing(_Common, total=False):
    body: Body
    target_variant: str | None
    target_container_hostname: str | None
    inference_component_name: str | None
    session_id: str | None
    prefix_aware_id: str | None


class InvokeEndpointParameters(_Routing, total=False):
    """Parameters of `invoke_endpoint`."""

    target_model: str | None
    enable_explanations: str | None


class InvokeEndpointWithResponseStreamParameters(_Routing, total=False):
    """Parameters of `invoke_endpoint_with_response_stream`."""


class InvokeEndpointAsyncParameters(_Common, total=False):
    """Parameters of `invoke_endpoint_async`."""

    body: Body | None
    input_location: str | None
    s3_output_path_extension: str | None
    filename: str | None
    request_ttl_seconds: int | None
    invocation_timeout_seconds: int | None


SessionBody: TypeAlias = bytes | str | Mapping[str, object]
"""What opens or closes a session, as its container wants it; a mapping is written as JSON."""


class SessionParameters(TypedDict, total=False):
    """Parameters that the calls of a session have in common; a call's own win."""

    endpoint_name: str
    content_type: str | None
    accept: str | None
    custom_attributes: str | None
    target_model: str | None
    target_variant: str | None
    target_container_hostname: str | None
    inference_component_name: str | None
    prefix_aware_id: str | None
    headers: Mapping[str, str] | None
    timeout: Timeout | float | None


_MEANINGS = {
    "accept": "the media type that is wished for the answer.",
    "body": "what the model is given: up to 6,291,456 bytes, or 128,000 inline and asynchronously.",
    "content_type": "the media type of the body.",
    "custom_attributes": "forwarded to the container as it is: up to 1,024 characters of ASCII.",
    "enable_explanations": "a JMESPath expression in place of the endpoint's, for Clarify.",
    "endpoint_name": "the endpoint to call.",
    "filename": "the name of the output in S3; without it the service makes one of the id.",
    "headers": "more headers, for a field newer than this release.",
    "inference_component_name": "the component to call, where the endpoint has some.",
    "inference_id": "an id of the call: of captured data, or of the asynchronous invocation.",
    "input_location": "where the input is, `s3://bucket/key`, in place of a body.",
    "invocation_timeout_seconds": "seconds that the model may take: 1 to 3,600, 900 by default.",
    "json": "a value to be written as JSON in place of a body; `None` is none.",
    "prefix_aware_id": "calls with one id and prompts that begin alike go to one instance.",
    "request_ttl_seconds": "seconds that it may wait in the queue: 60 to 21,600, the default.",
    "s3_output_path_extension": "put behind the endpoint's path of outputs.",
    "session_id": "of a stateful session; `NEW_SESSION` opens one.",
    "target_container_hostname": "the container to call, where the endpoint has several.",
    "target_model": "the model to call, where the endpoint has many.",
    "target_variant": "the production variant to call, whatever the weights.",
    "timeout": "of this call; a number is the total, in seconds.",
}


def _document(*kinds: type) -> None:
    """Put the keys of typed dicts where `help()` shows them: it lists none that are inherited."""
    for kind in kinds:
        keys = "".join(f"    {key}: {_MEANINGS[key]}\n" for key in kind.__annotations__)
        kind.__doc__ = f"{kind.__doc__}\n\nAttributes:\n{keys}"


_document(
    CallOptions,
    InvokeEndpointParameters,
    InvokeEndpointWithResponseStreamParameters,
    InvokeEndpointAsyncParameters,
    SessionParameters,
)


class Arguments:
    """What a call was given, in an object whose repr does not show it.

    Attributes:
        parameters: of the operation, by our names; what belongs to the call is put into them until
            they are complete.
        headers: more headers.
        timeout: for this call; a number is the total, in seconds.
        json: what is still to be written as the body; None where nothing is.
    """

    __slots__ = ("headers", "json", "parameters", "timeout")

    def __init__(self, given: CallOptions) -> None:
        self.parameters: dict[str, Any] = {**given}
        self.headers: Mapping[str, str] = self.parameters.pop("headers", None) or {}
        self.timeout: Timeout | float | None = self.parameters.pop("timeout", None)
        self.json: object = self.parameters.pop("json", None)

    def __repr__(self) -> str:
        return f"Arguments({redact(getattr(self, 'parameters', None))})"


class ClientOptions(TypedDict, total=False):
    """The options of a client: the fields of `aiosmrt.Config`."""

    region_name: str | None
    endpoint_url: str | None
    aws_access_key_id: str | None
    aws_secret_access_key: str | None
    aws_session_token: str | None
    profile_name: str | None
    credentials: CredentialsSource | None
    use_ssl: bool
    verify: bool | Path | ssl.SSLContext | None
    use_fips_endpoint: bool | None
    use_dualstack_endpoint: bool | None
    max_connections: int
    keep_alive: float | None
    max_connection_age: float | None
    session: Session | None
    timeout: Timeout | float | None
    retry: RetryPolicy | None
    parameter_validation: bool | Collection[str]
    params: Mapping[str, object]
    headers: Mapping[str, str]
    api_version: str
    signature_version: object
    correct_clock_skew: bool
    system_clock_offset: float
    proxy: str | None
    proxy_headers: Mapping[str, str]
    proxy_verify: bool | Path | ssl.SSLContext | None
    proxy_client_cert: Path | tuple[Path, Path] | None
    client_cert: Path | tuple[Path, Path] | None
    hooks: Hooks | None
    user_agent_extra: str | None
    user_agent_appid: str | None
    s3_endpoint_url: str | None
    s3_input_prefix: str | None
    s3_put_headers: Mapping[str, str]
    s3_expected_bucket_owner: str | None
    poll_interval: float
    max_poll_interval: float


# `help()` of the one is as good as that of the other.
_OPTIONS = inspect.cleandoc(Config.__doc__ or "").partition("Attributes:")[2]
ClientOptions.__doc__ = f"{ClientOptions.__doc__}\n\nAttributes:{_OPTIONS}"
