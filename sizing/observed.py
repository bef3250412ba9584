"""What was measured on a deployment, and what it says about the terms of the step time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from sizing.errors import InvalidInput
from sizing.memory import Resolved
from sizing.model import Workload
from sizing.replica import ReplicaModel
from sizing.steptime import StepCoefficients, step_model
from sizing.tails import squared_variation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "COEFFICIENTS",
    "ObservedLoad",
    "ObservedPoint",
    "check_point",
    "implied_lane_batch",
    "point_of_load",
    "steady_step_seconds",
    "step_terms",
]

#: Names of the step coefficients, in the order of every array of them.
COEFFICIENTS = tuple(field.name for field in fields(StepCoefficients) if field.name != "learned")


@dataclass(frozen=True, slots=True)
class ObservedPoint:
    """One replica at one load, as measured over a while: means per request, seconds, tokens.

    ``tpot_seconds`` is (E2E - TTFT) / (output tokens - 1), ``ttft_seconds`` runs from sending (None: not known).
    ``requests_per_second`` are completed; ``concurrency`` counts requests sent and not finished; at least one of the
    two. ``closed_loop``: clients send when something finishes.
    """

    input_tokens: float
    output_tokens: float
    tpot_seconds: float
    ttft_seconds: float | None = None
    requests_per_second: float | None = None
    concurrency: float | None = None
    closed_loop: bool = False
    cached_share: float = 0.0

    @property
    def workload(self) -> Workload:
        """The lengths as a workload of constant lengths."""
        return Workload(self.input_tokens, self.output_tokens, cached_share=self.cached_share)


@dataclass(frozen=True, slots=True)
class ObservedLoad:
    """What a window of telemetry says about one replica: means per request, seconds and tokens.

    ``e2e_seconds`` from arrival to the last token; ``requests_per_second`` per replica; ``cached_share`` of the input.
    ``ttft_seconds`` (from arrival) and ``tpot_seconds`` are means over requests; None: not known.
    """

    input_tokens: float
    output_tokens: float
    e2e_seconds: float
    requests_per_second: float
    cached_share: float = 0.0
    ttft_seconds: float | None = None
    tpot_seconds: float | None = None

    @property
    def workload(self) -> Workload:
        """The lengths as a workload of constant lengths."""
        return Workload(self.input_tokens, self.output_tokens, cached_share=self.cached_share)


#: Without a measured time per output token, a load teaches the step time only where the predicted time to first token
#: is at most this share of its latency; and the time to first token only below this share of saturation, where it is
#: service and not a queue.
_TTFT_SHARE, _TTFT_LOAD = 0.25, 0.8


def point_of_load(resolved: Resolved, load: ObservedLoad, coefficients: StepCoefficients) -> ObservedPoint | None:
    """Return the times per output token and to first token that a load implies, or None when it says little.

    The time per output token as measured; else what the end-to-end latency leaves after the TTFT that ``coefficients``
    predict at this rate, over the output tokens but one. TTFT only as measured, and not near or beyond saturation. A
    rate beyond the model's saturation says that the model is too slow, if the time per output token was measured.
    None: outputs too short, a rate beyond saturation without that or with more at once than fits, or a predicted TTFT
    too large a share.

    Raises:
        InvalidInput: a number cannot be.
        DoesNotFit: the deployment cannot run it.
    """
    for name in ("input_tokens", "output_tokens", "e2e_seconds", "requests_per_second"):
        if not 0 < getattr(load, name) < 1e8:
            raise InvalidInput(f"{name} of an observed load must be positive, not {getattr(load, name)!r}")
    if load.output_tokens < 2:
        return None
    replica = ReplicaModel(resolved, load.workload, coefficients=coefficients)
    batch, tpot = replica.lane_batch(load.requests_per_second), load.tpot_seconds
    if tpot is None:
        if batch is None:
            return None
        ttft = replica.mean_latency(batch).ttft_seconds
        if not ttft <= _TTFT_SHARE * load.e2e_seconds:
            return None
        tpot = (load.e2e_seconds - ttft) / (load.output_tokens - 1.0)
    # By the rate, and by the batch that the measured times imply: prompts of a crowded step wait, whatever the rate.
    crowded = replica.lane_batch(_TTFT_LOAD * replica.saturation_requests_per_second)
    implied = load.requests_per_second * load.output_tokens * tpot / resolved.lanes
    if batch is None and implied > replica.max_lane_batch:
        return None
    served = crowded is not None and batch is not None and batch <= crowded and implied <= crowded
    point = ObservedPoint(
        load.input_tokens,
        load.output_tokens,
        tpot,
        ttft_seconds=load.ttft_seconds if served else None,
        requests_per_second=load.requests_per_second,
        cached_share=load.cached_share,
    )
    check_point(point)
    return point


def step_terms(
    resolved: Resolved, workload: Workload, lane_batch: float, prior: StepCoefficients | None = None
) -> NDArray[np.float64]:
    """Return the seconds of a step per unit of each coefficient, in the order of ``COEFFICIENTS``.

    Their dot product with the coefficients is the step time of ``sizing.replica`` at ``lane_batch`` decoding sequences;
    the factors on the terms are those that ``prior`` has learned.
    """
    import numpy as np

    prior = prior or StepCoefficients()
    return np.array(
        [
            steady_step_seconds(
                resolved,
                workload,
                lane_batch,
                _only(prior, name),
            )
            for name in COEFFICIENTS
        ]
    )


def _only(prior: StepCoefficients, name: str) -> StepCoefficients:
    """Return one coefficient 1 and the others 0, with what ``prior`` has learned."""
    ones = {other: float(other == name) for other in COEFFICIENTS}
    return StepCoefficients(**ones, learned=prior.learned)


def steady_step_seconds(
    resolved: Resolved,
    workload: Workload,
    lane_batch: float,
    coefficients: StepCoefficients,
    factors: Sequence[float] | None = None,
) -> float:
    """Return the mean step with ``lane_batch`` sequences decoding, as ``sizing.replica`` has it, whatever fits.

    ``factors`` as in ``sizing.steptime.step_model``.
    """
    mean_in, mean_out = max(workload.input_tokens, 1.0), max(workload.output_tokens, 1.0)
    computed = max(mean_in * (1.0 - workload.cached_share), 1.0)
    product = workload.input_output_product
    if product is None:
        product = mean_in * mean_out
    context = (product + max(workload.output_tokens_squared or 0.0, mean_out**2) / 2.0) / mean_out
    before = (mean_in - computed / 2.0) * (1.0 + squared_variation(mean_in, workload.input_tokens_squared))
    prompts = lane_batch * computed / mean_out
    chunk = min(computed, float(resolved.deployment.max_batched_tokens))
    step = step_model(resolved, coefficients, factors=factors)
    return step.mean_step_seconds(lane_batch, context, prompts, before, chunk)


def check_point(point: ObservedPoint) -> None:
    """Refuse a point that cannot be.

    Raises:
        InvalidInput: a number is not positive and finite, or there is no load.
    """
    for name in ("input_tokens", "output_tokens", "tpot_seconds"):
        if not 0 < getattr(point, name) < 1e8:
            raise InvalidInput(f"{name} of an observed point must be positive, not {getattr(point, name)!r}")
    for name in ("ttft_seconds", "requests_per_second", "concurrency"):
        value = getattr(point, name)
        if value is not None and not 0 < value < 1e8:
            raise InvalidInput(f"{name} of an observed point must be positive, not {value!r}")
    if point.requests_per_second is None and point.concurrency is None:
        raise InvalidInput("an observed point needs requests_per_second or concurrency")
    if not 0 <= point.cached_share <= 1:
        raise InvalidInput(f"cached_share of an observed point must be in [0, 1], not {point.cached_share!r}")


def implied_lane_batch(resolved: Resolved, point: ObservedPoint, prior: StepCoefficients) -> float:
    """Return the decoding sequences of one lane that the measured times imply by Little's law."""
    decode = point.output_tokens * point.tpot_seconds
    if point.concurrency is None:
        assert point.requests_per_second is not None
        return max(point.requests_per_second * decode / resolved.lanes, 1.0)
    if point.ttft_seconds is None:
        replica = ReplicaModel(resolved, point.workload, dispersion=0.0, coefficients=prior)
        return max(replica.closed_loop_lane_batch(point.concurrency), 1.0)
    return max(point.concurrency / resolved.lanes * decode / (decode + point.ttft_seconds), 1.0)
