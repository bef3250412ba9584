"""What a live queue needs: requests that wait now are demand that no forecast has to guess."""

from __future__ import annotations

import math

from sizing.planning.demand_needs import whole
from sizing.planning.operating_point import OperatingPoint

__all__ = ["CLEAR_SECONDS", "queue_need"]

#: A queue that is too long is to be gone so many seconds after the replicas serve.
CLEAR_SECONDS = 60.0


def queue_need(
    queued_requests: int | None,
    replicas: int | None,
    requests_per_second: float | None,
    point: OperatingPoint | None,
    ttft_seconds: float | None,
) -> int | None:
    """Return the replicas that a live queue needs; None: it needs none.

    Without a replica any queue needs one. Otherwise it is too long when its last request would wait longer than the
    objective for the time to first token: queue / (replicas × saturation rate), by Little's law (Little 1961). What is
    needed then is what carries the arrivals and works the queue off in ``CLEAR_SECONDS`` (the backlog per instance that
    an acceptable latency allows, as in "Scaling based on Amazon SQS", Amazon EC2 Auto Scaling user guide).

    Args:
        queued_requests: requests that wait; None: not known.
        replicas: those that serve; None: not known.
        requests_per_second: arrivals; None: not known, taken as what the queue itself says.
        point: what one replica carries; None: not known.
        ttft_seconds: objective for the time to first token; None: ``CLEAR_SECONDS`` stand for it.
    """
    if not queued_requests or queued_requests < 0 or replicas is None:
        return None
    if point is None or not point.requests_per_second > 0:
        return 1 if replicas == 0 else None
    rate = requests_per_second if requests_per_second is not None and math.isfinite(requests_per_second) else 0.0
    needed = max(1, whole((max(rate, 0.0) + queued_requests / CLEAR_SECONDS) / point.requests_per_second))
    if replicas == 0:
        return needed
    wait = queued_requests / (replicas * max(point.saturation_requests_per_second, point.requests_per_second))
    return needed if wait > (CLEAR_SECONDS if ttft_seconds is None else ttft_seconds) else None
