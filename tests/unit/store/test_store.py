"""The store: one transaction, positions, gaps, ledger, late rows, limits, locks, steps, readers, retention."""

import subprocess
import sys
import threading
from dataclasses import replace

import duckdb
import pytest

from pipeline.advise.model import Alert, AlertKind, StepOutput
from pipeline.errors import StoreError, StoreLocked
from pipeline.events.check import EventLimits
from pipeline.events.codecs import native
from pipeline.events.model import RequestEvent
from pipeline.forecast.model import Forecast, SeriesKey, Signal
from pipeline.settings import StoreSettings, WindowSettings
from pipeline.store import apply as apply_module
from pipeline.store import retention
from pipeline.store.apply import OTHER
from pipeline.store.store import BACKFILL_TOPIC, Store
from pipeline.windows.aggregate import PartitionAggregator
from pipeline.windows.histogram import bucket
from pipeline.windows.model import PoolKey
from pipeline.windows.rollup import rollup
from sizing.model import Confidence, Constraint, Reason, Recommendation, RecommendationState

NOW = 1_767_225_600
TOPIC = "requests"


def value(event_id, at=NOW, **changes):
    values = {
        "model": "m",
        "input_tokens": 10,
        "output_tokens": 5,
        "status": "ok",
        "arrived_at": float(at),
        "e2e_seconds": 2.0,
    }
    return native.encode(RequestEvent(event_id=event_id, **{**values, **changes}))


def delta(values, first=0, partition=0, **options):
    agg = PartitionAggregator(
        TOPIC, partition, "p", EventLimits(max_age_seconds=1e9), 100, options.pop("dimensions", ())
    )
    offsets = range(first, first + len(values))
    return agg.fold(values, offsets, [-1] * len(values), first, first + len(values), NOW + 1e6, **options)[0]


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.duckdb") as opened:
        yield opened


def balanced(store):
    rows = store.ledger()
    assert all(r["records"] == r["events"] + r["duplicates"] + r["dead_letters"] for r in rows)
    assert sum(r["events"] for r in rows) == store.totals()["requests"]
    assert sum(r["dead_letters"] for r in rows) == len(store.dead_letters(10_000))


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
    real = apply_module.run

    def failing(connection, statement, batch):
        if "delta_positions" in statement:
            raise duckdb.IOException("disk full")
        real(connection, statement, batch)

    monkeypatch.setattr(apply_module, "run", failing)
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


def advice(**changes):
    values = Recommendation(
        recommendation_id="r1", model="m", pool="p", generation=3, issued_at=NOW + 60.0, expires_at=NOW + 360.0,
        horizon_seconds=300.0, accelerator="H100", accelerators_per_replica=1, desired=4, lower=3, upper=5,
        min_replicas=1, max_replicas=8, current=None, direction="up", reason=Reason.FORECAST_UP, message="more",
        constraint=Constraint.KV_MEMORY, clamped_by=(), state=RecommendationState.FRESH,
        confidence=Confidence.CALIBRATED, confidence_ratio=0.9, evidence={"x": 1.5}, config_hash="abc",
    )  # fmt: skip
    return replace(values, **changes)


def alert(**changes):
    values = Alert(
        alert_id="a1", kind=AlertKind.SPIKE_OBSERVED, model="m", pool="p", raised_at=NOW + 60.0, onset_at=NOW + 50.0,
        ended_at=None, severity="warning", ratio=3.0, probability=None, message="up",
    )  # fmt: skip
    return replace(values, **changes)


def test_steps_come_back_in_order_and_equal(store):
    store.apply([(0, 0, delta([value(str(i), at=NOW + i, pool=f"p{i % 3}") for i in range(120)]))])
    recorded = []
    for end in (NOW + 60, NOW + 120):
        windows = store.window_sums(end - 60, end)
        windows = [replace(w, completeness=0.5, current_replicas=2, ttft_seconds=0.25) for w in reversed(windows)]
        windows.append(replace(windows[0], pool="zz", gap=True, requests=0, ready_replicas=0))
        output = StepOutput(as_of=end, windows=tuple(windows))
        store.record_step(output, b"state%d" % end)
        recorded.append((end, output.windows))
    store.record_step(StepOutput(as_of=NOW + 180))
    recorded.append((NOW + 180, ()))
    assert [(s.as_of, s.windows) for s in store.closed_since(0)] == recorded
    assert [s.as_of for s in store.closed_since(NOW + 60)] == [NOW + 120, NOW + 180]
    assert store.last_closed() == store.first_open_window() == NOW + 180
    assert store.latest_snapshot() == (NOW + 120, b"state%d" % (NOW + 120))
    with pytest.raises(StoreError, match="not after"):
        store.record_step(StepOutput(as_of=NOW + 180))


def test_only_two_snapshots_are_kept(store):
    assert store.latest_snapshot() is None
    for i in range(5):
        store.record_step(StepOutput(as_of=NOW + i), bytes([i]))
    assert store.cursor().execute("SELECT count(*) FROM snapshots").fetchone() == (2,)
    assert store.latest_snapshot() == (NOW + 4, b"\x04")


def test_forecasts_recommendations_and_alerts(store):
    series = SeriesKey("m", "p", Signal.REQUESTS)
    for end in (NOW + 60, NOW + 120):
        forecasts = tuple(Forecast(series, float(end), h, tuple(float(h + i) for i in range(8))) for h in (300, 60))
        store.record_step(
            StepOutput(
                as_of=end,
                forecasts=forecasts,
                recommendations=(advice(issued_at=float(end), generation=end - NOW),),
                alerts=(alert(ended_at=None if end == NOW + 60 else float(end)), alert(alert_id=f"b{end}", pool="q")),
            )
        )
    newest = store.forecasts("m", "p", "requests_per_second")
    assert [(f["issued_at"], f["target_at"], f["horizon_seconds"]) for f in newest] == [
        (NOW + 120, NOW + 180, 60), (NOW + 120, NOW + 420, 300)
    ]  # fmt: skip
    assert newest[0]["quantiles"] == [60.0 + i for i in range(8)]
    assert len(store.forecasts("m", "p", Signal.REQUESTS, NOW + 60.0)) == 2
    assert store.forecasts("m", "p", "kv_tokens") == []
    assert [r["generation"] for r in store.recommendations("m", "p", 10)] == [120, 60]
    first = store.recommendations("m", "p", 1)[0]
    assert (first["reason"], first["current"], first["evidence"]) == ("forecast_up", None, {"x": 1.5})
    found = {a["alert_id"]: a["ended_at"] for a in store.alerts(NOW)}
    assert found == {"a1": NOW + 120, f"b{NOW + 60}": None, f"b{NOW + 120}": None}
    assert {a["alert_id"] for a in store.alerts(NOW + 100)} == {"a1", f"b{NOW + 120}"}


def test_history_and_quantiles(store):
    values = [value(str(i), at=NOW + i, output_tokens=i) for i in range(120)]
    store.apply([(0, 0, delta(values))])
    store.record_step(StepOutput(as_of=NOW + 60, windows=tuple(store.window_sums(NOW, NOW + 60))))
    rows = store.history("m", "default", NOW, NOW + 120, 60)
    assert [(r["start"], r["end"], r["requests"], r["closed"], r["gap"]) for r in rows] == [
        (NOW, NOW + 60, 60, 1, False), (NOW + 60, NOW + 120, 60, 0, None)
    ]  # fmt: skip
    assert [r["requests"] for r in store.history("m", "default", NOW, NOW + 120, 10)] == [10] * 12
    assert store.history("m", "nowhere", NOW, NOW + 120, 60) == []
    with pytest.raises(ValueError, match="grain"):
        store.history("m", "default", 0, 1, 0)
    quantiles = store.latency_quantiles("m", "default", NOW, NOW + 120)
    assert quantiles["e2e_seconds"]["p95"] == pytest.approx(2.0, rel=0.01)
    assert quantiles["output_tokens"]["p50"] == pytest.approx(59, rel=0.02)
    assert quantiles["ttft_seconds"]["p50"] is None
    assert store.latency_counts(NOW, NOW + 120) == {}
    told = [value(f"t{i}", at=NOW + 120 + i, ttft_seconds=0.5, tpot_seconds=0.25) for i in range(3)]
    store.apply([(0, 1, delta(told, first=120))])
    (counts,) = store.latency_counts(NOW, NOW + 180).values()
    assert counts == {"ttft_seconds": {int(bucket(0.5)): 3}, "tpot_seconds": {int(bucket(0.25)): 3}}
    (histogram,) = store.e2e_histogram(NOW, NOW + 60).values()
    assert sum(histogram.values()) == 60
    assert store.e2e_histogram(0, 60) == {}


def test_backfill_is_idempotent_and_in_the_ledger(store):
    past = delta([value(f"h{i}", at=NOW - 600 + i) for i in range(600)])
    assert store.backfill(past.keys, past.rows, past.histograms) == 600
    assert store.backfill(past.keys, past.rows, past.histograms) == 0
    store.apply([(0, 0, delta([value("a", at=NOW - 1)]))])
    assert store.totals()["requests"] == 601
    assert {r["topic"]: r["events"] for r in store.ledger()} == {BACKFILL_TOPIC: 600, TOPIC: 1}
    (merged,) = store.e2e_histogram(0, NOW).values()
    assert sum(merged.values()) == 601
    assert {PoolKey(w.model, w.pool) for w in store.window_sums(NOW - 600, NOW)} == {("m", "default")}
    balanced(store)


def test_retention_keeps_totals_and_the_newest_step(tmp_path):
    settings = StoreSettings(retention_base_seconds=100, retention_closed_seconds=200, retention_forecasts_seconds=50)
    with Store.open(tmp_path / "s.duckdb", settings) as store:
        for i in range(3):
            store.apply([(0, i, delta([value(f"{i}{j}", at=NOW + j) for j in range(300)], first=i * 300))])
        windows = tuple(store.window_sums(NOW, NOW + 60))
        store.record_step(StepOutput(as_of=NOW + 60, windows=windows, recommendations=(advice(),), alerts=(alert(),)))
        store.retain(NOW + 200.0)
        assert store.totals()["requests"] == 900
        balanced(store)
        assert store.cursor().execute("SELECT min(window_start) FROM windows").fetchone() == (NOW + 100,)
        (rows, cells) = (
            store.cursor()
            .execute("SELECT count(*), count(DISTINCT (window_start, key_id, metric, bucket)) FROM histograms")
            .fetchone()
        )
        assert rows == cells  # three appended counts of each cell became one
        (merged,) = store.e2e_histogram(0, NOW + 1_000).values()
        assert sum(merged.values()) == 600
        assert store.recommendations("m", "p", 10) == []
        assert len(store.alerts(0)) == 1
        assert store.history("m", "default", NOW, NOW + 60, 60)[0]["requests"] == 180  # from the closed window
        store.retain(NOW + 10_000.0)
        assert store.totals()["requests"] == 900
        assert store.last_closed() == NOW + 60
        assert [s.windows for s in store.closed_since(0)] == [()]


def test_weeks_of_retention_leave_one_row_of_what_was_retired(tmp_path):
    settings = StoreSettings(retention_base_seconds=3_600, retention_closed_seconds=7_200)
    with Store.open(tmp_path / "s.duckdb", settings) as store:
        for hour in range(24):
            at = NOW + 3_600 * hour
            store.apply([(0, hour, delta([value(str(hour), at=at, model=f"m{hour}")], first=hour))])
            store.record_step(StepOutput(as_of=at + 60, windows=tuple(store.window_sums(at, at + 60))))
            store.retain(float(at), {(f"m{known}", "default") for known in range(hour + 1)})
            assert len(store.pools()) <= 3
        assert store.totals() == {"requests": 24, "input_tokens": 240, "output_tokens": 120}
        assert store.cursor().execute("SELECT count(*) FROM retired_totals").fetchone() == (1,)
        store.retain(at + 10_000.0, {("m22", "default")})
        assert store.pools() == [("m23", "default")], "it is not named as gone"


def test_pools_of_which_nothing_was_counted_are_silent(store):
    hours = {"closed": 0, "newest": 5, "open": 7}
    for number, (model, hour) in enumerate(hours.items()):
        store.apply([(0, number, delta([value(model, at=NOW + 3_600 * hour, model=model)], first=number))])
    for hour in range(6):
        at = NOW + 3_600 * hour
        store.record_step(StepOutput(as_of=at + 60, windows=tuple(store.window_sums(at, at + 60))))
    store.apply([(0, 3, delta([value("late", at=NOW + 3_600 * 2, model="late")], first=3))])
    silent = {since: {model for model, _ in store.silent_pools(NOW + 3_600 * since)} for since in (-1, 1, 3, 6, 8)}
    assert silent == {
        -1: set(),
        1: {"closed"},
        3: {"closed", "late"},
        6: {"closed", "late", "newest"},
        8: {"closed", "late", "newest", "open"},
    }


def test_a_flood_of_dead_letters_is_thinned_but_stays_counted(store, monkeypatch):
    monkeypatch.setattr(retention, "KEPT_DEAD_LETTERS", 3)
    store.apply([(0, 0, delta([b"{"] * 5 + [None] * 2)), (0, 1, delta([None], first=7))])
    for _ in range(2):
        store.retain(NOW)
        assert [d["offset"] for d in store.dead_letters()] == [7, 6, 5]
        assert store.dead_letter_reasons() == {"empty": 3, "malformed": 5}
    assert store.ledger()[0]["dead_letters"] == 8


def test_readers_in_other_threads_see_whole_transactions(store):
    stop, seen, errors = threading.Event(), [], []

    def read():
        try:
            while not stop.is_set():
                seen.append(store.totals()["requests"])
                store.history("m", "default", NOW, NOW + 60, 60)
        except Exception as error:
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for i in range(20):
        store.apply([(0, i, delta([value(f"{i}-{j}") for j in range(10)], first=i * 10))])
    stop.set()
    for reader in readers:
        reader.join(10)
    assert errors == []
    assert seen
    assert all(n % 10 == 0 for n in seen)
    assert store.totals()["requests"] == 200
