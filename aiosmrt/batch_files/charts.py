"""Charts as SVG, in the colours of the page that they stand in. Pure."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Final

import attrs

__all__ = ["Line", "draw_histogram", "draw_lines", "write_seconds"]

# A chart is about as wide as it is on a phone: its letters are then as large as the page's.
_WIDTH: Final = 360
_HEIGHT: Final = 190
_LEFT: Final = 44
_RIGHT: Final = 12
_TOP: Final = 12
_BOTTOM: Final = 30
_TICKS: Final = 4  # at most, so that their labels do not meet
_STEPS: Final = (1.0, 2.0, 5.0)
_ENDS: Final = (1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)  # of scales
_MILLISECOND: Final = 1e-3
_MINUTE: Final = 60.0
_HOUR: Final = 3600.0


@attrs.frozen
class Line:
    """A series of values, one for each while.

    Attributes:
        name: as the legend has it.
        kind: the class of its colour.
        values: in the order of time.
    """

    name: str
    kind: str
    values: Sequence[float]


def write_seconds(seconds: float) -> str:
    """Write a span of time in the unit that suits it."""
    if seconds < _MILLISECOND:
        return f"{seconds * 1e6:.3g} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 2 * _MINUTE:
        return f"{seconds:.3g} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.3g} min"
    return f"{seconds / _HOUR:.3g} h"


def draw_histogram(label: str, borders: Sequence[float], counts: Sequence[int]) -> str:
    """Draw how many values are between each border and the next; borders grow by one factor.

    Args:
        label: what it shows, for those who do not see it.
        borders: in seconds, in ascending order.
        counts: one fewer.
    """
    top = _round_up(max(counts))
    low, high = math.log(borders[0]), math.log(borders[-1])
    parts = [_draw_scale(top)]
    for begin, end, number in zip(borders, borders[1:], counts, strict=False):
        left, right = (_place(math.log(border), low, high) for border in (begin, end))
        if number:
            # Something is to be seen of the smallest, too.
            height = max(number / top * (_HEIGHT - _TOP - _BOTTOM), 1.0)
            said = f"{write_seconds(begin)} to {write_seconds(end)}: {number:,}"
            parts.append(
                f'<rect class="bar" x="{left:.1f}" y="{_HEIGHT - _BOTTOM - height:.1f}" '
                f'width="{max(right - left - 1, 1):.1f}" height="{height:.1f}">'
                f"<title>{said}</title></rect>"
            )
    parts += [
        _draw_label(_place(math.log(tick), low, high), write_seconds(tick))
        for tick in _choose_ticks(borders[0], borders[-1])
    ]
    return _frame(label, parts)


def draw_lines(label: str, lines: Sequence[Line], seconds: float) -> str:
    """Draw series over time.

    Args:
        label: what it shows, for those who do not see it.
        lines: at least one, each as long as the others.
        seconds: how long they take together.
    """
    top = _round_up(max(max(line.values) for line in lines))
    parts = [_draw_scale(top)]
    for line in lines:
        points = []
        for number, value in enumerate(line.values):
            y = _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)
            # A while is as wide as it is long.
            points += [f"{_place(number + end, 0, len(line.values)):.1f},{y:.1f}" for end in (0, 1)]
        parts.append(f'<polyline class="line {line.kind}" points="{" ".join(points)}"/>')
    parts += [
        _draw_label(_place(share, 0, 1), write_seconds(share * seconds) if share else "0")
        for share in (0, 0.5, 1)
    ]
    return _frame(label, parts)


def _frame(label: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(label)}">'
    return f"{head}{''.join(parts)}</svg>"


def _draw_scale(top: float) -> str:
    parts = []
    for share in (0, 0.5, 1):
        y = _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_write(share * top)}</text>'
        )
    return "".join(parts)


def _draw_label(x: float, text: str) -> str:
    anchor = "end" if x > _WIDTH - 2 * _RIGHT else "middle"
    return f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="{anchor}">{text}</text>'


def _place(value: float, low: float, high: float) -> float:
    return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)


def _write(number: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:.3g}"


def _round_up(number: float) -> float:
    """Give the next number of the kind that scales end with."""
    if number <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(number))
    return next(step * power for step in _ENDS if step * power >= number * (1 - 1e-9))


def _choose_ticks(low: float, high: float) -> list[float]:
    """Give round numbers between two others, not too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in _STEPS]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) < 2:  # noqa: PLR2004 - one says nothing of the scale
        return [low, math.sqrt(low * high), high]
    return ticks[:: math.ceil(len(ticks) / _TICKS)]
