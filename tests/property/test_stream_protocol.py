"""Any history of kills, zombies, repeated deltas and restarts ends in what was produced, exactly."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.store.store import Store
from pipeline.testing import Oracle, PipelineTestDriver, TestAggregator, request_event

PARTITION = 0
HORIZON = 20


class Histories(RuleBasedStateMachine):
    """Two aggregators that both believe they own the partition, a store, and everything that can happen to them."""

    @initialize()
    def begin(self) -> None:
        self.store = Store.open(Path(":memory:"))
        self.driver = PipelineTestDriver(self.store, dedupe_horizon_records=HORIZON)
        self.oracle = Oracle()
        self.workers: list[TestAggregator | None] = [None, None]
        self.written: list[bytes | None] = [None, None]
        self.newest: dict[str, int] = {}  # event id: offset of its newest copy

    @rule(count=st.integers(1, 15), data=st.data())
    def produce(self, count: int, data: st.DataObject) -> None:
        for _ in range(count):
            offset = len(self.driver.requests.partitions[PARTITION])
            kind = data.draw(st.sampled_from(["event", "event", "event", "retry", "poison"]))
            if kind == "poison":
                self.driver.produce(PARTITION, [self.oracle.poison(b'{"broken', "malformed")])
                continue
            # A retry counts once only within the horizon of the copy before it.
            known = [name for name, last in self.newest.items() if last >= offset - HORIZON]
            name = data.draw(st.sampled_from(known)) if kind == "retry" and known else f"e{offset}"
            number = int(name[1:])
            at = self.driver.now - 5_000 + number * 3
            value = self.oracle.event(request_event(name, at, model=f"m{number % 3}", input_tokens=number + 1))
            self.driver.produce(PARTITION, [value])
            self.newest[name] = offset

    @rule(who=st.integers(0, 1))
    def start_or_kill(self, who: int) -> None:
        self.workers[who] = self.driver.aggregator(PARTITION)
        self.written[who] = None

    @rule(who=st.integers(0, 1), records=st.integers(1, 30))
    def fold(self, who: int, records: int) -> None:
        worker = self.workers[who]
        if worker is not None and self.written[who] is None:
            self.written[who] = worker.fold(records)

    @rule(who=st.integers(0, 1), times=st.integers(1, 2))
    def append(self, who: int, times: int) -> None:
        """The delta reaches the log (twice: the producer retried); before it the worker may have slept for long."""
        worker, value = self.workers[who], self.written[who]
        if worker is not None and value is not None:
            if times == 2:
                self.driver.deltas.append(PARTITION, value)
            worker.append(value)
            self.written[who] = None

    @rule(who=st.integers(0, 1))
    def append_and_die(self, who: int) -> None:
        value = self.written[who]
        if value is not None:
            self.driver.deltas.append(PARTITION, value)
        self.workers[who] = self.written[who] = None

    @rule(records=st.integers(1, 5), again=st.integers(0, 3))
    def control(self, records: int, again: int) -> None:
        assert not self.driver.control(PARTITION, records, again).gaps

    @precondition(lambda self: hasattr(self, "oracle"))
    @invariant()
    def nothing_is_counted_twice(self) -> None:
        stored = sum(row["events"] for row in self.store.ledger())
        assert stored <= self.oracle.events

    def teardown(self) -> None:
        if hasattr(self, "driver"):
            self.driver.finish()
            differences = self.oracle.differences(self.store)
            self.store.close()
            assert not differences


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
