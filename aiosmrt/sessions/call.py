"""One call of a session, and what it is given by the session."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import attrs

from aiosmrt.config import Timeout
from aiosmrt.errors import AiosmrtError, ConfigurationError, ParameterError
from aiosmrt.redaction import Redacted
from aiosmrt.service import INVOKE_ENDPOINT, Operation, SessionParameters, check_names
from aiosmrt.sessions.turn import Turn
from aiosmrt.transport import Limits
from aiosmrt.value import Shown, write_json

__all__ = ["SessionCall", "bind", "check_common", "check_options", "lay", "write_body"]

# What can be sent a second time as it is; a file or an iterable is spent.
_REPEATABLE = (bytes, bytearray, memoryview, str)

# Seconds that a call is given at least, so that its own error says that its time is over.
_LEAST = 1e-3


@attrs.define(eq=False, repr=False)
class SessionCall(Shown):
    """A call of a session on its way; its time begins here, and its wait for its turn counts.

    Attributes:
        operation: what is called.
        given: its parameters, without the id of the session.
        timeout: of the call.
        turn: its own.
    """

    operation: Operation
    given: Redacted[dict[str, Any]]
    timeout: Timeout
    turn: Turn
    _began: float = attrs.field(init=False)

    @_began.default
    def _begin(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent a second time."""
        return isinstance(self.given.value.get("body", b""), _REPEATABLE)

    def limit(self) -> Timeout:
        """Give the limits of what is sent next: of the total, what is left."""
        if self.timeout.total is None:
            return self.timeout
        left = self.timeout.total - (asyncio.get_running_loop().time() - self._began)
        return Timeout.of(max(left, _LEAST), self.timeout)

    async def take_turn(self) -> None:
        """Wait for the call's turn.

        Raises:
            TotalTimeout: it did not come within the call's total.
            RuntimeError: the session is in use on another event loop.
        """
        limits = Limits(self.limit())
        try:
            with limits:
                limits.note("its turn in the session")
                await self.turn.take()
        except AiosmrtError as error:
            raise self.place(error) from None

    def place(self, error: AiosmrtError) -> AiosmrtError:
        """Tell an error of the session's own which call it belongs to, and give it."""
        error.operation = self.operation.name
        error.endpoint_name = str(self.given.value["endpoint_name"])
        return error


def check_common(parameters: Mapping[str, object]) -> Redacted[dict[str, Any]]:
    """Check what the calls of a session are to have in common.

    Raises:
        TypeError: what is not for a whole session.
        ParameterError: no endpoint is named.
    """
    taken = SessionParameters.__annotations__
    for name in parameters:
        if name not in taken:
            raise TypeError(
                f"session() got an unexpected keyword argument {name!r}: its calls have "
                f"{', '.join(taken)} in common"
            )
    if not parameters.get("endpoint_name"):
        raise ParameterError("endpoint_name is required, of the session or in the client's params")
    return Redacted({**parameters})


def bind(
    operation: Operation, given: Redacted[dict[str, Any]], common: Redacted[dict[str, Any]]
) -> Redacted[dict[str, Any]]:
    """Lay what a call was given over what its session was given.

    Raises:
        TypeError: a keyword that the operation does not have, or `session_id`.
        ParameterError: another endpoint than the session's.
    """
    if "session_id" in given.value:
        raise TypeError(
            "a session's call takes no session_id: it sends the session's own; calls outside of a "
            "session are the client's"
        )
    check_names(operation, given.value.keys())
    endpoint_name = common.value["endpoint_name"]
    if given.value.get("endpoint_name", endpoint_name) != endpoint_name:
        raise ParameterError(
            f"endpoint_name={given.value['endpoint_name']!r}: this is a session of "
            f"{endpoint_name!r}, which no other endpoint knows"
        )
    bound = {name: value for name, value in common.value.items() if name in operation.parameters}
    headers = {**(common.value.get("headers") or {}), **(given.value.get("headers") or {})}
    return Redacted({**bound, **given.value, "headers": headers})


def check_options(reopen: object, in_order: object, close_timeout: object) -> None:
    """Check the options of a session.

    Raises:
        ConfigurationError: a value that cannot be used.
    """
    for name, switch in (("reopen", reopen), ("in_order", in_order)):
        if not isinstance(switch, bool):
            raise ConfigurationError(f"{name}={switch!r}: True or False")
    numeric = isinstance(close_timeout, int | float) and not isinstance(close_timeout, bool)
    if not numeric or not close_timeout > 0:  # type: ignore[operator]  # a number by then
        raise ConfigurationError(f"close_timeout={close_timeout!r}: seconds above 0")


def write_body(
    option: str, body: object, common: Redacted[dict[str, Any]]
) -> Redacted[dict[str, Any]] | None:
    """Give the parameters of the call that opens or closes a session, if there is such a body.

    Raises:
        ConfigurationError: it cannot be sent.
    """
    if body is None:
        return None
    given, problem = Redacted[dict[str, Any]]({}), ""
    if isinstance(body, bytes | str):
        given.value["body"] = body
    elif isinstance(body, Mapping):
        try:
            given.value["body"] = write_json({**body})
        except (ParameterError, TypeError, ValueError, RecursionError) as error:
            problem = str(error)
        given.value["content_type"] = "application/json"
    else:
        problem = f"bytes, str, or a mapping for JSON, not {type(body).__qualname__}"
    if problem:
        raise ConfigurationError(f"{option}: {problem}")
    return bind(INVOKE_ENDPOINT, given, common)


def lay(timeout: Timeout | float | None, base: Timeout) -> Timeout:
    """Lay the limits that a call was given, if any, over those that it has without them."""
    return base if timeout is None else Timeout.of(timeout, base)
