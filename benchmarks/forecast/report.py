"""The results as a page."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import os
import platform
from typing import Any

from coverage_reasons import COVERAGE_REASONS
from scores import PINBALL

__all__ = ["calendar_page", "page", "whole_page"]

_HEAD = (
    "| ahead | model | WAPE % | ours less theirs, points [95 %] | MASE | pinball .5 | .9 | .95 | .99 "
    "| q95 covers | top decile | µs |"
)
_BATCH_HEAD = (
    "| ahead | model | WAPE % | Tokentide there | ours less theirs, points [95 %] | pinball .95 | Tokentide there "
    "| q95 covers | ms per refit |"
)
_INTRO = """\
Prequential: learn a window, issue, score what matures; labels delayed by the horizon, two days of warm-up not scored,
one default configuration for all traces. Pinball losses in % of mean demand. Rivals' bands: the last day's matured
residuals. `div`: above 1,000 %. µs: one window, all horizons, rivals without their bands, on a machine that
others keep busy: compare them inside this page only. "Ours less theirs":
difference of the WAPEs in percentage points with a 95 % interval from a bootstrap over whole days (below zero:
Tokentide is better; an interval that includes zero proves nothing).

`last` is also the `constant` predictor of NVIDIA Dynamo's planner, `Kalman trend` its `kalman` one. River's models
run as a user would write them, unguarded. Batch tools are refitted **at every origin that is scored** on the newest
2,016 windows (at least three days; ARIMA: 864), which is fresher than a refit per hour and flatters them; because of
what that costs they are scored at up to 72 whole hours spread evenly over each trace (hourly traces: 216; Prophet:
every second of these), and Tokentide is scored at the same hours beside them. They are not run at grains
finer than five minutes: a fit with a season of 1,440 windows takes seconds. AutoETS has no daily season above 24
steps and AutoARIMA is run without one (its seasonal search takes seconds per refit at 24 steps). `Dynamo ARIMA`:
order chosen once on the first two days, then updated. LightGBM: own lags, means, place in day and week; quantile
loss; learns the change from the last value. Prophet: its defaults, as Dynamo and Grafana Cloud use it."""
_CHOSEN_ON = """\
The constants of the pool and of its bands were chosen looking at the Azure, BurstGPT and ServeGen traces, those of the
calendar on the World Cup: expect some optimism there. NASA and World Cup were run beside them as a check, so no trace
on this page is wholly unseen; `held_out.md` has series that are. ServeGen's windows in which all clients read zero
(telemetry outages) are fed and scored as zeros, for everybody. The forecaster suspects such zeros of a busy series and
learns nothing from them; its experts, where they are judged alone, say zero in such a silence whenever it does. The
per-request traces of Azure 2023 and Mooncake last an hour and less, so nothing of them is left after the warm-up; they
are not in the table."""
_HELD_OUT = """\
Nothing in the forecaster was chosen on these series: those of the Microsoft Cloud Monitoring Dataset that count
something (data ingress, purchases; not latencies) and the request count of a load balancer from the Numenta Anomaly
Benchmark, without three that are zero in most windows. Rows are taken as windows; the balancer's trace lacks seven.
They contain labelled anomalies, which are fed and scored like all else. Whoever changes a constant after looking at
this page must find other series."""


def _percent(value: float) -> str:
    """A share in percent; beyond tenfold it has diverged; not a number where it was not issued."""
    if math.isnan(value):
        return ""
    return f"{100.0 * value:.2f}" if value < 10.0 else "div"


def _points(difference: tuple[float, float, float] | None) -> str:
    if difference is None:
        return ""
    if min(difference) < -10.0:
        return "div"
    middle, low, high = (100.0 * value for value in difference)
    return f"{middle:+.2f} [{low:+.2f}, {high:+.2f}]"


def page(table: dict[str, dict[str, Any]]) -> list[str]:
    """The tables of some traces."""
    lines: list[str] = []
    for name, found in table.items():
        lines += ["", f"## {name}", "", _HEAD, "|---" * 12 + "|"]
        for row in found["rows"]:
            mase = f"{row['mase']:.2f}" if row["mase"] < 1e3 else "div"
            losses = " | ".join(_percent(row[f"pinball_{level:g}"]) for level in PINBALL)
            lines.append(
                f"| {_ahead(row)} | {row['model']} | {_percent(row['wape'])} | {_points(row.get('difference'))} "
                f"| {mase} | {losses} | {row['coverage_95']:.3f} | {row['coverage_95_top_decile']:.3f} "
                f"| {row['microseconds']:.0f} |"
            )
        own = [row for row in found["rows"] if "best_expert" in row]
        best = ", ".join(f"{_percent(row['best_expert'])} ({row['best_expert_name']})" for row in own)
        lines += [
            "",
            f"{found['windows']:,} windows. Best single expert of the pool in hindsight: WAPE {best} %. "
            f"State: {found['state_bytes']:,} bytes.",
        ]
        if found["batch"]:
            lines += ["", "Batch tools, refitted at every scored origin:", "", _BATCH_HEAD, "|---" * 9 + "|"]
        for row in found["batch"]:
            ours = row["ours"]
            lines.append(
                f"| {_ahead(row)} | {row['model']} | {_percent(row['wape'])} | {_percent(ours['wape'])} "
                f"| {_points(row['difference'])} | {_percent(row['pinball_0.95'])} | {_percent(ours['pinball_0.95'])} "
                f"| {row['coverage_95']:.3f} | {row['microseconds'] / 1e3:.0f} |"
            )
    return lines


def _ahead(row: dict[str, Any]) -> str:
    seconds = int(row["horizon_seconds"])
    return f"{seconds // 3600} h" if seconds > 3600 else f"{seconds // 60} min"


def calendar_page(calendar: list[dict[str, float]]) -> list[str]:
    """The table of the World Cup with its fixture list."""
    lines = [
        "",
        "## World Cup with the fixture list",
        "",
        "WAPE %, all windows and within two hours of kick-offs.",
        "",
        "| ahead | all without | all with | near without | near with | change near | q95 covers near, with |",
        "|---" * 7 + "|",
    ]
    for row in calendar:
        shares = " | ".join(_percent(row[key]) for key in ("without", "with", "without_near", "with_near"))
        change = 100.0 * (row["with_near"] / row["without_near"] - 1.0)
        lines.append(f"| {_ahead(row)} | {shares} | {change:+.1f} % | {row['with_near_coverage']:.3f} |")
    return lines


_SIMPLE = ("last", "River HoltWinters, day")

#: Why a trace has rows in that table, as far as it is understood.
_REASONS = {
    "burst_conversation_1h": "a day ahead, the mean of the same hour of the week is best from the second week on; the "
    "pool, which hears of a forecast a day later, needs some of that time to find out.",
    "burst_all_1h": "88 % of the requests are API bursts without a cycle, in half of the hours there are none; a few "
    "hours decide the figure, which is why most intervals are so wide. A day ahead, forecasting nothing at all would "
    "score 100 %, and tools that forecast low win.",
    "servegen_mid_10min": "six silences of ten minutes to four hours decide a third of the error at an hour.",
    "servegen_small_10min": "trees learn the clients' switching on and off, for which the pool has no expert.",
    "burst_tokens_5min": "within chance.",
    "az_5min": "within chance.",
    "nasa_5min": "within chance.",
    "worldcup_5min": "within chance.",
}


def exceptions(table: dict[str, dict[str, Any]]) -> list[str]:
    """Cells where the pool is behind its best expert by more than 2 %, or behind a batch tool."""
    lines = [
        "",
        "## Where Tokentide is behind",
        "",
        "Cells in which the pool's WAPE is more than 2 % above that of its best single expert in hindsight, or above",
        "that of a batch tool at the same origins. *Proven*: the interval excludes zero.",
        "",
        "| trace | ahead | behind | theirs % | ours % | difference, points [95 %] | |",
        "|---" * 7 + "|",
    ]
    count, cells, behind = len(lines), 0, []
    for name, found in table.items():
        before = len(lines)
        for row in found["rows"]:
            cells += "best_expert" in row
            if "best_expert" in row and row["wape"] > 1.02 * row["best_expert"]:
                lines.append(
                    f"| {name} | {_ahead(row)} | its own expert {row['best_expert_name']} "
                    f"| {_percent(row['best_expert'])} | {_percent(row['wape'])} "
                    f"| {100 * (row['wape'] - row['best_expert']):+.2f} | |"
                )
        for row in found["batch"]:
            difference, low, _ = row["difference"]
            if difference > 0.0:
                lines.append(
                    f"| {name} | {_ahead(row)} | {row['model']} | {_percent(row['wape'])} "
                    f"| {_percent(row['ours']['wape'])} | {_points(row['difference'])} "
                    f"| {'proven' if low > 0.0 else 'within chance'} |"
                )
        if len(lines) > before:
            behind.append(name)
    told = f"{len(lines) - count} rows, out of {cells} cells with {_compared(table)} batch comparisons. Why:"
    lines += ["", told, "", *(f"- **{name}**: {_REASONS[name]}" for name in behind if name in _REASONS)]
    unexplained = [name for name in behind if name not in _REASONS]
    return lines + ([f"- {', '.join(unexplained)}: not looked into."] if unexplained else [])


def bands(table: dict[str, dict[str, Any]]) -> list[str]:
    """What the upper quantile costs and covers, beside the better of two simple models with a band."""
    lines = [
        "",
        "## The upper quantile",
        "",
        "Pinball loss at .95 against the better of the last value and River's HoltWinters, each with its band; what",
        "it covers, over all windows and in the top decile of demand. That decile is chosen by the outcome: the less",
        "of demand can be foreseen, the less an honest quantile covers there. Aimed at: 10 % less at an hour, coverage",
        "of .94 to .96, and .90 in the top decile. Where it is not reached, the last column tells whether q99 does.",
        "",
        "| trace | ahead | pinball .95 | better simple one | ours against it | q95 covers | top decile | q99 there |",
        "|---" * 8 + "|",
    ]
    for name, found in table.items():
        for row in found["rows"]:
            if "best_expert" not in row:
                continue
            rivals = [
                other["pinball_0.95"]
                for other in found["rows"]
                if other["horizon_seconds"] == row["horizon_seconds"] and other["model"] in _SIMPLE
            ]
            best = min(rivals, default=math.nan)
            change = f"{100 * (row['pinball_0.95'] / best - 1):+.0f} %" if rivals else ""
            lines.append(
                f"| {name} | {_ahead(row)} | {_percent(row['pinball_0.95'])} | {_percent(best)} | {change} "
                f"| {row['coverage_95']:.3f} | {row['coverage_95_top_decile']:.3f} "
                f"| {row['coverage_99_top_decile']:.3f} |"
            )
    return lines + coverage_reasons(table)


def coverage_reasons(table: dict[str, dict[str, Any]]) -> list[str]:
    """Why q95 covers less than .94, more than .96, or less than .85 of the top decile."""
    off = [
        name
        for name, found in table.items()
        if any(
            not 0.94 <= row["coverage_95"] <= 0.96 or row["coverage_95_top_decile"] < 0.85
            for row in found["rows"]
            if "best_expert" in row
        )
    ]
    lines = [
        "",
        "Outside of .94 to .96, or below .85 in the top decile (a run is windows of that decile one after",
        "another; days count from 0):",
        "",
    ]
    return lines + [f"- **{name}**: {COVERAGE_REASONS.get(name, 'not looked into.')}" for name in off]


def _compared(table: dict[str, dict[str, Any]]) -> int:
    return sum(len(found["batch"]) for found in table.values())


def whole_page(
    table: dict[str, dict[str, Any]], calendar: list[dict[str, float]], absent: list[str], held_out: bool
) -> str:
    """The page of results; ``held_out``: of the series that nothing was chosen on."""
    names = ("numpy", "river", "duckdb", "statsforecast", "lightgbm", "prophet")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names if not _lacks(name))
    lines = [
        "# Forecast benchmark: series held out" if held_out else "# Forecast benchmark: results",
        "",
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, one of {os.cpu_count()} cores (shared), {platform.machine()},"
        f" Python {platform.python_version()}, {versions}. Made by",
        f"`python benchmarks/forecast/run.py{' --held-out' if held_out else ''} --traces FOLDER --cache FOLDER "
        f"--markdown benchmarks/forecast/{'held_out' if held_out else 'results'}.md`.",
        "",
        _INTRO,
        "",
        _HELD_OUT if held_out else _CHOSEN_ON,
    ]
    if absent:
        lines += ["", f"Not measured, as not installed: {', '.join(absent)}."]
    lines += [*exceptions(table), *bands(table), *page(table)]
    if calendar:
        lines += calendar_page(calendar)
    return "\n".join(lines) + "\n"


def _lacks(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return True
    return False
