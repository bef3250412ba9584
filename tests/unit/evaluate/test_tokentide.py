"""Tokentide in the closed loop asks at every turn: between two windows reports may raise its advice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.config.settings import PoolSettings, Settings
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import RevisionInput, StepInput
from pipeline.evaluate.policies.tokentide import SPEC
from pipeline.evaluate.run import make_setup, run_policy
from pipeline.evaluate.trace import RequestTrace
from sizing.catalog import Catalog
from sizing.simulate import Requests
from sizing.start_up import StartUp
from tests.unit.evaluate.pools import POOL, trace


def ran(
    monkeypatch: pytest.MonkeyPatch, every: int, pool: PoolSettings = POOL, of: RequestTrace | None = None
) -> tuple[list[tuple[str, int, int | None]], list[tuple[float, int]]]:
    """Return the (kind, time, step before) of all that the engine was asked, and what was scaled; from second 0 on."""
    asked: list[tuple[str, int, int | None]] = []
    step, revise = Advisor.step, Advisor.revise

    def stepped(self: Advisor, inputs: StepInput) -> Any:
        asked.append(("step", inputs.as_of, None))
        return step(self, inputs)

    def revised(self: Advisor, inputs: RevisionInput) -> Any:
        asked.append(("revision", inputs.as_of, inputs.after))
        return revise(self, inputs)

    monkeypatch.setattr(Advisor, "step", stepped)
    monkeypatch.setattr(Advisor, "revise", revised)
    settings = Settings(pools=(pool,), advise={"revise_every_seconds": every})
    made = make_setup(of or trace(), settings, pool, Catalog(), start_up=StartUp(30.0), world=None, seed=0)
    run = run_policy(made, SPEC.policy(made), world=None, seed=0)
    told = [(kind, at - made.epoch, None if after is None else after - made.epoch) for kind, at, after in asked]
    return told, list(run.scaled)


def test_steps_and_revisions_come_in_the_order_of_event_time(monkeypatch: pytest.MonkeyPatch) -> None:
    told, _ = ran(monkeypatch, 15)
    assert told[:8] == [("revision", at, None) for at in range(-45, 61 - 1, 15)] + [("step", 60, None)]
    assert told[8:12] == [("revision", at, 60) for at in (75, 90, 105)] + [("step", 120, None)]
    times = [at for _, at, _ in told]
    assert times == sorted(set(times))
    slower, _ = ran(monkeypatch, 30)
    assert [at for kind, at, after in slower if kind == "revision" and after == 60] == [90]
    off, _ = ran(monkeypatch, 0)
    assert {kind for kind, _, _ in off} == {"step"}


@pytest.mark.slow
def test_a_fleet_that_is_full_is_scaled_before_the_first_window(monkeypatch: pytest.MonkeyPatch) -> None:
    arrival = np.arange(0.0, 240.0, 1 / 60.0)
    lengths = np.full(arrival.size, 2_000), np.full(arrival.size, 300)
    busy = RequestTrace("busy.csv", Requests.of(arrival, *lengths), 240.0)
    pool = POOL.model_copy(update={"initial_replicas": 1})
    _, before = ran(monkeypatch, 0, pool, busy)
    _, after = ran(monkeypatch, 15, pool, busy)
    assert before[0][0] == 135.0
    assert after[0][0] < 60.0
