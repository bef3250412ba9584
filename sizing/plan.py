"""From demand to replicas: how many operating points the demand needs.

Replicas = the largest over the currencies (requests, computed prompt tokens, output tokens, resident KV tokens) of
demand quantile / capacity, rounded up. The quantile is the newsvendor's, cu / (cu + co) (Arrow, Harris and Marschak
1951).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from sizing.catalog import Catalog
from sizing.errors import InvalidInput
from sizing.grid import on_grid, rounded
from sizing.load import check_workload
from sizing.memory import resolve
from sizing.model import Constraint, Demand, Deployment, PolicyConfig, Slo, Workload
from sizing.operating import OperatingPoint, check_slo, operating_point, solve
from sizing.replica import MAX_UTILISATION
from sizing.steptime import StepCoefficients

if TYPE_CHECKING:  # who passes a calibration has loaded it
    from sizing.calibrate import Calibration

__all__ = [
    "LEAST_TTFT_POINTS",
    "STEP_TIME_ERROR_RATIO",
    "OperatingPoint",
    "Plan",
    "Planner",
    "demand_quantile",
    "needs",
    "observed_only",
    "operating_point",
    "plan",
    "plan_at",
]

#: The 10 % and 90 % points of measured over predicted step time are taken as 1/ratio and ratio. On unseen architectures
#: they were 0.71 and 1.35 with the coefficients alone (1,730 end-to-end rows) and are 0.79 and 1.27 with what
#: ``sizing.learned`` adds (1,676 rows; benchmarks/sizing/results.md): the bounds of plans err on the wide side.
STEP_TIME_ERROR_RATIO = 1.36
#: Measured TTFTs say something about TTFT in general from this many on (as llm-d's throughput analyzer: at least 10
#: samples); a plan believes half of the predicted TTFT at least and four times at most.
LEAST_TTFT_POINTS, _TTFT_RATIOS = 10, (0.5, 4.0)


@dataclass(frozen=True, slots=True)
class Plan:
    """Replicas for a demand. ``lower`` ≤ ``desired`` ≤ ``upper``; all within the policy's limits.

    ``unclamped`` is what the demand quantile needs before the limits; ``lower`` and ``upper`` bound the need at 10 %
    and 90 % of the joint error of demand and step time. ``currency`` names the demand that decides.
    """

    desired: int
    lower: int
    upper: int
    unclamped: int
    currency: str
    constraint: Constraint
    demand_quantile: float
    demand_requests_per_second: float
    operating_point: OperatingPoint
    message: str


def demand_quantile(levels: tuple[float, ...], values: tuple[float, ...], level: float) -> float:
    """Return the quantile at ``level``, linear between the given ones and flat beyond them.

    Raises:
        InvalidInput: no or unequal numbers of levels and values, levels not ascending in (0, 1), a value that is
            negative or not finite.
    """
    if not levels or len(levels) != len(values):
        raise InvalidInput(f"{len(levels)} quantile levels with {len(values)} values")
    if not (levels[0] > 0 and levels[-1] < 1 and all(below < above for below, above in pairwise(levels))):
        raise InvalidInput("quantile levels must ascend within (0, 1)")
    if not all(0 <= value < math.inf for value in values):
        raise InvalidInput("demand must be finite and not negative")
    quantiles = list(accumulate(values, max))
    right = bisect_right(levels, level)
    if right == 0 or right == len(levels):
        return float(quantiles[max(right - 1, 0)])
    slope = (quantiles[right] - quantiles[right - 1]) / (levels[right] - levels[right - 1])
    return float(slope * (level - levels[right - 1]) + quantiles[right - 1])


def observed_only(demand: Demand) -> Demand:
    """Return the demand as observed, without the forecast; nothing observed counts as none."""
    rate = demand.observed_requests_per_second
    return Demand(
        levels=(0.5,),
        requests_per_second=(0.0 if rate is None else rate,),
        workload=demand.workload,
        horizon_seconds=0.0,
        observed_requests_per_second=rate,
        dispersion=demand.dispersion,
    )


def _ceil(need: float) -> int:
    """Round a need up; a need of 3.0000001 from rounding errors is 3."""
    return math.ceil(need - 1e-6) if need < 1e9 else 10**9


class Planner:
    """Plans for one deployment and SLO; remembers operating points of recent workloads.

    Workloads are rounded to steps of 1 % before use, so a plan does not depend on what is remembered. With a
    ``calibration`` its coefficients replace the given ones, and from ``LEAST_TTFT_POINTS`` measured TTFTs on what it
    knows of TTFT near the operating point corrects it.

    Raises:
        UnknownModel, UnknownGpu, InvalidInput: at construction, when the deployment cannot be understood.
    """

    def __init__(
        self,
        deployment: Deployment,
        slo: Slo,
        *,
        catalog: Catalog | None = None,
        coefficients: StepCoefficients | None = None,
        calibration: Calibration | None = None,
        max_entries: int = 128,
    ) -> None:
        check_slo(slo)
        self.resolved = resolve(deployment, catalog)
        self.slo = slo
        self._coefficients = coefficients if calibration is None else calibration.coefficients
        self._calibration = calibration
        self._max_entries = max_entries
        self._points: OrderedDict[tuple[Workload, float], OperatingPoint] = OrderedDict()

    def operating_point(self, workload: Workload, dispersion: float = 1.0) -> OperatingPoint:
        """Return the operating point of the rounded workload; see ``sizing.plan.operating_point``."""
        check_workload(workload)
        key = (rounded(workload), on_grid(dispersion, 10))
        point = self._points.get(key)
        if point is None:
            point = self._solved(*key)
            self._points[key] = point
            if len(self._points) > self._max_entries:
                self._points.popitem(last=False)
        else:
            self._points.move_to_end(key)
        return point

    def _solved(self, workload: Workload, dispersion: float) -> OperatingPoint:
        point = solve(self.resolved, workload, self.slo, dispersion, self._coefficients)
        if self._calibration is None or self._calibration.ttft_points < LEAST_TTFT_POINTS:
            return point
        known = self._calibration.at(workload, point.batch / self.resolved.lanes)
        ratio = min(max(known.ttft_ratio, _TTFT_RATIOS[0]), _TTFT_RATIOS[1])
        return solve(self.resolved, workload, self.slo, dispersion, self._coefficients, ttft_ratio=ratio)

    def needs(self, demand: Demand, level: float, point: OperatingPoint) -> dict[str, float]:
        """Return the replicas that each currency needs; see ``sizing.plan.needs``."""
        return needs(demand, level, point)

    def plan(self, demand: Demand, policy: PolicyConfig) -> Plan:
        """Return the replicas for a demand under a policy.

        Raises:
            InvalidInput: the demand cannot be.
            DoesNotFit: no replica of this deployment can exist.
        """
        return plan_at(self.operating_point(demand.workload, demand.dispersion), demand, policy)


def needs(demand: Demand, level: float, point: OperatingPoint) -> dict[str, float]:
    """Return the replicas (not rounded) that each currency of a demand needs at quantile ``level``."""
    return {
        name: demand_quantile(demand.levels, values, level) / capacity if capacity > 0 else math.inf
        for name, values, capacity in (
            ("requests", demand.requests_per_second, point.requests_per_second),
            ("prefill_tokens", demand.prefill_tokens_per_second, point.prefill_tokens_per_second),
            ("decode_tokens", demand.decode_tokens_per_second, point.decode_tokens_per_second),
            ("kv_tokens", demand.kv_tokens, point.kv_capacity_tokens * MAX_UTILISATION),
        )
        if values is not None
    }


def plan_at(
    point: OperatingPoint, demand: Demand, policy: PolicyConfig, *, error_ratio: float = STEP_TIME_ERROR_RATIO
) -> Plan:
    """Return the replicas for a demand when one replica carries ``point``.

    ``error_ratio``: the 90 % point of measured over predicted step time (and its inverse the 10 % point).

    Raises:
        InvalidInput: the demand or the policy cannot be.
    """
    check_policy(policy)
    level = policy.demand_quantile
    needed = needs(demand, level, point)
    currency = max(needed, key=lambda name: needed[name])
    unclamped = _ceil(needed[currency])
    low, middle, high = (max(needs(demand, q, point).values()) for q in (0.1, 0.5, 0.9))
    error = math.log(error_ratio)
    if low > 0:
        # Demand and step time err independently: their log errors add in squares.
        lower = middle * math.exp(-math.hypot(math.log(middle / low), error))
        upper = middle * math.exp(math.hypot(math.log(high / middle), error))
    else:
        lower, upper = 0.0, high * error_ratio
    desired = _clamp(unclamped, policy)
    constraint = point.constraint
    if currency == "kv_tokens":
        constraint = Constraint.KV_MEMORY
    elif unclamped < policy.min_replicas:
        constraint = Constraint.MIN_REPLICAS
    rate = demand_quantile(demand.levels, demand.requests_per_second, level)
    return Plan(
        desired=desired,
        lower=min(_clamp(_ceil(lower), policy), desired),
        upper=max(_clamp(_ceil(upper), policy), desired),
        unclamped=unclamped,
        currency=currency,
        constraint=constraint,
        demand_quantile=level,
        demand_requests_per_second=rate,
        operating_point=point,
        message=_plan_message(demand, rate, level, desired, unclamped, currency, constraint, point),
    )


def _plan_message(
    demand: Demand,
    rate: float,
    level: float,
    desired: int,
    unclamped: int,
    currency: str,
    constraint: Constraint,
    point: OperatingPoint,
) -> str:
    ahead = f"{demand.horizon_seconds / 60:.3g}-min-ahead p{level * 100:.3g} of {rate:.3g} req/s"
    needs = f"needs {unclamped} replica{'' if unclamped == 1 else 's'}"
    if not point.feasible:
        return f"{ahead} {needs} at a relaxed target; {point.message}"
    if constraint is Constraint.MIN_REPLICAS:
        return f"{ahead} {needs}, the minimum is {desired}"
    if currency == "kv_tokens":
        why = f"KV memory binds at {point.kv_capacity_tokens * MAX_UTILISATION:.3g} tokens each"
    else:
        why = f"{constraint.value.replace('_', ' ')} binds at {point.requests_per_second:.3g} req/s each"
    return f"{ahead} {needs} ({why})"


def plan(
    demand: Demand,
    deployment: Deployment,
    slo: Slo,
    policy: PolicyConfig,
    *,
    catalog: Catalog | None = None,
    coefficients: StepCoefficients | None = None,
) -> Plan:
    """Return the replicas for a demand: ``Planner`` for a single question; see there for what it raises."""
    return Planner(deployment, slo, catalog=catalog, coefficients=coefficients, max_entries=1).plan(demand, policy)


def check_policy(policy: PolicyConfig) -> None:
    """Refuse limits and costs that cannot be.

    Raises:
        InvalidInput: negative or crossed limits, a cost ratio or a step ratio that is not positive.
    """
    if not 0 <= policy.min_replicas <= policy.max_replicas or policy.max_replicas < 1:
        raise InvalidInput(f"min_replicas {policy.min_replicas} and max_replicas {policy.max_replicas} cannot be")
    if not 0 < policy.under_to_over_cost < math.inf:
        raise InvalidInput(f"under_to_over_cost must be positive, not {policy.under_to_over_cost!r}")
    if not policy.max_step_up_ratio > 1 or not 0 < policy.max_step_down_ratio <= 1:
        raise InvalidInput("max_step_up_ratio must be above 1, max_step_down_ratio in (0, 1]")


def _clamp(replicas: int, policy: PolicyConfig) -> int:
    return min(max(replicas, policy.min_replicas), policy.max_replicas)
