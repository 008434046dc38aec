"""An asyncio-native client for the Amazon SageMaker Runtime API."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from aiosmrt.config import UNSIGNED, Config, Credentials, RetryPolicy, Timeout
from aiosmrt.errors import (
    AiosmrtError,
    AsyncInferenceError,
    ClientClosed,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    CredentialsError,
    CredentialsTimeout,
    EventStreamError,
    FirstByteTimeout,
    IdleTimeout,
    InternalDependencyException,
    InternalFailure,
    InternalStreamFailure,
    InvalidHeader,
    InvalidJSON,
    InvalidLength,
    InvalidText,
    MessageChecksumMismatch,
    ModelError,
    ModelNotReadyException,
    ModelStreamError,
    ParameterError,
    PayloadError,
    PayloadTooLarge,
    PreludeChecksumMismatch,
    ServiceError,
    ServiceUnavailable,
    SessionExpired,
    SlotTimeout,
    StreamClosed,
    StreamConnectionLost,
    ThrottlingException,
    TimeLimitError,
    TooManyFailures,
    TooManyOpenFiles,
    TotalTimeout,
    TransportError,
    TruncatedStream,
    UnexpectedMessage,
    UnexpectedResponse,
    ValidationError,
    WriteTimeout,
)
from aiosmrt.hooks import (
    AfterHeaders,
    BeforeSend,
    Ending,
    Hook,
    Hooks,
    OnEnd,
    OnFirstPart,
    OnParts,
    OnRetry,
    OnStart,
    Service,
)
from aiosmrt.models import (
    AsyncInferenceOutput,
    Attempt,
    BearerToken,
    ClientStats,
    ConcurrencyLimit,
    InvokeEndpointAsyncResponse,
    InvokeEndpointResponse,
    JSONValue,
    PayloadPart,
    ResponseMetadata,
)
from aiosmrt.service import (
    BinaryFile,
    Body,
    CallOptions,
    ClientOptions,
    InvokeEndpointAsyncParameters,
    InvokeEndpointParameters,
    InvokeEndpointWithResponseStreamParameters,
    SessionBody,
    SessionParameters,
)
from aiosmrt.version import __version__

# What a first `invoke_endpoint` can do without is imported when it is asked for. Type checkers must
# not see how: for them, any name would do.
if TYPE_CHECKING:
    from aiosmrt import asgi, batch, eventstream, sse
    from aiosmrt import openai as openai  # in no `__all__`, since it needs an extra, as the next
    from aiosmrt import otel as otel
    from aiosmrt.async_inference import AsyncInferenceResult, AsyncInferenceTimeout, AsyncInvocation
    from aiosmrt.batch import Outcome
    from aiosmrt.client import SageMakerRuntimeClient
    from aiosmrt.payload import ChatAccumulator, ChatChunk, ChatMessage, ToolCall
    from aiosmrt.response_stream import ResponseStream, ResponseStreamOpening
    from aiosmrt.sessions import StatefulSession
else:
    _LATE = {
        "AsyncInferenceResult": "aiosmrt.async_inference.results",
        "AsyncInferenceTimeout": "aiosmrt.async_inference.invocation",
        "AsyncInvocation": "aiosmrt.async_inference.invocation",
        "ChatAccumulator": "aiosmrt.payload",
        "ChatChunk": "aiosmrt.payload",
        "ChatMessage": "aiosmrt.payload",
        "Outcome": "aiosmrt.batch",
        "ResponseStream": "aiosmrt.response_stream",
        "ResponseStreamOpening": "aiosmrt.response_stream",
        "ToolCall": "aiosmrt.payload",
        "StatefulSession": "aiosmrt.sessions",
        # With it comes aiohttp, which a fresh pytest is not to import for its plugin's sake.
        "SageMakerRuntimeClient": "aiosmrt.client",
        "asgi": "aiosmrt.asgi",
        "batch": "aiosmrt.batch",
        "eventstream": "aiosmrt.eventstream",
        "openai": "aiosmrt.openai",
        "otel": "aiosmrt.otel",
        "sse": "aiosmrt.sse",
    }

    def __getattr__(name: str) -> object:
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(_LATE[name])
        # Some of the names are modules, which have no name like their own.
        value = globals()[name] = getattr(module, name, module)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LATE})


__all__ = [
    "UNSIGNED",
    "AfterHeaders",
    "AiosmrtError",
    "AsyncInferenceError",
    "AsyncInferenceOutput",
    "AsyncInferenceResult",
    "AsyncInferenceTimeout",
    "AsyncInvocation",
    "Attempt",
    "BearerToken",
    "BeforeSend",
    "BinaryFile",
    "Body",
    "CallOptions",
    "ChatAccumulator",
    "ChatChunk",
    "ChatMessage",
    "ClientClosed",
    "ClientOptions",
    "ClientStats",
    "ConcurrencyLimit",
    "Config",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionLost",
    "Credentials",
    "CredentialsError",
    "CredentialsTimeout",
    "Ending",
    "EventStreamError",
    "FirstByteTimeout",
    "Hook",
    "Hooks",
    "IdleTimeout",
    "InternalDependencyException",
    "InternalFailure",
    "InternalStreamFailure",
    "InvalidHeader",
    "InvalidJSON",
    "InvalidLength",
    "InvalidText",
    "InvokeEndpointAsyncParameters",
    "InvokeEndpointAsyncResponse",
    "InvokeEndpointParameters",
    "InvokeEndpointResponse",
    "InvokeEndpointWithResponseStreamParameters",
    "JSONValue",
    "MessageChecksumMismatch",
    "ModelError",
    "ModelNotReadyException",
    "ModelStreamError",
    "OnEnd",
    "OnFirstPart",
    "OnParts",
    "OnRetry",
    "OnStart",
    "Outcome",
    "ParameterError",
    "PayloadError",
    "PayloadPart",
    "PayloadTooLarge",
    "PreludeChecksumMismatch",
    "ResponseMetadata",
    "ResponseStream",
    "ResponseStreamOpening",
    "RetryPolicy",
    "SageMakerRuntimeClient",
    "Service",
    "ServiceError",
    "ServiceUnavailable",
    "SessionBody",
    "SessionExpired",
    "SessionParameters",
    "SlotTimeout",
    "StatefulSession",
    "StreamClosed",
    "StreamConnectionLost",
    "ThrottlingException",
    "TimeLimitError",
    "Timeout",
    "TooManyFailures",
    "TooManyOpenFiles",
    "ToolCall",
    "TotalTimeout",
    "TransportError",
    "TruncatedStream",
    "UnexpectedMessage",
    "UnexpectedResponse",
    "ValidationError",
    "WriteTimeout",
    "__version__",
    "asgi",
    "batch",
    "eventstream",
    "sse",
]
