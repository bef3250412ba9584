"""Charts as SVG text: lines with limits and marks, stacked bars. Colours: Okabe and Ito, 2008."""

from __future__ import annotations

import math
from html import escape

from sizing.explain.model import Chart, number

__all__ = ["render_svg"]

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999")
_WIDTH, _HEIGHT = 460.0, 290.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 66.0, 16.0, 38.0, 82.0
_LEGEND_HEIGHT = 38.0
#: Sizes of letters, and how wide one of the small ones is at most on average.
_FONT, _LETTER = 12.5, 7.0
#: Text beside what matters, and lines behind it, as much fainter as reads well on light and on dark pages.
_SOFT = 'fill-opacity="0.75"'
_FAINT = 'stroke="currentColor" stroke-opacity="0.16"'
_PLOT_WIDTH, _PLOT_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM


def render_svg(chart: Chart) -> str:
    """Draw a chart; a chart without values says so."""
    if not any(line.y for line in chart.series):
        empty = f"{escape(chart.title)}: no values"
        return f'<svg viewBox="0 0 {_WIDTH:g} 40" role="img"><text x="8" y="24">{empty}</text></svg>'
    body = _lines(chart) if chart.kind == "line" else _bars(chart)
    legend, height = (_legend(chart), _HEIGHT) if len(chart.series) > 1 else ("", _HEIGHT - _LEGEND_HEIGHT)
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {height:g}" width="{_WIDTH:g}" role="img" aria-label="{escape(chart.title)}" '
        f'font-family="system-ui, sans-serif" font-size="{_FONT:g}" fill="currentColor">'
        f'<text x="{_LEFT:g}" y="16" font-size="14" font-weight="600">{escape(chart.title)}</text>{body}{legend}</svg>'
    )


def _ticks(top: float) -> list[float]:
    """Return about five round numbers from 0 to at least ``top``.

    >>> _ticks(9.1)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    if top <= 0:
        return [0.0, 1.0]
    rough = top / 4
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * m for m in (1, 2, 2.5, 5, 10) if scale * m >= rough * 0.8)
    count = math.ceil(top / step - 1e-9)
    return [round(step * i, 12) for i in range(count + 1)]


def _y(value: float, top: float) -> float:
    return _TOP + _PLOT_HEIGHT * (1 - value / top)


def _grid(ticks: list[float], label: str) -> str:
    top = ticks[-1]
    parts = [
        f'<line x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{_y(t, top):.1f}" y2="{_y(t, top):.1f}" {_FAINT}/>'
        f'<text x="{_LEFT - 6:g}" y="{_y(t, top) + 4:.1f}" text-anchor="end">{number(float(t))}</text>'
        for t in ticks
    ]
    return "".join(parts) + f'<text x="{_WIDTH - _RIGHT:g}" y="16" text-anchor="end" {_SOFT}>{escape(label)}</text>'


def _lines(chart: Chart) -> str:
    highest = max(max(line.y, default=0.0) for line in chart.series)
    near = [value for _, value in chart.limits if value <= 4 * highest]
    ticks = _ticks(max([highest, *near]))
    right = _ticks(max(float(x) for line in chart.series for x in line.x))
    top, end = ticks[-1], right[-1]

    def x(value: float) -> float:
        return _LEFT + _PLOT_WIDTH * value / end

    parts = [_grid(ticks, chart.y_label)]
    parts += [
        f'<text x="{x(t):.1f}" y="{_TOP + _PLOT_HEIGHT + 16:g}" text-anchor="middle">{number(float(t))}</text>'
        for t in right
    ]
    parts.append(
        f'<text x="{_LEFT + _PLOT_WIDTH / 2:g}" y="{_TOP + _PLOT_HEIGHT + 33:g}" text-anchor="middle" {_SOFT}>'
        f"{escape(chart.x_label)}</text>"
    )
    for name, value in chart.limits:
        if value <= top:
            parts.append(_rule(_LEFT, _WIDTH - _RIGHT, _y(value, top), _y(value, top), "#D55E00"))
            parts.append(f'<text x="{_LEFT + 4:g}" y="{_y(value, top) - 4:.1f}" fill="#D55E00">{escape(name)}</text>')
    for name, value in chart.marks:
        parts.append(_rule(x(value), x(value), _TOP, _TOP + _PLOT_HEIGHT, "currentColor"))
        parts.append(f'<text x="{x(value) - 4:.1f}" y="{_TOP + 24:g}" text-anchor="end" {_SOFT}>{escape(name)}</text>')
    for index, line in enumerate(chart.series):
        at = " ".join(f"{x(float(a)):.1f},{_y(b, top):.1f}" for a, b in zip(line.x, line.y, strict=True))
        parts.append(f'<polyline points="{at}" fill="none" stroke="{_colour(index)}" stroke-width="2"/>')
    return "".join(parts)


def _rule(x1: float, x2: float, y1: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-dasharray="4 3"/>'


def _bars(chart: Chart) -> str:
    names = [str(name) for name in chart.series[0].x]
    totals = [sum(line.y[i] for line in chart.series) for i in range(len(names))]
    ticks = _ticks(max(totals))
    top, slot = ticks[-1], _PLOT_WIDTH / len(names)
    width = min(slot * 0.6, 90.0)
    parts = [_grid(ticks, chart.y_label)]
    written = [number(float(total)) for total in totals]
    told = max(map(len, written)) * _LETTER <= slot
    longest = max(map(len, names))
    every = math.ceil((longest + 1) * _LETTER / slot) if longest <= _SHORT_NAME else 1
    for i, name in enumerate(names):
        left, base = _LEFT + slot * i + (slot - width) / 2, 0.0
        for index, line in enumerate(chart.series):
            height = _PLOT_HEIGHT * line.y[i] / top
            tip = f"{line.name}: {number(float(line.y[i]))} {chart.y_label}"
            parts.append(
                f'<rect x="{left:.1f}" y="{_y(base + line.y[i], top):.1f}" width="{width:.1f}" height="{height:.1f}" '
                f'fill="{_colour(index)}"><title>{escape(tip)}</title></rect>'
            )
            base += line.y[i]
        centre = left + width / 2
        if told:
            parts.append(f'<text x="{centre:.1f}" y="{_y(base, top) - 4:.1f}" text-anchor="middle">{written[i]}</text>')
        for place, part in enumerate(_broken(name, slot) if i % every == 0 else ()):
            y = _TOP + _PLOT_HEIGHT + 16 + 13 * place
            parts.append(f'<text x="{centre:.1f}" y="{y:g}" text-anchor="middle">{escape(part)}</text>')
    return "".join(parts)


#: Names of so few letters, such as hours, are left out where they do not fit; longer ones are broken into lines.
_SHORT_NAME = 3


def _broken(name: str, width: float) -> list[str]:
    """The name in up to two lines where one is too long for ``width``.

    >>> _broken("hpa-concurrency", 60.0), _broken("static-peak", 90.0)
    (['hpa-', 'concurrency'], ['static-peak'])
    """
    if len(name) * _LETTER <= width:
        return [name]
    places = [i + 1 for i, letter in enumerate(name) if letter in "-_ /"]
    if not places:
        return [name]
    at = min(places, key=lambda place: max(place, len(name) - place))
    return [name[:at].rstrip(), name[at:]]


def _legend(chart: Chart) -> str:
    parts = []
    column = _PLOT_WIDTH / 3
    for index, line in enumerate(chart.series):
        x, y = _LEFT + column * (index % 3), _TOP + _PLOT_HEIGHT + 50 + 16 * (index // 3)
        parts.append(f'<rect x="{x:.1f}" y="{y - 8:g}" width="9" height="9" fill="{_colour(index)}"/>')
        parts.append(f'<text x="{x + 13:.1f}" y="{y:g}" font-size="12">{escape(line.name)}</text>')
    return "".join(parts)


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]
