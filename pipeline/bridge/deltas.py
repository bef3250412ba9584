"""Rows of pools to one delta of a bridge, and the state of the bridge that belongs to it. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from pipeline.bridge.rows import PoolRows
from pipeline.windows.types import MEASURES, Delta, DeltaRows, HistogramRows, WindowKey

__all__ = ["bridge_delta"]


def bridge_delta(
    source: str, partition: int, from_offset: int, through_offset: int, at: float | None, parts: Iterable[PoolRows]
) -> Delta:
    """Return the delta of one round of scrapes; its offsets are numbers of the bridge's own sequence.

    It holds no records, since there are none: ``events`` counts requests that servers told of. ``at`` (epoch seconds)
    is the newest scrape; None: none succeeded.
    """
    places: dict[WindowKey, int] = {}
    sums: dict[tuple[int, int], np.ndarray] = {}
    cells: dict[tuple[int, int], dict[tuple[int, int], int]] = defaultdict(lambda: defaultdict(int))
    for part in parts:
        key = places.setdefault(part.key, len(places))
        for window, measures in part.measures.items():
            row = np.array(measures, np.int64)
            sums[window, key] = sums[window, key] + row if (window, key) in sums else row
        for (window, metric, bucket), n in part.cells.items():
            cells[window, key][metric, bucket] += n
    order = sorted(sums)
    flat = [
        (row, metric, bucket, n)
        for row, place in enumerate(order)
        for (metric, bucket), n in sorted(cells[place].items())
    ]
    columns = np.stack([sums[place] for place in order], axis=1).tolist() if order else [[] for _ in MEASURES]
    completed = 0 if at is None else round(at * 1000.0)
    return Delta(
        topic=source,
        partition=partition,
        from_offset=from_offset,
        through_offset=through_offset,
        base_delta_offset=-1,
        producer_id=source,
        records=0,
        events=sum(columns[0]),
        duplicates=0,
        lost=0,
        max_event_at=at,
        idle=False,
        dead_letters=[],
        keys=list(places),
        rows=DeltaRows([window for window, _ in order], [key for _, key in order], columns, [completed] * len(order)),
        histograms=HistogramRows(*([cell[i] for cell in flat] for i in range(4))),
    )
