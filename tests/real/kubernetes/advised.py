"""Advice that a test decides, for the pool that the manifests name."""

from __future__ import annotations

from dataclasses import replace

from pipeline.engine.types import StepOutput
from sizing.types import RecommendationState
from tests.publish_feed import Feed

__all__ = ["MODEL", "POOL", "advise"]

MODEL, POOL = "llama-3.1-8b-instruct", "chat"


def advise(feed: Feed, desired: int, current: int, state: RecommendationState = RecommendationState.FRESH) -> None:
    """Advise ``desired`` replicas now, with ``current`` replicas reported."""
    feed.step()
    view = feed.live.pool(MODEL, POOL)
    assert view is not None
    assert view.recommendation is not None
    assert view.window is not None
    given = replace(view.recommendation, desired=desired, lower=0, state=state, current=current)
    window = replace(view.window, current_replicas=current)
    feed.live.update(StepOutput(feed.as_of, windows=(window,), recommendations=(given,)))
