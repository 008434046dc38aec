"""A file that is there whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from aiosmrt.async_inference.part_file import PartFile

pytestmark = pytest.mark.usefixtures("quiet_loop")


@pytest.mark.asyncio
async def test_it_takes_its_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    part = PartFile(path)
    await part.finish()
    await part.discard()
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - a Path would block the loop, says ruff
    await part.write(b"a")
    assert "file" not in os.listdir(tmp_path)  # noqa: PTH208
    await part.write(b"b")
    await part.finish()
    await part.discard()
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208
    assert path.read_bytes() == b"ab"
    other = PartFile(path)
    await other.write(b"c")
    await other.discard()
    await other.discard()
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208
    assert path.read_bytes() == b"ab"


@pytest.mark.asyncio
async def test_its_permissions_are_those_of_any_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    part = PartFile("file")
    await part.write(b"a")
    await part.finish()
    (tmp_path / "other").write_bytes(b"a")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.asyncio
async def test_a_cancelled_write_is_over_when_it_raises(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "file")
    for _ in range(20):
        task = asyncio.create_task(part.write(bytes(1000)))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert part._file is not None
    part._file.flush()
    name = part._file.name
    # Each is written whole, or was cancelled before it began.
    assert os.stat(name).st_size % 1000 == 0  # noqa: PTH116 - as above
    await part.discard()
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.asyncio
async def test_however_often_it_is_cancelled_its_thread_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    go, began = threading.Event(), threading.Event()

    def open_slowly(*arguments: Any) -> Any:
        began.set()
        assert go.wait(10)
        if broken:
            raise OSError("no space left")
        return open(*arguments)  # noqa: PTH123 - what it stands for

    monkeypatch.setattr("aiosmrt.async_inference.part_file.open", open_slowly, raising=False)
    part = PartFile(tmp_path / "file")
    task = asyncio.create_task(part.write(b"a"))
    await asyncio.to_thread(began.wait, 10)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.001)
        assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await part.discard()
    assert os.listdir(tmp_path) == []  # noqa: PTH208
