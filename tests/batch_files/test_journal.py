"""The journal: what is begun, whatever the process or the disk has died of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiosmrt.batch_files.journal import History, Journal
from aiosmrt.errors import ParameterError

FINGERPRINT = {"--input": "a1", "--body-path": None}


def _start(
    path: Path, rows: int = 100, fingerprint: dict[str, str | None] | None = None
) -> History:
    journal = Journal(str(path))
    try:
        return journal.start(fingerprint or FINGERPRINT, rows)
    finally:
        journal.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal in which rows 0 to 9 and 12 were begun, and 3 was taken back."""
    file = tmp_path / "out.jsonl.journal"
    journal = Journal(str(file))
    journal.start(FINGERPRINT, 100)
    journal.begin(range(10))
    journal.begin([12])
    journal.keep(77)
    journal.forget([3])
    journal.close()
    return file


def test_what_was_begun_is_known_again(path: Path) -> None:
    history = _start(path)
    assert [row for row in range(100) if history.begun[row]] == [0, 1, 2, 4, 5, 6, 7, 8, 9, 12]
    assert (history.kept, history.again, history.damaged) == (77, 0, 0)


def test_its_lines_can_be_read_by_people(path: Path) -> None:
    head, *lines = path.read_text().splitlines()
    assert json.loads(head) == {"aiosmrt batch journal": 1, "fingerprint": FINGERPRINT}
    assert lines == ["begin 0-9", "begin 12-12", "kept 77", "forget 3-3"]


def test_rows_that_are_begun_twice_are_counted_but_not_those_that_were_taken_back(
    path: Path,
) -> None:
    journal = Journal(str(path))
    journal.start(FINGERPRINT, 100)
    journal.begin([3, 8, 9, 10])
    journal.close()
    assert _start(path).again == 2


def test_a_torn_end_is_cut_off_at_every_byte(path: Path) -> None:
    whole = path.read_bytes()
    head = whole.index(b"\n") + 1
    for size in range(head, len(whole)):
        path.write_bytes(whole[:size])
        history = _start(path)
        assert history.damaged == 0
        assert path.read_bytes() == whole[: whole.rindex(b"\n", 0, size) + 1]


def test_a_torn_first_line_is_written_anew_since_nothing_was_sent_before_it(path: Path) -> None:
    whole = path.read_bytes()
    head = whole.index(b"\n")
    for size in (0, 1, 20, head):
        path.write_bytes(whole[:size])
        assert not any(_start(path).begun)
        assert path.read_bytes() == whole[: head + 1]


def test_what_a_disk_without_power_has_left_is_passed_over_and_counted(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0" * 40 + b"\nbegin 20-20\nbegin 99-100\nbegin 5-4\n")
    history = _start(path)
    assert history.begun[20]
    assert history.damaged == 3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--input": "b2", "--body-path": None}, "the input has another content"),
        ({"--input": "a1", "--body-path": "x"}, "--body-path was None, and is 'x'"),
        ({**FINGERPRINT, "--param accept": "hash 1"}, "--param accept was None, and is 'hash 1'"),
    ],
)
def test_another_run_is_refused_and_says_what_differs(
    path: Path, changed: dict[str, str | None], said: str
) -> None:
    before = path.read_bytes()
    with pytest.raises(ParameterError, match=r"journal:1: this run is another one: ") as raised:
        _start(path, fingerprint=changed)
    assert said in str(raised.value)
    assert path.read_bytes() == before


def test_another_version_is_refused_by_its_number(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'journal": 1', b'journal": 2'))
    with pytest.raises(ParameterError, match=r"journal:1: this journal is of version 2, and this"):
        _start(path)


@pytest.mark.parametrize(
    "content",
    [
        "{}\n",
        "notes\n",
        "notes",
        "[]\n",
        "1\n",
        f"{'[' * 100_000}\n",
        '{"aiosmrt batch journal": 1}\n',
        '{"aiosmrt batch journal": 1, "fingerprint": []}\n',
    ],
)
def test_what_is_no_journal_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "out.jsonl.journal"
    path.write_text(content)
    with pytest.raises(ParameterError, match="this is no journal of a batch"):
        _start(path)
    assert path.read_text() == content


def test_one_process_at_a_time_has_it(path: Path) -> None:
    first = Journal(str(path))
    with pytest.raises(ParameterError, match="another process is at work on it"):
        Journal(str(path))
    first.close()
    Journal(str(path)).close()
