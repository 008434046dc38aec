"""The service model's constraints, checked before a byte goes out. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from aiosmrt.errors import ParameterError
from aiosmrt.service.model import INVOKE_ENDPOINT_ASYNC, Member, Operation, Shape
from aiosmrt.tracebacks import hides_locals

__all__ = ["CONSTRAINTS", "check_headers", "check_parameters", "find_problems"]

CONSTRAINTS = frozenset({"min", "max", "pattern", "enum"})

_TYPES: dict[str, type[str | int | bytes]] = {"string": str, "integer": int, "blob": bytes}
_ACCEPTED = {
    "string": "a str",
    "integer": "an int",
    "blob": "bytes, bytearray, memoryview, str, an open file or an async iterable of bytes",
}
_UNITS = {"string": " characters", "integer": "", "blob": " bytes"}

# RFC 9110 section 5.6.2: what a header's name may consist of.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# What no field value may hold (RFC 9110, section 5.5), and what UTF-8 has no bytes for.
_FORBIDDEN_IN_VALUES = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_FORBIDDEN = "contains CR, LF or NUL, or what else no header can hold"

# Headers that follow from the request itself; one given by hand would break it or its signature.
_RESERVED = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-security-token",
    }
)


def check_parameters(
    operation: Operation,
    parameters: Mapping[str, object],
    *,
    constraints: Collection[str] = CONSTRAINTS,
) -> None:
    """Check the parameters of a call, `None` standing for one that was not given.

    Presence, types and what HTTP cannot carry are always checked; of the service model's
    constraints, those named.

    Raises:
        ParameterError: with every problem of the call.
    """
    problems = [
        f"{member.parameter} is required"
        for member in operation.required
        if parameters.get(member.parameter) is None
    ]
    problems += find_problems(operation, parameters, constraints)
    if operation is INVOKE_ENDPOINT_ASYNC:
        problems.extend(_check_input(parameters))
    if problems:
        several = "; ".join(problems)
        raise ParameterError(f"{operation.name} was not sent: {several}", problems=problems)


def find_problems(
    operation: Operation,
    parameters: Mapping[str, object],
    constraints: Collection[str] = CONSTRAINTS,
) -> list[str]:
    """Say what is wrong with each of some parameters of an operation."""
    problems: list[str] = []
    for name, value in parameters.items():
        if value is None:
            continue
        member = operation.parameters[name]
        if member.location == "uri" and not value:
            # Always refused: the request would go to another path.
            problems.append(f"{member.parameter} must not be empty")
        elif value.__class__ is str and not member.shape.sensitive:
            # Most texts are those of the call before.
            problems += _check_again(member, value, frozenset(constraints))
        elif (
            value.__class__ is not bytes
            or member.location != "payload"
            or _is_beyond(member.shape, len(value))
        ):
            problems += _check(member, value, constraints)
    return problems


@hides_locals
def check_headers(
    headers: Mapping[str, str], taken: Collection[str] = (), *, option: str = "headers"
) -> None:
    """Check headers given by hand.

    Args:
        headers: by their names.
        taken: names (lower case) that parameters have set.
        option: what they were given as.

    Raises:
        ParameterError: with every problem.
    """
    problems = []
    given: Iterable[tuple[object, object]] = headers.items()
    for name, value in given:
        if not isinstance(name, str) or not isinstance(value, str):
            problems.append(f"{option}: name and value of {name!r} must be str")
        elif not _TOKEN.fullmatch(name):
            problems.append(f"{option}: {name!r} is not a header name (RFC 9110 section 5.6.2)")
        elif name.lower() in _RESERVED:
            problems.append(f"{option}: {name} is set by the client itself")
        elif name.lower() in taken:
            problems.append(f"{option}: {name} is already set by a parameter of the call")
        elif _FORBIDDEN_IN_VALUES.search(value):
            problems.append(f"{option}: {name} {_FORBIDDEN}")
    if problems:
        raise ParameterError("; ".join(problems), problems=problems)


def _check_input(parameters: Mapping[str, object]) -> Iterator[str]:
    # The API reference asks for exactly one of the two; the model itself requires neither.
    # An empty body is none on the wire.
    given = [name for name in ("body", "input_location") if parameters.get(name) not in (None, b"")]
    if not given:
        yield "one of body and input_location is required"
    elif len(given) > 1:
        yield "body and input_location exclude each other"


def _is_beyond(shape: Shape, size: int) -> bool:
    return shape.max is not None and size > shape.max


def _check(member: Member, value: object, constraints: Collection[str]) -> Iterator[str]:
    name, shape = member.parameter, member.shape
    if not isinstance(value, _TYPES[shape.kind]) or isinstance(value, bool):
        yield f"{name} must be {_ACCEPTED[shape.kind]}, not {type(value).__qualname__}"
        return
    if isinstance(value, str):
        yield from _check_text(name, shape, value, constraints)
    size = value if isinstance(value, int) else len(value)
    unit = _UNITS[shape.kind]
    if "min" in constraints and shape.min is not None and size < shape.min:
        yield f"{name} must be at least {shape.min}{unit}, not {size}"
    if "max" in constraints and shape.max is not None and size > shape.max:
        yield f"{name} must be at most {shape.max}{unit}, not {size}"


@functools.lru_cache(1024)
def _check_again(member: Member, value: str, constraints: frozenset[str]) -> tuple[str, ...]:
    return tuple(_check(member, value, constraints))


def _check_text(name: str, shape: Shape, value: str, constraints: Collection[str]) -> Iterator[str]:
    shown = "" if shape.sensitive else f", not {value!r}"
    if _FORBIDDEN_IN_VALUES.search(value):
        yield f"{name} {_FORBIDDEN}"
    elif "pattern" in constraints and shape.pattern and not _match(shape.pattern, value):
        yield f"{name} must match {shape.pattern}{shown}"
    if "enum" in constraints and shape.enum and value not in shape.enum:
        yield f"{name} must be one of {', '.join(shape.enum)}{shown}"


def _match(pattern: str, value: str) -> bool:
    # The service matches whole values: CreateEndpoint, with the same pattern, refuses "a b".
    return _compile(pattern).fullmatch(value) is not None


@functools.cache
def _compile(pattern: str) -> re.Pattern[str]:
    """Translate the few words of Java's regular expressions that the model uses."""
    for java, python in (
        (r"[\p{Print}]", r"[\x20-\x7e]"),
        (r"\p{ASCII}", r"[\x00-\x7f]"),
        (r"\z", r"\Z"),
    ):
        pattern = pattern.replace(java, python)
    return re.compile(pattern)
