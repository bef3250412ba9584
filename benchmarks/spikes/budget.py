"""Whether ``false_alerts_per_day`` is true: false alerts delivered against the setting, series by series."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import duckdb
import labelled
import nab
import numpy as np
from labelled import Bools, Labelled
from rivals import Floats
from scipy.stats import chi2

from pipeline.alerts.spikes.detector import Direction, Kind, SpikeDetector

SETTINGS = (0.1, 0.2, 0.3, 1.0)
#: Nothing is counted before: the thresholds are learned.
LEARNED_SECONDS = 2 * 86_400.0
#: The rate may miss the setting by this factor.
FACTOR = 1.5
#: Of the clients of ServeGen every third, in order of name.
EVERY_CLIENT = 3
#: A rise, as looked for live: so many times the median of the so many values before; a fall: one over it.
RISE, BEFORE = 1.25, 60


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one series had from the third day on: runs of alerted windows that touch no label, all runs, and days off
    labels.

    ``rises`` are the events with a value that live could be told as a rise.
    """

    false: int
    told: int
    days: float
    found: int
    events: int
    found_rises: int
    rises: int

    def holds(self, setting: float) -> bool:
        """Whether the 95 % Poisson interval of the rate overlaps the setting within the factor.

        The exact interval by chi-squared quantiles: Garwood 1936, "Fiducial limits for the Poisson distribution".
        """
        low = float(chi2.ppf(0.025, 2 * self.false)) / 2.0 if self.false else 0.0
        high = float(chi2.ppf(0.975, 2 * self.false + 2)) / 2.0
        return high / self.days >= setting / FACTOR and low / self.days <= setting * FACTOR


def load(folder: Path) -> list[Labelled]:
    """Labelled series of Microsoft and NAB, and clients of ServeGen, where every alert counts as false."""
    corpus = labelled.load(folder / "ms_cloud_monitoring" / "series.parquet")
    for series in nab.load(folder / "nab"):
        spans = tuple((first, last + 1) for first, last in series.windows)
        grain = max(1.0, float(np.median(np.diff(series.time))))
        corpus.append(Labelled(f"nab/{series.name}", series.time, series.value, spans, grain))
    rows = duckdb.execute(
        "SELECT model || '/' || client, list(t_s::DOUBLE ORDER BY t_s), list(rate::DOUBLE ORDER BY t_s) FROM "
        f"'{folder / 'servegen' / 'client_rates_10min.parquet'}' GROUP BY model, client ORDER BY model, client"
    ).fetchall()
    for name, at, rate in rows[::EVERY_CLIENT]:
        values = np.array([math.nan if value is None else value for value in rate])
        corpus.append(Labelled(f"servegen/{name}", np.array(at), values, (), 600.0))
    return corpus


def group_of(series: Labelled) -> str:
    """Whose series it is."""
    group = series.group
    return {"nab": "NAB", "servegen": "ServeGen"}.get(group, "Microsoft")


def live_detector(setting: float, grain_seconds: float) -> SpikeDetector:
    """The detector of requests, as live."""
    return SpikeDetector(setting, grain_seconds, direction=Direction.BOTH)


def live(seconds: Floats, values: Floats, setting: float) -> Bools:
    """Windows that were told, as live (without forecasts): rises and falls within one rate."""
    detector = live_detector(setting, max(1.0, float(np.median(np.diff(seconds)))))
    told = [detector.observe(at, v).news for at, v in zip(seconds.tolist(), values.tolist(), strict=True)]
    return np.array(told, dtype=np.bool_)


def is_rise(series: Labelled, first: int, end: int) -> bool:
    """Whether a value of the event is a rise over the level of then."""
    return extremes(series, first, end)[0] >= RISE


def extremes(series: Labelled, first: int, end: int) -> tuple[float, float]:
    """The greatest and the least value of the event over the level of then."""
    greatest, least = 0.0, math.inf
    for at in range(first, end):
        before = series.values[:at]
        before = before[np.isfinite(before) & (before >= 0.0)][-BEFORE:]
        if before.size:
            level, value = float(np.median(before)), float(series.values[at])
            ratio = value / level if level > 0.0 else math.inf if value >= 0.0 else 0.0
            greatest, least = max(greatest, ratio), min(least, ratio)
    return greatest, least


def delivered(series: Labelled, alert: Bools) -> Delivered:
    """Count from the third day on; events are those of the whole series."""
    counted = series.seconds >= series.seconds[0] + LEARNED_SECONDS
    label = np.zeros(len(alert), dtype=np.bool_)
    for first, end in series.events:
        label[first:end] = True
    edges = np.diff(np.concatenate([[0], alert.astype(np.int64), [0]]))
    runs = list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))
    false = sum(bool(counted[a]) and not label[a:b].any() for a, b in runs)
    told = sum(bool(counted[a]) for a, _ in runs)
    found = [bool(alert[first:end].any()) for first, end in series.events]
    rises = [is_rise(series, first, end) for first, end in series.events]
    found_rises = sum(a and b for a, b in zip(found, rises, strict=True))
    days = float((counted & ~label).sum()) * series.grain_seconds / 86_400.0
    return Delivered(false, told, days, sum(found), len(found), found_rises, sum(rises))


def measure(folder: Path) -> list[list[str]]:
    """Rows by detector, setting and source of the series; the last of each setting is pooled over all."""
    corpus = load(folder)
    table = []
    for name, kind in (("`--kind any`", Kind.ANY), ("as live", Kind.SPIKE)):
        for setting in SETTINGS:
            by_group: dict[str, list[Delivered]] = {}
            for series in corpus:
                if kind is Kind.ANY:
                    alert = labelled.product(series.seconds, series.values, setting)
                else:
                    alert = live(series.seconds, series.values, setting)
                told = delivered(series, alert)
                if told.days > 0.0:
                    by_group.setdefault(group_of(series), []).append(told)
            by_group["all"] = [told for group in by_group.values() for told in group]
            table += [_row(name, setting, group, told) for group, told in by_group.items()]
    return table


def _row(name: str, setting: float, group: str, told: list[Delivered]) -> list[str]:
    days, events, rises = (sum(getattr(t, name) for t in told) for name in ("days", "events", "rises"))
    rate = sum(t.false for t in told) / days
    return [
        name,
        f"{setting:g}",
        group,
        f"{days:,.0f}",
        f"{rate:.3f}",
        f"{rate / setting:.2f}",
        f"{sum(t.told for t in told) / days / setting:.2f}",
        f"{sum(t.holds(setting) for t in told)} of {len(told)}",
        f"{sum(t.found for t in told) / events:.2f} of {events}" if events else "-",
        f"{sum(t.found_rises for t in told) / rises:.2f} of {rises}" if rises else "-",
    ]
