"""TTFT and TPOT of windows of any grain, from the histograms of the base windows in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.store.sql import is_key_of, parsed
from pipeline.windows import histogram
from pipeline.windows.latencies import LATENCIES
from pipeline.windows.types import BASE_SECONDS, HISTOGRAMS, Delta

__all__ = ["PERCENTILES", "counted_latencies", "note_statuses", "pools_latencies", "window_latencies"]

#: Percentiles of a window's latencies, by name.
PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}

_PERCENTS = tuple(round(100 * q) for q in PERCENTILES.values())
_METRICS = {HISTOGRAMS.index(name): name for name in LATENCIES}
#: Counts only: window functions and ordered sums over them cost DuckDB more than the scan does.
_COUNTS = f"""
SELECT window_start // $grain * $grain AS start, metric, bucket, sum(n)::BIGINT AS n,
    (SELECT max(all_before) FROM latency_statuses) AS all_before
FROM histograms
WHERE {{key}} AND metric IN ({", ".join(map(str, _METRICS))}) AND window_start >= $start AND window_start < $end
GROUP BY 1, 2, 3
"""
#: The rows that those counts are sums of: where they are few, sums take longer to plan than to make.
_FEW_ROWS = f"""
SELECT window_start // $grain * $grain AS start, metric, bucket, n,
    (SELECT max(all_before) FROM latency_statuses) AS all_before
FROM histograms
WHERE {{key}} AND metric IN ({", ".join(map(str, _METRICS))}) AND window_start >= $start AND window_start < $end
"""
#: Base windows of a pool, for all its keys together, that give few rows.
_FEW_WINDOWS = 60
#: The same of all keys: a join for the names of their pools takes DuckDB longer to plan than the rest.
_OF_ALL = f"""
SELECT key_id, window_start // $grain * $grain AS start, metric, bucket, sum(n)::BIGINT AS n,
    (SELECT max(all_before) FROM latency_statuses) AS all_before
FROM histograms
WHERE metric IN ({", ".join(map(str, _METRICS))}) AND window_start >= $first AND window_start < $last
    AND window_start // $grain * $grain IN (SELECT unnest($starts))
GROUP BY 1, 2, 3, 4
"""


def window_latencies(cursor: Any, where: dict[str, Any], key_ids: Collection[int]) -> dict[int, dict[str, Any]]:
    """Return {window start: latencies} of the windows of one pool of which base windows are kept.

    ``key_ids`` are those of the pool; ``where`` has ``start``, ``end`` (epoch seconds) and ``grain``. Latencies have,
    for each name of ``LATENCIES``, how many requests told it (``told``), their ``mean`` and ``PERCENTILES`` in seconds
    (within 1 %); and ``statuses``: "ok" where only requests served to the end are in them, "all" where an older version
    counted.
    """
    if not key_ids:
        return {}
    told, keys = is_key_of(key_ids)
    named = {name: where[name] for name in ("start", "end", "grain")}
    few = (where["end"] - where["start"]) // BASE_SECONDS * len(key_ids) <= _FEW_WINDOWS
    columns = _columns(cursor, (_FEW_ROWS if few else _COUNTS).format(key=told), named | keys)
    return counted_latencies(columns) if few else _latencies(columns)


def counted_latencies(columns: dict[str, NDArray[Any]]) -> dict[int, dict[str, Any]]:
    """Return what ``window_latencies`` does of columns ``start``, ``metric``, ``bucket``, ``n`` and ``all_before``.

    One count may be in several rows; see ``note_statuses`` for ``all_before``, which is the same in all of them.
    """
    if not columns["n"].size:
        return {}
    start, counts = _summed(columns["start"], columns)
    return _latencies({"start": start, **counts, "all_before": columns["all_before"][:1]})


def _latencies(columns: dict[str, NDArray[Any]]) -> dict[int, dict[str, Any]]:
    if not columns["n"].size:
        return {}
    since = int(columns["all_before"][0])
    found: dict[int, dict[str, Any]] = {}
    for at, name, cell in _cells(columns["start"], columns):
        found.setdefault(at, _statuses(at, since))[name] = cell
    return found


def pools_latencies(
    cursor: Any, starts: Collection[int], grain_seconds: int
) -> dict[tuple[str, str], dict[int, dict[str, Any]]]:
    """Return what ``window_latencies`` says of every pool, by (model, pool), for windows that begin at ``starts``."""
    where = {"starts": sorted(starts), "grain": grain_seconds}
    where |= {"first": min(starts), "last": max(starts) + grain_seconds}
    columns = _columns(cursor, _OF_ALL, where)
    if not columns["n"].size:
        return {}
    keys = cursor.execute(parsed(cursor, "SELECT key_id, model, pool FROM keys")).fetchall()
    if not keys:
        return {}
    numbers: dict[tuple[str, str], int] = {}
    of_key = np.full(1 + max(int(columns["key_id"].max()), *(key for key, _, _ in keys)), -1, np.int64)
    for key, model, pool in keys:
        of_key[key] = numbers.setdefault((model, pool), len(numbers))
    names = list(numbers)
    since = int(columns["all_before"][0])
    known, place = np.unique(columns["start"], return_inverse=True)
    found: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    number = of_key[columns["key_id"]]
    if number.min() < 0:  # a pool was forgotten between the two queries
        place, columns = place[number >= 0], {name: column[number >= 0] for name, column in columns.items()}
        number = number[number >= 0]
        if not number.size:
            return {}
    group_of = number * known.size + place
    if len(keys) > len(names):
        group_of, columns = _summed(group_of, columns)
    for group, name, cell in _cells(group_of, columns):
        which_pool, which = divmod(group, known.size)
        at = int(known[which])
        found.setdefault(names[which_pool], {}).setdefault(at, _statuses(at, since))[name] = cell
    return found


def _summed(
    group: NDArray[np.int64], columns: dict[str, NDArray[Any]]
) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
    """One row for each (group, metric, bucket), with the sum of its counts."""
    order = np.lexsort((columns["bucket"], columns["metric"], group))
    of, metric, bucket = (column[order] for column in (group, columns["metric"], columns["bucket"]))
    first = np.flatnonzero(np.r_[True, (of[1:] != of[:-1]) | (metric[1:] != metric[:-1]) | (bucket[1:] != bucket[:-1])])
    n = np.add.reduceat(columns["n"][order], first)
    return of[first], {"metric": metric[first], "bucket": bucket[first], "n": n}


def _columns(cursor: Any, query: str, where: dict[str, Any]) -> dict[str, NDArray[Any]]:
    told = cursor.execute(parsed(cursor, query), where).fetchnumpy()
    return {name: np.ma.getdata(column) for name, column in told.items()}


def _statuses(start: int, all_before: int) -> dict[str, Any]:
    return {"statuses": "ok" if start >= all_before else "all"}


def _cells(group: NDArray[Any], columns: dict[str, NDArray[Any]]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield (group, latency, what it says) of counts of any number of groups, ordered by group and metric."""
    order = np.lexsort((columns["bucket"], columns["metric"], group))
    start, metric, bucket, n = (column[order] for column in (group, *(columns[c] for c in ("metric", "bucket", "n"))))
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
    for at, of, count, mean, *values in zip(*(column.tolist() for column in columns_of), strict=True):
        yield at, _METRICS[of], {"told": count, "mean": mean, **dict(zip(PERCENTILES, values, strict=True))}


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


def note_statuses(connection: Any, deltas: Iterable[Delta]) -> int:
    """Note which windows hold latencies of all statuses from now on; call inside the transaction of the rows.

    Returns the end (epoch seconds) of the newest of them; 0: these deltas have none.
    """
    newest = max((max(d.rows.window) for d in deltas if d.latency_statuses == "all" and d.rows.window), default=None)
    if newest is None:
        return 0
    before = newest + BASE_SECONDS
    connection.execute(f"UPDATE latency_statuses SET all_before = greatest(all_before, {before})")
    return before
