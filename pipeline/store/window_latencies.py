"""TTFT and TPOT of windows of any grain, from the histograms of the base windows in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.store.sql import parsed
from pipeline.windows import histogram
from pipeline.windows.latencies import LATENCIES
from pipeline.windows.types import BASE_SECONDS, HISTOGRAMS, Delta

__all__ = ["PERCENTILES", "note_statuses", "window_latencies"]

#: Percentiles of a window's latencies, by name.
PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}

_PERCENTS = tuple(round(100 * q) for q in PERCENTILES.values())
_METRICS = {HISTOGRAMS.index(name): name for name in LATENCIES}
#: Counts only: window functions and ordered sums over them cost DuckDB more than the scan does.
_QUERY = f"""
SELECT window_start // $grain * $grain AS start, metric, bucket, sum(n)::BIGINT AS n,
    (SELECT max(all_before) FROM latency_statuses) AS all_before
FROM histograms JOIN keys USING (key_id)
WHERE model = $model AND pool = $pool AND metric IN ({", ".join(map(str, _METRICS))})
    AND window_start >= $start AND window_start < $end
GROUP BY 1, 2, 3
"""


def window_latencies(cursor: Any, where: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Return {window start: latencies} of the windows of one pool of which base windows are kept.

    ``where`` has ``model``, ``pool``, ``start``, ``end`` (epoch seconds) and ``grain``. Latencies have, for each name
    of ``LATENCIES``, how many requests told it (``told``), their ``mean`` and ``PERCENTILES`` in seconds (within 1 %);
    and ``statuses``: "ok" where only requests served to the end are in them, "all" where an older version counted.
    """
    columns = {
        name: np.ma.getdata(column)
        for name, column in cursor.execute(parsed(cursor, _QUERY), where).fetchnumpy().items()
    }
    if not columns["n"].size:
        return {}
    order = np.lexsort((columns["bucket"], columns["metric"], columns["start"]))
    start, metric, bucket, n, all_before = (column[order] for column in columns.values())
    first = np.flatnonzero(np.r_[True, (start[1:] != start[:-1]) | (metric[1:] != metric[:-1])])
    cells = np.diff(np.r_[first, n.size])
    seen = np.cumsum(n)
    told = np.add.reduceat(n, first)
    before = seen[first] - n[first]
    named, place = np.unique(bucket, return_inverse=True)
    value = np.array([histogram.value(b) for b in named.tolist()])[place]
    # A percentile is the first bucket beyond its rank; all ranks in whole hundredths, which are exact.
    percentiles = (
        value[np.searchsorted(seen, before + percent * (told - 1) // 100, side="right")] for percent in _PERCENTS
    )
    columns_of = (start[first], metric[first], told, _kahan_sums(n * value, first, cells) / told, *percentiles)
    found: dict[int, dict[str, Any]] = {}
    for at, of, count, mean, *values in zip(*(column.tolist() for column in columns_of), strict=True):
        window = found.setdefault(at, {"statuses": "ok" if at >= all_before[0] else "all"})
        window[_METRICS[of]] = {"told": count, "mean": mean, **dict(zip(PERCENTILES, values, strict=True))}
    return found


def _kahan_sums(terms: NDArray[np.float64], first: NDArray[np.intp], cells: NDArray[np.intp]) -> NDArray[np.float64]:
    """Sum each of many stretches of terms in its order, ``cells`` of them from ``first``; compensated.

    Source: Kahan, "Further remarks on reducing truncation errors", Communications of the ACM 8 (1965), p. 40.
    """
    longest_first = np.argsort(-cells, kind="stable")
    begin, length = first[longest_first], cells[longest_first]
    total, lost = np.zeros(begin.size), np.zeros(begin.size)
    for place in range(int(length[0])):
        lasting = int(np.searchsorted(-length, -place, side="left"))  # stretches that have a term here
        term = terms[begin[:lasting] + place] - lost[:lasting]
        larger = total[:lasting] + term
        lost[:lasting] = (larger - total[:lasting]) - term
        total[:lasting] = larger
    sums = np.empty_like(total)
    sums[longest_first] = total
    return sums


def note_statuses(connection: Any, deltas: Iterable[Delta]) -> None:
    """Note which windows hold latencies of all statuses from now on; call inside the transaction of the rows."""
    newest = max((max(d.rows.window) for d in deltas if d.latency_statuses == "all" and d.rows.window), default=None)
    if newest is not None:
        before = newest + BASE_SECONDS
        connection.execute(f"UPDATE latency_statuses SET all_before = greatest(all_before, {before})")
