"""Increments of counters to window rows: what requests would have given, as far as counters tell it. No I/O, no clock.

Counters move when requests end, windows are by arrival: the increments of [since, until) are spread evenly over that
time less the mean latency. Sums are those of the counters exactly. What only a request could tell is estimated where
sizing needs a figure (squares and products of lengths from buckets and means, time in the KV cache from means) and else
left unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.bridge.increments import Increments
from pipeline.windows import histogram
from pipeline.windows.bridged import BRIDGE_DIMS
from pipeline.windows.types import BASE_SECONDS, HISTOGRAMS, MEASURES, PoolKey, WindowKey

__all__ = ["PoolRows", "pool_rows"]

#: Latencies beyond it do not move requests further back.
_MAX_SHIFT_SECONDS = 600.0
_STATUSES = ("ok", "error", "cancelled", "rejected", "timeout")
_MAX_TOKENS = 10_000_000  # of one request, as for events
_MAX_SUM = float(1 << 53)  # of one target and measure: those of all targets of a bridge stay within 63 bits
#: Where the bucket up to infinity is taken to lie, as a multiple of the bound before it.
_BEYOND = 1.5


@dataclass(frozen=True, slots=True)
class PoolRows:
    """Rows of one pool: measures by base window (epoch seconds, in the order of ``MEASURES``), and histogram counts by
    (base window, metric, bucket).
    """

    key: WindowKey
    measures: Mapping[int, Sequence[int]]
    cells: Mapping[tuple[int, int, int], int]


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Token counts of requests: their sum, the sum of their squares, and how many requests are in it."""

    sum: float
    squares: float
    requests: int


def pool_rows(increments: Increments, pool: PoolKey) -> PoolRows:
    """Return the rows of what one target of a pool has done between two scrapes."""
    counts = {status: _whole(increments.of(f"requests.{status}")) for status in _STATUSES}
    requests = sum(counts.values())
    inputs = _lengths(increments, "input_tokens", "prompt_tokens", counts["ok"])
    outputs = _lengths(increments, "output_tokens", "generation_tokens", counts["ok"])
    sums = {"requests": requests, **counts, **_tokens(increments, inputs, outputs, requests), **_times(increments)}
    if sums["inflight_milliseconds"] and requests:
        lengths = sums["input_tokens"] + sums["output_tokens"] / 2
        resident = _mean(increments, "e2e_seconds", 0.0) - _mean(increments, "queue_seconds", 0.0)
        sums["kv_token_milliseconds"] = lengths * max(resident, 0.0) * 1000.0
    totals = np.array([_whole(sums.get(name)) for name in MEASURES], np.int64)
    shift = min(_mean(increments, "e2e_seconds", 0.0), _MAX_SHIFT_SECONDS)
    starts, shares = _spread(increments.since - shift, increments.until - shift, requests)
    rows = _cumulative(totals, shares)
    rows[:, 0] = rows[:, 1 : 1 + len(_STATUSES)].sum(axis=1)  # rounded one by one; they stay what they add up to
    counted = _histograms(increments, counts["ok"], requests)
    cells: dict[tuple[int, int, int], int] = {}
    if counted:
        spread = _cumulative(np.array(list(counted.values()), np.int64), shares)
        for i, start in enumerate(starts):
            cells |= {(start, *cell): int(n) for cell, n in zip(counted, spread[i], strict=True) if n}
    measures = {start: row.tolist() for start, row in zip(starts, rows, strict=True) if row.any()}
    return PoolRows(WindowKey(*pool, BRIDGE_DIMS), measures, {at: n for at, n in cells.items() if at[0] in measures})


def _tokens(increments: Increments, inputs: _Lengths, outputs: _Lengths, requests: int) -> dict[str, float]:
    cached = increments.of("cached_tokens")
    if cached is None:
        cached = increments.of("cache_hits")
    both = min(inputs.requests, outputs.requests)
    return {
        "input_tokens": inputs.sum,
        "output_tokens": outputs.sum,
        "cached_input_tokens": min(cached or 0.0, inputs.sum),
        "cached_known": 0 if cached is None else inputs.requests,
        "input_tokens_squared": inputs.squares,
        "output_tokens_squared": outputs.squares,
        "input_output_product": inputs.sum * outputs.sum / both if both else 0.0,
        "input_tokens_unknown": max(requests - inputs.requests, 0),
        "output_tokens_unknown": max(requests - outputs.requests, 0),
    }


def _times(increments: Increments) -> dict[str, float]:
    e2e = increments.of("e2e_seconds", "sum") or 0.0
    return {"inflight_milliseconds": e2e * 1000.0, "preemptions": increments.of("preemptions") or 0.0}


def _lengths(increments: Increments, quantity: str, counter: str, ok: int) -> _Lengths:
    """Token counts by the histogram over requests; else by the counter, as if all answered requests were alike."""
    total, count = increments.of(quantity, "sum"), _whole(increments.of(quantity, "count"))
    if total is not None and count:
        total = min(total, float(count) * _MAX_TOKENS)
        values, n = _located(increments, quantity, total / count)
        squares = float((n * values * values).sum()) if len(n) else 0.0
        return _Lengths(total, max(squares, total * total / count), count)
    total = increments.of(counter)
    if total is None or not ok:
        return _Lengths(0.0, 0.0, 0)
    total = min(total, float(ok) * _MAX_TOKENS)
    return _Lengths(total, total * total / ok, ok)


def _mean(increments: Increments, quantity: str, otherwise: float) -> float:
    total, count = increments.of(quantity, "sum"), increments.of(quantity, "count")
    return total / count if total is not None and count else otherwise


def _histograms(increments: Increments, ok: int, requests: int) -> dict[tuple[int, int], int]:
    """Counts by (metric, bucket); of each metric as many as there are requests that it is told of."""
    found: dict[tuple[int, int], int] = {}
    for metric, name in enumerate(HISTOGRAMS):
        quantity, most = name, requests
        if name == "tpot_seconds":
            most = ok
            if not increments.of(name, "count"):
                quantity = "itl_seconds"  # of tokens: scaled to requests below
        count = increments.of(quantity, "count")
        if not count:
            continue
        values, n = _located(increments, quantity, _mean(increments, quantity, 0.0))
        wanted = min(_whole(count), most)
        edges = np.rint(np.cumsum(n) / max(float(n.sum()), 1.0) * wanted)
        for bucket, times in zip(histogram.bucket(values).tolist(), np.diff(edges, prepend=0.0).tolist(), strict=True):
            if times > 0:
                found[metric, bucket] = found.get((metric, bucket), 0) + int(times)
    return found


def _located(increments: Increments, quantity: str, mean: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return values that stand for the buckets of a histogram, with their counts; their mean is ``mean``.

    Each bucket is taken at its middle, and all are scaled alike so that the mean is the one that sum and count tell.
    Without buckets all lie at the mean.
    """
    parts = increments.sums.get(quantity, {})
    bounds = sorted((float(part), count) for part, count in parts.items() if part not in ("sum", "count"))
    values, counts = [], []
    lower = below = 0.0
    for bound, cumulative in bounds:
        own = max(cumulative - below, 0.0)  # buckets are cumulative; after a reset they may disagree
        if own > 0.0:
            middle = (lower + bound) / 2 if math.isfinite(bound) else lower * _BEYOND
            values.append(middle)
            counts.append(own)
        below = max(below, cumulative)
        lower = bound if math.isfinite(bound) else lower
    n = np.array(counts, np.float64)
    at = np.array(values, np.float64)
    told = float((n * at).sum()) / float(n.sum()) if len(n) else 0.0
    if told <= 0.0:
        return np.array([mean]), np.array([max(float(parts.get("count", 0.0)), 0.0)])
    return at * (mean / told), n


def _spread(since: float, until: float, requests: int) -> tuple[list[int], NDArray[np.float64]]:
    """Base windows of [since, until), and the share of the requests up to the end of each, in whole requests."""
    since, until = max(since, 0.0), max(until, 0.0)
    first = math.floor(since / BASE_SECONDS)
    last = max(math.ceil(until / BASE_SECONDS), first + 1)
    ends = np.arange(first + 1, last + 1, dtype=np.float64) * BASE_SECONDS
    share = np.clip((ends - since) / max(until - since, 1e-9), 0.0, 1.0)
    share[-1] = 1.0
    whole = np.rint(share * requests) / requests if requests else share
    return [k * BASE_SECONDS for k in range(first, last)], whole


def _cumulative(totals: NDArray[np.int64], shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Split totals by cumulative shares; shape (windows, totals). The parts add up to the totals."""
    reached = np.rint(shares[:, None] * totals[None, :]).astype(np.int64)
    reached[-1] = totals
    return np.diff(np.maximum.accumulate(np.minimum(reached, totals), axis=0), axis=0, prepend=0)


def _whole(value: float | None) -> int:
    return 0 if value is None or not value > 0.0 else round(min(value, _MAX_SUM))
