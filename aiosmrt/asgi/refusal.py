"""What a browser is answered where a call failed before its first part."""

from __future__ import annotations

import json
import math

import attrs

from aiosmrt.calls import FailureKind, classify, read_retry_after
from aiosmrt.errors import (
    AiosmrtError,
    ClientClosed,
    ConfigurationError,
    CredentialsError,
    EventStreamError,
    InternalDependencyException,
    ModelNotReadyException,
    ParameterError,
    PayloadError,
    ServiceError,
    ServiceUnavailable,
    SlotTimeout,
    TimeLimitError,
    TooManyOpenFiles,
    TransportError,
    UnexpectedResponse,
)
from aiosmrt.service import lacks_capacity

__all__ = ["Refusal", "refuse"]

_BUSY = frozenset({429, 503})
_BAD_GATEWAY = 502
_PASSED_ON = frozenset({503, 504})

# The first that an error is, from the particular to the general. A gateway's 502 says that who
# stands behind it is at fault: the service's refusal of a request that this package found sound
# (no such endpoint, no permission) is the program's, and never the browser's.
_STATUSES: tuple[tuple[type[AiosmrtError], int], ...] = (
    (ParameterError, 400),
    (ModelNotReadyException, 503),
    (ServiceUnavailable, 503),
    (InternalDependencyException, 503),
    (SlotTimeout, 503),
    (TooManyOpenFiles, 503),
    (ClientClosed, 503),
    (TimeLimitError, 504),
    (ConfigurationError, 500),
    (CredentialsError, 500),
    (ServiceError, _BAD_GATEWAY),
    (TransportError, _BAD_GATEWAY),
    (EventStreamError, _BAD_GATEWAY),
    (PayloadError, _BAD_GATEWAY),
    (UnexpectedResponse, _BAD_GATEWAY),
    (AiosmrtError, 500),
)

# Seconds: where the service asked for none, and where it asked for more than anybody waits.
_LEAST_PAUSE, _LONGEST_PAUSE = 1, 3600


@attrs.frozen
class Refusal:
    """An answer that is a failure."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes  # JSON: {"error": the error's public text}


def refuse(error: AiosmrtError) -> Refusal:
    """Give the answer for a call that failed before its first part.

    What is busy (429, 503) has a `Retry-After`: the seconds that the service asked for, else 1.
    """
    status = _find_status(error)
    body = json.dumps({"error": error.public_text}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    if status in _BUSY:
        asked = read_retry_after(error.headers) if isinstance(error, ServiceError) else None
        pause = max(_LEAST_PAUSE, math.ceil(min(asked or 0, _LONGEST_PAUSE)))
        headers.append((b"retry-after", b"%d" % pause))
    return Refusal(status, headers, body)


def _find_status(error: AiosmrtError) -> int:
    status = next(status for kind, status in _STATUSES if isinstance(error, kind))
    if status != _BAD_GATEWAY or not isinstance(error, ServiceError):
        return status
    if classify(error) is FailureKind.THROTTLING:
        return 429
    if lacks_capacity(error):
        return 503
    # A proxy's page, or a code that no model names.
    return error.status if error.status in _PASSED_ON else status
