"""What sparse attention adds to a step, by kernel timings: the figures in ``sizing/replica/sparse_attention.py``.

    python benchmarks/sizing/sparse_attention.py FOLDER

FOLDER holds the timings of ai-dynamo/aiconfigurator commit 095f58a51c (Apache-2.0):
aic-core/src/aiconfigurator_core/systems/data of a checkout. Kernel and module timings only: no end-to-end measurement
has a say. Prints Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import duckdb
import numpy as np

from sizing.catalog import Catalog

GPUS = ("h100_sxm", "h200_sxm", "b200_sxm")
#: Bytes of one token's index in one layer, and the indexer of GLM-5 as its kernels have it: heads · dim.
INDEX_BYTES, GLM_INDEX_WIDTH = 132, 64 * 128
GLM_HEADS, LATENT_WIDTH, SELECTED = 64, 512 + 64 + 512, 2048


def _rows(path: Path, columns: str, where: str) -> list[tuple[float, ...]]:
    query = f"SELECT {columns}, min(latency) / 1e3 FROM read_parquet(?) WHERE {where} GROUP BY ALL ORDER BY ALL"
    rows: list[tuple[float, ...]] = duckdb.execute(query, [str(path)]).fetchall()
    return rows


def indexer_seconds(folder: Path, gpu: str) -> list[float]:
    """One layer's attention with an indexer less the same without: one sequence of at most 2,048 tokens."""
    path = folder / gpu / "sparse_attention" / "sglang" / "0.5.14" / "dsa_generation_module_perf.parquet"
    where = "batch_size = 1 AND step + isl - 1 <= 2048 AND gemm_type = 'fp8_block' AND contains(model, 'GLM')"
    found: dict[tuple[object, ...], dict[bool, float]] = {}
    for heads, cache, step, source, seconds in _rows(
        path, "num_heads, kv_cache_dtype, step + isl, kernel_source", where
    ):
        found.setdefault((heads, cache, step), {})["skip" in str(source)] = seconds
    return [both[False] - both[True] for both in found.values() if len(both) == 2]


def index_read_share(folder: Path, gpu: str) -> list[float]:
    """Share of the bandwidth at which the index is read: slope from 8,192 to 131,072 tokens, 64 sequences or more."""
    bandwidth = Catalog().gpu(gpu).memory_bandwidth_bytes_per_second
    path = folder / gpu / "sparse_attention" / "vllm" / "0.24.0" / "dsa_generation_module_perf.parquet"
    where = "gemm_type = 'fp8_block' AND batch_size >= 64 AND step IN (8192, 131072) AND contains(model, 'DeepSeek')"
    found: dict[tuple[object, ...], dict[float, float]] = {}
    for heads, cache, batch, step, seconds in _rows(path, "num_heads, kv_cache_dtype, batch_size, step", where):
        found.setdefault((heads, cache, batch), {})[step] = seconds
    return [
        float(key[2]) * (131072 - 8192) * INDEX_BYTES / bandwidth / (times[131072] - times[8192])  # type: ignore[arg-type]
        for key, times in found.items()
        if len(times) == 2
    ]


def prompt_shares(folder: Path, gpu: str) -> tuple[list[float], list[float]]:
    """FLOP/s over the peak of scoring with selecting (8 bits), and FLOP/s of attention over what was selected."""
    spec = Catalog().gpu(gpu)
    base = folder / gpu / "sparse_attention" / "sglang" / "0.5.14"
    where = "batch_size = 1 AND isl IN (4096, 8192) AND step BETWEEN 4096 AND 65536"
    tables = [
        {row[:-1]: row[-1] for row in _rows(base / f"glm5_{name}_module_perf.parquet", "isl, step", where)}
        for name in ("mqa_logits", "topk", "dsa_attn")
    ]
    logits, topk, attention = tables
    scoring = []
    for (tokens, before), seconds in logits.items():
        flops = 2.0 * GLM_INDEX_WIDTH * tokens * (before + tokens / 2)
        scoring.append(flops / (seconds + topk[tokens, before]) / spec.flops_per_second["fp8"])
    multiply = [2.0 * GLM_HEADS * LATENT_WIDTH * SELECTED * key[0] / seconds for key, seconds in attention.items()]
    return scoring, multiply


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print(
        "| GPU | indexer in one layer, µs | index read, of bandwidth | scoring and selecting, of 8-bit peak | "
        "attention over the selected, TFLOP/s |\n|---|---|---|---|---|"
    )
    for gpu in GPUS:
        scoring, multiply = prompt_shares(folder, gpu)
        seconds, shares = indexer_seconds(folder, gpu), index_read_share(folder, gpu)
        print(
            f"| {gpu} | {np.median(seconds) * 1e6:.0f} ({min(seconds) * 1e6:.0f} to {max(seconds) * 1e6:.0f}) | "
            f"{np.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f}) | "
            f"{np.median(scoring):.2f} ({min(scoring):.2f} to {max(scoring):.2f}) | {np.median(multiply) / 1e12:.0f} |"
        )


if __name__ == "__main__":
    main()
