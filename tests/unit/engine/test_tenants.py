"""A pool by tenant: the engine's forecasts gain from the parts, and nothing changes where it is not asked for."""

import dataclasses

import numpy as np
import pytest

from pipeline.config.settings import Settings, WindowSettings
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput
from pipeline.forecast.types import LEVELS, Signal
from pipeline.testing import closed_window
from pipeline.windows.types import REST, Breakdown, Part

START = 1_700_000_040
MEDIAN = LEVELS.index(0.5)


def settings(series=2, dimensions=("tenant",)):
    made = Settings(windows=WindowSettings(dimensions=dimensions))
    forecast = made.forecast.model_copy(update={"tenant_series": series, "horizons_seconds": (60, 300)})
    return made.model_copy(update={"forecast": forecast})


def window(minute, counts, **fields):
    parts = tuple(Part(v, n, 800 * n, 100 * n, 200 * n) for v, n in counts.items() if n)
    made = closed_window(START + 60 * minute, sum(counts.values()), **fields)
    return dataclasses.replace(made, breakdown=(Breakdown("tenant", len(counts), parts),)) if parts else made


def counts(minute):
    random = np.random.default_rng([6, minute])
    return {"acme": int(random.poisson(600)), "bolt": int(random.poisson(200)), REST: int(random.poisson(100))}


def steps(minutes, start=0, **fields):
    return [StepInput(START + 60 * (m + 1), (window(m, counts(m), **fields),)) for m in range(start, start + minutes)]


def run(advisor, inputs):
    return [advisor.step(step) for step in inputs]


def medians(output, at=0):
    return {told.tenant: told.forecasts[at].quantiles[MEDIAN] for told in output.tenants}


@pytest.mark.slow
def test_tenants_are_told_and_add_up_to_the_pools_forecast():
    output = run(Advisor(settings()), steps(90))[-1]
    assert [told.tenant for told in output.tenants] == ["acme", "bolt", REST]
    for at, seconds in enumerate((60, 300)):
        (total,) = (f for f in output.forecasts if f.series.signal == Signal.REQUESTS and f.horizon_seconds == seconds)
        assert sum(medians(output, at).values()) == pytest.approx(total.quantiles[MEDIAN], rel=1e-9)
    assert medians(output)["acme"] == pytest.approx(10.0, rel=0.1)
    made = output.windows[0]
    assert output.tenants[0].requests_per_second == made.breakdown[0].parts[0].requests / 60
    assert sum(told.share for told in output.tenants) == pytest.approx(1.0)
    assert len(output.forecasts) == 2 * len(Signal)
    assert {score.series.signal for score in output.scores} == set(Signal)


@pytest.mark.slow
def test_where_the_tenants_are_all_of_the_pool_the_rest_is_none_and_no_rounding_error():
    advisor = Advisor(settings())
    run(advisor, steps(10))
    named = [{"acme": n, "bolt": n // 3 + 7} for n in range(587, 617)]
    told = run(advisor, [StepInput(START + 60 * (m + 1), (window(m, one),)) for m, one in enumerate(named, 10)])
    rest = [part for output in told for part in output.tenants if part.tenant == REST]
    assert [(part.requests_per_second, part.share) for part in rest] == [(0.0, 0.0)] * len(named)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 40])
def test_a_restart_in_the_middle_changes_nothing(cut):
    whole = run(Advisor(settings()), steps(60))
    first = Advisor(settings())
    run(first, steps(cut))
    second = Advisor.restore(settings(), first.snapshot())
    assert run(second, steps(60 - cut, cut)) == whole[cut:]


@pytest.mark.slow
@pytest.mark.parametrize("other", [settings(0), settings(4, ("region",))])
def test_where_it_is_not_asked_for_nothing_changes(other):
    bare = [StepInput(s.as_of, tuple(dataclasses.replace(w, breakdown=()) for w in s.windows)) for s in steps(40)]
    wanted = run(Advisor(other), bare)
    found = run(Advisor(other), steps(40))
    assert [(o.forecasts, o.scores, o.tenants) for o in found] == [(o.forecasts, o.scores, ()) for o in wanted]


@pytest.mark.slow
def test_a_gap_and_a_window_that_was_not_broken_down_are_not_zero():
    advisor = Advisor(settings())
    run(advisor, steps(60))
    (gap,) = run(advisor, steps(1, 60, gap=True))
    assert [told.share for told in gap.tenants] == [None] * 3
    assert medians(gap)["acme"] == pytest.approx(10.0, rel=0.15)
    old = dataclasses.replace(window(61, counts(61)), breakdown=())
    (output,) = run(advisor, [StepInput(old.end, (old,))])
    assert [told.share for told in output.tenants] == [None] * 3
    assert medians(output)["acme"] == pytest.approx(10.0, rel=0.15)
    silent = Advisor(settings())
    (nothing,) = run(silent, [StepInput(START + 60, (closed_window(START, 0),))])
    assert [(told.tenant, told.requests_per_second, told.share) for told in nothing.tenants] == [(REST, 0.0, None)]


def test_a_tenant_per_request_stays_bounded():
    advisor = Advisor(settings(8))
    for minute in range(60):
        crowd = {f"{minute}-{i}": 1 for i in range(32)} | {REST: 900}
        output = advisor.step(StepInput(START + 60 * (minute + 1), (window(minute, crowd),)))
    assert [told.tenant for told in output.tenants] == [REST]
