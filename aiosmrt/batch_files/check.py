"""Looking at a whole input before anything of it is paid for. Blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from aiosmrt.batch_files.input_row import InputRow, Key, RowReader
from aiosmrt.batch_files.inputs import Input
from aiosmrt.errors import ParameterError

__all__ = ["check_input"]

_SHOWN: Final = 10  # problems
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
    count = wrong = 0
    problems: list[str] = []
    seen: set[int] = set()
    twice: list[InputRow] = []
    for row in rows.read(reader, bodies=False):
        count += 1
        if tell is not None and count % _OFTEN == 0:
            tell(count)
        if isinstance(row, ParameterError):
            wrong += 1
            if len(problems) < _SHOWN:
                problems.append(str(row))
        elif reader.has_keys:
            known = hash(row.key)
            if known in seen:
                wrong += 1
                if len(twice) < _SHOWN:
                    twice.append(row)
            seen.add(known)
    if twice:
        problems += _describe(twice, rows.read(reader, bodies=False))
    if wrong:
        summary = f"{rows.name}: {wrong} of {count} rows cannot be sent; none was"
        raise ParameterError(summary, problems=problems)
    return count


def _describe(twice: list[InputRow], rows: Iterator[InputRow | ParameterError]) -> list[str]:
    wanted = {row.key for row in twice}
    first: dict[Key, str] = {}
    for row in rows:
        if isinstance(row, InputRow) and row.key in wanted and row.key not in first:
            first[row.key] = row.place
            if len(first) == len(wanted):
                break
    return [f"{row.place}: the key {row.key!r} is that of {first[row.key]}, too" for row in twice]
