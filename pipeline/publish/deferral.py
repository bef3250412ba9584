"""How much work that may wait may start now, from the newest forecasts and the replicas that run.

The room is that of one window and is told once: every reader of the same lease gets the same. The next step's lease
takes its place; where none comes, it expires with the advice and nothing more may start.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pipeline.engine.demand_ahead import demand_path
from pipeline.forecast.outlook import Outlook
from pipeline.forecast.types import LEVELS, Forecast, Signal
from pipeline.publish.views import PoolView
from sizing.planning.deferral import Room, room_now
from sizing.planning.demand_needs import demand_quantile
from sizing.types import Recommendation, RecommendationState

__all__ = ["MOST_DEADLINE_SECONDS", "WaitingWork", "pool_deferral_data"]

#: As far as hours are forecast for with hours of their own.
MOST_DEADLINE_SECONDS = 86_400
_MEDIAN = LEVELS.index(0.5)
_NEEDED_BY = "replicas_needed_by_"
_NEEDED_BY_OBSERVED = "replicas_needed_by_observed_requests"


class WaitingWork(NamedTuple):
    """Requests that wait, and how many seconds from the lease's start the last of them must have started."""

    requests: int
    deadline_seconds: int


def pool_deferral_data(view: PoolView, work: WaitingWork | None = None) -> dict[str, Any]:
    """Return the lease of a configured pool, as ``/v1/deferral`` has it."""
    advice, window, settings = view.recommendation, view.window, view.settings
    assert settings is not None
    forecasts = [f for f in view.forecasts if f.series.signal == Signal.REQUESTS]
    rate = None if advice is None else _replica_requests_per_second(advice)
    running = None if window is None else window.ready_replicas
    if running is None and window is not None:
        running = window.current_replicas
    held = _held_because(advice, rate, running, forecasts)
    lease: dict[str, Any] = {
        "model": view.key.model,
        "pool": view.key.pool,
        "lease_id": None,
        "starts_at": None,
        "expires_at": None,
        "held_because": held,
        "running_replicas": running,
        "urgent_replicas": None,
        "spare_replicas": None,
        "may_start_requests": 0,
        "due": False,
        "level_replicas": None,
        "level_within_max_replicas": None,
    }
    if advice is None or window is None:
        return lease
    step = float(window.grain_seconds)
    lease |= {
        "lease_id": f"{view.key.model}|{view.key.pool}|{advice.issued_at:.0f}",
        "starts_at": advice.issued_at,
        "expires_at": advice.expires_at,
    }
    urgent_now = math.inf
    if held is None:
        assert rate is not None
        urgent_now = _urgent_now(advice, forecasts, rate)
    kept = 0 if running is None else min(running, advice.desired)
    if rate is None:
        if work is not None and work.deadline_seconds < step:  # due, whatever is known
            lease |= {"may_start_requests": work.requests, "due": True}
        return lease
    room = _room(view, forecasts, kept, urgent_now, step, rate, work)
    # The whole of the work is told as it was asked; parts are rounded down.
    whole = work is not None and room.released >= work.requests / rate
    lease |= {
        "urgent_replicas": urgent_now if math.isfinite(urgent_now) else None,
        "spare_replicas": room.spare_replicas if held is None else None,
        "may_start_requests": work.requests if whole and work is not None else math.floor(room.released * rate + 1e-9),
        "due": room.due,
    }
    if room.level_replicas is not None:
        lease |= {
            "level_replicas": room.level_replicas,
            "level_within_max_replicas": room.level_replicas <= settings.max_replicas,
        }
    return lease


def _held_because(
    advice: Recommendation | None, rate: float | None, running: int | None, forecasts: list[Forecast]
) -> str | None:
    if advice is None:
        return "there is no valid advice"
    if advice.state is not RecommendationState.FRESH:
        return f"the advice is {advice.state.value}, not fresh"
    if running is None:
        return "it is not known how many replicas run"
    if rate is None:
        return "it is not known what a replica carries"
    return None if forecasts else "there is no valid forecast"


def _replica_requests_per_second(advice: Recommendation) -> float | None:
    """Requests per second that one replica carries in the currency that binds; None: not known."""
    told = advice.evidence
    rate = told.get("capacity_requests_per_second_per_replica", 0.0)
    if not 0 < rate < math.inf:
        return None
    needs = {name: value for name, value in told.items() if name.startswith(_NEEDED_BY) and name != _NEEDED_BY_OBSERVED}
    by_requests, most = needs.get(f"{_NEEDED_BY}requests", 0.0), max(needs.values(), default=0.0)
    return rate * by_requests / most if 0 < by_requests < most < math.inf else rate


def _urgent_now(advice: Recommendation, forecasts: list[Forecast], rate: float) -> float:
    """Replicas that demand needs meanwhile: at the quantile that the pool provisions for, no less than was observed."""
    level = advice.evidence.get("demand_quantile", 0.9)
    ahead = demand_quantile(LEVELS, forecasts[0].quantiles, level)
    return max(ahead, advice.evidence.get("observed_requests_per_second", 0.0)) / rate


def _room(
    view: PoolView,
    forecasts: list[Forecast],
    kept: int,
    urgent_now: float,
    step: float,
    rate: float,
    work: WaitingWork | None,
) -> Room:
    if work is None:
        return room_now(kept, urgent_now, step)
    urgent = None
    if forecasts:
        steps = max(1, math.ceil(work.deadline_seconds / step))
        hours: list[Outlook] = [o for o in view.outlooks if o.series.signal == Signal.REQUESTS]
        at = [step * (number + 1) for number in range(steps)]
        path = demand_path(forecasts, hours, forecasts[0].issued_at, at, _MEDIAN)
        urgent = np.array(path) / rate
    return room_now(
        kept, urgent_now, step, urgent=urgent, work=work.requests / rate, due_seconds=float(work.deadline_seconds)
    )
