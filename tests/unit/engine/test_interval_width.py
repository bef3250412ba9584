"""The interval holds the nominal share of the needs, whatever its errors are."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.interval_width import NOMINAL_LEVEL, IntervalWidth
from sizing.planning.interval import interval_level, scaled_interval, width_ratio

#: Advice is scored so many windows after it was given.
DELAY = 5


def covered(errors: list[float], *, adapts: bool) -> list[bool]:
    """Whether intervals around 100 replicas, told for a log error of 0.1 at 10–90 %, held what came."""
    subject, pending, said = IntervalWidth(), [], []
    for error in errors:
        lower, upper = scaled_interval(100 * math.exp(-0.1), 100.0, 100 * math.exp(0.1), subject.ratio)
        said.append(lower <= 100 * math.exp(error) <= upper)
        pending.append(said[-1])
        if adapts and len(pending) > DELAY:
            subject.learn(pending.pop(0))
    return said


@pytest.mark.parametrize(
    ("wrong", "after"),
    [(3.0, 3.0), (0.3, 0.3), (0.5, 3.0), (4.0, 0.4)],
    ids=["too narrow", "too wide", "grows", "shrinks"],
)
@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "heavy tails and runs"])
def test_series_that_were_covered_badly_are_covered_as_meant(wrong: float, after: float, heavy: bool) -> None:
    draws, count = np.random.default_rng(3), 6_000
    noise = draws.standard_t(3, count) if heavy else draws.standard_normal(count)
    if heavy:  # errors come in runs
        noise = np.convolve(noise, [0.6, 0.5, 0.4], mode="same")
    scale = np.repeat([wrong, after], count // 2) * 0.1 / width_ratio(0.8) / 1.2816
    errors = (noise * scale).tolist()
    fixed = np.mean(covered(errors, adapts=False)[-2_000:])
    adapted = np.mean(covered(errors, adapts=True)[-2_000:])
    assert not 0.85 <= fixed <= 0.95
    assert 0.87 <= adapted <= 0.93


@given(st.lists(st.booleans(), max_size=300), st.integers(0, 300))
def test_the_width_is_bounded_and_goes_on_after_a_restart(outcomes: list[bool], cut: int) -> None:
    whole, parts = IntervalWidth(), IntervalWidth()
    for at, one in enumerate(outcomes):
        if at == cut:
            parts = pickle.loads(pickle.dumps(parts))
        whole.learn(one)
        parts.learn(one)
        assert 0 < whole.ratio < 10
        assert 0 < whole.evidence()["interval_level_ratio"] < 1
    assert parts.ratio == whole.ratio
    if not outcomes:
        assert whole.evidence()["interval_level_ratio"] == pytest.approx(NOMINAL_LEVEL)


@given(
    st.lists(st.just(0.0) | st.floats(1e-3, 1e6), min_size=3, max_size=3).map(sorted),
    st.floats(0.2, 8.0),
    st.floats(1.0, 2.0),
)
def test_a_wider_interval_holds_a_narrower_one_and_the_median(bounds: list[float], ratio: float, more: float) -> None:
    lower, median, upper = bounds
    narrow, wide = (scaled_interval(lower, median, upper, by) for by in (ratio, ratio * more))
    assert 0 <= wide[0] <= narrow[0] * (1 + 1e-9)
    assert narrow[0] <= median * (1 + 1e-9)
    assert median <= narrow[1] * (1 + 1e-9)
    assert narrow[1] <= wide[1] * (1 + 1e-9)
    assert scaled_interval(lower, median, upper, 1.0) == pytest.approx((lower, upper), rel=1e-6)


@given(st.floats(0.05, 0.999))
def test_levels_and_widths_are_the_inverse_of_each_other(level: float) -> None:
    assert interval_level(width_ratio(level)) == pytest.approx(level, abs=1e-9)
