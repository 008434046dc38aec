"""Counters that are built from `on_start` and `on_end` agree with the books of the server."""

from __future__ import annotations

import asyncio
import collections
import gc
import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest
import uvloop

import aiosmrt

if TYPE_CHECKING:
    from tests.promises.conftest import KeepBooks

# `make promises` has more.
_CALLS: Final = int(os.environ.get("AIOSMRT_OBSERVED_CALLS", "300"))
_WORKERS: Final = 16
_LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@attrs.define
class _Figures:
    """What somebody counts who knows events alone."""

    in_flight: int = 0
    started: collections.Counter[str] = attrs.field(factory=collections.Counter)  # by call id
    outcomes: collections.Counter[str] = attrs.field(factory=collections.Counter)
    ran: set[str] = attrs.field(factory=set)  # the numbers of calls that have reached the server
    _numbers: dict[str, str] = attrs.field(factory=dict)
    answering: dict[str, asyncio.Event] = attrs.field(factory=dict)

    def start(self, event: aiosmrt.OnStart) -> None:
        self.in_flight += 1
        self.started[event.call_id] += 1

    def send(self, event: aiosmrt.BeforeSend) -> None:
        self._numbers[event.call_id] = event.headers["x-call"]

    def note_answer(self, event: aiosmrt.AfterHeaders) -> None:
        number = self._numbers[event.call_id]
        if number in self.answering:
            self.answering[number].set()

    def end(self, event: aiosmrt.OnEnd) -> None:
        self.in_flight -= 1
        assert self.started.pop(event.call_id) == 1
        assert event.elapsed > 0
        self.outcomes[event.outcome] += 1
        number = self._numbers.pop(event.call_id, None)
        if number is not None and getattr(event.error, "may_have_run", True):
            assert number not in self.ran
            self.ran.add(number)

    async def end_later(self, event: aiosmrt.OnEnd) -> None:
        """Count as a coroutine function does."""
        if event.outcome != "left":  # of which one may have nobody left to wait
            await asyncio.sleep(0)
        self.end(event)


class _Never:
    """A body that does not come."""

    async def read(self, _: int) -> bytes:
        await asyncio.get_running_loop().create_future()
        return b""


async def _read(client: Any, given: Any) -> None:
    async with client.invoke_endpoint_with_response_stream(**given) as stream:
        await stream.read()


async def _ok(client: Any, given: Any, _: _Figures) -> None:
    await client.invoke_endpoint(**given)


async def _ok_async(client: Any, given: Any, _: _Figures) -> None:
    await client.invoke_endpoint_async(**given)


async def _ok_stream(client: Any, given: Any, _: _Figures) -> None:
    await _read(client, given)


async def _left(client: Any, given: Any, _: _Figures) -> None:
    async with client.invoke_endpoint_with_response_stream(**given):
        pass


async def _left_at_once(client: Any, given: Any, _: _Figures) -> None:
    stream = await client.invoke_endpoint_with_response_stream(**given)
    async for _part in stream:
        await stream.aclose()
        break


async def _dropped(client: Any, given: Any, _: _Figures) -> None:
    stream = await client.invoke_endpoint_with_response_stream(**given)
    await anext(stream)
    del stream


async def _thrown_away(client: Any, given: Any, _: _Figures) -> None:
    given["body"] = _Never()
    call = client.invoke_endpoint(**given)
    call.send(None)
    call.close()


async def _refused(client: Any, given: Any, _: _Figures) -> None:
    given["content_type"] = "\n"
    for operation in (client.invoke_endpoint, client.invoke_endpoint_async):
        with pytest.raises(aiosmrt.ParameterError):
            await operation(**given)


async def _misnamed(client: Any, given: Any, _: _Figures) -> None:
    with pytest.raises(TypeError):
        await client.invoke_endpoint(bodi=b"", **given)
    with pytest.raises(TypeError):
        client.invoke_endpoint_with_response_stream(bodi=b"", **given)


async def _cut(client: Any, given: Any, _: _Figures) -> None:
    given["headers"]["x-fault"] = "answer body RST"
    with pytest.raises(aiosmrt.TransportError):
        await client.invoke_endpoint(**given)


async def _cut_stream(client: Any, given: Any, _: _Figures) -> None:
    given["headers"]["x-fault"] = "answer body RST"
    with pytest.raises(aiosmrt.TransportError):
        await _read(client, given)


async def _unanswered(client: Any, given: Any, _: _Figures) -> None:
    given["headers"]["x-fault"] = "body FIN"
    with pytest.raises(aiosmrt.ConnectionLost):
        await client.invoke_endpoint(**given)


async def _late(client: Any, given: Any, _: _Figures) -> None:
    given["headers"]["x-fault"] = "body hang"
    with pytest.raises(aiosmrt.FirstByteTimeout):
        await client.invoke_endpoint(timeout=aiosmrt.Timeout(first_byte=0.05), **given)


async def _cancelled(client: Any, given: Any, figures: _Figures) -> None:
    given["headers"]["x-fault"] = "answer body hang"
    answering = figures.answering[given["headers"]["x-call"]] = asyncio.Event()
    task = asyncio.ensure_future(client.invoke_endpoint(**given))
    await answering.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def _cancelled_early(client: Any, given: Any, _: _Figures) -> None:
    given["body"] = _Never()
    task = asyncio.ensure_future(client.invoke_endpoint(**given))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def _not_begun(client: Any, given: Any, _: _Figures) -> None:
    client.invoke_endpoint_with_response_stream(**given)
    task = asyncio.ensure_future(client.invoke_endpoint(**given))
    task.cancel()
    await asyncio.wait([task])


# Each way to end with the outcomes that are told of it, and how often the server has it whole.
_WAYS: Final[list[tuple[Callable[[Any, Any, _Figures], Any], list[str], int]]] = [
    (_ok, ["ok"], 1),
    (_ok_async, ["ok"], 1),
    (_ok_stream, ["ok"], 1),
    (_left, ["left"], 1),
    (_left_at_once, ["left"], 1),
    (_dropped, ["left"], 1),
    (_thrown_away, ["left"], 0),
    (_refused, ["error", "error"], 0),
    (_misnamed, ["error", "error"], 0),
    (_cut, ["error"], 1),
    (_cut_stream, ["error"], 1),
    (_unanswered, ["error"], 1),
    (_late, ["error"], 1),
    (_cancelled, ["cancelled"], 1),
    (_cancelled_early, ["cancelled"], 0),
    (_not_begun, [], 0),
]


async def _work(client: Any, numbers: Iterator[int], figures: _Figures) -> None:
    for number in numbers:
        given = {"endpoint_name": "e", "body": b"x" * 100, "headers": {"x-call": str(number)}}
        way, _, _ = _WAYS[number % len(_WAYS)]
        await way(client, given, figures)


async def _call_in_every_way(ports: dict[str, int], figures: _Figures, *, later: bool) -> None:
    hooks = aiosmrt.Hooks(
        on_start=figures.start,
        before_send=figures.send,
        after_headers=figures.note_answer,
        on_end=figures.end_later if later else figures.end,
    )
    async with aiosmrt.SageMakerRuntimeClient(
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{ports['reading']}",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        retry=aiosmrt.RetryPolicy(mode="off"),
        hooks=hooks,
        max_connections=_WORKERS // 2,
    ) as client:
        numbers = iter(range(_CALLS))
        await asyncio.gather(*(_work(client, numbers, figures) for _ in range(_WORKERS)))
        gc.collect()
        for _ in range(3):
            await asyncio.sleep(0)
        assert figures.in_flight == 0
        stats = client.stats()
        assert (stats.in_flight, stats.waiting_for_slot, stats.open_streams) == (0, 0, 0)


@pytest.mark.parametrize("later", [False, True], ids=["function", "coroutine function"])
@pytest.mark.parametrize("loop", _LOOPS)
def test_counters_agree_with_the_server(loop: str, *, later: bool, keep_books: KeepBooks) -> None:
    figures = _Figures()
    with keep_books() as server, asyncio.Runner(loop_factory=_LOOPS[loop]) as runner:
        with warnings.catch_warnings():
            # What is dropped, and what was never opened, warns; that is shown elsewhere.
            warnings.simplefilter("ignore", ResourceWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            runner.run(_call_in_every_way(server.ports, figures, later=later))
        expected: collections.Counter[str] = collections.Counter()
        runs = {}
        for number in range(_CALLS):
            _, outcomes, whole = _WAYS[number % len(_WAYS)]
            expected.update(outcomes)
            if whole:
                runs[str(number)] = whole
        deadline = time.monotonic() + 10  # what hangs up may be read a moment later
        while (books := server.read_books()) != runs and time.monotonic() < deadline:
            time.sleep(0.05)
    assert books == runs
    assert figures.ran == books.keys()
    assert figures.outcomes == expected
    assert not +figures.started
