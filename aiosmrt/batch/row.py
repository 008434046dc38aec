"""One row of a batch on its way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import cast

from aiosmrt.calls import Turn
from aiosmrt.errors import ParameterError
from aiosmrt.models import Attempt
from aiosmrt.service import Arguments, CallOptions, Operation, check_names

__all__ = ["Row"]


_NOTHING = Arguments({})


class Row:
    """One row of a batch on its way.

    Attributes:
        key: what stood before the request in the inputs; the index where nothing did.
        index: its place in the inputs, from 0.
        began: when it was pulled, by `time.perf_counter`.
        arguments: of its call; empty until it is read.
        turn: of its call, among those to the endpoint; `None` where there is no line.
        error: what is wrong with it already.
        attempts: what was tried, where the response does not say.
    """

    __slots__ = ("_request", "arguments", "attempts", "began", "error", "index", "key", "turn")

    def __init__(self, key: object, index: int, request: object) -> None:
        self.key: object = key
        self.index: int = index
        self.began: float = time.perf_counter()
        self.arguments: Arguments = _NOTHING
        self.turn: Turn | None = None
        self.error: Exception | None = None
        self.attempts: tuple[Attempt, ...] = ()
        self._request = request

    def __repr__(self) -> str:
        shown = [repr(getattr(self, name)) for name in ("key", "index") if hasattr(self, name)]
        return f"Row({', '.join(shown)})"

    def read(self, operation: Operation) -> Arguments:
        """Give the arguments of its call, and keep nothing else.

        Raises:
            ParameterError: it is no request.
            TypeError: it has a keyword that the operation does not have.
        """
        # No variable here is to show it in a traceback.
        if self._request.__class__ is not dict and not isinstance(self._request, Mapping):
            kind = type(self._request).__qualname__
            self._request = None
            raise self._refuse(operation, f"is no request, but a {kind}")
        arguments = Arguments(cast("CallOptions", self._request))
        self._request = None
        try:
            check_names(operation, arguments.parameters.keys())
        except TypeError:
            if all(isinstance(name, str) for name in arguments.parameters):
                raise
            raise self._refuse(operation, "has a name that is no str") from None
        self.arguments = arguments
        return arguments

    @property
    def is_read(self) -> bool:
        """Whether it is a request."""
        return self.arguments is not _NOTHING

    def _refuse(self, operation: Operation, problem: str) -> ParameterError:
        error = ParameterError(
            f"row {self.index} {problem}: a row is a dict of the call's parameters, or a key and "
            "such a dict"
        )
        error.operation = operation.name
        return error
