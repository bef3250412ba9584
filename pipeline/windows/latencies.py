"""Mean latencies of closed windows, from the histograms of the base windows in them (within 1 % by their buckets)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pipeline.windows import histogram
from pipeline.windows.model import HISTOGRAMS, ClosedWindow, DeltaRows, HistogramRows, WindowKey

__all__ = ["LATENCIES", "Counts", "latency_counts", "with_latencies"]

#: The histograms whose means a closed window carries, by the names of its fields.
LATENCIES = ("ttft_seconds", "tpot_seconds")
#: A mean says something about a window when at least this share of its answered requests told the value.
_LEAST_TOLD = 0.5

#: {latency: {bucket: n}} of one window.
Counts = Mapping[str, Mapping[int, int]]


def with_latencies(window: ClosedWindow, counts: Counts) -> ClosedWindow:
    """Return the window with its mean latencies; None where fewer than half of the answered requests told one."""
    ttft, tpot = (_mean(counts.get(name, {}), window.ok) for name in LATENCIES)
    return replace(window, ttft_seconds=ttft, tpot_seconds=tpot)


def _mean(told: Mapping[int, int], answered: int) -> float | None:
    known = sum(told.values())
    if known <= 0 or known < _LEAST_TOLD * answered:
        return None
    return math.fsum(n * histogram.value(bucket) for bucket, n in told.items()) / known


def latency_counts(
    parts: Iterable[tuple[Sequence[WindowKey], DeltaRows, HistogramRows]], grain_seconds: int
) -> dict[tuple[int, str, str], dict[str, dict[int, int]]]:
    """Add the histograms of base rows up per (start, model, pool), as ``pipeline.windows.rollup.rollup`` does sums."""
    wanted = {HISTOGRAMS.index(name): name for name in LATENCIES}
    found: dict[tuple[int, str, str], dict[str, dict[int, int]]] = {}
    for keys, rows, histograms in parts:
        for row, metric, bucket, n in zip(
            histograms.row, histograms.metric, histograms.bucket, histograms.n, strict=True
        ):
            if metric not in wanted:
                continue
            window, (model, pool, _) = rows.window[row], keys[rows.key[row]]
            counts = found.setdefault((window - window % grain_seconds, model, pool), {}).setdefault(wanted[metric], {})
            counts[bucket] = counts.get(bucket, 0) + n
    return found
