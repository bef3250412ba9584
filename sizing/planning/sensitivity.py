"""How much what one replica carries changes when its steps take longer or shorter than predicted.

An error of the step time is not the same error of the capacity. Where the utilisation margin binds, capacity is as the
inverse of the step time. Where a latency binds, a step that is 10 % slower must be made up by a smaller batch, and a
step that mostly reads weights hardly gets shorter with the batch: a small error of the step is a large one of the
capacity.
"""

from __future__ import annotations

import math

from sizing.planning.operating_point import OperatingPoint, a_little_more
from sizing.replica.replica_model import MAX_UTILISATION, ReplicaModel
from sizing.types import Slo

__all__ = ["capacity_ratios"]


def capacity_ratios(
    replica: ReplicaModel, point: OperatingPoint, slo: Slo, step_ratios: tuple[float, float]
) -> tuple[float, float]:
    """Return the capacity at each of two factors on all step times, over that of ``point``.

    ``replica`` is the one that ``point`` is of; the second factor is the greater one. Latencies are taken as lines in
    the batch with their slopes at the point: a step is nearly one, and the waits near saturation, which are not, are
    kept in bounds by the utilisation margin at every factor. A replica runs one sequence per lane at least, also where
    even that misses the objective. An objective that no load is predicted to meet is planned for relative to the idle
    replica: the first factor divides what that carries, with the second one replica runs one sequence per lane.
    """
    batch = point.batch / replica.lanes
    more = a_little_more(batch)
    growth = more / batch - 1.0

    def slope(at: float, there: float) -> float:
        return max((there / at - 1.0) / growth, 0.0)

    mean_step = point.batch / (point.requests_per_second * replica.workload.output_tokens)
    step_slope = min(slope(mean_step, replica.step_seconds(more)), 1.0)
    one = min(1.0 / batch, 1.0)
    most = MAX_UTILISATION * point.saturation_requests_per_second / point.requests_per_second

    def carried(share: float, step_ratio: float) -> float:
        """Capacity over that of the point with so many times its batch."""
        if share == math.inf:
            return most / step_ratio
        return min(share / (1.0 + step_slope * (share - 1.0)), most) / step_ratio

    if not point.feasible:
        return 1.0 / step_ratios[0], carried(one, step_ratios[1])
    # Objective over latency at the point, and by which share that latency grows for each share of the batch.
    # Near a full batch the percentile of TPOT is that of the full one at any load; farther down it goes with the step.
    bounds = [
        (objective / seconds, max(slope(seconds, there), step_slope))
        for objective, seconds, there in (
            (slo.ttft_seconds, point.at_slo.ttft_seconds, point.beyond.ttft_seconds),
            (slo.tpot_seconds, point.at_slo.tpot_seconds, point.beyond.tpot_seconds),
        )
        if objective is not None
    ]

    def at(step_ratio: float) -> float:
        share = math.inf
        for room, steepness in bounds:
            share = min(share, _reached(room / step_ratio, steepness))
        return carried(max(share, one), step_ratio)

    return at(step_ratios[0]), at(step_ratios[1])


def _reached(room: float, slope: float) -> float:
    """Return the batch, over that of the point, at which a latency is ``room`` times what it is at the point."""
    if slope > 0.0:
        return 1.0 + (room - 1.0) / slope
    return math.inf if room >= 1.0 else 0.0
