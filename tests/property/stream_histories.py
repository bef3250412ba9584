"""The state machine of the stream protocol: every interleaving of kills, zombies, rebalances and repeated records."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.engine.types import StepOutput
from pipeline.errors import StoreError
from pipeline.store.store import Store
from pipeline.testing import Contents, MemoryStore, Oracle, PipelineTestDriver, TestAggregator, contents, request_event

PARTITIONS = 2
WORKERS = 3
HORIZON = 20


class Histories(RuleBasedStateMachine):
    """Three aggregators, two partitions, a store in memory, and everything that can happen to them.

    A worker that is not told of a rebalance is a zombie: it goes on where it was, however long ago that was.
    """

    histories: ClassVar[Counter[str]] = Counter()

    def open_store(self) -> Any:
        return MemoryStore()

    def held(self) -> Contents:
        held: Contents = self.store.contents()
        return held

    @initialize()
    def begin(self) -> None:
        self.store = self.open_store()
        self.driver = PipelineTestDriver(self.store, PARTITIONS, dedupe_horizon_records=HORIZON)
        self.oracle = Oracle()
        self.workers: dict[tuple[int, int], TestAggregator] = {}
        self.written: dict[tuple[int, int], bytes] = {}
        self.newest: list[dict[str, int]] = [{} for _ in range(PARTITIONS)]  # event id: offset of its newest copy
        self.events: dict[str, dict[str, Any]] = {}
        self.closed = 0
        self.latest = self.driver.now

    @rule(
        partition=st.integers(0, PARTITIONS - 1),
        kinds=st.lists(st.sampled_from("eeeeeelrpnf"), min_size=1, max_size=12),
    )
    def produce(self, partition: int, kinds: list[str]) -> None:
        """Events in order, late ones (l), retries (r), poison (p, n) and events from the future (f)."""
        newest, oracle, driver = self.newest[partition], self.oracle, self.driver
        for kind in kinds:
            offset = len(driver.requests.partitions[partition])
            value: bytes | None
            # A retry counts once only within the horizon of the copy before it.
            known = [name for name, last in newest.items() if last >= offset - HORIZON]
            if kind == "r" and known:
                name = known[offset % len(known)]
                value = oracle.event(self.events[name])
                newest[name] = offset
            elif kind == "p":
                value = oracle.poison(b'{"broken', "malformed")
            elif kind == "n":
                value = oracle.poison(None, "empty")
            elif kind == "f":
                ahead = request_event(f"f{partition}-{offset}", driver.now + 3_600)
                value = oracle.poison(repr(ahead).replace("'", '"').encode(), "from_future")
            else:
                name = f"e{partition}-{offset}"
                at = driver.now - (900 if kind == "l" else offset % 7)
                self.events[name] = request_event(name, at, model=f"m{offset % 3}", input_tokens=offset + 1)
                value = oracle.event(self.events[name])
                newest[name] = offset
            driver.produce(partition, [value])

    @rule(seconds=st.sampled_from([0.5, 30.0, 30.0, 3_600.0, -30.0]))
    def advance(self, seconds: float) -> None:
        """The clock moves; sometimes it is set back by less than events may be ahead."""
        if self.driver.now + seconds >= self.latest - 30.0:
            self.driver.advance(seconds)
        self.latest = max(self.latest, self.driver.now)

    @rule(who=st.integers(0, WORKERS - 1), partition=st.integers(0, PARTITIONS - 1), told=st.booleans())
    def rebalance(self, who: int, partition: int, told: bool) -> None:
        """A worker starts (again) on a partition; the others are told and stop, or are not told: zombies."""
        if told:
            for other in range(WORKERS):
                self.workers.pop((other, partition), None)
                self.written.pop((other, partition), None)
        self.written.pop((who, partition), None)
        self.workers[who, partition] = self.driver.aggregator(partition)

    @rule(data=st.data(), records=st.integers(1, 30), times=st.sampled_from([0, 1, 1, 1, 2]))
    def work(self, data: st.DataObject, records: int, times: int) -> None:
        """Fold a batch and append its delta: not yet (0), once, or twice because the producer retried."""
        if self.workers:
            at = data.draw(st.sampled_from(sorted(self.workers)))
            self._append(at, 1)  # what it had in hand, however long it has slept on it
            value = self.workers[at].fold(records)
            if value is not None:
                self.written[at] = value
                self._append(at, times)

    def _append(self, at: tuple[int, int], times: int) -> None:
        value = self.written.get(at)
        if value is None or times == 0:
            return
        if times == 2:
            self.driver.deltas.append(at[1], value)
        self.workers[at].append(value)
        del self.written[at]

    @rule(data=st.data())
    def die_after_writing(self, data: st.DataObject) -> None:
        if self.written:
            at = data.draw(st.sampled_from(sorted(self.written)))
            self.driver.deltas.append(at[1], self.written.pop(at))
            del self.workers[at]

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        if self.workers:
            at = data.draw(st.sampled_from(sorted(self.workers)))
            del self.workers[at]
            self.written.pop(at, None)

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def garbage(self, partition: int) -> None:
        """Somebody writes to the topic of deltas what is no delta."""
        self.driver.deltas.append(partition, b"no delta")

    @rule(partition=st.integers(0, PARTITIONS - 1), records=st.integers(1, 6), again=st.integers(0, 3))
    def control(self, partition: int, records: int, again: int) -> None:
        assert not self.driver.control(partition, records, again).gaps

    @rule(ahead=st.integers(0, 3))
    def close(self, ahead: int) -> None:
        """Windows close: what comes for them later is late."""
        end = int(self.driver.now // 10 + ahead) * 10
        if end > self.closed:
            self.closed = end
            self.store.close_until(end)

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        if hasattr(self, "oracle"):
            assert self.counted() <= self.oracle.events

    def counted(self) -> int:
        return int(self.store.contents().ledger.get("events", 0))

    def teardown(self) -> None:
        if hasattr(self, "oracle"):
            self.driver.finish()
            differences = self.oracle.differences(self.held())
            type(self).histories[type(self).__name__] += 1
            assert not differences


class DuckDbStore:
    """A DuckDB store as the machine wants it: emptied, not opened anew, since opening costs as much as a history."""

    _store: ClassVar[Store | None] = None

    def __init__(self) -> None:
        if DuckDbStore._store is None:
            DuckDbStore._store = Store.open(Path(":memory:"))
        self.store = DuckDbStore._store
        connection = self.store._connection
        query = "SELECT table_name FROM duckdb_tables() WHERE table_name <> 'schema_migrations'"
        tables = connection.execute(query).fetchall()
        connection.execute("BEGIN")
        for (table,) in tables:
            connection.execute(f"DELETE FROM {table}")
        connection.execute("COMMIT")
        self.restart()
        self.delta_positions = self.store.delta_positions
        self.apply = self.store.apply

    def restart(self) -> None:
        """A new life of the controller: everything that is in memory comes from the file."""
        self.store._keys.reload()
        self.store._applier.reload()
        self.store._read_frontier()

    def close_until(self, end: int) -> None:
        windows = self.store.window_sums(self.store.first_open_window() or 0, end)
        self.store.record_step(StepOutput(as_of=end, windows=tuple(windows)))

    def die_in_the_transaction(self, apply: Any) -> None:
        """Everything is written, nothing is committed."""
        applier = self.store._applier
        write = applier._write

        def die(*arguments: Any) -> None:
            write(*arguments)
            raise StoreError("sabotage")

        applier._write = die  # type: ignore[method-assign]
        try:
            apply()
        except StoreError:
            pass
        finally:
            applier._write = write  # type: ignore[method-assign]
        self.restart()


class StoredHistories(Histories):
    """The same on DuckDB, whose controller dies inside and after its transactions too."""

    def open_store(self) -> Any:
        return DuckDbStore()

    def held(self) -> Contents:
        return contents(self.store.store)

    def counted(self) -> int:
        (events,) = self.store.store.cursor().execute("SELECT coalesce(sum(events), 0) FROM ledger").fetchone()
        return int(events)

    @rule(partition=st.integers(0, PARTITIONS - 1), committed=st.booleans())
    def control_dies(self, partition: int, committed: bool) -> None:
        if committed:
            self.driver.control(partition, 3)
            self.store.restart()
        else:
            self.store.die_in_the_transaction(lambda: self.driver.control(partition, 3))
