"""What a batch has on the disk: begun, gone on with, and sound wherever it was stopped."""

from __future__ import annotations

import errno
from collections.abc import Container
from pathlib import Path

import pytest

from aiosmrt.batch_files.inputs import JSONLinesInput, LocalFile
from aiosmrt.batch_files.output import DONE, MAY_HAVE_RUN, NOT_DONE, NOT_RUN, drop_rows
from aiosmrt.batch_files.output_line import Failure, Record, write_line
from aiosmrt.batch_files.store import Files, Store, open_store
from aiosmrt.errors import ParameterError

ROWS = 10
NOT_SENT = Failure(may_have_run=False, type="ThrottlingException")
PAID = Failure(may_have_run=True, type="ModelError")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(str(tmp_path / "out.jsonl"))


def _open(files: Files, *, resume: bool = True, retried: Container[int] | None = None) -> Store:
    return open_store(files, {"--input": "a"}, ROWS, resume=resume, retried=retried)


def _record(row: int, failure: Failure | None = None) -> Record:
    return Record(row, 1e9, 0.1, None, 1, failure)


def _line(row: int, failure: Failure | None = None) -> bytes:
    shown = b'"response": %d' % row
    if failure is not None:
        may_have_run = b"true" if failure.may_have_run else b"false"
        kind = failure.type.encode()
        shown = b'"error": {"may_have_run": %b, "type": "%b"}' % (may_have_run, kind)
    return write_line(_record(row, failure), row, None, shown)


def _finish(store: Store, *rows: tuple[int, Failure | None]) -> None:
    store.write([_line(*row) for row in rows], [], 4)
    store.sync()
    for row, failure in rows:
        store.settle(_record(row, failure))


@pytest.fixture
def stopped(files: Files) -> Files:
    """A run that was killed: 0 done, 1 and 2 failed, 3 and 4 in flight, 5 begun and not sent."""
    store = _open(files, resume=False)
    store.write([], range(5), 4)
    store.write([], [5], 4)
    _finish(store, (0, None), (1, NOT_SENT), (2, PAID))
    store.forget([5])
    store.close()
    return files


def test_a_run_begins_and_leaves_two_files(files: Files, tmp_path: Path) -> None:
    store = _open(files, resume=False)
    assert (tmp_path / "out.jsonl.reserve").exists()
    assert (bytes(store.statuses), store.lost, store.again) == (bytes(ROWS), frozenset(), 0)
    store.close()
    store.close()
    assert {path.name for path in tmp_path.iterdir()} == {"out.jsonl", "out.jsonl.journal"}


def test_what_was_in_flight_is_known(stopped: Files) -> None:
    store = _open(stopped)
    assert list(store.statuses[:6]) == [DONE, NOT_RUN, MAY_HAVE_RUN, NOT_DONE, NOT_DONE, NOT_DONE]
    assert store.lost == {3, 4}
    store.write([], [3, 5], 4)
    assert store.again == 1
    store.close()
    store = _open(stopped)
    assert store.again == 1
    assert store.lost == {3, 4, 5}
    store.close()


def test_lines_of_a_killed_process_are_taken_though_nobody_waited_for_the_disk(
    stopped: Files,
) -> None:
    with Path(stopped.output).open("ab") as file:
        file.write(_line(3) + _line(4)[:-9])
    store = _open(stopped)
    assert bytes(store.statuses[3:5]) == bytes([DONE, NOT_DONE])
    assert store.lost == {4}
    assert Path(stopped.output).read_bytes().endswith(_line(3))
    store.close()


@pytest.mark.parametrize(
    ("retried", "left"), [((NOT_RUN,), [0, 2]), ((NOT_RUN, MAY_HAVE_RUN), [0])]
)
def test_failed_rows_are_taken_up_again_and_are_not_twice_there(
    stopped: Files, retried: tuple[int, ...], left: list[int]
) -> None:
    store = _open(stopped, retried=retried)
    assert [row for row in range(ROWS) if store.statuses[row] != NOT_DONE] == left
    assert store.lost == {3, 4}
    store.write([], [1], 4)
    assert store.again == 0
    _finish(store, (1, None))
    store.close()
    store = _open(stopped)
    assert store.statuses[1] == DONE
    store.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_run_that_is_killed_while_it_takes_failed_rows_up_goes_on(
    stopped: Files, replaced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(path: str, dropped: Container[int]) -> None:
        if replaced:
            drop_rows(path, dropped)
        raise KeyboardInterrupt

    monkeypatch.setattr("aiosmrt.batch_files.store.drop_rows", die)
    with pytest.raises(KeyboardInterrupt):
        _open(stopped, retried=(NOT_RUN,))
    monkeypatch.undo()
    store = _open(stopped, retried=(NOT_RUN,))
    assert [store.statuses[row] for row in range(3)] == [DONE, NOT_DONE, MAY_HAVE_RUN]
    assert store.lost == {3, 4}
    store.close()


def test_failed_rows_are_written_as_an_input_and_go_when_there_are_none(
    stopped: Files, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"row": {row}}}\n' for row in range(ROWS)))
    rows = JSONLinesInput("rows.jsonl", LocalFile(str(tmp_path / "rows.jsonl")))
    failed = tmp_path / "out.failed.jsonl"
    store = _open(stopped)
    assert store.write_failed(rows) == 2
    assert failed.read_text() == '{"row": 1}\n{"row": 2}\n'
    store.close()
    store = _open(stopped, retried=(NOT_RUN, MAY_HAVE_RUN))
    _finish(store, (1, None), (2, None))
    assert store.write_failed(rows) == 0
    assert not failed.exists()
    store.close()


@pytest.mark.parametrize("name", ["output", "journal", "failed"])
def test_what_exists_is_not_written_over(files: Files, name: str) -> None:
    path = Path(getattr(files, name))
    path.write_text("mine")
    with pytest.raises(ParameterError, match=r"exists: --resume goes on, or choose another"):
        _open(files, resume=False)
    assert path.read_text() == "mine"


def test_an_output_without_its_journal_and_a_journal_without_its_output(stopped: Files) -> None:
    output, journal = Path(stopped.output), Path(stopped.journal)
    kept, head = output.read_bytes(), journal.read_bytes().partition(b"\n")[0]
    output.unlink()
    with pytest.raises(ParameterError, match=r"out\.jsonl is gone, but not .*journal: restore"):
        _open(stopped)
    output.write_bytes(kept)
    journal.unlink()
    with pytest.raises(ParameterError, match=r"out\.jsonl has no journal"):
        _open(stopped)
    assert output.read_bytes() == kept
    assert not journal.exists()
    for size in range(len(head) + 1):
        journal.write_bytes(head[:size])
        with pytest.raises(ParameterError, match=r"out\.jsonl has no journal"):
            _open(stopped)
        assert (output.read_bytes(), journal.read_bytes()) == (kept, head[:size])


def test_a_folder_that_is_not_there_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _open(Files(str(tmp_path / "nowhere/out.jsonl")), resume=False)
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_for_anything_leaves_nothing(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("aiosmrt.batch_files.append_file.Reserve._grow", fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*out\.jsonl'"):
        _open(files, resume=False)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_becomes_full_stops_a_run_before_an_answer_is_lost(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _open(files, resume=False)
    store.write([_line(0)], [0], 4)
    assert not store.fault

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("aiosmrt.batch_files.append_file.Reserve._grow", fail)
    long = _line(1)[:-2] + b" " * 100_000 + b"}\n"
    store.write([long], [1], 4)
    fault = store.fault
    assert fault is not None
    assert (fault.errno, fault.filename) == (errno.ENOSPC, files.output)
    store.close()
    monkeypatch.undo()
    store = _open(files)
    assert bytes(store.statuses[:2]) == bytes([DONE, DONE])
    store.close()
