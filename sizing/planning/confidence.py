"""How well a prediction is supported: the distance from what was measured decides the interval and the class.

``support`` is the only place that says so: ``size``, ``whatif``, ``--explain``, ``--points`` and the live controller
ask it, so a deployment at one load has one interval and one class wherever it is asked about (docs/adr/0038).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sizing.calibration.global_fit import Learned
from sizing.calibration.intervals import OWN_STEP_80, OWN_STEP_90, interval_kind
from sizing.replica.memory import Resolved
from sizing.types import Confidence, Workload

if TYPE_CHECKING:  # who passes a correction has loaded the calibration
    from sizing.calibration.calibrator import Correction

__all__ = ["CALIBRATED_LOG_SD", "Support", "deployment_confidence", "release_warning", "support"]

#: The largest standard deviation of the log step time that is called calibrated.
CALIBRATED_LOG_SD = 0.25
#: Standard normal quantile at 95 %: the bounds of a 90 % interval.
_Z90 = 1.645


@dataclass(frozen=True, slots=True)
class Support:
    """How well predictions at one load are supported.

    All ratios are (lower, upper) factors of measured over predicted. ``step_ratios_80`` bound the step time at 10 % and
    90 %, as plans do; ``tpot_ratios_90`` and ``ttft_ratios_90`` bound times at 5 % and 95 %, as predictions do.
    ``distance`` is that from the public measurements (``Learned.distance``); None where the deployment's own decide.
    """

    confidence: Confidence
    distance: float | None
    step_ratios_80: tuple[float, float]
    tpot_ratios_90: tuple[float, float]
    ttft_ratios_90: tuple[float, float]


def support(
    resolved: Resolved,
    workload: Workload,
    lane_batch: float,
    learned: Learned,
    correction: Correction | None = None,
) -> Support:
    """Return how well predictions at a load of ``lane_batch`` sequences per lane are supported.

    With a ``correction`` the intervals are those of what this deployment's own measurements taught, which widen with
    the distance from them. Without one they are those of predictions at this distance from the public measurements
    behind ``learned``, near them of this kind of deployment. The class is calibrated near measurements of this
    deployment whose step time is known within ``CALIBRATED_LOG_SD``, else interpolated within ``Learned.near`` of the
    public ones, else extrapolated.
    """
    if correction is not None:
        step, ttft = correction.step_log_sd, correction.ttft_log_sd
        intervals = _within(OWN_STEP_80 * step), _within(OWN_STEP_90 * step), _within(_Z90 * ttft)
        if correction.near and step <= CALIBRATED_LOG_SD:
            return Support(Confidence.CALIBRATED, None, *intervals)
    distance = learned.distance(resolved, workload.input_tokens, workload.output_tokens, lane_batch)
    if correction is None:
        kind = interval_kind(resolved)
        intervals = (
            learned.tpot_interval_80.factors(distance, kind),
            learned.tpot_interval.factors(distance, kind),
            learned.ttft_interval.factors(distance, kind),
        )
    return Support(_by_distance(distance, learned), distance, *intervals)


def deployment_confidence(resolved: Resolved, learned: Learned) -> Confidence:
    """Return the best class that the deployment can have, whatever its load, before anything of it is measured."""
    return _by_distance(learned.deployment_distance(resolved), learned)


def release_warning(resolved: Resolved, learned: Learned) -> str | None:
    """Return one sentence on a release of the engine that is older than all that were measured; None on others."""
    oldest = learned.newer_release(resolved)
    if oldest is None:
        return None
    deployment = resolved.deployment
    return (
        f"{deployment.engine} {deployment.engine_version} is older than all releases that step times were learned from "
        f"({'.'.join(map(str, oldest))} on): it may be much slower; calibrate with a load test"
    )


def _by_distance(distance: float, learned: Learned) -> Confidence:
    return Confidence.INTERPOLATED if distance <= learned.near else Confidence.EXTRAPOLATED


def _within(log_error: float) -> tuple[float, float]:
    return math.exp(-log_error), math.exp(log_error)
