"""gpt-oss piece by piece: what the step model takes for each part over what its kernels were timed at.

    python benchmarks/sizing/components.py [--data FOLDER]

FOLDER holds ``aic_ops`` (kernel timings of ai-dynamo/aiconfigurator commit 095f58a51c, Apache-2.0; vLLM 0.24.0).
Factors that end-to-end times taught are left aside. A launch is part of the model's overhead per layer, so it is
subtracted from the timings: what an expert kernel takes beside reading (``experts.py``), and what attention takes for
one token. Also prints how many elements per second attention reads of a cache in 8 and in 16 bits. No GEMM of gpt-oss's
own shapes was timed; its router, norms and sampling were not either. On a B200 experts of gpt-oss's shape were timed
with 16-bit activations only, and the model takes MXFP8. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
from experts import kernels
from measurements import DATA

from sizing.calibration.global_fit import STEP_TERMS
from sizing.catalog import Catalog
from sizing.replica.memory import Resolved, resolve
from sizing.replica.step_time import StepModel, step_model
from sizing.types import Deployment

BOARDS = ("h100_sxm", "h200_sxm", "b200_sxm")
ONE = (1.0,) * len(STEP_TERMS)
BATCHES = (8, 32, 128, 512)
HEADS, KV_HEADS, HEAD_SIZE = 64, 8, 64
#: Slopes of shapes that read for less than this tell launches.
SHORTEST_SECONDS = 100e-6


def _gpt_oss(board: str, tp: int = 1, kv_precision: str = "bf16") -> Resolved:
    return resolve(Deployment("gpt-oss-120b", board, tensor_parallel=tp, precision="mxfp4", kv_precision=kv_precision))


def expert_seconds(model: StepModel, without: StepModel, layers: int, tokens: int, touched: float) -> float:
    """One layer's routed experts for ``tokens`` tokens that touch the share ``touched`` of them, without launches."""
    evenly = replace(model, expert_miss=(1.0 - min(touched, 1.0 - 1e-12)) ** (1.0 / tokens))
    both = [each.base_seconds(tokens) + tokens * each.prefill_seconds for each in (evenly, without)]
    return (both[0] - both[1]) / layers


def experts(folder: Path, board: str, tp: int) -> dict[int, float]:
    """Predicted over timed, by tokens; tokens spread evenly, as the tables' are."""
    table = next((folder / "aic_ops" / board).glob("moe/*/*/moe_perf.parquet"))
    resolved = _gpt_oss(board, tp)
    found = kernels(table, resolved.gpu, "mxfp4")
    assert found is not None
    rows = duckdb.execute(
        "SELECT num_tokens, min(latency) / 1e3 FROM read_parquet(?) WHERE hidden_size = 2880 AND num_experts = 128 "
        "AND moe_tp_size = ? AND moe_ep_size = 1 AND moe_dtype = 'w4a16_mxfp4' AND distribution = 'balanced' "
        "GROUP BY ALL",
        [str(table), tp],
    ).fetchall()
    spec = resolved.model
    bare = tuple(1e-12 if name in ("experts", "expert_compute") else 1.0 for name in STEP_TERMS)
    model, without = step_model(resolved, factors=ONE), step_model(resolved, factors=bare)
    ratios = {}
    for tokens, seconds in rows:
        touched = min(1.0, tokens * spec.expert_share)
        predicted = expert_seconds(model, without, spec.layers, tokens, touched)
        ratios[int(tokens)] = predicted / (seconds - found.launch_seconds)
    return ratios


def attention(folder: Path, board: str, kv_precision: str, window: int, context: int) -> dict[int, tuple[float, float]]:
    """Predicted and timed seconds of one layer's attention for a decoding batch, without a launch; by batch."""
    times = _attention_times(folder, board, kv_precision, window)
    resolved = _gpt_oss(board, kv_precision=kv_precision)
    model = step_model(resolved, factors=ONE)
    layers = resolved.model.layers / 2.0
    each = model.kv_window_seconds * model.window_tokens if window else model.kv_seconds * context
    launch = min(times.values())
    return {
        batch: (batch * each / layers, seconds - launch)
        for (batch, length), seconds in times.items()
        if length == context
    }


def _attention_times(folder: Path, board: str, kv_precision: str, window: int) -> dict[tuple[int, int], float]:
    table = next((folder / "aic_ops" / board).glob("attention/*/*/generation_attention_perf.parquet"))
    rows = duckdb.execute(
        "SELECT batch_size, step + 1, min(latency) / 1e3 FROM read_parquet(?) WHERE head_dim = ? AND num_heads = ? "
        "AND num_key_value_heads = ? AND window_size = ? AND kv_cache_dtype = ? GROUP BY ALL",
        [str(table), HEAD_SIZE, HEADS, KV_HEADS, window, {"bf16": "bfloat16"}.get(kv_precision, kv_precision)],
    ).fetchall()
    return {(int(batch), int(length)): seconds for batch, length, seconds in rows}


def kv_elements_per_second(folder: Path, board: str, cache: str, head_size: int) -> float | None:
    """Median slope from a context to four times as many tokens, over all shapes; None: not timed."""
    table = next((folder / "aic_ops" / board).glob("attention/*/*/generation_attention_perf.parquet"))
    rows = duckdb.execute(
        "SELECT num_heads, num_key_value_heads, batch_size, step + 1, min(latency) / 1e3 FROM read_parquet(?) "
        "WHERE head_dim = ? AND window_size = 0 AND kv_cache_dtype = ? GROUP BY ALL",
        [str(table), head_size, cache],
    ).fetchall()
    times: defaultdict[tuple[int, int, int], dict[int, float]] = defaultdict(dict)
    for heads, kv_heads, batch, length, seconds in rows:
        times[heads, kv_heads, batch][length] = seconds
    bandwidth = Catalog().gpu(board).memory_bandwidth_bytes_per_second
    size = 1.0 if cache == "fp8" else 2.0
    slopes = []
    for (_, kv_heads, batch), by_length in times.items():
        for length, seconds in by_length.items():
            more = by_length.get(4 * length)
            elements = batch * 3 * length * 2 * head_size * kv_heads
            if more is not None and elements * size / bandwidth > SHORTEST_SECONDS:
                slopes.append(elements / (more - seconds))
    return float(np.median(slopes)) if slopes else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    folder = parser.parse_args().data
    print("| part | GPU | " + " | ".join(f"{batch} tokens" for batch in BATCHES) + " |")
    print("|---|---|" + "---|" * len(BATCHES))
    for tp in (1, 8):
        for board in BOARDS:
            ratios = experts(folder, board, tp)
            print(f"| experts, TP {tp} | {board} | " + " | ".join(f"{ratios[batch]:.2f}" for batch in BATCHES) + " |")
    print(
        "\n| attention, 128 sequences | GPU | predicted over timed | difference in 18 layers, ms |\n|---|---|---|---|"
    )
    for cache in ("bf16", "fp8"):
        for window, context in ((0, 4096), (0, 1024), (128, 1024)):
            for board in BOARDS:
                predicted, timed = attention(folder, board, cache, window, context)[128]
                name = f"{cache} cache, {'window of 128' if window else f'{context:,} tokens'}"
                print(f"| {name} | {board} | {predicted / timed:.2f} | {(predicted - timed) * 18e3:+.2f} |")
    print("\n| head size | GPU | 16-bit elements/s | 8-bit elements/s |\n|---|---|---|---|")
    for head_size in (64, 128, 192, 256):
        for board in BOARDS:
            found = [kv_elements_per_second(folder, board, cache, head_size) for cache in ("bfloat16", "fp8")]
            print(f"| {head_size} | {board} | " + " | ".join("-" if f is None else f"{f:.3g}" for f in found) + " |")


if __name__ == "__main__":
    main()
