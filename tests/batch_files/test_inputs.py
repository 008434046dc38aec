"""Inputs of each format: read, checked, and some of their rows written as an input again."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import BinaryIO

import attrs
import pytest

from aiosmrt.batch_files.check import check_input, refuse_repeated
from aiosmrt.batch_files.input_row import InputRow, RowReader
from aiosmrt.batch_files.inputs import (
    CSVInput,
    FileInput,
    Input,
    JSONLinesInput,
    LocalFile,
    choose_format,
)
from aiosmrt.errors import ParameterError

NO_KEY = "there is no key: --key-path k finds nothing, and not a string or a whole number"


@attrs.frozen
class Bytes:
    """A file in memory."""

    data: bytes

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)

    def digest(self) -> str:
        return str(hash(self.data))


def _read(rows: Input, **paths: str) -> list[tuple[str | int, bytes | str, str]]:
    """Give key, body and place of each row."""
    found: list[tuple[str | int, bytes | str, str]] = []
    for row in rows.read(RowReader(**paths)):
        assert isinstance(row, InputRow), row
        found.append((row.key, row.body, row.place))
    return found


def _find_problems(rows: Input, **paths: str) -> list[str]:
    with pytest.raises(ParameterError) as raised:
        check_input(rows, RowReader(**paths))
    return list(raised.value.problems)


def _copy(rows: Input, *chosen: int) -> bytes:
    target = io.BytesIO()
    rows.copy(chosen, target)
    return target.getvalue()


@pytest.mark.parametrize("rows", [[{"k": 1}, {"k": 2}], {"k": 1}])
@pytest.mark.parametrize("indent", [None, 0, 2])
def test_a_document_over_several_lines_is_told_how_to_be_lines(
    rows: object, indent: int | None
) -> None:
    text = json.dumps(rows, indent=indent)
    first, *more = JSONLinesInput("r.json", Bytes(text.encode())).read(RowReader())
    if indent is None:
        assert isinstance(first, InputRow)
        return
    assert "r.json:1: this is no JSON: " in str(first)
    assert "of an array `jq -c '.[]'` makes such lines" in str(first)
    assert "jq" not in str(more)


def test_a_first_line_that_is_wrong_in_itself_is_no_document_over_several_lines() -> None:
    for line in (b"{k: 1}", b"k", b'"k'):
        (problem,) = JSONLinesInput("r.json", Bytes(line)).read(RowReader())
        assert "jq" not in str(problem)


def test_json_lines_are_read_and_empty_ones_are_none() -> None:
    rows = JSONLinesInput("r.jsonl", Bytes(b'\xef\xbb\xbf{"k":1}\n\n  {"k":2}\r\n"text"'))
    assert _read(rows) == [
        (0, b'{"k":1}', "r.jsonl:1"),
        (1, b'{"k":2}', "r.jsonl:3"),
        (2, "text", "r.jsonl:4"),
    ]
    assert check_input(rows, RowReader()) == 3
    assert _copy(rows, 0, 2) == b'{"k":1}\n"text"\n'


def test_rows_that_are_done_are_left_out_and_not_parsed() -> None:
    rows = JSONLinesInput("r.jsonl", Bytes(b'{"k":1}\nno JSON\n{"k":3}\n'))
    found = list(rows.read(RowReader(), done=bytearray([0, 1, 0])))
    assert [row.index for row in found if isinstance(row, InputRow)] == [0, 2]


def test_what_is_wrong_is_named_by_file_and_line_in_order() -> None:
    rows = JSONLinesInput("r.jsonl", Bytes(b'{"k":1}\nno\n{"k":1}\n{"x":1}\n{"k":1}\n'))
    assert _find_problems(rows, key="k") == [
        "r.jsonl:2: this is no JSON: Expecting value: line 1 column 1 (char 0)",
        "r.jsonl:3: the key 1 is that of r.jsonl:1, too",
        f"r.jsonl:4: {NO_KEY}",
        "r.jsonl:5: the key 1 is that of r.jsonl:1, too",
    ]


def test_not_more_is_told_than_can_be_read() -> None:
    rows = JSONLinesInput("r.jsonl", Bytes(b"no\n" * 5000))
    told: list[int] = []
    with pytest.raises(ParameterError, match=r"r\.jsonl: 5000 of 5000 rows cannot") as raised:
        check_input(rows, RowReader(), told.append)
    assert len(raised.value.problems) == 10
    assert told == [1000, 2000, 3000, 4000, 5000]
    twins = JSONLinesInput("r.jsonl", Bytes(b'"%b"\n' % (b"x" * 999) * 2))
    (problem,) = _find_problems(twins, key="@")
    assert len(problem) < 150


def test_a_key_is_refused_when_it_comes_again() -> None:
    rows = JSONLinesInput("r", Bytes(b'{"k":1}\nno\n{"k":2}\n{"k":1}\n'))
    _, wrong, _, again = refuse_repeated(rows.read(RowReader(key="k")))
    assert isinstance(wrong, ParameterError)
    assert str(again) == "r:4: the key 1 is that of an earlier row, too"


def test_keys_that_python_hashes_alike_are_not_the_same() -> None:
    numbers = [-1, -2, 0, 2**61 - 1, "", "0", "\0"]
    lines = b"".join(json.dumps({"k": number}).encode() + b"\n" for number in numbers)
    rows = JSONLinesInput("r", Bytes(lines))
    assert check_input(rows, RowReader(key="k")) == 7
    read = refuse_repeated(rows.read(RowReader(key="k")))
    assert [row.key for row in read if isinstance(row, InputRow)] == numbers


@pytest.mark.parametrize("known", [0, 1])
def test_rows_that_have_come_since_it_was_looked_at_are_not_sent(known: int, folder: Path) -> None:
    table = CSVInput("r.csv", Bytes(b"a\n1\n2\n"))
    for rows in (JSONLinesInput("r", Bytes(b"1\n2\n")), table, FileInput.of_folder(str(folder))):
        read = rows.read(RowReader(), done=bytearray(known))
        for _ in range(known):
            next(read)
        with pytest.raises(ParameterError, match=rf"has changed .* it had {known} rows, and has m"):
            next(read)


def test_a_file_that_is_compressed_is_told_how_it_can_be_read() -> None:
    rows = JSONLinesInput("r.jsonl.gz", Bytes(b"\x1f\x8b\x08"))
    with pytest.raises(ParameterError, match=r"r\.jsonl\.gz is compressed: zcat it"):
        check_input(rows, RowReader())


def test_a_line_without_an_end_is_not_read_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosmrt.batch_files.inputs._LONGEST", 100)
    rows = JSONLinesInput("r.jsonl", Bytes(b'"a"\n"' + b"x" * 1000))
    with pytest.raises(ParameterError, match=r"r\.jsonl:2: this line is above 100 bytes"):
        check_input(rows, RowReader())


def test_comma_separated_values_are_texts_by_their_columns() -> None:
    rows = CSVInput("r.csv", Bytes('\ufeffid,ask\r\n1,"a ""b"",\nc"\n\n2,ü\n'.encode()))
    assert _read(rows, body="ask", key="id") == [
        ("1", 'a "b",\nc', "r.csv:3"),
        ("2", "ü", "r.csv:5"),
    ]
    assert _read(rows)[1][1] == b'{"id": "2", "ask": "\\u00fc"}'
    again = CSVInput("s.csv", Bytes(_copy(rows, 0)))
    assert _read(again, body="ask", key="id") == [("1", 'a "b",\nc', "s.csv:3")]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a,b\n1\n", "r.csv:2: 1 values, where the first row names 2 columns"),
        (b'a,b\n1,"2\n', "r.csv:2: unexpected end of data"),
        (b"a,a\n1,2\n", "r.csv:1: two columns have one name"),
        (b"a,b\n1,\xff\n", "r.csv:2: this is no UTF-8"),
    ],
)
def test_a_csv_that_is_none_is_told(data: bytes, said: str) -> None:
    (problem,) = _find_problems(CSVInput("r.csv", Bytes(data)), body="b")
    assert problem.startswith(said)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "in/b.bin").write_bytes(b"\0b")
    (tmp_path / "in/a.bin").write_bytes(b"\0a")
    (tmp_path / "in/sub/c").write_bytes(b"\0c")
    (tmp_path / "in/.hidden").write_bytes(b"")
    (tmp_path / "in/.git").mkdir()
    (tmp_path / "in/.git/d").write_bytes(b"")
    return tmp_path / "in"


def test_a_folder_gives_its_files_by_their_paths(folder: Path) -> None:
    rows = FileInput.of_folder(str(folder))
    names = [str(folder / name) for name in ("a.bin", "b.bin", "sub/c")]
    assert _read(rows) == [
        (name, body, name) for name, body in zip(names, [b"\0a", b"\0b", b"\0c"], strict=True)
    ]
    again = FileInput.of_list("f.paths", Bytes(_copy(rows, 1, 2)))
    assert [(key, body) for key, body, _ in _read(again)] == [
        (names[1], b"\0b"),
        (names[2], b"\0c"),
    ]


def test_a_folder_is_another_one_when_a_file_is(folder: Path) -> None:
    rows = FileInput.of_folder(str(folder))
    before = rows.digest()
    assert rows.digest() == before
    (folder / "b.bin").write_bytes(b"longer")
    assert rows.digest() != before


def test_a_file_that_is_not_there_is_told_with_its_line(folder: Path) -> None:
    rows = FileInput.of_list("f.paths", Bytes(f"{folder}/a.bin\n{folder}/x\n".encode()))
    assert _find_problems(rows) == [
        f"f.paths:2: {folder}/x: it cannot be read: No such file or directory"
    ]


def test_files_that_cannot_be_rows_are_told(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "two\nlines").touch()
    assert _find_problems(FileInput.of_folder(str(folder))) == [
        f"{folder}/pipe: this is no regular file",
        f"'{folder}/two\\nlines': its name has a line break",
    ]


def test_a_folder_that_cannot_be_read_is_told_and_not_left_out(folder: Path) -> None:
    rows = FileInput.of_folder(str(folder)).read(RowReader())
    next(rows)
    (folder / "sub" / "c").unlink()
    (folder / "sub").rmdir()
    with pytest.raises(ParameterError, match="/sub: it cannot be read: No such file"):
        list(rows)


def test_a_path_that_is_there_twice_is_a_key_that_is(folder: Path) -> None:
    rows = FileInput.of_list("f.paths", Bytes(f"{folder}/a.bin\n".encode() * 2))
    (problem,) = _find_problems(rows)
    assert problem.startswith(f"f.paths:2: {folder}/a.bin: the key '/")
    assert problem.endswith(f" is that of f.paths:1: {folder}/a.bin, too")


def test_a_local_file_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    file = LocalFile(str(tmp_path / "x"))
    (tmp_path / "x").write_bytes(b"a")
    before = file.digest()
    (tmp_path / "x").write_bytes(b"b")
    assert file.digest() != before
    (tmp_path / "x").write_bytes(b"a")
    assert file.digest() == before


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", "jsonl"),
        ("a.CSV", "csv"),
        ("a.parquet", "parquet"),
        ("a.feather", "arrow"),
        ("a.paths", "paths"),
        ("a.txt", "jsonl"),
        ("-", "jsonl"),
        ("s3://bucket/a.csv", "csv"),
    ],
)
def test_a_name_says_what_an_input_is(name: str, kind: str) -> None:
    assert choose_format(name) == kind


def test_a_folder_is_told_by_itself(folder: Path) -> None:
    assert choose_format(str(folder)) == "folder"
