"""What goes wrong, and for which request: by its call's id, so that both sides can tell."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any, Final

from aiosmrt.local import InvocationRequest, LocalEndpoint

__all__ = ["WAYS", "find_fault", "has_run", "script"]

WAYS: Final = ("invoke", "stream", "async", "batch", "session", "openai")  # each has an endpoint
_SHARE: Final = 0.25  # of the calls that meet a fault
_STREAM: Final = "InvokeEndpointWithResponseStream"
_DIRECT: Final = ("InvokeEndpoint", _STREAM)
_ALL: Final = (*_DIRECT, "InvokeEndpointAsync")

# Each word of a script with its options, the operations that can meet it, and whether the model
# has run where they do. Of what answers without the model nobody can tell that it has.
_FAULTS: Final[tuple[tuple[str, dict[str, Any], tuple[str, ...], bool], ...]] = (
    ("throttle", {}, _ALL, False),
    ("throttle", {"retry_after": 0.2}, _ALL, False),
    ("not_ready", {}, _ALL, False),
    ("unavailable", {}, _ALL, False),
    ("internal_failure", {}, _ALL, False),
    ("dependency_failure", {}, _ALL, False),
    ("validation_error", {}, _ALL, False),
    ("expired_token", {}, _ALL, False),
    ("proxy_page", {}, _ALL, False),
    ("redirect", {}, _ALL, False),
    ("model_error", {}, _ALL, True),
    ("hang", {"at": "head"}, _DIRECT, True),
    ("hang", {"at": "first_part"}, _DIRECT, True),
    ("hang", {"at": "part 3"}, (_STREAM,), True),
    ("slow", {"seconds": 0.1}, _ALL, True),
    ("reset", {"at": "head"}, _DIRECT, True),
    ("reset", {"at": "first_part"}, _DIRECT, True),
    ("reset", {"at": "part 2"}, (_STREAM,), True),
    ("cut", {"after": 0}, _DIRECT, True),
    ("cut", {"after": 2}, (_STREAM,), True),
    *(("cut", {"after": 1, "inside": i}, (_STREAM,), True) for i in ("frame", "prelude", "chunk")),
    *(
        ("corrupt", {"part": 2, "where": where}, (_STREAM,), True)
        for where in ("prelude", "headers", "payload", "crc")
    ),
    ("stream_error", {"after": 1}, (_STREAM,), True),
    ("internal_stream_failure", {"after": 0}, (_STREAM,), True),
    ("split", {"bytes": 7}, (_STREAM,), True),
)


@functools.lru_cache(1000)
def _find(call_id: str, operation: str, attempt: int) -> int | None:
    chance = random.Random(call_id)
    possible = [number for number, fault in enumerate(_FAULTS) if operation in fault[2]]
    struck, number = chance.random() < _SHARE, chance.choice(possible)
    # Most strike once, so that another attempt finds what it needs; some always.
    return number if struck and attempt <= chance.choice((1, 1, 2, 99)) else None


def find_fault(request: InvocationRequest) -> int | None:
    """Give the number of the fault that a request meets, `None` for none."""
    call_id = request.headers.get("amz-sdk-invocation-id", "")
    return _find(call_id, request.operation, request.attempt)


def has_run(request: InvocationRequest) -> bool:
    """Tell whether a request reaches the model."""
    number = find_fault(request)
    return number is None or _FAULTS[number][3]


def script(endpoint: LocalEndpoint) -> None:
    """Have an endpoint go wrong so."""
    for number, (word, options, _, _) in enumerate(_FAULTS):
        play: Callable[..., None] = getattr(endpoint, word)

        def is_struck(request: InvocationRequest, number: int = number) -> bool:
            return find_fault(request) == number

        play(on=is_struck, times=None, **options)
