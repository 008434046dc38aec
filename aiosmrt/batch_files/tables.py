"""Inputs that are tables: Parquet and Arrow, by pyarrow (the extra `aiosmrt[batch]`)."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Container, Generator, Iterator
from typing import Any, BinaryIO, ClassVar, Final

import attrs

from aiosmrt.batch_files.input_row import InputRow, RowReader
from aiosmrt.batch_files.inputs import Content, is_done
from aiosmrt.errors import ConfigurationError, ParameterError

__all__ = ["ArrowInput", "ParquetInput"]

_ROWS: Final = 1024  # that are in memory at a time


@attrs.frozen
class _Table:
    """What both kinds have in common: batches of rows.

    Raises:
        ConfigurationError: pyarrow is not installed.
    """

    name: str
    content: Content
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
            for batch in batches:
                for index, value in enumerate(batch.to_pylist(), begin):
                    if is_done(done, index, self.name):
                        continue
                    try:
                        yield reader.read(index, f"{self.name}: row {index}", value)
                    except ParameterError as error:
                        yield error
                begin += batch.num_rows

    def digest(self) -> str:
        """Give that of the content."""
        return self.content.digest()

    def copy(self, chosen: Container[int], target: BinaryIO) -> None:
        """Write some of the rows, with the types that they have."""
        index = 0
        with self._open_batches() as (schema, batches), self._open_writer(target, schema) as write:
            for batch in batches:
                here = [row for row in range(batch.num_rows) if index + row in chosen]
                index += batch.num_rows
                if here:
                    write(batch.take(self._arrow.array(here)))

    @contextlib.contextmanager
    def _open_batches(self) -> Generator[tuple[Any, Iterator[Any]]]:
        """Give the schema, and the rows in batches."""
        with contextlib.closing(self.content.open()) as file:
            try:
                yield self._read_batches(file)
            except self._arrow.ArrowException as error:
                raise ParameterError(f"{self.name}: {error}") from None

    def _read_batches(self, file: BinaryIO) -> tuple[Any, Iterator[Any]]:
        raise NotImplementedError

    def _open_writer(self, target: BinaryIO, schema: Any) -> Any:  # noqa: ANN401 - pyarrow is not typed
        raise NotImplementedError


@attrs.frozen
class ParquetInput(_Table):
    """A Parquet file."""

    suffix: ClassVar[str] = ".parquet"

    def _read_batches(self, file: BinaryIO) -> tuple[Any, Iterator[Any]]:
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

    def _read_batches(self, file: BinaryIO) -> tuple[Any, Iterator[Any]]:
        ipc = _import("pyarrow.ipc")
        try:
            opened = ipc.open_file(file)
        except self._arrow.ArrowInvalid:
            file.seek(0)
            opened = ipc.open_stream(file)
            return opened.schema, self._slice(opened)
        count = opened.num_record_batches
        return opened.schema, self._slice(map(opened.get_batch, range(count)))

    def _slice(self, batches: Any) -> Iterator[Any]:  # noqa: ANN401 - as above
        for batch in batches:
            for begin in range(0, batch.num_rows, _ROWS):
                yield batch.slice(begin, _ROWS)

    @contextlib.contextmanager
    def _open_writer(self, target: BinaryIO, schema: Any) -> Generator[Any]:  # noqa: ANN401 - as above
        with _import("pyarrow.ipc").new_file(target, schema) as writer:
            yield writer.write_batch


def _import(name: str) -> Any:  # noqa: ANN401 - pyarrow is not typed
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ConfigurationError(
            "Parquet and Arrow are read by pyarrow: pip install 'aiosmrt[batch]'"
        ) from None
