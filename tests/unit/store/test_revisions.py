"""The store: advice that was raised between two steps, and the readings that raised it."""

from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from pipeline.config.settings import StoreSettings
from pipeline.engine.types import Reading, RevisionInput, StepInput, StepOutput
from pipeline.errors import StoreError
from pipeline.store.series import Grid, samples
from pipeline.store.snapshots import Snapshots
from pipeline.store.store import Store
from pipeline.windows.fleet import CountedRequests, FleetReport, ReplicaCount
from pipeline.windows.types import PoolKey
from tests.unit.store.support import NOW, advice, delta, value

FLEET = FleetReport(
    NOW + 130.5, 4, None, (ReplicaCount(NOW + 130.5, 3, None),), CountedRequests(60, 50, 45.0, idle=False, after=99)
)
FULL = Reading(PoolKey("m", "p"), FLEET, 3, 0)
BARE = Reading(PoolKey("m", "q"), None, None, None)


def revision(as_of, *readings, desired=9):
    readings = readings or (FULL,)
    raised = tuple(
        advice(model=r.key.model, pool=r.key.pool, issued_at=float(as_of), generation=as_of - NOW, desired=desired)
        for r in readings
    )
    return StepOutput(as_of, recommendations=raised, readings=readings)


def step(as_of, **changes):
    raised = (advice(issued_at=float(as_of), generation=as_of - NOW, **changes),)
    return StepOutput(as_of, recommendations=raised)


def test_steps_and_revisions_come_back_in_order_of_time(store):
    store.record_steps([step(NOW + 60), step(NOW + 120)])
    store.record_revision(revision(NOW + 135, FULL, BARE))
    store.record_revision(revision(NOW + 165, BARE))
    store.record_step(step(NOW + 180))
    store.record_revision(revision(NOW + 195))
    told = list(store.inputs_since(NOW + 60))
    assert told == [
        StepInput(NOW + 120, ()),
        RevisionInput(NOW + 135, NOW + 120, (FULL, BARE)),
        RevisionInput(NOW + 165, NOW + 120, (BARE,)),
        StepInput(NOW + 180, ()),
        RevisionInput(NOW + 195, NOW + 180, (FULL,)),
    ]
    assert [inputs.as_of for inputs in store.inputs_since(NOW + 135)] == [NOW + 165, NOW + 180, NOW + 195]
    assert [inputs.as_of for inputs in store.closed_since(NOW + 60)] == [NOW + 120, NOW + 180]
    assert (store.last_closed(), store.last_advised()) == (NOW + 180, NOW + 195)


def test_the_newest_advice_of_each_pool_is_told_again(store):
    store.record_step(step(NOW + 60))
    both = (advice(issued_at=NOW + 120.0), advice(pool="q", issued_at=NOW + 120.0))
    store.record_step(StepOutput(NOW + 120, recommendations=both))
    store.record_revision(revision(NOW + 135, FULL, desired=6))
    store.record_revision(revision(NOW + 150, FULL, desired=7))
    output = store.last_output()
    assert (output.as_of, output.readings) == (NOW + 120, ())
    assert [(r.pool, r.issued_at - NOW, r.desired) for r in output.recommendations] == [("p", 150, 7), ("q", 120, 4)]
    assert [r["issued_at"] - NOW for r in store.recommendations("m", "p", 10)] == [150, 135, 120, 60]
    store.record_step(step(NOW + 180))
    assert [(r.pool, r.desired) for r in store.last_output().recommendations] == [("p", 4)]


def test_a_revision_follows_what_there_is(store):
    store.apply([(0, 0, delta([value("a", at=NOW + 61)]))])
    store.record_step(step(NOW + 60))
    for as_of in (NOW + 45, NOW + 60):
        with pytest.raises(StoreError, match="not after"):
            store.record_revision(revision(as_of))
    store.record_revision(revision(NOW + 75))
    with pytest.raises(StoreError, match="not after"):
        store.record_revision(revision(NOW + 75))
    windows = store.window_sums(NOW + 60, NOW + 120)
    with pytest.raises(StoreError, match="not after"):
        store.close_windows(NOW + 75, windows, ())
    store.close_windows(NOW + 120, windows, ())
    with pytest.raises(StoreError, match="being closed"):
        store.record_revision(revision(NOW + 90))
    store.record_step(step(NOW + 120))
    assert [type(inputs).__name__ for inputs in store.inputs_since(0)] == ["StepInput", "RevisionInput", "StepInput"]


def test_a_revision_is_there_as_a_whole_or_not_at_all(store, monkeypatch):
    store.record_step(step(NOW + 60))

    def refuse(*_):
        raise duckdb.IOException("disk full")

    monkeypatch.setattr("pipeline.store.revisions.write_recommendations", refuse)
    with pytest.raises(StoreError, match="disk full"):
        store.record_revision(revision(NOW + 75))
    assert [inputs.as_of for inputs in store.inputs_since(0)] == [NOW + 60]
    assert store.last_advised() == NOW + 60


def test_a_revision_may_be_issued_before_the_first_window(store):
    """By the allowed lateness: then the window of that time may still become the first."""
    store.apply([(0, 0, delta([value("a", at=NOW + 61)]))])
    store.record_revision(revision(NOW + 45))
    assert store.first_open_window() == NOW + 60
    old = [value("older", at=NOW + 1), value("too old", at=NOW - 1)]
    assert store.apply([(0, 1, delta(old, first=1))]).late_events == 1
    assert store.first_open_window() == NOW
    store.record_step(step(NOW + 60))


@pytest.mark.slow
def test_a_revision_before_the_first_step_fixes_the_first_window(tmp_path):
    """No step may come before it, however old an event that is read later."""
    path = tmp_path / "s.duckdb"
    with Store.open(path) as store:
        store.apply([(0, 0, delta([value("a", at=NOW + 61)]))])
        store.record_revision(revision(NOW + 75))
        assert (store.first_open_window(), store.last_closed(), store.last_advised()) == (NOW + 60, None, NOW + 75)
    with Store.open(path) as store:
        result = store.apply([(0, 1, delta([value("old", at=NOW + 1), value("b", at=NOW + 62)], first=1))])
        assert result.late_events == 1
        assert store.first_open_window() == NOW + 60
        output = store.last_output()
        assert (output.as_of, output.readings, len(output.recommendations)) == (NOW + 75, (FULL,), 1)
        assert list(store.inputs_since(-1)) == [RevisionInput(NOW + 75, None, (FULL,))]
        store.record_step(step(NOW + 120))
        assert store.first_open_window() == NOW + 120


def test_retention_takes_a_revision_with_its_step():
    small = StoreSettings(retention_base_seconds=100, retention_closed_seconds=150, retention_forecasts_seconds=50)
    with Store.open(Path(":memory:"), small) as kept:
        kept.apply([(0, 0, delta([value("a", at=NOW + 1)]))])
        kept.record_revision(revision(NOW + 15))
        for end in (NOW + 60, NOW + 120):
            kept.record_step(step(end))
            kept.record_revision(revision(end + 30))
        kept.retain(NOW + 160.0)
        assert [inputs.as_of - NOW for inputs in kept.inputs_since(-1)] == [15, 60, 90, 120, 150]
        kept.retain(NOW + 165.5)
        assert [inputs.as_of - NOW for inputs in kept.inputs_since(-1)] == [60, 90, 120, 150]
        kept.retain(NOW + 225.5)
        assert [inputs.as_of - NOW for inputs in kept.inputs_since(-1)] == [120, 150], "90 follows a step that is gone"
        kept.retain(NOW + 10_000.0)
        assert [inputs.as_of - NOW for inputs in kept.inputs_since(-1)] == [120, 150], "those of the newest step stay"


def test_retention_before_the_first_step_takes_no_revision():
    """What a revision before the first step rested on is needed until that step is made."""
    with Store.open(Path(":memory:"), StoreSettings()) as kept:
        kept.apply([(0, 0, delta([value("a", at=NOW + 1)]))])
        kept.record_revision(revision(NOW + 15))
        kept.retain(NOW + 20.0)
        assert [inputs.as_of - NOW for inputs in kept.inputs_since(-1)] == [15]
        output = kept.last_output()
        assert (output.as_of - NOW, len(output.readings)) == (15, 1)


def test_the_state_of_pools_says_which_revision_it_has_seen(store):
    a, b = PoolKey("m", "a"), PoolKey("m", "b")
    store.save_snapshots(NOW + 60, b"shared60", {a: b"a", b: b"b"}, NOW + 60, NOW + 75)
    assert store.snapshots() == Snapshots(NOW + 60, b"shared60", {a: (NOW + 75, b"a"), b: (NOW + 75, b"b")})
    store.save_snapshots(NOW + 120, b"shared120", {a: b"a2"}, NOW + 60)
    assert store.snapshots() == Snapshots(NOW + 60, b"shared60", {b: (NOW + 75, b"b"), a: (NOW + 120, b"a2")})


@pytest.mark.slow
def test_readings_are_exported(store, tmp_path):
    store.record_step(step(NOW + 60))
    store.record_revision(revision(NOW + 75, FULL, replace(BARE, key=PoolKey("m", "z"))))
    (file,) = store.export_parquet(tmp_path, ["readings"])
    rows = duckdb.connect().execute(f"SELECT * FROM '{file.path}' ORDER BY pool").fetchall()
    assert [row[:6] for row in rows] == [
        (NOW + 75, NOW + 60, "m", "p", 3, 0),
        (NOW + 75, NOW + 60, "m", "z", None, None),
    ]


def test_queries_in_the_manner_of_prometheus_find_it_from_its_issue_on(store):
    """At a time between two steps, and on a grid that is finer than they are."""
    store.record_step(step(NOW + 60, desired=4, expires_at=NOW + 360.0))
    raised = revision(NOW + 75, desired=9)
    store.record_revision(
        replace(raised, recommendations=(replace(raised.recommendations[0], expires_at=NOW + 375.0),))
    )
    store.record_step(step(NOW + 120, desired=7, expires_at=NOW + 420.0))
    (found,) = samples(store.cursor(), "advice", "desired", [("m", "p")], Grid(NOW + 60, NOW + 120, 15)).values()
    assert found.on(Grid(NOW + 60, NOW + 120, 15)).tolist() == [4.0, 9.0, 9.0, 9.0, 7.0]
    at = Grid(NOW + 80, NOW + 80, 1)
    (found,) = samples(store.cursor(), "advice", "desired", [("m", "p")], at).values()
    assert found.on(at).tolist() == [9.0]
