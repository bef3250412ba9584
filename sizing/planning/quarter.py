"""Demand paths turned into GPUs by week, commitments and what they cost, with their risk.

Pure: paths, prices and the reference date are arguments. GPUs of one type are shared by its pools hour by hour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sizing.errors import InvalidInput
from sizing.planning.commitments import (
    Commitment,
    CommitmentOption,
    HourlyPrices,
    SpendByPath,
    best_commitments,
    spend,
)

__all__ = [
    "RISK_LEVELS",
    "GpuQuarter",
    "PoolDemand",
    "Scenario",
    "WeekBand",
    "gpus_needed",
    "plan_gpu_type",
    "week_bands",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Levels of risk that everything is told at.
RISK_LEVELS = (0.5, 0.8, 0.95)
_WEEK_HOURS = 168


@dataclass(frozen=True, slots=True)
class PoolDemand:
    """Demand paths of a pool (paths × hours, requests/s), and what one replica of it carries and takes.

    ``growth`` are the factors of each growth scenario by hour.
    """

    name: str
    rates: Floats
    replica_requests_per_second: float
    gpus_per_replica: int
    min_replicas: int
    growth: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class WeekBand:
    """One week: quantiles at ``RISK_LEVELS`` over paths of the mean of a quantity and of its highest hour."""

    week: int
    mean: tuple[float, ...]
    peak: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a growth scenario comes to: the peak of its last week at the median, the best commitments for it alone, and
    what the quarter costs with the plan's commitments and with those.
    """

    name: str
    last_week_peak_gpus: float
    committed_gpus: int
    dollars_with_plan: float
    dollars_with_own: float


@dataclass(frozen=True, slots=True)
class GpuQuarter:
    """The quarter of one GPU type.

    ``dollars`` are quantiles over paths at ``RISK_LEVELS``; ``expected_dollars`` with the plan, with nothing committed,
    and with as many GPUs of the cheapest option as the 95 % peak needs. ``hourly_peak_gpus``: what must be had beyond
    the commitments in the busiest hour, at ``RISK_LEVELS``. ``after_quarter_dollars`` is what the commitments still
    bind when the quarter is over.
    """

    gpu: str
    weeks: tuple[WeekBand, ...]
    commitments: tuple[Commitment, ...]
    expected: SpendByPath
    expected_dollars: float
    dollars: tuple[float, ...]
    expected_dollars_on_demand_only: float
    expected_dollars_committed_to_peak: float | None
    hourly_peak_gpus: tuple[float, ...]
    after_quarter_dollars: float
    scenarios: tuple[Scenario, ...]


def gpus_needed(demand: PoolDemand, factors: Floats | None = None) -> Ints:
    """Return the GPUs that a pool needs, by path and hour: whole replicas, at least its fewest.

    Raises:
        InvalidInput: a replica carries nothing.
    """
    if not demand.replica_requests_per_second > 0:
        raise InvalidInput(f"a replica of {demand.name} carries nothing")
    rates = demand.rates if factors is None else demand.rates * factors
    # A need a rounding error above a whole number is that number.
    replicas = np.ceil(rates / demand.replica_requests_per_second - 1e-9).astype(np.int64)
    return np.maximum(replicas, demand.min_replicas) * demand.gpus_per_replica


def week_bands(values: Floats | Ints) -> tuple[WeekBand, ...]:
    """Return the quantiles over paths of each whole week's mean and highest hour (paths × hours in).

    >>> [band.peak for band in week_bands(np.full((3, 168), 2.0))]
    [(2.0, 2.0, 2.0)]
    """
    weeks = values.shape[1] // _WEEK_HOURS
    by_week = values[:, : weeks * _WEEK_HOURS].reshape(len(values), weeks, _WEEK_HOURS)
    means = np.quantile(by_week.mean(axis=2), RISK_LEVELS, axis=0)
    peaks = np.quantile(by_week.max(axis=2), RISK_LEVELS, axis=0)
    return tuple(
        WeekBand(week + 1, tuple(map(float, means[:, week])), tuple(map(float, peaks[:, week])))
        for week in range(weeks)
    )


def plan_gpu_type(
    gpu: str, pools: Sequence[PoolDemand], hourly: HourlyPrices, options: Sequence[CommitmentOption]
) -> GpuQuarter:
    """Return the plan of the pools that share one GPU type.

    Raises:
        InvalidInput: there is no pool, or a replica carries nothing.
    """
    if not pools:
        raise InvalidInput(f"no pool is on {gpu}")
    needed = _sum([gpus_needed(pool) for pool in pools])
    commitments = best_commitments(needed, hourly, options)
    told = spend(needed, hourly, commitments)
    held = sum(commitment.gpus for commitment in commitments)
    beyond = np.maximum(needed.max(axis=1) - held, 0)
    weeks = needed.shape[1] / _WEEK_HOURS
    return GpuQuarter(
        gpu=gpu,
        weeks=week_bands(needed),
        commitments=commitments,
        expected=told,
        expected_dollars=float(told.total.mean()),
        dollars=tuple(float(value) for value in np.quantile(told.total, RISK_LEVELS)),
        expected_dollars_on_demand_only=float(spend(needed, hourly, ()).total.mean()),
        expected_dollars_committed_to_peak=_to_peak(needed, hourly, options),
        hourly_peak_gpus=tuple(float(value) for value in np.quantile(beyond, RISK_LEVELS)),
        after_quarter_dollars=sum(
            c.gpus * c.option.price.dollars_per_gpu_hour * max(c.option.term_weeks - weeks, 0.0) * _WEEK_HOURS
            for c in commitments
        ),
        scenarios=tuple(_scenario(name, pools, hourly, options, commitments) for name in pools[0].growth),
    )


def _sum(parts: Sequence[Ints]) -> Ints:
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def _to_peak(needed: Ints, hourly: HourlyPrices, options: Sequence[CommitmentOption]) -> float | None:
    if not options:
        return None
    cheapest = min(options, key=lambda option: option.price.dollars_per_gpu_hour)
    peak = int(np.ceil(np.quantile(needed.max(axis=1), RISK_LEVELS[-1])))
    return float(spend(needed, hourly, [Commitment(cheapest, peak, None)]).total.mean())


def _scenario(
    name: str,
    pools: Sequence[PoolDemand],
    hourly: HourlyPrices,
    options: Sequence[CommitmentOption],
    commitments: Sequence[Commitment],
) -> Scenario:
    needed = _sum([gpus_needed(pool, pool.growth[name]) for pool in pools])
    own = best_commitments(needed, hourly, options)
    return Scenario(
        name=name,
        last_week_peak_gpus=float(np.quantile(needed[:, -_WEEK_HOURS:].max(axis=1), 0.5)),
        committed_gpus=sum(commitment.gpus for commitment in own),
        dollars_with_plan=float(spend(needed, hourly, commitments).total.mean()),
        dollars_with_own=float(spend(needed, hourly, own).total.mean()),
    )
