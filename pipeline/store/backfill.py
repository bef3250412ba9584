"""Base rows that did not come through Kafka, into a store that may hold some of them already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.store.base_writes import merge_rows
from pipeline.store.frontier import Frontier, Touched
from pipeline.store.key_table import KeyTable
from pipeline.store.open_windows import OpenWindows
from pipeline.windows.fold import take_rows
from pipeline.windows.types import DeltaRows, Histograms, WindowKey

__all__ = ["BACKFILL_TOPIC", "insert_missing"]

#: The ledger's name for rows that did not come through Kafka.
BACKFILL_TOPIC = "(backfill)"


def insert_missing(
    connection: Any,
    table: KeyTable,
    frontier: Frontier,
    touched: Touched,
    opened: OpenWindows,
    whole: tuple[Sequence[WindowKey], DeltaRows, Histograms],
) -> int:
    """Insert those of the ``whole`` rows whose (window, key) is not stored; return how many events they have.

    Call inside a transaction.
    """
    keys, rows, histograms = whole
    key_ids = table.ids(keys)[np.array(rows.key, np.int64)]
    first, last = min(rows.window), max(rows.window)
    stored = set(
        connection.execute(
            "SELECT window_start, key_id FROM windows WHERE window_start BETWEEN ? AND ?", [first, last]
        ).fetchall()
    )
    missing = [i for i, cell in enumerate(zip(rows.window, key_ids.tolist(), strict=True)) if cell not in stored]
    part = take_rows(rows, histograms, missing)
    merge_rows(connection, table, [(keys, *part)], frontier, touched, opened)
    added = sum(part[0].measures[0])
    connection.execute(
        "INSERT INTO ledger SELECT $topic, 0, 0, 0, 0, 0, 0, 0, 0, 0 "
        "WHERE NOT EXISTS (FROM ledger WHERE topic = $topic)",
        {"topic": BACKFILL_TOPIC},
    )
    connection.execute(
        "UPDATE ledger SET records = records + $n, events = events + $n, event_records = event_records + $n "
        "WHERE topic = $topic",
        {"n": added, "topic": BACKFILL_TOPIC},
    )
    return added
