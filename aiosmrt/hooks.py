"""What a client tells its observers, and when.

Each hook is called with one frozen event; it may be a plain function or a coroutine function. A
hook that raises fails its call with its own exception, and nothing is left open by that. No event
carries a body, a credential or a value of custom attributes, except that `BeforeSend.headers` are
the request's own headers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

import attrs

from aiosmrt.errors import AiosmrtError, ConfigurationError
from aiosmrt.redaction import redact
from aiosmrt.value import Partial, Value

if TYPE_CHECKING:
    from aiosmrt.models import Attempt, ResponseMetadata

__all__ = [
    "AfterHeaders",
    "BeforeSend",
    "Hook",
    "Hooks",
    "OnEnd",
    "OnFirstPart",
    "OnRetry",
    "Outcome",
]

Outcome: TypeAlias = Literal["done", "failed", "cancelled", "left", "dropped"]


@attrs.frozen(eq=False, repr=False)
class BeforeSend(Value):
    """An attempt is about to be signed and sent."""

    operation: str
    endpoint_name: str
    attempt: int  # counts from 1
    # The unsigned request's headers, names in lower case; what is added here is signed and sent.
    headers: dict[str, str] = attrs.field(repr=redact)


@attrs.frozen(eq=False, repr=False)
class AfterHeaders(Value):
    """The head of an answer has come, a refusal's too."""

    operation: str
    endpoint_name: str
    attempt: int
    status: int  # HTTP status
    headers: Mapping[str, str] = attrs.field(repr=redact)  # names in lower case
    time_to_first_byte: float  # seconds since the first byte of the request went out


@attrs.frozen(eq=False, repr=False)
class OnRetry(Value):
    """An attempt has failed, and there will be another one."""

    operation: str
    endpoint_name: str
    attempt: Attempt  # the failed one; its `delay` is the pause before the next, in seconds
    error: AiosmrtError


@attrs.frozen(eq=False, repr=False)
class OnFirstPart(Value):
    """The first part of a response stream has come."""

    operation: str
    endpoint_name: str
    elapsed: float  # seconds since the call began
    size: int  # bytes of the part


@attrs.frozen(eq=False, repr=False)
class OnEnd(Value):
    """A call is over, whatever came of it; one that was refused before it was sent, too.

    Its outcome is `done`, for a stream at its proven end; `failed` or `cancelled`, with the error;
    `left`, where a stream was closed before its end; or `dropped`, where nobody closed it. Of the
    last its event loop tells soon after, unless it is closed itself.
    """

    operation: str
    endpoint_name: str
    metadata: ResponseMetadata | None  # None where no answer was a success
    error: BaseException | None  # None for what was done, left or dropped
    parts_received: int | None  # of a stream
    bytes_received: int | None  # of a stream, payload bytes
    outcome: Outcome
    duration: float  # seconds from the beginning of the call to its end


Event = TypeVar("Event")
Hook: TypeAlias = Callable[[Event], Awaitable[None] | None]


def _check_hook(_: object, attribute: attrs.Attribute[Hook[Event] | None], value: object) -> None:
    if not (value is None or callable(value)):
        raise ConfigurationError(f"Hooks({attribute.name}={value!r}): a function of one event")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Hooks(Partial):
    """Functions to call at the stations of every call; `None` for none.

    Those that a derived client's was not given are those of the client.
    """

    before_send: Hook[BeforeSend] | None = attrs.field(default=None, validator=_check_hook)
    after_headers: Hook[AfterHeaders] | None = attrs.field(default=None, validator=_check_hook)
    on_retry: Hook[OnRetry] | None = attrs.field(default=None, validator=_check_hook)
    on_first_part: Hook[OnFirstPart] | None = attrs.field(default=None, validator=_check_hook)
    on_end: Hook[OnEnd] | None = attrs.field(default=None, validator=_check_hook)
