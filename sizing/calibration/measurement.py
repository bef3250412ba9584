"""What was measured on a deployment, and what it says about the terms of the step time."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sizing.errors import InvalidInput
from sizing.replica.load_point import mean_request
from sizing.replica.memory import Resolved
from sizing.replica.replica_model import ReplicaModel
from sizing.replica.step_time import StepCoefficients, step_model
from sizing.types import Workload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "COEFFICIENTS",
    "ObservedLoad",
    "ObservedPoint",
    "StepTerms",
    "check_point",
    "identity",
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
    ``ttft_seconds`` (from arrival) is a mean over requests, ``tpot_seconds`` one over tokens; None: not known.
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


def identity(resolved: Resolved) -> tuple[object, ...]:
    """Return what makes two deployments the same for measurements; scheduler limits and capacities do not matter."""
    d = resolved.deployment
    shape = (d.tensor_parallel, d.pipeline_parallel, d.expert_parallel, d.data_parallel)
    return resolved.model.name, resolved.gpu.name, shape, resolved.precision, resolved.kv_precision, d.engine.lower()


#: Without a measured time per output token, a load teaches the step time only where the predicted time to first token
#: is at most this share of its latency; and the time to first token only below this share of saturation, where it is
#: service and not a queue.
_TTFT_SHARE, _TTFT_LOAD = 0.25, 0.8
#: With less than one sequence at a time, the replica's mean step has the prompts of one in it, and a lone request sees
#: none but its own. Where the two differ by more than this share, such loads teach nothing.
_LONE_DIFFERS = 0.1


def point_of_load(
    resolved: Resolved,
    load: ObservedLoad,
    coefficients: StepCoefficients,
    replica: ReplicaModel | None = None,
) -> ObservedPoint | None:
    """Return the times per output token and to first token that a load implies, or None when it says little.

    The time per output token as measured; else what the end-to-end latency leaves after the TTFT that ``coefficients``
    predict at this rate, over the output tokens but one. TTFT only as measured, and not near or beyond saturation. A
    rate beyond the model's saturation says that the model is too slow, if the time per output token was measured.
    None: outputs too short, a rate beyond saturation without that or with more at once than fits, a predicted TTFT too
    large a share, or long prompts with less than one sequence at a time. ``replica`` is the model of ``load.workload``
    with ``coefficients``, where there is one already.

    Raises:
        InvalidInput: a number is not positive and finite.
        DoesNotFit: the deployment cannot run it.
    """
    numbers = load.input_tokens, load.output_tokens, load.e2e_seconds, load.requests_per_second
    for name, value in zip(
        ("input_tokens", "output_tokens", "e2e_seconds", "requests_per_second"), numbers, strict=True
    ):
        if not 0 < value < 1e8:
            raise InvalidInput(f"{name} of an observed load must be positive, not {value!r}")
    if load.output_tokens < 2:
        return None
    replica = replica or ReplicaModel(resolved, load.workload, coefficients=coefficients)
    batch, tpot = replica.lane_batch(load.requests_per_second), load.tpot_seconds
    if tpot is None:
        if batch is None:
            return None
        ttft = replica.mean_latency(batch).ttft_seconds
        if not ttft <= _TTFT_SHARE * load.e2e_seconds:
            return None
        tpot = (load.e2e_seconds - ttft) / (load.output_tokens - 1.0)
    implied = load.requests_per_second * load.output_tokens * tpot / resolved.lanes
    if batch is None and implied > replica.max_lane_batch:
        return None
    if implied < 1.0 and _lone_step_seconds(replica, load.workload, implied) < (
        (1.0 - _LONE_DIFFERS) * replica.step_seconds(implied)
    ):
        return None
    # By the rate, and by the batch that the measured times imply: prompts of a crowded step wait, whatever the rate.
    crowded = _TTFT_LOAD * replica.saturation_requests_per_second
    served = max(load.requests_per_second, replica.requests_per_second(implied)) <= crowded
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


def _lone_step_seconds(replica: ReplicaModel, workload: Workload, lane_batch: float) -> float:
    """Return the step of a single sequence beside the prompts that come with ``lane_batch`` of them on average."""
    steady = _steady(workload, lane_batch, float(replica.resolved.deployment.max_batched_tokens))
    return replica.step.mean_step_seconds(1.0, *steady)


class StepTerms:
    """Seconds of a step per unit of each coefficient, for one deployment; cheap to ask for many loads.

    ``prior`` is what the deployment is predicted with before anything was measured: the factors on the terms are those
    that it has learned.
    """

    __slots__ = ("_chunk_tokens", "_models")

    def __init__(self, resolved: Resolved, prior: StepCoefficients) -> None:
        self._chunk_tokens = float(resolved.deployment.max_batched_tokens)
        self._models = tuple(step_model(resolved, _only(prior, name)) for name in COEFFICIENTS)

    def __reduce__(self) -> tuple[Any, ...]:
        """Packed, so that pools of equal deployments share one object when they are read."""
        return _read_terms, (pickle.dumps((self._chunk_tokens, self._models)),)

    def at(self, workload: Workload, lane_batch: float) -> list[float]:
        """Return the terms in the order of ``COEFFICIENTS``, seconds.

        Their dot product with the coefficients is the step time of ``sizing.replica.replica_model`` at ``lane_batch``
        decoding sequences.
        """
        context, prompts, before, chunk = _steady(workload, lane_batch, self._chunk_tokens)
        return [model.mean_step_seconds(lane_batch, context, prompts, before, chunk) for model in self._models]


@lru_cache(maxsize=256)
def _read_terms(packed: bytes) -> StepTerms:
    """Read what ``StepTerms`` packed."""
    found = StepTerms.__new__(StepTerms)
    found._chunk_tokens, found._models = pickle.loads(packed)
    return found


def step_terms(
    resolved: Resolved, workload: Workload, lane_batch: float, prior: StepCoefficients | None = None
) -> NDArray[np.float64]:
    """Return ``StepTerms.at`` of a single question as an array."""
    import numpy as np

    return np.array(StepTerms(resolved, prior or StepCoefficients()).at(workload, lane_batch))


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
    """Return the mean step with ``lane_batch`` sequences decoding, as ``sizing.replica.replica_model`` has it, whatever
    fits.

    ``factors`` as in ``sizing.replica.step_time.step_model``.
    """
    steady = _steady(workload, lane_batch, float(resolved.deployment.max_batched_tokens))
    return step_model(resolved, coefficients, factors=factors).mean_step_seconds(lane_batch, *steady)


def _steady(workload: Workload, lane_batch: float, max_batched_tokens: float) -> tuple[float, float, float, float]:
    """Return, in tokens: mean context while decoding, prompts per step, context before a prompt token, chunk."""
    mean = mean_request(workload)
    prompts = lane_batch * mean.computed / mean.output
    return mean.context, prompts, mean.prompt_context, min(mean.computed, max_batched_tokens)


def check_point(point: ObservedPoint) -> None:
    """Refuse a point that cannot be.

    Raises:
        InvalidInput: a number is not positive and finite, or there is no load.
    """
    known = point.input_tokens, point.output_tokens, point.tpot_seconds
    for name, value in zip(("input_tokens", "output_tokens", "tpot_seconds"), known, strict=True):
        if not 0 < value < 1e8:
            raise InvalidInput(f"{name} of an observed point must be positive, not {value!r}")
    told = point.ttft_seconds, point.requests_per_second, point.concurrency
    for name, seen in zip(("ttft_seconds", "requests_per_second", "concurrency"), told, strict=True):
        if seen is not None and not 0 < seen < 1e8:
            raise InvalidInput(f"{name} of an observed point must be positive, not {seen!r}")
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
