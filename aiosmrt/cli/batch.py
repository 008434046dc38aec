"""`aiosmrt batch`: the rows of an input through an endpoint, and on where a run was stopped."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import errno
import functools
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import attrs

from aiosmrt.async_inference import S3, S3Location
from aiosmrt.batch import Batch, Request
from aiosmrt.batch_files import (
    MAY_HAVE_RUN,
    NOT_RUN,
    Figures,
    Files,
    Input,
    InputRow,
    Job,
    Pipe,
    Record,
    RowReader,
    Store,
    check_input,
    choose_format,
    open_store,
    open_whole,
    read_message,
    refuse_repeated,
    write_report,
)
from aiosmrt.cli.batch_arguments import choose_bound, find_longest_wait, fix_parameters
from aiosmrt.cli.batch_ending import describe_fault, summarize, tell_fault
from aiosmrt.cli.batch_input import is_read_once, keep_input, open_input
from aiosmrt.cli.batch_places import check_place, refuse_overlaps
from aiosmrt.cli.batch_progress import Retries, count, show_progress
from aiosmrt.cli.batch_stop import take_signals, was_refused
from aiosmrt.cli.batch_upload import store_output
from aiosmrt.cli.terminal import WIPE, can_rewrite, complain, warn
from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.config import RetryPolicy
from aiosmrt.errors import AiosmrtError, ClientClosed, ParameterError
from aiosmrt.hooks import Hooks, OnRetry
from aiosmrt.models import AsyncInferenceOutput, InvokeEndpointResponse
from aiosmrt.plain_text import to_line
from aiosmrt.service import Operation, spell
from aiosmrt.threads import run_in_thread

__all__ = ["batch"]

_FAILED, _USAGE, _UNWRITTEN, _STOPPED = 1, 2, 3, 130
_RETRIED: Final = {None: None, "not-run": (NOT_RUN,), "all": (NOT_RUN, MAY_HAVE_RUN)}
_PATIENT: Final = RetryPolicy(max_attempts=30, throttle_base_delay=0.1, quota=None)  # as `map`
_CONNECTIONS: Final = 100  # as a client has by default
_MOST: Final = 500  # calls where nobody has said how many; a process may open 1,024 files
_AT_ONCE: Final = 64  # rows that are read together
_PATIENCE: Final = 1.0  # seconds for a thread that is to break off, and may wait for a server


def batch(arguments: argparse.Namespace, options: dict[str, Any], operation: Operation) -> int:
    """Send the rows, and write down what came of each.

    Ctrl-C has those under way finished, and sends no more; a second one breaks them off.

    Args:
        arguments: of the command.
        options: of the client.
        operation: what is done with each row.

    Returns:
        The exit status: 0, 1 when rows failed or the run was given up, 2 for wrong usage and wrong
        input, 3 when the output cannot be written, 130 when it was stopped.

    Raises:
        AiosmrtError: nothing was sent.
    """
    try:
        run = _Run(arguments, options, operation)
        run.gather()
        return asyncio.run(run.run())
    except ParameterError as error:
        for problem in error.problems:
            if problem != error.args[0]:
                warn(problem)
        raise
    except OSError as error:
        warn(describe_fault(error))
        return _USAGE if error.filename == arguments.input else _UNWRITTEN


class _Run:
    """One run of the command."""

    def __init__(
        self, arguments: argparse.Namespace, options: dict[str, Any], operation: Operation
    ) -> None:
        self._arguments = arguments
        self._options = options
        self._operation = operation
        self._fixed = fix_parameters(arguments, operation)
        self._reader = RowReader(arguments.body_path, arguments.key_path)
        self._resumes = arguments.resume or arguments.retry_failed is not None
        self._input, self._output = arguments.input, arguments.output
        self._upload: S3Location | None = None
        if self._output.startswith("s3://"):
            self._upload = S3Location.parse(self._output)
            self._output = self._upload.key.rpartition("/")[2]
            if not self._output:
                raise ParameterError(f"--output {self._upload}: the name of the object is missing")
        check_place("--output", self._output)
        if arguments.report is not None:
            check_place("--report", arguments.report)
        self._is_pipe = self._output == "-" or is_read_once(self._output)
        if "-" in (self._output, arguments.report):
            option = "--output" if self._output == "-" else "--report"
            if sys.__stdout__ is None:  # and a file of ours may have its number
                raise ParameterError(f"{option} -: standard output is closed")
            if self._output == arguments.report:
                raise ParameterError("--report -: standard output has the rows")
        self._format = arguments.input_format or choose_format(self._input)
        if self._is_pipe and self._resumes:
            raise ParameterError(f"--output {self._output}: only a file can be gone on with")
        if "retry" in options:
            # A row has its attempts whatever others have met; the rest is as `map` has it.
            attempts = arguments.max_attempts or _PATIENT.max_attempts
            options["retry"] = attrs.evolve(
                _PATIENT, mode=options["retry"].mode, max_attempts=attempts
            )
        self._bound = choose_bound(arguments)
        if arguments.operation != "invoke-async":
            most = _MOST if self._bound == "auto" else self._bound
            options.setdefault("max_connections", max(_CONNECTIONS, most))
        self._figures = Figures()
        self._retries = Retries()
        options["hooks"] = Hooks(on_retry=self._note_retry)
        self._total: int | None = None
        self._signals = 0
        self._react: Callable[[], object] = lambda: None  # to a signal
        self._is_unwritten = False  # what stands beside the output
        self._is_broken_off = False  # that, by a signal

    def gather(self) -> None:
        """Have what can be read once in a file, where there is one beside which it can be."""
        if is_read_once(self._input) and not self._is_pipe:
            files = Files(self._output)
            if not self._resumes:
                files.refuse_existing()
            given, self._input = self._input, files.input
            keep_input(given, self._input, resumes=self._resumes, begun=files.is_begun())

    async def run(self) -> int:
        """Carry all of it out, and give the exit status."""
        async with SageMakerRuntimeClient(**self._options) as client:
            s3 = client._async_inference.s3  # noqa: SLF001 - the client's own, for its files
            rows = open_input(self._input, self._format, lambda: s3)
            files = Files(self._output, rows.suffix)
            if self._upload:
                await self._refuse_stored(s3, self._upload, files)
            refuse_overlaps(self._input, None if self._is_pipe else files, self._arguments.report)
            if not self._is_pipe and not self._resumes:
                files.refuse_existing()
            if not is_read_once(self._input):
                await self._check(rows)
            if self._is_pipe:
                return await self._send(client, rows, _open_pipe(self._output))
            store = await run_in_thread(functools.partial(self._open_store, rows))
            try:
                status = await self._send(client, rows, store)
                if self._upload and self._figures.done == self._total:
                    await store_output(self._output, s3, self._upload)
                return status
            finally:
                await run_in_thread(store.close)

    async def _refuse_stored(self, s3: S3, location: S3Location, files: Files) -> None:
        """Refuse to write over an object that is not this run's."""
        begun = self._resumes and files.is_begun()
        if not begun and await s3.exists(location):
            why = f", and there is no {files.journal} to say whose it is" if self._resumes else ""
            raise ParameterError(f"{location} exists{why}: choose another output")

    async def _check(self, rows: Input) -> None:
        def tell(number: int) -> None:
            if can_rewrite(sys.stderr):
                sys.stderr.write(f"{WIPE}checking {to_line(rows.name)}: {number:,} rows")

        try:
            work = functools.partial(check_input, rows, self._reader, tell)
            self._total = await run_in_thread(work)
        finally:
            if can_rewrite(sys.stderr):
                sys.stderr.write(WIPE)

    def _open_store(self, rows: Input) -> Store:
        arguments = self._arguments
        fingerprint = {"--input": rows.digest()}
        for name in ("endpoint_name", "operation", "body_path", "key_path", "view"):
            fingerprint[f"--{name.replace('_', '-')}"] = getattr(arguments, name)
        if self._upload:
            fingerprint["--output"] = str(self._upload)
        for name, value in sorted(self._fixed.items()):
            if name != "endpoint_name":
                # They may be secrets.
                hashed = hashlib.sha256(str(value).encode()).hexdigest()
                fingerprint[f"--param {name}"] = f"hash {hashed[:16]}"

        def tell(record: Record, line: bytes) -> None:
            failed = record.failure is not None
            self._figures.add(record, read_message(line) if failed else "")

        return open_store(
            Files(self._output, rows.suffix),
            fingerprint,
            self._total or 0,
            resume=self._resumes,
            retried=_RETRIED[arguments.retry_failed],
            tell=tell,
        )

    async def _send(self, client: SageMakerRuntimeClient, rows: Input, sink: Store | Pipe) -> int:
        arguments = self._arguments
        store = sink if isinstance(sink, Store) else None
        statuses = None if store is None else store.statuses
        sent = rows.read(self._reader, done=statuses)
        once = is_read_once(self._input)
        if once and self._reader.has_keys:  # which nobody has looked at
            sent = refuse_repeated(sent)
        job = Job(
            sent,
            self._make_request,
            sink,
            self._figures,
            view=arguments.view,
            in_flight=None if self._bound == "auto" else self._bound,
            at_once=1 if once else _AT_ONCE,
        )
        if store is not None and store.lost:
            lost = count(len(store.lost), "row")
            warn(f"{lost} in flight when the last run was stopped: asked again, may run twice")
        if store is not None and store.damaged:
            lines = f"{count(store.damaged, 'line')} of {store.files.journal}"
            are = "is" if store.damaged == 1 else "are"
            warn(f"{lines} {are} damaged: more rows may run twice than is told")
        with take_signals(self._take_signal):
            fault = await self._carry_out(job, client)
            return await self._conclude(job, rows, store, fault)

    def _make_request(self, row: InputRow) -> Request:
        request: Any = {**self._fixed, "body": row.body}  # a TypedDict cannot be built from parts
        if row.content_type is not None:
            request.setdefault("content_type", row.content_type)
        made: Request = request
        return made

    def _take_signal(self) -> None:
        self._react()

    async def _carry_out(self, job: Job, client: SageMakerRuntimeClient) -> BaseException | None:
        """Run a job until it is done or stopped; give what has stopped it."""
        arguments = self._arguments

        def begin(
            rows: AsyncIterator[tuple[InputRow, Request]],
        ) -> Batch[InvokeEndpointResponse | AsyncInferenceOutput]:
            # Names and types have been checked; overloads know no variables.
            operation: Any = spell(self._operation.name)
            inputs: Any = rows
            begun: Batch[InvokeEndpointResponse | AsyncInferenceOutput] = client.map(
                inputs,
                operation=operation,
                max_in_flight=self._bound,
                max_failures=arguments.max_failures,
                result_timeout=find_longest_wait(self._fixed),
            )
            return begun

        def react() -> None:
            self._signals += 1
            if self._signals == 1:
                job.stop()
                rows = count(len(job.under_way), "row")
                warn(f"stopping: {rows} under way will be finished; Ctrl-C again breaks them off")
            else:
                task.cancel()

        task = asyncio.create_task(job.run(begin))
        showing = asyncio.create_task(show_progress(job, self._total, self._retries))
        self._react = react
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            showing.cancel()
            await asyncio.wait([task, showing])
        fault = None if task.cancelled() else task.exception()
        return None if self._signals and isinstance(fault, ClientClosed) else fault

    def _note_retry(self, event: OnRetry) -> None:
        """Leave rows to the next run that were refused, once this one is being stopped.

        Raises:
            ClientClosed: which stops the batch, behind the rows that a model is at work on.
        """
        self._retries.note(event)
        if self._signals and was_refused(event):
            raise ClientClosed("the run was stopped")

    async def _conclude(
        self, job: Job, rows: Input, store: Store | None, fault: BaseException | None
    ) -> int:
        """Write what is written at last, tell how it went, and give the exit status."""
        figures = self._figures
        left = self._signals if self._total is None else self._total - figures.done
        if fault is None and left and not self._signals:
            fault = ParameterError(
                f"{rows.name} has changed since it was looked at: it had {self._total} rows, and "
                f"{left} of those to be sent are gone"
            )
        tell_fault(fault, job)
        if store is not None:
            work = functools.partial(store.write_failed, rows)
            await self._write_beside(store.files.failed, work, store)
        listed = figures.failed > 0 and not self._is_unwritten
        if self._arguments.report is not None:
            await self._write_beside(self._arguments.report, self._write_report, store)
        summarize(job, self._total, store)
        if store is not None and listed:
            warn(f"the rows that failed are in {store.files.failed}")
        if store is not None and left:
            warn(f"{count(left, 'row')} left: the same command goes on with --resume")
        return self._choose_status(fault, left)

    def _choose_status(self, fault: BaseException | None, left: int) -> int:
        if isinstance(fault, OSError):
            return _UNWRITTEN
        if fault is not None:
            return _USAGE if isinstance(fault, ParameterError) else _FAILED
        if left or self._is_broken_off:
            return _STOPPED
        if self._is_unwritten:
            return _UNWRITTEN
        return _FAILED if self._figures.failed else 0

    async def _write_beside(
        self, path: str, work: Callable[[], object], store: Store | None
    ) -> None:
        """Write what stands beside the output; where it cannot be, that stops nothing else.

        A signal breaks it off: nothing is under way any more.
        """
        task = asyncio.create_task(run_in_thread(work))

        def react() -> None:
            self._is_broken_off = True
            if store is not None:
                store.break_off()
            asyncio.get_running_loop().call_later(_PATIENCE, task.cancel)

        self._react = react
        try:
            await asyncio.wait([task])
            if task.cancelled():
                raise InterruptedError(errno.EINTR, "broken off before it was whole", path)
            task.result()
        except OSError as error:
            self._is_unwritten = True
            anew = "" if self._is_pipe else "; --resume writes it anew"
            warn(f"{describe_fault(error)}{anew}")
        except AiosmrtError as error:  # of an input that is read again
            self._is_unwritten = True
            complain(error)

    def _write_report(self) -> None:
        facts = {
            "endpoint": self._arguments.endpoint_name,
            "operation": self._operation.name,
            "input": self._arguments.input,
            "in flight at most": str(self._bound),
            "written at": datetime.datetime.now(datetime.UTC).isoformat(" ", "seconds"),
        }
        title = f"aiosmrt batch: {self._arguments.output}"
        page = write_report(self._figures, title, facts).encode()
        path = self._arguments.report
        if path == "-" or is_read_once(path):
            _open_pipe(path).write([page], (), 0)
            return
        with open_whole(path) as file:
            file.write(page)


def _open_pipe(path: str) -> Pipe:
    if path == "-":
        return Pipe(1, "standard output")
    return Pipe(os.open(path, os.O_WRONLY), path)
