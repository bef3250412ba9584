"""What it would save to serve short requests, or quiet hours, by a smaller or quantized model; and to split by a
dimension.

Each part of the requests has its own lengths, and so its own operating point of each deployment. Dollars are those of
whole replicas that follow the demand hour by hour, at least one where there is any. Savings say nothing about quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sizing.block_bootstrap import Blocks, Estimate
from sizing.catalog import Catalog
from sizing.catalog.gpus import Price
from sizing.demand_shape import RequestColumns
from sizing.errors import DoesNotFit
from sizing.planning.known_point import known_point
from sizing.replica.memory import resolve
from sizing.types import Confidence, Deployment, Slo, Workload

__all__ = [
    "DeploymentChoice",
    "OffPeakSaving",
    "RouteSaving",
    "SplitCost",
    "off_peak_savings",
    "route_savings",
    "split_cost",
]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_HOUR_SECONDS = 3_600.0
#: Shares of the demand of the 95 % hour below which an hour counts as quiet.
QUIET_SHARES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class DeploymentChoice:
    """A replica, what its GPUs cost, and the objective that it owes."""

    deployment: Deployment
    price: Price
    slo: Slo

    @property
    def dollars_per_replica_hour(self) -> float:
        """Of all its GPUs."""
        return self.deployment.gpus * self.price.dollars_per_gpu_hour


@dataclass(frozen=True, slots=True)
class RouteSaving:
    """Requests with at most so many input and output tokens go to the small deployment.

    Output lengths are known only afterwards: routing by them supposes a limit that callers state or keep
    (``output_tokens`` None: by input alone). ``saving`` is the share of the dollars of the large deployment alone;
    negative: it costs more. ``saving_at_scale`` is the same where there are so many replicas that whole
    ones do not matter. ``confidence`` is the worse of both.
    """

    input_tokens: int
    output_tokens: int | None
    requests: Estimate
    tokens: Estimate
    saving: Estimate
    saving_at_scale: Estimate
    confidence: Confidence


@dataclass(frozen=True, slots=True)
class OffPeakSaving:
    """In hours below ``below_share`` of the 95 % hour all requests go to the small deployment."""

    below_share: float
    hours_share: float
    requests: Estimate
    saving: Estimate


@dataclass(frozen=True, slots=True)
class SplitCost:
    """Each value of a dimension served by replicas of its own, against all together: dollars over dollars."""

    dimension: str
    values: int
    dollars_ratio: Estimate


class _Dollars(NamedTuple):
    """Dollars by hour: of whole replicas, and of as much of them as is used."""

    whole: Floats
    used: Floats
    confidence: Confidence


class _Costs:
    """Dollars by block of time of parts of the requests, at their own operating points."""

    def __init__(self, columns: RequestColumns, catalog: Catalog) -> None:
        self.columns = columns
        self.blocks = Blocks(columns.at_seconds)
        self._catalog = catalog
        hour = (columns.at_seconds // _HOUR_SECONDS).astype(np.int64)
        self.hour = hour - hour[0]
        self.hours = int(self.hour[-1]) + 1
        #: A time in each hour, to know its block.
        starts = (hour[0] + np.arange(self.hours)) * _HOUR_SECONDS
        first = columns.at_seconds[0] // self.blocks.seconds
        self._block_of = np.maximum(starts // self.blocks.seconds - first, 0).astype(np.int64)

    def counts(self, mine: Mask) -> Floats:
        """Requests by hour."""
        return np.bincount(self.hour[mine], minlength=self.hours).astype(np.float64)

    def by_block(self, per_hour: Floats) -> Floats:
        """Sums of what each hour has, by block."""
        return np.asarray(np.bincount(self._block_of, per_hour, self.blocks.count), dtype=np.float64)

    def capacity(self, choice: DeploymentChoice, mine: Mask) -> tuple[float, Confidence] | None:
        """Requests per second that one replica carries of a part; None where it cannot serve it within the SLO."""
        try:
            resolved = resolve(choice.deployment, self._catalog)
            point, known = known_point(resolved, _workload(self.columns, mine), choice.slo)
        except DoesNotFit:
            return None
        if not point.feasible or not point.requests_per_second > 0:
            return None
        return point.requests_per_second, known.confidence

    def dollars(self, choice: DeploymentChoice, mine: Mask) -> _Dollars | None:
        """Dollars by hour of a part that one deployment serves; zeros where there is none."""
        if not mine.any():
            return _Dollars(np.zeros(self.hours), np.zeros(self.hours), Confidence.CALIBRATED)
        carried = self.capacity(choice, mine)
        if carried is None:
            return None
        rate, confidence = carried
        exact = self.counts(mine) / _HOUR_SECONDS / rate
        per_hour = choice.dollars_per_replica_hour
        return _Dollars(np.ceil(exact - 1e-9) * per_hour, exact * per_hour, confidence)


def _workload(columns: RequestColumns, mine: Mask) -> Workload:
    given, got = columns.input_tokens[mine], columns.output_tokens[mine]
    cached = None if columns.cached_tokens is None else np.nan_to_num(columns.cached_tokens[mine])
    return Workload(
        float(given.mean()),
        float(got.mean()),
        input_tokens_squared=float((given**2).mean()),
        output_tokens_squared=float((got**2).mean()),
        input_output_product=float((given * got).mean()),
        cached_share=0.0 if cached is None else float(np.clip(cached.sum() / given.sum(), 0.0, 1.0)),
    )


_ORDER = list(Confidence)


def _worse(one: Confidence, other: Confidence) -> Confidence:
    return max(one, other, key=_ORDER.index)


def _saving(costs: _Costs, split: Floats, alone: Floats) -> Estimate | None:
    """One less the ratio of dollars; the interval turns around."""
    ratio = costs.blocks.ratio(costs.by_block(split), costs.by_block(alone))
    if ratio is None:
        return None
    ends = (None, None) if ratio.lower is None or ratio.upper is None else (1 - ratio.upper, 1 - ratio.lower)
    return Estimate(1 - ratio.value, *ends)


def route_savings(
    columns: RequestColumns,
    large: DeploymentChoice,
    small: DeploymentChoice,
    bounds: Sequence[tuple[int, int | None]],
    catalog: Catalog | None = None,
) -> tuple[RouteSaving, ...]:
    """Return what each pair of (input, output) bounds saves; those that a deployment cannot serve are left out.

    Raises:
        UnknownModel, UnknownGpu, InvalidInput: a deployment or an objective cannot be understood.
    """
    costs = _Costs(columns, catalog or Catalog())
    alone = costs.dollars(large, np.ones(len(columns.at_seconds), dtype=bool))
    if alone is None:
        return ()
    found = []
    tokens = columns.input_tokens + columns.output_tokens
    for given, got in bounds:
        short = columns.input_tokens <= given
        if got is not None:
            short &= columns.output_tokens <= got
        there, rest = costs.dollars(small, short), costs.dollars(large, ~short)
        if there is None or rest is None or not short.any():
            continue
        saving = _saving(costs, there.whole + rest.whole, alone.whole)
        scaled = _saving(costs, there.used + rest.used, alone.used)
        requests, carried = costs.blocks.share(short), costs.blocks.share(short, tokens)
        if saving is not None and scaled is not None and requests is not None and carried is not None:
            known = _worse(there.confidence, rest.confidence)
            found.append(RouteSaving(given, got, requests, carried, saving, scaled, known))
    return tuple(found)


def off_peak_savings(
    columns: RequestColumns, large: DeploymentChoice, small: DeploymentChoice, catalog: Catalog | None = None
) -> tuple[OffPeakSaving, ...]:
    """Return what it saves to serve quiet hours by the small deployment alone; nothing where it cannot serve them."""
    costs = _Costs(columns, catalog or Catalog())
    every = np.ones(len(columns.at_seconds), dtype=bool)
    alone, lighter = costs.dollars(large, every), costs.dollars(small, every)
    if alone is None or lighter is None:
        return ()
    counts = costs.counts(every)
    busy = float(np.quantile(counts, 0.95))
    found = []
    for share in QUIET_SHARES:
        quiet = counts < share * busy
        saving = _saving(costs, np.where(quiet, lighter.whole, alone.whole), alone.whole)
        requests = costs.blocks.share(quiet[costs.hour])
        if saving is not None and requests is not None:
            found.append(OffPeakSaving(share, float(quiet.mean()), requests, saving))
    return tuple(found)


def split_cost(
    columns: RequestColumns, dimension: str, choice: DeploymentChoice, catalog: Catalog | None = None
) -> SplitCost | None:
    """Return what replicas for each value of a dimension (a region, say) cost over those that serve all together.

    None where the deployment cannot serve a part within the SLO.
    """
    costs = _Costs(columns, catalog or Catalog())
    values = (columns.dimensions or {})[dimension]
    names = np.unique(values)
    alone = costs.dollars(choice, np.ones(len(values), dtype=bool))
    apart = [costs.dollars(choice, values == name) for name in names]
    if alone is None or any(part is None for part in apart):
        return None
    total = sum((part.whole for part in apart if part is not None), np.zeros(costs.hours))
    ratio = costs.blocks.ratio(costs.by_block(total), costs.by_block(alone.whole))
    return None if ratio is None else SplitCost(dimension, len(names), ratio)
