"""How fast attention reads the KV cache: at the memory's speed, but for 8-bit caches on Hopper.

vLLM's kernels read so many elements per second of an 8-bit cache on Hopper and no more. H100 and H200, with equal cores
and memories 43 % apart, read equally many, so cores are the limit; with heads of 256 fewer than of a 16-bit cache.
Blackwell's kernels read 8 bits at the memory's speed.

Figures: generation attention of vLLM 0.24.0, slopes from a context to four times as many tokens, as timed for
ai-dynamo/aiconfigurator 095f58a51c (Apache-2.0) and printed by benchmarks/sizing/components.py; 2026-12-01. No
end-to-end time has a say in them. Other engines' kernels were not timed and are taken to read at the memory's speed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sizing.calibration.intervals import engine_family
from sizing.catalog.precision import KV_BYTES_PER_ELEMENT

if TYPE_CHECKING:
    from sizing.replica.memory import Resolved

__all__ = ["HOPPER_FP8_ELEMENTS_PER_SECOND", "head_size", "kv_slowdown"]

#: Elements of an FP8 cache per second by the size of a head: means of H100 (2.49, 2.99, 2.01 and 1.49 · 10^12) and H200
#: (2.55, 3.29, 1.99 and 1.62 · 10^12). Fewer cores of the kind read in proportion to their bf16 FLOP/s (an assumption).
HOPPER_FP8_ELEMENTS_PER_SECOND = {64: 2.52e12, 128: 3.14e12, 192: 2.00e12, 256: 1.56e12}
_TIMED_FLOPS = 9.89e14


def head_size(kv_elements: int, heads: int) -> float:
    """Return the elements of one head's key, of ``kv_elements`` per token and layer: keys and values of all heads."""
    return kv_elements / (2.0 * heads)


def kv_slowdown(resolved: Resolved, kv_ratio: float) -> float:
    """Return how many times longer reading the KV cache takes than at ``kv_ratio`` times the data sheet's time.

    1 wherever cores do not limit it. The mean over the layers that keep keys and values, weighted by what they keep.
    """
    gpu = resolved.gpu
    # Boards that unpack at a known rate: how many of the cores an H20 has its FLOP/s do not tell, and it was not timed.
    timed = gpu.architecture == "hopper" and gpu.unpacked_weights_per_second is not None
    if resolved.kv_precision != "fp8" or not timed or engine_family(resolved.deployment.engine) != "vllm":
        return 1.0
    at_memory_speed = kv_ratio * KV_BYTES_PER_ELEMENT["fp8"] / gpu.memory_bandwidth_bytes_per_second
    cores = gpu.flops_per_second["bf16"] / _TIMED_FLOPS
    total = slowed = 0.0
    for cache in resolved.model.caches:
        if not cache.kv_elements or not cache.heads:
            continue  # recurrent states and latent caches have kernels of their own
        kept = float(cache.layers * cache.kv_elements)
        each = 1.0 / (cores * _elements_per_second(head_size(cache.kv_elements, cache.heads)))
        total += kept
        slowed += kept * max(each / at_memory_speed, 1.0)
    return slowed / total if total else 1.0


def _elements_per_second(size: float) -> float:
    """Return the rate of the next larger size of a head that was timed, or of the largest."""
    larger = [timed for timed in HOPPER_FP8_ELEMENTS_PER_SECOND if timed >= size]
    return HOPPER_FP8_ELEMENTS_PER_SECOND[min(larger, default=max(HOPPER_FP8_ELEMENTS_PER_SECOND))]
