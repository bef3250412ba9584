"""Conformance checks that every expert must pass; public, so that new experts need no bespoke test to be safe."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.forecast.context import SeriesContext
from pipeline.forecast.experts.base import Expert

__all__ = ["check_expert"]

_STEPS = (1, 3, 7)
_SEASON = 48
_GRAIN_SECONDS = 1800.0
_STATE_BYTES = 20_000


def check_expert(factory: Callable[[SeriesContext], Expert], state_bytes: int | None = None) -> None:
    """Put the expert that ``factory`` makes through ordinary and hostile series.

    Forecasts must have one finite, non-negative value per horizon, before anything was learned too; two runs and a run
    pickled in the middle must agree bit for bit; the state (without the shared context) must not grow; multiplying the
    series must multiply the forecasts; gaps must not teach anything but the passing of time; on a constant series the
    forecast must be that constant. ``state_bytes`` allows a larger state, which may then grow up to it.

    Raises:
        AssertionError: the expert does not conform; the message names what.
    """
    for name, series in _hostile_series().items():
        first, second = _run(factory, series), _run(factory, series, pickle_at=len(series) // 2)
        assert all(np.isfinite(row).all() and (row >= 0.0).all() for row in first), f"{name}: not finite, or negative"
        assert all(row.shape == (len(_STEPS),) for row in first), f"{name}: not one value per horizon"
        assert np.array_equal(np.array(first), np.array(second)), f"{name}: a pickled copy goes its own way"
    _check_scale(factory)
    _check_constant(factory)
    _check_size(factory, state_bytes)
    _check_untaught(factory)


def _run(
    factory: Callable[[SeriesContext], Expert], series: Sequence[float | None], pickle_at: int = -1
) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    expert = factory(SeriesContext(_STEPS, _SEASON, _GRAIN_SECONDS))
    rows = []
    for index, value in enumerate(series):
        if index == pickle_at:
            expert = pickle.loads(pickle.dumps(expert))
        expert.context.push(index, value)
        expert.learn_one(value)
        rows.append(expert.forecast().copy())
    return rows


def _ordinary(count: int = 9 * _SEASON) -> list[float]:
    random = np.random.default_rng(5)
    course = 100.0 + 50.0 * np.sin(2.0 * np.pi * np.arange(count) / _SEASON)
    return list((course + random.normal(0.0, 5.0, count)).tolist())


def _hostile_series() -> dict[str, list[float | None]]:
    ordinary: list[float | None] = [*_ordinary()]
    middle = len(ordinary) // 2
    gap = [None if middle <= at < middle + 30 else value for at, value in enumerate(ordinary)]
    burst = [5000.0 if at == middle else value for at, value in enumerate(ordinary)]
    return {
        "ordinary": ordinary,
        "starts with a gap": [None, None, *ordinary],
        "gap": gap,
        "every second missing": [value if at % 2 else None for at, value in enumerate(ordinary)],
        "burst": burst,
        "zeros": [0.0] * 100,
        "zeros, then demand": [*([0.0] * 100), *ordinary],
        "demand, then zeros": [*ordinary, *([0.0] * 100)],
        "unit change": [*ordinary, *(1e4 * value for value in _ordinary()), *(1e-4 * value for value in _ordinary())],
        "tiny": [1e-9 * value for value in _ordinary()],
        "huge": [1e11 * value for value in _ordinary()],
        "alternating": [0.0, 1e6] * 100,
    }


def _check_scale(factory: Callable[[SeriesContext], Expert]) -> None:
    ordinary = _ordinary()
    plain, scaled = _run(factory, ordinary), _run(factory, [1e5 * value for value in ordinary])
    assert np.allclose(np.array(plain) * 1e5, np.array(scaled), rtol=1e-2), "the forecast depends on the unit"


def _check_constant(factory: Callable[[SeriesContext], Expert]) -> None:
    rows = _run(factory, [7.0] * (3 * _SEASON))
    assert np.allclose(rows[-1], 7.0, rtol=1e-3), f"a constant 7 is forecast as {rows[-1]}"


def _check_size(factory: Callable[[SeriesContext], Expert], state_bytes: int | None) -> None:
    expert = factory(SeriesContext(_STEPS, _SEASON, _GRAIN_SECONDS))
    sizes = []
    for index, value in enumerate(_ordinary(12 * _SEASON)):
        expert.context.push(index, value)
        expert.learn_one(value)
        if index in (6 * _SEASON, 12 * _SEASON - 1):
            sizes.append(len(pickle.dumps(expert)) - len(pickle.dumps(expert.context)))
    if state_bytes is not None:
        assert sizes[1] <= state_bytes, f"the state takes {sizes[1]} bytes"
        return
    assert sizes[1] <= 1.02 * sizes[0] + 64, f"the state grows from {sizes[0]} to {sizes[1]} bytes"
    assert sizes[1] <= _STATE_BYTES, f"the state takes {sizes[1]} bytes"


def _check_untaught(factory: Callable[[SeriesContext], Expert]) -> None:
    expert = factory(SeriesContext(_STEPS, _SEASON, _GRAIN_SECONDS))
    ahead = expert.forecast()
    assert ahead.shape == (len(_STEPS),), "not one value per horizon before anything was learned"
    assert np.isfinite(ahead).all(), "not finite before anything was learned"
    expert.context.push(0, None)
    expert.learn_one(None)
    assert np.array_equal(expert.forecast(), np.zeros(len(_STEPS))), "a gap taught something"
