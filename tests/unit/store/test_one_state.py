"""Rows and latencies of one answer are of one state, whatever the writer does between the two reads."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.engine.types import StepOutput
from pipeline.errors import StoreError
from pipeline.store import apply as applying
from pipeline.store.store import Store
from pipeline.testing import request_event
from tests.unit.store.test_rollups import NOW, POOLS, delta

STEPS, READERS = 12, 3


class Writer:
    """Applies deltas whose every request tells its TTFT, and closes steps in parts; late events among them."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store, self.rng, self.offset = store, random.Random(seed), 0

    def delta(self, many: int, first: float, last: float) -> None:
        events = [
            request_event(
                f"{self.offset + i}",
                NOW + self.rng.uniform(first, last),
                pool=self.rng.choice(POOLS),
                ttft_seconds=self.rng.random(),
                e2e_seconds=9.0,
            )
            for i in range(many)
        ]
        self.store.apply([(0, self.store.delta_positions().get(0, 0), delta(events, self.offset))])  # type: ignore[no-untyped-call]
        self.offset += many

    def step(self, end: int) -> None:
        windows = []
        for part in POOLS if self.rng.random() < 0.7 else ():
            closed = self.store.window_sums(end - 60, end, [("model", part)])
            self.store.close_windows(end, closed, ())
            windows += closed
            if self.rng.random() < 0.5:
                self.delta(3, end - NOW - 60, end - NOW + 60)  # late for the pools that have closed
        windows = windows or self.store.window_sums(end - 60, end)
        self.store.record_step(StepOutput(as_of=end, windows=tuple(windows)))

    def run(self) -> None:
        for minute in range(1, STEPS + 1):
            for _ in range(4):
                self.delta(self.rng.randrange(1, 8), 60 * minute - 60, 60 * minute)
            if self.rng.random() < 0.3:
                self.delta(2, 0, 60 * minute)  # late ones
            self.step(NOW + 60 * minute)
            if self.rng.random() < 0.5:
                self.store.keep_recent()


def asked(store: Store, pool: str, start: int, end: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(start, requests) and (start, requests that told their TTFT) of the same windows."""

    def read() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        rows = store.history("model", pool, start, end, 60)
        told = store.latencies("model", pool, start, end, 60)
        return (
            [(row["start"], row["ok"]) for row in rows],
            sorted((at, window["ttft_seconds"]["told"]) for at, window in told.items()),
        )

    return store.one_state(read)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_rows_and_latencies_agree_while_deltas_come_and_steps_close_in_parts(seed: int) -> None:
    over = threading.Event()

    def read_on(number: int) -> int:
        rng, reads = random.Random(number), 0
        while not over.is_set() or reads < 20:
            start = NOW + 60 * rng.randrange(-1, STEPS)
            rows, told = asked(store, rng.choice(POOLS), start, start + 60 * rng.randrange(1, STEPS))
            assert rows == told
            reads += 1
        return reads

    with Store.open(Path(":memory:")) as store, ThreadPoolExecutor(READERS) as threads:
        readers = [threads.submit(read_on, number) for number in range(READERS)]
        try:
            Writer(store, seed).run()
        finally:
            over.set()
        for reader in readers:
            assert reader.result() >= 20


def between(store: Store, happens: object) -> list[object]:
    """Have something happen between the two reads of every attempt; returns what is read of pool a at last."""
    latencies, number = store.latencies, [0]

    def later(*span: object) -> object:
        number[0] += 1
        happens(number[0])  # type: ignore[operator]
        return latencies(*span)  # type: ignore[arg-type]

    store.latencies = later  # type: ignore[method-assign, assignment]
    try:
        return [*asked(store, "a", NOW, NOW + 600), number[0]]
    finally:
        store.latencies = latencies  # type: ignore[method-assign]


@pytest.mark.parametrize("closed", [False, True])
def test_a_delta_between_the_two_reads_is_in_both_or_in_neither(closed: bool) -> None:
    with Store.open(Path(":memory:")) as store:
        writer = Writer(store, 1)
        writer.delta(30, 0, 120)
        if closed:
            writer.step(NOW + 60)
            store.keep_recent()
        rows, told, reads = between(store, lambda number: writer.delta(5, 0, 120) if number == 1 else None)
        assert rows == told
        assert reads == 2, "read again"
        # Where deltas come faster than can be read, the file is asked once, in one transaction.
        rows, told, reads = between(store, lambda _: writer.delta(5, 0, 120))
        assert rows == told
        assert reads == 4


def test_a_commit_that_fails_does_not_keep_readers_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(Path(":memory:")) as store:
        writer = Writer(store, 1)
        writer.delta(30, 0, 120)

        def refuse(*_: object) -> None:
            raise StoreError("full")

        with monkeypatch.context() as patch:
            patch.setattr(applying, "note_statuses", refuse)
            with pytest.raises(StoreError, match="full"):
                writer.delta(5, 0, 120)
        rows, told, reads = between(store, lambda _: None)
        assert rows == told
        assert reads == 1
