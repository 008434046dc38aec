"""Rows on their way: begun before they are sent, counted when they are written, none lost."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import attrs
import pytest
import pytest_asyncio

from aiosmrt.batch import Batch, Request
from aiosmrt.batch_files.figures import Figures
from aiosmrt.batch_files.input_row import InputRow
from aiosmrt.batch_files.job import Job
from aiosmrt.batch_files.output_line import Record, read_line
from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.errors import ParameterError, TooManyFailures
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure
from aiosmrt.models import AsyncInferenceOutput, InvokeEndpointResponse

pytestmark = pytest.mark.asyncio

Begin = Callable[
    [AsyncIterator[tuple[InputRow, Request]]],
    Batch[InvokeEndpointResponse | AsyncInferenceOutput],
]


@attrs.define
class Endpoint:
    """An endpoint that knows which rows it has seen, and what was begun by then."""

    sink: Sink
    client: SageMakerRuntimeClient | None = None
    seen: list[int] = attrs.field(factory=list)
    busy: asyncio.Event = attrs.field(factory=asyncio.Event)  # four have come
    hold: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def answer(self, request: InvocationRequest) -> object:
        row = int(request.body)
        assert row in self.sink.begun
        self.seen.append(row)
        if len(self.seen) == 4:
            self.busy.set()
        if request.accept == "hold":
            await self.hold.wait()
        if request.accept == "fail":
            raise ModelFailure(400, "no")
        return {"row": row}

    def begin(self, in_flight: int = 4, max_failures: int | None = None) -> Begin:
        assert self.client is not None
        client = self.client

        def begin(
            rows: AsyncIterator[tuple[InputRow, Request]],
        ) -> Batch[InvokeEndpointResponse | AsyncInferenceOutput]:
            begun: Batch[InvokeEndpointResponse | AsyncInferenceOutput] = client.map(
                rows,  # type: ignore[arg-type]  # pairs of one kind
                max_in_flight=in_flight,
                max_failures=max_failures,
            )
            return begun

        return begin


@attrs.define
class Sink:
    """Takes what a job writes, and fails when it is told to."""

    lines: list[bytes] = attrs.field(factory=list)
    begun: set[int] = attrs.field(factory=set)
    forgotten: list[int] = attrs.field(factory=list)
    settled: list[int] = attrs.field(factory=list)
    most: int = 0  # rows that were begun and not written
    failures: int = 0  # of the next writes
    fault: OSError | None = None

    def write(self, lines: Sequence[bytes], begun: Sequence[int], in_flight: int) -> None:
        if lines and self.failures:
            self.failures -= 1
            raise OSError(errno.EIO, "broken", "out.jsonl")
        self.lines += lines
        self.begun.update(begun)
        self.most = max(self.most, len(self.begun) - len(self.lines))

    def forget(self, rows: Sequence[int]) -> None:
        self.forgotten += rows

    def sync(self) -> None:
        """Nothing."""

    def settle(self, record: Record) -> None:
        assert any(f'"index": {record.index},'.encode() in line for line in self.lines)
        self.settled.append(record.index)


@pytest_asyncio.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    made = Endpoint(Sink())
    async with LocalEndpoint(made.answer) as local, local.client() as client:
        made.client = client
        yield made
        made.hold.set()


def _make(
    endpoint: Endpoint,
    rows: int | Iterator[InputRow | ParameterError],
    in_flight: int | None = 4,
    accept: str | None = None,
) -> Job:
    if isinstance(rows, int):
        rows = iter([InputRow(row, f"k{row}", f"r:{row}", str(row), None) for row in range(rows)])

    def request(row: InputRow) -> Request:
        return {"endpoint_name": "e", "body": row.body, "accept": accept}

    return Job(rows, request, endpoint.sink, Figures(), in_flight=in_flight)


async def test_each_row_is_begun_before_it_is_sent_and_counted_when_it_is_written(
    endpoint: Endpoint,
) -> None:
    job = _make(endpoint, 200)
    await job.run(endpoint.begin())
    sink = endpoint.sink
    assert sorted(endpoint.seen) == sorted(sink.settled) == list(range(200))
    records = [read_line(line) for line in sink.lines]
    assert sorted(record.index for record in records if record) == list(range(200))
    assert (job.figures.done, job.figures.failed, job.under_way) == (200, 0, set())
    assert sink.most <= 4
    assert not sink.forgotten


async def test_how_many_may_be_under_way_is_the_batchs_to_say(endpoint: Endpoint) -> None:
    job = _make(endpoint, 50, in_flight=None)
    await job.run(endpoint.begin(in_flight=3))
    assert job.figures.done == 50
    assert job.limit == 3


async def test_no_row_at_all_is_an_end_like_others(endpoint: Endpoint) -> None:
    await _make(endpoint, 0).run(endpoint.begin())
    assert not endpoint.sink.lines


async def test_a_wrong_row_stops_what_follows_and_nothing_before_is_lost(
    endpoint: Endpoint,
) -> None:
    def rows() -> Iterator[InputRow | ParameterError]:
        for row in range(100):
            yield InputRow(row, row, f"r:{row}", str(row), None)
        yield ParameterError("r:100: this is no JSON")

    job = _make(endpoint, rows())
    with pytest.raises(ParameterError, match="r:100: this is no JSON"):
        await job.run(endpoint.begin())
    assert sorted(endpoint.sink.settled) == sorted(endpoint.seen)
    assert not set(endpoint.sink.forgotten) & set(endpoint.seen)
    assert endpoint.sink.begun == {*endpoint.seen, *endpoint.sink.forgotten}


async def test_a_disk_that_fails_stops_a_job_and_takes_what_has_come_when_it_can(
    endpoint: Endpoint,
) -> None:
    endpoint.sink.failures = 1
    job = _make(endpoint, 100)
    with pytest.raises(OSError, match="broken"):
        await job.run(endpoint.begin())
    assert job.unwritten == 0
    assert 0 < len(endpoint.seen) < 100
    assert sorted(endpoint.sink.settled) == sorted(endpoint.seen)


async def test_answers_that_cannot_be_written_are_counted(endpoint: Endpoint) -> None:
    endpoint.sink.failures = 1000
    job = _make(endpoint, 100)
    with pytest.raises(OSError, match="broken"):
        await job.run(endpoint.begin())
    assert job.unwritten == len(endpoint.seen) > 0
    assert job.figures.done == 0


async def test_a_disk_that_is_full_stops_a_job(endpoint: Endpoint) -> None:
    endpoint.sink.fault = OSError(errno.ENOSPC, "No space left on device", "out.jsonl")
    job = _make(endpoint, 100)
    with pytest.raises(OSError, match="No space left"):
        await job.run(endpoint.begin())
    assert sorted(endpoint.sink.settled) == sorted(endpoint.seen)
    assert len(endpoint.seen) < 100


async def test_who_stops_has_rows_under_way_finished(endpoint: Endpoint) -> None:
    job = _make(endpoint, 100, accept="hold")
    running = asyncio.create_task(job.run(endpoint.begin()))
    await endpoint.busy.wait()
    job.stop()
    job.stop()
    endpoint.hold.set()
    await running
    assert sorted(endpoint.sink.settled) == sorted(endpoint.seen) == [0, 1, 2, 3]


async def test_who_is_cancelled_knows_what_may_have_run(endpoint: Endpoint) -> None:
    job = _make(endpoint, 100, accept="hold")
    running = asyncio.create_task(job.run(endpoint.begin()))
    await endpoint.busy.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert job.under_way == {0, 1, 2, 3}
    assert not endpoint.sink.settled
    assert not {0, 1, 2, 3} & set(endpoint.sink.forgotten)


async def test_what_stops_a_batch_is_raised_behind_what_has_come(endpoint: Endpoint) -> None:
    job = _make(endpoint, 100, accept="fail")
    with pytest.raises(TooManyFailures):
        await job.run(endpoint.begin(max_failures=5))
    assert sorted(endpoint.sink.settled) == sorted(endpoint.seen)
    assert job.figures.failed == job.figures.at_risk == len(endpoint.seen) < 20


async def test_rows_that_met_what_every_row_would_are_not_begun_any_more(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    assert endpoint.client is not None
    await endpoint.client.aclose()
    job = _make(endpoint, 100)
    with pytest.raises(Exception, match="closed"):
        await job.run(endpoint.begin())
    assert set(endpoint.sink.forgotten) == endpoint.sink.begun
    assert not endpoint.sink.lines
    assert not job.under_way
