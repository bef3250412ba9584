"""Rows of base windows into the file: new ones inserted, those that are there already added to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.store.frontier import Frontier, Touched
from pipeline.store.key_table import KeyTable
from pipeline.store.open_windows import OpenWindows
from pipeline.store.rollups import LATE_INSERT
from pipeline.store.sql import parsed, run
from pipeline.windows.types import BASE_SECONDS, MEASURES, DeltaRows, Histograms, WindowKey

__all__ = ["merge_rows"]


def merge_rows(
    connection: Any,
    keys: KeyTable,
    parts: Sequence[tuple[Sequence[WindowKey], DeltaRows, Histograms]],
    closed: Frontier,
    touched: Touched,
    opened: OpenWindows,
) -> list[int]:
    """Add window rows and histogram counts to the file; call inside a transaction.

    Rows of windows that have ``closed`` are noted as late, too; returns how many requests those of each part hold.
    ``touched`` is told of all rows, and ``opened`` holds them.
    """
    windows, key_ids, measures, completed, lates = [], [], [], [], []
    cells: list[NDArray[np.int64]] = []
    late_requests = []
    for part_keys, rows, histograms in parts:
        if not rows.window:
            late_requests.append(0)
            continue
        window = np.array(rows.window, np.int64)
        key = np.array(rows.key, np.int64)
        key_id = keys.ids(part_keys)[key]
        sums = np.array(rows.measures, np.int64)
        pools = keys.pools(part_keys)
        late = closed.late(window, pools, key)
        touched.note(window, pools, key, late)
        late_requests.append(int(sums[0][late].sum()))
        windows.append(window)
        key_ids.append(key_id)
        measures.append(sums)
        lates.append(late)
        completed.append(np.array(rows.max_completed_ms, np.int64))
        row = _whole(histograms.row)
        cells.append(
            np.stack(
                [window[row], key_id[row], _whole(histograms.metric), _whole(histograms.bucket), _whole(histograms.n)]
            )
        )
    if not windows:
        return late_requests
    keys.write()
    sums = np.concatenate(measures, axis=1)
    batch = {
        "window_start": np.concatenate(windows),
        "key_id": np.concatenate(key_ids),
        **dict(zip(MEASURES, sums, strict=True)),
        "max_completed_ms": np.concatenate(completed),
    }
    _add_windows(connection, batch)
    is_late = np.concatenate(lates)
    if is_late.any():
        run(connection, LATE_INSERT, {name: column[is_late] for name, column in batch.items()})
    names = ("window_start", "key_id", "metric", "bucket", "n")
    insert = _INSERT_HISTOGRAMS if len(cells) == 1 else _ADD_HISTOGRAMS  # one part holds every cell once
    counts = np.concatenate(cells, axis=1)
    run(connection, insert, dict(zip(names, counts, strict=True)))
    opened.hold(batch["window_start"], batch["key_id"], sums, counts)
    return late_requests


def _add_windows(connection: Any, batch: dict[str, NDArray[Any]]) -> None:
    """Add rows of base windows to those that are stored.

    Which ones are stored is looked up first, since a MERGE takes DuckDB two to five times as long to plan as an insert
    or an update.
    """
    window, key = batch["window_start"], batch["key_id"]
    keys = int(key.max()) + 1
    cell = window * keys + key
    stored = np.isin(cell, _stored(connection, window, keys))
    # Several deltas tell of one window, and what is beyond the limit of pools has one key.
    rows = "batch" if np.unique(cell).size == cell.size else _ADDED_UP
    for which, statement in ((~stored, _INSERT_WINDOWS), (stored, _UPDATE_WINDOWS)):
        if which.any():
            part = batch if which.all() else {name: column[which] for name, column in batch.items()}
            run(connection, statement.format(rows=rows), part)


def _stored(connection: Any, window: NDArray[np.int64], keys: int) -> NDArray[np.int64]:
    """The stored rows of some windows whose key is below ``keys``, each as start · keys + key."""
    starts = np.unique(window).tolist()
    query = "SELECT window_start, key_id FROM windows WHERE window_start BETWEEN ? AND ?"
    where: list[Any] = [starts[0], starts[-1]]
    if starts[-1] - starts[0] > 2 * BASE_SECONDS * len(starts):  # some came very late
        query, where = f"{query} AND window_start IN (SELECT unnest(?))", [*where, starts]
    found = connection.execute(parsed(connection, query), where).fetchnumpy()
    start, key = (np.ma.getdata(found[name]).astype(np.int64) for name in ("window_start", "key_id"))
    known = key < keys
    return np.asarray(start[known] * keys + key[known])


_COLUMNS = ", ".join(MEASURES)
_ADDED_UP = (
    f"(SELECT window_start, key_id, {', '.join(f'sum({name}) AS {name}' for name in MEASURES)}, "
    "max(max_completed_ms) AS max_completed_ms FROM batch GROUP BY ALL)"
)
_INSERT_WINDOWS = (
    f"INSERT INTO windows (window_start, key_id, {_COLUMNS}, max_completed_ms) "
    f"SELECT window_start, key_id, {_COLUMNS}, max_completed_ms FROM {{rows}}"
)
_UPDATE_WINDOWS = (
    f"UPDATE windows AS t SET {', '.join(f'{name} = t.{name} + s.{name}' for name in MEASURES)}, "
    "max_completed_ms = greatest(t.max_completed_ms, s.max_completed_ms) "
    "FROM {rows} AS s WHERE t.window_start = s.window_start AND t.key_id = s.key_id"
)
_INSERT_HISTOGRAMS = "INSERT INTO histograms SELECT window_start, key_id, metric, bucket, n FROM batch"
_ADD_HISTOGRAMS = _INSERT_HISTOGRAMS.replace(" n ", " sum(n) ") + " GROUP BY ALL"


def _whole(values: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    return np.asarray(values, np.int64)
