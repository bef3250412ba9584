"""Deltas in any order, twice, with lost transactions between: the file holds what a dictionary would."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from pipeline.store.apply import DeltaApplier
from pipeline.store.store import Store
from pipeline.windows.types import MEASURES, Delta
from tests.unit.store.support import NOW, delta, value

#: Minute, model and pool of each request of a delta, and by how much its sums are too great.
REQUESTS = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 3, -400, 90_000]), st.sampled_from("mn"), st.sampled_from("abc")),
    min_size=1,
    max_size=6,
)
DELTAS = st.lists(st.tuples(REQUESTS, st.sampled_from([0, 0, 1 << 53, 1 << 62])), min_size=1, max_size=8)
#: Which deltas come together: the first one and how many; some come again, some are lost before they are committed.
CALLS = st.lists(st.tuples(st.integers(0, 7), st.integers(1, 5), st.booleans()), max_size=8)


def made(requests: list[list[tuple[int, str, str]]], great: list[int]) -> list[Delta]:
    first, found = 0, []
    for number, (rows, more) in enumerate(zip(requests, great, strict=True)):
        values = [
            value(  # type: ignore[no-untyped-call]
                f"{number}-{i}", at=NOW + 60 * minute + i, model=model, pool=pool, input_tokens=7 + i
            )
            for i, (minute, model, pool) in enumerate(rows)
        ]
        part: Delta = delta(values, first=first)  # type: ignore[no-untyped-call]
        at = MEASURES.index("input_tokens_squared")
        measures = [[n + more * (k == at) for n in column] for k, column in enumerate(part.rows.measures)]
        found.append(structs.replace(part, rows=structs.replace(part.rows, measures=measures)))
        first += len(values)
    return found


def modelled(deltas: list[Delta], applied: int) -> tuple[dict[Any, list[int]], Counter[Any]]:
    """The rows and the histogram counts that the first deltas come to."""
    rows: dict[Any, list[int]] = {}
    cells: Counter[Any] = Counter()
    for part in deltas[:applied]:
        places = [(start, tuple(part.keys[key])) for start, key in zip(part.rows.window, part.rows.key, strict=True)]
        for i, place in enumerate(places):
            row = rows.setdefault(place, [0] * (len(MEASURES) + 1))
            for k, column in enumerate(part.rows.measures):
                row[k] += column[i]
            row[-1] = max(row[-1], part.rows.max_completed_ms[i])
        found = part.histograms
        for i, metric, bucket, n in zip(found.row, found.metric, found.bucket, found.n, strict=True):
            cells[*places[i], metric, bucket] += int(n)
    return rows, cells


def stored(store: Store) -> tuple[dict[Any, list[int]], Counter[Any]]:
    names = ", ".join(MEASURES)
    rows = {}
    for start, model, pool, dims, *row in (
        store.cursor()
        .execute(
            f"SELECT window_start, model, pool, dims, {names}, max_completed_ms FROM windows JOIN keys USING (key_id)"
        )
        .fetchall()
    ):
        assert (start, (model, pool, dims)) not in rows  # one row each
        rows[start, (model, pool, dims)] = row
    cells = (
        store.cursor()
        .execute(
            "SELECT window_start, model, pool, dims, metric, bucket, sum(n)::BIGINT FROM histograms "
            "JOIN keys USING (key_id) GROUP BY ALL"
        )
        .fetchall()
    )
    return rows, Counter({(start, (m, p, d), metric, bucket): n for start, m, p, d, metric, bucket, n in cells})


class LostError(Exception):
    """The process has ended."""


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(deltas=DELTAS, calls=CALLS)
def test_rows_are_those_of_a_dictionary(deltas: Any, calls: list[tuple[int, int, bool]]) -> None:
    parts = made([rows for rows, _ in deltas], [more for _, more in deltas])
    applied, write = 0, DeltaApplier._write

    def write_then_end(self: DeltaApplier, *args: Any) -> None:
        write(self, *args)
        raise LostError

    with TemporaryDirectory() as folder, Store.open(Path(folder) / "s.duckdb") as store:
        for asked, count, lost in [*calls, (0, len(parts), False)]:
            first = min(asked, applied)  # no gap before it
            told = [(0, number, parts[number]) for number in range(first, min(first + count, len(parts)))]
            if lost and first + len(told) > applied:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(DeltaApplier, "_write", write_then_end)
                    with pytest.raises(LostError):
                        store.apply(told)
            else:
                store.apply(told)
                applied = max(applied, first + len(told))
            assert stored(store) == modelled(parts, applied)
    assert applied == len(parts)
