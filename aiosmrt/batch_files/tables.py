"""Inputs that are tables: Parquet and Arrow, by pyarrow (the extra `aiosmrt[batch]`)."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import threading
from collections.abc import Container, Generator, Iterator
from typing import Any, BinaryIO, ClassVar, Final, TypeVar

import attrs

from aiosmrt.batch_files.input_row import InputRow, RowReader
from aiosmrt.batch_files.inputs import LocalFile, is_done
from aiosmrt.errors import ConfigurationError, ParameterError

__all__ = ["ArrowInput", "ParquetInput"]

T = TypeVar("T")

_MAGIC: Final = b"ARROW1"  # with which a file begins, and no stream
_ROWS: Final = 1024  # that are in memory at a time

# A thread that is in pyarrow when the interpreter ends would abort the process: the end waits until
# it is out, and none comes in any more.
_inside: Final = threading.RLock()
atexit.register(_inside.acquire)


@attrs.frozen
class _Table:
    """What both kinds have in common: batches of rows.

    Raises:
        ConfigurationError: pyarrow is not installed.
    """

    name: str
    content: LocalFile
    _arrow: Any = attrs.field(init=False, factory=lambda: _import("pyarrow"))

    def read(
        self,
        reader: RowReader,
        *,
        done: bytearray | None = None,
        bodies: bool = True,  # noqa: ARG002 - they come with the rest
    ) -> Iterator[InputRow | ParameterError]:
        """Give each row, a dict by columns, or what is wrong with it."""
        begin = 0
        with self._open_batches() as (schema, batches):
            if len(set(schema.names)) < len(schema.names):
                raise ParameterError(f"{self.name}: two columns have one name")
            for values in _step(map(_read_rows, batches)):
                for index, value in enumerate(values, begin):
                    if is_done(done, index, self.name):
                        continue
                    try:
                        yield reader.read(index, f"{self.name}: row {index}", value)
                    except ParameterError as error:
                        yield error
                begin += len(values)

    def digest(self) -> str:
        """Give that of the content."""
        return self.content.digest()

    def copy(self, chosen: Container[int], target: BinaryIO) -> None:
        """Write some of the rows, with the types that they have."""
        index = 0
        with (
            _inside,
            self._open_batches() as (schema, batches),
            self._open_writer(target, schema) as write,
        ):
            for batch in batches:
                # Not by `take`, which does not know all types.
                rows = range(batch.num_rows)
                here = [batch.slice(row, 1) for row in rows if index + row in chosen]
                index += batch.num_rows
                if here:
                    for few in self._arrow.Table.from_batches(here).combine_chunks().to_batches():
                        write(few)

    @contextlib.contextmanager
    def _open_batches(self) -> Generator[tuple[Any, Iterator[Any]]]:
        """Give the schema, and the rows in batches."""
        path = os.fsencode(self.content.path)
        # Arrow reads a file of its own: one of Python's would be in its threads, too. Python's says
        # why there is none.
        with self.content.open(), self._arrow.OSFile(path) as file:
            try:
                with _inside:
                    found = self._read_batches(file)
                yield found
            except (self._arrow.ArrowException, OSError) as error:
                if getattr(error, "errno", None) is not None:  # of a file, and not of what is in it
                    raise
                raise ParameterError(f"{self.name}: {error}") from None

    def _read_batches(self, file: Any) -> tuple[Any, Iterator[Any]]:  # noqa: ANN401 - pyarrow is not typed
        raise NotImplementedError

    def _open_writer(self, target: BinaryIO, schema: Any) -> Any:  # noqa: ANN401 - as above
        raise NotImplementedError


@attrs.frozen
class ParquetInput(_Table):
    """A Parquet file."""

    suffix: ClassVar[str] = ".parquet"

    def _read_batches(self, file: Any) -> tuple[Any, Iterator[Any]]:  # noqa: ANN401 - as above
        opened = _import("pyarrow.parquet").ParquetFile(file)
        return opened.schema_arrow, opened.iter_batches(_ROWS)

    @contextlib.contextmanager
    def _open_writer(self, target: BinaryIO, schema: Any) -> Generator[Any]:  # noqa: ANN401 - as above
        with _import("pyarrow.parquet").ParquetWriter(target, schema) as writer:
            yield writer.write_batch


@attrs.frozen
class ArrowInput(_Table):
    """A file of Arrow's: Feather and the file format, or the stream format."""

    suffix: ClassVar[str] = ".arrow"

    def _read_batches(self, file: Any) -> tuple[Any, Iterator[Any]]:  # noqa: ANN401 - as above
        ipc = _import("pyarrow.ipc")
        if self._is_stream():
            opened = ipc.open_stream(file)
            return opened.schema, self._slice(opened)
        opened = ipc.open_file(file)
        count = opened.num_record_batches
        return opened.schema, self._slice(map(opened.get_batch, range(count)))

    def _is_stream(self) -> bool:
        with self.content.open() as file:
            return file.read(len(_MAGIC)) != _MAGIC

    def _slice(self, batches: Any) -> Iterator[Any]:  # noqa: ANN401 - as above
        for batch in batches:
            for begin in range(0, batch.num_rows, _ROWS):
                yield batch.slice(begin, _ROWS)

    @contextlib.contextmanager
    def _open_writer(self, target: BinaryIO, schema: Any) -> Generator[Any]:  # noqa: ANN401 - as above
        # As the input is: a file has one dictionary for all rows, and a stream may have several.
        ipc = _import("pyarrow.ipc")
        with (ipc.new_stream if self._is_stream() else ipc.new_file)(target, schema) as writer:
            yield writer.write_batch


def _step(values: Iterator[T]) -> Iterator[T]:
    """Give values one by one, and hold the interpreter's end up while one is made, not between."""
    while True:
        with _inside:
            value = next(values, None)
        if value is None:
            return
        yield value


def _read_rows(batch: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - as above
    names, columns = batch.schema.names, map(_read_values, batch.columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _read_values(column: Any) -> list[Any]:  # noqa: ANN401 - as above
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):
        # Such as nanoseconds, which Python's times have not. Most rows do not send them.
        return [_read_value(scalar) for scalar in column]
    return values


def _read_value(scalar: Any) -> Any:  # noqa: ANN401 - as above
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return scalar  # which JSON has not, either


def _import(name: str) -> Any:  # noqa: ANN401 - pyarrow is not typed
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ConfigurationError(
            "Parquet and Arrow are read by pyarrow: pip install 'aiosmrt[batch]'"
        ) from None
