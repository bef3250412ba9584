"""What fused mixture-of-experts kernels reach, by GPU and precision of the weights: reading and computing.

    python benchmarks/sizing/experts.py [--data FOLDER]

FOLDER holds ``aic_ops`` (kernel timings of ai-dynamo/aiconfigurator commit 095f58a51c, Apache-2.0; vLLM 0.24.0). Every
shape (width, intermediate size, experts per token, experts, share per GPU) with tokens spread evenly gives two figures.

* Reading: the slope of time over the ideal time of reading the experts touched, at up to two tokens per expert, with a
  constant for launches. 4-bit weights that kernels unpack to 16 bits come out slower than the memory allows, and
  equally fast on boards with equal cores and unequal memory (H100, H200): their limit is unpacking.
* Computing, at the most tokens, at least 256 per expert: per token and expert 6 FLOPs per element of a matrix, and
  moving activations, three times the width and six times the intermediate size in 2 bytes
  (``sizing.replica.expert_tokens``). Least squares over shapes give FLOP/s and the time of moving over its ideal.

They are in ``sizing/catalog/gpus.yaml`` (``expert_efficiency``, ``expert_read_ratio``,
``unpacked_weights_per_second``, and as
``expert_moving_ratio`` the median over precisions, unpacked ones on Blackwell aside). FP8 is
the block-wise kernel, as the checkpoints of DeepSeek, MiniMax and Qwen are; MXFP4 is gpt-oss's own kernel on Hopper and
Ada and the one with MXFP8 activations on Blackwell. No end-to-end measurement has a say. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from measurements import DATA
from scipy.optimize import nnls

from sizing.catalog import Catalog, GpuSpec
from sizing.catalog.precision import BYTES_PER_PARAMETER
from sizing.replica.expert_tokens import moved_bytes

#: The tables' names of the data types that stand for a precision of weights; the first that a board has counts.
DTYPES = {
    "bf16": ("bfloat16",),
    "fp8": ("fp8_block",),
    "int4": ("int4_wo",),
    "mxfp4": ("w4a8_mxfp4_mxfp8", "w4a16_mxfp4"),
    "nvfp4": ("nvfp4",),
}
#: What gpt-oss's kernels pad width and intermediate size to (``sizing.replica.weights``).
PADDED = {"hopper": (256, 1), "ada": (256, 128)}
#: Tables hold kernels of other models, too; those of gpt-oss are what MXFP4 without MXFP8 stands for.
OWN_KERNEL = {"w4a16_mxfp4": "gptoss"}
GPTOSS_WIDTH = 2880
SHORTEST_SECONDS = 60e-6
TOKENS_PER_EXPERT, LEAST_WEIGHTS = 256, 1e6


@dataclass(frozen=True, slots=True)
class Kernels:
    """Medians over ``shapes``: launch seconds, reading over its ideal, weights per second; FLOP/s and moving of
    activations over its ideal, with the median error of both terms and of FLOP/s alone."""

    shapes: int
    launch_seconds: float
    read_ratio: float
    weights_per_second: float
    flops_per_second: float
    moving_ratio: float
    error: float
    error_without_moving: float


def kernels(table: Path, gpu: GpuSpec, precision: str) -> Kernels | None:
    """Return what the kernels of a precision reach on a board; None: no table has them."""
    for dtype in DTYPES[precision]:
        shapes = _shapes(table, dtype)
        found = [
            each for shape, times in shapes.items() if (each := _shape(shape, times, dtype, precision, gpu)) is not None
        ]
        if found:
            launch, read, rate = zip(*found, strict=True)
            flops, moving, error, alone = _computing(shapes, gpu)
            return Kernels(
                len(found),
                float(np.median(launch)),
                float(np.median(read)),
                float(np.median(rate)),
                flops,
                moving,
                error,
                alone,
            )
    return None


Shape = tuple[int, int, int, int, int]


def _shapes(table: Path, dtype: str) -> dict[Shape, dict[int, float]]:
    rows = duckdb.execute(
        "SELECT hidden_size, inter_size, topk, num_experts, moe_tp_size, num_tokens, min(latency) / 1e3 "
        "FROM read_parquet(?) WHERE moe_dtype = ? AND distribution = 'balanced' AND moe_ep_size = 1 "
        "AND moe_tp_size <= 8 AND contains(kernel_source, ?) GROUP BY ALL ORDER BY ALL",
        [str(table), dtype, OWN_KERNEL.get(dtype, "")],
    ).fetchall()
    found: defaultdict[Shape, dict[int, float]] = defaultdict(dict)
    for width, inner, per_token, experts, split, tokens, seconds in rows:
        found[width, inner, per_token, experts, split][tokens] = seconds
    return found


def _shape(
    shape: Shape, times: dict[int, float], dtype: str, precision: str, gpu: GpuSpec
) -> tuple[float, float, float] | None:
    width, inner, per_token, experts, split = shape
    each = 3.0 * width * inner / split
    held = each
    if dtype == "w4a16_mxfp4" and width == GPTOSS_WIDTH:
        to_width, to_inner = PADDED[gpu.architecture or "ada"]
        held = 3.0 * _padded(width, to_width) * _padded(inner / split, to_inner)
    size = held * BYTES_PER_PARAMETER[precision]
    bandwidth = gpu.memory_bandwidth_bytes_per_second
    few = {tokens: seconds for tokens, seconds in times.items() if tokens * per_token <= 2 * experts}
    # Shapes so small that launches hide what they read tell nothing.
    if len(few) < 4 or experts * size / bandwidth < SHORTEST_SECONDS:
        return None
    ideal = np.array([min(experts, tokens * per_token) * size / bandwidth for tokens in few])
    seconds = np.array(list(few.values()))
    design = np.stack([1.0 / seconds, ideal / seconds], axis=1)
    launch, ratio = np.linalg.lstsq(design, np.ones(len(seconds)), rcond=None)[0]
    return float(launch), float(ratio), bandwidth / (ratio * BYTES_PER_PARAMETER[precision])


def _computing(shapes: dict[Shape, dict[int, float]], gpu: GpuSpec) -> tuple[float, float, float, float]:
    rows = []
    for (width, inner, per_token, experts, split), times in shapes.items():
        most, slice_ = max(times), inner / split
        large = most * per_token >= TOKENS_PER_EXPERT * experts and 3.0 * experts * width * slice_ >= LEAST_WEIGHTS
        if large:
            moved = moved_bytes(width, slice_) / gpu.memory_bandwidth_bytes_per_second
            rows.append((6.0 * width * slice_, moved, times[most] / (most * per_token)))
    flops, moved, seconds = np.array(rows).T
    (inverse, ratio), _ = nnls(np.column_stack([flops / seconds, moved / seconds]), np.ones(len(seconds)))
    both = np.abs((flops * inverse + moved * ratio) / seconds - 1)
    alone = np.abs(flops / np.median(flops / seconds) / seconds - 1)
    return 1.0 / float(inverse), float(ratio), float(np.median(both)), float(np.median(alone))


def _padded(size: float, to: int) -> float:
    return -(-size // to) * to


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    catalog = Catalog()
    print(
        "| GPU | weights | shapes | launch µs | reading over ideal | weights/s | FLOP/s | of the peak | "
        "moving over ideal | error | without moving |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for table in sorted((options.data / "aic_ops").glob("*/moe/*/*/moe_perf.parquet")):
        gpu = catalog.gpu(table.parents[3].name)
        for precision in DTYPES:
            found = kernels(table, gpu, precision)
            if found is None:
                continue
            share = found.flops_per_second / gpu.flops_per_second[gpu.compute_precision(precision)]
            print(
                f"| {gpu.name} | {precision} | {found.shapes} | {found.launch_seconds * 1e6:.0f} | "
                f"{found.read_ratio:.2f} | {found.weights_per_second:.3g} | {found.flops_per_second:.3g} | "
                f"{share:.3f} | "
                f"{found.moving_ratio:.2f} | {found.error:.1%} | {found.error_without_moving:.1%} |"
            )


if __name__ == "__main__":
    main()
