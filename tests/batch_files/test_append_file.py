"""A file that grows by whole lines, also where the disk is full."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiosmrt.batch_files.append_file import AppendFile, Reserve, sync_folder


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], None]:
    """Have the disk take so many more bytes into files that are appended to."""
    write = os.write
    room = 1 << 30
    reserve = tmp_path / "out.reserve"
    held = 0

    def take(descriptor: int, data: bytes | memoryview) -> int:
        nonlocal room, held
        if held and not reserve.exists():
            room, held = room + held, 0
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(descriptor, data[:room])
        room -= written
        return written

    def fill(left: int) -> None:
        nonlocal room, held
        room, held = left, reserve.stat().st_size if reserve.exists() else 0
        monkeypatch.setattr(os, "write", take)

    return fill


def test_lines_are_appended_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"a\n")
    file = AppendFile(str(path))
    file.append(b"b\n")
    assert file.sync() == file.size == 4
    file.truncate(2)
    file.append(b"c\n")
    file.close()
    file.close()
    assert path.read_bytes() == b"a\nc\n"


def test_what_cannot_be_written_whole_is_not_there(
    tmp_path: Path, fill: Callable[[int], None]
) -> None:
    path = tmp_path / "out"
    file = AppendFile(str(path))
    file.append(b"whole\n")
    fill(3)
    with pytest.raises(OSError, match="No space left on device") as raised:
        file.append(b"not whole\n")
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"whole\n"
    fill(100)
    file.append(b"again\n")
    file.close()
    assert path.read_bytes() == b"whole\nagain\n"


def test_what_is_under_way_finds_room_that_was_kept(
    tmp_path: Path, fill: Callable[[int], None]
) -> None:
    reserve = Reserve(str(tmp_path / "out.reserve"))
    reserve.hold(1000)
    file = AppendFile(str(tmp_path / "out"), reserve)
    fill(3)
    file.append(b"x" * 500)
    assert reserve.used
    assert not (tmp_path / "out.reserve").exists()
    reserve.hold(1000)  # no more: it was needed
    file.append(b"x" * 500)
    with pytest.raises(OSError, match="No space left"):
        file.append(b"x" * 500)
    file.close()
    assert (tmp_path / "out").stat().st_size == 1000


def test_a_reserve_grows_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "out.reserve"
    reserve = Reserve(str(path))
    for size in (100_000, 50_000, 300_000):
        reserve.hold(size)
        assert path.stat().st_size >= size
    reserve.drop()
    reserve.drop()
    assert not path.exists()
    assert (reserve.used, reserve.is_short) == (False, False)


def test_room_that_is_needed_while_more_is_asked_for_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.reserve"
    reserve = Reserve(str(path))
    reserve.hold(1000)
    needing = threading.Thread(target=reserve.use)
    open_file = os.open

    def open_late(*arguments: Any) -> int:
        needing.start()
        needing.join(0.1)
        return open_file(*arguments)

    monkeypatch.setattr(os, "open", open_late)
    reserve.hold(100_000)
    needing.join()
    assert reserve.used
    assert not path.exists()


def test_a_reserve_that_finds_no_room_says_so(tmp_path: Path) -> None:
    reserve = Reserve(str(tmp_path / "nowhere" / "out.reserve"))
    reserve.hold(100)
    assert reserve.is_short


def test_where_room_cannot_be_asked_for_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    reserve = Reserve(str(tmp_path / "out.reserve"))
    reserve.hold(100_000)
    assert (tmp_path / "out.reserve").stat().st_size >= 100_000


def test_another_file_takes_the_place(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old\n")
    file = AppendFile(str(path))
    (tmp_path / "new").write_bytes(b"new\n")

    def replace() -> None:
        (tmp_path / "new").replace(path)

    file.replace(replace)
    file.append(b"more\n")
    file.close()
    assert path.read_bytes() == b"new\nmore\n"


def test_one_process_locks_it(tmp_path: Path) -> None:
    first, second = AppendFile(str(tmp_path / "out")), AppendFile(str(tmp_path / "out"))
    assert first.lock()
    assert not second.lock()
    first.close()
    assert second.lock()
    second.close()


def test_a_folder_is_synced(tmp_path: Path) -> None:
    sync_folder(str(tmp_path / "out"))
    sync_folder("out")
    sync_folder("nowhere/at/all")
