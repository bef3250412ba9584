"""Sums and latencies of many pools at once from the base windows of a short span, as a step closes them.

DuckDB takes longer to plan sums of many columns, and a join for the names of pools, than to read the rows of a minute.
So rows are selected as they are, by the keys of the pools, and added up in columns here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.store.sql import is_key_of, parsed
from pipeline.windows.latencies import TOLD
from pipeline.windows.rollup import CLOSED_MEASURES
from pipeline.windows.types import HISTOGRAMS

__all__ = ["PoolKeys", "latency_counts", "window_sums"]

_METRICS = {HISTOGRAMS.index(name): name for name in TOLD}
_SPAN = "window_start >= $start AND window_start < $end"
_ROWS = f"SELECT key_id, {', '.join(CLOSED_MEASURES)} FROM windows WHERE {_SPAN}"
#: Grouped by DuckDB: histograms are append-only, a row for each delta that had something of a cell.
_CELLS = (
    "SELECT key_id, metric, bucket, sum(n)::BIGINT AS n FROM histograms "
    f"WHERE {_SPAN} AND metric IN ({', '.join(map(str, _METRICS))})"
)
_MAX_SUM = (1 << 63) - 1
#: DuckDB gives columns of 128 bits as floats, which hold whole numbers below this exactly.
_EXACT = 2.0**53

Pool = tuple[str, str]


class PoolKeys:
    """The keys of some pools, each with the place of its pool in ``pools``: sorted, those without any key left out.

    Args:
        pools: (model, pool) in any order.
        of_pool: the ids of the keys of a pool.
        every_key: ``pools`` are all that there are, so that rows need not be picked by their keys.
    """

    def __init__(
        self, pools: Collection[Pool], of_pool: Callable[[str, str], Sequence[int]], *, every_key: bool = False
    ) -> None:
        keys = [(pool, of_pool(*pool)) for pool in sorted(pools)]
        self.pools = [pool for pool, of in keys if of]
        self.ids = [key for _, of in keys for key in of]
        self._every = every_key
        places = [place for place, of in enumerate(of for _, of in keys if of) for _ in of]
        self._place = np.full(max(self.ids, default=-1) + 1, -1, np.int64)
        self._place[self.ids] = places

    def select(self, cursor: Any, query: str, start: int, end: int, after: str = "") -> dict[str, NDArray[Any]]:
        """Return the columns of a query over [start, end) for the keys, with ``place`` in place of ``key_id``.

        They hold whole numbers: of 64 bits, or Python's own where one is larger.
        """
        where: dict[str, Any] = {"start": start, "end": end}
        if not self._every:
            told, keys = is_key_of(self.ids)
            query, where = f"{query} AND {told}", where | keys
        columns = _whole(cursor, parsed(cursor, query + after), where)
        key = columns.pop("key_id")
        known = key < self._place.size  # a key that has come since is of no pool that was asked for
        place = np.where(known, self._place[np.where(known, key, 0)], -1)
        if place.size and place.min() < 0:
            columns, place = {name: column[place >= 0] for name, column in columns.items()}, place[place >= 0]
        return {"place": place, **columns}


def window_sums(cursor: Any, keys: PoolKeys, start: int, end: int) -> Iterator[tuple[Pool, list[int]]]:
    """Yield the sums over [start, end), in the order of ``CLOSED_MEASURES``, of each pool that has rows, sorted."""
    if not keys.ids:
        return
    columns = keys.select(cursor, _ROWS, start, end)
    place = columns["place"]
    if not place.size:
        return
    order = np.argsort(place, kind="stable")
    first = np.flatnonzero(np.diff(place[order], prepend=-1))
    sums = [_added(columns[name][order], first) for name in CLOSED_MEASURES]
    for at, values in zip(place[order][first].tolist(), zip(*sums, strict=True), strict=True):
        yield keys.pools[at], list(values)


def latency_counts(cursor: Any, keys: PoolKeys, start: int, end: int) -> dict[Pool, dict[str, dict[int, int]]]:
    """Return {(model, pool): {latency: {bucket: n}}} of ``TOLD`` over the base windows in [start, end)."""
    if not keys.ids:
        return {}
    columns = keys.select(cursor, _CELLS, start, end, " GROUP BY key_id, metric, bucket")
    which = columns["place"] * len(HISTOGRAMS) + columns["metric"]
    if not which.size:
        return {}
    order = np.lexsort((columns["bucket"], which))
    which, bucket, n = which[order], columns["bucket"][order], columns["n"][order]
    # A pool has several keys where requests carry dimensions: each may have counted in a bucket.
    first = np.flatnonzero(np.diff(which, prepend=-1) | (np.diff(bucket, prepend=bucket[0]) != 0))
    which, bucket, n = which[first], bucket[first].tolist(), np.add.reduceat(n, first).tolist()
    begins = np.flatnonzero(np.diff(which, prepend=-1))
    found: dict[Pool, dict[str, dict[int, int]]] = {}
    ends = [*begins[1:].tolist(), len(n)]
    for histogram, begin, until in zip(which[begins].tolist(), begins.tolist(), ends, strict=True):
        at, metric = divmod(histogram, len(HISTOGRAMS))
        counts = dict(zip(bucket[begin:until], n[begin:until], strict=True))
        found.setdefault(keys.pools[at], {})[_METRICS[metric]] = counts
    return found


def _whole(cursor: Any, statement: Any, where: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """The columns that a statement selects, as whole numbers."""
    found = cursor.execute(statement, where).fetchnumpy()
    columns = {name: np.ma.getdata(column) for name, column in found.items()}
    wide = [name for name, column in columns.items() if column.dtype == np.float64]
    if any(columns[name].max(initial=0.0) >= _EXACT for name in wide):
        exact = zip(*cursor.execute(statement, where).fetchall(), strict=True)
        return {
            name: np.array(values, object if name in wide else np.int64)
            for name, values in zip(columns, exact, strict=True)
        }
    return columns | {name: columns[name].astype(np.int64) for name in wide}


def _added(column: NDArray[Any], first: NDArray[np.intp]) -> list[int]:
    """The sums of stretches of a column, each from one of ``first`` on; exact, also beyond 64 bits."""
    exact = int(column.max()) <= _MAX_SUM // column.size
    added: NDArray[Any] = np.add.reduceat(column if exact else column.astype(object), first)
    return added.tolist()  # type: ignore[no-any-return]
