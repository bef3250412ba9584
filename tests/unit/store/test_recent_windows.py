"""The newest windows in memory: whatever has come, reads say what they say of the store alone."""

from __future__ import annotations

import math
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.settings import WindowSettings
from pipeline.engine.types import StepOutput
from pipeline.publish.rows import window_data
from pipeline.store import recent_windows
from pipeline.store.recent_windows import KEPT_WINDOWS, RecentWindows
from pipeline.store.series import Grid
from pipeline.store.store import Store
from pipeline.testing import closed_window, request_event
from pipeline.windows.types import PoolKey
from tests.unit.store.test_rollups import NOW, POOLS, delta, play

STEPS = 95
#: Of the sums of a window of a busy pool: 20,000 requests of some thousand tokens.
DIGITS = {
    **{"requests": 5, "ok": 5, "rejected": 3, "input_tokens": 8, "cached_input_tokens": 8, "output_tokens": 7},
    **{"input_tokens_squared": 12, "output_tokens_squared": 11, "input_output_product": 12},
    **{"kv_token_milliseconds": 13, "inflight_milliseconds": 9, "preemptions": 2},
}


class Told:
    """A store that is told events and steps of random content."""

    def __init__(self, store, seed):
        self.store, self.rng = store, random.Random(seed)
        self.offset = play(store, seed=seed, steps=STEPS)

    def late(self, *minutes_ago):
        """Events of windows that have closed so many minutes before the last step."""
        closed = self.store.last_closed()
        events = [
            request_event(f"late-{self.offset}-{i}", closed - 60 * ago + 5, pool=self.rng.choice(POOLS))
            for i, ago in enumerate(minutes_ago)
        ]
        self.store.apply([(0, self.store.delta_positions()[0], delta(events, self.offset))])
        self.offset += len(events)

    def step(self):
        end = self.store.last_closed() + 60
        windows = tuple(
            replace(window, completeness=self.rng.random(), gap=self.rng.random() < 0.1)
            for window in self.store.window_sums(end - 60, end)
        )
        self.store.record_step(StepOutput(as_of=end, windows=windows))


def said(store, span):
    """All that can be asked about single pools and the windows that begin in a span."""
    found = []
    for pool in (*POOLS, "unknown"):
        rows = store.history("model", pool, *span, 60)
        told = store.latencies("model", pool, *span, 60)
        key = PoolKey("model", pool)
        found.append([window_data(row, key, 60, store.last_closed(), told.get(row["start"])) for row in rows])
    grid = Grid(float(span[0]), float(span[1]), 30.0)
    pools = [("model", pool) for pool in POOLS]
    for measure in ("requests_per_second", "prefill_tokens_per_second", "decode_tokens_per_second", "kv_tokens",
                    "current_replicas"):  # fmt: skip
        samples = store.samples("windows", measure, pools, grid)
        values = {name: value.on(grid).tolist() for name, value in samples.items()}
        found.append({name: repr(told) for name, told in values.items() if not all(map(math.isnan, told))})
    return found


def spans(store):
    closed = store.last_closed()
    yield from ((closed - 3_600, closed), (closed - 3_600, closed + 120), (closed - 1_230, closed - 610))
    yield from ((closed - 7_200, closed), (closed - 60, closed), (closed, closed + 120), (closed - 600, closed - 600))


def same_as_without(store):
    known, store._recent = store._recent, RecentWindows(60)
    alone = [said(store, span) for span in spans(store)]
    store._recent = known
    assert [said(store, span) for span in spans(store)] == alone


@pytest.fixture
def told():
    with Store.open(Path(":memory:")) as store:
        yield Told(store, seed=3)


@pytest.mark.slow
def test_reads_say_what_they_say_of_the_store_alone(told):
    same_as_without(told.store)
    told.store.keep_recent()
    same_as_without(told.store)
    assert told.store._recent.oldest() <= told.store.last_closed() - 60 * KEPT_WINDOWS
    told.step()
    same_as_without(told.store)  # a step that is not in memory yet
    told.store.keep_recent()
    same_as_without(told.store)


@pytest.mark.slow
def test_an_hour_in_memory_is_not_asked_of_the_store(told):
    told.store.keep_recent()
    closed = told.store.last_closed()
    wanted = told.store.history("model", "a", closed - 3_600, closed, 60)
    assert wanted
    told.store.cursor().execute("DELETE FROM closed_windows")
    told.store.cursor().execute("DELETE FROM late_windows")
    assert told.store.history("model", "a", closed - 3_600, closed, 60) == wanted
    told.late(3)
    before = [row for row in wanted if row["start"] < closed - 600]
    assert told.store.history("model", "a", closed - 3_600, closed - 600, 60) == before


@pytest.mark.slow
def test_late_events_are_seen_at_once_and_again_after_the_next_step(told):
    told.store.keep_recent()
    for ago in ((1,), (2, 30, 44), (59, 70), (5, 5, 5, 5)):
        told.late(*ago)
        same_as_without(told.store)
        told.step()
        told.store.keep_recent()
        same_as_without(told.store)
        assert not told.store._recent._stale


@pytest.mark.slow
def test_a_late_event_that_comes_while_windows_are_read_is_not_lost(told, monkeypatch):
    read = recent_windows.closed_rows

    def slow(*arguments):
        found = read(*arguments)
        told.late(2, 20)
        same_as_without(told.store)
        return found

    told.late(20)
    told.store.keep_recent()
    told.late(2, 20, 21)
    monkeypatch.setattr(recent_windows, "closed_rows", slow)
    told.step()
    told.store.keep_recent()
    same_as_without(told.store)
    monkeypatch.undo()
    told.store.keep_recent()
    same_as_without(told.store)


@pytest.mark.slow
@pytest.mark.parametrize("tenants", [2, 9])
def test_pools_with_many_keys_say_the_same(tenants):
    windows = WindowSettings(dimensions=("tenant",))
    with Store.open(Path(":memory:"), windows=windows) as store:
        for minute in range(1, 5):
            end = NOW + 60 * minute
            events = [
                request_event(f"{minute}-{i}", end - 1 - i, pool="a", tenant=f"t{i % tenants}")
                for i in range(2 * tenants)
            ]
            store.apply([(0, minute - 1, delta(events, 2 * tenants * (minute - 1), windows.dimensions))])
            if minute < 4:
                store.record_step(StepOutput(as_of=end, windows=tuple(store.window_sums(end - 60, end))))
        store.keep_recent()
        assert len(store._key_ids("model", "a")) == tenants
        assert sum(row["requests"] for row in store.history("model", "a", NOW, NOW + 600, 60)) == 8 * tenants
        same_as_without(store)


@pytest.mark.slow
def test_a_sum_beyond_64_bits_is_asked_of_the_store(told):
    end = told.store.last_closed() + 60
    window = closed_window(end - 60, 7, model="model", pool="a", grain_seconds=60)
    told.store.record_step(StepOutput(as_of=end, windows=(replace(window, input_tokens_squared=2**70),)))
    told.store.keep_recent()
    same_as_without(told.store)
    assert told.store.history("model", "a", end - 120, end, 60)[-1]["input_tokens_squared"] == 2**70


@pytest.mark.slow
def test_windows_go_when_they_are_old_and_after_a_long_silence(told):
    recent = told.store._recent
    for _ in range(25):
        told.step()
        told.store.keep_recent()
    kept = told.store.last_closed() - recent.oldest()
    assert 60 * KEPT_WINDOWS <= kept < 60 * (KEPT_WINDOWS + 10)
    told.store.record_step(StepOutput(as_of=told.store.last_closed() + 86_400))
    told.store.keep_recent()
    same_as_without(told.store)
    told.store.retain(told.store.last_closed() + 1e9)
    assert recent.oldest() == float("inf")


@pytest.mark.slow
def test_a_pool_takes_less_than_its_bound_of_memory():
    rng = random.Random(1)
    with Store.open(Path(":memory:")) as store:
        for minute in range(1, 96):
            end = NOW + 60 * minute
            events = [
                request_event(f"{minute}-{i}", end - 1 - rng.random() * 58, pool="a", input_tokens=rng.randrange(9_000),
                              output_tokens=rng.randrange(900), ttft_seconds=rng.random(), e2e_seconds=9.0)
                for i in range(60)
            ]  # fmt: skip
            store.apply([(0, store.delta_positions().get(0, 0), delta(events, 60 * minute - 60))])
            # Sums of a busy pool, with as little in common as there can be.
            sums = {name: rng.randrange(10**digits) for name, digits in DIGITS.items()}
            windows = tuple(replace(w, completeness=rng.random(), **sums) for w in store.window_sums(end - 60, end))
            store.record_step(StepOutput(as_of=end, windows=windows))
            store.keep_recent()
            (packed,) = store._recent._pools.values()
            parts = [packed, packed.blocks, packed.alone, *packed.blocks.values(), *packed.alone.values(),
                     *packed.blocks, *packed.alone]  # fmt: skip
            assert sum(map(sys.getsizeof, parts)) < 10_000
        assert len(packed.blocks) >= KEPT_WINDOWS // 8
