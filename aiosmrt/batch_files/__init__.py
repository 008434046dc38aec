"""The files of a batch: inputs, the journal by which a run goes on, the output, figures."""

from __future__ import annotations

from aiosmrt.batch_files.check import check_input, refuse_repeated
from aiosmrt.batch_files.figures import Figures
from aiosmrt.batch_files.input_row import InputRow, RowReader
from aiosmrt.batch_files.inputs import (
    FORMATS,
    Content,
    CSVInput,
    FileInput,
    Input,
    JSONLinesInput,
    LocalFile,
    choose_format,
)
from aiosmrt.batch_files.job import Job
from aiosmrt.batch_files.output import MAY_HAVE_RUN, NOT_DONE, NOT_RUN
from aiosmrt.batch_files.output_line import Record, read_message
from aiosmrt.batch_files.pipe import Pipe
from aiosmrt.batch_files.report import write_report
from aiosmrt.batch_files.s3_content import S3Content
from aiosmrt.batch_files.store import Files, Store, open_store
from aiosmrt.batch_files.tables import ArrowInput, ParquetInput
from aiosmrt.batch_files.whole_file import open_whole

__all__ = [
    "FORMATS",
    "MAY_HAVE_RUN",
    "NOT_DONE",
    "NOT_RUN",
    "ArrowInput",
    "CSVInput",
    "Content",
    "Figures",
    "FileInput",
    "Files",
    "Input",
    "InputRow",
    "JSONLinesInput",
    "Job",
    "LocalFile",
    "ParquetInput",
    "Pipe",
    "Record",
    "RowReader",
    "S3Content",
    "Store",
    "check_input",
    "choose_format",
    "open_store",
    "open_whole",
    "read_message",
    "refuse_repeated",
    "write_report",
]
