"""How far measured times may lie from predicted ones: by distance from what was measured and by kind of deployment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sizing.replica.memory import Resolved

__all__ = ["OWN_STEP_80", "OWN_STEP_90", "IntervalBins", "bins_from_mapping", "engine_family", "interval_kind"]


#: How many standard deviations of the log step time, as a deployment's own points leave it, bound 80 % and 90 % of the
#: errors. Normal quantiles (1.28 and 1.64) held 97 and 98 %: the deviations are those of the few that err most.
#: Measured after 1 to 8 points of a set-up (benchmarks/sizing/own_points.py, 2026-12-01): 0.52 to 0.57 and 0.73 to
#: 0.78, whichever architecture is left out.
OWN_STEP_80, OWN_STEP_90 = 0.55, 0.77


@dataclass(frozen=True, slots=True)
class IntervalBins:
    """Intervals of measured over predicted by distance from what was measured (split conformal).

    ``upto`` are the upper ends of the bins of distance, the last one infinite; ``lower`` and ``upper`` the factors.
    ``near`` holds (kind, lower, upper) for kinds of deployments whose interval in the first bin is their own, by
    ``interval_kind``; no farther bin is narrower than those.
    """

    upto: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    near: tuple[tuple[str, float, float], ...] = ()

    def factors(self, distance: float, kind: str | None = None) -> tuple[float, float]:
        """Return the factors on a prediction that bound its interval at a distance.

        ``kind`` is that of the deployment (``interval_kind``); without an interval of its own, or None, that of all.
        """
        index = next(i for i, end in enumerate(self.upto) if distance <= end)
        if index == 0:
            for name, lower, upper in self.near:
                if name == kind:
                    return lower, upper
        return self.lower[index], self.upper[index]


def bins_from_mapping(part: Mapping[str, Any]) -> IntervalBins:
    """Build from a part of ``intervals`` in ``learned.json``."""
    return IntervalBins(
        tuple(math.inf if end is None else float(end) for end in part["upto"]),
        tuple(map(float, part["lower"])),
        tuple(map(float, part["upper"])),
        tuple((kind, float(low), float(high)) for kind, (low, high) in sorted(part.get("near", {}).items())),
    )


def interval_kind(resolved: Resolved) -> str:
    """Return the kind of a deployment whose predictions near measurements err alike.

    A mixture of experts has terms that a dense model does not have. vLLM mixes prompts with decoding in every step, as
    the step model does; SGLang computes prompts first, and TensorRT-LLM's settings vary most between releases.
    """
    experts = "mixture of experts" if resolved.model.experts > 0 else "dense"
    return f"{experts}, {'vllm' if engine_family(resolved.deployment.engine) == 'vllm' else 'other engine'}"


def engine_family(engine: str) -> str:
    """Return the engine's short name: vllm, sglang or trtllm, else the given one in lower case."""
    name = engine.lower()
    return "trtllm" if "trt" in name or "tensorrt" in name else "sglang" if "sglang" in name else name
