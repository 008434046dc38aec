"""What a client tells its observers, and when.

Each hook is called with one frozen event; it may be a plain function or a coroutine function. A
hook that raises fails its call with its own exception, and nothing is left open by that; only what
`on_end` raises is logged, for it would cost an answer that is paid. All hooks of a station are
told, whatever one of them raises. No event carries a body, a credential or a value of custom
attributes, except that `BeforeSend.headers` are the request's own headers.

Every event has `call_id`, which the events of one call share (it is sent as
`amz-sdk-invocation-id`, too), and `service`, whom the call is for: `sagemaker-runtime`, or `s3` for
each request that asynchronous inference makes there. Of these `operation` is S3's, such as
`GetObject`, `endpoint_name` is the object, and `before_send` is not told, since what it adds is
meant for the endpoint.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import attrs

from aiosmrt.errors import AiosmrtError, ConfigurationError
from aiosmrt.redaction import redact
from aiosmrt.value import Value

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
    "OnStart",
    "Outcome",
    "Service",
    "list_hooks",
]

Outcome: TypeAlias = Literal["ok", "error", "cancelled", "left"]
"""What a call came to: `ok`, for a stream at its proven end; `error`; `cancelled`; or `left`."""

Service: TypeAlias = Literal["sagemaker-runtime", "s3"]
"""Whom a call is for."""


@attrs.frozen(eq=False, repr=False)
class OnStart(Value):
    """A call has begun, and nothing of it was looked at yet; an `OnEnd` will follow.

    The call of a response stream begins when that is opened.
    """

    operation: str
    endpoint_name: str  # "" where none was given
    call_id: str
    service: Service


@attrs.frozen(eq=False, repr=False)
class BeforeSend(Value):
    """An attempt is about to be signed and sent."""

    operation: str
    endpoint_name: str
    attempt: int  # counts from 1
    # The unsigned request's headers, names in lower case; what is added here is signed and sent.
    headers: dict[str, str] = attrs.field(repr=redact)
    call_id: str
    service: Service


@attrs.frozen(eq=False, repr=False)
class AfterHeaders(Value):
    """The head of an answer has come, a refusal's too."""

    operation: str
    endpoint_name: str
    attempt: int
    status: int  # HTTP status
    headers: Mapping[str, str] = attrs.field(repr=redact)  # names in lower case
    time_to_first_byte: float  # seconds since the first byte of the request went out
    call_id: str
    service: Service


@attrs.frozen(eq=False, repr=False)
class OnRetry(Value):
    """An attempt has failed, and there will be another one."""

    operation: str
    endpoint_name: str
    attempt: Attempt  # the failed one; its `delay` is the pause before the next, in seconds
    error: AiosmrtError
    call_id: str
    service: Service


@attrs.frozen(eq=False, repr=False)
class OnFirstPart(Value):
    """The first part of a response stream has come."""

    operation: str
    endpoint_name: str
    elapsed: float  # seconds since the call began
    size: int  # bytes of the part
    call_id: str
    service: Service


@attrs.frozen(eq=False, repr=False)
class OnEnd(Value):
    """A call is over, whatever came of it; one that was refused before it was sent, too.

    Its outcome is `ok`, for a stream at its proven end; `error` or `cancelled`, with the error; or
    `left`, where a stream was closed before its end, or it or the call's task was dropped. Of what
    was dropped its event loop tells soon after; where that is closed, whoever drops it.
    """

    operation: str
    endpoint_name: str
    metadata: ResponseMetadata | None  # None where no answer was a success
    error: BaseException | None  # None for what is `ok` or `left`
    parts_received: int | None  # of a stream
    bytes_received: int | None  # of a stream, payload bytes; of an object's body in S3
    outcome: Outcome
    elapsed: float  # seconds from the beginning of the call to its end
    call_id: str
    service: Service


Event = TypeVar("Event")
Hook: TypeAlias = Callable[[Event], Awaitable[None] | None]


def _check_hook(_: object, attribute: attrs.Attribute[Hook[Event] | None], value: object) -> None:
    if not (value is None or callable(value)):
        raise ConfigurationError(f"Hooks({attribute.name}={value!r}): a function of one event")


@attrs.frozen(eq=False)
class _InTurn(Value):
    """Several hooks of one station."""

    hooks: tuple[Hook[Any], ...]

    async def __call__(self, event: object) -> None:
        for hook in self.hooks:
            outcome = hook(event)
            if inspect.isawaitable(outcome):
                await outcome


def list_hooks(hook: Hook[Event]) -> tuple[Hook[Event], ...]:
    """Give the hooks of a station one by one."""
    return hook.hooks if isinstance(hook, _InTurn) else (hook,)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Hooks(Value):
    """Functions to call at the stations of every call; `None` for none.

    Those that a derived client is given are called behind those of the client.
    """

    on_start: Hook[OnStart] | None = attrs.field(default=None, validator=_check_hook)
    before_send: Hook[BeforeSend] | None = attrs.field(default=None, validator=_check_hook)
    after_headers: Hook[AfterHeaders] | None = attrs.field(default=None, validator=_check_hook)
    on_retry: Hook[OnRetry] | None = attrs.field(default=None, validator=_check_hook)
    on_first_part: Hook[OnFirstPart] | None = attrs.field(default=None, validator=_check_hook)
    on_end: Hook[OnEnd] | None = attrs.field(default=None, validator=_check_hook)

    def followed_by(self, others: Hooks) -> Hooks:
        """Give these, and behind them those of `others`, station by station."""
        joined = {}
        for name, later in _list_stations(others):
            earlier = getattr(self, name)
            both = [hook for one in (earlier, later) if one is not None for hook in list_hooks(one)]
            joined[name] = _InTurn(tuple(both)) if len(both) > 1 else earlier or later
        return Hooks(**joined)


def _list_stations(hooks: Hooks) -> list[tuple[str, Hook[Any] | None]]:
    return [(field.name, getattr(hooks, field.name)) for field in attrs.fields(Hooks)]
