"""What one pool takes after simulated months stays within a number of bytes."""

from __future__ import annotations

import math
import pickle
import sys

import numpy as np
import pytest

from pipeline.engine.advice_scores import SCORE_SPANS, AdviceScores
from pipeline.engine.span_sums import SpanSums
from pipeline.forecast.outlook import OutlookForecaster
from pipeline.forecast.types import SeriesKey, Signal
from pipeline.windows.types import PoolKey

HOUR, DAY = 3_600, 86_400
START = 1_700_006_400 // DAY * DAY


@pytest.mark.slow
def test_outlooks_of_four_signals_after_a_month() -> None:
    """What learns them, packed, and what they say; the older months add a few bytes a day."""
    random = np.random.default_rng(1)
    outlooks = OutlookForecaster([SeriesKey("m", "p", signal) for signal in Signal])
    for hour in range(31 * 24):
        rate = 20.0 * (1.0 + 0.5 * math.sin(hour * math.pi / 12))
        values = [rate * size * float(random.normal(1.0, 0.03)) for size in (1.0, 900.0, 200.0, 4_000.0)]
        outlooks.step(float(START + HOUR * (hour + 1)), values, float(HOUR))
    assert len(pickle.dumps(outlooks, protocol=4)) <= 85_000


def test_what_outlooks_say_is_kept_as_numbers() -> None:
    outlooks = OutlookForecaster([SeriesKey("m", "p", signal) for signal in Signal])
    for hour in range(4 * 24):
        outlooks.step(float(START + HOUR * (hour + 1)), [20.0 + hour % 5] * 4, float(HOUR))
    said = [one for of_signal in outlooks.outlooks for one in of_signal]
    assert len(said) == 8
    assert sum(len(one.forecasts) for one in said) == 64
    # Eight bytes for each of 512 quantiles and 144 numbers of growth, and little else; as objects they took 34 kB.
    assert sum(sys.getsizeof(numbers) for one in said for numbers in (one._quantiles, one._growth)) <= 7_500
    assert len(pickle.dumps(said, protocol=4)) <= 7_500


def test_scores_of_two_months_of_advice() -> None:
    scores = AdviceScores(PoolKey("m", "p"))
    sums: SpanSums = scores._sums
    for minute in range(0, 60 * DAY // 60, 10):
        at = START + 60 * minute
        busy = minute // 60 % 3
        sums.add(at, (1, busy == 0, busy == 1, 1, 1, busy / 60, (2 - busy) / 60, 0.0, 0, 0, 0, 0))
        sums.forget(at + 60)
    assert len(sums) <= SCORE_SPANS["7d"] // HOUR + SCORE_SPANS["30d"] // DAY + 2
    # 200 periods of twelve sums of eight bytes would be 19 kB.
    assert len(pickle.dumps(sums, protocol=4)) <= 6_000
