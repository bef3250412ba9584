"""A backtest as one HTML page that opens without a network: forecasts over what came true, scores, decisions."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InputError
from pipeline.forecast.model import LEVELS
from pipeline.replay.backtest import BacktestResult, SeriesBacktest
from pipeline.replay.policies import PolicyOutcome
from pipeline.replay.scoring import HorizonScore

__all__ = ["render_report", "write_report"]

#: A page with more charts, or more points in one, is slow to open and no clearer.
MAX_SERIES = 12
MAX_POINTS = 2_500
#: Times below this count from a trace's own beginning; they are shown as hours.
_RELATIVE_BELOW = 1e8

_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1200px;padding:0 1rem;color:#1b2430;background:#fff}
h1{font-size:1.5rem;margin:0 0 .2rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.3rem 0;color:#4a5665}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.5rem 0}
th,td{padding:.25rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid #e3e8ee}th{color:#4a5665;font-weight:600}
th:first-child,td:first-child{text-align:left}.good{color:#0a7d38}.bad{color:#b3261e}.wide{overflow-x:auto}
"""


def render_report(result: BacktestResult, policies: Sequence[PolicyOutcome] = (), title: str = "Backtest") -> str:
    """Return the page as text; everything it needs is inside."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>",
        f"<p>{len(result.series)} series in windows of {_span(result.step_seconds)}; each forecast was issued from "
        "windows that had ended, and is scored once, after the warm-up.</p>",
        "<h2>Scores</h2>",
        _score_table(result.scores),
        "<p>WAPE and bias are of the median; a gain over the last value is proven where its interval (95 %, whole days "
        "resampled) excludes 0. Coverage of q95: how often demand stayed at or below it.</p>",
    ]
    if policies:
        parts += [
            "<h2>Decisions</h2>",
            _policy_table(policies),
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
        margin={"l": 60, "r": 20, "t": 60, "b": 40},
        template="plotly_white",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        xaxis={"title": "hours since the trace began"} if relative else {"title": "UTC"},
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


def _score_table(scores: Sequence[HorizonScore]) -> str:
    head = (
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
    rows = []
    for s in scores:
        best = None
        if s.wape is not None and s.last_value_wape is not None:
            best = s.wape <= min(s.last_value_wape, s.seasonal_naive_wape or np.inf)
        gain = "–"
        if s.wape_gain_low is not None and s.wape_gain_high is not None:
            gain = f"{100 * s.wape_gain_low:+.2f} … {100 * s.wape_gain_high:+.2f} pp"
        mark = "" if best is None else " class='good'" if best else " class='bad'"
        rows.append(
            f"<tr><td>{html.escape(s.series)}</td><td>{_span(s.horizon_seconds)}</td><td>{s.scored:,}</td>"
            f"<td{mark}>{_percent(s.wape)}</td><td>{_percent(s.last_value_wape)}</td>"
            f"<td>{_percent(s.seasonal_naive_wape)}</td><td>{gain}</td>"
            f"<td>{'–' if s.mase is None else f'{s.mase:.2f}'}</td><td>{_percent(s.bias)}</td>"
            f"<td>{_percent(s.pinball.get('0.95'))}</td><td>{_percent(s.coverage.get('0.95'))}</td>"
            f"<td>{_percent(s.coverage_90_interval)}</td><td>{_percent(s.coverage_95_top_decile)}</td></tr>"
        )
    return _table(head, rows)


def _policy_table(policies: Sequence[PolicyOutcome]) -> str:
    head = (
        "series",
        "rule",
        "lead",
        "over-provisioned",
        "unserved",
        "short min/day",
        "changes/day",
        "reactive at equal unserved",
    )
    rows = [
        f"<tr><td>{html.escape(p.series)}</td><td>{html.escape(p.policy)}</td><td>{_span(p.lead_seconds)}</td>"
        f"<td>{_percent(p.over_share)}</td><td>{_percent(p.unserved_share, 3)}</td>"
        f"<td>{p.under_minutes_per_day:.0f}</td><td>{p.changes_per_day:.0f}</td>"
        f"<td>{_percent(p.reactive_over_share)}</td></tr>"
        for p in policies
    ]
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(rows)
    return f"<div class='wide'><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _span(seconds: float) -> str:
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {name}"
    return f"{seconds:g} s"
