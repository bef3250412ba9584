"""Open windows in memory: whatever is stored, reads say what they say of the store alone."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.settings import WindowSettings
from pipeline.engine.types import StepOutput
from pipeline.errors import StoreError
from pipeline.store import apply as applying
from pipeline.store import open_windows, readers
from pipeline.store.open_windows import OpenWindows
from pipeline.store.recent_windows import RecentWindows
from pipeline.store.store import Store
from pipeline.testing import request_event
from tests.unit.store.test_rollups import NOW, POOLS, delta


class Fed:
    """A store with one closed minute that is told events of random content, some with latencies."""

    def __init__(self, store, tenants=0):
        self.store, self.tenants, self.rng, self.offset = store, tenants, random.Random(5), 0
        self.add(20, 0, 60)
        self.step(NOW + 60)

    def step(self, end):
        self.store.record_step(StepOutput(as_of=end, windows=tuple(self.store.window_sums(end - 60, end))))

    def records(self, many, first, last):
        """One delta of events that arrived from ``first`` to ``last`` seconds after the beginning."""
        rng = self.rng
        events = [
            request_event(
                f"{self.offset + i}",
                NOW + first + rng.random() * (last - first),
                pool=rng.choice(POOLS),
                input_tokens=rng.randrange(9_000),
                **({"tenant": f"t{rng.randrange(self.tenants)}"} if self.tenants else {}),
                **({"ttft_seconds": rng.random(), "e2e_seconds": 9.0} if rng.random() < 0.7 else {}),
            )
            for i in range(many)
        ]
        dimensions = ("tenant",) if self.tenants else ()
        return [(0, self.store.delta_positions().get(0, 0), delta(events, self.offset, dimensions))]

    def add(self, many, first, last):
        result = self.store.apply(self.records(many, first, last))
        self.offset += many
        return result


def said(store):
    closed = store.last_closed()
    found = []
    for pool in (*POOLS, "unknown"):
        for start, end in ((closed, closed + 300), (closed - 120, closed + 60), (closed + 60, closed + 120)):
            for grain in (60, 120):
                rows = store.history("model", pool, start, end, grain)
                found.append(repr((rows, store.latencies("model", pool, start, end, grain))))
    return found


def same_as_without(store):
    kept, store._opened = store._opened, OpenWindows()
    alone = said(store)
    store._opened = kept
    assert said(store) == alone
    assert any("requests" in told for told in alone)


def is_kept(store):
    return store._opened.sums((), store.last_closed(), store.last_closed() + 60, 60) is not None


@pytest.fixture
def fed():
    with Store.open(Path(":memory:")) as store:
        yield Fed(store)


@pytest.mark.slow
@pytest.mark.parametrize("tenants", [0, 3, 9])
def test_open_windows_say_what_the_store_says(tenants):
    windows = WindowSettings(dimensions=("tenant",)) if tenants else WindowSettings()
    with Store.open(Path(":memory:"), windows=windows) as store:
        fed = Fed(store, tenants)
        fed.add(30, 60, 130)
        assert is_kept(store)
        for turn in range(12):
            fed.add(30, 60, 130 + turn)
            if turn % 3 == 0:
                same_as_without(store)
        fed.add(5, 0, 60)  # late
        same_as_without(store)
        fed.step(NOW + 120)
        same_as_without(store)  # the step is not in memory yet
        store.keep_recent()
        assert is_kept(store)
        fed.add(30, 60, 190)
        same_as_without(store)


@pytest.mark.slow
def test_open_windows_are_not_asked_of_the_store(fed):
    fed.add(30, 60, 130)
    fed.add(30, 60, 130)
    fed.store.keep_recent()
    wanted = said(fed.store)
    for table in ("windows", "histograms"):
        fed.store.cursor().execute(f"DELETE FROM {table} WHERE window_start >= {NOW + 60}")
    ask = fed.store.history, fed.store.latencies
    assert next(repr(read("model", "a", NOW + 60, NOW + 360, 60)) for read in ask) in wanted[0]
    assert fed.store.latencies("model", "a", NOW + 60, NOW + 360, 60)


@pytest.mark.slow
def test_what_is_rolled_back_is_not_seen(fed, monkeypatch):
    fed.add(10, 60, 120)

    def refuse(*_):
        raise StoreError("full")

    before = said(fed.store)
    with monkeypatch.context() as patch:
        patch.setattr(applying, "note_statuses", refuse)
        with pytest.raises(StoreError):
            fed.store.apply(fed.records(10, 60, 120))
    assert said(fed.store) == before
    same_as_without(fed.store)
    fed.add(10, 60, 120)
    assert said(fed.store) != before
    same_as_without(fed.store)


@pytest.mark.slow
def test_a_new_process_reads_what_is_open_once(tmp_path):
    with Store.open(tmp_path / "s.duckdb") as store:
        fed = Fed(store)
        fed.add(40, 60, 130)
        wanted = said(store)
    with Store.open(tmp_path / "s.duckdb") as store:
        assert said(store) == wanted
        fed.store = store
        fed.add(10, 60, 130)
        assert is_kept(store)
        same_as_without(store)


@pytest.mark.slow
def test_too_many_counts_are_asked_of_the_store_until_the_next_step(fed, monkeypatch):
    fed.add(20, 60, 120)
    monkeypatch.setattr(open_windows, "MOST_CELLS", 30)
    fed.add(60, 60, 120)
    same_as_without(fed.store)
    assert not is_kept(fed.store)
    fed.add(5, 60, 120)
    monkeypatch.undo()
    fed.add(5, 60, 120)
    assert not is_kept(fed.store)
    fed.step(NOW + 120)
    fed.add(5, 120, 180)
    assert is_kept(fed.store)
    same_as_without(fed.store)


@pytest.mark.slow
def test_where_too_much_is_open_what_comes_after_it_is_kept(fed, monkeypatch):
    monkeypatch.setattr(open_windows, "_MOST_LOADED", 10)
    fed.add(60, 60, 130)  # begins after this
    fed.add(30, 100, 240)
    assert not is_kept(fed.store)
    same_as_without(fed.store)
    fed.step(NOW + 120)
    fed.add(30, 100, 240)
    assert not is_kept(fed.store)
    same_as_without(fed.store)
    fed.step(NOW + 180)
    fed.add(30, 150, 250)
    assert is_kept(fed.store)
    same_as_without(fed.store)


@pytest.mark.slow
def test_where_nobody_reads_nothing_is_kept_until_somebody_does(fed, monkeypatch):
    fed.add(20, 60, 120)
    assert is_kept(fed.store)
    monkeypatch.setattr(open_windows, "_MOST_WAITING", 10)
    fed.add(60, 60, 120)
    fed.step(NOW + 120)
    fed.add(1, 120, 180)
    assert not fed.store._opened._waiting
    monkeypatch.undo()
    same_as_without(fed.store)
    fed.add(20, 120, 180)
    assert fed.store._opened._waiting
    same_as_without(fed.store)
    assert is_kept(fed.store)


@pytest.mark.slow
def test_sums_beyond_64_bits_and_windows_years_ahead_are_asked_of_the_store(fed):
    fed.add(20, 60, 120)
    opened = fed.store._opened
    for window, value in ((NOW + 60, 1 << 62), (NOW + 10**9, 1)):
        opened._loaded_at = None
        opened.load(fed.store._connection, NOW + 60)
        assert is_kept(fed.store)
        for _ in range(2):
            one = np.array([window])
            sums = np.full((len(open_windows.MEASURES), 1), value)
            opened.hold(one, np.array([0]), sums, np.zeros((5, 0), np.int64))
            opened.keep()
        assert not is_kept(fed.store)
        same_as_without(fed.store)


@pytest.mark.slow
def test_expired_base_windows_are_not_kept(fed):
    fed.add(20, 60, 120)
    fed.store.retain(NOW + 90 + fed.store._settings.retention_base_seconds)
    same_as_without(fed.store)


@pytest.mark.slow
def test_closed_windows_that_memory_lacks_are_read_without_a_join(fed, monkeypatch):
    fed.add(30, 60, 130)
    fed.store.keep_recent()
    assert is_kept(fed.store)
    fed.add(12, 0, 60)  # late
    same_as_without(fed.store)
    fed.step(NOW + 120)
    fed.add(12, 60, 190)
    same_as_without(fed.store)
    known, fed.store._recent = fed.store._recent, RecentWindows(60)
    alone = said(fed.store)  # by the query of all tables
    fed.store._recent = known
    assert said(fed.store) == alone
    monkeypatch.setattr(readers, "history", None)
    assert fed.store.history("model", "a", NOW + 60, NOW + 240, 60)


@pytest.mark.slow
def test_readers_beside_the_writer_see_what_is_committed_and_all_of_it(fed):
    over, seen = threading.Event(), {number: [0] for number in range(3)}

    def read(number):
        while not over.is_set():
            rows = fed.store.history("model", "a", NOW + 60, NOW + 300, 60)
            seen[number].append(sum(row["requests"] for row in rows))

    readers_of_it = [threading.Thread(target=read, args=(number,)) for number in seen]
    for thread in readers_of_it:
        thread.start()
    for turn in range(20):
        fed.add(10, 60, 130 + turn)
        if turn == 10:
            fed.step(NOW + 120)
            fed.store.keep_recent()
    over.set()
    for thread in readers_of_it:
        thread.join()
    assert all(told == sorted(told) for told in seen.values())
    same_as_without(fed.store)
