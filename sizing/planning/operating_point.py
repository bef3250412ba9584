"""The most that one replica carries within an SLO, what keeps it from more, and what would help."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from sizing.catalog import Catalog
from sizing.errors import DoesNotFit, InvalidInput
from sizing.replica.load_point import Latency
from sizing.replica.memory import Resolved, alternatives, resolve
from sizing.replica.replica_model import MAX_UTILISATION, ReplicaModel
from sizing.replica.root_finding import narrow
from sizing.replica.step_time import StepCoefficients
from sizing.types import Constraint, Deployment, Slo, Workload
from sizing.wording import grouped, words

__all__ = [
    "OperatingPoint",
    "a_little_more",
    "check_slo",
    "measured",
    "operating_point",
    "rough_lane_batch",
    "solve",
    "solve_replica",
]

#: At the utilisation margin a limit of the batch binds where at least this share of it is in use. Below, rate grows so
#: slowly with the batch that the margin is reached while the batch is far from full.
_LIMIT_IN_USE = 0.75
#: An SLO that an idle replica misses is planned for at this multiple of what an idle replica reaches.
_RELAXED = 2.0
#: A first guess of an operating point is within this factor of the corrected one, most often.
_NEARBY = 1.25


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The most that one replica carries within an SLO. Rates are per second and replica.

    ``feasible`` is False when even a nearly idle replica misses the SLO: then the figures belong to ``relaxed_slo``.
    ``kv_tokens`` are resident at this load, ``kv_capacity_tokens`` fit. ``saturation_requests_per_second`` is where the
    batch is full. ``at_slo`` is the latency at the SLO's percentile, ``beyond`` that with a batch a thousandth larger.
    ``advice`` is the smallest change that would help.
    """

    feasible: bool
    requests_per_second: float
    saturation_requests_per_second: float
    batch: float
    constraint: Constraint
    p50: Latency
    p95: Latency
    at_slo: Latency
    beyond: Latency
    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    kv_tokens: float
    kv_capacity_tokens: float
    relaxed_slo: Slo | None
    message: str
    advice: str | None


def check_slo(slo: Slo) -> None:
    """Refuse objectives that cannot be.

    Raises:
        InvalidInput: a percentile outside (0, 1), a latency that is not positive and finite.
    """
    if not 0.0 < slo.percentile < 1.0:
        raise InvalidInput(f"the SLO's percentile must be in (0, 1), not {slo.percentile!r}")
    for name in ("ttft_seconds", "tpot_seconds"):
        value = getattr(slo, name)
        if value is not None and not 0 < value < math.inf:
            raise InvalidInput(f"{name} of the SLO must be positive, not {value!r}")


def _largest_batch(replica: ReplicaModel, slo: Slo, tolerance: float = 1e-6, near: float = 0.0) -> float:
    """Return the largest batch of a lane within the SLO and the stability margin; 0 when there is none.

    ``near`` is where it is looked for first; it is found within ``tolerance`` of itself.
    """

    times, percentile, most_ttft, most_tpot = replica.times, slo.percentile, slo.ttft_seconds, slo.tpot_seconds

    def excess(batch: float) -> float:
        """The log of the worst latency over its objective: at most 0 within the SLO, rising with load."""
        ttft, tpot = times(batch, percentile, percentile)
        ratio = 0.0
        if most_ttft is not None:
            ratio = ttft / most_ttft
        if most_tpot is not None:
            ratio = max(ratio, tpot / most_tpot)
        return math.log(ratio) if ratio > 0 else -math.inf

    most = MAX_UTILISATION * replica.saturation_requests_per_second
    high = near * _NEARBY
    if near > 0 and high < replica.max_lane_batch and replica.requests_per_second(high) <= most:
        at_high = excess(high)
        if at_high > 0:
            low = near / _NEARBY
            at_low = excess(low)
            if at_low <= 0:
                return narrow(excess, low, high, at_low, at_high, tolerance)[0]
    ceiling = replica.lane_batch(most) or 0.0
    at_ceiling = excess(ceiling)
    if at_ceiling <= 0:
        return ceiling
    idle = ceiling * 1e-6
    at_idle = excess(idle)
    if at_idle > 0:
        return 0.0
    return narrow(excess, idle, ceiling, at_idle, at_ceiling, tolerance)[0]


def a_little_more(batch: float) -> float:
    """Return the batch at which is looked what a little more load changes."""
    return batch * 1.001 + 1e-9


def _binding(replica: ReplicaModel, batch: float, latency: Latency, slo: Slo) -> Constraint:
    """Say what keeps the replica from carrying a little more, where ``latency`` is reached."""
    if slo.tpot_seconds is not None and latency.tpot_seconds > slo.tpot_seconds:
        return Constraint.DECODE_LATENCY
    if slo.ttft_seconds is not None and latency.ttft_seconds > slo.ttft_seconds:
        prefill, place = replica.waits(a_little_more(batch))
        level = slo.percentile
        if place.quantile_seconds(level) > max(prefill.quantile_seconds(level), 0.25 * slo.ttft_seconds):
            return replica.limit
        if prefill.quantile_seconds(level) > 0.5 * slo.ttft_seconds:
            return Constraint.QUEUE_WAIT
        return Constraint.PREFILL_COMPUTE
    return replica.limit if batch >= _LIMIT_IN_USE * replica.max_lane_batch else Constraint.UTILISATION_MARGIN


def _point(replica: ReplicaModel, slo: Slo, batch: float, *, asked: Slo, feasible: bool) -> OperatingPoint:
    load = replica.point(batch)
    # Without a length of its own at the SLO's percentile, a prompt there is as long as at any percentile.
    at_slo = load.p95
    if slo.percentile != 0.95 or replica.workload.input_quantile is not None:
        at_slo = replica.latency(batch, slo.percentile, slo.percentile)
    beyond = replica.latency(a_little_more(batch), slo.percentile, slo.percentile)
    constraint = _binding(replica, batch, beyond, slo)
    percent = f"p{slo.percentile * 100:g}"
    if feasible:
        message = (
            f"{words(constraint.value)} binds at {grouped(load.requests_per_second)} req/s per replica "
            f"(batch {load.batch:,.0f}, {percent} TTFT {at_slo.ttft_seconds:.3g} s, "
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
        beyond=beyond,
        prefill_tokens_per_second=load.prefill_tokens_per_second,
        decode_tokens_per_second=load.decode_tokens_per_second,
        kv_tokens=load.kv_tokens,
        kv_capacity_tokens=capacity,
        relaxed_slo=None if feasible else slo,
        message=message,
        advice=None,
    )


def solve(
    resolved: Resolved,
    workload: Workload,
    slo: Slo,
    dispersion: float,
    coefficients: StepCoefficients | None,
) -> OperatingPoint:
    """Return the operating point of a resolved deployment; see ``operating_point``."""
    return solve_replica(ReplicaModel(resolved, workload, dispersion=dispersion, coefficients=coefficients), slo)


def solve_replica(
    replica: ReplicaModel, slo: Slo, *, ttft_ratio: float = 1.0, near_lane_batch: float = 0.0
) -> OperatingPoint:
    """Return the operating point of a replica; see ``operating_point``.

    ``ttft_ratio`` is measured over predicted TTFT; the point's times are as clients would measure them.
    ``near_lane_batch`` is a guess of the batch of one lane there, which shortens the search.
    """
    if ttft_ratio == 1.0:
        return _solve(replica, slo, near_lane_batch)
    # TTFT comes out of the model uncorrected, so its objective is asked for in the model's own terms.
    ttft = slo.ttft_seconds
    asked = replace(slo, ttft_seconds=None if ttft is None else ttft / ttft_ratio)
    return _corrected(_solve(replica, asked, near_lane_batch), slo, ttft_ratio)


def rough_lane_batch(replica: ReplicaModel, slo: Slo) -> float:
    """Return the batch of one lane at the operating point of a replica, within a thousandth."""
    return _largest_batch(replica, slo, 1e-3) or _largest_batch(replica, _relaxed(replica, slo), 1e-3)


def _relaxed(replica: ReplicaModel, slo: Slo) -> Slo:
    """Return the objective that is planned for where an idle replica misses ``slo``."""
    idle = replica.latency(replica.max_lane_batch * 1e-6, slo.percentile, slo.percentile)
    return replace(
        slo,
        ttft_seconds=None if slo.ttft_seconds is None else max(slo.ttft_seconds, _RELAXED * idle.ttft_seconds),
        tpot_seconds=None if slo.tpot_seconds is None else max(slo.tpot_seconds, _RELAXED * idle.tpot_seconds),
    )


def _solve(replica: ReplicaModel, slo: Slo, near_lane_batch: float = 0.0) -> OperatingPoint:
    batch = _largest_batch(replica, slo, near=near_lane_batch)
    if batch > 0:
        return _point(replica, slo, batch, asked=slo, feasible=True)
    relaxed = _relaxed(replica, slo)
    idle = replica.latency(replica.max_lane_batch * 1e-6, slo.percentile, slo.percentile)
    point = _point(replica, relaxed, _largest_batch(replica, relaxed), asked=slo, feasible=False)
    advice = _helping_change(replica, slo)
    if advice is None:
        parts = []
        if slo.ttft_seconds is not None and idle.ttft_seconds > slo.ttft_seconds:
            parts.append(f"TTFT of {_up(idle.ttft_seconds):g} s")
        if slo.tpot_seconds is not None and idle.tpot_seconds > slo.tpot_seconds:
            parts.append(f"TPOT of {_up(idle.tpot_seconds * 1e3):g} ms")
        advice = "an SLO with " + " and ".join(parts)
    return replace(point, advice=advice, message=f"{point.message}; {advice} would be feasible")


def measured(latency: Latency, ttft_ratio: float) -> Latency:
    """Return the latency with its TTFT as measured over predicted."""
    return replace(latency, ttft_seconds=latency.ttft_seconds * ttft_ratio)


def _corrected(point: OperatingPoint, slo: Slo, ttft_ratio: float) -> OperatingPoint:
    """Return the point with its TTFTs as clients would measure them."""

    at_slo = measured(point.at_slo, ttft_ratio)
    corrected = replace(
        point,
        p50=measured(point.p50, ttft_ratio),
        p95=measured(point.p95, ttft_ratio),
        at_slo=at_slo,
        beyond=measured(point.beyond, ttft_ratio),
    )
    if point.feasible:
        message = (
            f"{words(point.constraint.value)} binds at {grouped(point.requests_per_second)} req/s per replica "
            f"(batch {point.batch:,.0f}, p{slo.percentile * 100:g} TTFT {at_slo.ttft_seconds:.3g} s, "
            f"TPOT {at_slo.tpot_seconds * 1e3:.3g} ms, calibrated)"
        )
        return replace(corrected, message=message)
    relaxed = point.relaxed_slo
    if relaxed is not None and relaxed.ttft_seconds is not None:
        relaxed = replace(relaxed, ttft_seconds=relaxed.ttft_seconds * ttft_ratio)
    message = f"{point.message} (TTFT before a measured correction of × {ttft_ratio:.2f})"
    return replace(corrected, relaxed_slo=relaxed, message=message)


def _up(value: float) -> float:
    """Round up to two significant digits."""
    scale = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / scale * (1 + 1e-9)) * scale:.6g}")


def _helping_change(replica: ReplicaModel, slo: Slo) -> str | None:
    for change, named in alternatives(replica.resolved):
        try:
            changed = replica.deployed(change)
        except DoesNotFit:
            continue
        if _largest_batch(changed, slo) > 0:
            return named
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
    check_slo(slo)
    return solve(resolve(deployment, catalog), workload, slo, dispersion, coefficients)
