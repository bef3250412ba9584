"""Mean latencies of closed windows, from the histograms of the base windows in them (within 1 % by their buckets)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from pipeline.windows import histogram
from pipeline.windows.servers import SERVERS, server_count
from pipeline.windows.service import SERVICE, service
from pipeline.windows.types import (
    HISTOGRAMS,
    ClosedWindow,
    DeltaRows,
    HistogramRows,
    Histograms,
    WindowKey,
)

__all__ = ["LATENCIES", "TOLD", "Counts", "latency_counts", "speaks_for", "told_fields", "with_latencies"]

#: The histograms whose means a closed window carries, by the names of its fields.
LATENCIES = ("ttft_seconds", "tpot_seconds")
#: The histograms that ``with_latencies`` needs.
TOLD = (*LATENCIES, "queue_seconds", "e2e_seconds", SERVERS, SERVICE)
#: A mean says something about a window when at least this share of its answered requests told the value.
_LEAST_TOLD = 0.5

_IS_TOLD = np.array([name in TOLD for name in HISTOGRAMS])

#: {latency: {bucket: n}} of one window.
Counts = Mapping[str, Mapping[int, int]]


def with_latencies(window: ClosedWindow, counts: Counts) -> ClosedWindow:
    """Return the window with its mean latencies, the servers that its requests name, and how they were served.

    Latencies are None where fewer than half of the answered requests told one.
    """
    return replace(window, **told_fields(window, counts))


def told_fields(window: ClosedWindow, counts: Counts) -> dict[str, Any]:
    """Return the fields that ``with_latencies`` sets, for who sets others too: a copy of a window is dear."""
    ttft, tpot = (_mean(counts.get(name, {}), window.ok) for name in LATENCIES)
    servers = server_count(counts.get(SERVERS, {}), window.requests)
    return {"ttft_seconds": ttft, "tpot_seconds": tpot, "servers": servers, "service": service(counts)}


def speaks_for(told: int, answered: int) -> bool:
    """Whether the requests that told a latency are enough to say something about all that were answered."""
    return told > 0 and told >= _LEAST_TOLD * answered


def _mean(told: Mapping[int, int], answered: int) -> float | None:
    known = sum(told.values())
    if not speaks_for(known, answered):
        return None
    return math.fsum(n * histogram.value(bucket) for bucket, n in told.items()) / known


def latency_counts(
    parts: Iterable[tuple[Sequence[WindowKey], DeltaRows, Histograms]], grain_seconds: int
) -> dict[tuple[int, str, str], dict[str, dict[int, int]]]:
    """Add the histograms of base rows up per (start, model, pool), as ``pipeline.windows.rollup.rollup`` does sums."""
    found: dict[tuple[int, str, str], dict[str, dict[int, int]]] = {}
    for keys, rows, counted in parts:
        columns = msgspec.structs.astuple(counted) if isinstance(counted, HistogramRows) else counted
        row, metric, bucket, n = (np.asarray(column, np.int64) for column in columns)
        told = _IS_TOLD[metric]
        row, metric, bucket, n = row[told], metric[told], bucket[told], n[told]
        if not len(row):
            continue
        pools = list(dict.fromkeys((model, pool) for model, pool, _ in keys))
        place_of = {pool: place for place, pool in enumerate(pools)}
        pool_at = np.array([place_of[model, pool] for model, pool, _ in keys])[np.array(rows.key)[row]]
        start = np.array(rows.window)[row] // grain_seconds
        first = int(start.min())
        # One number for each histogram of a window, ascending, and one for each of its buckets.
        which = ((start - first) * len(pools) + pool_at) * len(HISTOGRAMS) + metric
        order = np.lexsort((bucket, which))
        which, bucket, n = which[order], bucket[order], n[order]
        cells = np.flatnonzero(np.diff(which, prepend=-1) | np.diff(bucket, prepend=0))
        which, bucket, n = which[cells], bucket[cells], np.add.reduceat(n, cells)
        ends = np.flatnonzero(np.diff(which, append=-1)) + 1
        for begin, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
            window, name = divmod(int(which[begin]), len(HISTOGRAMS))
            later, pool = divmod(window, len(pools))
            of_window = found.setdefault(((first + later) * grain_seconds, *pools[pool]), {})
            counts = dict(zip(bucket[begin:end].tolist(), n[begin:end].tolist(), strict=True))
            for value, count in of_window.get(HISTOGRAMS[name], {}).items():
                counts[value] = counts.get(value, 0) + count
            of_window[HISTOGRAMS[name]] = counts
    return found
