"""The store: one transaction, positions, gaps, ledger, late rows, limits, locks."""

import subprocess
import sys

import duckdb
import pytest

from pipeline.config.settings import WindowSettings
from pipeline.engine.types import StepOutput
from pipeline.errors import StoreError, StoreLocked
from pipeline.events.validation import EventLimits
from pipeline.store import apply as apply_module
from pipeline.store.key_table import OTHER
from pipeline.store.store import Store
from pipeline.windows.partition_folder import PartitionAggregator
from pipeline.windows.rollup import rollup
from tests.unit.store.support import NOW, TOPIC, balanced, delta, value


def test_applies_once(store):
    first = delta([value("a"), value("b"), b"{", value("a")])
    result = store.apply([(0, 0, first)])
    assert (result.applied, result.dropped, result.events, result.late_events) == (1, 0, 2, 0)
    assert result.positions == {(TOPIC, 0): (4, NOW + 2.0, False)}
    assert store.delta_positions() == {0: 1}
    again = store.apply([(0, 0, first), (0, 1, first)])
    assert (again.applied, again.repeated, again.dropped) == (0, 1, 1)
    assert store.totals() == {"requests": 2, "input_tokens": 20, "output_tokens": 10}
    assert store.ledger() == [
        {
            "topic": TOPIC,
            "partition": 0,
            "records": 4,
            "events": 2,
            "duplicates": 1,
            "dead_letters": 1,
            "late": 0,
            "lost": 0,
            "ignored": 0,
            "event_records": 3,
        }
    ]
    assert store.dead_letters()[0] | {"detail": ""} == {
        "topic": TOPIC,
        "partition": 0,
        "offset": 2,
        "reason": "malformed",
        "detail": "",
    }
    assert store.dead_letter_reasons() == {"malformed": 1}
    assert store.delta_ledger() == [
        {"delta_partition": 0, "next_offset": 2, "applied": 1, "dropped": 1, "undecodable": 0}
    ]
    balanced(store)


def test_survives_reopening(tmp_path):
    path = tmp_path / "s.duckdb"
    with Store.open(path) as store:
        store.apply([(0, 0, delta([value("a")])), (0, 1, None)])
    with Store.open(path) as store:
        assert store.delta_positions() == {0: 2}
        assert store.source_positions() == {(TOPIC, 0): (1, NOW + 2.0, False)}
        assert store.apply([(0, 2, delta([value("a")]))]).dropped == 1
        assert store.totals()["requests"] == 1


def test_a_gap_stops_its_partition_only(store):
    store.apply([(0, 0, delta([value("a")]))])
    result = store.apply(
        [
            (0, 1, delta([value("b")], first=5)),
            (0, 2, delta([value("c")], first=1)),
            (1, 0, delta([value("d")], partition=1)),
        ]
    )
    assert [(g.partition, g.stored, g.found) for g in result.gaps] == [(0, 1, 5)]
    assert result.applied == 1
    assert store.delta_positions() == {0: 1, 1: 1}
    assert store.source_positions()[TOPIC, 0].next_offset == 1
    assert store.totals()["requests"] == 2
    balanced(store)


def test_an_undecodable_delta_is_counted_and_passed_over(store):
    result = store.apply([(0, 0, None), (0, 1, delta([value("a")]))])
    assert (result.undecodable, result.applied) == (1, 1)
    assert store.delta_positions() == {0: 2}


def test_heartbeats_mark_a_partition_idle(store):
    agg = PartitionAggregator(TOPIC, 0, "p", EventLimits(), 0)
    store.apply([(0, 0, delta([value("a")])), (0, 1, agg.heartbeat(1))])
    assert store.source_positions()[TOPIC, 0] == (1, NOW + 2.0, True)
    store.apply([(0, 2, delta([value("b")], first=1))])
    assert not store.source_positions()[TOPIC, 0].idle


def test_a_failed_write_changes_nothing(store, monkeypatch):
    store.apply([(0, 0, delta([value("a")]))])
    real = apply_module._merge

    def failing(connection, table, *args, **rest):
        if table == "delta_positions":
            raise duckdb.IOException("disk full")
        real(connection, table, *args, **rest)

    monkeypatch.setattr(apply_module, "_merge", failing)
    second = delta([value("b", model="new")], first=1)
    with pytest.raises(StoreError, match="disk full"):
        store.apply([(0, 1, second)])
    monkeypatch.undo()
    assert store.totals()["requests"] == 1
    assert store.delta_positions() == {0: 1}
    assert store.pools() == [("m", "default")]
    assert store.apply([(0, 1, second)]).applied == 1
    assert store.pools() == [("m", "default"), ("new", "default")]
    balanced(store)


def test_late_events_are_merged_and_counted(store):
    store.apply([(0, 0, delta([value("a")]))])
    store.record_step(StepOutput(as_of=NOW + 60))
    result = store.apply([(0, 1, delta([value("b"), value("c", at=NOW + 59), value("d", at=NOW + 60)], first=1))])
    assert result.late_events == 2
    assert store.ledger()[0]["late"] == 2
    assert store.totals()["requests"] == 4
    balanced(store)


def test_pools_beyond_the_limit_fold_into_one(tmp_path):
    path = tmp_path / "s.duckdb"
    settings = WindowSettings(max_pools=2)
    with Store.open(path, windows=settings) as store:
        store.apply([(0, 0, delta([value(str(i), model=f"m{i}") for i in range(5)]))])
        assert store.pools() == [(OTHER, OTHER), ("m0", "default"), ("m1", "default")]
    with Store.open(path, windows=settings) as store:
        store.apply([(0, 1, delta([value("x", model="m1"), value("y", model="m9")], first=5))])
        sums = {(w.model, w.pool): w.requests for w in store.window_sums(NOW, NOW + 60)}
        assert sums == {(OTHER, OTHER): 4, ("m0", "default"): 1, ("m1", "default"): 2}
        balanced(store)


def test_dimension_values_are_bounded_too(tmp_path):
    with Store.open(tmp_path / "s.duckdb", windows=WindowSettings(max_pools=1)) as store:
        values = [value(str(i), tenant=f"t{i}") for i in range(250)]
        store.apply([(0, 0, delta(values, dimensions=("tenant",)))])
        assert store.window_sums(NOW, NOW + 60)[0].requests == 250
        (keys,) = store.cursor().execute("SELECT count(*) FROM keys").fetchone()
        assert keys <= 101


@pytest.mark.slow
def test_sums_pass_64_bits(store):
    huge = {"input_tokens": 10_000_000, "output_tokens": 10_000_000, "e2e_seconds": 86_000.0}
    for i in range(4):
        store.apply([(0, i, delta([value(f"{i}-{j}", **huge) for j in range(3_000)], first=i * 3_000))])
    (window,) = store.window_sums(NOW, NOW + 60)
    assert window.kv_token_milliseconds == 12_000 * 15_000_000 * 86_000_000
    assert window.kv_token_milliseconds > 2**63
    store.record_step(StepOutput(as_of=NOW + 60, windows=(window,)))
    assert next(store.closed_since(0)).windows == (window,)


def test_window_sums_equal_the_rollup(store):
    values = [value(str(i), at=NOW + i, pool="ab"[i % 2], region="xy"[i % 3 % 2]) for i in range(120)]
    part = delta(values, dimensions=("region",))
    store.apply([(0, 0, part)])
    expected = rollup([(part.keys, part.rows)], 60)
    assert store.window_sums(NOW, NOW + 60) + store.window_sums(NOW + 60, NOW + 120) == expected
    assert store.first_open_window() == NOW
    assert store.window_sums(0, 60) == []


def test_locked_by_another_process(tmp_path):
    path = tmp_path / "s.duckdb"
    script = f"import duckdb, sys; c = duckdb.connect({str(path)!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout.readline() == "open\n"
        with pytest.raises(StoreLocked, match="another process"):
            Store.open(path)
        owner.communicate("")


@pytest.mark.parametrize("partitions", [2, 5])
def test_positions_and_ledger_of_few_and_of_many_partitions(store, partitions):
    for number in range(3):
        known = partitions if number else partitions - 1  # one comes up later
        parts = [delta([value(f"{number}-{p}")], first=number, partition=p) for p in range(known)]
        if number == 1:
            parts[-1] = delta([value("new")], first=0, partition=partitions - 1)
        if number == 2:
            parts[-1] = delta([value("newer")], first=1, partition=partitions - 1)
        store.apply([(p, store.delta_positions().get(p, 0), part) for p, part in enumerate(parts)])
    expected = {(TOPIC, p): 3 for p in range(partitions - 1)} | {(TOPIC, partitions - 1): 2}
    assert {source: position.next_offset for source, position in store.source_positions().items()} == expected
    assert [(row["partition"], row["records"]) for row in store.ledger()] == [(p, n) for (_, p), n in expected.items()]
    assert [row["next_offset"] for row in store.delta_ledger()] == list(expected.values())
    assert [row["applied"] for row in store.delta_ledger()] == list(expected.values())
    balanced(store)
