"""Experts by settings: names, other packages, scheduled regressors, and a column for each in a backtest."""

from __future__ import annotations

import importlib
import pickle
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from pipeline import extensions
from pipeline.errors import ConfigError
from pipeline.forecast.checks import check_expert
from pipeline.forecast.context import SeriesContext
from pipeline.forecast.experts import batch_regressor, default_experts
from pipeline.forecast.experts.batch_regressor import REGRESSORS, BatchRegressor
from pipeline.forecast.experts.registry import EXPERTS, check_expert_names, expert_factory, expert_names, make_experts
from pipeline.replay.backtest import run_backtest
from pipeline.replay.experts import expert_columns, expert_rows
from pipeline.replay.sources import DemandSeries

ROOT = Path(__file__).resolve().parents[3]


def context() -> SeriesContext:
    return SeriesContext((1, 3, 7), 48, 1800.0)


def test_the_default_setting_is_the_default_pool() -> None:
    assert expert_factory(("default",)) is default_experts


def test_experts_join_the_default_pool_once_and_the_last_value_comes_first() -> None:
    names = [expert.name for expert in make_experts(context(), ("kalman_trend", "default", "last"))]
    assert names[0] == "last"
    assert names.count("last") == 1
    assert {expert.name for expert in default_experts(context())} < set(names)


def test_a_pool_of_chosen_experts_pickles() -> None:
    factory = pickle.loads(pickle.dumps(expert_factory(("default", "damped_holt"))))
    assert "damped_holt" in [expert.name for expert in factory(context())]


def test_an_unknown_expert_names_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"unknown expert 'kalman'; did you mean .*Available: .*auto_arima"):
        check_expert_names(("default", "kalman"))


def test_an_expert_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_regressor, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"lightgbm needs lightgbm: install tokentide\[batch\]"):
        check_expert_names(("lightgbm",))


@pytest.mark.slow
def test_an_expert_of_another_package_conforms_and_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples" / "experts" / "tokentide_median")
    example = importlib.import_module("tokentide_median")
    check_expert(example.MedianExpert)
    point = EntryPoint("median", "tokentide_median:median_experts", "tokentide.experts")
    monkeypatch.setattr(extensions, "entry_points", lambda group: [point] if group == "tokentide.experts" else [])
    assert "median" in expert_names()
    assert "median_15" in [expert.name for expert in make_experts(context(), ("default", "median"))]


class Mean:
    """Predicts the mean change that it was fitted on."""

    def fit(self, features: np.ndarray, targets: np.ndarray) -> Mean:
        self.change = float(targets.mean())
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        return np.full(len(features), self.change)


class Broken(Mean):
    def fit(self, features: np.ndarray, targets: np.ndarray) -> Mean:
        raise RuntimeError("singular")


def regressor(monkeypatch: pytest.MonkeyPatch, kind: type[Mean]) -> None:
    monkeypatch.setitem(REGRESSORS, "fake", ("numpy", kind))


@pytest.mark.slow
def test_a_scheduled_regressor_conforms(monkeypatch: pytest.MonkeyPatch) -> None:
    regressor(monkeypatch, Mean)
    check_expert(lambda made: BatchRegressor(made, "fake", 8 * 1800.0), state_bytes=40_000)


def test_a_regressor_that_cannot_be_fitted_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    regressor(monkeypatch, Broken)
    shared = context()
    expert = BatchRegressor(shared, "fake")
    for index in range(200):
        shared.push(index, 10.0 + index % 7)
        expert.learn_one(10.0)
    assert not expert.awake
    assert np.isfinite(expert.forecast()).all()


@pytest.mark.statsforecast
@pytest.mark.parametrize("name", sorted(REGRESSORS))
def test_real_regressors_conform(name: str) -> None:
    pytest.importorskip(REGRESSORS[name][0], reason=f"{REGRESSORS[name][0]} is not installed (tokentide[batch])")
    check_expert(lambda made: BatchRegressor(made, name, 96 * 1800.0), state_bytes=2_000_000)


def series() -> DemandSeries:
    at = np.arange(4 * 48)
    values = np.round(100 + 40 * np.sin(2 * np.pi * at / 48) + np.random.default_rng(3).normal(0, 4, at.size))
    return DemandSeries(name="chat", start=0, step_seconds=1800, values=values, rows=at.size)


@pytest.mark.slow
def test_a_backtest_has_a_column_for_each_expert() -> None:
    plain = run_backtest([series()], horizons_seconds=(1800, 3600))
    assert plain.experts == ()
    chosen = run_backtest([series()], horizons_seconds=(1800, 3600), experts=("default", "kalman_trend"))
    names = {score.expert for score in chosen.experts}
    assert {"last", "seasonal_naive", "kalman_trend"} <= names
    last = {score.horizon_seconds: score for score in chosen.experts if score.expert == "last"}
    for score in chosen.scores:
        assert last[score.horizon_seconds].wape == pytest.approx(score.last_value_wape, rel=1e-5)
    columns, rows = expert_columns(chosen.experts), expert_rows(chosen.experts)
    assert len(rows) == 2
    assert all(len(row) == len(columns) for row in rows)
    assert "kalman_trend" in columns


@pytest.mark.slow
def test_every_built_in_name_can_be_checked_or_names_what_it_needs() -> None:
    for name in EXPERTS:
        try:
            check_expert_names((name,))
        except ConfigError as error:
            assert "install tokentide[" in str(error)  # noqa: PT017
