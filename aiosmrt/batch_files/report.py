"""A page of HTML with the figures of a batch: one file that asks for nothing else. Pure."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Final

from aiosmrt.batch_files.charts import Line, draw_histogram, draw_lines, write_seconds
from aiosmrt.batch_files.figures import Distribution, Figures
from aiosmrt.plain_text import to_line

__all__ = ["write_report"]

_BARS: Final = 28  # of a histogram, at most
_NARROWEST: Final = math.log(1.04)  # of a bar
_LEAST: Final = 1e-6  # seconds, of a chart
_SHARES: Final = (0.5, 0.9, 0.95, 0.99, 0.999)
_STYLE: Final = """
:root { color-scheme: light dark; --ground: #fff; --card: #f5f6f8; --text: #1b1f24;
  --faint: #5b6570; --rule: #d5d9de; --blue: #2563c9; --red: #c2372e; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --card: #1d2126; --text: #e6e9ec;
  --faint: #9aa4ae; --rule: #363c43; --blue: #6ea8ff; --red: #ff8078; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.25rem; background: var(--ground);
  color: var(--text); font: 16px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 0 0 .5rem; }
h2 .note { display: block; font-weight: 400; }
section, .tiles > div { background: var(--card); border-radius: .5rem; padding: 1rem;
  min-width: 0; }
.facts { color: var(--faint); margin: 0 0 1rem; overflow-wrap: anywhere; }
.tiles, .grid { display: grid; gap: 1rem; margin-bottom: 1rem; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); }
.grid { grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.tiles b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.tiles span, .note { color: var(--faint); font-size: .875rem; }
.bad { color: var(--red); }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
svg .grid { stroke: var(--rule); }
.bar { fill: var(--blue); }
.line { fill: none; stroke-width: 1.75; stroke-linejoin: round; }
.line.done { stroke: var(--blue); }
.line.failed { stroke: var(--red); }
.key { display: inline-block; width: .75em; height: .75em; border-radius: 2px;
  margin: 0 .35em 0 .75em; }
.whole { white-space: nowrap; }
.key.done { background: var(--blue); }
.key.failed { background: var(--red); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .5rem; border-bottom: 1px solid var(--rule);
  vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
td.text { overflow-wrap: anywhere; color: var(--faint); font-size: .875rem;
  padding-bottom: .75rem; }
"""


def write_report(figures: Figures, title: str, facts: Mapping[str, str]) -> str:
    """Write the page.

    Args:
        figures: of all rows that are done.
        title: of the page.
        facts: what else is to be known, by what it is.
    """
    timeline = figures.timeline
    known = " · ".join(f"{_escape(name)} {_escape(fact)}" for name, fact in facts.items())
    parts = [
        f"<h1>{_escape(title)}</h1>",
        f'<p class="facts">{known}</p>',
        _write_tiles(figures),
        '<div class="grid">',
        _write_distribution("Time of a row", "from its turn to its response", figures.seconds),
        _write_distribution(
            "Time to first byte",
            "from the request's first byte to the head of its answer",
            figures.first_byte,
        ),
        _write_timeline(figures),
        _write_percentiles(figures),
        _write_attempts(figures),
        "</div>",
        _write_errors(figures),
    ]
    if timeline.pauses:
        parts.append(
            f'<p class="note">Over time: {timeline.pauses} pauses between runs are left out.</p>'
        )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _escape(text: str) -> str:
    return html.escape(to_line(text))


def _write_tiles(figures: Figures) -> str:
    seconds = figures.timeline.seconds
    tiles = [
        (f"{figures.done:,}", "rows done", ""),
        (f"{figures.failed:,}", "of them failed", "bad" if figures.failed else ""),
        (f"{figures.at_risk:,}", "failed, and may have run", "bad" if figures.at_risk else ""),
        (f"{figures.retries:,}", "further attempts", ""),
        (f"{figures.done / seconds:,.1f}" if seconds else "-", "rows a second", ""),
        (write_seconds(seconds), "in all", ""),
    ]
    return (
        '<div class="tiles">'
        + "".join(
            f'<div><b class="{kind}">{value}</b><span>{name}</span></div>'
            for value, name, kind in tiles
        )
        + "</div>"
    )


def _write_distribution(title: str, meaning: str, found: Distribution) -> str:
    chart = '<p class="note">There is none.</p>'
    if found.count:
        low, high = max(found.least, _LEAST) / 1.05, max(found.most, _LEAST) * 1.05
        # Bars that were narrower than what is told apart would be empty in between.
        bars = max(min(_BARS, int(math.log(high / low) / _NARROWEST)), 1)
        factor = (high / low) ** (1 / bars)
        borders = [low * factor**number for number in range(bars + 1)]
        label = (
            f"{title}: half of the rows within {write_seconds(found.find(0.5))}, "
            f"99 % within {write_seconds(found.find(0.99))}"
        )
        chart = draw_histogram(label, borders, found.fill(borders))
    return _write_section(title, f"rows by time, {meaning}", chart)


def _write_timeline(figures: Figures) -> str:
    timeline = figures.timeline
    if not timeline.bins:
        return ""
    last = len(timeline.bins) - 1
    # The last while is not over.
    widths = [timeline.width] * last + [max(timeline.seconds - last * timeline.width, 0.2)]
    pairs = list(zip(timeline.bins, widths, strict=True))
    done = Line("done", "done", [one.done / width for one, width in pairs])
    failed = Line("failed", "failed", [one.failed / width for one, width in pairs])
    busy = Line("in flight", "done", [one.busy / width for one, width in pairs])
    key = "".join(
        f'<span class="whole"><i class="key {line.kind}"></i>{line.name}</span> '
        for line in (done, failed)
    )
    return _write_section(
        "Throughput",
        f"rows a second, over time {key}",
        draw_lines("Rows a second over time", [done, failed], timeline.seconds),
    ) + _write_section(
        "Concurrency",
        "rows in flight, over time",
        draw_lines("Rows in flight over time", [busy], timeline.seconds),
    )


def _write_percentiles(figures: Figures) -> str:
    rows = []
    for share in (*_SHARES, 1.0):
        cells = [
            write_seconds(found.find(share)) if found.count else "-"
            for found in (figures.seconds, figures.first_byte)
        ]
        rows.append(["longest" if share == 1 else f"{share * 100:g} %", *cells])
    means = [
        write_seconds(found.total / found.count) if found.count else "-"
        for found in (figures.seconds, figures.first_byte)
    ]
    rows.append(["mean", *means])
    return _write_section(
        "Percentiles", "so many rows within", _write_table(["", "row", "first byte"], rows)
    )


def _write_attempts(figures: Figures) -> str:
    rows = [
        [f"{attempts}", f"{count:,}", f"{count / figures.done:.1%}"]
        for attempts, count in sorted(figures.attempts.items())
    ]
    return _write_section(
        "Attempts", "rows by requests that were begun", _write_table(["attempts", "rows", ""], rows)
    )


def _write_errors(figures: Figures) -> str:
    if not figures.errors:
        return ""
    kinds = sorted(figures.errors.items(), key=lambda item: -item[1].count)
    rows = "".join(
        f"<tr><td>{_escape(name)}</td><td>{kind.count:,}</td><td>{kind.may_have_run:,}</td></tr>"
        f'<tr><td class="text" colspan="3">{_escape(kind.example)}</td></tr>'
        for name, kind in kinds
    )
    return _write_section(
        "Errors",
        "rows without a response, by kind, with what the first of each says",
        f"<table><tr><th>kind</th><th>rows</th><th>may have run</th></tr>{rows}</table>",
    )


def _write_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"


def _write_section(title: str, note: str, content: str) -> str:
    return f'<section><h2>{title} <span class="note">{note}</span></h2>{content}</section>'
