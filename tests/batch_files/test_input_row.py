"""What of a row is its key, and what its body."""

from __future__ import annotations

import datetime
import json

import pytest

from aiosmrt.batch_files.input_row import RowReader, parse_json
from aiosmrt.errors import ParameterError

ROW = {"id": "a1", "ask": {"text": "hi", "size": 1.0}, "none": None, "raw": b"\0\xff", "n": [1, 2]}


@pytest.mark.parametrize(
    ("path", "body", "content_type"),
    [
        ("id", "a1", None),
        ("ask", b'{"text": "hi", "size": 1.0}', "application/json"),
        ("ask.text", "hi", None),
        ("raw", b"\0\xff", None),
        ("n[1]", b"2", "application/json"),
        ("{inputs: ask.text}", b'{"inputs": "hi"}', "application/json"),
        ('"id"', "a1", None),
    ],
)
def test_a_path_finds_the_body(path: str, body: object, content_type: str | None) -> None:
    row = RowReader(body=path).read(0, "x:1", ROW)
    assert (row.body, row.content_type) == (body, content_type)


def test_without_a_path_the_body_is_what_was_written() -> None:
    written = b'{"x":   1.00, "y": 12345678901234567890123}'
    row = RowReader().read(3, "x:4", json.loads(written), written)
    assert (row.body, row.content_type, row.index) == (written, "application/json", 3)


def test_a_text_that_has_no_bytes_is_told_with_its_row() -> None:
    assert RowReader().read(0, "x:1", "\u00e9").body == "\u00e9"
    with pytest.raises(ParameterError, match=r"x:1: the body cannot be written: 'utf-8' codec"):
        RowReader().read(0, "x:1", "half \ud800")


def test_the_key_is_the_index_where_nothing_else_is_said() -> None:
    assert RowReader().read(7, "x:8", "text").key == 7
    assert RowReader(body="id", key="id").read(7, "x:8", ROW).key == "a1"
    assert RowReader(body="id", key="n[0]").read(7, "x:8", ROW).key == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"body": "none"}, "x:1: there is no body: --body-path none finds nothing"),
        ({"body": "ask.nothing"}, "x:1: there is no body: --body-path ask.nothing finds nothing"),
        ({"body": "id.nothing"}, "x:1: there is no body"),
        ({"key": "nothing"}, "x:1: there is no key: --key-path nothing finds nothing"),
        ({"key": "ask"}, "x:1: there is no key: --key-path ask finds a dict"),
        ({"key": "ask.size"}, "x:1: there is no key: --key-path ask.size finds a float"),
        ({"body": "sum(id)"}, "x:1: --body-path sum\\(id\\) fails: In function sum"),
    ],
)
def test_what_a_path_does_not_find_is_told(options: dict[str, str], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        RowReader(**options).read(0, "x:1", ROW)


@pytest.mark.parametrize(
    "value", [{"x": datetime.date(2026, 1, 1)}, {"x": float("nan")}, {"x": b""}]
)
def test_what_json_cannot_say_is_told(value: object) -> None:
    with pytest.raises(ParameterError, match="x:1: the body cannot be written as JSON: "):
        RowReader().read(0, "x:1", value)


def test_a_path_that_is_none_is_told_at_once() -> None:
    with pytest.raises(ParameterError, match=r"--body-path 'a\[' is no JMESPath expression: "):
        RowReader(body="a[")


@pytest.mark.parametrize(
    "line", [b"", b"{", b"NaN", b"[Infinity]", b"\xff", b"[" * 100_000, b"{}x"]
)
def test_a_line_that_is_no_json_is_told(line: bytes) -> None:
    with pytest.raises(ParameterError, match="x:1: this is no JSON: "):
        parse_json(line, "x:1")


def test_a_row_does_not_show_its_body() -> None:
    assert "hi" not in repr(RowReader(body="ask.text").read(0, "x:1", ROW))
