"""Hours and days ahead: the outlook of the product against the newest week that is known, and the best single expert.

    python benchmarks/forecast/outlook.py --traces FOLDER [--markdown FILE]

Every window goes through the forecaster that runs live, from the start of the trace; what it says is scored from the
second week on. The rival says what the same hour of the week (day: the same weekday) had in the newest week that is
known; the last value is the newest hour or day. Single experts, the best of them chosen with hindsight: up to a day
ahead those of the pool of hourly forecasts; beyond, and for days, the newest week, the last value and the mean of the
same hour (day) of all weeks known.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from outlook_reasons import REASONS
from traces import HELD_OUT, TRACES, load, named

from pipeline.forecast.hour_model import DAY, HOUR, HOUR_HORIZONS
from pipeline.forecast.outlook import Grain, OutlookForecaster
from pipeline.forecast.series_group import SeriesGroup
from pipeline.forecast.types import LEVELS, SeriesKey

WEEK = 7 * DAY
NAMES = ("burst_conversation_1h", "nasa_5min", "worldcup_5min")
#: Longer than a week; of these only Azure is shorter.
OTHERS = tuple(name for name in (*TRACES, *HELD_OUT) if name not in NAMES)
LOW, MEDIAN, HIGH = (LEVELS.index(level) for level in (0.05, 0.5, 0.95))
SECONDS = {Grain.HOUR: HOUR, Grain.DAY: DAY}
KEY = SeriesKey("model", "pool", "requests_per_second")
#: With fewer targets than this a row says nothing.
_LEAST = 14
#: Behind by more than this is a row that needs a reason.
_BEHIND = 1.02
_HEAD = (
    "| trace | grain | ahead | targets | WAPE % | newest week | last value | best single expert | against it "
    "| in q05–q95 |"
)

#: Issued at, for when, low, median, high.
Told = tuple[float, float, float, float, float]


class Row(NamedTuple):
    """One line of the table: WAPEs are shares, ``inside`` the share in the band, ``best`` the WAPE of ``expert``."""

    trace: str
    grain: Grain
    horizon_seconds: int
    targets: int
    own: float
    week: float
    last: float
    best: float
    expert: str
    inside: float

    @property
    def ahead(self) -> str:
        """The horizon, in words."""
        short = self.horizon_seconds <= DAY and self.grain is Grain.HOUR
        return f"{self.horizon_seconds // HOUR} h" if short else f"{self.horizon_seconds // DAY} d"


def tell(values: np.ndarray, grain_seconds: int) -> dict[tuple[Grain, int], list[Told]]:
    """What the outlook says at every hour, by grain and horizon; what is said again is listed once."""
    model = OutlookForecaster([KEY])
    told: dict[tuple[Grain, int], dict[float, Told]] = defaultdict(dict)
    for at, value in enumerate(values.tolist(), 1):
        if not model.step(float(at * grain_seconds), [value], float(grain_seconds)):
            continue
        for outlook in model.outlooks[0]:
            for said in outlook.forecasts:
                row = said.quantiles[LOW], said.quantiles[MEDIAN], said.quantiles[HIGH]
                told[outlook.grain, said.horizon_seconds][said.issued_at] = (said.issued_at, said.target_at, *row)
    return {key: list(rows.values()) for key, rows in told.items()}


def means_of(values: np.ndarray, grain_seconds: int, period: int) -> np.ndarray:
    """Means of whole hours or days."""
    each = period // grain_seconds
    return values[: len(values) // each * each].reshape(-1, each).mean(axis=1)


def tell_experts(hours: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the hourly pool's experts, and what each said alone, ``(hours, horizons, experts)``."""
    near = [HOUR * ahead for ahead in HOUR_HORIZONS if HOUR * ahead <= DAY]
    group = SeriesGroup([KEY], near, float(HOUR), float(DAY), suspect_silence=False)
    said = np.empty((len(hours), len(near), len(group.pool.names)))
    for at, value in enumerate(hours.tolist()):
        group.step(float((at + 1) * HOUR), [value])
        said[at] = np.array([expert.forecast() for expert in group.pool.experts]).T
    return group.pool.names, said


def score(trace: str, key: tuple[Grain, int], rows: list[Told], means: np.ndarray, experts: Experts) -> Row | None:
    """One line of the table; None: too few targets."""
    (grain, horizon), period = key, SECONDS[key[0]]
    per_week = WEEK // period
    found, alone = [], []
    for issued, target, low, median, high in rows:
        number, newest = round(target / period) - 1, round(issued / period) - 1
        back = number - per_week * -(-round(target - issued) // WEEK)
        if number < len(means) and back >= 0 and issued >= WEEK:
            found.append((means[number], low, median, high, means[back], means[newest]))
            weeks = means[back::-per_week].mean()
            alone.append((means[back], means[newest], weeks))
            if horizon <= DAY and grain is Grain.HOUR:
                alone[-1] = tuple(experts.said[newest, experts.horizons.index(horizon)])
    if len(found) < _LEAST:
        return None
    actual, low, median, high, week, last = np.array(found).T
    wapes = [float(np.abs(said - actual).sum() / actual.sum()) for said in (median, week, last)]
    single = np.abs(np.array(alone) - actual[:, None]).sum(axis=0) / actual.sum()
    names = experts.names if horizon <= DAY and grain is Grain.HOUR else ("newest week", "last value", "mean of weeks")
    inside = float(((low <= actual) & (actual <= high)).mean())
    return Row(trace, grain, horizon, len(found), *wapes, float(single.min()), names[int(single.argmin())], inside)


class Experts(NamedTuple):
    """What the experts of the hourly pool said alone."""

    names: tuple[str, ...]
    said: np.ndarray
    horizons: list[int]


def measure(folder: Path, names: tuple[str, ...]) -> list[Row]:
    """The rows of every trace that is there."""
    found = []
    for name in names:
        trace = named(name)
        if not (folder / trace.file).exists():
            print(f"{name}: {trace.file} is missing")
            continue
        values = load(folder, name)
        if len(values) * trace.grain_seconds <= WEEK:
            continue
        means = {grain: means_of(values, trace.grain_seconds, SECONDS[grain]) for grain in SECONDS}
        near = [HOUR * ahead for ahead in HOUR_HORIZONS if HOUR * ahead <= DAY]
        experts = Experts(*tell_experts(means[Grain.HOUR]), near)
        told = tell(values, trace.grain_seconds)
        for key, rows in sorted(told.items(), key=lambda item: item[0][1]):
            row = score(name, key, rows, means[key[0]], experts)
            if row is not None:
                found.append(row)
    return found


def table(rows: list[Row]) -> list[str]:
    """The rows as Markdown."""
    lines = ["", _HEAD, "|---" * 10 + "|"]
    for row in rows:
        shares = " | ".join(f"{100 * share:.1f}" for share in (row.own, row.week, row.last))
        best = f"{100 * row.best:.1f} {row.expert} | {100 * (row.own / row.best - 1):+.1f} %"
        lines.append(
            f"| {row.trace} | {row.grain} | {row.ahead} | {row.targets} | {shares} | {best} | {row.inside:.3f} |"
        )
    return lines


def behind(rows: list[Row]) -> list[str]:
    """The rows that are behind, with their reasons."""
    lines = []
    for what, rival in (("the newest week", "week"), ("the best single expert", "best")):
        found = [row for row in rows if row.own > _BEHIND * getattr(row, rival)]
        lines += ["", f"More than 2 % behind {what}: {len(found)} of {len(rows)} rows.", ""]
        by_trace: dict[str, list[str]] = defaultdict(list)
        for row in found:
            theirs = getattr(row, rival)
            by_trace[row.trace].append(f"{row.grain} {row.ahead} ({100 * row.own:.1f}, {100 * theirs:.1f})")
        lines += [
            f"- **{trace}**: {', '.join(which)}. {REASONS.get((trace, rival), 'Not looked into.')}"
            for trace, which in by_trace.items()
        ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True, help="folder of the trace files")
    parser.add_argument("--markdown", type=Path, help="write the page here")
    arguments = parser.parse_args()
    first, others = measure(arguments.traces, NAMES), measure(arguments.traces, OTHERS)
    lines = [
        "# Hours and days ahead",
        "",
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), Python"
        f" {platform.python_version()}, numpy {np.__version__}. Made by",
        "`python benchmarks/forecast/outlook.py --traces FOLDER --markdown benchmarks/forecast/outlook.md`.",
        "",
        "Every window goes through the forecaster that runs live, from the start of the trace; what is said from the",
        "second week on is scored. *Newest week*: the same hour of the week (day: the same weekday) in the newest week",
        "that was known; *last value*: the newest hour or day. *Best single expert*, with hindsight: up to a day ahead",
        "by the hour of those of the pool, else of the newest week, the last value and the mean of the same hour",
        "(weekday) of all weeks known. Rows of fewer than 14 targets are left out. Two constants (what is added before",
        "logarithms are averaged, and how soon the scatter of weekdays is believed) were chosen looking at the series",
        "of this page, those of `held_out.md` included. Days count from 0; points are of WAPE.",
        *table(first),
        *behind(first),
        "",
        "## Other series",
        "",
        "All that are longer than a week; those of `held_out.md` among them.",
        *table(others),
        *behind(others),
    ]
    print(*lines, sep="\n")
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
