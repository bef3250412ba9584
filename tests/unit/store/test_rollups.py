"""Rolled-up history says what the base windows say, late events included, at every grain, also after a migration."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.settings import StoreSettings
from pipeline.engine.types import StepOutput
from pipeline.events.validation import EventLimits
from pipeline.store import migrations
from pipeline.store.migrations import MIGRATIONS
from pipeline.store.store import Store
from pipeline.testing import request_event
from pipeline.windows.partition_folder import PartitionAggregator
from pipeline.windows.rollup import CLOSED_MEASURES

NOW = 1_767_225_600
MINUTES = 73
GRAINS = (60, 120, 300, 600, 3_600, 7_200)
POOLS = ("a", "b")


def delta(events, first, dimensions=()):
    values = [json.dumps(event).encode() for event in events]
    aggregator = PartitionAggregator("requests", 0, "p", EventLimits(max_age_seconds=1e9), 0, dimensions=dimensions)
    end = first + len(values)
    return aggregator.fold(values, range(first, end), [-1] * len(values), first, end, NOW + 1e6)[0]


def play(store, seed, steps=MINUTES):
    """Minutes that fill and close, with events that come after their window has closed."""
    rng = random.Random(seed)
    offset = 0
    for minute in range(steps):
        end = NOW + 60 * (minute + 1)
        events = [
            request_event(
                f"{offset + i}",
                end - rng.random() * (60 if rng.random() < 0.8 else 60 * (minute + 1)),
                pool=rng.choice(POOLS),
                input_tokens=rng.randrange(1_000),
            )
            for i in range(rng.randrange(6))
        ]
        if events:
            store.apply([(0, store.delta_positions().get(0, 0), delta(events, offset))])
            offset += len(events)
        windows = [
            replace(w, completeness=rng.random(), current_replicas=rng.choice([None, minute]), ready_replicas=1)
            for w in store.window_sums(end - 60, end)
        ]
        store.record_step(StepOutput(as_of=end, windows=tuple(windows)))
    still_open = [request_event(f"{offset + i}", NOW + 60 * steps + i, pool="a") for i in range(90)]
    store.apply([(0, store.delta_positions().get(0, 0), delta(still_open, offset))])
    return offset + 90


def base(store, pool, grain):
    sums = ", ".join(f"sum({name})" for name in CLOSED_MEASURES)
    rows = store.cursor().execute(
        f"SELECT window_start // {grain} * {grain}, {sums} FROM windows JOIN keys USING (key_id) WHERE pool = ? "
        "GROUP BY 1 ORDER BY 1",
        [pool],
    )
    return {start: values for start, *values in rows.fetchall()}


def assert_right(store, span=(NOW - 7_200, NOW + 4 * 3_600)):
    for pool in POOLS:
        for grain in GRAINS:
            rows = store.history("model", pool, *span, grain)
            assert {r["start"]: [r[name] for name in CLOSED_MEASURES] for r in rows} == base(store, pool, grain)
            closed = store.cursor().execute(
                f"SELECT window_start // {grain} * {grain}, count(*), min(completeness), bool_or(gap), "
                "arg_max(current_replicas, window_start) FROM closed_windows WHERE pool = ? GROUP BY 1",
                [pool],
            )
            told = {start: rest for start, *rest in closed.fetchall()}
            for r in rows:
                wanted = told.get(r["start"], [0, None, None, None])
                assert [r["closed"], r["completeness"], r["gap"], r["current_replicas"]] == wanted


@pytest.mark.slow
def test_every_grain_adds_up_to_the_base_windows():
    with Store.open(Path(":memory:")) as store:
        assert play(store, seed=1) == store.totals()["requests"]
        assert store.cursor().execute("SELECT count(*) > 20 FROM late_windows").fetchone() == (True,)
        assert_right(store)
        some = store.history("model", "a", NOW + 1_000, NOW + 5_000, 300)
        assert [r["start"] for r in some] == sorted(r["start"] for r in some)
        assert all(NOW + 1_000 <= r["start"] < NOW + 5_100 for r in some)


@pytest.mark.slow
def test_steps_in_one_transaction_and_over_a_silence_roll_up_too():
    with Store.open(Path(":memory:")) as store:
        ends = [NOW + 60, NOW + 120, NOW + 7_260, NOW + 7_320, NOW + 10_800]
        events = [request_event(f"{i}", end - 5, pool="a") for i, end in enumerate(ends)]
        store.apply([(0, 0, delta(events, 0))])
        outputs = [StepOutput(as_of=end, windows=tuple(store.window_sums(end - 60, end))) for end in ends]
        store.record_steps(outputs[:3])
        store.record_steps(outputs[3:])
        assert_right(store)
        hours = store.cursor().execute("SELECT window_start, closed FROM closed_windows_3600 ORDER BY 1").fetchall()
        assert hours == [(NOW, 2), (NOW + 7_200, 3)]


@pytest.mark.slow
def test_an_older_file_is_rolled_up_when_it_is_opened(tmp_path):
    path = tmp_path / "s.duckdb"
    with Store.open(path) as store:
        play(store, 5)
        wanted = {g: store.history("model", "a", NOW, NOW + 4 * 3_600, g) for g in GRAINS}
        for name in (
            "closed_windows_300",
            "closed_windows_3600",
            "late_windows",
            "exogenous_rows",
            "closed_parts",
            "pool_snapshots",
            "latency_statuses",
            "fleet_split",
            "readings",
        ):
            store.cursor().execute(f"DROP TABLE {name}")
        store.cursor().execute("DELETE FROM schema_migrations WHERE version >= 3")
    assert MIGRATIONS[2].name == "rollups"
    with Store.open(path) as store:
        assert_right(store)
        assert {g: store.history("model", "a", NOW, NOW + 4 * 3_600, g) for g in GRAINS} == wanted
    assert migrations.MIGRATIONS[-1].version >= 3
    assert (tmp_path / "s.duckdb.v2.bak").exists()


@pytest.mark.slow
def test_retention_takes_rollups_with_the_closed_windows():
    settings = StoreSettings(retention_base_seconds=60, retention_closed_seconds=3_600)
    with Store.open(Path(":memory:"), settings) as store:
        play(store, 6)
        kept = (NOW + 1_800, NOW + 60 * MINUTES, 60)
        before = store.history("model", "a", *kept)
        store.retain(NOW + 60 * MINUTES + 300)
        (rolled,) = store.cursor().execute("SELECT min(window_start) FROM closed_windows_300").fetchone()
        assert rolled >= NOW + 60 * (MINUTES - 60)  # the bucket that the cut runs through is kept
        assert store.history("model", "a", *kept) == before, "late events outlive base windows"


@pytest.mark.slow
def test_a_reader_never_counts_a_window_twice_while_it_closes():
    with Store.open(Path(":memory:")) as store:
        store.apply([(0, 0, delta([request_event(str(i), NOW + i, pool="a") for i in range(600)], 0))])
        for minute in range(1, 10):
            end = NOW + 60 * minute
            store.record_step(StepOutput(as_of=end, windows=tuple(store.window_sums(end - 60, end))))
            assert sum(r["requests"] for r in store.history("model", "a", NOW, NOW + 600, 60)) == 600


@pytest.mark.slow
def test_the_span_of_history_is_from_the_first_window_to_the_end_of_the_last(tmp_path):
    with Store.open(tmp_path / "t.duckdb") as store:
        assert store.history_span() is None
        play(store, 3)
        first, last = store.history_span()
        rows = [row for pool in POOLS for row in store.history("model", pool, 0, NOW + 1e6, 10)]
        # Buckets of an hour begin before their windows.
        assert first <= min(row["start"] for row in rows) < first + 3_600
        assert last == max(row["end"] for row in rows)
