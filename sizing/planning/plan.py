"""From demand to replicas: how many operating points the demand needs.

Replicas = the largest over the currencies (requests, computed prompt tokens, output tokens, resident KV tokens) of
demand quantile / capacity, rounded up. The quantile is the newsvendor's, cu / (cu + co) (Arrow, Harris and Marschak
1951).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from sizing.catalog import Catalog
from sizing.errors import DoesNotFit, InvalidInput
from sizing.planning.demand_needs import Need, demand_needs, most_needed_at, provision_needs, replicas_text, whole
from sizing.planning.known_point import Known, known_point
from sizing.planning.operating_point import OperatingPoint, check_slo, operating_point
from sizing.planning.provisioned_mix import mix_share, provisioned_mix
from sizing.planning.workload_grid import on_grid, rounded
from sizing.replica.load_point import check_workload
from sizing.replica.memory import resolve
from sizing.replica.step_time import StepCoefficients
from sizing.types import Confidence, Constraint, Demand, Deployment, PolicyConfig, Provision, Slo, Workload
from sizing.wording import rule_words, words

if TYPE_CHECKING:  # who passes a calibration has loaded it
    from sizing.calibration.calibrator import Calibration

__all__ = [
    "OperatingPoint",
    "Plan",
    "Planner",
    "needs",
    "observed_only",
    "operating_point",
    "plan",
    "plan_at",
    "within",
]


@dataclass(frozen=True, slots=True)
class Plan:
    """Replicas for a demand. ``lower`` ≤ ``desired`` ≤ ``upper``; all within the policy's limits.

    ``unclamped`` is what the demand quantile needs before the limits; ``lower`` and ``upper`` bound the need at 10 %
    and 90 % of the joint error of demand and step time. ``interval`` is the same with the median in the middle, not
    rounded and before the limits. ``needs`` are those of the quantile, one for each currency that
    the demand is known in; the greatest decides. ``confidence`` is that of the operating point.
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
    confidence: Confidence
    interval: tuple[float, float, float]

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


def observed_only(demand: Demand, growth: float = 1.0) -> Demand:
    """Return the demand as observed, times ``growth``, without the forecast; nothing observed counts as none."""
    rate = demand.observed_requests_per_second
    return Demand(
        levels=(0.5,),
        requests_per_second=(0.0 if rate is None else rate * growth,),
        workload=demand.workload,
        horizon_seconds=0.0,
        observed_requests_per_second=rate,
        dispersion=demand.dispersion,
        provision=demand.provision if growth != 1.0 else None,
    )


class Planner:
    """Plans for one deployment and SLO; remembers operating points of recent workloads.

    Workloads are rounded to steps of 1 % before use, so a plan does not depend on what is remembered. Operating points
    are those of ``sizing.planning.known_point.known_point``, corrected by the ``calibration`` where there is one, whose
    coefficients replace the given ones.

    Raises:
        UnknownModel, UnknownGpu, InvalidInput: at construction, if the deployment is invalid or not in the catalogue.
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
        self._coefficients = coefficients
        self._calibration = calibration
        self._max_entries = max_entries
        self._points: OrderedDict[tuple[Workload, float], tuple[OperatingPoint, Known]] = OrderedDict()

    def calibrate(self, calibration: Calibration) -> None:
        """Plan with ``calibration`` of this deployment from now on."""
        self._calibration = calibration
        self._points.clear()

    def operating_point(self, workload: Workload, dispersion: float = 1.0) -> OperatingPoint:
        """Return the operating point of the rounded workload; see ``known``."""
        return self.known(workload, dispersion)[0]

    def known(self, workload: Workload, dispersion: float = 1.0) -> tuple[OperatingPoint, Known]:
        """Return the operating point of the rounded workload and how well it is known (``known_point``).

        Raises:
            InvalidInput: the workload is invalid.
            DoesNotFit: the weights or one request do not fit.
        """
        check_workload(workload)
        key = (rounded(workload), on_grid(dispersion, 10))
        found = self._points.get(key)
        if found is None:
            found = known_point(
                self.resolved,
                key[0],
                self.slo,
                dispersion=key[1],
                coefficients=self._coefficients,
                calibration=self._calibration,
            )
            self._points[key] = found
            if len(self._points) > self._max_entries:
                self._points.popitem(last=False)
        else:
            self._points.move_to_end(key)
        return found

    def needs(self, demand: Demand, level: float, point: OperatingPoint) -> dict[str, float]:
        """Return the replicas that each currency needs; see ``sizing.planning.plan.needs``."""
        return needs(demand, level, point)

    def plan(self, demand: Demand, policy: PolicyConfig) -> Plan:
        """Return the replicas for a demand under a policy.

        What is provisioned for is divided by what a replica carries of such requests (``provisioned_mix``) where that
        needs less than the greatest of the currencies does with the mean request.

        Raises:
            InvalidInput: the demand is invalid (NaN, negative, unordered levels).
            DoesNotFit: no replica of this deployment can exist.
        """
        point, known = self.known(demand.workload, demand.dispersion)
        return plan_at(point, demand, policy, known, provisioned_at=self._provisioned_at(demand, point))

    def _provisioned_at(self, demand: Demand, point: OperatingPoint) -> OperatingPoint | None:
        """Return the operating point of the requests that are provisioned for; None: that of the mean request counts.

        It is worked out only where currencies disagree about the whole number of replicas: what requests are like
        changes with every window. The burstier arrivals are, the less it counts (``mix_share``). It never adds
        replicas: each currency is provisioned for by itself, so that their ratio may be of requests that are longer
        than any that will come together.
        """
        share = mix_share(demand.dispersion)
        if demand.provision is None or share <= 0:
            return None
        by_rate = _by_rates(demand.provision, point)
        if whole(min(by_rate)) == whole(max(by_rate)):
            return None
        mix = provisioned_mix(demand.workload, demand.provision, share)
        if mix is None:
            return None
        try:
            found = self.operating_point(mix, demand.dispersion)
        except DoesNotFit:  # requests of that length do not, those that the pool has seen do
            return None
        less = max(_by_rates(demand.provision, found)) < max(by_rate)
        return found if less and found.feasible == point.feasible else None


def _by_rates(provision: Provision, point: OperatingPoint) -> list[float]:
    """Return the replicas, not rounded, that each rate of a provision needs."""
    return [need.exact for need in provision_needs(provision, point) if need.currency != "kv_tokens"]


def needs(demand: Demand, level: float, point: OperatingPoint) -> dict[str, float]:
    """Return the replicas (not rounded) that each currency of a demand needs at quantile ``level``."""
    return {need.currency: need.exact for need in demand_needs(demand, level, point)}


def plan_at(
    point: OperatingPoint,
    demand: Demand,
    policy: PolicyConfig,
    known: Known,
    *,
    provisioned_at: OperatingPoint | None = None,
) -> Plan:
    """Return the replicas for a demand when one replica carries ``point``, as well ``known`` as it is.

    ``provisioned_at`` is what it carries of the requests to provision for, in place of the mean request (None:
    ``point``).

    Raises:
        InvalidInput: the demand or the policy cannot be.
    """
    check_policy(policy)
    level = policy.demand_quantile
    low, middle, high = most_needed_at(demand, (0.1, 0.5, 0.9), point)
    if demand.provision is None:
        needed = demand_needs(demand, level, point)
    else:
        needed = provision_needs(demand.provision, provisioned_at or point)
    decisive = _greatest(needed)
    unclamped = decisive.replicas
    faster, slower = known.capacity_ratios
    if low > 0:
        # Demand and step time err independently: their log errors add in squares.
        lower = middle * math.exp(-math.hypot(math.log(middle / low), math.log(faster)))
        upper = middle * math.exp(math.hypot(math.log(high / middle), math.log(slower)))
    else:
        lower, upper = 0.0, high / slower
    desired = within(unclamped, policy)
    constraint = point.constraint
    if decisive.currency == "kv_tokens":
        constraint = Constraint.KV_MEMORY
    elif unclamped < policy.min_replicas:
        constraint = Constraint.MIN_REPLICAS
    return Plan(
        desired=desired,
        lower=min(within(whole(lower), policy), desired),
        upper=max(within(whole(upper), policy), desired),
        unclamped=unclamped,
        needs=needed,
        constraint=constraint,
        demand_quantile=level,
        operating_point=point,
        message=_plan_message(demand, level, desired, decisive, constraint, point),
        confidence=known.confidence,
        interval=(min(lower, middle), middle, max(upper, middle)),
    )


def _greatest(needed: tuple[Need, ...]) -> Need:
    return max(needed, key=_exact)


_exact = attrgetter("exact")


def _plan_message(
    demand: Demand, level: float, desired: int, decisive: Need, constraint: Constraint, point: OperatingPoint
) -> str:
    """Name the demand that decides and what one replica carries of it: divided, they give the replicas."""
    quantity, capacity = decisive.figures()
    ahead = f"{demand.horizon_seconds / 60:.3g}-min-ahead p{level * 100:.3g} of {quantity} {decisive.unit}"
    if demand.provision is not None:
        rule = rule_words(demand.provision.weights[0][0])
        ahead = f"{quantity} {decisive.unit} in {demand.horizon_seconds / 60:.3g} min, mostly by {rule},"
    ahead += f" ({demand.note})" if demand.note else ""
    needs = f"needs {replicas_text(decisive.replicas)}"
    each = f"{capacity} {decisive.unit} each"
    if not point.feasible:
        return f"{ahead} {needs} at a relaxed target ({each}); {point.message}"
    if constraint is Constraint.MIN_REPLICAS:
        return f"{ahead} {needs} ({each}), the minimum is {desired}"
    return f"{ahead} {needs} ({words(constraint.value)} binds at {each})"


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


def within(replicas: int, policy: PolicyConfig) -> int:
    """Return a number of replicas within the limits of a policy."""
    return min(max(replicas, policy.min_replicas), policy.max_replicas)
