"""The operating point of a deployment, from the global fit or corrected by its own measurements.

``known_point`` is the only way from a deployment to the load that one replica carries: ``size``, ``whatif``,
``--explain`` and the live controller call it, so the same deployment, workload and measurements give the same figure
(docs/adr/0020).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sizing.planning.confidence import Support, support
from sizing.planning.operating_point import OperatingPoint, check_slo, measured, rough_lane_batch, solve_replica
from sizing.planning.sensitivity import capacity_ratios
from sizing.replica.load_point import LoadPoint
from sizing.replica.memory import Resolved
from sizing.replica.replica_model import ReplicaModel
from sizing.replica.step_time import StepCoefficients
from sizing.types import Confidence, Slo, Workload

if TYPE_CHECKING:  # who passes a calibration has loaded it
    from sizing.calibration.calibrator import Calibration

__all__ = [
    "PLANNING_GUARDS",
    "Guards",
    "Known",
    "error_text",
    "known_point",
    "measured_load",
]


@dataclass(frozen=True, slots=True)
class Guards:
    """How far a plan follows a calibration.

    ``ttft_ratios`` bounds the correction of TTFT. With fewer than ``least_ttft_points`` measured TTFTs the correction
    may only lengthen it: a few fast ones must not raise what a replica is planned for (llm-d's throughput analyzer also
    waits for 10 samples).
    """

    least_ttft_points: int = 10
    ttft_ratios: tuple[float, float] = (0.5, 4.0)

    def ttft_ratio(self, measured_over_predicted: float, points: int) -> float:
        """Return the factor on predicted TTFT that a plan uses, given ``points`` measured TTFTs."""
        low, high = self.ttft_ratios
        if points < self.least_ttft_points:
            low = 1.0
        return min(max(measured_over_predicted, low), high)


#: What every plan uses, live and offline.
PLANNING_GUARDS = Guards()


@dataclass(frozen=True, slots=True)
class Known:
    """How well a deployment is known at one load.

    ``coefficients`` hold for step times there (None: the global fit), ``ttft_ratio`` is measured over predicted TTFT.
    ``support`` says how far predictions may be off there. ``capacity_ratios`` are what one replica carries over what it
    is predicted to, with step times at the 10 % and at the 90 % point of their error. ``points`` measurements were
    learned.
    """

    coefficients: StepCoefficients | None
    ttft_ratio: float
    support: Support
    capacity_ratios: tuple[float, float]
    points: int

    @property
    def confidence(self) -> Confidence:
        """The class of ``support``."""
        return self.support.confidence


def known_point(
    resolved: Resolved,
    workload: Workload,
    slo: Slo,
    *,
    dispersion: float = 1.0,
    coefficients: StepCoefficients | None = None,
    calibration: Calibration | None = None,
    guards: Guards = PLANNING_GUARDS,
) -> tuple[OperatingPoint, Known]:
    """Return the operating point of a deployment and how well it is known.

    With a calibration, step times and TTFT are corrected by what it knows near the operating point, which depends on
    the correction in turn: one round settles it. A calibration brings its own coefficients.

    Raises:
        InvalidInput: the objective or the workload is invalid.
        DoesNotFit: the weights or one request do not fit; the text names what would fit.
    """
    check_slo(slo)
    if calibration is None:
        replica = ReplicaModel(resolved, workload, dispersion=dispersion, coefficients=coefficients)
        point = solve_replica(replica, slo)
        learned = (coefficients or StepCoefficients()).learned
        known = support(resolved, workload, point.batch / resolved.lanes, learned)
        ratios = capacity_ratios(replica, point, slo, known.step_ratios_80)
        return point, Known(coefficients, 1.0, known, ratios, 0)
    replica = calibration.replica_of(resolved, workload, dispersion)
    lane_batch = rough_lane_batch(replica, slo)
    there = calibration.at(workload, lane_batch)
    ttft_ratio = guards.ttft_ratio(there.ttft_ratio, calibration.ttft_points)
    corrected = replica.scaled(there.step_ratio)
    point = solve_replica(corrected, slo, ttft_ratio=ttft_ratio, near_lane_batch=lane_batch)
    known = support(resolved, workload, lane_batch, calibration.prior.learned, there)
    ratios = capacity_ratios(corrected, point, slo, known.step_ratios_80)
    return point, Known(calibration.scaled(there.step_ratio), ttft_ratio, known, ratios, len(calibration.points))


def error_text(known: Known) -> str:
    """Return in words how far step times, and with them what one replica carries, may be from the prediction."""
    (fast, slow), (most, least) = known.support.step_ratios_80, known.capacity_ratios
    return f"step times {fast:.3g} to {slow:.3g} times the predicted, capacity {least:.3g} to {most:.3g} times"


def measured_load(load: LoadPoint, ttft_ratio: float) -> LoadPoint:
    """Return the load point with its TTFTs multiplied by ``ttft_ratio``, as clients would measure them."""
    mean, p50, p95 = (measured(latency, ttft_ratio) for latency in (load.mean, load.p50, load.p95))
    return replace(load, mean=mean, p50=p50, p95=p95)
