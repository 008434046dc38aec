"""What spans and metrics say of a call, in the names of the conventions; all values are bounded."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import urlsplit

import attrs

from aiosmrt.errors import AiosmrtError, Attempt, ModelError, ServiceError
from aiosmrt.errors import __all__ as error_names
from aiosmrt.hooks import OnEnd, OnStart, Service
from aiosmrt.plain_text import to_line

__all__ = [
    "ERROR_TYPE",
    "Attributes",
    "Names",
    "describe_attempt",
    "describe_end",
    "describe_server",
    "describe_start",
    "find_error_type",
    "name_call",
]

Attributes: TypeAlias = dict[str, str | int | float | bool]

ERROR_TYPE = "error.type"
_ENDPOINT = "aws.sagemaker.endpoint.name"
_REQUEST_ID = "aws.request_id"
_STATUS = "http.response.status_code"

# As the SDKs call them.
_SERVICES: dict[Service, str] = {"sagemaker-runtime": "SageMaker Runtime", "s3": "S3"}
# What is nobody's name, but something that was taken for one, makes no series of its own.
_OTHER = "_OTHER"
# Each error type is a series of its own, and no SDK has to bound their number: a gateway that makes
# up codes gets so many. The package's own names are never crowded out.
_MOST_FOREIGN = 100
_own_types = frozenset(error_names)
_foreign_types: set[str] = set()
_LENGTH = 256


@attrs.frozen(eq=False)
class Names:
    """What calls of one operation on one endpoint have in common."""

    span: str
    endpoint_name: str  # bounded
    attributes: Attributes  # of spans
    dimensions: Attributes  # of metrics


@lru_cache(maxsize=1024)
def name_call(service: Service, operation: str, endpoint_name: str) -> Names:
    """Give the names of a call, by the conventions of RPC and of AWS SDKs."""
    name = _SERVICES[service]
    dimensions: Attributes = {
        "rpc.system.name": "aws-api",
        "rpc.method": f"{name}/{operation}",
    }
    # Those of AWS SDKs still ask for what those of RPC have given up.
    attributes: Attributes = {**dimensions, "rpc.system": "aws-api", "rpc.service": name}
    if service == "s3":
        bucket, _, key = endpoint_name.removeprefix("s3://").partition("/")
        dimensions["aws.s3.bucket"] = attributes["aws.s3.bucket"] = _bound(bucket)
        if key:
            attributes["aws.s3.key"] = key[:1024]
        return Names(f"{name}.{operation}", "", attributes, dimensions)
    if not re.fullmatch(r"[0-9A-Za-z-]{0,63}", endpoint_name):
        endpoint_name = _OTHER
    if endpoint_name:
        dimensions[_ENDPOINT] = attributes[_ENDPOINT] = endpoint_name
    return Names(f"{name}.{operation}", endpoint_name, attributes, dimensions)


def describe_start(event: OnStart) -> Names:
    """Give the names of a call that begins."""
    return name_call(event.service, event.operation, event.endpoint_name)


@lru_cache(maxsize=64)
def describe_server(origin: str | None) -> Attributes:
    """Give the address and the port of an origin."""
    if origin is None:
        return {}
    url = urlsplit(origin)
    port = url.port or (443 if url.scheme == "https" else 80)
    return {"server.address": url.hostname or "", "server.port": port}


def find_error_type(event: OnEnd) -> str | None:
    """Give the service's code or the error's class; `None` for what is no error."""
    if event.outcome == "cancelled":
        return "cancelled"
    return None if event.error is None else _name_error(event.error)


def describe_end(event: OnEnd) -> Attributes:
    """Give what a span says of how its call went."""
    attributes: Attributes = {
        "aiosmrt.call_id": event.call_id,
        "aiosmrt.outcome": event.outcome,
        "aiosmrt.attempts": len(event.attempts),
        "aiosmrt.slot_wait": sum(attempt.slot_wait for attempt in event.attempts),
        **describe_server(event.origin),
    }
    optional: dict[str, str | int | float | bool | None] = {
        "cloud.region": event.region_name,
        "aiosmrt.parts_received": event.parts_received,
        "aiosmrt.bytes_received": event.bytes_received,
        **_describe_answer(event),
        **_describe_error(event),
    }
    attributes.update((name, value) for name, value in optional.items() if value is not None)
    return attributes


def describe_attempt(attempt: Attempt) -> Attributes:
    """Give what an event says of an attempt."""
    described: dict[str, str | int | float | bool | None] = {
        "aiosmrt.attempt.number": attempt.number,
        "aiosmrt.attempt.slot_wait": attempt.slot_wait,
        "aiosmrt.attempt.credentials_wait": attempt.credentials_wait or None,
        "aiosmrt.attempt.pace_wait": attempt.pace_wait or None,
        "aiosmrt.attempt.capacity_wait": attempt.capacity_wait or None,
        "aiosmrt.attempt.duration": attempt.duration,
        "aiosmrt.attempt.may_have_run": attempt.may_have_run,
        "aiosmrt.attempt.delay": attempt.delay,
        ERROR_TYPE: None if attempt.error is None else bound_error_type(attempt.error),
        _STATUS: attempt.status,
        _REQUEST_ID: None if attempt.request_id is None else _bound(attempt.request_id),
    }
    return {name: value for name, value in described.items() if value is not None}


def _describe_answer(event: OnEnd) -> dict[str, str | int | float | None]:
    last = event.attempts[-1] if event.attempts else None
    metadata = event.metadata
    if metadata is None:
        return {
            _STATUS: None if last is None else last.status,
            _REQUEST_ID: _bound_optional(None if last is None else last.request_id),
        }
    variant = metadata.headers.get("x-amzn-invoked-production-variant")
    return {
        _STATUS: metadata.status,
        _REQUEST_ID: _bound_optional(metadata.request_id),
        "aws.extended_request_id": _bound_optional(metadata.headers.get("x-amz-id-2")),
        "aws.sagemaker.production_variant.name": _bound_optional(variant),
        "aiosmrt.time_to_first_byte": metadata.time_to_first_byte,
    }


def _describe_error(event: OnEnd) -> dict[str, str | int | bool | None]:
    error = event.error
    original = error.original_status_code if isinstance(error, ModelError) else None
    return {
        ERROR_TYPE: find_error_type(event),
        "aiosmrt.may_have_run": error.may_have_run if isinstance(error, AiosmrtError) else None,
        # What is no status may be longer than what exporters take for a number.
        "aws.sagemaker.original_status_code": original if original in range(1000) else None,
    }


def _name_error(error: BaseException) -> str:
    return bound_error_type(error.code if isinstance(error, ServiceError) else type(error).__name__)


def bound_error_type(name: str) -> str:
    """Give a code that somebody has sent as it is, if it looks like one and is one of few."""
    if name in _own_types or name in _foreign_types:
        return name
    if len(_foreign_types) == _MOST_FOREIGN:
        return _OTHER
    if not re.fullmatch(r"[A-Za-z_][0-9A-Za-z_.]{0,63}|[1-5][0-9][0-9]", name):
        return _OTHER
    _foreign_types.add(name)
    return name


def _bound(text: str) -> str:
    return to_line(text)[:_LENGTH]


def _bound_optional(text: str | None) -> str | None:
    return None if text is None else _bound(text)
