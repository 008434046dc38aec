"""A file that is there whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from aiosmrt.batch_files import open_whole


def test_content_is_there_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with open_whole(str(path)) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("had", [b"old", None])
def test_a_failure_leaves_what_was_there_and_nothing_beside_it(
    tmp_path: Path, had: bytes | None
) -> None:
    path = tmp_path / "file"
    if had is not None:
        path.write_bytes(had)
    with pytest.raises(ValueError, match="closed"), open_whole(str(path)) as file:
        file.close()
    assert [one.read_bytes() for one in tmp_path.iterdir()] == ([] if had is None else [had])


def test_a_full_disk_is_told_with_the_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left") as caught, open_whole("file") as file:
        file.write(b"new")
    assert caught.value.filename == "file"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_goes_on_to_lead_to_the_file(tmp_path: Path) -> None:
    there, link = tmp_path / "there", tmp_path / "link"
    there.write_bytes(b"old")
    link.symlink_to(there)
    with open_whole(str(link)) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert there.read_bytes() == b"new"
