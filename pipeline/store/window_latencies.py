"""TTFT and TPOT of windows of any grain, from the histograms of the base windows in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.windows import histogram
from pipeline.windows.latencies import LATENCIES
from pipeline.windows.types import BASE_SECONDS, HISTOGRAMS, Delta

__all__ = ["PERCENTILES", "note_statuses", "window_latencies"]

#: Percentiles of a window's latencies, by name.
PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}

_METRICS = {HISTOGRAMS.index(name): name for name in LATENCIES}
#: The value that a bucket stands for, as ``histogram.value`` says it.
_VALUE = (
    f"CASE WHEN bucket = {histogram.ZERO_BUCKET} THEN 0.0 "
    f"ELSE 2.0 * pow({histogram.GAMMA}, bucket) / {histogram.GAMMA + 1.0} END"
)
_AT = ", ".join(f"min(bucket) FILTER (seen > {q} * (told - 1)) AS {name}" for name, q in PERCENTILES.items())
_QUERY = f"""
WITH buckets AS (
    SELECT window_start // $grain * $grain AS start, metric, bucket, sum(n) AS n
    FROM histograms JOIN keys USING (key_id)
    WHERE model = $model AND pool = $pool AND metric IN ({", ".join(map(str, _METRICS))})
        AND window_start >= $start AND window_start < $end
    GROUP BY ALL
), ranked AS (
    SELECT *, sum(n) OVER (PARTITION BY start, metric ORDER BY bucket) AS seen,
        sum(n) OVER (PARTITION BY start, metric) AS told
    FROM buckets
)
SELECT start, metric, max(told)::BIGINT AS told, fsum(n * {_VALUE} ORDER BY bucket) / max(told) AS mean, {_AT},
    start >= (SELECT max(all_before) FROM latency_statuses) AS of_ok
FROM ranked GROUP BY start, metric ORDER BY start, metric
"""


def window_latencies(cursor: Any, where: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Return {window start: latencies} of the windows of one pool of which base windows are kept.

    ``where`` has ``model``, ``pool``, ``start``, ``end`` (epoch seconds) and ``grain``. Latencies have, for each name
    of ``LATENCIES``, how many requests told it (``told``), their ``mean`` and ``PERCENTILES`` in seconds (within 1 %);
    and ``statuses``: "ok" where only requests served to the end are in them, "all" where an older version counted.
    """
    found: dict[int, dict[str, Any]] = {}
    for start, metric, told, mean, *buckets, of_ok in cursor.execute(_QUERY, where).fetchall():
        values = {name: histogram.value(bucket) for name, bucket in zip(PERCENTILES, buckets, strict=True)}
        window = found.setdefault(start, {"statuses": "ok" if of_ok else "all"})
        window[_METRICS[metric]] = {"told": told, "mean": mean, **values}
    return found


def note_statuses(connection: Any, deltas: Iterable[Delta]) -> None:
    """Note which windows hold latencies of all statuses from now on; call inside the transaction of the rows."""
    newest = max((max(d.rows.window) for d in deltas if d.latency_statuses == "all" and d.rows.window), default=None)
    if newest is not None:
        before = newest + BASE_SECONDS
        connection.execute(f"UPDATE latency_statuses SET all_before = greatest(all_before, {before})")
