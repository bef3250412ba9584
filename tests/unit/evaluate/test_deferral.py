"""A trace with work that may wait: every request once, none late, the peak lower once a day was seen."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.evaluate.deferral import Deferral, deferred_trace
from pipeline.evaluate.trace import RequestTrace
from sizing.simulate import Requests
from tests.unit.evaluate.pools import POOL, SETTINGS

DAY = 86_400


@functools.cache
def three_days():
    """Requests by a daily wave, and a setup of which one replica carries few: what a large fleet sees of a wave."""
    random = np.random.default_rng(1)
    at = np.sort(random.uniform(0, 3 * DAY, 12_000))
    at = at[random.random(at.size) < (1 + 0.8 * np.sin(2 * np.pi * at / DAY)) / 1.8]
    windows = SETTINGS.windows.model_copy(update={"grain_seconds": 600})
    setup = SimpleNamespace(
        settings=SETTINGS.model_copy(update={"windows": windows}),
        pool=POOL,
        epoch=1_767_571_200,
        load_test=SimpleNamespace(requests_per_second=0.001),
    )
    return RequestTrace("wave.csv", Requests.of(at, 1000.0, 100.0), float(3 * DAY)), setup


def by_hour(trace):
    return np.bincount((trace.requests.arrival_seconds // 3600).astype(int), minlength=72)


@pytest.mark.slow
def test_the_peak_of_the_third_day_is_lower_and_no_request_is_late_or_lost():
    trace, setup = three_days()
    moved, outcome = deferred_trace(trace, setup, Deferral(0.3, 8 * 3600.0), 0)
    assert len(moved.requests) == len(trace.requests)
    assert (np.diff(moved.requests.arrival_seconds) >= 0).all()
    assert outcome.late == 0
    assert outcome.wait_max_seconds <= 8 * 3600
    assert by_hour(moved)[48:72].max() < 0.9 * by_hour(trace)[48:72].max()
    again, _ = deferred_trace(trace, setup, Deferral(0.3, 8 * 3600.0), 0)
    assert (again.requests.arrival_seconds == moved.requests.arrival_seconds).all()


@pytest.mark.parametrize(
    ("share", "deadline", "quantile", "words"),
    [
        (0.0, 60.0, 0.5, "share"),
        (1.0, 60.0, 0.5, "share"),
        (0.5, 0.0, 0.5, "deadline"),
        (0.5, 1e9, 0.5, "deadline"),
        (0.5, 60.0, 0.6, "quantile"),
    ],
)
def test_what_cannot_be_is_refused(share, deadline, quantile, words):
    with pytest.raises(InputError, match=words):
        Deferral(share, deadline, quantile)
