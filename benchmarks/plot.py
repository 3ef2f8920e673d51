"""Bar charts as SVG, for pages that are generated: readable on a light and on a dark ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

_WIDTH, _NAMES, _VALUES = 760, 170, 90
_ROW, _TOP, _BAR = 26, 40, 16
_OURS, _THEIRS, _TEXT, _LINE = "#2f81f7", "#9a8fb5", "#7d8590", "#7d859055"


def bars(title: str, unit: str, rows: Sequence[tuple[str, float | None, bool]]) -> str:
    """Return a chart of one bar a row on a logarithmic scale: a name, its value or None, and whether it is highlighted.

    Values are above 0. Shorter is better.
    """
    values = [value for _, value, _ in rows if value is not None]
    low = 10.0 ** math.floor(math.log10(min(values, default=1.0)) - 0.05)
    high = max(10.0 ** math.ceil(math.log10(max(values, default=10.0))), low * 10)
    room = _WIDTH - _NAMES - _VALUES

    def place(value: float) -> float:
        return _NAMES + room * (math.log10(value) - math.log10(low)) / (math.log10(high) - math.log10(low))

    height = _TOP + _ROW * len(rows) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<text x="0" y="18" fill="{_TEXT}" font-size="15">{escape(title)}</text>',
    ]
    mark = low
    while mark <= high * 1.001:
        x = place(mark)
        parts.append(f'<path d="M{x:.1f} {_TOP - 8}V{height - 22}" stroke="{_LINE}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 6}" fill="{_TEXT}" text-anchor="middle">{mark:,g}</text>')
        mark *= 10
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
