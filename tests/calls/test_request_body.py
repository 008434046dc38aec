"""Bodies of every kind, made whole."""

from __future__ import annotations

import array
import asyncio
import datetime
import io
import json
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from starlette.datastructures import UploadFile

from aiosmrt.calls.request_body import OneTimeBody, collect_body, write_json_body
from aiosmrt.errors import ParameterError
from aiosmrt.service import Arguments

_SIX_MB = 6 * 1024 * 1024


async def _stream(*chunks: object) -> AsyncIterator[object]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize(
    ("body", "collected"),
    [
        (b"", b""),
        (b"bytes", b"bytes"),
        ("", b""),
        ("häß", "häß".encode()),
        (bytearray(b"array"), b"array"),
        (memoryview(b"view"), b"view"),
        (memoryview(b"a-b-c")[::2], b"abc"),
        (memoryview(array.array("H", [1, 2])), array.array("H", [1, 2]).tobytes()),
        (io.BytesIO(b"file"), b"file"),
        (io.BytesIO(b""), b""),
        (io.StringIO("tëxt"), "tëxt".encode()),
        (_stream(b"a", bytearray(b"b"), memoryview(b"c"), "ß"), "abcß".encode()),
        (_stream(), b""),
    ],
)
@pytest.mark.asyncio
async def test_every_kind_becomes_bytes(body: object, collected: bytes) -> None:
    result = await collect_body(body, None)
    assert isinstance(result, bytes)
    assert result == collected
    assert isinstance(result, OneTimeBody) == isinstance(body, AsyncIterator)


@pytest.mark.asyncio
async def test_bytes_are_not_copied() -> None:
    body = bytes(1000)
    assert await collect_body(body, 10) is body


@pytest.mark.asyncio
async def test_a_file_that_cannot_seek_is_good_for_one_time() -> None:
    class Tape:
        def __init__(self, **methods: object) -> None:
            self.left = [b"tape"]
            self.__dict__ |= methods

        def read(self, size: int) -> bytes:
            return self.left.pop() if self.left else b""

    assert type(await collect_body(Tape(), None)) is OneTimeBody
    assert type(await collect_body(Tape(seekable=lambda: False), None)) is OneTimeBody
    rewindable = await collect_body(Tape(seekable=lambda: True), None)
    assert rewindable == b"tape"
    assert type(rewindable) is bytes
    # Whoever has collected it before has not made another body of it.
    body = await collect_body(Tape(), None)
    assert await collect_body(body, 10) is body


@pytest.mark.parametrize("body", [None, 3, {"a": 1}, [b"a"], ("a",)])
@pytest.mark.asyncio
async def test_what_is_no_body_is_left_to_the_validation(body: object) -> None:
    assert await collect_body(body, None) is body


@pytest.mark.parametrize("chunks", [[3], [b"a", None], [["b"]]])
@pytest.mark.asyncio
async def test_a_source_of_something_else_is_refused(chunks: Iterable[object]) -> None:
    kind = type(list(chunks)[-1]).__qualname__
    with pytest.raises(ParameterError, match=f"body: its source gave a {kind}, not bytes or str"):
        await collect_body(_stream(*chunks), None)


@pytest.mark.asyncio
async def test_a_file_of_something_else_is_refused() -> None:
    class Numbers:
        def read(self, size: int) -> object:
            return size

    with pytest.raises(ParameterError, match="gave a int, not bytes or str"):
        await collect_body(Numbers(), None)


@pytest.mark.parametrize("text", ["\ud800", "fine \udcff"])
@pytest.mark.asyncio
async def test_text_that_utf8_cannot_hold_is_refused(text: str) -> None:
    for body in (text, _stream("ok", text), io.StringIO(text)):
        with pytest.raises(ParameterError, match=r"body: .* UTF-8"):
            await collect_body(body, None)


@pytest.mark.asyncio
async def test_a_source_may_be_as_long_as_the_limit() -> None:
    assert await collect_body(_stream(b"12", b"34"), 4) == b"1234"
    assert await collect_body(io.BytesIO(b"1234"), 4) == b"1234"


@pytest.mark.asyncio
async def test_an_endless_source_is_given_up_at_the_limit() -> None:
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 1
            yield b"1234567890"

    with pytest.raises(
        ParameterError, match=r"body must be at most 95 bytes; its source gave more"
    ):
        await collect_body(endless(), 95)
    assert given == 10

    class Endless:
        def read(self, size: int) -> bytes:
            return bytes(size)

    with pytest.raises(ParameterError, match="at most 100000 bytes"):
        await collect_body(Endless(), 100_000)


@pytest.mark.asyncio
async def test_a_file_is_read_in_a_thread_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"skip" + bytes(_SIX_MB))
    threads = set()

    class Spied(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            threads.add(threading.current_thread())
            return super().read(size)

    with Spied(path) as file:
        file.seek(4)
        assert await collect_body(file, None) == bytes(_SIX_MB)
        assert not file.closed
    assert threads
    assert threading.main_thread() not in threads


class _AsyncFile:
    """As those of aiofiles and anyio: it gives lines, too."""

    def __init__(self, data: bytes | str, *, seekable: bool = True) -> None:
        self._file = io.BytesIO(data) if isinstance(data, bytes) else io.StringIO(data)
        self._seekable = seekable
        self.sizes: list[int] = []

    async def read(self, size: int = -1) -> bytes | str:
        await asyncio.sleep(0)
        self.sizes.append(size)
        return self._file.read(size)

    async def seekable(self) -> bool:
        return self._seekable

    def __aiter__(self) -> AsyncIterator[bytes | str]:
        raise AssertionError("line by line")


class _Hidden:
    """Its `read` does not look like a coroutine function."""

    def __init__(self, data: bytes) -> None:
        self._file = _AsyncFile(data)
        self.seek = None

    def read(self, size: int) -> Awaitable[bytes | str]:
        return self._file.read(size)


def _upload(data: bytes) -> UploadFile:
    file = tempfile.SpooledTemporaryFile(max_size=1000)  # noqa: SIM115 - the upload's to close
    file.write(data)
    file.seek(4)
    return UploadFile(cast("BinaryIO", file))


def _stream_reader(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


@pytest.mark.parametrize(
    ("make", "again"),
    [
        (lambda data: _AsyncFile(data[4:]), True),
        (lambda data: _AsyncFile(data[4:].decode()), True),
        (lambda data: _AsyncFile(data[4:], seekable=False), False),
        (lambda data: _Hidden(data[4:]), False),
        (_upload, True),
        (lambda data: _stream_reader(data[4:]), False),
    ],
)
@pytest.mark.parametrize("size", [0, 1, 200_000])
@pytest.mark.asyncio
async def test_an_asynchronous_file_is_read_from_where_it_stands(
    make: Callable[[bytes], object], size: int, *, again: bool
) -> None:
    data = b"line\n" * (size // 5) + b"a" * (size % 5)
    file = make(b"skip" + data)
    collected = await collect_body(file, None)
    assert collected == data
    assert isinstance(collected, OneTimeBody) is not again
    if isinstance(file, UploadFile):
        await file.close()


@pytest.mark.asyncio
async def test_what_is_wrong_with_an_asynchronous_file_is_said() -> None:
    for file in (_AsyncFile(bytes(200_000)), _Hidden(bytes(200_000))):
        with pytest.raises(ParameterError, match="at most 100000 bytes"):
            await collect_body(file, 100_000)

    class Numbers:
        async def read(self, size: int) -> int:
            return size

    with pytest.raises(ParameterError, match="gave a int, not bytes or str"):
        await collect_body(Numbers(), None)


@pytest.mark.asyncio
async def test_an_iterable_that_can_be_read_as_a_whole_only_is_iterated() -> None:
    class Answer:
        async def read(self) -> bytes:
            raise AssertionError("as a whole")

        def __aiter__(self) -> AsyncIterator[object]:
            return _stream(b"a", b"b")

    assert await collect_body(Answer(), None) == b"ab"


@pytest.mark.asyncio
async def test_what_a_source_raises_is_raised() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        await collect_body(broken(), None)

    class Broken:
        def read(self, size: int) -> bytes:
            raise OSError("tape")

    with pytest.raises(OSError, match="tape"):
        await collect_body(Broken(), None)


@pytest.mark.parametrize("value", [{"a": [1, "ä"]}, [], {}, "", 0, False, "text"])
def test_json_is_written_as_the_body(value: object) -> None:
    arguments = Arguments({"json": value})
    write_json_body(arguments, ())
    body = arguments.parameters["body"]
    assert type(body) is bytes
    assert json.loads(body) == value
    assert arguments.parameters["content_type"] == "application/json"
    write_json_body(arguments, ())  # there is nothing left to write
    assert arguments.parameters["body"] is body


def test_no_json_is_no_body() -> None:
    arguments = Arguments({"json": None})
    write_json_body(arguments, ())
    assert arguments.parameters == {}


@pytest.mark.parametrize(
    ("given", "names", "content_type"),
    [
        ({"content_type": "application/jsonlines"}, (), "application/jsonlines"),
        ({"content_type": ""}, (), ""),
        ({"content_type": None}, (), "application/json"),
        ({"headers": {"Content-TYPE": "a/b"}}, (), None),
        ({}, ("CONTENT-type",), None),
        ({"headers": None}, ("accept",), "application/json"),
    ],
)
def test_json_has_its_type_unless_another_is_given(
    given: Any, names: Iterable[str], content_type: str | None
) -> None:
    arguments = Arguments(given | {"json": 1})
    write_json_body(arguments, names)
    assert arguments.parameters.get("content_type") == content_type


_CIRCLE: list[object] = []
_CIRCLE.append(_CIRCLE)
_DEEP: list[object] = []
for _ in range(100_000):
    _DEEP = [_DEEP]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": [float("nan")]}, "json: the value at ['a'][0] is nan, which JSON cannot say"),
        (float("-inf"), "json: the value is -inf"),
        ({float("inf"): 1}, "json: a key is inf"),
        ({"secret"}, "json: Object of type set is not JSON serializable: make JSON's values of it"),
        (datetime.date(2030, 1, 1), "json: Object of type date is not JSON serializable"),
        ({b"a": 1}, "json: keys must be str, int, float, bool or None, not bytes"),
        (_CIRCLE, "json: Circular reference detected"),
        (_DEEP, "json: maximum recursion depth exceeded"),
    ],
    ids=["NaN", "infinity", "key", "set", "date", "bytes", "circle", "deep"],
)
def test_what_json_cannot_say_is_refused(value: object, problem: str) -> None:
    arguments = Arguments({"json": value})
    with pytest.raises(ParameterError) as caught:
        write_json_body(arguments, ())
    assert str(caught.value).startswith(problem)
    assert "secret" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize("body", [b"", b"x", "text"])
def test_json_and_a_body_exclude_each_other(body: bytes | str) -> None:
    with pytest.raises(ParameterError, match="body and json exclude each other"):
        write_json_body(Arguments({"body": body, "json": 1}), ())  # type: ignore[typeddict-unknown-key]
