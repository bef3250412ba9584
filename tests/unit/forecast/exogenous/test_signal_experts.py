"""Experts that use signals: a signal that leads demand is worth something, and none changes nothing."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest

from pipeline.forecast.context import SeriesContext
from pipeline.forecast.exogenous.known import Exogenous, KnownExogenous
from pipeline.forecast.exogenous.rows import SignalValue
from pipeline.forecast.experts.batch_regressor import REGRESSORS, BatchRegressor
from pipeline.forecast.experts.registry import make_experts
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.tenants import TenantForecaster
from pipeline.forecast.types import SeriesKey, Signal

GRAIN, HORIZONS = 1800, (1800, 5400)
KEY = SeriesKey("m", "default", Signal.REQUESTS)


class Linear:
    """Least squares with scikit-learn's two verbs."""

    def fit(self, features: np.ndarray, targets: np.ndarray) -> Linear:
        self.weights = np.linalg.lstsq(np.column_stack([features, np.ones(len(features))]), targets, rcond=None)[0]
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        return np.column_stack([features, np.ones(len(features))]) @ self.weights


@pytest.fixture
def fake_regressor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGRESSORS, "linear", ("numpy", Linear))


def experts(context: SeriesContext) -> tuple:
    names = ("least_squares", "river_bayesian_linear", "river_adaptive_forest")
    return (*make_experts(context, names), BatchRegressor(context, "linear", 48 * GRAIN))


def errors(led: bool, cut: int = -1) -> dict[str, float]:
    """Each expert's mean error three windows ahead; demand jumps at random, a signal says so two windows before."""
    random = np.random.default_rng(7)
    jumps = np.repeat(random.choice([0.0, 1.0, 2.0], 100), 4)
    demand = 100.0 + 40.0 * jumps + random.normal(0.0, 1.0, jumps.size)
    known = KnownExogenous(GRAIN, HORIZONS, ["orders"])
    model = SeriesForecaster(KEY, HORIZONS, GRAIN, 48 * GRAIN, experts, signal_count=1)
    missed: dict[str, list[float]] = {}
    for at in range(jumps.size - 3):
        if at == cut:
            model, known = pickle.loads(pickle.dumps((model, known)))
        end = GRAIN * (at + 1.0)
        ahead = [SignalValue("orders", end + GRAIN * step, end, float(jumps[at + step])) for step in range(4)]
        known.step(end, ahead if led else [])
        model.step(end, float(demand[at]), exogenous=known.of(KEY))
        if at > 200:
            for expert in model.pool.experts:
                missed.setdefault(expert.name, []).append(abs(expert.forecast()[1] - demand[at + 3]))
    return {name: float(np.mean(found)) for name, found in missed.items()}


@pytest.mark.slow
def test_a_leading_signal_halves_the_error_and_a_restart_changes_nothing(fake_regressor: None) -> None:
    with_signal, without = errors(True), errors(False)
    assert with_signal["last"] == without["last"]
    for name in ("least_squares", "river_bayesian_linear", "linear"):
        assert with_signal[name] < 0.5 * without[name], name
    # Shallow trees that are grown online learn less from it.
    assert with_signal["river_adaptive_forest"] < 0.9 * without["river_adaptive_forest"]
    assert errors(True, cut=233) == with_signal


@pytest.mark.slow
def test_signals_that_say_nothing_leave_the_other_experts_alone() -> None:
    values = (100.0 + np.random.default_rng(3).normal(0.0, 5.0, 120)).tolist()
    plain = SeriesForecaster(KEY, HORIZONS, GRAIN, 48 * GRAIN)
    given = SeriesForecaster(KEY, HORIZONS, GRAIN, 48 * GRAIN)
    for at, value in enumerate(values):
        end = GRAIN * (at + 1.0)
        assert plain.step(end, value) == given.step(end, value, (), Exogenous(None, None))


@pytest.mark.slow
def test_external_forecasts_are_of_the_total_of_all_tenants() -> None:
    names = ("last", "least_squares", "external")
    model = TenantForecaster(KEY, HORIZONS, GRAIN, 2, 48 * GRAIN, partial(make_experts, names=names), signal_count=1)
    given = Exogenous(np.array([300.0, 300.0]), np.ones((1, 3)))
    for at in range(60):
        said = model.step(GRAIN * (at + 1.0), 100.0 + at % 3, {"a": 60.0, "b": 20.0}, (), given)
    assert set(said.parts) == {"a", "b", "*"}
    own, part = model._total.pool.experts[-1], model._parts["a"].pool.experts[-1]
    assert own.name == part.name == "external"
    assert own.awake
    assert not part.awake
