"""What SageMaker Runtime is: its model, operations, parameters, rules and failures.

Pure: it neither waits nor opens anything.
"""

from __future__ import annotations

from aiosmrt.service.failures import (
    LATE_REQUEST_CODES,
    lacks_capacity,
    lacks_endpoint,
    refuses_session,
    took_its_time,
)
from aiosmrt.service.model import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_ASYNC,
    INVOKE_ENDPOINT_WITH_RESPONSE_STREAM,
    OPERATIONS,
    THROTTLING_CODES,
    Operation,
    spell,
)
from aiosmrt.service.openai_route import place_openai_route
from aiosmrt.service.operations import (
    build_request,
    check_names,
    check_stream_head,
    parse_error,
    parse_invocation,
    parse_message,
    parse_response,
    parse_session,
    read_request_id,
    respell,
)
from aiosmrt.service.parameters import (
    Arguments,
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
from aiosmrt.service.validation import (
    CONSTRAINTS,
    check_headers,
    check_parameters,
    find_problems,
)

__all__ = [
    "CONSTRAINTS",
    "INVOKE_ENDPOINT",
    "INVOKE_ENDPOINT_ASYNC",
    "INVOKE_ENDPOINT_WITH_RESPONSE_STREAM",
    "LATE_REQUEST_CODES",
    "OPERATIONS",
    "THROTTLING_CODES",
    "Arguments",
    "BinaryFile",
    "Body",
    "CallOptions",
    "ClientOptions",
    "InvokeEndpointAsyncParameters",
    "InvokeEndpointParameters",
    "InvokeEndpointWithResponseStreamParameters",
    "Operation",
    "SessionBody",
    "SessionParameters",
    "build_request",
    "check_headers",
    "check_names",
    "check_parameters",
    "check_stream_head",
    "find_problems",
    "lacks_capacity",
    "lacks_endpoint",
    "parse_error",
    "parse_invocation",
    "parse_message",
    "parse_response",
    "parse_session",
    "place_openai_route",
    "read_request_id",
    "refuses_session",
    "respell",
    "spell",
    "took_its_time",
]
