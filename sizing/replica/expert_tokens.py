"""What one token costs in the routed experts: multiplying, and moving its activations between kernels.

A fused kernel gathers the token's activations, multiplies by gate and up projections, applies the activation,
multiplies by the down projection and sums over experts. What it moves does not shrink with a slice of an expert, so
tensor parallelism divides the products and hardly the moving. Both terms together give the timings of
ai-dynamo/aiconfigurator 095f58a51c within 1 to 11 % in the median, products alone within 9 to 39 %
(benchmarks/sizing/experts.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sizing.replica.memory import Resolved

__all__ = ["moved_bytes", "moving_seconds"]


def moved_bytes(width: float, inner: float) -> float:
    """Return the bytes that a token moves in one expert: its input, output and their sum, and what lies between."""
    return 2.0 * (3.0 * width + 6.0 * inner)


def moving_seconds(resolved: Resolved) -> float:
    """Return what moving the activations of one token of a lane takes on every GPU, over all layers, in seconds.

    With expert or data parallelism a GPU holds whole experts and sees its share of the tokens; else it holds a slice of
    every expert and sees them all.
    """
    deployment, model, gpu = resolved.deployment, resolved.model, resolved.gpu
    shape = model.expert_shape
    if shape is None:
        return 0.0
    tp = deployment.tensor_parallel
    whole = deployment.expert_parallel > 1 or deployment.data_parallel > 1
    each = moved_bytes(shape.width, shape.inner) / tp if whole else moved_bytes(shape.width, shape.inner / tp)
    moved = shape.layers * shape.per_token * each
    return gpu.expert_moving_ratio * moved / gpu.memory_bandwidth_bytes_per_second
