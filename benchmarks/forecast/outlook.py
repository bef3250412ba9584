"""Hours and days ahead: the outlook of the product against the newest week that is known.

    python benchmarks/forecast/outlook.py --traces FOLDER [--markdown FILE]

Every window goes through the forecaster that runs live, from the start of the trace; what it says is scored from the
second week on. The rival says what the same hour of the week (day: the same weekday) had in the newest week that is
known; the last value is the newest hour or day.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
from collections import defaultdict
from pathlib import Path

import numpy as np
from traces import TRACES, load

from pipeline.forecast.outlook import Grain, OutlookForecaster
from pipeline.forecast.types import LEVELS, SeriesKey

WEEK, DAY, HOUR = 7 * 86_400, 86_400, 3600
NAMES = ("burst_conversation_1h", "nasa_5min", "worldcup_5min")
LOW, MEDIAN, HIGH = (LEVELS.index(level) for level in (0.05, 0.5, 0.95))
SECONDS = {Grain.HOUR: HOUR, Grain.DAY: DAY}
#: With fewer targets than this a row says nothing.
_LEAST = 14
_HEAD = "| trace | grain | ahead | targets | WAPE % | newest week | last value | in q05–q95 |"

#: Issued at, for when, low, median, high.
Told = tuple[float, float, float, float, float]


def tell(values: np.ndarray, grain_seconds: int) -> dict[tuple[Grain, int], list[Told]]:
    """What the outlook says at every hour, by grain and horizon; what is said again is listed once."""
    model = OutlookForecaster([SeriesKey("model", "pool", "requests_per_second")])
    told: dict[tuple[Grain, int], dict[float, Told]] = defaultdict(dict)
    for at, value in enumerate(values.tolist(), 1):
        if not model.step(float(at * grain_seconds), [value], float(grain_seconds)):
            continue
        for outlook in model.outlooks[0]:
            for said in outlook.forecasts:
                row = said.quantiles[LOW], said.quantiles[MEDIAN], said.quantiles[HIGH]
                told[outlook.grain, said.horizon_seconds][said.issued_at] = (said.issued_at, said.target_at, *row)
    return {key: list(rows.values()) for key, rows in told.items()}


def score(rows: list[Told], values: np.ndarray, grain_seconds: int, period: int) -> tuple[float, ...] | None:
    """Targets, WAPE of the median, of the newest week known and of the last value, share inside the band."""
    means = values[: len(values) // (period // grain_seconds) * (period // grain_seconds)]
    means = means.reshape(-1, period // grain_seconds).mean(axis=1)
    found = []
    for issued, target, low, median, high in rows:
        number = round(target / period) - 1
        back = number - WEEK // period * -(-round(target - issued) // WEEK)
        if number < len(means) and back >= 0 and issued >= WEEK:
            found.append((means[number], low, median, high, means[back], means[round(issued / period) - 1]))
    if len(found) < _LEAST:
        return None
    actual, low, median, high, week, last = np.array(found).T
    wapes = [float(np.abs(said - actual).sum() / actual.sum()) for said in (median, week, last)]
    return len(found), *wapes, float(((low <= actual) & (actual <= high)).mean())


def table(folder: Path) -> list[str]:
    """The rows of every trace that is there."""
    lines = []
    for name in NAMES:
        trace = TRACES[name]
        if not (folder / trace.file).exists():
            print(f"{name}: {trace.file} is missing")
            continue
        values = load(folder, name)
        for (grain, horizon), rows in sorted(tell(values, trace.grain_seconds).items(), key=lambda item: item[0][1]):
            found = score(rows, values, trace.grain_seconds, SECONDS[grain])
            if found is not None:
                targets, own, week, last, inside = found
                ahead = f"{horizon // HOUR} h" if horizon <= DAY and grain is Grain.HOUR else f"{horizon // DAY} d"
                shares = " | ".join(f"{100 * share:.1f}" for share in (own, week, last))
                lines.append(f"| {name} | {grain} | {ahead} | {targets:.0f} | {shares} | {inside:.3f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True, help="folder of the trace files")
    parser.add_argument("--markdown", type=Path, help="write the page here")
    arguments = parser.parse_args()
    lines = [
        "# Hours and days ahead",
        "",
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), Python"
        f" {platform.python_version()}, numpy {np.__version__}. Made by",
        "`python benchmarks/forecast/outlook.py --traces FOLDER --markdown benchmarks/forecast/outlook.md`.",
        "",
        "Every window goes through the forecaster that runs live, from the start of the trace; what is said from the",
        "second week on is scored. *Newest week*: the same hour of the week (day: the same weekday) in the newest week",
        "that was known; *last value*: the newest hour or day. Rows of fewer than 14 targets are left out.",
        "",
        _HEAD,
        "|---" * 8 + "|",
        *table(arguments.traces),
    ]
    print(*lines, sep="\n")
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
