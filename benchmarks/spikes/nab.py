"""The score of the Numenta Anomaly Benchmark, standard profile.

Written from the description in Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms: the Numenta Anomaly
Benchmark" (ICMLA 2015, arXiv:1510.03336), sections II-B and II-C: every labelled window is worth what the first
detection inside it earns, a detection outside costs the more the farther it lies behind the last window, and a missed
window costs 1. The corpus is scaled so that a silent detector has 0 and a perfect one 100. Positions inside a window
and their weights are those of the benchmark's own scorer (numenta/NAB, ``nab/sweeper.py``); with ``knn_cad.py`` it
gives the published score of that detector.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

#: Standard application profile: true positive, false positive, false negative (table I of the paper's repository).
TP_WEIGHT, FP_WEIGHT, FN_WEIGHT = 1.0, 0.11, 1.0
#: The first 15 % of a series, at most 750 rows, are for learning and are not scored.
PROBATION_SHARE, PROBATION_ROWS = 0.15, 750

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NabSeries:
    """One file: ``time`` in epoch seconds, ``value``, and the labelled windows as first and last row."""

    name: str
    time: Floats
    value: Floats
    windows: tuple[tuple[int, int], ...]


def load(folder: Path) -> list[NabSeries]:
    """Read ``series.parquet`` and ``combined_windows.json``."""
    labels = json.loads((folder / "combined_windows.json").read_text(encoding="utf-8"))
    labels = {name.removesuffix(".csv"): spans for name, spans in labels.items()}
    rows = duckdb.execute(
        "SELECT series, list(epoch(timestamp) ORDER BY timestamp), list(value ORDER BY timestamp) "
        f"FROM '{folder / 'series.parquet'}' GROUP BY series ORDER BY series"
    ).fetchall()
    found = []
    for name, time, value in rows:
        at = np.array(time, dtype=np.float64)
        windows = []
        for start, end in labels.get(name.removesuffix(".csv"), []):
            inside = np.flatnonzero((at >= _epoch(start)) & (at <= _epoch(end)))
            if inside.size:
                windows.append((int(inside[0]), int(inside[-1])))
        found.append(NabSeries(name, at, np.array(value, dtype=np.float64), tuple(sorted(windows))))
    return found


def held_out(name: str) -> bool:
    """Whether a file is in the half on which nothing was chosen: the last bit of the first byte of its name's hash."""
    return bool(hashlib.sha256(name.removesuffix(".csv").encode()).digest()[0] % 2)


def _epoch(text: str) -> float:
    return float(np.datetime64(text.replace(" ", "T"), "us").astype("int64")) / 1e6


def scaled_sigmoid(position: float) -> float:
    """Weight of a detection at ``position``: −1 the window's left edge, 0 its right edge, above 0 behind it.

    >>> round(scaled_sigmoid(-1.0), 3), scaled_sigmoid(0.0), round(scaled_sigmoid(1.0), 3)
    (0.987, 0.0, -0.987)
    """
    if position >= 3.0:
        return -1.0
    return 2.0 / (1.0 + math.exp(5.0 * position)) - 1.0


def probation(rows: int) -> int:
    """Rows at the start that are not scored."""
    return int(min(PROBATION_SHARE * rows, PROBATION_ROWS))


def file_score(detections: Bools, windows: tuple[tuple[int, int], ...]) -> float:
    """Raw score of one file."""
    at = np.flatnonzero(detections)
    at = at[at >= probation(detections.size)]
    total = 0.0
    inside = np.zeros(at.size, dtype=np.bool_)
    for first, last in windows:
        member = (at >= first) & (at <= last)
        inside |= member
        if not member.any():
            total -= FN_WEIGHT
            continue
        earliest = int(at[member][0])
        position = -(last - earliest + 1) / (last - first + 1)
        total += TP_WEIGHT * scaled_sigmoid(position) / scaled_sigmoid(-1.0)
    for index in at[~inside].tolist():
        before = [w for w in windows if w[1] < index]
        if not before:
            total -= FP_WEIGHT
            continue
        first, last = max(before, key=lambda w: w[1])
        total += FP_WEIGHT * scaled_sigmoid((index - last) / max(last - first, 1))
    return total


def normalised(raw: float, windows: int) -> float:
    """Corpus score: 0 for a detector that says nothing, 100 for a perfect one."""
    null = -FN_WEIGHT * windows
    return 100.0 * (raw - null) / (TP_WEIGHT * windows - null)


def corpus_score(corpus: Sequence[NabSeries], found: Mapping[str, Bools]) -> tuple[float, int]:
    """Score over the series given, 0 to 100, and how many scored detections lie outside every window."""
    raw, false = 0.0, 0
    for series in corpus:
        detections = found[series.name]
        raw += file_score(detections, series.windows)
        outside = detections.copy()
        outside[: probation(outside.size)] = False
        for first, last in series.windows:
            outside[first : last + 1] = False
        false += int(outside.sum())
    return normalised(raw, sum(len(series.windows) for series in corpus)), false
