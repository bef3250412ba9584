"""What an autoscaler may read without judging the advice itself: a number that never misleads, and a state.

KEDA reads an absent series as 0 unless told otherwise, and most autoscalers read a single number, so this one never
asks for less than what runs unless the advice is fresh (``docs/autoscaling.md``).
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.publish.exposition import Sample
from pipeline.publish.views import PoolView
from sizing.types import Recommendation, RecommendationState

__all__ = [
    "ADVICE_STATES",
    "autoscaler_replicas",
    "autoscaler_samples",
    "current_replicas",
    "hold_replicas",
    "is_fresh",
]

#: Values of the label ``state`` of ``tokentide_advice_state``.
ADVICE_STATES = ("fresh", "held", "degraded", "expired")

_STATES = {
    RecommendationState.FRESH: "fresh",
    RecommendationState.HOLD: "held",
    RecommendationState.COLD_START: "held",
    RecommendationState.DEGRADED: "degraded",
}


def hold_replicas(advice: Recommendation, current: int | None) -> int:
    """Replicas that hold what runs and what was asked for: the greater of the advice and the ``current`` replicas
    (None: those known when the advice was made).
    """
    running = advice.current if current is None else current
    return advice.desired if running is None else max(advice.desired, running)


def current_replicas(view: PoolView) -> int | None:
    """Return the replicas that the fleet reported last; None: unknown."""
    current = view.window.current_replicas if view.window is not None else None
    return view.recommendation.current if current is None and view.recommendation is not None else current


def is_fresh(view: PoolView) -> bool:
    """Return whether the pool's advice is valid and fresh."""
    return view.recommendation is not None and _STATES[view.recommendation.state] == "fresh"


def autoscaler_replicas(view: PoolView) -> int | None:
    """Return the replicas to run: the advice while it is fresh, else what holds; None: there never was advice."""
    advice = view.recommendation or view.expired
    if advice is None:
        return None
    return advice.desired if is_fresh(view) else hold_replicas(advice, current_replicas(view))


def autoscaler_samples(view: PoolView) -> Iterator[Sample]:
    """``autoscaler_replicas`` and ``advice_state`` of a pool; nothing when it never had advice."""
    advice, replicas = view.recommendation or view.expired, autoscaler_replicas(view)
    if advice is None or replicas is None:
        return
    state = _STATES[advice.state] if view.recommendation is not None else "expired"
    yield "autoscaler_replicas", (), replicas
    for name in ADVICE_STATES:
        yield "advice_state", (name,), int(name == state)
