from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pipeline.engine.types import StepOutput
from pipeline.publish.autoscaler import ADVICE_STATES, hold_replicas
from pipeline.publish.exporter import Exporter
from sizing.types import RecommendationState
from tests.publish_feed import Feed

MODEL, POOL = "llama-3.1-8b-instruct", "chat"


def seen(feed: Feed) -> tuple[float | None, dict[str, float]]:
    """``tokentide_autoscaler_replicas`` and the states of the pool, as Prometheus would read them."""
    replicas, states = None, {}
    for family in text_string_to_metric_families(Exporter(feed.live).render().decode()):
        for sample in family.samples:
            if (sample.labels.get("model"), sample.labels.get("pool")) != (MODEL, POOL):
                continue
            if sample.name == "tokentide_autoscaler_replicas":
                replicas = sample.value
            if sample.name == "tokentide_advice_state":
                states[sample.labels["state"]] = sample.value
    return replicas, states


def advise(feed: Feed, desired: int, state: RecommendationState, current: int | None = 5) -> None:
    """Give advice now, the fleet running ``current`` replicas."""
    view = feed.live.pool(MODEL, POOL)
    assert view is not None
    assert view.recommendation is not None
    assert view.window is not None
    advice = replace(view.recommendation, desired=desired, lower=0, state=state, current=current)
    window = replace(view.window, current_replicas=current)
    feed.live.update(StepOutput(feed.as_of, windows=(window,), recommendations=(advice,)))


@pytest.mark.parametrize(
    ("state", "told", "expected"),
    [
        (RecommendationState.FRESH, "fresh", 2),
        (RecommendationState.HOLD, "held", 5),
        (RecommendationState.COLD_START, "held", 5),
        (RecommendationState.DEGRADED, "degraded", 5),
    ],
)
def test_only_fresh_advice_is_below_what_runs(feed: Feed, state: RecommendationState, told: str, expected: int) -> None:
    advise(feed, 2, state)
    replicas, states = seen(feed)
    assert replicas == expected
    assert states == {name: float(name == told) for name in ADVICE_STATES}


@pytest.mark.parametrize(("desired", "expected"), [(2, 5), (9, 9)])
def test_after_the_advice_has_expired_what_runs_and_what_was_asked_for_is_held(
    feed: Feed, desired: int, expected: int
) -> None:
    advise(feed, desired, RecommendationState.FRESH)
    feed.clock.advance(400)
    replicas, states = seen(feed)
    assert replicas == expected, "an absent series is 0 replicas for KEDA's defaults"
    assert states["expired"] == 1
    assert sum(states.values()) == 1


@given(desired=st.integers(0, 100), current=st.none() | st.integers(0, 100), reported=st.none() | st.integers(0, 100))
def test_a_hold_is_never_below_the_advice_nor_what_runs(
    desired: int, current: int | None, reported: int | None
) -> None:
    feed = Feed()
    feed.step(1)
    view = feed.live.pool(MODEL, POOL)
    assert view is not None
    assert view.recommendation is not None
    advice = replace(view.recommendation, desired=desired, current=current)
    held = hold_replicas(advice, reported)
    assert held >= desired
    assert reported is None or held >= reported
    assert reported is not None or current is None or held >= current
