"""What holds for text, lines and documents alike."""

from __future__ import annotations

import pickle
import sys
import time
from codecs import BOM_UTF8
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.errors import AiosmrtError, PayloadTooLarge
from aiosmrt.payload.documents import JSONDocumentDecoder
from aiosmrt.payload.lines import LineDecoder
from aiosmrt.payload.text import TextDecoder

if TYPE_CHECKING:
    from tests.conftest import Decoding, MakeDecoder

cuts = st.lists(st.integers(0, 10_000), max_size=12)

pieces_of_anything = st.lists(
    st.sampled_from([BOM_UTF8, *(bytes([sign]) for sign in b'"\\[]{},:1e-tn \r\n\xef\xbb\xc3\xa9')])
    | st.binary(min_size=1, max_size=1),
    max_size=30,
).map(b"".join)


@given(pieces_of_anything, cuts)
def test_nothing_but_a_payload_error_comes_out_and_no_split_matters(
    decoding: type[Decoding], data: bytes, places: list[int]
) -> None:
    for make in (TextDecoder, LineDecoder, JSONDocumentDecoder):
        assert (
            decoding.run(make, decoding.cut(data, places)).view()
            == decoding.run(make, [data]).view()
        )


@pytest.mark.parametrize(
    ("make", "data"),
    [
        (TextDecoder, b"\xff"),
        (JSONDocumentDecoder, b"[1}"),
        (lambda: LineDecoder(max_line_length=3), b"four"),
    ],
)
def test_the_errors_pickle(decoding: type[Decoding], make: MakeDecoder, data: bytes) -> None:
    error = decoding.run(make, [data]).error
    assert isinstance(error, AiosmrtError)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_the_default_bounds_admit_what_a_part_can_hold() -> None:
    data = bytes(25 * 1024 * 1024).replace(b"\0", b"x")
    assert LineDecoder().receive(data) == []
    assert JSONDocumentDecoder().receive(b'"' + data) == []
    with pytest.raises(PayloadTooLarge) as caught:
        LineDecoder().receive(data + data)
    assert caught.value.limit == 32 * 1024 * 1024


# Cost


class Idle:
    """What the others are compared with."""

    def receive(self, data: bytes) -> list[object]:
        return []

    def finish(self) -> list[object]:
        return []


def seconds(make: MakeDecoder, chunks: Sequence[bytes]) -> float:
    # Of the processor: what else the machine does is not counted.
    decoder = make()
    began = time.thread_time()
    for chunk in chunks:
        decoder.receive(chunk)
    decoder.finish()
    return time.thread_time() - began


def takes_less(
    make: MakeDecoder,
    chunks: Sequence[bytes],
    times: int,
    others: MakeDecoder,
    same: Sequence[bytes],
) -> bool:
    # In turn, so that what else the machine does falls on both: one undisturbed pair is enough.
    return any(seconds(make, chunks) < times * seconds(others, same) for _ in range(5))


@pytest.mark.skipif(sys.gettrace() is not None, reason="what traces lines costs more than they do")
@pytest.mark.parametrize(
    ("make", "begin", "end"),
    [
        (TextDecoder, b"", b""),
        (LineDecoder, b"", b"\n"),
        (JSONDocumentDecoder, b'"', b'"'),
        (JSONDocumentDecoder, b'{"a": "', b'"}'),
    ],
)
def test_what_only_goes_on_costs_little_more_than_nothing(
    make: MakeDecoder, begin: bytes, end: bytes
) -> None:
    data = begin + b"a" * 100_000 + end
    chunks = [data[place : place + 1] for place in range(len(data))]
    assert takes_less(make, chunks, 6, Idle, chunks)  # measured: 2.1 to 4


@pytest.mark.parametrize(
    ("make", "data"),
    [
        (TextDecoder, "ä".encode() * 25_000),
        (JSONDocumentDecoder, b"[" + b" " * 50_000 + b"]"),
        (JSONDocumentDecoder, b'["' + b'\\"' * 25_000 + b'"]'),
    ],
)
def test_one_byte_at_a_time_costs_a_multiple_of_nothing(make: MakeDecoder, data: bytes) -> None:
    chunks = [data[start : start + 1] for start in range(len(data))]
    assert takes_less(make, chunks, 50, Idle, chunks)  # measured: 12 to 24


@pytest.mark.parametrize(
    ("make", "item"),
    [
        (TextDecoder, b'{"outputs": [" token"]}\n'),
        (TextDecoder, "ä".encode()),
        (LineDecoder, b'{"outputs": [" token"]}\n'),
        (LineDecoder, b"\r\n"),
        (JSONDocumentDecoder, b'{"outputs": [" token"]}\n'),
        (JSONDocumentDecoder, b"{}"),
        (JSONDocumentDecoder, b'"a"'),
        (JSONDocumentDecoder, b"1 "),
    ],
)
def test_many_in_one_chunk_cost_no_more_than_one_by_one(make: MakeDecoder, item: bytes) -> None:
    items = [item] * 3_000
    assert takes_less(make, [b"".join(items)], 4, make, items)  # measured: 0.2 to 1


@pytest.mark.parametrize(
    ("make", "unit"),
    [
        (TextDecoder, "ä".encode()),
        (lambda: TextDecoder("backslashreplace"), b"\xff"),
        (LineDecoder, b"\n"),
        (LineDecoder, "ä\n".encode()),
        (JSONDocumentDecoder, b"{}"),
        (JSONDocumentDecoder, b'""'),
        (JSONDocumentDecoder, b"1\n"),
        (JSONDocumentDecoder, b"1" + BOM_UTF8),
        (JSONDocumentDecoder, b"[[[]]]"),
        (JSONDocumentDecoder, b'"\\""[]'),
    ],
)
def test_a_slice_takes_some_milliseconds(
    make: Callable[[], TextDecoder | LineDecoder | JSONDocumentDecoder], unit: bytes
) -> None:
    length = make().slice_length
    data = unit * (length // len(unit))
    assert any(seconds(make, [data]) < 0.03 for _ in range(3))  # measured: 0.1 to 7 ms
