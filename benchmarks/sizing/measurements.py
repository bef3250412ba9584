"""Clean loaders of the measured data sets.

The data sets stay outside the project; what each loader drops and corrects is said at the loader. Units are in names.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sizing.calibration.measurement import ObservedPoint
from sizing.replica.memory import resolve
from sizing.types import Deployment, Workload

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "sizing"
PRECISIONS = {"fp8": "fp8", "fp4": "nvfp4", "int4": "int4", "bf16": "bf16", "": "bf16"}
ARCHITECTURES = {
    "deepseek-r1": "deepseek-v3",
    "deepseek-v3": "deepseek-v3",
    "kimi-k2": "kimi-k2",
    "minimax-m2": "minimax-m2.5",
    "qwen3.5-397b": "qwen3.5-397b-a17b",
    "llama-3.1-8b": "llama-3.1-8b",
    "qwen3-32b": "qwen3-32b",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One closed-loop measurement of one replica; ``aic_*``: what aiconfigurator 0.12.0 predicted, where it did."""

    model: str
    served: str  # the name it was measured under
    backend: str
    version: str  # of the backend; empty: not told
    deployment: Deployment
    input_tokens: float
    output_tokens: float
    concurrency: int
    ttft_seconds: float
    tpot_seconds: float
    aic_ttft_seconds: float | None
    aic_tpot_seconds: float | None

    @property
    def point(self) -> ObservedPoint:
        """The row as an observation to calibrate on."""
        return ObservedPoint(
            self.input_tokens,
            self.output_tokens,
            self.tpot_seconds,
            self.ttft_seconds,
            concurrency=float(self.concurrency),
            closed_loop=True,
        )

    @property
    def setup(self) -> tuple[object, ...]:
        """What was deployed: rows of one set-up differ in lengths and concurrency only."""
        return self.served, self.backend, self.deployment


def _whole(raw: dict[str, str], name: str) -> int:
    return int(float(raw[name] or 1) or 1)


def _predictions(path: Path) -> dict[str, tuple[float, float]]:
    if not path.exists():
        return {}
    with path.open() as file:
        return {
            raw["id"]: (float(raw["aic012_ttft_ms"]) / 1e3, float(raw["aic012_tpot_ms"]) / 1e3)
            for raw in csv.DictReader(file)
            if raw["aic012_tpot_ms"] and raw["aic012_ttft_ms"]
        }


def silicon(folder: Path = DATA, *, corrected: bool = True) -> tuple[list[Row], Counter[str]]:
    """Aggregated measurements shipped by ai-dynamo/aiconfigurator (commit 095f58a51c), and what was dropped or mended.

    Corrected: one row per measurement (the same one is listed under several names); GB200/GB300 left out (GPU counts
    that look like rack totals); GPU count from the ``tpN`` of the id where ``tp_size`` is 16 or more; tensor
    parallelism 1 where it equals the attention data parallelism (the GPUs are counted once); rows dropped whose GPU
    count stays doubtful, one outlier above 400 ms and one row that would need more FLOP/s than its GPUs have;
    concurrency from the text of the source, because ``batch_size`` is per rank. As given: every row, with its own
    columns.

    Raises:
        FileNotFoundError: the data set is not there.
    """
    predictions = _predictions(folder / "aic_silicon" / "aic_0.12.0_predictions.csv")
    rows: list[Row] = []
    seen: dict[tuple[str, ...], int] = {}
    notes: Counter[str] = Counter()
    with (folder / "aic_silicon" / "silicon_sample.csv").open() as file:
        records = [raw for raw in csv.DictReader(file) if raw["mode"] == "agg"]
    for raw in records:
        tp, dp = _whole(raw, "tp_size"), _whole(raw, "attention_dp_size")
        said = re.search(r"silicon_concurrency=(\d+)", raw["silicon_data_source"])
        concurrency = _whole(raw, "batch_size") * dp
        answer = predictions.get(raw["id"])
        if corrected:
            # Numbers, not texts: the same measurement is also listed with its last digits rounded.
            figures = ("isl", "osl", "silicon_ttft_ms", "silicon_tpot_ms")
            key = (raw["system"], *(f"{float(raw[name]):.9g}" for name in figures))
            if raw["system"].startswith("gb"):
                notes["GB200/GB300"] += 1
                continue
            if key in seen:
                notes["duplicate"] += 1
                kept = seen[key]
                if answer and kept >= 0 and rows[kept].aic_tpot_seconds is None:
                    rows[kept] = replace(rows[kept], aic_ttft_seconds=answer[0], aic_tpot_seconds=answer[1])
                continue
            label = re.search(r"tp(\d+)_", raw["id"])
            if tp >= 16 and label:
                tp = int(label.group(1))
                notes["GPU count from the id"] += 1
            elif tp == dp and tp in (2, 4, 8):
                tp = 1
                notes["GPUs counted once"] += 1
            if tp > 8 or (tp == 1 and dp >= 16):
                seen[key] = -1
                notes["doubtful GPU count"] += 1
                continue
            if float(raw["silicon_tpot_ms"]) > 400:
                notes["outlier"] += 1
                continue
            seen[key] = len(rows)
            if said:
                concurrency = int(said.group(1))
        named = next(value for part, value in ARCHITECTURES.items() if part in raw["model_path"].lower())
        deployment = Deployment(
            named,
            raw["system"],
            tensor_parallel=tp,
            pipeline_parallel=_whole(raw, "pp_size"),
            data_parallel=dp,
            precision="fp8" if "FP8" in raw["model_path"] else PRECISIONS[raw["precision"]],
            max_num_seqs=100_000,
            observed_kv_tokens=10**9,
            engine=raw["backend"],
        )
        row = Row(
            model=named,
            served=raw["model_path"],
            backend=raw["backend"],
            version=raw["backend_version"],
            deployment=deployment,
            input_tokens=float(raw["isl"]),
            output_tokens=float(raw["osl"]),
            concurrency=concurrency,
            ttft_seconds=float(raw["silicon_ttft_ms"]) / 1e3,
            tpot_seconds=float(raw["silicon_tpot_ms"]) / 1e3,
            aic_ttft_seconds=answer[0] if answer else None,
            aic_tpot_seconds=answer[1] if answer else None,
        )
        if corrected and _flops_share(row) > 1.0:
            notes["more FLOP/s than the GPUs have"] += 1
            seen[key] = -1
            continue
        rows.append(row)
    return rows, notes


def _flops_share(row: Row) -> float:
    """Return the FLOP/s of the parameters' multiplications that a row implies over what its GPUs can do at most."""
    resolved = resolve(row.deployment)
    seconds = row.ttft_seconds + row.tpot_seconds * (row.output_tokens - 1)
    tokens = row.concurrency / seconds * (row.input_tokens + row.output_tokens)
    peak = max(resolved.gpu.flops_per_second.values()) * row.deployment.gpus
    return 2 * resolved.model.active_parameters * tokens / peak


def guidellm(folder: Path = DATA) -> list[tuple[float, float, float, float, float]]:
    """(input, output, requests/s, TTFT s, ITL s) of Llama-3.1-8B, lengths uniform ±50 %, evenly spaced arrivals.

    112 points of llm-inferno/model-trainer, commit 047f0ae0b9.
    """
    with (folder / "inferno_guidellm" / "measured_vs_inferno_persweep_fit.csv").open() as file:
        return [
            (
                float(raw["in_tok"]),
                float(raw["out_tok"]),
                float(raw["req_per_s"]),
                float(raw["ttft_ms_measured"]) / 1e3,
                float(raw["itl_ms_measured"]) / 1e3,
            )
            for raw in csv.DictReader(file)
        ]


def uniform_lengths(input_tokens: float, output_tokens: float) -> Workload:
    """Lengths uniform within ±50 % of their means."""
    return Workload(input_tokens, output_tokens, input_tokens**2 * 13 / 12, output_tokens**2 * 13 / 12)


def errors_text(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> str:
    """Median, mean and p90 of the absolute relative error, as cells of a table."""
    errors = np.abs(predicted / measured - 1)
    if not errors.size or not math.isfinite(float(errors.sum())):
        return "– | – | –"
    return f"{np.median(errors):.1%} | {errors.mean():.1%} | {np.quantile(errors, 0.9):.1%}"
