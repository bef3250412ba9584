"""Labelled series: recall of labelled events and false alerts a day, the product against the rivals."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray
from rivals import FIXED_RULES, RIVALS, Floats

from pipeline.alerts.spikes.detector import Direction, Kind, SpikeDetector

#: Alerts that are this many windows or less apart are one alert.
MERGE_WINDOWS = 30
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Labelled:
    """One series; ``events`` are first and one-past-last window of each labelled run."""

    name: str
    seconds: Floats
    values: Floats
    events: tuple[tuple[int, int], ...]
    grain_seconds: float

    @property
    def days(self) -> float:
        """How long it is."""
        return len(self.values) * self.grain_seconds / 86_400.0

    @property
    def group(self) -> str:
        """Folder of the series."""
        return self.name.split("/")[0]


@dataclass(slots=True)
class Tally:
    """Sums over series; ``delays`` in windows from the start of an event to its first alert."""

    events: int = 0
    found: int = 0
    false_alerts: int = 0
    false_runs: int = 0
    alerts: int = 0
    days: float = 0.0
    delays: list[int] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the sums of another one."""
        for name in ("events", "found", "false_alerts", "false_runs", "alerts", "days"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.delays += other.delays


def load(path: Path) -> list[Labelled]:
    """Read ``series.parquet`` of the Microsoft cloud monitoring dataset."""
    rows = duckdb.execute(
        "SELECT series, list(epoch(timestamp) ORDER BY timestamp), list(value ORDER BY timestamp), "
        f"list(label ORDER BY timestamp) FROM '{path}' GROUP BY series ORDER BY series"
    ).fetchall()
    found = []
    for name, at, value, label in rows:
        seconds = np.array(at, dtype=np.float64)
        edges = np.diff(np.concatenate([[0], np.array(label, dtype=np.int64), [0]]))
        events = tuple(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))
        found.append(Labelled(name, seconds, np.array(value), events, float(np.median(np.diff(seconds)))))
    return found


def judge(series: Labelled, alert: Bools) -> Tally:
    """Count events with an alert inside, and alerts that touch no event: merged, and as bare runs."""
    at = np.flatnonzero(alert)
    result = Tally(events=len(series.events), days=series.days)
    for first, end in series.events:
        inside = at[(at >= first) & (at < end)]
        if inside.size:
            result.found += 1
            result.delays.append(int(inside[0]) - first)
    for gap in (MERGE_WINDOWS, 1):
        breaks = np.flatnonzero(np.diff(at) > gap)
        starts, ends = (
            at[np.concatenate([[0], breaks + 1])] if at.size else at,
            at[np.concatenate([breaks, [at.size - 1]])] if at.size else at,
        )
        false = sum(
            not any(a < end and b >= first for first, end in series.events)
            for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
        )
        if gap == 1:
            result.false_runs = false
        else:
            result.false_alerts, result.alerts = false, len(starts)
    return result


def product(seconds: Floats, values: Floats, false_alerts_per_day: float, kind: Kind = Kind.ANY) -> Bools:
    """The alerts of ``tokentide spikes detect``; all else as its defaults."""
    grain = max(1.0, float(np.median(np.diff(seconds))))
    detector = SpikeDetector(false_alerts_per_day, grain, 1.0, Direction.BOTH, kind=kind)
    told = [detector.observe(at, v).news for at, v in zip(seconds.tolist(), values.tolist(), strict=True)]
    return np.array(told, dtype=np.bool_)


def best_in_hindsight(series: Labelled, score: Floats, per_day: float) -> Tally:
    """The threshold that finds most events of this very series within the allowed false alerts."""
    positive = score[score > 0]
    best = judge(series, np.zeros(len(score), dtype=np.bool_))
    if not positive.size:
        return best
    for threshold in np.unique(np.quantile(positive, 1.0 - np.geomspace(1e-4, 0.5, 60))):
        tally = judge(series, score >= threshold)
        if tally.false_runs <= per_day * series.days and tally.found > best.found:
            best = tally
    return best


def _row(name: str, rate: str, tallies: dict[str, Tally]) -> list[str]:
    cells = [name, rate]
    for group in ("traffic", "all"):
        t = tallies[group]
        precision = f"{1.0 - t.false_alerts / t.alerts:.2f}" if t.alerts else "-"
        cells += [
            f"{t.found / t.events:.3f}",
            f"{t.false_runs / t.days:.2f} ({t.false_alerts / t.days:.2f})",
            precision,
        ]
    cells.append(f"{np.median(tallies['all'].delays):.0f}" if tallies["all"].delays else "-")
    return cells


def _sum(corpus: list[Labelled], per_series: dict[str, Tally]) -> dict[str, Tally]:
    total = {"traffic": Tally(), "all": Tally()}
    for series in corpus:
        total["all"].add(per_series[series.name])
        if not series.group.startswith("middle"):
            total["traffic"].add(per_series[series.name])
    return total


def measure(folder: Path) -> tuple[list[list[str]], float]:
    """Return the table and the product's cost in µs of CPU per series-window."""
    corpus = load(folder / "ms_cloud_monitoring" / "series.parquet")
    table = []
    began = time.process_time()
    windows = 0
    for rate in (2.0, 1.0, 0.2):
        found = {s.name: judge(s, product(s.seconds, s.values, rate)) for s in corpus}
        windows += sum(len(s.values) for s in corpus)
        table.append(_row("**Tokentide**", f"set to {rate:g}/day", _sum(corpus, found)))
    cost = (time.process_time() - began) / windows * 1e6
    for rate in (1.0, 0.2):
        found = {s.name: judge(s, product(s.seconds, s.values, rate, Kind.SPIKE)) for s in corpus}
        table.append(_row("Tokentide, `--kind spike`", f"set to {rate:g}/day", _sum(corpus, found)))
    for name, (rule, threshold) in FIXED_RULES.items():
        found = {s.name: judge(s, rule(s.values) > threshold) for s in corpus}
        table.append(_row(name, "as it is", _sum(corpus, found)))
    for name, rival in RIVALS.items():
        scores = {s.name: rival(s.values) for s in corpus}
        for rate in (1.0, 0.2):
            found = {s.name: best_in_hindsight(s, scores[s.name], rate) for s in corpus}
            table.append(_row(name, f"hindsight, {rate:g}/day", _sum(corpus, found)))
    return table, cost
