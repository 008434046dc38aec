"""The output, as a run has left it that was stopped anywhere."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from aiosmrt.batch_files.output import (
    DONE,
    MAY_HAVE_RUN,
    NOT_DONE,
    NOT_RUN,
    drop_rows,
    read_output,
)
from aiosmrt.batch_files.output_line import Failure, Record, read_line, read_message, write_line
from aiosmrt.errors import ParameterError


def _write(index: int, failure: Failure | None = None) -> bytes:
    shown = b'"response": {"n": "}\\n"}'
    if failure is not None:
        may_have_run = b"true" if failure.may_have_run else b"false"
        shown = (
            b'"error": {"may_have_run": %b, "type": "ModelError", "message": "m\\""}' % may_have_run
        )
    record = Record(index, 1e9 + index, 0.25, None if failure else 0.125, 2, failure)
    return write_line(record, f'a"\\{index}é', None if failure else "id-1", shown)


LINES = [_write(2), _write(0, Failure(may_have_run=True, type="ModelError")), _write(1)]
NOT_SENT = _write(3, Failure(may_have_run=False, type="ModelError"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "out.jsonl"
    file.write_bytes(b"".join(LINES))
    return file


def test_a_line_says_what_was_written() -> None:
    record = read_line(LINES[0])
    assert record is not None
    assert (record.index, record.ended_at, record.seconds) == (2, 1e9 + 2, 0.25)
    assert (record.first_byte, record.attempts, record.failure) == (0.125, 2, None)
    failed = read_line(LINES[1])
    assert failed is not None
    assert failed.first_byte is None
    assert failed.failure == Failure(may_have_run=True, type="ModelError")
    assert read_message(LINES[1]) == 'm"'
    assert read_message(LINES[0]) == ""


@pytest.mark.parametrize("line", [b"", b"{}\n", b"\n", LINES[0][:-1], LINES[0][1:], b"\0" * 9])
def test_another_line_is_none_of_ours(line: bytes) -> None:
    assert read_line(line) is None


def test_a_long_key_takes_no_more_memory_than_it_has() -> None:
    line = write_line(
        Record(0, 1e9, 0.1, None, 1, None), "\u00e9" * 100_000, None, b'"response": 1'
    )
    tracemalloc.start()
    try:
        assert read_line(line) is not None
        assert tracemalloc.get_traced_memory()[1] < len(line)
    finally:
        tracemalloc.stop()


def test_what_became_of_each_row_is_read(path: Path) -> None:
    told: list[tuple[int, bytes]] = []
    found = read_output(str(path), 5, 0, lambda record, line: told.append((record.index, line)))
    assert list(found.statuses) == [MAY_HAVE_RUN, DONE, DONE, NOT_DONE, NOT_DONE]
    assert found.size == path.stat().st_size
    assert told == list(zip([2, 0, 1], LINES, strict=True))


def test_a_torn_end_is_left_out_at_every_byte(path: Path) -> None:
    whole = b"".join(LINES)
    certain = len(LINES[0])
    for size in range(certain, len(whole)):
        path.write_bytes(whole[:size])
        assert read_output(str(path), 5, certain).size == whole.rindex(b"\n", 0, size) + 1


@pytest.mark.parametrize(
    "tail",
    [
        b"\0" * 300 + b"\n" + NOT_SENT,
        NOT_SENT.replace(b'"m', b'\0"m'),
        NOT_SENT[:150] + b"\0" * (len(NOT_SENT) - 152) + b"}\n",
        LINES[0],
        _write(7),
    ],
)
def test_what_was_not_on_the_disk_for_certain_is_taken_as_far_as_it_is_sound(
    path: Path, tail: bytes
) -> None:
    certain = path.stat().st_size
    with path.open("ab") as file:
        file.write(tail)
    assert read_output(str(path), 5, certain).size == certain


@pytest.mark.parametrize(
    ("content", "rows", "said"),
    [
        (b"".join([LINES[0], b"x\n", *LINES[1:]]), 5, "out.jsonl:2: this is no line of a batch"),
        (
            LINES[0].replace(b'"index": 2', b'"index": 2.5'),
            5,
            "out.jsonl:1: this is no line of a batch",
        ),
        (b"".join([LINES[0], *LINES]), 5, "out.jsonl:2: row 2 is there twice"),
        (b"".join(LINES), 2, "out.jsonl:1: the input has no row 2"),
        (b"".join(LINES[:2]), 5, "out.jsonl: of "),
        (b"", 5, "restore it, or choose another output"),
    ],
)
def test_an_output_that_was_changed_is_refused(
    path: Path, content: bytes, rows: int, said: str
) -> None:
    certain = path.stat().st_size
    path.write_bytes(content)
    with pytest.raises(ParameterError) as raised:
        read_output(str(path), rows, certain)
    assert said in str(raised.value)


def test_rows_that_failed_are_taken_out(path: Path) -> None:
    with path.open("ab") as file:
        file.write(NOT_SENT)
    drop_rows(str(path), (NOT_RUN,))
    assert path.read_bytes() == b"".join(LINES)
    drop_rows(str(path), (NOT_RUN, MAY_HAVE_RUN))
    assert path.read_bytes() == LINES[0] + LINES[2]
    assert [file.name for file in path.parent.iterdir()] == ["out.jsonl"]
