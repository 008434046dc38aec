"""What comes of a row, as a line of the output and as a record of it. Pure."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from aiosmrt.batch import Outcome
from aiosmrt.batch_files.answer_view import may_have_run, show_error, show_response
from aiosmrt.batch_files.input_row import InputRow
from aiosmrt.batch_files.output_line import Failure, Record, write_line
from aiosmrt.errors import AiosmrtError
from aiosmrt.models import AsyncInferenceOutput, InvokeEndpointResponse

__all__ = ["Answer", "Written", "write_outcome"]

Answer: TypeAlias = InvokeEndpointResponse | AsyncInferenceOutput


@attrs.frozen(eq=False)
class Written:
    """What came of a row.

    Attributes:
        record: what is known of it.
        message: what its error says; empty where there is none.
        line: of the output.
    """

    record: Record
    message: str
    line: bytes


def write_outcome(outcome: Outcome[Answer], ended_at: float, view: str | None) -> Written:
    """Make a line of an outcome.

    Args:
        outcome: of a row, which is its key.
        ended_at: when it was there, in seconds since 1970.
        view: of its response; `None` as the content type says.
    """
    row, response, error = outcome.key, outcome.response, outcome.error
    assert isinstance(row, InputRow)  # noqa: S101 - `Job` has made it the key
    shown = b""
    if response is not None:
        try:
            shown = show_response(response, view)
        except AiosmrtError as problem:
            error = problem
    failure = None
    if error is not None:
        failure = Failure(response is not None or may_have_run(error), type(error).__name__)
        shown = show_error(error, response)
    first_byte = request_id = None
    if response is not None:
        request_id = response.metadata.request_id
        if isinstance(response, InvokeEndpointResponse):  # else it is S3's
            first_byte = response.metadata.time_to_first_byte
    elif isinstance(error, AiosmrtError):
        request_id = error.request_id
    record = Record(
        index=row.index,
        ended_at=ended_at,
        seconds=outcome.seconds,
        first_byte=first_byte,
        attempts=len(outcome.attempts),
        failure=failure,
    )
    return Written(record, str(error or ""), write_line(record, row.key, request_id, shown))
