"""The inputs of a batch, one row after another."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from aiosmrt.batch.row import Row
from aiosmrt.service import (
    InvokeEndpointAsyncParameters,
    InvokeEndpointParameters,
    InvokeEndpointWithResponseStreamParameters,
)

__all__ = ["Inputs", "Request", "Rows"]

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


class Rows:
    """Pulls one row after another from the inputs.

    Args:
        inputs: an iterable, whose next row is made on the event loop, or an asynchronous one.

    Raises:
        TypeError: it is neither, or one request.
    """

    def __init__(self, inputs: object) -> None:
        self._iterator: Iterator[Any] | None = None
        self._asynchronous: AsyncIterator[Any] | None = None
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

    def pull(self) -> Row | None:
        """Give the next row of inputs that are not to be waited for, `None` at the end.

        Raises:
            Exception: what the inputs raise.
        """
        if self._iterator is None:
            return None
        try:
            given = next(self._iterator)
        except StopIteration:
            self.drop()
            return None
        except StopAsyncIteration as error:
            # As Python has it of generators: it would be the end of the outcomes.
            raise RuntimeError("the inputs raised StopAsyncIteration") from error
        index = self._pulled
        self._pulled = index + 1
        if given.__class__ is tuple and len(given) == _PAIR:
            return Row(given[0], index, given[1])
        return Row(index, index, given)

    async def wait(self) -> Row | None:
        """Give the next row of any inputs; else as `pull`."""
        if self._asynchronous is not None:
            try:
                self._iterator = iter((await anext(self._asynchronous),))
            except StopAsyncIteration:
                self.drop()
                return None
        return self.pull()

    @property
    def asynchronous(self) -> bool:
        """Whether a row may have to be waited for."""
        return self._asynchronous is not None

    def drop(self) -> None:
        """Pull no more; the inputs stay whose they are."""
        self._iterator = self._asynchronous = None
