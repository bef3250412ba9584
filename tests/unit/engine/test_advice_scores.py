"""Advice is scored by the demand that came, once its time has come."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from pipeline.alerts.rule_evaluation import RuleSet
from pipeline.config.settings import PoolSettings, load
from pipeline.engine.advice_scores import SCORE_SPANS, AdviceScores
from pipeline.engine.pool_advisor import PoolAdvisor
from pipeline.forecast.rates import signal_rates
from pipeline.testing import closed_window
from pipeline.windows.types import ClosedWindow, PoolKey
from sizing.types import Recommendation, RecommendationState

RULES = RuleSet(())
START = 1_700_006_400 // 86_400 * 86_400
KEY = PoolKey("m", "p")


@pytest.fixture(scope="module")
def advice() -> Recommendation:
    """Some advice with what it rests on; one replica carries 10 requests/s, and plenty of all else."""
    pool = PoolSettings(model="m", pool="p", profile="llama-3.1-8b", accelerator="H100", initial_replicas=4)
    subject = PoolAdvisor(KEY, pool, load(), "hash")
    for minute in range(31):
        said = subject.step(window(minute - 31, 600), RULES).recommendation
    assert said is not None
    carried = {name: 1e9 for name in said.evidence if name.startswith("capacity_")}
    carried["usable_kv_tokens_per_replica"] = 1e9
    carried["capacity_requests_per_second_per_replica"] = 10.0
    return replace(said, evidence=said.evidence | carried | {"lead_time_seconds": 150.0}, min_replicas=1)


def window(minute: int, requests: int, ready: int | None = 4) -> ClosedWindow:
    return closed_window(START + 60 * minute, requests, ready_replicas=ready, current_replicas=ready)


def scored(
    subject: AdviceScores, advice: Recommendation, given: list[tuple[int, int, int]], came: list[int | None]
) -> AdviceScores:
    """Give (desired, lower, upper) after each window, in which so many replicas' worth of requests came."""
    for minute, need in enumerate(came):
        one = window(minute, 0 if need is None else need * 600)
        rates = signal_rates(replace(one, gap=need is None))
        desired, lower, upper = given[min(minute, len(given) - 1)]
        issued = replace(advice, issued_at=float(one.end), desired=desired, lower=lower, upper=upper, direction="up")
        subject.step(one, rates, issued)
        subject = pickle.loads(pickle.dumps(subject))
    return subject


def test_advice_is_compared_with_what_came_at_its_lead_time(advice: Recommendation) -> None:
    # Issued at the end of minute 0, 1, …: its time is 150 s later, in minute 3, 4, …
    given = [(4, 3, 5), (4, 4, 6), (2, 1, 2), (9, 1, 9), (9, 9, 9)]
    subject = scored(AdviceScores(KEY), advice, given, [1, 1, 1, 4, 2, 5, 3])
    day, week, month = subject.scorecards(START + 420)
    assert [card.span for card in (day, week, month)] == list(SCORE_SPANS)
    assert (day.scored, day.too_low_ratio, day.too_high_ratio, day.interval_coverage_ratio) == (4, 0.25, 0.5, 0.5)
    assert day.under_replica_hours == pytest.approx(3 / 60)
    assert day.over_replica_hours == pytest.approx((2 + 6) / 60)
    assert day.unserved_requests == pytest.approx(3 * 600)
    assert day.followed_ratio == 0.75, "four ran where nine were advised"
    assert day.lead_time_met_ratio == 1.0, "the others served"
    assert replace(week, span="1d") == replace(month, span="1d") == day


def test_only_advice_that_was_followed_can_be_late(advice: Recommendation) -> None:
    def card(ready: int | None, current: int | None, desired: int) -> tuple[float | None, float | None]:
        subject = AdviceScores(KEY)
        for minute in range(6):
            one = replace(window(minute, 600), ready_replicas=ready, current_replicas=current)
            issued = replace(advice, issued_at=float(one.end), desired=desired, lower=1, upper=9, direction="up")
            subject.step(one, signal_rates(one), issued)
        return next((c.followed_ratio, c.lead_time_met_ratio) for c in subject.scorecards(START + 360))

    assert card(2, 2, 4) == (0.0, None), "nobody ordered replicas: not late"
    assert card(2, 4, 4) == (1.0, 0.0), "ordered, and still starting"
    assert card(4, 5, 4) == (1.0, 1.0)
    assert card(None, 4, 4) == (1.0, None)
    assert card(None, None, 4) == (None, None)


def test_only_intervals_of_plans_within_the_limits_move_the_width(advice: Recommendation) -> None:
    def ratio(came: int, **fields: object) -> float:
        given = replace(advice, **({"max_replicas": 6} | fields))  # type: ignore[arg-type]
        return scored(AdviceScores(KEY), given, [(4, 3, 6)], [came] * 8).interval.ratio

    begun = AdviceScores(KEY).interval.ratio
    assert ratio(5) < begun
    assert ratio(2) > begun
    assert ratio(9) < begun, "no more than the maximum can be advised"
    held = replace(advice, state=RecommendationState.DEGRADED)
    (card, *_) = scored(AdviceScores(KEY), held, [(4, 3, 6)], [5] * 8).scorecards(START + 480)
    assert (card.scored > 0, card.interval_coverage_ratio) == (True, None)
    assert ratio(2, state=RecommendationState.DEGRADED) == ratio(5, state=RecommendationState.HOLD) == begun


def test_what_was_needed_in_a_gap_is_not_known(advice: Recommendation) -> None:
    subject = scored(AdviceScores(KEY), advice, [(4, 3, 5)], [1, 1, 1, None, 4, None])
    assert [card.scored for card in subject.scorecards(START + 360)] == [1, 1, 1]
    assert AdviceScores(KEY).scorecards(START) == ()


@pytest.mark.slow
def test_memory_is_bounded_and_spans_end(advice: Recommendation) -> None:
    subject = AdviceScores(KEY)
    far = replace(advice, evidence=advice.evidence | {"lead_time_seconds": 1e9})
    for minute in range(5_000):
        one = window(minute, 600)
        subject.step(one, signal_rates(one), replace(far, issued_at=float(one.end)))
    assert len(subject._pending) <= 4_096
    for hour in range(40 * 24):
        one = window(6_000 + 60 * hour, 600)
        near = replace(advice, issued_at=float(one.end), evidence=advice.evidence | {"lead_time_seconds": 3_540.0})
        subject.step(one, signal_rates(one), near)
    assert len(subject._sums) <= 169 + 31
    cards = {card.span: card.scored for card in subject.scorecards(one.end)}
    assert cards["1d"] < cards["7d"] < cards["30d"] <= 31 * 24


def test_a_pool_carries_its_scores(advice: Recommendation) -> None:
    pool = PoolSettings(model="m", pool="p", profile="llama-3.1-8b", accelerator="H100", initial_replicas=4)
    subject = PoolAdvisor(KEY, pool, load(), "hash")
    told = [subject.step(window(minute, 600), RULES).scorecards for minute in range(8)]
    assert told[0] == ()
    assert told[-1][0].scored >= 1
