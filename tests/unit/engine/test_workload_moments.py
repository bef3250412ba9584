import numpy as np
import pytest

from pipeline.engine.workload_moments import ArrivalDispersion, LengthMoments
from pipeline.windows.types import ClosedWindow


def window(inputs, outputs, cached=0, start=0, gap=False):
    n, m = np.array(inputs, dtype=int), np.array(outputs, dtype=int)
    return ClosedWindow(
        start=start,
        grain_seconds=60,
        model="m",
        pool="p",
        requests=len(n),
        ok=len(n),
        rejected=0,
        input_tokens=int(n.sum()),
        cached_input_tokens=cached,
        output_tokens=int(m.sum()),
        input_tokens_squared=int((n**2).sum()),
        output_tokens_squared=int((m**2).sum()),
        input_output_product=int((n * m).sum()),
        kv_token_milliseconds=0,
        inflight_milliseconds=0,
        preemptions=0,
        gap=gap,
    )


def test_moments_of_one_window_are_those_of_its_requests():
    moments = LengthMoments()
    moments.learn(window([10, 30], [1, 5], cached=8))
    workload = moments.workload()
    assert workload.input_tokens == 20
    assert workload.output_tokens == 3
    assert workload.input_tokens_squared == 500
    assert workload.input_output_product == 80
    assert workload.cached_share == pytest.approx(0.2)


def test_unknown_before_the_first_request():
    moments = LengthMoments()
    moments.learn(window([], []))
    assert moments.workload() is None


def test_a_gap_teaches_nothing_and_forgets_nothing():
    moments = LengthMoments()
    moments.learn(window([10], [2]))
    before = moments.workload()
    moments.learn(window([9999], [9999], gap=True))
    assert moments.workload() == before


def test_a_quiet_window_weighs_less_than_a_busy_one():
    moments = LengthMoments(half_life_seconds=1e9)
    moments.learn(window([100] * 99, [10] * 99))
    moments.learn(window([1000], [10]))
    assert moments.workload().input_tokens == pytest.approx(109, rel=1e-3)


def test_old_requests_fade_with_the_half_life():
    moments = LengthMoments(half_life_seconds=60)
    moments.learn(window([100] * 10, [1] * 10))
    moments.learn(window([400] * 10, [1] * 10))
    assert moments.workload().input_tokens == pytest.approx(300)


def test_dispersion_of_poisson_counts_is_one_even_on_a_slope():
    counts = np.random.default_rng(3).poisson(np.linspace(200, 400, 3000))
    dispersion = ArrivalDispersion()
    seen = []
    for count in counts:
        dispersion.learn(float(count))
        seen.append(dispersion.value)
    assert np.mean(seen[300:]) == pytest.approx(1.0, abs=0.1)


def test_dispersion_of_bursty_counts_is_large():
    rng = np.random.default_rng(3)
    dispersion = ArrivalDispersion()
    for rate in rng.gamma(5.0, 60.0, size=2000):
        dispersion.learn(float(rng.poisson(rate)))
    assert dispersion.index() > 5


def test_bursts_of_the_first_windows_count_within_minutes():
    # Requests per minute of one that comes in bursts: after ten minutes every second one was silent.
    dispersion = ArrivalDispersion()
    for count in (30.0, 400.0) * 5:
        dispersion.learn(count)
    assert 5 < dispersion.index() < 10


def test_one_jump_of_the_first_windows_hardly_counts():
    dispersion = ArrivalDispersion()
    for count in (120.0, 120.0, 120.0, 240.0, 240.0, 240.0, 240.0, 240.0):
        dispersion.learn(count)
    assert dispersion.index() < 1.6


def test_a_pair_of_windows_counts_no_more_than_the_ceiling():
    dispersion = ArrivalDispersion(ceiling=10.0)
    for count in (0.0, 1e6) * 200:
        dispersion.learn(count)
    assert 9.5 < dispersion.index() <= 10.0


def test_swings_that_requests_missed_their_objective_by_count_for_more():
    dispersion = ArrivalDispersion()
    for count in (0.0, 1e6) * 200:
        dispersion.learn(count)
    kept = dispersion.index()
    told = []
    for missed in (0.25, 0.5, 1.0):
        dispersion.missed = missed
        told.append(dispersion.index())
    assert kept < told[0] < told[1] < told[2] <= 20.0
    assert told[2] > 19.0


def test_what_was_missed_by_arrivals_without_swings_hardly_counts():
    # Requests that miss the objective while replicas start say nothing about how the next ones come.
    rng = np.random.default_rng(7)
    missed = ArrivalDispersion(missed=1.0)
    seen = []
    for count in rng.poisson(100.0, size=200):
        missed.learn(float(count))
        seen.append(missed.index())
    assert max(seen) < 1.6
    assert np.mean(seen) < 1.3


def test_a_gap_breaks_the_succession():
    dispersion = ArrivalDispersion()
    for count in (100.0, None, 900.0):
        dispersion.learn(count)
    assert dispersion.index() == 1.0
