"""Charts as SVG, for pages that are generated: readable on a light and on a dark ground."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _NAMES, _VALUES = 760, 170, 90
_ROW, _TOP, _BAR = 26, 40, 16
_OURS, _THEIRS, _TEXT, _LINE = "#2f81f7", "#9a8fb5", "#7d8590", "#7d859055"
_COLOURS = (_OURS, "#d2893a", "#3fa45b", "#c05b9b")


def bars(title: str, unit: str, rows: Sequence[tuple[str, float | None, bool]]) -> str:
    """Return a chart of one bar a row on a logarithmic scale: a name, its value or None, and whether it is highlighted.

    Values are above 0. Shorter is better.
    """
    low, high = _decades(value for _, value, _ in rows if value is not None)
    place = _scale(low, high, _NAMES, _WIDTH - _VALUES)
    height = _TOP + _ROW * len(rows) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<text x="0" y="18" fill="{_TEXT}" font-size="15">{escape(title)}</text>',
    ]
    for mark in _marks(low, high):
        x = place(mark)
        parts.append(f'<path d="M{x:.1f} {_TOP - 8}V{height - 22}" stroke="{_LINE}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 6}" fill="{_TEXT}" text-anchor="middle">{mark:,g}</text>')
    for at, (name, value, ours) in enumerate(rows):
        y = _TOP + _ROW * at
        parts.append(f'<text x="{_NAMES - 8}" y="{y + 13}" fill="{_TEXT}" text-anchor="end">{escape(name)}</text>')
        if value is None:
            parts.append(f'<text x="{_NAMES + 6}" y="{y + 13}" fill="{_TEXT}">not measured</text>')
            continue
        wide = max(place(value) - _NAMES, 2)
        fill = _OURS if ours else _THEIRS
        parts.append(f'<rect x="{_NAMES}" y="{y}" width="{wide:.1f}" height="{_BAR}" rx="2" fill="{fill}"/>')
        text = f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
        parts.append(f'<text x="{_NAMES + wide + 6:.1f}" y="{y + 13}" fill="{_TEXT}">{text} {escape(unit)}</text>')
    return "\n".join([*parts, "</svg>", ""])


@dataclass(frozen=True)
class Line:
    """One line of a chart: a name, and its points from left to right, all above 0."""

    name: str
    points: Sequence[tuple[float, float]]


def lines(title: str, drawn: Sequence[Line]) -> str:
    """Return a chart of lines, both scales logarithmic."""
    left, right, top, bottom = 60, 620, 40, 320
    low_x, high_x = _decades(x for line in drawn for x, _ in line.points)
    low_y, high_y = _decades(y for line in drawn for _, y in line.points)
    place_x, place_y = _scale(low_x, high_x, left, right), _scale(low_y, high_y, bottom, top)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} 350" font-family="sans-serif" font-size="13">',
        f'<text x="0" y="18" fill="{_TEXT}" font-size="15">{escape(title)}</text>',
    ]
    for mark in _marks(low_x, high_x):
        x = place_x(mark)
        parts.append(f'<path d="M{x:.1f} {top}V{bottom}" stroke="{_LINE}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" fill="{_TEXT}" text-anchor="middle">{mark:,g}</text>')
    for mark in _marks(low_y, high_y):
        y = place_y(mark)
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="{_LINE}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" fill="{_TEXT}" text-anchor="end">{mark:,g}</text>')
    for line, colour in zip(drawn, _COLOURS, strict=False):
        places = [(place_x(x), place_y(y)) for x, y in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        x, y = places[-1]
        parts.append(f'<text x="{x + 10:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def timeline(title: str, unit: str, drawn: Sequence[Line], marks: Sequence[float] = ()) -> str:
    """Return a chart of lines over seconds, both scales from zero; ``marks`` are moments at which something happened."""
    left, right, top, bottom = 60, 620, 40, 190
    last = max((x for line in drawn for x, _ in line.points), default=0.0) or 1.0
    most = max((y for line in drawn for _, y in line.points), default=0.0) or 1.0
    most = math.ceil(most / 10.0 ** math.floor(math.log10(most))) * 10.0 ** math.floor(math.log10(most))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} 220" font-family="sans-serif" font-size="13">',
        f'<text x="0" y="18" fill="{_TEXT}" font-size="15">{escape(title)}, {escape(unit)}</text>',
    ]
    for mark in marks:
        x = left + (right - left) * mark / last
        parts.append(f'<path d="M{x:.1f} {top}V{bottom}" stroke="{_LINE}" stroke-width="0.5"/>')
    for part in range(5):
        y, x = bottom + (top - bottom) * part / 4, left + (right - left) * part / 4
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="{_LINE}"/>')
        parts.append(
            f'<text x="{left - 8}" y="{y + 4:.1f}" fill="{_TEXT}" text-anchor="end">{most * part / 4:,g}</text>'
        )
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 18}" fill="{_TEXT}" text-anchor="middle">{last * part / 4:,.0f} s</text>'
        )
    for number, (line, colour) in enumerate(zip(drawn, _COLOURS, strict=False)):
        path = " ".join(
            f"{left + (right - left) * x / last:.1f},{bottom + (top - bottom) * y / most:.1f}" for x, y in line.points
        )
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{right + 10}" y="{top + 14 + 18 * number}" fill="{colour}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _decades(values: Iterable[float]) -> tuple[float, float]:
    """Return the powers of ten around all values."""
    found = list(values) or [1.0]
    low = 10.0 ** math.floor(math.log10(min(found)))
    return low, max(10.0 ** math.ceil(math.log10(max(found))), low * 10)


def _marks(low: float, high: float) -> list[float]:
    first, last = round(math.log10(low)), round(math.log10(high))
    return [10.0**power for power in range(first, last + 1)]


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    width = math.log10(high) - math.log10(low)
    return lambda value: start + (stop - start) * (math.log10(value) - math.log10(low)) / width
