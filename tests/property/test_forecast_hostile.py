"""Whatever comes in, forecasts stay finite, non-negative and ordered, and a pickled copy goes the same way."""

import math
import pickle

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.alerts.spikes.detector import Direction, Kind, SpikeDetector, forecast_breach
from pipeline.forecast.series import MAX_VALUE, SeriesForecaster
from pipeline.forecast.types import LEVELS, SeriesKey

values = st.one_of(
    st.none(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1e-300, 1e-9, 1.0, 1e7, MAX_VALUE, -0.0]),
    st.floats(0.0, 1e7),
)
windows = st.lists(st.tuples(st.integers(1, 3) | st.integers(1, 10**6), values), min_size=1, max_size=60)


@settings(max_examples=40, deadline=None)
@given(windows, st.integers(0, 60))
def test_forecasts_are_sound_whatever_comes(steps, pickle_at):
    model = SeriesForecaster(SeriesKey("m", "p", "r"), (60, 180), 60, 1800)
    twin = SeriesForecaster(SeriesKey("m", "p", "r"), (60, 180), 60, 1800)
    detector = SpikeDetector(1.0, 60)
    end, issued = 0.0, ()
    for at, (gap, value) in enumerate(steps):
        if at == pickle_at:
            twin = pickle.loads(pickle.dumps(twin))
        end += 60.0 * gap
        state = detector.observe(end, value, issued)
        assert state.score is None or math.isfinite(state.score)
        issued = model.step(end, value)
        assert issued == twin.step(end, value)
        for forecast in issued:
            assert all(math.isfinite(quantile) and quantile >= 0.0 for quantile in forecast.quantiles)
            assert list(forecast.quantiles) == sorted(forecast.quantiles)
            assert 0.0 <= forecast_breach(forecast.quantiles, LEVELS, 10.0) <= 1.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3) | st.integers(1, 10**6), values), min_size=60, max_size=200))
def test_a_detector_of_any_kind_is_sound_whatever_comes(steps):
    detector = SpikeDetector(1.0, 60, 1.0, Direction.BOTH, kind=Kind.ANY)
    end = 0.0
    for gap, value in [*steps, *steps]:
        end += 60.0 * gap
        state = detector.observe(end, value)
        assert state.score is None or math.isfinite(state.score)
        assert state.p_value is None or 0.0 <= state.p_value <= 1.0
