"""While an announced event acts, no less than the forecast is provisioned for; otherwise the rules have their say."""

import pytest

from pipeline.engine.decisions.announced import RULE, announced_at, at_least_forecast
from pipeline.forecast.calendar.effects import CalendarRecord, Scope
from pipeline.forecast.types import LEVELS, Signal
from pipeline.windows.types import PoolKey
from sizing.types import Provision

KEY = PoolKey("m", "chat")


def test_an_event_acts_from_an_hour_before_to_its_end_on_its_own_pools():
    event = CalendarRecord("a", "launch", 10_000.0, 20_000.0, 4.0)
    assert [announced_at([event], KEY, at) for at in (6_399.0, 6_400.0, 20_000.0, 20_001.0)] == [
        False,
        True,
        True,
        False,
    ]
    other = CalendarRecord("a", "launch", 10_000.0, 20_000.0, 4.0, scope=Scope("m", "batch"))
    assert not announced_at([other], KEY, 15_000.0)
    assert not announced_at([], KEY, 15_000.0)


def test_the_forecast_is_the_least():
    quantiles = {signal: tuple(10.0 * level for level in LEVELS) for signal in Signal}
    weights = (("peak_10_x1", 0.7),)
    above = Provision(9.5, 9.5, 9.5, 9.5, weights)
    assert at_least_forecast(above, quantiles, 0.9) is above
    raised = at_least_forecast(Provision(1.0, 20.0, 1.0, 1.0, weights), quantiles, 0.9)
    assert raised.weights == ((RULE, 1.0),)
    assert (raised.requests_per_second, raised.prefill_tokens_per_second) == (pytest.approx(9.0), 20.0)
    assert at_least_forecast(None, quantiles, 0.9) is None
