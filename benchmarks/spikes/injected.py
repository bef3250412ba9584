"""Spikes of known time, size and ramp, multiplied into real traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from rivals import FIXED_RULES, Floats

from pipeline.alerts.spikes.detector import Direction, SpikeDetector
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import Forecast, SeriesKey

FACTORS = (2.0, 3.0, 5.0, 10.0, 50.0)
RAMPS_MINUTES = (1, 5, 10, 30)
#: Drops: what is left of the demand; a slow fall is no sudden one.
DROPS = (0.0, 0.1, 0.2, 0.5)
DROP_RAMPS_MINUTES = (1, 5)
HOLD_MINUTES = 20
#: Nothing is injected before; spikes are this far apart and up to two hours more, so about one a day: where they come
#: hourly they are that traffic's ordinary course, and the detector is meant to raise its bar.
FIRST_MINUTE, APART_MINUTES = 720, 1260
TRACES = {
    "Azure conversation, 1 min": ("azure_llm_2024/conv_10s_counts.parquet", "timestamp", "requests", 6),
    "NASA web server, 1 min": ("nasa_http/requests_10s.parquet", "t_s", "requests", 6),
    "BurstGPT tokens, 1 min": ("burstgpt/week1_tokens_1min.parquet", "t_s", "tokens", 1),
}
#: Drawings of times and order, so that every size is met often enough.
SEEDS = {"Azure conversation, 1 min": 5, "NASA web server, 1 min": 1, "BurstGPT tokens, 1 min": 3}


@dataclass(frozen=True, slots=True)
class Injected:
    """When it starts and ends (minute), how much, how steep."""

    start: int
    end: int
    factor: float
    ramp: int


def minutes(folder: Path, name: str) -> Floats:
    """Counts per minute."""
    path, order, column, per_minute = TRACES[name]
    rows = duckdb.execute(f"SELECT {column} FROM '{folder / path}' ORDER BY {order}").fetchnumpy()[column]
    whole = np.asarray(rows, dtype=np.float64)
    return np.asarray(whole[: len(whole) // per_minute * per_minute].reshape(-1, per_minute).sum(axis=1))


def inject(
    values: Floats, seed: int, factors: Sequence[float] = FACTORS, ramps: Sequence[int] = RAMPS_MINUTES
) -> tuple[Floats, list[Injected]]:
    """Multiply spikes (or drops) in: over the ramp, hold, back over the ramp; every factor with every ramp in turn."""
    random = np.random.default_rng(seed)
    combinations = [(f, r) for f in factors for r in ramps]
    random.shuffle(combinations)
    out = values.copy()
    spikes: list[Injected] = []
    start = FIRST_MINUTE
    while True:
        factor, ramp = combinations[len(spikes) % len(combinations)]
        length = 2 * ramp + HOLD_MINUTES
        if start + length + 60 >= len(values):
            return out, spikes
        x = np.arange(length)
        course = 1.0 + (factor - 1.0) * np.minimum(1.0, np.minimum((x + 1) / ramp, (length - x) / ramp))
        out[start : start + length] *= course
        spikes.append(Injected(start, start + length, factor, ramp))
        start += length + APART_MINUTES + int(random.integers(0, 120))


def watch(values: Floats, per_day: float, *, forecast: bool, falls: bool = False) -> tuple[list[int], list[int]]:
    """Return the minutes at which rises (or falls) began and ended, with the product's forecasts or without."""
    detector = SpikeDetector(per_day, 60.0, direction=Direction.BOTH)
    model = SeriesForecaster(SeriesKey("m", "p", "requests_per_second"), (60, 900), 60) if forecast else None
    issued: Sequence[Forecast] = ()
    began, ended = [], []
    for at, value in enumerate(values.tolist()):
        state = detector.observe(60.0 * (at + 1), value / 60.0, issued)
        if state.began and state.falls is falls:
            began.append(at)
        if state.ended_at is not None and state.falls is falls:
            ended.append(at)
        if model is not None:
            issued = model.step(60.0 * (at + 1), value / 60.0)
    return began, ended


def rule(values: Floats, name: str) -> tuple[list[int], list[int]]:
    """The same of a Prometheus rule."""
    score, threshold = FIXED_RULES[name]
    above = np.concatenate([[0], (score(values) > threshold).astype(int), [0]])
    edges = np.diff(above)
    return np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist()


@dataclass(slots=True)
class Outcome:
    """What one detector made of one trace, over all drawings."""

    found: dict[float, list[bool]]
    detect: list[int]
    clear: list[int]
    false: int = 0
    days: float = 0.0

    def add(self, spikes: list[Injected], began: list[int], ended: list[int], days: float) -> None:
        """Match episodes to spikes; one that begins within an hour after a spike is its echo, not false."""
        claimed = set()
        for spike in spikes:
            hits = [b for b in began if spike.start <= b < spike.end]
            claimed |= {b for b in began if spike.start <= b < spike.end + 60}
            self.found[spike.factor].append(bool(hits))
            if hits:
                self.detect.append(hits[0] - spike.start)
                over = [e for e in ended if e > hits[0]]
                if over:
                    self.clear.append(over[0] - spike.end)
        self.false += len(began) - len(claimed)
        self.days += days

    def row(self, name: str, tool: str) -> list[str]:
        """Recall in all and by size, delays (minutes, median and 95 %), false alerts a day, precision."""
        hits = [hit for found in self.found.values() for hit in found]
        spread = [
            f"{np.median(delay):.0f} / {np.quantile(delay, 0.95):.0f}" if delay else "-"
            for delay in (self.detect, self.clear)
        ]
        return [
            name,
            tool,
            f"{np.mean(hits):.2f} of {len(hits)}",
            *(f"{np.mean(found):.2f}" if found else "-" for found in self.found.values()),
            *spread,
            f"{self.false / self.days:.2f}",
            f"{sum(hits) / max(1, sum(hits) + self.false):.2f}",
        ]


def measure(folder: Path) -> list[list[str]]:
    """The whole table."""
    table = []
    for name, seeds in SEEDS.items():
        values = minutes(folder, name)
        outcomes: dict[str, Outcome] = {}
        for seed in range(seeds):
            made, spikes = inject(values, seed)
            seen = {
                "**Tokentide** with its forecast": watch(made, 1.0, forecast=True),
                "Tokentide, detector alone": watch(made, 1.0, forecast=False),
                **{tool: rule(made, tool) for tool in FIXED_RULES},
            }
            for tool, (began, ended) in seen.items():
                outcome = outcomes.setdefault(tool, Outcome({factor: [] for factor in FACTORS}, [], []))
                outcome.add(spikes, began, ended, len(values) / 1440.0)
        table += [outcome.row(name, tool) for tool, outcome in outcomes.items()]
    return table


def measure_drops(folder: Path) -> list[list[str]]:
    """The same table of drops, without forecasts."""
    table = []
    for name, seeds in SEEDS.items():
        values = minutes(folder, name)
        outcome = Outcome({factor: [] for factor in DROPS}, [], [])
        for seed in range(seeds):
            made, drops = inject(values, seed, DROPS, DROP_RAMPS_MINUTES)
            began, ended = watch(made, 1.0, forecast=False, falls=True)
            outcome.add(drops, began, ended, len(values) / 1440.0)
        table.append(outcome.row(name, "Tokentide, detector alone"))
    return table
