"""The words of the spike conditions, and what they follow from."""

import dataclasses
from datetime import UTC, datetime

import numpy as np
import pytest
from msgspec import structs

from pipeline.alerts.spike_alerts import SpikeAlerts
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.rates import signal_rates
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey, Signal
from pipeline.testing import closed_window
from pipeline.windows.types import PoolKey
from sizing.types import Constraint

MODEL, POOL = "llama-3.1-8b-instruct", "chat"
START = 1_790_000_000 // 86_400 * 86_400


def window(minute, rate):
    count = int(np.random.default_rng([9, minute]).poisson(rate * 60)) if rate else 0
    return closed_window(START + 60 * minute, count, model=MODEL, pool=POOL)


def fan(horizon, median, signal=Signal.REQUESTS):
    return Forecast(SeriesKey(MODEL, POOL, signal), 0.0, horizon, tuple(median * (0.8 + 0.4 * q) for q in LEVELS))


def step(alerts, minute, rate, median, recommendation=None, replicas=None, events=()):
    made = window(minute, rate)
    rates = signal_rates(made)
    issued = {
        signal: tuple(structs.replace(fan(h, median), issued_at=float(made.end)) for h in (300, 900, 3600))
        for signal in Signal
    }
    return alerts.step(made, rates, issued, recommendation, replicas, events, warm=True)


@dataclasses.dataclass
class Advice:
    """What an alert reads of a recommendation."""

    constraint: Constraint
    evidence: dict
    desired: int = 8


@pytest.mark.parametrize(
    ("constraint", "each", "severity", "chance", "words"),
    [
        (
            Constraint.SLO_INFEASIBLE,
            4.0,
            "critical",
            (0.9, 1.0),
            ("hold 32.0 requests/s: the probability of too few in 5 min is", "will not help"),
        ),
        (
            Constraint.DECODE_LATENCY,
            125.0,
            "info",
            (0.0, 0.001),
            (
                "hold 1,000.0",
                "suffice: the probability of too few in",
                "to do: nothing, 8 replicas are advised and 8 run",
            ),
        ),
    ],
)
def test_the_words_say_what_is_ahead_and_whether_the_replicas_hold_it(constraint, each, severity, chance, words):
    alerts = SpikeAlerts(PoolKey(MODEL, POOL), 1.0, 0.5, 60.0)
    advice = Advice(constraint, {"capacity_requests_per_second_per_replica": each})
    for minute in range(60):
        assert step(alerts, minute, 20.0, 20.0, advice, 8) == (None, None, None)
    _, ahead, _ = step(alerts, 60, 20.0, 40.0, advice, 8)
    assert ahead.severity == severity
    assert chance[0] <= ahead.probability <= chance[1]
    for said in ("40.0 requests/s expected in 5 min", "times the level of now", "8 replicas in place", *words):
        assert said in ahead.message


def test_an_observed_spike_says_its_kind_its_load_and_that_it_was_warned_of():
    alerts = SpikeAlerts(PoolKey(MODEL, POOL), 1.0, 0.5, 60.0)
    advice = Advice(Constraint.DECODE_LATENCY, {"capacity_requests_per_second_per_replica": 4.0}, desired=9)
    for minute in range(100):
        step(alerts, minute, 20.0, 20.0, advice, 8)
    seen, _, _ = step(alerts, 100, 60.0, 20.0, advice, 8)
    assert seen.severity == "critical"
    since = datetime.fromtimestamp(START + 100 * 60, UTC).strftime(", since %H:%M UTC (cause: requests)")
    words = ("no forecast showed it", since, "requests x2.99", "% of that")
    for said in (*words, "to do: add 1 replica, 9 are advised and 8 run"):
        assert said in seen.message


@pytest.mark.parametrize(
    ("replicas", "desired", "says"),
    [(8, 11, "to do: add 3 replicas, 11 are advised and 8 run"), (12, 9, "to do: nothing"), (None, 9, None)],
)
def test_what_to_do_is_said_where_it_is_known_what_runs(replicas, desired, says):
    alerts = SpikeAlerts(PoolKey(MODEL, POOL), 1.0, 0.5, 60.0)
    advice = Advice(Constraint.DECODE_LATENCY, {"capacity_requests_per_second_per_replica": 4.0}, desired)
    for minute in range(100):
        step(alerts, minute, 20.0, 20.0, advice, replicas)
    seen, _, _ = step(alerts, 100, 60.0, 20.0, advice, replicas)
    assert ("to do" not in seen.message) if says is None else (says in seen.message)


@pytest.mark.parametrize(("replicas", "severity"), [(20, "info"), (8, "critical")])
def test_a_spike_that_was_warned_of_is_news_only_where_the_replicas_did_not_follow(replicas, severity):
    advice = Advice(Constraint.DECODE_LATENCY, {"capacity_requests_per_second_per_replica": 4.0})
    event = CalendarRecord("e9", "launch", START + 6_000.0, START + 9_000.0)
    alerts = SpikeAlerts(PoolKey(MODEL, POOL), 1.0, 0.5, 60.0)
    for minute in range(100):
        step(alerts, minute, 20.0, 20.0, advice, replicas)
    _, ahead, _ = step(alerts, 100, 20.0, 36.0, advice, replicas, (event,))
    assert ahead is not None
    seen, _, _ = step(alerts, 101, 60.0, 20.0, advice, replicas, (event,))
    assert seen.severity == severity
    assert "warned of 1 min before" in seen.message
    assert "(cause: calendar event)" in seen.message
    assert "e9" in seen.message


def test_tokens_that_come_out_of_nothing_are_told_with_their_rate():
    alerts = SpikeAlerts(PoolKey(MODEL, POOL), 3.0, 0.5, 60.0)
    for minute in range(100):
        made = dataclasses.replace(window(minute, 20.0), output_tokens=0)
        alerts.step(made, signal_rates(made), dict.fromkeys(Signal, ()), None, None, warm=True)
    made = dataclasses.replace(window(100, 20.0), output_tokens=60 * 5_000)
    seen, _, _ = alerts.step(made, signal_rates(made), dict.fromkeys(Signal, ()), None, None, warm=True)
    assert "demand rose to 5,000 output tokens/s" in seen.message


def test_a_warning_that_has_stood_for_an_hour_still_had_the_spike_coming():
    alerts = SpikeAlerts(PoolKey(MODEL, POOL), 1.0, 0.5, 60.0)
    for minute in range(60):
        step(alerts, minute, 20.0, 20.0)
    for minute in range(60, 120):
        _, ahead, _ = step(alerts, minute, 20.0, 40.0)
        assert ahead is not None
    observed = next(filter(None, (step(alerts, minute, 60.0, 40.0)[0] for minute in range(120, 125))))
    assert "warned of" in observed.message
    assert observed.severity == "info"


def test_a_drop_says_how_far_demand_fell_and_is_no_spike():
    alerts = SpikeAlerts(PoolKey(MODEL, POOL), 1.0, 0.5, 60.0)
    for minute in range(100):
        assert step(alerts, minute, 20.0, 20.0)[2] is None
    seen, _, drop = step(alerts, 100, 4.0, 20.0)
    assert seen is None
    assert drop.severity == "warning"
    assert drop.ratio == pytest.approx(0.2, abs=0.05)
    assert drop.falls
    for words in ("demand fell to", "times the recent level", "no forecast showed it", "requests x0.2"):
        assert words in drop.message
    minute = next(minute for minute in range(101, 120) if step(alerts, minute, 20.0, 20.0)[2] is None)
    assert minute == 105  # five windows near the level


def test_a_drop_that_was_foretold_is_none():
    alerts = SpikeAlerts(PoolKey(MODEL, POOL), 1.0, 0.5, 60.0)
    for minute in range(100):
        step(alerts, minute, 20.0, 20.0 if minute < 80 else 4.0)
    assert all(step(alerts, minute, 4.0, 4.0)[2] is None for minute in range(100, 110))
