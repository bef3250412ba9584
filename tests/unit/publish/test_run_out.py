"""When the running replicas of a pool run out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.forecast.outlook import Grain, Outlook
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey, Signal
from pipeline.publish.run_out import CAPACITY_EVIDENCE, headroom, run_out
from pipeline.publish.views import PoolView
from tests.publish_feed import Feed

FEED = Feed()
FEED.step()
VIEW = FEED.live.pool("llama-3.1-8b-instruct", "chat")
assert VIEW is not None
assert VIEW.recommendation is not None
assert VIEW.window is not None
AT = float(VIEW.window.end)
CURRENT = VIEW.recommendation.current
assert CURRENT is not None
SEEN = VIEW.window.requests / 60 / VIEW.window.completeness


def _view(
    medians: dict[int, float], capacity: float, signal: Signal = Signal.REQUESTS, spread: float = 1.5
) -> PoolView:
    """The pool with a forecast of one signal only, of which one replica carries ``capacity``."""
    assert VIEW is not None
    assert VIEW.recommendation is not None
    series = SeriesKey(VIEW.key.model, VIEW.key.pool, Signal.REQUESTS)
    values = {
        seconds: tuple(m * (1.0 if level <= 0.5 else spread) for level in LEVELS) for seconds, m in medians.items()
    }
    minutes = tuple(Forecast(series, AT, s, q) for s, q in values.items() if s <= 3_600)
    hours = tuple(Forecast(series, AT, s, q) for s, q in values.items() if s > 3_600)
    advice = replace(VIEW.recommendation, evidence={CAPACITY_EVIDENCE[Signal.REQUESTS]: capacity})
    outlooks = (Outlook(series, Grain.HOUR, AT, hours),)
    return replace(VIEW, forecasts=minutes, outlooks=outlooks, recommendation=advice)


def test_demand_is_taken_to_change_evenly_between_horizons() -> None:
    capacity = 2 * SEEN / CURRENT
    found = run_out(_view({600: 3 * SEEN}, capacity, spread=1.0))
    assert found is not None
    assert found.expected_at == found.possible_at == pytest.approx(AT + 300)
    assert found.signal == "requests_per_second"


def test_what_is_too_much_already_has_run_out() -> None:
    found = run_out(_view({600: SEEN}, 0.5 * SEEN / CURRENT))
    assert found is not None
    assert found.expected_at == AT


def test_hours_follow_minutes_up_to_a_day() -> None:
    capacity = 2 * SEEN / CURRENT
    found = run_out(_view({3_600: SEEN, 5 * 3_600: 3 * SEEN}, capacity, spread=1.0))
    assert found is not None
    assert found.expected_at == pytest.approx(AT + 3 * 3_600)
    assert run_out(_view({3_600: SEEN, 48 * 3_600: 9 * SEEN}, capacity)) is None


def test_the_quantile_alone_makes_it_possible_not_expected() -> None:
    found = run_out(_view({600: 1.5 * SEEN}, 2 * SEEN / CURRENT))
    assert found is not None
    assert found.expected_at is None
    assert AT < found.possible_at < AT + 600  # type: ignore[operator]


def test_unknown_stays_unknown() -> None:
    view = _view({600: 9 * SEEN}, SEEN / CURRENT)
    assert view.recommendation is not None
    assert run_out(replace(view, recommendation=replace(view.recommendation, current=None))) is None
    assert run_out(replace(view, recommendation=replace(view.recommendation, evidence={}))) is None
    assert run_out(replace(view, recommendation=None)) is None
    assert headroom({}, 4) is None
    spare = headroom({"replicas_needed_by_requests": 3.0}, None)
    assert spare is not None
    assert spare.ratio is None


def test_headroom_is_of_the_largest_need() -> None:
    spare = headroom({"replicas_needed_by_requests": 3.0, "replicas_needed_by_kv_tokens": 5.0, "other": 9.0}, 4)
    assert spare is not None
    assert (spare.currency, spare.needed, spare.ratio) == ("kv_tokens", 5.0, -0.25)


@given(st.dictionaries(st.integers(60, 86_400), st.floats(0, 1e6), max_size=8), st.floats(0.01, 1e6))
def test_possible_is_never_later_than_expected(medians: dict[int, float], capacity: float) -> None:
    found = run_out(_view(medians, capacity))
    if found is None:
        return
    assert found.possible_at is not None
    assert AT <= found.possible_at <= AT + 86_400
    assert found.expected_at is None or found.possible_at <= found.expected_at
