"""The course of a run and the spread of its times as one SVG, written by hand: a library for plots would outweigh locust."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from loadtest.histogram import Histogram
from loadtest.scenario import Result, Scenario

_WIDTH, _HEIGHT = 860, 150
_LEFT, _RIGHT, _TOP = 74, 30, 34
_INK, _GRID = "#30343b", "#d9dce1"
_COLOURS = ("#1f6fb4", "#c8501e", "#2f8f4e")
_PERCENTS = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99)

Line = tuple[str, Sequence[tuple[float, float]]]


def as_svg(scenario: Scenario, result: Result) -> str:
    """Return the picture: throughput, streams and latency by the second, and the percentiles of the scenario's main time."""
    rows = sorted(result.measured.seconds.items())
    # The last one is not a whole second: it would look as if everything went down.
    rows = [row for row in rows if row[0] < int(result.seconds)] or rows

    def course(value: Callable[[int], float]) -> list[tuple[float, float]]:
        return [(number, value(index)) for index, (number, _) in enumerate(rows)]

    def delivery(percent: int) -> Callable[[int], float]:
        return lambda index: rows[index][1].delivery.percentile(percent)

    times = result.measured.times[scenario.main_time]
    panels = [
        ("deliveries a second", "s", [("deliveries", course(lambda index: rows[index][1].delivered))]),
        ("open streams", "s", [("streams", course(lambda index: rows[index][1].open))]),
        (
            "delivery, ms",
            "s",
            [(f"p{percent}", course(delivery(percent))) for percent in (50, 99)],
        ),
        (f"{scenario.main_time}, ms, by percentile", "%", [(scenario.main_time, _spread(times))]),
    ]
    height = 56 + len(panels) * (_HEIGHT + 62)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="sans-serif" font-size="12" fill="{_INK}">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="16" y="26" font-size="15" font-weight="bold">{escape(scenario.question)}</text>',
        f'<text x="16" y="46">{escape(scenario.answer(result).splitlines()[0])}</text>',
    ]
    for number, (title, unit, lines) in enumerate(panels):
        parts += _panel(56 + number * (_HEIGHT + 62), title, unit, lines, result.disturbed_at if unit == "s" else None)
    return "\n".join([*parts, "</svg>", ""])


def _spread(times: Histogram) -> list[tuple[float, float]]:
    # By rank, so that the tail has room.
    return [(index, times.percentile(percent)) for index, percent in enumerate(_PERCENTS)] if times.count else []


def _panel(top: int, title: str, unit: str, lines: Sequence[Line], mark: float | None) -> list[str]:
    parts = [f'<text x="{_LEFT}" y="{top + 20}" font-weight="bold">{escape(title)}</text>']
    points = [point for _, line in lines for point in line]
    if not points:
        return [*parts, f'<text x="{_LEFT}" y="{top + _TOP + 20}">nothing was measured</text>']
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    greatest = _round_up(max(y for _, y in points))
    span = (last - first) or 1

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - first) / span * (_WIDTH - _LEFT - _RIGHT)
        return across, top + _TOP + _HEIGHT * (1 - y / greatest)

    for part in range(5):
        value = greatest * part / 4
        _, y = place(first, value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,.4g}</text>')
    below = top + _TOP + _HEIGHT + 16
    if unit == "%":
        ticks = [(float(index), f"p{percent:g}") for index, percent in enumerate(_PERCENTS)]
    else:
        ticks = [(first + span * part / 4, f"{first + span * part / 4:,.3g} s") for part in range(5)]
    for x, label in ticks:
        across, _ = place(x, 0)
        parts.append(f'<text x="{across:.1f}" y="{below}" text-anchor="middle">{label}</text>')
    if mark is not None and first <= mark <= last:
        across, _ = place(mark, 0)
        parts.append(
            f'<path d="M{across:.1f} {top + _TOP}v{_HEIGHT}" stroke="{_INK}" stroke-dasharray="4 3"/>'
            f'<text x="{across + 4:.1f}" y="{top + _TOP + 12}">disturbed</text>'
        )
    for number, (name, line) in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if len(lines) > 1:
            x = _WIDTH - _RIGHT - 60 * (len(lines) - number)
            parts.append(f'<text x="{x}" y="{top + 20}" fill="{colour}">{escape(name)}</text>')
    return parts


def _round_up(value: float) -> float:
    """Return a round number that is not smaller: 1, 2 or 5 times a power of ten."""
    size = 1e-3
    while True:
        for step in (1, 2, 5):
            if size * step >= value:
                return size * step
        size *= 10
