"""Reads of one pool's history: sums made outside the database are those that counts and closed windows come to."""

from __future__ import annotations

import random
import threading
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.settings import WindowSettings
from pipeline.engine.types import StepOutput
from pipeline.store.sql import parsed
from pipeline.store.store import Store
from pipeline.store.window_history import history
from pipeline.store.window_latencies import PERCENTILES, window_latencies
from pipeline.testing import closed_window, request_event
from pipeline.windows import histogram
from pipeline.windows.rollup import CLOSED_MEASURES
from pipeline.windows.types import HISTOGRAMS
from tests.unit.store.test_rollups import GRAINS, NOW, POOLS, delta, play

METRIC = HISTOGRAMS.index("ttft_seconds")
CELLS = st.lists(
    st.tuples(
        st.integers(0, 5),  # base window
        st.integers(0, 1),  # key
        st.one_of(st.just(histogram.ZERO_BUCKET), st.integers(-40, 400)),
        st.one_of(st.integers(1, 3), st.sampled_from([10, 99, 100, 101, 1_000]), st.integers(1, 10**9)),
    ),
    min_size=1,
    max_size=60,
)


def compensated(terms):
    total = lost = 0.0
    for term in terms:
        larger = total + (term - lost)
        lost = (larger - total) - (term - lost)
        total = larger
    return total


def percentile(counts, q):
    """The first bucket beyond the rank, in exact numbers."""
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen > Fraction(str(q)) * (sum(counts.values()) - 1):
            return histogram.value(bucket)
    raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize("few", [True, False], ids=["summed here", "summed by DuckDB"])
def test_latencies_are_those_of_the_merged_counts(few, monkeypatch):
    if not few:
        monkeypatch.setattr("pipeline.store.window_latencies._FEW_WINDOWS", 0)
    with Store.open(Path(":memory:")) as store:
        cursor = store.cursor()
        cursor.execute("INSERT INTO keys VALUES (0, 'm', 'p', ''), (1, 'm', 'p', 'tenant=a'), (2, 'm', 'q', '')")

        @given(CELLS, st.sampled_from([10, 20, 60]))
        def right(cells, grain):
            cursor.execute("DELETE FROM histograms")
            rows = [(10 * window, key, METRIC, bucket, n) for window, key, bucket, n in cells]
            rows += [(0, 2, METRIC, 3, 5), (0, 0, HISTOGRAMS.index("output_tokens"), 3, 5), (60, 0, METRIC, 3, 5)]
            cursor.executemany("INSERT INTO histograms VALUES (?, ?, ?, ?, ?)", rows)
            wanted = {}
            for window, _, bucket, n in cells:
                counts = wanted.setdefault(10 * window // grain * grain, {})
                counts[bucket] = counts.get(bucket, 0) + n
            found = window_latencies(cursor, {"start": 0, "end": 60, "grain": grain}, (0, 1))
            assert list(found) == sorted(wanted)
            for start, counts in wanted.items():
                told = sum(counts.values())
                mean = compensated(counts[b] * histogram.value(b) for b in sorted(counts)) / told
                ranks = {name: percentile(counts, q) for name, q in PERCENTILES.items()}
                assert found[start] == {"statuses": "ok", "ttft_seconds": {"told": told, "mean": mean, **ranks}}

        right()


@pytest.mark.slow
def test_any_step_that_has_been_recorded_tells_the_same_sums():
    """A reader may learn of a step a moment after the store has it."""
    with Store.open(Path(":memory:")) as store:
        play(store, seed=5)
        newest = store.last_closed()
        for pool in POOLS:
            for grain in GRAINS:
                where = {"model": "model", "pool": pool, "start": NOW - 7_200, "end": NOW + 14_400, "grain": grain}
                wanted = history(store.cursor(), where, 60, newest)
                assert sum(row["requests"] for row in wanted) > 0
                for closed in (0, NOW + 60, newest - 3_600, newest - 60):
                    found = history(store.cursor(), where, 60, closed)
                    for row, sought in zip(found, wanted, strict=True):
                        assert [row[name] for name in ("start", "end", *CLOSED_MEASURES)] == [
                            sought[name] for name in ("start", "end", *CLOSED_MEASURES)
                        ]
                        assert row["closed"] <= sought["closed"]


@pytest.mark.slow
@pytest.mark.parametrize("grain", [60, 120, 300])
def test_what_several_rows_tell_of_one_window_is_put_together(tmp_path, grain):
    """Windows that closed when they were shorter, late events, rolled-up ones: replicas are those told last."""
    path = tmp_path / "t.duckdb"
    told = [(2, 1), (None, 3), (4, None), (5, 5), (None, None), (7, 6), (8, None), (None, None), (None, 9), (None, 10)]
    with Store.open(path, windows=WindowSettings(grain_seconds=30)) as store:
        store.apply([(0, 0, delta([request_event("a", NOW + 5, pool="a")], 0))])
        for i, (current, ready) in enumerate(told):
            window = closed_window(
                NOW + 30 * i, 10 + i, model="model", pool="a", grain_seconds=30, completeness=1 - i / 100, gap=i == 4,
                current_replicas=current, ready_replicas=ready,
            )  # fmt: skip
            store.record_step(StepOutput(as_of=NOW + 30 * (i + 1), windows=(window,)))
    with Store.open(path, windows=WindowSettings(grain_seconds=60)) as store:
        store.apply([(0, 1, delta([request_event("late", NOW + 1, pool="a")], 1))])
        store.apply([(0, 2, delta([request_event("open", NOW + 300, pool="a")], 2))])
        rows = store.history("model", "a", NOW, NOW + 600, grain)
    each = grain // 30
    found = [
        (row["start"], row["end"], row["requests"], row["closed"], row["completeness"], row["gap"],
         row["current_replicas"], row["ready_replicas"])
        for row in rows
    ]  # fmt: skip
    wanted = []
    for first in range(0, 10, each):
        places = range(first, min(10, first + each))
        start = NOW + 30 * first
        last = [[told[i][which] for i in places if told[i][which] is not None] for which in (0, 1)]
        requests = sum(10 + i for i in places) + (first == 0) + (start + grain > NOW + 300)
        wanted.append((start, start + grain, requests, len(places), 1 - places[-1] / 100, 4 in places,
                       *(values[-1] if values else None for values in last)))  # fmt: skip
    if grain != 120:
        wanted.append((NOW + 300, NOW + 300 + grain, 1, 0, None, None, None, None))
    assert found == wanted


@pytest.mark.slow
def test_a_parsed_statement_serves_any_connection_and_thread(tmp_path):
    rng = random.Random(1)
    text = "SELECT $x + range FROM range($y)"
    with Store.open(tmp_path / "first.duckdb") as first:
        statement = parsed(first.cursor(), text)
        assert parsed(first.cursor(), text) is statement
    wrong = []
    with Store.open(tmp_path / "second.duckdb") as store:

        def read(numbers):
            for x in numbers:
                rows = store.cursor().execute(parsed(store.cursor(), text), {"x": x, "y": 50}).fetchall()
                if rows != [(x + i,) for i in range(50)]:
                    wrong.append(x)

        threads = [threading.Thread(target=read, args=([rng.randrange(10**6) for _ in range(50)],)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
