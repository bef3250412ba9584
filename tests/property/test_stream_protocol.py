"""Any history of kills, zombies, rebalances, repeated deltas and restarts ends in what was produced, exactly."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.stream_histories import Histories, StoredHistories


def play(machine: type[Histories], histories: int) -> None:
    """``benchmarks/faults/histories.py`` plays many more of them, and says how many a minute."""
    rules = settings(
        max_examples=histories,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    before = machine.histories[machine.__name__]
    run_state_machine_as_test(machine, settings=rules)  # type: ignore[no-untyped-call]
    assert machine.histories[machine.__name__] >= before + histories


def test_histories_in_memory() -> None:
    play(Histories, 60)


def test_histories_in_duckdb() -> None:
    play(StoredHistories, 15)
