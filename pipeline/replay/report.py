"""A backtest as one HTML page that opens without a network: forecasts over what came true, scores, decisions."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InputError
from pipeline.forecast.types import LEVELS
from pipeline.replay.backtest import BacktestResult, SeriesBacktest
from pipeline.replay.policies import PolicyOutcome
from pipeline.replay.scoring import HorizonScore

__all__ = ["POLICY_COLUMNS", "SCORE_COLUMNS", "policy_rows", "render_report", "score_rows", "write_report"]

SCORE_COLUMNS = (
    "series",
    "ahead",
    "scored",
    "WAPE",
    "last value",
    "seasonal naive",
    "gain over last value",
    "MASE",
    "bias",
    "pinball q95",
    "coverage q95",
    "in q05–q95",
    "q95, top decile",
)
POLICY_COLUMNS = (
    "series",
    "rule",
    "lead",
    "over-provisioned",
    "unserved",
    "short min/day",
    "changes/day",
    "reactive at equal unserved",
)

#: A page with more charts, or more points in one, is slow to open and no clearer.
MAX_SERIES = 12
MAX_POINTS = 2_500
#: Times below this count from a trace's own beginning; they are shown as hours.
_RELATIVE_BELOW = 1e8

_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1200px;padding:0 1rem;color:#1b2430;background:#fff}
h1{font-size:1.5rem;margin:0 0 .2rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.3rem 0;color:#4a5665}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.5rem 0}
th,td{padding:.25rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid #e3e8ee}
th{color:#4a5665;font-weight:600}
th{white-space:normal;vertical-align:bottom}th:first-child,td:first-child,.text{text-align:left!important}.good{color:#0a7d38}.bad{color:#b3261e}.wide{overflow-x:auto}
"""


def render_report(result: BacktestResult, policies: Sequence[PolicyOutcome] = (), title: str = "Backtest") -> str:
    """Return the page as text; everything it needs is inside."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>",
        f"<p>{len(result.series)} series in windows of {_span(result.step_seconds)}; each forecast was issued from "
        "windows that had ended, and is scored once, after the warm-up.</p>",
        "<h2>Scores</h2>",
        _table(SCORE_COLUMNS, score_rows(result.scores), _marks(result.scores)),
        "<p>WAPE and bias are of the median; a gain over the last value is proven where its interval (95 %, whole days "
        "resampled) excludes 0. Coverage of q95: how often demand stayed at or below it. WAPE is green where it is no "
        "worse than that of the last value and of the seasonal naive forecast, else red.</p>",
    ]
    if policies:
        parts += [
            "<h2>Decisions</h2>",
            _table(POLICY_COLUMNS, policy_rows(policies)),
            "<p>Shares of demand. “Reactive at equal unserved” is what a multiple of the newest window would "
            "over-provision to leave just as much unserved.</p>",
        ]
    script: bool | str = True
    for item in result.series[:MAX_SERIES]:
        parts.append(f"<h2>{html.escape(item.series.name)}</h2>")
        for horizon in range(len(item.horizons_seconds)):
            chart = _chart(item, horizon, script)
            if chart is not None:
                parts.append(chart)
                script = False
    if len(result.series) > MAX_SERIES:
        parts.append(f"<p>{len(result.series) - MAX_SERIES} further series are in the scores, without a chart.</p>")
    parts.append("</body></html>")
    return "\n".join(parts)


def write_report(
    result: BacktestResult, path: Path, policies: Sequence[PolicyOutcome] = (), title: str = "Backtest"
) -> None:
    """Write the page.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        path.write_text(render_report(result, policies, title), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def _chart(item: SeriesBacktest, horizon: int, script: bool | str) -> str | None:
    import plotly.graph_objects as go

    origins, actual = item.matured(horizon, after_warmup=True)
    if not len(origins):
        return None
    origins, actual = origins[-MAX_POINTS:], actual[-MAX_POINTS:]
    seconds = item.horizons_seconds[horizon]
    ends = item.series.ends()[origins] + seconds
    relative = float(ends[0]) < _RELATIVE_BELOW
    times: list[Any] = (ends / 3600.0).tolist() if relative else [datetime.fromtimestamp(t, UTC) for t in ends.tolist()]
    q = {level: item.quantiles[origins, horizon, i].tolist() for i, level in enumerate(LEVELS)}
    figure: Any = go.Figure()
    bands = ((0.05, 0.95, "q05–q95", "rgba(46,111,214,.16)"), (0.25, 0.75, "q25–q75", "rgba(46,111,214,.28)"))
    for low, high, name, colour in bands:
        figure.add_scatter(x=times, y=q[low], mode="lines", line={"width": 0}, showlegend=False, hoverinfo="skip")
        figure.add_scatter(
            x=times, y=q[high], mode="lines", line={"width": 0}, fill="tonexty", fillcolor=colour, name=name
        )
    figure.add_scatter(x=times, y=q[0.5], mode="lines", line={"color": "#2e6fd6", "width": 1.5}, name="median")
    figure.add_scatter(x=times, y=actual.tolist(), mode="lines", line={"color": "#1b2430", "width": 1.2}, name="actual")
    figure.update_layout(
        title={"text": f"{_span(seconds)} ahead", "font": {"size": 14}},
        height=320,
        margin={"l": 60, "r": 20, "t": 60, "b": 50},
        template="plotly_white",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        xaxis={
            "title": "hours since the trace began" if relative else "UTC",
            "ticks": "outside",  # so that the first time does not stand on the lowest value
            "tickcolor": "rgba(0,0,0,0)",
        },
        yaxis={"title": f"per {_span(item.series.step_seconds)}", "rangemode": "tozero"},
    )
    name = f"chart-{abs(int(np.int64(item.series.start)))}-{item.series.rows}-{seconds}"
    return str(
        figure.to_html(
            full_html=False,
            include_plotlyjs=script,
            div_id=f"{name}-{_id_of(item.series.name)}",
            config={"displayModeBar": False, "responsive": True},
        )
    )


def _id_of(name: str) -> str:
    """A name as characters that an HTML id may hold, distinct for distinct names."""
    return name.encode().hex()


def score_rows(scores: Sequence[HorizonScore]) -> list[tuple[str, ...]]:
    """Return the scores as text, one row per series and horizon, in the order of ``SCORE_COLUMNS``."""
    rows: list[tuple[str, ...]] = []
    for s in scores:
        gain = "–"
        if s.wape_gain_low is not None and s.wape_gain_high is not None:
            gain = f"{100 * s.wape_gain_low:+.2f} … {100 * s.wape_gain_high:+.2f} pp"
        rows.append(
            (
                s.series,
                _span(s.horizon_seconds),
                f"{s.scored:,}",
                _percent(s.wape),
                _percent(s.last_value_wape),
                _percent(s.seasonal_naive_wape),
                gain,
                "–" if s.mase is None else f"{s.mase:.2f}",
                _percent(s.bias),
                _percent(s.pinball.get("0.95")),
                _percent(s.coverage.get("0.95")),
                _percent(s.coverage_90_interval),
                _percent(s.coverage_95_top_decile),
            )
        )
    return rows


def policy_rows(policies: Sequence[PolicyOutcome]) -> list[tuple[str, ...]]:
    """Return the outcomes of the capacity rules as text, in the order of ``POLICY_COLUMNS``."""
    return [
        (
            p.series,
            p.policy,
            _span(p.lead_seconds),
            _percent(p.over_share),
            _percent(p.unserved_share, 3),
            f"{p.under_minutes_per_day:.0f}",
            f"{p.changes_per_day:.0f}",
            _percent(p.reactive_over_share),
        )
        for p in policies
    ]


def _marks(scores: Sequence[HorizonScore]) -> list[str]:
    """Per score: whether the median is at least as good as both baselines."""
    marks = []
    for s in scores:
        rivals = [w for w in (s.last_value_wape, s.seasonal_naive_wape) if w is not None]
        marks.append("" if s.wape is None or not rivals else "good" if s.wape <= min(rivals) else "bad")
    return marks


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], marks: Sequence[str] = ()) -> str:
    """An HTML table; ``marks`` holds the class of each row's WAPE."""
    marked = columns.index("WAPE") if marks else -1
    text = [" class='text'" if name == "rule" else "" for name in columns]
    head = "".join(f"<th{kind}>{html.escape(name)}</th>" for name, kind in zip(columns, text, strict=True))
    body = []
    for number, row in enumerate(rows):
        cells = (
            f"<td class='{marks[number]}'>{html.escape(cell)}</td>"
            if i == marked
            else f"<td{text[i]}>{html.escape(cell)}</td>"
            for i, cell in enumerate(row)
        )
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _span(seconds: float) -> str:
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {name}"
    return f"{seconds:g} s"
