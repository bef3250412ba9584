"""The store: steps, results and their readers, retention."""

import json
import threading
from dataclasses import replace

import pytest

from pipeline.config.settings import StoreSettings
from pipeline.engine.types import StepOutput
from pipeline.errors import StoreError
from pipeline.forecast.types import Forecast, SeriesKey, Signal
from pipeline.store import retention
from pipeline.store.snapshots import Snapshots
from pipeline.store.store import BACKFILL_TOPIC, Store
from pipeline.windows import delta as codec
from pipeline.windows.fleet import FleetReport, ReplicaCount
from pipeline.windows.histogram import bucket, quantile
from pipeline.windows.service import Quantiles, Service, ServiceCounts
from pipeline.windows.types import PoolKey
from tests.unit.store.support import NOW, TOPIC, advice, alert, balanced, delta, value


def test_steps_come_back_in_order_and_equal(store):
    store.apply([(0, 0, delta([value(str(i), at=NOW + i, pool=f"p{i % 3}") for i in range(120)]))])
    recorded = []
    for end in (NOW + 60, NOW + 120):
        windows = store.window_sums(end - 60, end)
        windows = [replace(w, completeness=0.5, current_replicas=2, ttft_seconds=0.25) for w in reversed(windows)]
        windows.append(replace(windows[0], pool="zz", gap=True, requests=0, ready_replicas=0))
        fleet = FleetReport(end - 2.5, None, 7, (ReplicaCount(end - 50.0, 3, None), ReplicaCount(end - 2.5, 4, 3)))
        service = Service(ttft_seconds=Quantiles(0.1, 0.2, 0.3), counts=ServiceCounts(7, 6, 5, 4, 3, 2, 1))
        windows.append(
            replace(windows[0], pool="zzz", fleet=fleet, service=service, servers=3, closed_after_seconds=61.5)
        )
        output = StepOutput(as_of=end, windows=tuple(windows))
        store.record_steps([output], b"state%d" % end)
        recorded.append((end, output.windows))
    store.record_step(StepOutput(as_of=NOW + 180))
    recorded.append((NOW + 180, ()))
    assert [(s.as_of, s.windows) for s in store.closed_since(0)] == recorded
    assert [s.as_of for s in store.closed_since(NOW + 60)] == [NOW + 120, NOW + 180]
    assert store.last_closed() == store.first_open_window() == NOW + 180
    assert store.snapshots() == Snapshots(NOW + 120, b"state%d" % (NOW + 120))
    with pytest.raises(StoreError, match="not after"):
        store.record_step(StepOutput(as_of=NOW + 180))


def test_the_state_of_pools_is_kept_from_different_steps(store):
    a, b, gone = PoolKey("m", "a"), PoolKey("m", "b"), PoolKey("m", "gone")
    assert store.snapshots() is None
    store.save_snapshots(60, b"shared60", {a: b"a60", b: b"b60", gone: b"gone60"}, 60)
    store.save_snapshots(120, b"shared120", {a: b"a120"}, 60)
    assert store.snapshots() == Snapshots(60, b"shared60", {b: (60, b"b60"), a: (120, b"a120"), gone: (60, b"gone60")})
    store.save_snapshots(180, b"shared180", {b: b"b180"}, 120)
    assert store.snapshots() == Snapshots(120, b"shared120", {a: (120, b"a120"), b: (180, b"b180")})


@pytest.mark.slow
def test_a_step_is_closed_in_parts(tmp_path):
    """What has closed of it stays so after a crash, and events that come later are late for those pools only."""
    path = tmp_path / "parts.duckdb"
    with Store.open(path) as store:
        store.apply([(0, 0, delta([value(p, at=NOW + 1, pool=p) for p in "abc"]))])
        a, *_ = store.window_sums(NOW, NOW + 60)
        assert store.window_sums(NOW, NOW + 60, [("m", "a")]) == [a]
        store.close_windows(NOW + 60, [replace(a, completeness=0.5)], ())
        more = [value(f"late-{p}", at=NOW + 2, pool=p) for p in "ab"]
        assert store.apply([(0, 1, delta(more, first=3))]).late_events == 1
        counts = [sum(r["requests"] for r in store.history("m", p, NOW, NOW + 60, 60)) for p in "abc"]
        assert counts == [2, 2, 1], "a step that is not complete changes nothing for readers"
    with Store.open(path) as store:
        closing = store.closing()
        assert (closing.as_of, closing.windows) == (NOW + 60, (replace(a, completeness=0.5),))
        assert store.last_closed() is None
        assert store.apply([(0, 2, delta([value("later", at=NOW + 3, pool="a")], first=5))]).late_events == 1
        with pytest.raises(StoreError, match="is being closed"):
            store.record_step(StepOutput(as_of=NOW + 120))
        rest = store.window_sums(NOW, NOW + 60)[1:]
        store.record_step(StepOutput(as_of=NOW + 60, windows=(*closing.windows, *rest)))
        assert store.closing() is None
        (step,) = store.closed_since(0)
        assert [(w.pool, w.requests) for w in step.windows] == [("a", 1), ("b", 2), ("c", 1)]
        counts = [sum(r["requests"] for r in store.history("m", p, NOW, NOW + 60, 60)) for p in "abc"]
        assert counts == [3, 2, 1]
        assert sum(row["late"] for row in store.ledger()) == 2


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
    assert store.latency_counts(NOW, NOW + 120) == {("m", "default"): {"e2e_seconds": {int(bucket(2.0)): 120}}}
    told = [value(f"t{i}", at=NOW + 120 + i, ttft_seconds=0.5, tpot_seconds=0.25) for i in range(3)]
    store.apply([(0, 1, delta(told, first=120))])
    (counts,) = store.latency_counts(NOW, NOW + 180).values()
    del counts["e2e_seconds"]
    assert counts == {"ttft_seconds": {int(bucket(0.5)): 3}, "tpot_seconds": {int(bucket(0.25)): 3}}
    (histogram,) = store.e2e_histogram(NOW, NOW + 60).values()
    assert sum(histogram.values()) == 60
    assert store.e2e_histogram(0, 60) == {}


def test_latencies_are_means_and_percentiles_of_the_requests_served_to_the_end(store):
    ttfts = [0.1 * (i + 1) for i in range(20)]
    values = [value(f"ok{i}", at=NOW + 3 * i, ttft_seconds=t, tpot_seconds=t / 10) for i, t in enumerate(ttfts)]
    values += [
        value(f"{status}{i}", at=NOW + i, status=status, ttft_seconds=1.9, tpot_seconds=1.9)
        for status in ("error", "cancelled", "rejected", "timeout")
        for i in range(20)
    ]
    store.apply([(0, 0, delta(values))])
    window = store.latencies("m", "default", NOW, NOW + 60, 60)[NOW]
    assert window["statuses"] == "ok"
    for name, scale in (("ttft_seconds", 1.0), ("tpot_seconds", 0.1)):
        told = window[name]
        assert told["told"] == 20
        assert told["mean"] == pytest.approx(scale * sum(ttfts) / 20, rel=0.01)
        wanted = {"p50": 1.0, "p90": 1.8, "p95": 1.9, "p99": 1.9}
        assert {p: told[p] for p in wanted} == pytest.approx({p: scale * v for p, v in wanted.items()}, rel=0.01)
    fine = store.latencies("m", "default", NOW, NOW + 60, 10)
    assert sum(row["ttft_seconds"]["told"] for row in fine.values()) == 20
    assert store.latencies("m", "nowhere", NOW, NOW + 60, 60) == {}
    counts = store.histograms("m", "default", NOW, NOW + 60)["ttft_seconds"]
    assert window["ttft_seconds"]["p90"] == quantile(counts, 0.9)


def test_latencies_that_older_aggregators_counted_are_marked(store):
    old = delta([value(f"a{i}", at=NOW + i, ttft_seconds=0.5) for i in range(10)])
    v1 = json.loads(codec.encode(old))
    v1["schema"] = "tokentide.window-delta.v1"
    v1["rows"]["measures"] = v1["rows"]["measures"][:17]
    for name in ("event_records", "ignored", "latency_statuses", "clock_offsets"):
        del v1[name]
    new = [value(f"b{i}", at=NOW + 60 + i, ttft_seconds=0.5) for i in range(10)]
    store.apply([(0, 0, codec.decode(json.dumps(v1).encode()))])
    store.apply([(0, 1, delta(new, first=10))])
    found = store.latencies("m", "default", NOW, NOW + 120, 60)
    assert {start: window["statuses"] for start, window in found.items()} == {NOW: "all", NOW + 60: "ok"}


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_readers_in_other_threads_see_whole_transactions(store):
    stop, seen, errors = threading.Event(), [], []

    def read():
        try:
            while True:  # once at least, however late the thread begins
                seen.append(store.totals()["requests"])
                store.history("m", "default", NOW, NOW + 60, 60)
                if stop.is_set():
                    return
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
