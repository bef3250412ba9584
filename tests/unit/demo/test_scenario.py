from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pipeline.demo.scenario import SCENARIOS, scenario
from pipeline.errors import InputError

LIVE = 1_795_000_020.0


@pytest.fixture(scope="module")
def demo():
    return scenario("demo", LIVE)


def pool_number(demo, model_start, pool):
    return next(i for i, p in enumerate(demo.pools) if p.key.pool == pool and p.key.model.startswith(model_start))


def test_the_live_start_is_cut_to_a_minute():
    assert scenario("demo", LIVE + 59.9).live_start == LIVE
    assert scenario("demo", LIVE + 59.9) == scenario("demo", LIVE)


def test_the_demo_has_two_models_and_three_pools_with_settings(demo):
    assert [tuple(p.key) for p in demo.pools] == [
        ("llama-3.1-8b-instruct", "chat"),
        ("llama-3.1-8b-instruct", "batch"),
        ("llama-3.3-70b-instruct", "chat"),
    ]
    assert [(s.model, s.pool) for s in demo.pool_settings()] == [tuple(p.key) for p in demo.pools]
    assert all(s.deployment().gpus >= 1 for s in demo.pool_settings())


def test_the_total_rate_suits_a_laptop(demo):
    at_start = sum(float(demo.rate(i, LIVE)) for i in range(3))
    day = LIVE + np.arange(0, 86_400, 60.0)
    mean = float(sum(demo.rate(i, day) for i in range(3)).mean())
    assert 20 <= at_start <= 40
    assert 20 <= mean <= 40


@pytest.mark.parametrize("day", [-4, -3, -2, -1, 0, 1])
def test_the_daily_spike_comes_40_minutes_after_live_start_every_day(demo, day):
    chat = pool_number(demo, "llama-3.1", "chat")
    minutes = LIVE + day * 86_400 + 60.0 * np.arange(20, 80)
    rate = demo.rate(chat, minutes)
    before, inside, after = rate[10:19].mean(), rate[23:35].mean(), rate[45:].mean()
    assert inside / before == pytest.approx(2.5, rel=0.12)
    assert after / before < 1.3
    # Sharp: within one minute from nothing to all of it.
    assert rate[20] < 1.1 * before
    assert rate[21] > 2.1 * before


def test_the_flash_comes_once_and_only_to_the_70b_chat_pool(demo):
    big = pool_number(demo, "llama-3.3", "chat")
    at = LIVE + 60.0 * np.arange(60, 120)
    ratio = demo.rate(big, at) / demo.rate(big, at - 86_400)
    assert ratio[21:31].min() > 2.5
    assert ratio[:20].max() < 1.3
    assert ratio[36:].max() < 1.3
    for other in {0, 1, 2} - {big}:
        assert (demo.rate(other, at) / demo.rate(other, at - 86_400)).max() < 1.4


def test_rates_are_positive_finite_and_repeatable(demo):
    week = LIVE + np.arange(-6 * 86_400, 86_400, 30.0)
    again = scenario("demo", LIVE)
    for i in range(3):
        rate = demo.rate(i, week)
        assert np.isfinite(rate).all()
        assert rate.min() > 0
        assert np.array_equal(rate, again.rate(i, week))


def test_another_seed_gives_another_demand(demo):
    assert float(scenario("demo", LIVE, seed=8).rate(0, LIVE)) != float(demo.rate(0, LIVE))


def test_planned_replicas_follow_demand(demo):
    assert demo.planned_replicas(0, LIVE + 45 * 60) >= 2 * demo.planned_replicas(0, LIVE)
    assert demo.planned_replicas(0, LIVE) >= 1


def test_unknown_names_and_absurd_starts_are_refused():
    assert "demo" in SCENARIOS
    with pytest.raises(InputError, match="built-in are: demo"):
        scenario("dmo", LIVE)
    for start in (float("nan"), float("inf"), -1.0, 1e12):
        with pytest.raises(InputError, match="live start"):
            scenario("demo", start)


def test_what_a_spike_brings_on_top_is_its_tenants(demo):
    chat = pool_number(demo, "llama-3.1", "chat")
    calm, spike = LIVE + np.arange(0.0, 1_800.0, 0.5), LIVE + 50 * 60.0 + np.arange(0.0, 300.0, 0.1)
    usual, loud = demo.tenants(chat, calm, 1), demo.tenants(chat, spike, 1)
    assert usual.count("acme") / len(usual) == pytest.approx(0.30, abs=0.03)
    surge = float(np.mean(demo.rate(chat, spike)) / np.mean(demo.rate(chat, spike - 900.0)))
    assert loud.count("acme") / len(loud) == pytest.approx(1.0 - 0.70 / surge, abs=0.05)
    assert usual == demo.tenants(chat, calm, 1) != demo.tenants(chat, calm, 2)
    assert sum(share for _, share in demo.pools[chat].tenants) == pytest.approx(1.0)


def test_a_pool_without_tenants_names_none(demo):
    bare = dataclasses.replace(demo, pools=(dataclasses.replace(demo.pools[0], tenants=()),))
    assert bare.tenants(0, LIVE + np.arange(3.0), 1) == [None] * 3
