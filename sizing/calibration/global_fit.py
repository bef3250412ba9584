"""What end-to-end measurements teach about deployments in general: factors on the terms of the physics.

For every term i of a time (launch overhead, weights, experts, KV, compute, communication …) and the features φ of a
deployment (mixture of experts, engine, quantised products, 4-bit weights, native FP4, GPUs that work together):

    time = Σ term_i · exp(base_i + Σ_j weight_ij · φ_j)

fitted by robust least squares on relative errors with a ridge on every weight, so a feature that the data say little
about changes little, and one that a deployment does not have changes nothing ("analytical with learning augmentation",
arXiv 2505.09319, with physics in the place of curves). Because whole terms are scaled, what must grow with load still
does. The numbers are in ``learned.json``, with their source; ``benchmarks/sizing/fit.py`` makes them.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property, lru_cache
from importlib import resources
from typing import Any

from sizing.calibration.intervals import IntervalBins, bins_from_mapping, engine_family
from sizing.catalog.engines import engine_release
from sizing.replica.memory import Resolved, dense_precision

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
FEATURES = ("moe", "trtllm", "sglang", "quantized_products", "int4", "native_fp4", "group")
_LARGEST_LOG = 3.0
#: Log2 of the factor outside a measured range that is still within it: 1,000 tokens are those of 1,024.
_EDGE = math.log2(1.1)
#: What is not known of a deployment, as distance. Older releases of engines are slower, by how much no measurement here
#: tells: with 3 they lie beyond all bins of distance but the last, whatever else is known.
_ASSUMED_GPU, _BARE_CONFIGURATION, _SPARSE_ATTENTION, _OLDER_RELEASE = 1.0, 2.0, 2.0, 3.0


def features(resolved: Resolved) -> dict[str, float]:
    """Return the features of a deployment; ``group`` is log2 of the GPUs that work on one token over 2, in [-1, 2]."""
    deployment = resolved.deployment
    engine = deployment.engine.lower()
    moe = resolved.model.experts > 0
    dense = dense_precision(resolved.model, resolved.precision)
    # Data-parallel ranks of a dense model are replicas of their own.
    group = deployment.tensor_parallel * (deployment.data_parallel if moe else 1)
    return {
        "moe": float(moe),
        "trtllm": float("trt" in engine or "tensorrt" in engine),
        "sglang": float("sglang" in engine),
        # Kernels of their own quantise what a product of fewer than 16 bits takes, so every layer launches more of
        # them. Experts quantise within their kernels.
        "quantized_products": float(resolved.gpu.compute_precision(dense) != "bf16"),
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
class Domain:
    """One kind of deployment that was measured, with the ranges of its loads (log2 of tokens and sequences)."""

    gpu: str
    engine: str
    precision: str
    moe: bool
    low: tuple[float, float, float]
    high: tuple[float, float, float]


#: Distance of a kind of deployment, and the lower and upper ends of its loads.
_Measured = tuple[float, tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Learned:
    """All that was learned, and where it was learned from.

    The intervals hold 90 % of measurements, ``tpot_interval_80`` those between their 10 % and 90 % points. ``near`` is
    the largest distance that counts as interpolation. ``oldest_releases`` holds the oldest measured one of each engine,
    by the engine's short name.
    """

    step: TermFactors
    closed_loop_ttft: TermFactors
    tpot_interval: IntervalBins
    tpot_interval_80: IntervalBins
    ttft_interval: IntervalBins
    domains: tuple[Domain, ...]
    near: float
    oldest_releases: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Restored ones that are equal are one object: every pool's coefficients hold it."""
        return _shared, (self._packed,)

    @cached_property
    def _packed(self) -> bytes:
        return pickle.dumps(tuple(getattr(self, part.name) for part in fields(self)))

    def distance(self, resolved: Resolved, input_tokens: float, output_tokens: float, lane_batch: float) -> float:
        """Return how far a question is from what was measured: 0 within it, infinite when nothing was measured.

        Another GPU, engine or weight precision counts 1 each, a precision that nothing was measured in at all 2, dense
        instead of mixture of experts 2, a length or a batch outside the measured range 0.5 per factor of 2; the nearest
        kind of deployment counts. A GPU whose links or efficiencies are assumed counts 1 more, a model that came as a
        bare configuration 2 more: nothing has checked how it was read, and that alone is beyond ``near``. Sparse
        attention, of which nothing was measured, counts 2 more, a release of the engine that is older than all
        measured ones 3 more.
        """
        place = (
            math.log2(max(input_tokens, 1.0)),
            math.log2(max(output_tokens, 1.0)),
            math.log2(max(lane_batch, 1.0)),
        )
        return self._distance(resolved, place)

    def deployment_distance(self, resolved: Resolved) -> float:
        """Return ``distance`` at whatever load is nearest to what was measured."""
        return self._distance(resolved, None)

    def _distance(self, resolved: Resolved, place: tuple[float, ...] | None) -> float:
        best = math.inf
        for far, low, high in self._ranked(resolved):
            if far >= best:
                break
            outside = 0.0
            if place is not None:
                for value, least, most in zip(place, low, high, strict=True):
                    outside += max(least - _EDGE - value, value - most - _EDGE, 0.0)
            best = min(best, far + 0.5 * outside)
        best += _ASSUMED_GPU * resolved.assumed_gpu + _BARE_CONFIGURATION * resolved.bare_configuration
        best += _SPARSE_ATTENTION * (resolved.model.index_bytes > 0)
        return best if self.newer_release(resolved) is None else best + _OLDER_RELEASE

    def newer_release(self, resolved: Resolved) -> tuple[int, ...] | None:
        """Return the oldest release that was measured where the deployment's engine is older than it, else None."""
        release = engine_release(resolved.deployment.engine_version)
        if release is None:
            return None
        oldest = dict(self.oldest_releases).get(engine_family(resolved.deployment.engine))
        return oldest if oldest is not None and release < oldest else None

    def _ranked(self, resolved: Resolved) -> list[_Measured]:
        """Return every measured kind's distance from a deployment and the ranges of its loads, the nearest first."""
        key = (resolved.gpu.name, resolved.deployment.engine, resolved.precision, resolved.model.experts > 0)
        found = self._by_kind.get(key)
        if found is None:
            gpu, engine, precision, moe = key[0], engine_family(key[1]), key[2], key[3]
            unlike = 1 if any(kind.precision == precision for kind in self.domains) else 2
            found = [
                (
                    (kind.gpu != gpu)
                    + (kind.engine != engine)
                    + (kind.precision != precision) * unlike
                    + 2.0 * (kind.moe != moe),
                    kind.low,
                    kind.high,
                )
                for kind in self.domains
            ]
            found.sort()
            self._by_kind[key] = found
        return found

    @cached_property
    def _by_kind(self) -> dict[tuple[str, str, str, bool], list[_Measured]]:
        """What ``_ranked`` found: a controller asks for one deployment in every window."""
        return {}


@lru_cache(maxsize=8)
def _shared(packed: bytes) -> Learned:
    return Learned(*pickle.loads(packed))


def learned_from_mapping(data: Mapping[str, Any]) -> Learned:
    """Build from the content of ``learned.json``."""

    def terms(part: Mapping[str, Any], names: tuple[str, ...]) -> TermFactors:
        return TermFactors(
            tuple(part["features"]),
            tuple(float(part["terms"][name]["base"]) for name in names),
            tuple(tuple(map(float, part["terms"][name]["weights"])) for name in names),
            tuple(float(part["terms"][name]["floor"]) for name in names),
        )

    def three(values: Any) -> tuple[float, float, float]:
        first, second, third = map(float, values)
        return first, second, third

    return Learned(
        step=terms(data["step"], STEP_TERMS),
        closed_loop_ttft=terms(data["closed_loop_ttft"], TTFT_TERMS),
        tpot_interval=bins_from_mapping(data["intervals"]["tpot"]),
        tpot_interval_80=bins_from_mapping(data["intervals"]["tpot_80"]),
        ttft_interval=bins_from_mapping(data["intervals"]["ttft"]),
        domains=tuple(
            Domain(kind["gpu"], kind["engine"], kind["precision"], kind["moe"], three(kind["low"]), three(kind["high"]))
            for kind in data["domains"]
        ),
        near=float(data["intervals"]["near"]),
        oldest_releases=tuple(
            (name, tuple(map(int, release.split(".")))) for name, release in sorted(data["oldest_releases"].items())
        ),
    )


@cache
def builtin_learned() -> Learned:
    """Return what ships with the package; read once per process."""
    text = resources.files("sizing").joinpath("learned.json").read_text(encoding="utf-8")
    return learned_from_mapping(json.loads(text))
