"""What end-to-end measurements teach about deployments in general: factors on the terms of the physics.

For every term i of a time (launch overhead, weights, experts, KV, compute, communication …) and the features φ of a
deployment (mixture of experts, engine, 4-bit weights, native FP4, GPUs that work together):

    time = Σ term_i · exp(base_i + Σ_j weight_ij · φ_j)

fitted by robust least squares on relative errors with a ridge on every weight, so a feature that the data say little
about changes little, and one that a deployment does not have changes nothing ("analytical with learning augmentation",
arXiv 2505.09319, with physics in the place of curves). Because whole terms are scaled, what must grow with load still
does. The numbers are in ``learned.json``, with their source; ``benchmarks/sizing/fit.py`` makes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from sizing.memory import Resolved

__all__ = [
    "FEATURES",
    "STEP_TERMS",
    "TTFT_TERMS",
    "Domain",
    "IntervalBins",
    "Learned",
    "TermFactors",
    "builtin_learned",
    "features",
]

#: Terms of the step time, in the order of every array of them.
STEP_TERMS = (
    "layers",
    "sequences",
    "dense_weights",
    "experts",
    "kv",
    "dense_compute",
    "expert_compute",
    "attention_compute",
    "hops",
    "link",
)
#: Terms of the time to first token in a closed loop; see ``ReplicaModel.closed_loop_ttft_seconds``.
TTFT_TERMS = ("fixed", "step", "own_prompt", "others_prompts", "clients", "weights", "clients_steps")
#: Features of a deployment, by name; each is 0 where it says nothing.
FEATURES = ("moe", "trtllm", "sglang", "fp4", "int4", "native_fp4", "group")
_LARGEST_LOG = 3.0


def features(resolved: Resolved) -> dict[str, float]:
    """Return the features of a deployment; ``group`` is log2 of the GPUs that work on one token over 2, in [-1, 2]."""
    deployment = resolved.deployment
    engine = deployment.engine.lower()
    moe = resolved.model.experts > 0
    # Data-parallel ranks of a dense model are replicas of their own.
    group = deployment.tensor_parallel * (deployment.data_parallel if moe else 1)
    return {
        "moe": float(moe),
        "trtllm": float("trt" in engine or "tensorrt" in engine),
        "sglang": float("sglang" in engine),
        "fp4": float(resolved.precision in ("nvfp4", "mxfp4")),
        "int4": float(resolved.precision == "int4"),
        "native_fp4": float("nvfp4" in resolved.gpu.flops_per_second),
        "group": min(max(math.log2(group) - 1.0, -1.0), 2.0),
    }


@dataclass(frozen=True, slots=True)
class TermFactors:
    """Log factors on terms: ``base`` per term, ``weights`` per term and feature, ``floor`` below which none falls."""

    features: tuple[str, ...]
    base: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    floor: tuple[float, ...]

    def factors(self, values: Mapping[str, float]) -> tuple[float, ...]:
        """Return the factor on each term for a deployment with these features."""
        return _factors(self, tuple(values[name] for name in self.features))


@lru_cache(maxsize=256)
def _factors(terms: TermFactors, row: tuple[float, ...]) -> tuple[float, ...]:
    """Kept: one deployment is asked for again and again, and the answer is a function of the arguments alone."""
    logs = (
        base + sum(weight * value for weight, value in zip(weights, row, strict=True))
        for base, weights in zip(terms.base, terms.weights, strict=True)
    )
    return tuple(math.exp(min(max(log, floor), _LARGEST_LOG)) for log, floor in zip(logs, terms.floor, strict=True))


@dataclass(frozen=True, slots=True)
class IntervalBins:
    """90 % intervals of measured over predicted by distance from what was measured (split conformal).

    ``upto`` are the upper ends of the bins of distance, the last one infinite; ``lower`` and ``upper`` the factors.
    """

    upto: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def factors(self, distance: float) -> tuple[float, float]:
        """Return the factors on a prediction that bound its 90 % interval at a distance."""
        index = next(i for i, end in enumerate(self.upto) if distance <= end)
        return self.lower[index], self.upper[index]


@dataclass(frozen=True, slots=True)
class Domain:
    """One kind of deployment that was measured, with the ranges of its loads (log2 of tokens and sequences)."""

    gpu: str
    engine: str
    precision: str
    moe: bool
    low: tuple[float, float, float]
    high: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Learned:
    """All that was learned, and where it was learned from."""

    step: TermFactors
    closed_loop_ttft: TermFactors
    tpot_interval: IntervalBins
    ttft_interval: IntervalBins
    domains: tuple[Domain, ...]
    near: float

    def distance(self, resolved: Resolved, input_tokens: float, output_tokens: float, lane_batch: float) -> float:
        """Return how far a question is from what was measured: 0 within it, infinite when nothing was measured.

        Another GPU, engine or weight precision counts 1 each, dense instead of mixture of experts 2, a length or a
        batch outside the measured range 0.5 per factor of 2; the nearest kind of deployment counts.
        """
        place = tuple(math.log2(max(value, 1.0)) for value in (input_tokens, output_tokens, lane_batch))
        engine, moe = engine_family(resolved.deployment.engine), resolved.model.experts > 0
        best = math.inf
        for kind in self.domains:
            far = (
                (kind.gpu != resolved.gpu.name)
                + (kind.engine != engine)
                + (kind.precision != resolved.precision)
                + 2.0 * (kind.moe != moe)
            )
            for value, low, high in zip(place, kind.low, kind.high, strict=True):
                far += 0.5 * max(low - value, value - high, 0.0)
            best = min(best, far)
        return best


def engine_family(engine: str) -> str:
    """Return the engine's short name: vllm, sglang or trtllm, else the given one in lower case."""
    name = engine.lower()
    return "trtllm" if "trt" in name or "tensorrt" in name else "sglang" if "sglang" in name else name


def learned_from_mapping(data: Mapping[str, Any]) -> Learned:
    """Build from the content of ``learned.json``."""

    def terms(part: Mapping[str, Any], names: tuple[str, ...]) -> TermFactors:
        return TermFactors(
            tuple(part["features"]),
            tuple(float(part["terms"][name]["base"]) for name in names),
            tuple(tuple(map(float, part["terms"][name]["weights"])) for name in names),
            tuple(float(part["terms"][name]["floor"]) for name in names),
        )

    def bins(part: Mapping[str, Any]) -> IntervalBins:
        ends = tuple(math.inf if end is None else float(end) for end in part["upto"])
        return IntervalBins(ends, tuple(map(float, part["lower"])), tuple(map(float, part["upper"])))

    def three(values: Any) -> tuple[float, float, float]:
        first, second, third = map(float, values)
        return first, second, third

    return Learned(
        step=terms(data["step"], STEP_TERMS),
        closed_loop_ttft=terms(data["closed_loop_ttft"], TTFT_TERMS),
        tpot_interval=bins(data["intervals"]["tpot"]),
        ttft_interval=bins(data["intervals"]["ttft"]),
        domains=tuple(
            Domain(kind["gpu"], kind["engine"], kind["precision"], kind["moe"], three(kind["low"]), three(kind["high"]))
            for kind in data["domains"]
        ),
        near=float(data["intervals"]["near"]),
    )


@cache
def builtin_learned() -> Learned:
    """Return what ships with the package; read once per process."""
    text = resources.files("sizing").joinpath("learned.json").read_text(encoding="utf-8")
    return learned_from_mapping(json.loads(text))
