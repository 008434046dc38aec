"""The inputs of a batch, one row after another."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import TypeAlias

import attrs

from aiosmrt.errors import ParameterError
from aiosmrt.redaction import redact
from aiosmrt.service import (
    Arguments,
    InvokeEndpointAsyncParameters,
    InvokeEndpointParameters,
    InvokeEndpointWithResponseStreamParameters,
)
from aiosmrt.value import Shown

__all__ = ["Inputs", "Request", "Row", "Rows"]

Request: TypeAlias = (
    InvokeEndpointParameters
    | InvokeEndpointWithResponseStreamParameters
    | InvokeEndpointAsyncParameters
)
"""The parameters of one call, as a dict."""

Inputs: TypeAlias = (
    Iterable[InvokeEndpointParameters | tuple[object, InvokeEndpointParameters]]
    | AsyncIterable[InvokeEndpointParameters | tuple[object, InvokeEndpointParameters]]
    | Iterable[
        InvokeEndpointWithResponseStreamParameters
        | tuple[object, InvokeEndpointWithResponseStreamParameters]
    ]
    | AsyncIterable[
        InvokeEndpointWithResponseStreamParameters
        | tuple[object, InvokeEndpointWithResponseStreamParameters]
    ]
    | Iterable[InvokeEndpointAsyncParameters | tuple[object, InvokeEndpointAsyncParameters]]
    | AsyncIterable[InvokeEndpointAsyncParameters | tuple[object, InvokeEndpointAsyncParameters]]
)
"""Requests, or pairs of a key and a request."""

_PAIR = 2


@attrs.frozen(eq=False, repr=False)
class Row(Shown):
    """One of the inputs."""

    key: object
    index: int
    request: object = attrs.field(repr=redact)

    def read(self) -> Arguments:
        """Give the arguments of its call.

        Raises:
            ParameterError: it is no request.
        """
        request = self.request
        if not isinstance(request, Mapping):
            raise ParameterError(
                f"row {self.index} is no request, but a {type(request).__qualname__}: a row is a "
                "dict of the call's parameters, or a key and such a dict"
            )
        named: InvokeEndpointParameters = {**request}  # type: ignore[typeddict-item] # is checked
        return Arguments(named)


class Rows:
    """Pulls one row after another from the inputs.

    Args:
        inputs: an iterable, whose next row is made on the event loop, or an asynchronous one.

    Raises:
        TypeError: it is neither, or one request.
    """

    def __init__(self, inputs: object) -> None:
        self._iterator: Iterator[object] | None = None
        self._asynchronous: AsyncIterator[object] | None = None
        self._pulled = 0
        if isinstance(inputs, Mapping | str | bytes):
            raise TypeError(
                "map() takes many requests: a list, a generator or an asynchronous one, of dicts, "
                f"not one {type(inputs).__qualname__}"
            )
        if isinstance(inputs, AsyncIterable):
            self._asynchronous = aiter(inputs)
        elif isinstance(inputs, Iterable):
            self._iterator = iter(inputs)
        else:
            raise TypeError(
                "map() takes an iterable or an asynchronous iterable of requests, not a "
                f"{type(inputs).__qualname__}"
            )

    async def pull(self) -> Row | None:
        """Give the next row, `None` at the end.

        Raises:
            Exception: what the inputs raise.
        """
        try:
            if self._iterator is not None:
                given = next(self._iterator)
            elif self._asynchronous is not None:
                given = await anext(self._asynchronous)
            else:
                return None
        except (StopIteration, StopAsyncIteration):
            self.drop()
            return None
        index = self._pulled
        self._pulled += 1
        if isinstance(given, tuple) and len(given) == _PAIR:
            return Row(given[0], index, given[1])
        return Row(index, index, given)

    @property
    def asynchronous(self) -> bool:
        """Whether a row may have to be waited for."""
        return self._asynchronous is not None

    def drop(self) -> None:
        """Pull no more; the inputs stay whose they are."""
        self._iterator = self._asynchronous = None
