"""Breakdowns of windows by dimension: read from the base windows at closing, kept with the step, given back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from pipeline.store.sql import keys_of, run, texts
from pipeline.windows.breakdown import PART_MEASURES, RANKS, breakdown
from pipeline.windows.types import Breakdown, ClosedWindow, Part

__all__ = ["StoredParts", "broken_down", "write_parts"]

_SUMS = ", ".join(f"sum({name})::HUGEINT AS {name}" for name in PART_MEASURES)
_COLUMNS = ("dimension", "distinct_values", "value", *PART_MEASURES)


def broken_down(cursor: Any, windows: Sequence[ClosedWindow], dimensions: Sequence[str]) -> list[ClosedWindow]:
    """Return windows of one span with their breakdowns, read from the base windows."""
    if not windows or not dimensions:
        return list(windows)
    found = [_read(cursor, windows, dimension) for dimension in dimensions]
    return [
        replace(
            window,
            breakdown=tuple(
                breakdown(dimension, *_of(by_pool, window))
                for dimension, by_pool in zip(dimensions, found, strict=True)
            ),
        )
        for window in windows
    ]


_ByPool = dict[tuple[str, str], tuple[int, dict[str, tuple[int, ...]]]]


def _of(by_pool: _ByPool, window: ClosedWindow) -> tuple[dict[str, tuple[int, ...]], ClosedWindow, int]:
    values, sums = by_pool.get((window.model, window.pool), (0, {}))
    return sums, window, values


def _read(cursor: Any, windows: Sequence[ClosedWindow], dimension: str) -> _ByPool:
    """Sums by pool and value, with the number of values; what cannot be among the heaviest stays in the store."""
    heaviest = " OR ".join(
        f"row_number() OVER (PARTITION BY model, pool ORDER BY {measure} DESC, value) <= {limit}"
        for measure, limit in RANKS.items()
    )
    keys, names = keys_of([window.key for window in windows])
    span = {"start": windows[0].start, "end": windows[0].end}
    rows = cursor.execute(
        f"""
        WITH by_key AS (
            SELECT key_id, {_SUMS} FROM windows WHERE window_start >= $start AND window_start < $end GROUP BY key_id
        ), by_value AS (
            SELECT model, pool, regexp_extract(dims, $pattern, 1) AS value, {_SUMS}
            FROM by_key JOIN {keys} USING (key_id) GROUP BY ALL
        )
        SELECT model, pool, count(*) OVER (PARTITION BY model, pool), value, {", ".join(PART_MEASURES)}
        FROM by_value WHERE value <> '' QUALIFY {heaviest}
        """,
        {**span, **names, "pattern": f"(?:^|[|]){dimension}=([^|]*)"},
    ).fetchall()
    found: _ByPool = {}
    for model, pool, values, value, *sums in rows:
        found.setdefault((model, pool), (int(values), {}))[1][value] = tuple(sums)
    return found


def write_parts(connection: Any, numbered: Sequence[tuple[int, int, ClosedWindow]]) -> None:
    """Keep the breakdowns of windows, given as (as_of, seq, window); call inside a transaction."""
    rows = [
        (as_of, seq, number, told.dimension, told.values, part)
        for as_of, seq, window in numbered
        for number, (told, part) in enumerate((b, part) for b in window.breakdown for part in b.parts)
    ]
    if not rows:
        return
    batch: dict[str, Any] = {
        "as_of": np.array([row[0] for row in rows], np.int64),
        "seq": np.array([row[1] for row in rows], np.int64),
        "part": np.array([row[2] for row in rows], np.int64),
        "dimension": texts([row[3] for row in rows]),
        "distinct_values": np.array([row[4] for row in rows], np.int64),
        "value": texts([row[5].value for row in rows]),
        **{name: texts([str(getattr(row[5], name)) for row in rows]) for name in PART_MEASURES},  # can pass 64 bits
    }
    columns = ", ".join(f"{name}::HUGEINT" if name in PART_MEASURES else name for name in batch)
    run(connection, f"INSERT INTO closed_parts SELECT {columns} FROM batch", batch)


class StoredParts:
    """Breakdowns of recorded steps, read in step with them; ask for steps in order.

    Args:
        cursor: a cursor that nothing else reads from meanwhile.
        since: only steps after this one (epoch seconds).
        until: only steps up to this one; None: all.
    """

    def __init__(self, cursor: Any, since: int, until: int | None = None, chunk_rows: int = 10_000) -> None:
        cursor.execute(
            f"SELECT as_of, seq, {', '.join(_COLUMNS)} FROM closed_parts "
            "WHERE as_of > $since AND ($until IS NULL OR as_of <= $until) ORDER BY as_of, seq, part",
            {"since": since, "until": until},
        )
        chunks = iter(lambda: cursor.fetchmany(chunk_rows), [])
        self._steps = groupby((row for chunk in chunks for row in chunk), key=lambda row: int(row[0]))
        self._next = next(self._steps, None)

    def add(self, as_of: int, windows: Sequence[ClosedWindow]) -> tuple[ClosedWindow, ...]:
        """Return the windows of a step, in the order in which they were recorded, with their breakdowns."""
        while self._next is not None and self._next[0] < as_of:
            self._next = next(self._steps, None)
        if self._next is None or self._next[0] != as_of:
            return tuple(windows)
        found = {seq: tuple(_breakdowns(rows)) for seq, rows in groupby(self._next[1], key=lambda row: int(row[1]))}
        self._next = next(self._steps, None)
        return tuple(replace(window, breakdown=found.get(seq, ())) for seq, window in enumerate(windows))


def _breakdowns(rows: Iterator[tuple[Any, ...]]) -> Iterator[Breakdown]:
    for (dimension, values), group in groupby(rows, key=lambda row: (row[2], row[3])):
        yield Breakdown(dimension, int(values), tuple(Part(*row[4:]) for row in group))
