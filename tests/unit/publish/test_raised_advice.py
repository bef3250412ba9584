"""Advice that was raised between two windows, for everybody who looks: after a restart at once, until it expires."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.clock import ManualClock
from pipeline.config.settings import PoolSettings
from pipeline.engine.types import Reading, StepOutput
from pipeline.publish.autoscaler import autoscaler_replicas
from pipeline.publish.exporter import Exporter
from pipeline.publish.state import LiveState
from pipeline.store.store import Store
from pipeline.windows.fleet import FleetReport, ReplicaCount
from pipeline.windows.types import PoolKey
from tests.unit.store.support import NOW, advice

POOL = PoolSettings(model="m", pool="p", profile="llama-3.1-8b", accelerator="H100-SXM")
READING = Reading(PoolKey("m", "p"), FleetReport(NOW + 130.0, 40, None, (ReplicaCount(NOW + 130.0, 4, 4),), None), 4, 4)


@pytest.mark.slow
@pytest.mark.parametrize("stepped", [True, False], ids=["after a step", "before the first step"])
def test_it_is_shown_at_the_first_look_after_a_restart_and_expires(tmp_path: Path, *, stepped: bool) -> None:
    raised = replace(advice(), desired=8, generation=4, issued_at=NOW + 75.0, expires_at=NOW + 375.0)
    with Store.open(tmp_path / "s.duckdb") as store:
        if stepped:
            store.record_step(StepOutput(NOW + 60, recommendations=(advice(),)))
        store.record_revision(StepOutput(NOW + 75, recommendations=(raised,), readings=(READING,)))
    clock = ManualClock(NOW + 140.0)
    live = LiveState(clock, [POOL], "abc")
    with Store.open(tmp_path / "s.duckdb") as store:
        stored = store.last_output()
    assert stored is not None
    live.restore(stored)

    def seen() -> tuple[int | None, int | None, list[str]]:
        view = live.pool("m", "p")
        assert view is not None
        shown = None if view.recommendation is None else view.recommendation.desired
        text = Exporter(live).render().decode()
        lines = [line for line in text.splitlines() if line.startswith("tokentide_recommended_replicas{")]
        return shown, autoscaler_replicas(view), lines

    shown, scaled, lines = seen()
    assert (shown, scaled) == (8, 8)
    assert lines == ['tokentide_recommended_replicas{model="m",pool="p"} 8.0']
    assert live.advised_at() == NOW + 75
    assert live.as_of() == (NOW + 60 if stepped else None)
    assert not live.counters().revisions, "nothing of an earlier process is counted"
    clock.set(NOW + 374.0)
    assert seen()[0] == 8
    clock.set(NOW + 375.0)
    shown, _, lines = seen()
    assert (shown, lines) == (None, [])
