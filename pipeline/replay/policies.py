"""What forecasts are worth as decisions: capacity set ahead by different rules, against the demand that came.

Every rule decides at the end of window i what capacity stands ready in the window that ends a lead time later, in the
unit of demand (sums over a window). Over-provision is capacity that nobody asked for, unserved is demand above
capacity, both as a share of all demand; nothing queues from one window to the next. A headroom multiplier is a strong
rival at short lead on smooth traffic, so gains are stated at equal unserved demand, never at a hand-picked headroom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.forecast.types import LEVELS
from pipeline.replay.backtest import BacktestResult, SeriesBacktest

__all__ = ["PolicyOutcome", "evaluate_policies"]

Floats = NDArray[np.float64]

#: The levels that a capacity decision may sensibly use.
DECISION_LEVELS = (0.5, 0.75, 0.9, 0.95, 0.99)
REACTIVE_HEADROOMS = (1.0, 1.1, 1.25, 1.5, 2.0)
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class PolicyOutcome:
    """What one rule would have cost on one series. Shares are of demand; None where it does not apply.

    ``reactive_over_share`` is the over-provision of a headroom multiplier that leaves just as much unserved.
    """

    series: str
    policy: str
    lead_seconds: int
    windows: int
    over_share: float
    unserved_share: float
    under_minutes_per_day: float
    changes_per_day: float
    reactive_over_share: float | None


def evaluate_policies(
    result: BacktestResult, unit: float | None = None, lead_seconds: int | None = None
) -> tuple[PolicyOutcome, ...]:
    """Compare capacity rules on every series of a backtest, after its warm-up.

    The rules: ``quantile 0.95`` … provision the forecast quantile at the lead time; ``reactive ×1.25`` … provision a
    multiple of the newest known window; ``static peak`` provision the warm-up's peak for ever; ``clairvoyant``
    provision what will be asked for.

    Args:
        result: a backtest.
        unit: capacity comes in whole multiples of this much demand per window (one replica); None: continuous.
        lead_seconds: from the decision to the end of the window that it serves; the nearest horizon that reaches it is
            used. None: every horizon is a lead time.

    Raises:
        InputError: no horizon reaches the lead time, or the unit is not positive.
    """
    if unit is not None and not (np.isfinite(unit) and unit > 0):
        raise InputError(f"the unit of capacity must be positive, not {unit}")
    horizons = range(len(result.horizons_seconds))
    if lead_seconds is not None:
        reaching = [i for i in horizons if result.horizons_seconds[i] >= lead_seconds]
        if not reaching:
            raise InputError(f"no horizon reaches the lead time of {lead_seconds} s; add it to the horizons")
        horizons = range(reaching[0], reaching[0] + 1)
    return tuple(outcome for item in result.series for h in horizons for outcome in _of_series(item, h, unit))


def _of_series(item: SeriesBacktest, horizon: int, unit: float | None) -> list[PolicyOutcome]:
    origins, demand = item.matured(horizon, after_warmup=True)
    last = item.series.values[origins]
    known = ~np.isnan(last)
    origins, demand, last = origins[known], demand[known], last[known]
    if not len(demand) or demand.sum() <= 0:
        return []
    warmup = item.series.values[: item.warmup_windows]
    peak = float(np.nanmax(warmup)) if len(warmup) and not np.isnan(warmup).all() else float("nan")
    rules: list[tuple[str, Floats]] = [
        *((f"quantile {q:g}", item.quantiles[origins, horizon, LEVELS.index(q)]) for q in DECISION_LEVELS),
        *((f"reactive ×{headroom:g}", headroom * last) for headroom in REACTIVE_HEADROOMS),
        ("clairvoyant", demand),
    ]
    if not np.isnan(peak):
        rules.append(("static peak", np.full(len(demand), peak)))
    step, lead = item.series.step_seconds, item.horizons_seconds[horizon]
    days = len(demand) * step / _DAY_SECONDS
    outcomes = []
    for name, wanted in rules:
        capacity = _whole(wanted, unit)
        over, unserved = _shares(capacity, demand)
        rival = _reactive_at(unserved, last, demand, unit) if name.startswith("quantile") else None
        outcomes.append(
            PolicyOutcome(
                series=item.series.name,
                policy=name,
                lead_seconds=lead,
                windows=len(demand),
                over_share=over,
                unserved_share=unserved,
                under_minutes_per_day=float((demand > capacity).sum()) * step / 60.0 / days,
                changes_per_day=float((np.diff(capacity) != 0).sum()) / days,
                reactive_over_share=rival,
            )
        )
    return outcomes


def _whole(wanted: Floats, unit: float | None) -> Floats:
    # The tolerance keeps a capacity that is whole already from being rounded up by the last bit.
    return wanted if unit is None else np.asarray(np.ceil(wanted / unit - 1e-9) * unit, dtype=np.float64)


def _shares(capacity: Floats, demand: Floats) -> Sequence[float]:
    total = float(demand.sum())
    gap = capacity - demand
    return float(np.maximum(gap, 0.0).sum()) / total, float(np.maximum(-gap, 0.0).sum()) / total


def _reactive_at(unserved: float, last: Floats, demand: Floats, unit: float | None) -> float | None:
    """Over-provision of the smallest headroom that leaves at most ``unserved``; None if ×64 does not suffice."""
    low, high = 0.0, 64.0
    if _shares(_whole(high * last, unit), demand)[1] > unserved:
        return None
    for _ in range(40):
        middle = (low + high) / 2
        if _shares(_whole(middle * last, unit), demand)[1] > unserved:
            low = middle
        else:
            high = middle
    return _shares(_whole(high * last, unit), demand)[0]
