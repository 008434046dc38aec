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

    With keys of their own, the hash of each is in memory meanwhile: some 70 bytes a row.

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
    seen: set[int] = set()
    for row in rows.read(reader, bodies=False):
        count += 1
        if tell is not None and count % _OFTEN == 0:
            tell(count)
        if isinstance(row, InputRow):
            if not reader.has_keys:
                continue
            known = hash(row.key)
            if known not in seen:
                seen.add(known)
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
    seen: set[int] = set()
    for row in rows:
        known = hash(row.key) if isinstance(row, InputRow) else None
        if isinstance(row, InputRow) and known in seen:
            yield ParameterError(
                f"{row.place}: the key {_shorten(repr(row.key))} is that of an earlier row, too"
            )
        else:
            yield row
        if known is not None:
            seen.add(known)


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
