"""What a client tells its observers, and when.

Each hook is called with one frozen event; it may be a plain function or a coroutine function. A
hook that raises fails its call with its own exception, and nothing is left open by that; only what
`on_end` raises is logged, for it would cost an answer that is paid. All hooks of a station are
told, whatever one of them raises. No event has a body or a credential of its own, nor shows the
value of a header in its repr. But `headers` are as they were sent and as they came, custom
attributes and ids of sessions among them, and `error` has all that a caller gets with it.

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
from aiosmrt.value import JSONValue, Value

if TYPE_CHECKING:
    from aiosmrt.models import Attempt, ResponseMetadata

__all__ = [
    "AfterHeaders",
    "BeforeSend",
    "Ending",
    "Hook",
    "Hooks",
    "OnEnd",
    "OnFirstPart",
    "OnParts",
    "OnRetry",
    "OnStart",
    "Service",
    "list_hooks",
]

Ending: TypeAlias = Literal["ok", "error", "cancelled", "left"]
"""What a call came to: `ok`, for a stream at its proven end; `error`; `cancelled`; or `left`."""

Service: TypeAlias = Literal["sagemaker-runtime", "s3"]
"""Whom a call is for."""


@attrs.frozen(eq=False, repr=False)
class OnStart(Value):
    """A call has begun, and nothing of it was looked at yet; an `OnEnd` will follow.

    The call of a response stream begins when that is opened.

    Attributes:
        operation: the service's name of the operation.
        endpoint_name: the endpoint that is called; `""` where none was given.
        call_id: what all events of a call, and its requests, have in common.
        service: whom the call is for.
    """

    operation: str
    endpoint_name: str
    call_id: str
    service: Service


@attrs.frozen(eq=False, repr=False)
class BeforeSend(Value):
    """An attempt is about to be signed and sent.

    Attributes:
        operation: the service's name of the operation.
        endpoint_name: the endpoint that is called.
        attempt: the attempt's number, which counts from 1.
        headers: of the unsigned request, names in lower case; what is added here is signed
            and sent.
        call_id: what all events of a call, and its requests, have in common.
        service: whom the call is for.
    """

    operation: str
    endpoint_name: str
    attempt: int
    headers: dict[str, str] = attrs.field(repr=redact)
    call_id: str
    service: Service


@attrs.frozen(eq=False, repr=False)
class AfterHeaders(Value):
    """The head of an answer has come, a refusal's too.

    Attributes:
        operation: the service's name of the operation.
        endpoint_name: the endpoint that is called.
        attempt: the attempt's number, which counts from 1.
        status: the HTTP status.
        headers: of the answer, names in lower case.
        time_to_first_byte: seconds from the first byte of the request to the head of the
            answer.
        call_id: what all events of a call, and its requests, have in common.
        service: whom the call is for.
    """

    operation: str
    endpoint_name: str
    attempt: int
    status: int
    headers: Mapping[str, str] = attrs.field(repr=redact)
    time_to_first_byte: float
    call_id: str
    service: Service


@attrs.frozen(eq=False, repr=False)
class OnRetry(Value):
    """An attempt has failed, and there will be another one.

    Attributes:
        operation: the service's name of the operation.
        endpoint_name: the endpoint that is called.
        attempt: the one that failed; its `delay` is the pause before the next, in seconds.
        error: what it failed with.
        call_id: what all events of a call, and its requests, have in common.
        service: whom the call is for.
    """

    operation: str
    endpoint_name: str
    attempt: Attempt
    error: AiosmrtError
    call_id: str
    service: Service


@attrs.frozen(eq=False, repr=False)
class OnFirstPart(Value):
    """The first part of a response stream has come.

    Attributes:
        operation: the service's name of the operation.
        endpoint_name: the endpoint that is called.
        elapsed: seconds since the call began.
        size: bytes of the part.
        call_id: what all events of a call, and its requests, have in common.
        service: whom the call is for.
    """

    operation: str
    endpoint_name: str
    elapsed: float
    size: int
    call_id: str
    service: Service


@attrs.frozen(eq=False, repr=False)
class OnParts(Value):
    """Parts of a response stream have come at once, the first ones too.

    They are read as the program asks for them: one that is slow has them come together.

    Attributes:
        operation: the service's name of the operation.
        endpoint_name: the endpoint that is called.
        elapsed: seconds since the call began.
        count: how many parts have come at once.
        size: bytes of these parts.
        view: how the stream is read, as of `OnEnd`; `None` as long as nobody reads.
        call_id: what all events of a call, and its requests, have in common.
        service: whom the call is for.
    """

    operation: str
    endpoint_name: str
    elapsed: float
    count: int
    size: int
    view: str | None
    call_id: str
    service: Service


@attrs.frozen(eq=False, repr=False)
class OnEnd(Value):
    """A call is over, whatever came of it; one that was refused before it was sent, too.

    Its outcome is `ok`, for a stream at its proven end; `error` or `cancelled`, with the error; or
    `left`, where a stream was closed before its end, or it or the call's task was dropped. Of what
    was dropped its event loop tells soon after; where that is closed, whoever drops it.

    Attributes:
        operation: the service's name of the operation.
        endpoint_name: the endpoint that is called.
        metadata: what is known of the call; `None` where no answer was a success.
        error: what the call ended with; `None` for what is `ok` or `left`.
        parts_received: how many parts of a stream have come; `None` for what is none.
        bytes_received: how many bytes of a stream's payload, or of an object's body in S3,
            have come; else `None`.
        outcome: `ok`, `error`, `cancelled` or `left`.
        elapsed: seconds from the beginning of the call to its end.
        call_id: what all events of a call, and its requests, have in common.
        service: whom the call is for.
        attempts: what was tried, whatever came of it; without one that was broken off.
        origin: scheme, host and port that were called; `None` for what was refused before.
        region_name: where that is; `None` for what was refused before.
        view: how a stream was read: `parts`, `bytes`, `text`, `lines`, `JSON`, `events`, `tokens`
            or `chat`, the last two with the shape behind a colon, as in `chat:openai-chat`, but
            where tokens are found by an expression; `None` where nobody has read.
        usage: tokens as the model's server has counted them, where a stream was read by
            `iter_chat` and has told; as of `ChatChunk`.
    """

    operation: str
    endpoint_name: str
    metadata: ResponseMetadata | None
    error: BaseException | None
    parts_received: int | None
    bytes_received: int | None
    outcome: Ending
    elapsed: float
    call_id: str
    service: Service
    attempts: tuple[Attempt, ...]
    origin: str | None
    region_name: str | None
    view: str | None
    usage: Mapping[str, JSONValue] | None


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

    Attributes:
        on_start: told that a call begins.
        before_send: told that an attempt is about to be signed and sent, whose headers it
            may add to.
        after_headers: told that the head of an answer has come.
        on_retry: told that there will be another attempt.
        on_first_part: told that the first part of a stream has come.
        on_parts: told that parts of a stream have come.
        on_end: told that a call is over, once.
    """

    on_start: Hook[OnStart] | None = attrs.field(default=None, validator=_check_hook)
    before_send: Hook[BeforeSend] | None = attrs.field(default=None, validator=_check_hook)
    after_headers: Hook[AfterHeaders] | None = attrs.field(default=None, validator=_check_hook)
    on_retry: Hook[OnRetry] | None = attrs.field(default=None, validator=_check_hook)
    on_first_part: Hook[OnFirstPart] | None = attrs.field(default=None, validator=_check_hook)
    on_parts: Hook[OnParts] | None = attrs.field(default=None, validator=_check_hook)
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
