"""Looking at a whole input before anything of it is paid for. Blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from aiosmrt.batch_files.input_row import InputRow, Key, RowReader
from aiosmrt.batch_files.inputs import Input
from aiosmrt.errors import ParameterError

__all__ = ["check_input", "refuse_repeated"]

_SHOWN: Final = 10  # problems
_LONG: Final = 60  # characters of a key
_OFTEN: Final = 1000  # rows between two looks at how far it is


def check_input(rows: Input, reader: RowReader, tell: Callable[[int], None] | None = None) -> int:
    """Find what is wrong with the rows of an input; give how many there are.

    With keys of their own, some 70 bytes of each are in memory meanwhile.

    Args:
        rows: the input.
        reader: finds key and body of a row.
        tell: is told now and then how many rows were looked at.

    Raises:
        ParameterError: rows that cannot be sent, with the first of them in `problems`.
        OSError: the input cannot be read.
    """
    count = 0
    wrong: list[InputRow | ParameterError] = []  # the first of them
    problems = 0
    seen = _Seen()
    for row in rows.read(reader, bodies=False):
        count += 1
        if tell is not None and count % _OFTEN == 0:
            tell(count)
        if isinstance(row, InputRow):
            # The index is nobody else's; a path may be.
            known = reader.has_keys or isinstance(row.key, str)
            if not known or seen.add(row.key):
                continue
        problems += 1
        if problems <= _SHOWN:
            wrong.append(row)
    if problems:
        raise ParameterError(
            f"{rows.name}: {problems} of {count} rows cannot be sent; none was",
            problems=_describe(wrong, rows, reader),
        )
    return count


def refuse_repeated(
    rows: Iterable[InputRow | ParameterError],
) -> Iterator[InputRow | ParameterError]:
    """Give rows, but what is wrong in the place of one whose key an earlier one has had."""
    seen = _Seen()
    for row in rows:
        if isinstance(row, InputRow) and not seen.add(row.key):
            yield ParameterError(
                f"{row.place}: the key {_shorten(repr(row.key))} is that of an earlier row, too"
            )
        else:
            yield row


class _Seen:
    """Keys that have been: texts by their hashes, of which a key may be any number of bytes.

    Numbers are their own: Python's hash is the same of -1 and -2, and of 0 and an empty text.
    """

    def __init__(self) -> None:
        self._texts: set[int] = set()
        self._numbers: set[int] = set()

    def add(self, key: Key) -> bool:
        """Take a key; false where it is there already."""
        if isinstance(key, str):
            seen, known = self._texts, hash(key)
        else:
            seen, known = self._numbers, key
        before = len(seen)
        seen.add(known)
        return len(seen) > before


def _describe(wrong: list[InputRow | ParameterError], rows: Input, reader: RowReader) -> list[str]:
    """Put into words what is wrong: that a row cannot be read, or has the key of another."""
    keys = {row.key for row in wrong if isinstance(row, InputRow)}
    first: dict[Key, str] = {}
    if keys:
        for row in rows.read(reader, bodies=False):
            if isinstance(row, InputRow) and row.key in keys:
                first.setdefault(row.key, row.place)
    return [
        f"{row.place}: the key {_shorten(repr(row.key))} is that of {first[row.key]}, too"
        if isinstance(row, InputRow)
        else str(row)
        for row in wrong
    ]


def _shorten(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."
