"""The parameters of the operations, typed for editors and type checkers.

They are keyword arguments in the service's words, in snake_case. A test compares them with
`aiosmrt.service.model`.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, Awaitable, Collection, Mapping
from typing import Any, Protocol, TypeAlias, TypedDict

from aiosmrt.config import CredentialsSource, Path, RetryPolicy, Timeout
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

    headers: Mapping[str, str] | None  # more headers, for a field newer than this release
    timeout: Timeout | float | None  # for this call; a number is the total, in seconds
    json: object  # written as the body; None is none


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
