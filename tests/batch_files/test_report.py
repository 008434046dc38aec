"""The report: one page that asks for nothing, and shows what came."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from aiosmrt.batch_files.charts import write_seconds
from aiosmrt.batch_files.figures import Figures
from aiosmrt.batch_files.output_line import Failure, Record
from aiosmrt.batch_files.report import write_report

_ALONE = {"meta", "rect", "line", "polyline"}


class _Checker(HTMLParser):
    """Sees to it that what is opened is closed, and keeps attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in _ALONE - {"rect"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def _read(page: str) -> _Checker:
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


@pytest.fixture
def figures() -> Figures:
    made = Figures()
    for number in range(500):
        failure = None
        if number % 50 == 0:
            failure = Failure(may_have_run=True, type="ModelError")
        seconds = 0.1 + number / 1000
        first_byte = None if failure else seconds / 2
        record = Record(number, 1e9 + number / 10, seconds, first_byte, 1 + number % 2, failure)
        made.add(record, "<script>alert(1)</script> \x1b[2J & more")
    return made


def test_a_page_has_all_that_is_to_be_known(figures: Figures) -> None:
    page = _read(write_report(figures, "aiosmrt batch: out.jsonl", {"endpoint": "my <endpoint>"}))
    for said in ("out.jsonl", "my <endpoint>", "500", "Time to first byte", "Concurrency"):
        assert said in page.text
    for said in ("Throughput", "Percentiles", "99.9 %", "Attempts", "ModelError", "10"):
        assert said in page.text
    charts = [attributes for tag, attributes in page.seen if tag == "svg"]
    assert len(charts) == 4
    assert all(chart["aria-label"] for chart in charts)
    assert sum(tag == "rect" for tag, _ in page.seen) > 20


def test_a_page_runs_and_asks_for_nothing(figures: Figures) -> None:
    written = write_report(figures, "<script>x</script>", {})
    page = _read(written)
    assert not {tag for tag, _ in page.seen} & {"script", "link", "img", "iframe"}
    assert not re.search(r"https?:|url\(|@import|\bon\w+=", written)
    assert "\x1b" not in written


def test_times_that_hardly_differ_leave_no_bar_empty() -> None:
    figures = Figures()
    for number in range(1000):
        figures.add(Record(number, 1e9, 0.05 + number / 100_000, 0.05, 1, None))
    page = _read(write_report(figures, "x", {}))
    heights = [float(found["height"] or 0) for tag, found in page.seen if tag == "rect"]
    assert len(heights) > 3
    assert min(heights) > 1


def test_a_page_of_nothing_can_be_written() -> None:
    assert "There is none." in _read(write_report(Figures(), "x", {})).text


def test_a_page_of_one_row_can_be_written() -> None:
    figures = Figures()
    figures.add(Record(0, 1e9, 0.0, 0.0, 1, None))
    assert "rows done" in _read(write_report(figures, "x", {})).text


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(2e-6, "2 µs"), (0.0125, "12.5 ms"), (1.0, "1 s"), (150.0, "2.5 min"), (9000.0, "2.5 h")],
)
def test_times_are_in_the_unit_that_suits_them(seconds: float, written: str) -> None:
    assert write_seconds(seconds) == written
