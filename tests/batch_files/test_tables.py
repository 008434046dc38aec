"""Inputs that are tables, by pyarrow."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from aiosmrt.batch_files.check import check_input
from aiosmrt.batch_files.input_row import InputRow, RowReader
from aiosmrt.batch_files.inputs import Input, LocalFile
from aiosmrt.batch_files.tables import ArrowInput, ParquetInput
from aiosmrt.errors import ConfigurationError, ParameterError

TABLE = pa.table(
    {"id": [f"r{row}" for row in range(3000)], "body": [b"\0%d" % row for row in range(3000)]}
)


def _make(kind: str, path: Path) -> Input:
    if kind == "parquet":
        parquet.write_table(TABLE, path)
        return ParquetInput("t", LocalFile(str(path)))
    open_writer = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
    with open_writer(str(path), TABLE.schema) as writer:
        writer.write_table(TABLE)
    return ArrowInput("t", LocalFile(str(path)))


KINDS = ["parquet", "arrow", "stream"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_gives_its_rows(kind: str, tmp_path: Path) -> None:
    rows = _make(kind, tmp_path / "t")
    reader = RowReader(body="body", key="id")
    assert check_input(rows, reader) == 3000
    found = [row for row in rows.read(reader) if isinstance(row, InputRow)]
    assert [(row.key, row.body) for row in found] == [(f"r{i}", b"\0%d" % i) for i in range(3000)]
    assert found[2999].place == "t: row 2999"
    done = bytearray(3000)
    done[5:2999] = b"\1" * 2994
    assert [row.index for row in rows.read(reader, done=done) if isinstance(row, InputRow)] == [
        *(0, 1, 2, 3, 4),
        2999,
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_some_of_its_rows_are_a_table_of_the_same_types(kind: str, tmp_path: Path) -> None:
    rows = _make(kind, tmp_path / "t")
    with (tmp_path / "u").open("wb") as target:
        rows.copy({1, 2000}, target)
    again = type(rows)("u", LocalFile(str(tmp_path / "u")))  # type: ignore[call-arg]
    found = [row for row in again.read(RowReader(body="body")) if isinstance(row, InputRow)]
    assert [row.body for row in found] == [b"\x001", b"\x002000"]


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_rows_of_any_type_are_copied(kind: str, tmp_path: Path) -> None:
    views = pa.array(["a", "b", "c"], pa.string_view())
    batches = [
        pa.record_batch({"view": views, "name": pa.array(names).dictionary_encode()})
        for names in (["x", "y", "z"], ["z", "y", "x"] if kind == "stream" else ["x", "y", "z"])
    ]
    open_writer = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with open_writer(str(tmp_path / "t"), batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    with (tmp_path / "u").open("wb") as target:
        ArrowInput("t", LocalFile(str(tmp_path / "t"))).copy({1, 3, 5}, target)
    open_reader = pa.ipc.open_stream if kind == "stream" else pa.ipc.open_file
    with open_reader(str(tmp_path / "u")) as reader:
        found = reader.read_all()
    assert found.schema == batches[0].schema
    assert found["view"].to_pylist() == ["b", "a", "c"]
    assert found["name"].to_pylist() == (["y", "z", "x"] if kind == "stream" else ["y", "x", "z"])


@pytest.mark.parametrize("kind", KINDS)
def test_another_table_has_another_digest(kind: str, tmp_path: Path) -> None:
    rows = _make(kind, tmp_path / "t")
    before = rows.digest()
    with (tmp_path / "t").open("ab") as file:
        file.write(b"x")
    assert rows.digest() != before


@pytest.mark.parametrize("kind", [ParquetInput, ArrowInput])
def test_what_is_no_table_is_told(kind: type[ParquetInput | ArrowInput], tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"no table at all, but long enough to be looked at")
    with pytest.raises(ParameterError, match=r"^t: "):
        check_input(kind("t", LocalFile(str(tmp_path / "t"))), RowReader())


def test_a_value_that_json_has_not_is_told_with_its_row(tmp_path: Path) -> None:
    rows = _make("arrow", tmp_path / "t")
    with pytest.raises(ParameterError) as raised:
        check_input(rows, RowReader())
    assert raised.value.problems[0].startswith("t: row 0: the body cannot be written as JSON: ")


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    parquet.write_table(table, tmp_path / "t")
    with pytest.raises(ParameterError, match="t: two columns have one name"):
        check_input(ParquetInput("t", LocalFile(str(tmp_path / "t"))), RowReader())


def test_a_missing_pyarrow_is_told_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'aiosmrt\[batch\]'"):
        ParquetInput("t", LocalFile("t"))


def test_a_copy_of_nothing_is_a_table_without_rows(tmp_path: Path) -> None:
    rows = _make("parquet", tmp_path / "t")
    target = io.BytesIO()
    rows.copy(set(), target)
    assert parquet.read_table(io.BytesIO(target.getvalue())).num_rows == 0


def test_a_column_that_python_cannot_hold_hinders_only_rows_that_send_it(tmp_path: Path) -> None:
    nanoseconds = pa.array([1, 2000], pa.timestamp("ns"))
    parquet.write_table(pa.table({"at": nanoseconds, "text": ["a", "b"]}), tmp_path / "t")
    rows = ParquetInput("t", LocalFile(str(tmp_path / "t")))
    found = [row for row in rows.read(RowReader(body="text")) if isinstance(row, InputRow)]
    assert [row.body for row in found] == ["a", "b"]
    with pytest.raises(ParameterError) as raised:
        check_input(rows, RowReader())
    assert raised.value.problems[0].startswith("t: row 0: the body cannot be written as JSON: ")


def test_content_that_is_damaged_is_told_with_the_file(tmp_path: Path) -> None:
    _make("parquet", tmp_path / "t")
    content = bytearray((tmp_path / "t").read_bytes())
    content[100:4000] = b"\xff" * 3900
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(ParameterError, match=r"^t: Corrupt"):
        check_input(ParquetInput("t", LocalFile(str(tmp_path / "t"))), RowReader(body="body"))


READING = """
import sys, threading, time
from aiosmrt.batch_files import ArrowInput, LocalFile, ParquetInput, RowReader

rows = {"parquet": ParquetInput, "stream": ArrowInput}[sys.argv[1]]("t", LocalFile("t"))
reads = threading.Event()

def read():
    while True:
        for row in rows.read(RowReader("body")):
            reads.set()

threading.Thread(target=read, daemon=True).start()
reads.wait()
"""


@pytest.mark.parametrize("kind", ["parquet", "stream"])
def test_a_process_that_ends_while_a_table_is_read_is_not_aborted(
    kind: str, tmp_path: Path
) -> None:
    _make(kind, tmp_path / "t")
    for _ in range(3):
        command = [sys.executable, "-c", READING, kind]
        assert subprocess.run(command, cwd=tmp_path, timeout=60, check=False).returncode == 0
