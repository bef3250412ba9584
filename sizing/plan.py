"""From demand to replicas: the most one replica carries within its SLO, and how many of those the demand needs.

Replicas = the largest over the currencies (requests, computed prompt tokens, output tokens, resident KV tokens) of
demand quantile / capacity, rounded up. The quantile is the newsvendor's, cu / (cu + co) (Arrow, Harris and Marschak
1951).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np

from sizing.catalog import Catalog
from sizing.errors import DoesNotFit, InvalidInput
from sizing.memory import Resolved, alternatives, resolve
from sizing.model import Constraint, Demand, Deployment, PolicyConfig, Slo, Workload
from sizing.replica import MAX_UTILISATION, Latency, ReplicaModel, check_workload
from sizing.steptime import StepCoefficients

__all__ = ["STEP_TIME_ERROR_RATIO", "OperatingPoint", "Plan", "Planner", "demand_quantile", "operating_point", "plan"]

#: The 10 % and 90 % points of measured over predicted step time are about 1/ratio and ratio: 0.71 and 1.35 on unseen
#: architectures (leave-one-architecture-out, 1,730 end-to-end rows; docs/sizing.md).
STEP_TIME_ERROR_RATIO = 1.36
#: An SLO that an idle replica misses is planned for at this multiple of what an idle replica reaches.
_RELAXED = 2.0
_LOG_GRID = 0.01


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The most that one replica carries within an SLO. Rates are per second and replica.

    ``feasible`` is False when even a nearly idle replica misses the SLO: then the figures belong to ``relaxed_slo``.
    ``kv_tokens`` are resident at this load, ``kv_capacity_tokens`` fit. ``saturation_requests_per_second`` is where the
    batch is full. ``at_slo`` is the latency at the SLO's percentile. ``advice`` is the smallest change that would help.
    """

    feasible: bool
    requests_per_second: float
    saturation_requests_per_second: float
    batch: float
    constraint: Constraint
    p50: Latency
    p95: Latency
    at_slo: Latency
    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    kv_tokens: float
    kv_capacity_tokens: float
    relaxed_slo: Slo | None
    message: str
    advice: str | None


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


def _check_slo(slo: Slo) -> None:
    if not 0.0 < slo.percentile < 1.0:
        raise InvalidInput(f"the SLO's percentile must be in (0, 1), not {slo.percentile!r}")
    for name in ("ttft_seconds", "tpot_seconds"):
        value = getattr(slo, name)
        if value is not None and not 0 < value < math.inf:
            raise InvalidInput(f"{name} of the SLO must be positive, not {value!r}")


def _meets(latency: Latency, slo: Slo) -> bool:
    ttft = slo.ttft_seconds is None or latency.ttft_seconds <= slo.ttft_seconds
    return ttft and (slo.tpot_seconds is None or latency.tpot_seconds <= slo.tpot_seconds)


def _largest_batch(replica: ReplicaModel, slo: Slo) -> float:
    """Return the largest batch of a lane within the SLO and the stability margin; 0 when there is none."""
    ceiling = replica.lane_batch(replica.saturation_requests_per_second * MAX_UTILISATION) or 0.0

    def good(batch: float) -> bool:
        return _meets(replica.latency(batch, slo.percentile, slo.percentile), slo)

    if good(ceiling):
        return ceiling
    low, high = 0.0, ceiling
    if not good(ceiling * 1e-6):
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        if good(middle):
            low = middle
        else:
            high = middle
    return low


def _binding(replica: ReplicaModel, batch: float, slo: Slo) -> Constraint:
    """Say what keeps the replica from carrying a little more."""
    beyond = batch * 1.001 + 1e-9
    latency = replica.latency(beyond, slo.percentile, slo.percentile)
    if slo.tpot_seconds is not None and latency.tpot_seconds > slo.tpot_seconds:
        return Constraint.DECODE_LATENCY
    if slo.ttft_seconds is not None and latency.ttft_seconds > slo.ttft_seconds:
        prefill, place = replica.waits(beyond)
        level = slo.percentile
        if place.quantile_seconds(level) > max(prefill.quantile_seconds(level), 0.25 * slo.ttft_seconds):
            return replica.limit
        if prefill.quantile_seconds(level) > 0.5 * slo.ttft_seconds:
            return Constraint.QUEUE_WAIT
        return Constraint.PREFILL_COMPUTE
    return replica.limit


def _point(replica: ReplicaModel, slo: Slo, batch: float, *, asked: Slo, feasible: bool) -> OperatingPoint:
    load = replica.point(batch)
    at_slo = replica.latency(batch, slo.percentile, slo.percentile)
    constraint = _binding(replica, batch, slo)
    percent = f"p{slo.percentile * 100:g}"
    if feasible:
        message = (
            f"{constraint.value} binds at {load.requests_per_second:.3g} req/s per replica "
            f"(batch {load.batch:.0f}, {percent} TTFT {at_slo.ttft_seconds:.3g} s, "
            f"TPOT {at_slo.tpot_seconds * 1e3:.3g} ms)"
        )
    else:
        idle = replica.latency(replica.max_lane_batch * 1e-6, slo.percentile, slo.percentile)
        missed = []
        if asked.ttft_seconds is not None and idle.ttft_seconds > asked.ttft_seconds:
            missed.append(f"TTFT is {idle.ttft_seconds:.3g} s against {asked.ttft_seconds:.3g} s")
        if asked.tpot_seconds is not None and idle.tpot_seconds > asked.tpot_seconds:
            missed.append(f"TPOT is {idle.tpot_seconds * 1e3:.3g} ms against {asked.tpot_seconds * 1e3:.3g} ms")
        message = f"no number of replicas meets the SLO: on an idle one {percent} " + " and ".join(missed)
    capacity = replica.max_kv_batch * replica.context_tokens
    return OperatingPoint(
        feasible=feasible,
        requests_per_second=load.requests_per_second,
        saturation_requests_per_second=replica.saturation_requests_per_second,
        batch=load.batch,
        constraint=constraint if feasible else Constraint.SLO_INFEASIBLE,
        p50=load.p50,
        p95=load.p95,
        at_slo=at_slo,
        prefill_tokens_per_second=load.prefill_tokens_per_second,
        decode_tokens_per_second=load.decode_tokens_per_second,
        kv_tokens=load.kv_tokens,
        kv_capacity_tokens=capacity,
        relaxed_slo=None if feasible else slo,
        message=message,
        advice=None,
    )


def _solve(
    resolved: Resolved, workload: Workload, slo: Slo, dispersion: float, coefficients: StepCoefficients | None
) -> OperatingPoint:
    replica = ReplicaModel(resolved, workload, dispersion=dispersion, coefficients=coefficients)
    batch = _largest_batch(replica, slo)
    if batch > 0:
        return _point(replica, slo, batch, asked=slo, feasible=True)
    idle = replica.latency(replica.max_lane_batch * 1e-6, slo.percentile, slo.percentile)
    relaxed = replace(
        slo,
        ttft_seconds=None if slo.ttft_seconds is None else max(slo.ttft_seconds, _RELAXED * idle.ttft_seconds),
        tpot_seconds=None if slo.tpot_seconds is None else max(slo.tpot_seconds, _RELAXED * idle.tpot_seconds),
    )
    point = _point(replica, relaxed, _largest_batch(replica, relaxed), asked=slo, feasible=False)
    advice = _helping_change(resolved, workload, slo, dispersion, coefficients)
    if advice is None:
        parts = []
        if slo.ttft_seconds is not None and idle.ttft_seconds > slo.ttft_seconds:
            parts.append(f"TTFT of {_up(idle.ttft_seconds):g} s")
        if slo.tpot_seconds is not None and idle.tpot_seconds > slo.tpot_seconds:
            parts.append(f"TPOT of {_up(idle.tpot_seconds * 1e3):g} ms")
        advice = "an SLO with " + " and ".join(parts)
    return replace(point, advice=advice, message=f"{point.message}; {advice} would be feasible")


def _up(value: float) -> float:
    """Round up to two significant digits."""
    scale = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / scale * (1 + 1e-9)) * scale:.6g}")


def _helping_change(
    resolved: Resolved, workload: Workload, slo: Slo, dispersion: float, coefficients: StepCoefficients | None
) -> str | None:
    for change, words in alternatives(resolved):
        try:
            replica = ReplicaModel(change, workload, dispersion=dispersion, coefficients=coefficients)
        except DoesNotFit:
            continue
        if _largest_batch(replica, slo) > 0:
            return words
    return None


def operating_point(
    deployment: Deployment,
    workload: Workload,
    slo: Slo,
    *,
    dispersion: float = 1.0,
    catalog: Catalog | None = None,
    coefficients: StepCoefficients | None = None,
) -> OperatingPoint:
    """Return the most that one replica carries within an SLO, and what binds.

    Raises:
        UnknownModel, UnknownGpu, InvalidInput: the question cannot be understood.
        DoesNotFit: the weights or one request do not fit; the text says what would.
    """
    _check_slo(slo)
    return _solve(resolve(deployment, catalog), workload, slo, dispersion, coefficients)


def demand_quantile(levels: tuple[float, ...], values: tuple[float, ...], level: float) -> float:
    """Return the quantile at ``level``, linear between the given ones and flat beyond them.

    Raises:
        InvalidInput: no or unequal numbers of levels and values, levels not ascending in (0, 1), a value that is
            negative or not finite.
    """
    if not levels or len(levels) != len(values):
        raise InvalidInput(f"{len(levels)} quantile levels with {len(values)} values")
    grid, quantiles = np.asarray(levels, dtype=float), np.asarray(values, dtype=float)
    if not (np.all(np.diff(grid) > 0) and grid[0] > 0 and grid[-1] < 1):
        raise InvalidInput("quantile levels must ascend within (0, 1)")
    if not np.all(np.isfinite(quantiles)) or quantiles.min() < 0:
        raise InvalidInput("demand must be finite and not negative")
    return float(np.interp(level, grid, np.maximum.accumulate(quantiles)))


def _ceil(need: float) -> int:
    """Round a need up; a need of 3.0000001 from rounding errors is 3."""
    return math.ceil(need - 1e-6) if need < 1e9 else 10**9


class Planner:
    """Plans for one deployment and SLO; remembers operating points of recent workloads.

    Workloads are rounded to steps of 1 % before use, so a plan does not depend on what is remembered.

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
        max_entries: int = 128,
    ) -> None:
        _check_slo(slo)
        self.resolved = resolve(deployment, catalog)
        self.slo = slo
        self._coefficients = coefficients
        self._max_entries = max_entries
        self._points: OrderedDict[tuple[Workload, float], OperatingPoint] = OrderedDict()

    def operating_point(self, workload: Workload, dispersion: float = 1.0) -> OperatingPoint:
        """Return the operating point of the rounded workload; see ``sizing.plan.operating_point``."""
        check_workload(workload)
        key = (_rounded(workload), _grid(dispersion, 10 * _LOG_GRID))
        point = self._points.get(key)
        if point is None:
            point = _solve(self.resolved, key[0], self.slo, key[1], self._coefficients)
            self._points[key] = point
            if len(self._points) > self._max_entries:
                self._points.popitem(last=False)
        else:
            self._points.move_to_end(key)
        return point

    def needs(self, demand: Demand, level: float, point: OperatingPoint) -> dict[str, float]:
        """Return the replicas (not rounded) that each currency needs at quantile ``level``."""
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

    def plan(self, demand: Demand, policy: PolicyConfig) -> Plan:
        """Return the replicas for a demand under a policy.

        Raises:
            InvalidInput: the demand cannot be.
            DoesNotFit: no replica of this deployment can exist.
        """
        check_policy(policy)
        point = self.operating_point(demand.workload, demand.dispersion)
        level = policy.demand_quantile
        needs = self.needs(demand, level, point)
        currency = max(needs, key=lambda name: needs[name])
        unclamped = _ceil(needs[currency])
        low, middle, high = (max(self.needs(demand, q, point).values()) for q in (0.1, 0.5, 0.9))
        error = math.log(STEP_TIME_ERROR_RATIO)
        if low > 0:
            # Demand and step time err independently: their log errors add in squares.
            lower = middle * math.exp(-math.hypot(math.log(middle / low), error))
            upper = middle * math.exp(math.hypot(math.log(high / middle), error))
        else:
            lower, upper = 0.0, high * STEP_TIME_ERROR_RATIO
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


def _grid(value: float, step: float = _LOG_GRID) -> float:
    """Round a positive number to a logarithmic grid."""
    if not 0 < value < math.inf:
        return value
    return math.exp(round(math.log(value) / step) * step)


def _rounded(workload: Workload) -> Workload:
    """Round lengths to a grid; second moments by their ratio to the means, so that constant lengths stay constant."""
    mean_in, mean_out = _grid(workload.input_tokens), _grid(workload.output_tokens)

    def moment(value: float | None, exact: float, rounded: float) -> float | None:
        return None if value is None or exact <= 0 else rounded * round(_grid(value / exact), 2)

    return Workload(
        input_tokens=mean_in,
        output_tokens=mean_out,
        input_tokens_squared=moment(workload.input_tokens_squared, workload.input_tokens**2, mean_in**2),
        output_tokens_squared=moment(workload.output_tokens_squared, workload.output_tokens**2, mean_out**2),
        input_output_product=moment(
            workload.input_output_product, workload.input_tokens * workload.output_tokens, mean_in * mean_out
        ),
        cached_share=round(workload.cached_share, 2),
        input_quantile=None if workload.input_quantile is None else _grid(workload.input_quantile),
        output_quantile=None if workload.output_quantile is None else _grid(workload.output_quantile),
    )
