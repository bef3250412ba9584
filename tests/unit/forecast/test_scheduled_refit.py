"""Batch models on a schedule: the conformance checks, the schedule, and failures that do no harm."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from pipeline.forecast.checks import check_expert
from pipeline.forecast.context import SeriesContext
from pipeline.forecast.experts import scheduled_refit
from pipeline.forecast.experts.registry import make_experts
from pipeline.forecast.experts.scheduled_refit import MODELS, ScheduledRefit
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import SeriesKey

STEPS, SEASON, GRAIN = (1, 3, 7), 48, 1800.0


class Drift:
    """A model that continues the last value by one a step, and notes how often it was fitted."""

    fits = 0

    def forecast(self, y: np.ndarray, h: int) -> dict[str, np.ndarray]:
        Drift.fits += 1
        return {"mean": y[-1] + (np.arange(h) + 1.0) * (y[-1] - y[-2])}


class Broken:
    def forecast(self, y: np.ndarray, h: int) -> dict[str, np.ndarray]:
        raise RuntimeError("singular")


def expert(monkeypatch: pytest.MonkeyPatch, model: type, refit_seconds: float = 4 * GRAIN) -> ScheduledRefit:
    monkeypatch.setitem(MODELS, "fake", lambda season_steps: model())
    monkeypatch.setattr(scheduled_refit, "find_spec", lambda name: object())
    return ScheduledRefit(SeriesContext(STEPS, SEASON, GRAIN), "fake", refit_seconds)


def feed(one: ScheduledRefit, values: list[float | None], start: int = 0) -> list[np.ndarray]:
    rows = []
    for index, value in enumerate(values, start):
        one.context.push(index, value)
        one.learn_one(value)
        rows.append(one.forecast())
    return rows


def test_it_is_fitted_on_schedule_and_follows_its_path_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    Drift.fits = 0
    one = expert(monkeypatch, Drift)
    rows = feed(one, [100.0 + at for at in range(40)])
    assert not one.context.flat(0.0).any()
    # First with 24 values, then at every fourth window.
    assert Drift.fits == 1 + len([at for at in range(24, 40) if at % 4 == 0])
    assert np.allclose(rows[30], 130.0 + np.array(STEPS))
    assert one.awake


def test_a_path_is_moved_by_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    one = expert(monkeypatch, Drift, refit_seconds=40 * GRAIN)
    feed(one, [100.0 + at for at in range(30)])
    rows = feed(one, [100.0 + at + 20.0 for at in range(30, 38)], start=30)
    assert np.allclose(rows[-1], 157.0 + np.array(STEPS), atol=0.2)


def test_a_model_that_fails_leaves_the_expert_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    one = expert(monkeypatch, Broken)
    rows = feed(one, [100.0 + at for at in range(40)])
    assert not one.awake
    assert np.allclose(rows[-1], 139.0)


def test_a_long_gap_puts_it_to_sleep_and_demand_wakes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    one = expert(monkeypatch, Drift)
    feed(one, [100.0 + at for at in range(30)])
    feed(one, [None] * 20, start=30)
    assert not one.awake
    feed(one, [150.0, 151.0], start=50)
    assert one.awake


def test_names_are_checked_and_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    context = SeriesContext(STEPS, SEASON, GRAIN)
    with pytest.raises(ValueError, match="auto_ets"):
        ScheduledRefit(context, "oracle")
    monkeypatch.setattr(scheduled_refit, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"tokentide\[statsforecast\]"):
        ScheduledRefit(context, "auto_ets")
    with pytest.raises(ValueError, match=r"tokentide\[prophet\]"):
        ScheduledRefit(context, "prophet")


@pytest.mark.statsforecast
@pytest.mark.parametrize("model", ["auto_ets", "auto_arima"])
def test_the_real_ones_conform(model: str) -> None:
    pytest.importorskip("statsforecast", reason="needs the extra statsforecast")
    check_expert(partial(ScheduledRefit, model=model, refit_seconds=2 * 86_400.0))


@pytest.mark.statsforecast
def test_in_a_pool_it_is_weighed_by_its_record() -> None:
    pytest.importorskip("statsforecast", reason="needs the extra statsforecast")
    experts = partial(make_experts, names=("last", "ewma", "auto_ets"))
    model = SeriesForecaster(SeriesKey("m", "p", "requests_per_second"), (1800, 5400), 1800, experts=experts)
    random = np.random.default_rng(0)
    for at in range(150):
        forecasts = model.step((at + 1) * 1800.0, 100.0 + at + random.normal())
    assert forecasts[1].quantiles[3] == pytest.approx(252.0, abs=5.0)
    assert model.pool.weights[1, model.pool.names.index("auto_ets")] > 0.5


@pytest.mark.statsforecast
def test_prophet_repeats_the_season_and_itself() -> None:
    pytest.importorskip("prophet", reason="prophet is not installed (tokentide[prophet])")
    values = [100.0 + 40.0 * np.sin(2 * np.pi * at / SEASON) for at in range(2 * SEASON)]

    def path() -> np.ndarray:
        one = ScheduledRefit(SeriesContext(STEPS, SEASON, GRAIN), "prophet", SEASON * GRAIN)
        return feed(one, list(values))[-1]

    first = path()
    expected = [100.0 + 40.0 * np.sin(2 * np.pi * (2 * SEASON - 1 + step) / SEASON) for step in STEPS]
    assert np.allclose(first, expected, atol=10.0)
    assert np.array_equal(first, path())
