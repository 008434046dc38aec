"""Whose fault an error is: the row's own, or one that every row would meet."""

from __future__ import annotations

from collections.abc import Mapping

from aiosmrt.config import Timeout
from aiosmrt.errors import (
    ClientClosed,
    ConfigurationError,
    ConnectError,
    CredentialsError,
    ServiceError,
    TooManyOpenFiles,
)
from aiosmrt.service import Arguments, lacks_endpoint

__all__ = ["Faults"]

_FORBIDDEN = 403
_UNREACHED = 10

# What says where a call goes.
_PLACE = (
    "endpoint_name",
    "inference_component_name",
    "target_container_hostname",
    "target_model",
    "target_variant",
)


class Faults:
    """Tells errors that stop a batch from those of a row.

    What is wrong with the client, its settings or its credentials is wrong for every row. That an
    endpoint does not exist, or must not be called, is so while all rows go there; as soon as they
    have named several places, it is the fault of those that named this one. Where nobody can be
    connected to, that may be a matter of minutes once there was an answer, but not when it has cost
    ten rows in a row all their attempts; before, of a wrong address.

    Args:
        params: the client's, for what rows do not say.
    """

    def __init__(self, params: Mapping[str, object]) -> None:
        self._answered = False
        self._unreached = 0  # rows for which no connection could be made since there was an answer
        self._params = params
        self._place: tuple[object, ...] | None = None
        self._one_place = True

    def note(self, arguments: Arguments) -> None:
        """Take note of where a row goes."""
        if self._one_place:
            place = tuple(map(arguments.parameters.get, _PLACE))
            if place != self._place:
                known, self._place = self._place, place
                self._one_place = known is None or self._fill(known) == self._fill(place)

    def note_answer(self) -> None:
        """Take note that somebody is there."""
        self._answered, self._unreached = True, 0

    def _fill(self, place: tuple[object, ...]) -> tuple[object, ...]:
        """Fill in what the client's parameters say, where a row says nothing."""
        named = zip(place, _PLACE, strict=True)
        return tuple(self._params.get(name) if given is None else given for given, name in named)

    def is_everybodys(self, error: Exception, arguments: Arguments) -> bool:
        """Tell whether every row would meet what one has met."""
        if isinstance(error, ConfigurationError):
            return not _has_wrong_timeout(arguments)
        if isinstance(error, ClientClosed | CredentialsError):
            return True
        if isinstance(error, ConnectError) and not isinstance(error, TooManyOpenFiles):
            self._unreached += 1
            return not self._answered or self._unreached >= _UNREACHED
        if not isinstance(error, ServiceError):
            return False
        self.note_answer()
        if lacks_endpoint(error) or error.code.startswith("AccessDenied"):
            return self._one_place
        # Keys, tokens, signatures, whatever they are said to be.
        return error.status == _FORBIDDEN


def _has_wrong_timeout(arguments: Arguments) -> bool:
    """Tell whether it is the row that holds the wrong option."""
    if arguments.timeout is None:
        return False
    try:
        Timeout.of(arguments.timeout, Timeout())
    except ConfigurationError:
        return True
    return False
