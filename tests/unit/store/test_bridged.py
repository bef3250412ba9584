"""Deltas of a bridge in the store: they count until events come, once, and never stop a partition."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.bridge.deltas import bridge_delta
from pipeline.bridge.increments import Increments
from pipeline.bridge.rows import pool_rows
from pipeline.engine.types import StepOutput
from pipeline.events.validation import EventLimits
from pipeline.store.bridged import RESUME_SECONDS
from pipeline.store.store import Store
from pipeline.testing.oracle import request_event
from pipeline.windows.delta import applies
from pipeline.windows.partition_folder import PartitionAggregator
from pipeline.windows.types import Delta, PoolKey

T0 = 1_700_000_040  # begins a minute
CHAT = PoolKey("llama", "chat")
SOURCE = "bridge:test"


@pytest.fixture
def store() -> Iterator[Store]:
    with Store.open(Path(":memory:")) as opened:
        yield opened


class Log:
    """Deltas as they would follow each other in partition 0."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.offset = 0
        self.folder = PartitionAggregator("requests", 0, "p", EventLimits(max_age_seconds=1e9), 100)
        self.read = 0

    def add(self, *deltas: Delta) -> None:
        records = [(0, self.offset + i, delta) for i, delta in enumerate(deltas)]
        self.offset += len(deltas)
        result = self.store.apply(records)
        assert not result.blocked

    def events(self, at: float, n: int, pool: PoolKey = CHAT) -> Delta:
        values = [
            json.dumps(
                request_event(f"{self.read + i}", at, model=pool.model, pool=pool.pool, e2e_seconds=0.5)
            ).encode()
            for i in range(n)
        ]
        start, self.read = self.read, self.read + n
        delta, letters = self.folder.fold(
            values, range(start, self.read), [int(at * 1000)] * n, start, self.read, at + 10
        )
        assert delta is not None
        assert not letters
        return delta

    def requests(self, pool: PoolKey = CHAT) -> dict[int, int]:
        rows = self.store.history(*pool, T0 - 10 * RESUME_SECONDS, T0 + 10 * RESUME_SECONDS, 10)
        return {int(row["start"]) - T0: int(row["requests"]) for row in rows if row["requests"]}


def told(at: float, n: int, sequence: int, pool: PoolKey = CHAT, seconds: float = 10.0) -> Delta:
    """A bridge's delta: ``n`` requests in [at − seconds, at)."""
    part = pool_rows(Increments(at - seconds, at, {"requests.ok": {"": float(n)}}), pool)
    return bridge_delta(SOURCE, 0, sequence, sequence, at, [part])


def test_a_pool_without_events_is_counted_by_the_bridge(store: Store) -> None:
    log = Log(store)
    log.add(told(T0 + 10, 7, 1), log.events(T0 + 5, 3, PoolKey("qwen", "code")), told(T0 + 20, 8, 5))
    assert log.requests() == {0: 7, 10: 8}
    assert store.event_notes()["bridge_counted"] == {"llama|chat": 15}
    (row,) = [row for row in store.ledger() if row["topic"] == SOURCE]
    assert (row["records"], row["events"]) == (0, 15)


def test_repeated_deltas_count_once_and_a_gap_of_the_sequence_stops_nothing(store: Store) -> None:
    log = Log(store)
    first = told(T0 + 10, 7, 100)
    log.add(first, first, told(T0 + 20, 8, 900), told(T0 + 20, 8, 200))
    assert log.requests() == {0: 7, 10: 8}
    assert applies(5, log.events(T0, 1)) == "drop"  # events follow the strict rule
    assert applies(-1, told(T0, 1, 0)) == "apply"


@pytest.mark.parametrize("together", [True, False])
def test_events_replace_what_a_bridge_told_from_their_first_window_on(store: Store, together: bool) -> None:
    log = Log(store)
    deltas = [told(T0 + 10 * (k + 1), 5, k + 1) for k in range(4)] + [log.events(T0 + 21, 3)]
    deltas += [told(T0 + 50, 6, 50), told(T0 + 20, 2, 60)]
    if together:
        log.add(*deltas)
    else:
        for delta in deltas:
            log.add(delta)
    assert log.requests() == {0: 5, 10: 7, 20: 3}
    assert store.event_notes()["bridge_ignored"] == {"llama|chat": 16}
    assert store.event_notes()["bridge_counted"] == {"llama|chat": 12}


def test_what_has_closed_stays_and_a_restart_decides_alike(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    with Store.open(path) as store:
        log = Log(store)
        log.add(told(T0 + 10, 5, 1))
        store.record_step(StepOutput(as_of=T0 + 60))
        log.add(told(T0 + 70, 6, 2), log.events(T0 + 5, 1))
        assert log.requests() == {0: 6}  # the second is replaced, the first was in a closed window
    with Store.open(path) as store:
        log.store = store
        log.add(told(T0 + 80, 4, 3))
        assert log.requests() == {0: 6}


def test_a_bridge_counts_again_long_after_the_last_event(store: Store) -> None:
    log = Log(store)
    later = T0 + RESUME_SECONDS + 60
    log.add(log.events(T0, 1), told(T0 + 100, 5, 1), told(later, 6, 2))
    assert log.requests() == {0: 1, RESUME_SECONDS + 50: 6}
