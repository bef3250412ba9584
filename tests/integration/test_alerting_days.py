"""Whole days of one pool through the engine: no flapping, and silence about missing telemetry."""

import numpy as np
import pytest

from pipeline.alerts.types import AlertKind
from pipeline.config.settings import PoolSettings, load
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput
from pipeline.testing import closed_window

pytestmark = pytest.mark.integration

MODEL, POOL = "llama-3.1-8b-instruct", "chat"
START = 1_790_000_000 // 86_400 * 86_400
DAY = 1440
SPIKES = (AlertKind.SPIKE_OBSERVED, AlertKind.SPIKE_FORECAST)


def window(minute, rate, replicas=None):
    count = int(np.random.default_rng([9, minute]).poisson(rate * 60)) if rate else 0
    return closed_window(
        START + 60 * minute, count, model=MODEL, pool=POOL, current_replicas=replicas, ready_replicas=replicas
    )


def advisor():
    pool = PoolSettings(model=MODEL, pool=POOL, profile="llama-3.1-8b", accelerator="L40S", max_replicas=64)
    return Advisor(load().model_copy(update={"pools": (pool,)}))


def wave(minute):
    return 20.0 * (1.0 + 0.5 * np.sin(2.0 * np.pi * minute / DAY))


def test_a_day_at_constant_relative_load_does_not_flap():
    """The fleet follows the advice, so load over capacity stays put while demand swings threefold."""
    engine, alerts, replicas = advisor(), [], 4
    for minute in range(2 * DAY):
        output = engine.step(StepInput(START + 60 * (minute + 1), (window(minute, wave(minute), replicas),)))
        replicas = output.recommendations[0].desired
        if minute >= DAY:
            alerts += [a for a in output.alerts if a.kind in SPIKES]
    assert alerts == []


@pytest.mark.parametrize("level", [1.0, 1.02, 0.98])
def test_a_load_at_the_very_edge_makes_few_episodes(level):
    """Demand wavers around the capacity in place: a warning stays up or stays down, it does not flicker."""
    engine, episodes = advisor(), set()
    rates = [20.0] * 300 + [20.0 * 1.5 * level] * 300
    for minute, rate in enumerate(rates):
        output = engine.step(StepInput(START + 60 * (minute + 1), (window(minute, rate, 4),)))
        episodes |= {(a.kind, a.alert_id) for a in output.alerts if a.kind in SPIKES}
    for kind in SPIKES:
        assert sum(found == kind for found, _ in episodes) <= 1


@pytest.mark.parametrize("silent_minutes", [1, 5, 45])
def test_missing_telemetry_is_neither_a_drop_nor_a_spike(silent_minutes):
    engine, alerts = advisor(), []
    for minute in range(DAY // 2):
        silent = 400 <= minute < 400 + silent_minutes
        output = engine.step(
            StepInput(START + 60 * (minute + 1), (window(minute, 0.0 if silent else wave(minute), 8),))
        )
        alerts += [a for a in output.alerts if minute >= 390]
    assert {a.kind for a in alerts} == {AlertKind.TELEMETRY_GAP}
    assert len({a.alert_id for a in alerts}) == 1
    assert alerts[-1].ended_at is not None
