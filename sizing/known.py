"""The operating point of a deployment by all that is known about it: the global fit, or its own measurements."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sizing.load import LoadPoint
from sizing.memory import Resolved
from sizing.model import Confidence, Slo, Workload
from sizing.operating import OperatingPoint, check_slo, measured, solve
from sizing.plan import STEP_TIME_ERROR_RATIO
from sizing.steptime import StepCoefficients

if TYPE_CHECKING:  # who passes a calibration has loaded it
    from sizing.calibrate import Calibration

__all__ = ["Known", "known_point", "measured_load"]

#: Standard normal quantile at 90 %: replica bounds are the 10 % and 90 % points.
_Z80 = 1.2816


@dataclass(frozen=True, slots=True)
class Known:
    """How well a deployment is known at one load.

    ``coefficients`` hold for step times there (None: the global fit), ``ttft_ratio`` is measured over predicted TTFT.
    ``error_ratio``: measured over predicted step time is above it, or below its inverse, with 10 % each. ``points``
    measurements were learned.
    """

    coefficients: StepCoefficients | None
    ttft_ratio: float
    error_ratio: float
    confidence: Confidence
    points: int


def known_point(
    resolved: Resolved,
    workload: Workload,
    slo: Slo,
    *,
    dispersion: float = 1.0,
    coefficients: StepCoefficients | None = None,
    calibration: Calibration | None = None,
) -> tuple[OperatingPoint, Known]:
    """Return the operating point of a deployment and how well it is known.

    With a calibration, step times and TTFT are corrected by what it knows near the operating point, which depends on
    the correction in turn: one round settles it.

    Raises:
        InvalidInput: the objective or the workload cannot be.
        DoesNotFit: the weights or one request do not fit; the text says what would.
    """
    check_slo(slo)
    if calibration is None:
        confidence = Confidence.EXTRAPOLATED if resolved.extrapolated else Confidence.INTERPOLATED
        point = solve(resolved, workload, slo, dispersion, coefficients)
        return point, Known(coefficients, 1.0, STEP_TIME_ERROR_RATIO, confidence, 0)
    first = solve(resolved, workload, slo, dispersion, calibration.coefficients)
    there = calibration.at(workload, first.batch / resolved.lanes)
    own = calibration.scaled(there.step_ratio)
    known = Known(
        coefficients=own,
        ttft_ratio=there.ttft_ratio,
        error_ratio=math.exp(_Z80 * there.step_log_sd),
        confidence=Confidence.CALIBRATED if there.near else Confidence.INTERPOLATED,
        points=len(calibration.points),
    )
    return solve(resolved, workload, slo, dispersion, own, ttft_ratio=there.ttft_ratio), known


def measured_load(load: LoadPoint, ttft_ratio: float) -> LoadPoint:
    """Return the load point with its TTFTs multiplied by ``ttft_ratio``, as clients would measure them."""
    mean, p50, p95 = (measured(latency, ttft_ratio) for latency in (load.mean, load.p50, load.p95))
    return replace(load, mean=mean, p50=p50, p95=p95)
