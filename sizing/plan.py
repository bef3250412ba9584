"""From demand to replicas: how many operating points the demand needs.

Replicas = the largest over the currencies (requests, computed prompt tokens, output tokens, resident KV tokens) of
demand quantile / capacity, rounded up. The quantile is the newsvendor's, cu / (cu + co) (Arrow, Harris and Marschak
1951).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sizing.catalog import Catalog
from sizing.errors import InvalidInput
from sizing.grid import on_grid, rounded
from sizing.load import check_workload
from sizing.memory import resolve
from sizing.model import Constraint, Demand, Deployment, PolicyConfig, Slo, Workload
from sizing.need import Need, demand_needs, replicas_text, whole
from sizing.operating import OperatingPoint, check_slo, operating_point, solve
from sizing.steptime import StepCoefficients

if TYPE_CHECKING:  # who passes a calibration has loaded it
    from sizing.calibrate import Calibration

__all__ = [
    "LEAST_TTFT_POINTS",
    "STEP_TIME_ERROR_RATIO",
    "OperatingPoint",
    "Plan",
    "Planner",
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
    and 90 % of the joint error of demand and step time. ``needs`` are those of the quantile, one for each currency that
    the demand is known in; the greatest decides.
    """

    desired: int
    lower: int
    upper: int
    unclamped: int
    needs: tuple[Need, ...]
    constraint: Constraint
    demand_quantile: float
    operating_point: OperatingPoint
    message: str

    @property
    def decisive(self) -> Need:
        """The need that decides."""
        return _greatest(self.needs)

    @property
    def demand_requests_per_second(self) -> float:
        """The demand quantile in requests, which every demand is known in."""
        return self.needs[0].demand

    @property
    def currency(self) -> str:
        """The currency that decides."""
        return self.decisive.currency


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
    return {need.currency: need.exact for need in demand_needs(demand, level, point)}


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
    needed = demand_needs(demand, level, point)
    decisive = _greatest(needed)
    unclamped = decisive.replicas
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
    if decisive.currency == "kv_tokens":
        constraint = Constraint.KV_MEMORY
    elif unclamped < policy.min_replicas:
        constraint = Constraint.MIN_REPLICAS
    return Plan(
        desired=desired,
        lower=min(_clamp(whole(lower), policy), desired),
        upper=max(_clamp(whole(upper), policy), desired),
        unclamped=unclamped,
        needs=needed,
        constraint=constraint,
        demand_quantile=level,
        operating_point=point,
        message=_plan_message(demand.horizon_seconds, level, desired, decisive, constraint, point),
    )


def _greatest(needed: tuple[Need, ...]) -> Need:
    return max(needed, key=lambda need: need.exact)


def _plan_message(
    horizon_seconds: float, level: float, desired: int, decisive: Need, constraint: Constraint, point: OperatingPoint
) -> str:
    """Name the demand that decides and what one replica carries of it: divided, they give the replicas."""
    quantity, capacity = decisive.figures()
    ahead = f"{horizon_seconds / 60:.3g}-min-ahead p{level * 100:.3g} of {quantity} {decisive.unit}"
    needs = f"needs {replicas_text(decisive.replicas)}"
    each = f"{capacity} {decisive.unit} each"
    if not point.feasible:
        return f"{ahead} {needs} at a relaxed target ({each}); {point.message}"
    if constraint is Constraint.MIN_REPLICAS:
        return f"{ahead} {needs} ({each}), the minimum is {desired}"
    what = "KV memory" if constraint is Constraint.KV_MEMORY else constraint.value.replace("_", " ")
    return f"{ahead} {needs} ({what} binds at {each})"


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
