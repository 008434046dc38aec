"""Where rows come from: files of lines, tables, folders. Each can be read again, and blocks."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import stat
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import BinaryIO, ClassVar, Final, NoReturn, Protocol

import attrs

from aiosmrt.batch_files.input_row import InputRow, RowReader, parse_json
from aiosmrt.errors import ParameterError

__all__ = [
    "FORMATS",
    "CSVInput",
    "Content",
    "FileInput",
    "Input",
    "JSONLinesInput",
    "LocalFile",
    "choose_format",
    "is_done",
]

FORMATS: Final[Mapping[str, tuple[str, ...]]] = {
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv",),
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".feather", ".ipc"),
    "paths": (".paths",),
    "folder": (),
}
"""What an input can be, and what names of files say so."""

_LONGEST: Final = 64 << 20  # bytes of a line: ten times what an endpoint takes
_PIECE: Final = 1 << 20  # bytes that are hashed at a time
_GZIP: Final = b"\x1f\x8b"
_OPENING: Final = (b"[", b"{")
_CLOSING: Final = (b"]", b"}")


class Content(Protocol):
    """The bytes of an input."""

    def open(self) -> BinaryIO:
        """Open them anew, at their beginning."""

    def digest(self) -> str:
        """Give what other bytes would have another of."""


@attrs.frozen
class LocalFile:
    """A file on this machine."""

    path: str

    def open(self) -> BinaryIO:
        """Open it anew."""
        return open(self.path, "rb")  # noqa: PTH123 - a name, as the user has it

    def digest(self) -> str:
        """Give a hash of all of it."""
        hashed = hashlib.blake2b()
        with self.open() as file:
            while piece := file.read(_PIECE):
                hashed.update(piece)
        return hashed.hexdigest()[:32]


class Input(Protocol):
    """Rows that can be read again and again; all of it blocks."""

    @property
    def name(self) -> str:
        """As errors have it."""

    @property
    def suffix(self) -> str:
        """Of the name of a file of some of its rows, which is such an input, too."""

    def read(
        self, reader: RowReader, *, done: bytearray | None = None, bodies: bool = True
    ) -> Iterator[InputRow | ParameterError]:
        """Give each row, or what is wrong with it.

        Args:
            reader: finds key and body in a row.
            done: a byte for each row that there is, which is left out where that is not 0.
            bodies: whether they are wanted, where they have to be read for themselves.

        Raises:
            ParameterError: what is wrong with all that follows.
            OSError: it cannot be read.
        """

    def digest(self) -> str:
        """Give what another content would have another of."""

    def copy(self, chosen: Container[int], target: BinaryIO) -> None:
        """Write some of the rows, by their indices, so that they are an input of their own."""


def is_done(done: bytearray | None, index: int, name: str) -> bool:
    """Tell whether a row is to be left out.

    Raises:
        ParameterError: the input had no such row.
    """
    if done is None:
        return False
    if index >= len(done):
        raise ParameterError(
            f"{name} has changed since it was looked at: it had {len(done)} rows, and has more"
        )
    return done[index] != 0


def choose_format(path: str) -> str:
    """Tell by its name what an input is: JSON lines where the name says nothing."""
    if os.path.isdir(path):  # noqa: PTH112 - a name, which may be none of a path
        return "folder"
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122
    return next((name for name, suffixes in FORMATS.items() if suffix in suffixes), "jsonl")


@attrs.frozen
class JSONLinesInput:
    """A JSON document in each line; empty lines are none."""

    name: str
    content: Content
    suffix: ClassVar[str] = ".jsonl"

    def read(
        self,
        reader: RowReader,
        *,
        done: bytearray | None = None,
        bodies: bool = True,  # noqa: ARG002 - they come with the rest
    ) -> Iterator[InputRow | ParameterError]:
        """Give each row, or what is wrong with it."""
        for index, (number, line) in enumerate(self._read_lines()):
            if is_done(done, index, self.name):
                continue
            place = f"{self.name}:{number}"
            try:
                yield reader.read(index, place, parse_json(line, place), line)
            except ParameterError as error:
                yield error if index else _advise(error, line)

    def digest(self) -> str:
        """Give that of the content."""
        return self.content.digest()

    def copy(self, chosen: Container[int], target: BinaryIO) -> None:
        """Write some of the lines."""
        for index, (_, line) in enumerate(self._read_lines()):
            if index in chosen:
                target.write(line + b"\n")

    def _read_lines(self) -> Iterator[tuple[int, bytes]]:
        with contextlib.closing(self.content.open()) as file:
            for number, line in _read_lines(file, self.name):
                stripped = line.strip()
                if stripped:
                    yield number, stripped


def _advise(error: ParameterError, line: bytes) -> ParameterError:
    """Say what to do where the first line begins a document that goes on."""
    if not line.startswith(_OPENING) or line.endswith(_CLOSING):
        return error
    return ParameterError(
        f"{error}; each line is to be a JSON document: of an array `jq -c '.[]'` makes such lines, "
        "of documents over several lines `jq -c .`"
    )


@attrs.frozen
class CSVInput:
    """Comma-separated values in UTF-8, as RFC 4180 has them; the first row names the columns."""

    name: str
    content: Content
    suffix: ClassVar[str] = ".csv"

    def read(
        self,
        reader: RowReader,
        *,
        done: bytearray | None = None,
        bodies: bool = True,  # noqa: ARG002 - they come with the rest
    ) -> Iterator[InputRow | ParameterError]:
        """Give each row, a dict of texts by columns, or what is wrong with it."""
        rows = self._read_cells()
        number, head = next(rows, (0, []))
        if len(set(head)) < len(head):
            raise ParameterError(f"{self.name}:{number}: two columns have one name")
        for index, (number, cells) in enumerate(rows):
            if is_done(done, index, self.name):
                continue
            place = f"{self.name}:{number}"
            if len(cells) == len(head):
                try:
                    yield reader.read(index, place, dict(zip(head, cells, strict=True)))
                except ParameterError as error:
                    yield error
            else:
                yield ParameterError(
                    f"{place}: {len(cells)} values, where the first row names {len(head)} columns"
                )

    def digest(self) -> str:
        """Give that of the content."""
        return self.content.digest()

    def copy(self, chosen: Container[int], target: BinaryIO) -> None:
        """Write the names of the columns and some of the rows."""
        for index, (_, cells) in enumerate(self._read_cells(), -1):
            if index < 0 or index in chosen:
                target.write(_write_cells(cells))

    def _read_cells(self) -> Iterator[tuple[int, list[str]]]:
        """Give the cells of each row, and the number of its last line."""
        csv.field_size_limit(_LONGEST)  # else no prompt above 128 KiB
        with contextlib.closing(self.content.open()) as file:
            lines = _Numbered(_read_lines(file, self.name), self.name)
            rows = csv.reader(lines, strict=True)
            while True:
                try:
                    cells = next(rows, None)
                except csv.Error as error:
                    raise ParameterError(f"{self.name}:{lines.number}: {error}") from None
                if cells is None:
                    return
                if cells:
                    yield lines.number, cells


@attrs.frozen
class FileInput:
    """Files, each of them the body of a row, whose key is its path.

    Args:
        name: of the list or the folder.
        list_paths: gives the paths, each time in the same order.
    """

    name: str
    list_paths: Callable[[], Iterator[tuple[str, str]]]  # a place and a path
    suffix: ClassVar[str] = ".paths"

    @classmethod
    def of_folder(cls, folder: str) -> FileInput:
        """Give all files below a folder by their names, but those that begin with a dot."""
        return cls(folder, lambda: _walk(folder))

    @classmethod
    def of_list(cls, name: str, content: Content) -> FileInput:
        """Give the files that a file names, a path in each line."""
        return cls(name, lambda: _read_paths(content, name))

    def read(
        self,
        reader: RowReader,  # noqa: ARG002 - files have no parts
        *,
        done: bytearray | None = None,
        bodies: bool = True,
    ) -> Iterator[InputRow | ParameterError]:
        """Give each file whole, or what is wrong with it."""
        for index, (place, path) in enumerate(self.list_paths()):
            if is_done(done, index, self.name):
                continue
            if "\n" in path or path.endswith("\r"):
                # Which a list of those that failed could not have.
                yield ParameterError(f"{place!r}: its name has a line break")
                continue
            try:
                path.encode()
                # A pipe would be waited for, and a device never ends.
                if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - of very many
                    yield ParameterError(f"{place}: this is no regular file")
                    continue
                with open(path, "rb") as file:  # noqa: PTH123 - as above
                    body = file.read() if bodies else b""
            except OSError as error:
                yield ParameterError(f"{place}: it cannot be read: {error.strerror or error}")
            except UnicodeEncodeError:
                yield ParameterError(f"{place}: its name is no UTF-8, and cannot be a key")
            else:
                yield InputRow(index, path, place, body, None)

    def digest(self) -> str:
        """Give a hash of all paths, sizes and times of change."""
        hashed = hashlib.blake2b()
        for _, path in self.list_paths():
            try:
                found = os.stat(path)  # noqa: PTH116 - of very many
                known = f"{found.st_size} {found.st_mtime_ns}"
            except OSError:
                known = ""
            hashed.update(f"{path}\n{known}\n".encode("utf-8", "surrogateescape"))
        return hashed.hexdigest()[:32]

    def copy(self, chosen: Container[int], target: BinaryIO) -> None:
        """Write a list of some of the files."""
        for index, (_, path) in enumerate(self.list_paths()):
            if index in chosen:
                target.write(os.fsencode(path) + b"\n")


def _walk(folder: str) -> Iterator[tuple[str, str]]:
    for above, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                path = os.path.join(above, name)  # noqa: PTH118 - of very many
                yield path, path


def _refuse(error: OSError) -> NoReturn:
    # Its rows would be left out, and nobody told.
    raise ParameterError(f"{error.filename}: it cannot be read: {error.strerror}")


def _read_paths(content: Content, name: str) -> Iterator[tuple[str, str]]:
    with contextlib.closing(content.open()) as file:
        for number, line in _read_lines(file, name):
            path = os.fsdecode(line.rstrip(b"\r\n"))
            if path:
                yield f"{name}:{number}: {path}", path


def _read_lines(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(_LONGEST + 1):
        number += 1
        if number == 1:
            if line.startswith(_GZIP):
                raise ParameterError(f"{name} is compressed: zcat it, and read it by --input -")
            line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark
        if len(line) > _LONGEST:
            raise ParameterError(f"{name}:{number}: this line is above {_LONGEST} bytes")
        yield number, line


class _Numbered:
    """Lines as text, with the number of the last."""

    def __init__(self, lines: Iterable[tuple[int, bytes]], name: str) -> None:
        self._lines = iter(lines)
        self._name = name
        self.number = 0

    def __iter__(self) -> _Numbered:
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise ParameterError(f"{self._name}:{self.number}: this is no UTF-8: {error}") from None


def _write_cells(cells: list[str]) -> bytes:
    quoted = (
        '"{}"'.format(cell.replace('"', '""')) if any(sign in cell for sign in ',"\r\n') else cell
        for cell in cells
    )
    return (",".join(quoted) or '""').encode() + b"\r\n"
