"""The engine as a whole: determinism, restarts, gaps, spikes, advice."""

import dataclasses

import msgspec
import numpy as np
import pytest

from pipeline.alerts.types import AlertKind
from pipeline.config.settings import PoolSettings, load
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput
from pipeline.errors import CodecError
from pipeline.forecast.outlook import Grain
from pipeline.forecast.types import Signal
from pipeline.testing import closed_window
from sizing.types import Recommendation, RecommendationState

MODEL, POOL = "llama-3.1-8b-instruct", "chat"
START = 1_700_000_040
HOUR = 1_700_000_000 // 3600 * 3600 + 3600


def settings(**pool):
    values = {"model": MODEL, "pool": POOL, "profile": "llama-3.1-8b", "accelerator": "L40S", "max_replicas": 64}
    return load().model_copy(update={"pools": (PoolSettings(**(values | pool)),)})


def window(minute, rate, *, model=MODEL, pool=POOL, seed=1, completeness=1.0, replicas=None, gap=False):
    count = int(np.random.default_rng([seed, minute]).poisson(rate * 60)) if rate else 0
    return closed_window(
        START + 60 * minute,
        count,
        model=model,
        pool=pool,
        e2e_milliseconds=6000,
        completeness=completeness,
        current_replicas=replicas,
        gap=gap,
    )


def steps(rates, **kwargs):
    return [StepInput(START + 60 * (i + 1), (window(i, r, **kwargs),)) for i, r in enumerate(rates)]


def run(advisor, inputs):
    return [advisor.step(s) for s in inputs]


RATES = [10 + 3 * np.sin(i / 40) for i in range(90)]


@pytest.mark.slow
def test_two_runs_say_the_same():
    assert run(Advisor(settings()), steps(RATES)) == run(Advisor(settings()), steps(RATES))


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 30, 61])
def test_a_restart_in_the_middle_changes_nothing(cut):
    whole = run(Advisor(settings()), steps(RATES))
    first = Advisor(settings())
    run(first, steps(RATES)[:cut])
    second = Advisor.restore(settings(), first.snapshot())
    assert run(second, steps(RATES)[cut:]) == whole[cut:]


def test_the_order_of_pools_does_not_matter():
    a, b = window(0, 10), window(0, 4, model="other")
    end = START + 60
    one = Advisor(settings()).step(StepInput(end, (a, b)))
    two = Advisor(settings()).step(StepInput(end, (b, a)))
    assert (one.forecasts, one.recommendations) == (two.forecasts, two.recommendations)


def test_snapshots_of_other_settings_or_bytes_are_refused():
    advisor = Advisor(settings())
    run(advisor, steps(RATES[:3]))
    with pytest.raises(CodecError, match="other settings"):
        Advisor.restore(settings(max_replicas=3), advisor.snapshot())
    with pytest.raises(CodecError, match="cannot be read"):
        Advisor.restore(settings(), b"garbage")


def test_steps_must_follow_each_other():
    advisor = Advisor(settings())
    run(advisor, steps(RATES[:2]))
    with pytest.raises(ValueError, match="does not follow"):
        advisor.step(steps(RATES[:2])[1])
    with pytest.raises(ValueError, match="ends at"):
        advisor.step(StepInput(START + 600, (window(3, 5),)))


@pytest.mark.slow
def test_every_window_leads_to_forecasts_of_all_signals_and_horizons():
    out = run(Advisor(settings()), steps(RATES))[-1]
    assert len(out.forecasts) == 4 * 5
    assert all(np.isfinite(f.quantiles).all() and min(f.quantiles) >= 0 for f in out.forecasts)
    assert all(list(f.quantiles) == sorted(f.quantiles) for f in out.forecasts)


def test_current_is_what_the_fleet_reported_or_unknown():
    advisor = Advisor(settings(initial_replicas=6))
    outputs = run(advisor, steps(RATES[:40]))
    assert [output.recommendations[0].current for output in outputs] == [None] * 40
    assert outputs[0].recommendations[0].desired >= 6, "the replicas that the settings name are in place"
    assert "now" not in outputs[-1].recommendations[0].message
    reported = StepInput(START + 60 * 41, (window(40, 10.0, replicas=3),))
    assert advisor.step(reported).recommendations[0].current == 3


@pytest.mark.slow
def test_advice_follows_demand_and_names_a_reason():
    advisor = Advisor(settings(scale_down_stabilisation_seconds=300))
    low = run(advisor, steps([4.0] * 60))[-1].recommendations[0]
    more = [StepInput(START + 60 * (i + 1), (window(i, 40.0),)) for i in range(60, 90)]
    high = run(advisor, more)[-1].recommendations[0]
    assert high.desired > low.desired
    assert high.lower <= high.desired <= high.upper
    assert high.generation > low.generation
    assert high.message
    assert high.issued_at == START + 60 * 90
    assert high.expires_at > high.issued_at


def test_advice_says_what_would_change_it_and_is_read_back_from_its_json():
    (advice,) = run(Advisor(settings()), steps([10] * 20))[-1].recommendations
    changes = {one.setting: one for one in advice.counterfactuals}
    assert {"kv_precision", "slo_ttft_seconds", "cached_share", "max_num_seqs", "tensor_parallel"} <= changes.keys()
    assert changes["cached_share"].difference <= 0
    assert msgspec.json.decode(msgspec.json.encode(advice), type=Recommendation) == advice


def test_a_pool_without_profile_is_forecast_but_not_sized():
    out = run(Advisor(settings()), steps(RATES[:40], model="never-heard-of"))[-1]
    assert out.forecasts
    assert out.recommendations == ()


@pytest.mark.slow
def test_missing_telemetry_never_lowers_advice_and_is_told():
    advisor = Advisor(settings())
    before = run(advisor, steps([20.0] * 60))[-1].recommendations[0]
    silent = [StepInput(START + 60 * (i + 1), (window(i, 0.0),)) for i in range(60, 90)]
    outs = run(advisor, silent)
    assert all(o.recommendations[0].desired >= before.desired for o in outs)
    assert all(o.recommendations[0].state is not RecommendationState.FRESH for o in outs)
    kinds = [a.kind for o in outs for a in o.alerts]
    assert kinds == [AlertKind.TELEMETRY_GAP]


def test_a_pool_that_nobody_configured_has_gaps_but_no_alert_of_them():
    advisor = Advisor(settings().model_copy(update={"pools": ()}))
    outs = run(advisor, steps([20.0] * 20 + [0.0] * 5))
    assert outs[-1].windows[0].gap
    assert not any(o.alerts for o in outs)


@pytest.mark.slow
def test_the_return_from_a_gap_is_no_spike():
    advisor = Advisor(settings())
    rates = [20.0] * 90 + [0.0] * 20 + [20.0] * 30
    alerts = [a for o in run(advisor, steps(rates)) for a in o.alerts]
    assert {a.kind for a in alerts} == {AlertKind.TELEMETRY_GAP}


@pytest.mark.slow
def test_an_unannounced_spike_is_told_within_two_windows():
    advisor = Advisor(settings())
    rates = [10.0] * 120 + [30.0] * 8 + [10.0] * 30
    alerts = [a for o in run(advisor, steps(rates)) for a in o.alerts if a.kind is AlertKind.SPIKE_OBSERVED]
    onset = START + 60 * 120
    assert alerts
    assert alerts[0].raised_at - onset <= 120
    assert alerts[-1].ended_at is not None
    assert len({a.alert_id for a in alerts}) == 1


def test_what_was_not_reported_yet_is_made_up_for():
    half = Advisor(settings())
    full = Advisor(settings())
    inputs = steps([20.0] * 30)
    halved = [
        StepInput(s.as_of, tuple(dataclasses.replace(w, requests=w.requests // 2, completeness=0.5) for w in s.windows))
        for s in inputs
    ]
    seen = run(half, halved)[-1].forecasts[0].quantiles[3]
    truth = run(full, inputs)[-1].forecasts[0].quantiles[3]
    assert seen == pytest.approx(truth, rel=0.02)


@pytest.mark.slow
def test_windows_come_out_as_they_were_judged_and_judge_the_same_again():
    rates = [20.0] * 40 + [0.0] * 70 + [20.0] * 10
    first = run(Advisor(settings()), steps(rates))
    flags = [o.windows[0].gap for o in first]
    assert flags == [False] * 40 + [True] * 60 + [False] * 20
    again = run(Advisor(settings()), [StepInput(o.as_of, o.windows) for o in first])
    assert again == first


def test_a_profile_may_be_a_configuration_of_ones_own():
    from sizing.catalog import Catalog

    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    }
    own = settings(profile="mine/config.json")
    catalog = Catalog(extra_models={"mine/config.json": config})
    one = Advisor(own, catalog)
    first = run(one, steps([20.0] * 40))[-1].recommendations[0]
    assert first.evidence["capacity_requests_per_second_per_replica"] > 0
    two = Advisor.restore(own, one.snapshot(), catalog)
    assert two.step(StepInput(START + 60 * 41, (window(40, 20.0),))).recommendations[0].desired == first.desired
    edited = Catalog(extra_models={"mine/config.json": config | {"num_hidden_layers": 16}})
    with pytest.raises(CodecError, match="other models"):
        Advisor.restore(own, one.snapshot(), edited)


@pytest.mark.slow
def test_a_spike_that_was_warned_of_is_told_as_such_to_its_end():
    day = [8.0 + 0.5 * np.sin(i / 60) for i in range(1440)]
    for i in range(700, 745):
        day[i] *= 3.0
    higher = [r * 1.5 if 700 <= i < 745 else r for i, r in enumerate(day)]  # more than was forecast
    outs = run(Advisor(settings()), steps(day + day + higher[:800], replicas=3))
    last_day = [a for o in outs[2880:] for a in o.alerts]
    warned = next(a for a in last_day if a.kind is AlertKind.SPIKE_FORECAST)
    seen = [a for a in last_day if a.kind is AlertKind.SPIKE_OBSERVED]
    assert seen
    assert warned.raised_at < seen[0].raised_at
    assert {a.severity for a in seen} == {"critical"}  # it was warned of, yet the replicas in place do not hold it
    assert all("warned of" in a.message for a in seen)


@pytest.mark.slow
def test_outlooks_of_hours_and_days_are_told_and_survive_a_restart():
    slow = [10.0 + 4.0 * np.sin(2.0 * np.pi * i / 24) for i in range(30)]

    def hours(first, last):
        return [
            StepInput(end, (dataclasses.replace(window(0, slow[i]), start=end - 60),))
            for i in range(first, last)
            for end in (HOUR + 3600 * i + 1800, HOUR + 3600 * i + 2760)
        ]

    # Two windows an hour: less than half of it was seen, so hours stay gaps until whole ones come.
    advisor = Advisor(settings())
    assert all(not o.outlooks for o in run(advisor, hours(0, 3)))
    whole = [
        StepInput(HOUR + 60 * i, (dataclasses.replace(window(i, 10.0), start=HOUR + 60 * (i - 1)),))
        for i in range(200, 320)
    ]
    told = run(advisor, whole)
    grains = {(o.series.signal, o.grain) for o in told[-1].outlooks}
    assert grains == {(signal, Grain.HOUR) for signal in Signal}
    restored = Advisor.restore(settings(), advisor.snapshot())
    following = [
        StepInput(HOUR + 60 * i, (dataclasses.replace(window(i, 12.0), start=HOUR + 60 * (i - 1)),))
        for i in range(320, 400)
    ]
    assert run(restored, following) == run(advisor, following)
