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


def _measurement(raw: dict[str, str]) -> tuple[str, ...]:
    """What tells measurements apart: the same one is also listed under other names and with milliseconds rounded."""
    times = (f"{float(raw[name]):.2f}" for name in ("silicon_ttft_ms", "silicon_tpot_ms"))
    return (raw["system"], f"{float(raw['isl']):g}", f"{float(raw['osl']):g}", *times)


def _source(raw: dict[str, str], pattern: str) -> str:
    found = re.search(pattern, raw["silicon_data_source"])
    return found.group(1) if found else ""


def _drafts(raw: dict[str, str], listed_later: set[tuple[str, ...]]) -> bool:
    """Whether a row ran with multi-token prediction, which rows do not tell, by the recipes that they are from.

    SemiAnalysisAI/InferenceX commit 843c6254ff, perf-changelog.yaml and the history of nvidia-master.yaml. DeepSeek-R1
    with TensorRT-LLM: release 1.2.0rc6.post3 is in the recipes with it alone (pull requests 632 and 642), and in 2026
    release 1.1.0rc2.post2 was run for those alone (392; two weeks later for both, 587: not told apart). DeepSeek-R1 in
    FP8 with SGLang 0.5.9 on eight B200 was run with and without it on one day (943); the dump of 2026-04-27 has those
    of the recipe without it alone: every shape and concurrency of that recipe, once. Qwen3.5 in FP8 with SGLang 0.5.9
    on four GPUs without expert parallelism: the image without -amd64 is of the recipe with it (898).
    """
    model, image = raw["model_path"].lower(), _source(raw, r"(?:image=|; )(\S+/\S+:\S+)$")
    measured, version = _source(raw, r"measured=([\d-]+)"), raw["backend_version"]
    if "deepseek" in model and raw["backend"] == "trtllm":
        return version == "1.2.0rc6.post3" or (version == "1.1.0rc2.post2" and measured >= "2026")
    one_expert_group = _whole(raw, "moe_ep_size") == 1
    if "deepseek" in model and version == "0.5.9" and raw["system"] == "b200_sxm" and raw["precision"] == "fp8":
        return one_expert_group and raw["tp_size"] == "8" and _measurement(raw) not in listed_later
    return (
        "qwen3.5" in model
        and raw["precision"] == "fp8"
        and raw["tp_size"] == "4"
        and one_expert_group
        and image.endswith("/sglang:v0.5.9-cu130")
    )


def _shares_attention(raw: dict[str, str], concurrency: int) -> bool:
    """Whether the ranks of a vLLM row whose GPUs are counted twice are of one attention group.

    SemiAnalysisAI/InferenceX's nvidia-master.yaml, 2026-03 to 2026-04: tensor with expert parallelism and attention
    not data-parallel, but for MiniMax-M2.5 on two GPUs in FP4 from 512 clients on (on B300 from 256 since 2026-04-20)
    and on two B300 in FP8 from 1,024 on.
    """
    if "minimax" not in raw["model_path"].lower() or raw["tp_size"] != "2":
        return True
    if raw["precision"] == "fp8":
        return raw["system"] != "b300_sxm" or concurrency < 1024
    later = raw["system"] == "b300_sxm" and _source(raw, r"measured=([\d-]+)") >= "2026-04-20"
    return concurrency < (256 if later else 512)


def _kv_precision(raw: dict[str, str], precision: str) -> str | None:
    """What a row's engine kept its KV cache in, which rows do not tell; None: in the model's own 16 bits.

    By the recipes (SemiAnalysisAI/InferenceX commit 843c6254ff, history of benchmarks/): DeepSeek-R1 with TensorRT-LLM
    and on Blackwell with SGLang in FP8, as was all of Qwen3.5 but the bf16 weights; MiniMax-M2.5 in NVFP4, and in FP8
    on Blackwell since 2026-04-03 (pull request 947); Kimi-K2.5 in NVFP4 on a B200 since 2026-04-20 (1047). The other
    recipes say nothing, and engines keep 16 bits then. Rows of no recipe: Qwen3-32B in FP8 with TensorRT-LLM runs up
    to 1.56 times the tokens at once that 16 bits have room for; nvidia/Llama-3.1-8B-Instruct-FP8 is a checkpoint of
    ModelOpt that asks for FP8, as vLLM takes it.
    """
    model, blackwell = raw["model_path"].lower(), raw["system"][:4] in ("b200", "b300")
    measured = _source(raw, r"measured=([\d-]+)")
    if precision == "bf16":
        return None
    if "deepseek" in model:
        eight = raw["backend"] == "trtllm" or blackwell
    elif "minimax" in model:
        eight = precision == "nvfp4" or (blackwell and measured >= "2026-04-03")
    elif "kimi" in model:
        eight = precision == "nvfp4" and raw["system"] == "b200_sxm" and measured >= "2026-04-20"
    else:
        eight = "qwen3.5" in model or raw["backend"] == "trtllm" or model.startswith("nvidia/")
    return "fp8" if eight else None


def silicon(folder: Path = DATA, *, corrected: bool = True) -> tuple[list[Row], Counter[str]]:
    """Aggregated measurements shipped by ai-dynamo/aiconfigurator (commit 095f58a51c), and what was dropped or mended.

    Corrected: one row per measurement (the same one is listed under several names); rows with multi-token prediction
    left out (``_drafts``), because nothing here predicts how many drafted tokens are accepted; the KV cache in the
    precision that ``_kv_precision`` tells; GB200/GB300 left out (GPU counts that look like rack totals); the root of
    GPU counts that are the product of expert-tensor and expert parallelism, both of the same ranks (the ``tpN`` of the
    id says so wherever there is one, and so do the recipes); where tensor and attention data parallelism are alike the
    GPUs are counted once, as ``_shares_attention`` tells; rows dropped whose ranks stay doubtful (``batch_size`` is
    the concurrency per rank, and the ranks differ from the column's); concurrency from the text of the source. As
    given: every row, with its own columns.

    Raises:
        FileNotFoundError: the data set is not there.
    """
    predictions = _predictions(folder / "aic_silicon" / "aic_0.12.0_predictions.csv")
    rows: list[Row] = []
    seen: dict[tuple[str, ...], int] = {}
    notes: Counter[str] = Counter()
    with (folder / "aic_silicon" / "silicon_sample.csv").open() as file:
        records = [raw for raw in csv.DictReader(file) if raw["mode"] == "agg"]
    later = {_measurement(raw) for raw in records if raw["silicon_data_source"].startswith("db-dump/2026-04-27")}
    drafts = {_measurement(raw) for raw in records if _drafts(raw, later)}
    for raw in records:
        tp, dp = _whole(raw, "tp_size"), _whole(raw, "attention_dp_size")
        said = re.search(r"silicon_concurrency=(\d+)", raw["silicon_data_source"])
        concurrency = _whole(raw, "batch_size") * dp
        answer = predictions.get(raw["id"])
        if corrected:
            key = _measurement(raw)
            if raw["system"].startswith("gb"):
                notes["GB200/GB300"] += 1
                continue
            if key in seen:
                notes["duplicate"] += 1
                kept = seen[key]
                if answer and kept >= 0 and rows[kept].aic_tpot_seconds is None:
                    rows[kept] = replace(rows[kept], aic_ttft_seconds=answer[0], aic_tpot_seconds=answer[1])
                continue
            if key in drafts:
                notes["multi-token prediction"] += 1
                seen[key] = -1
                continue
            if said and dp == 1 and _whole(raw, "batch_size") != int(said.group(1)):
                notes["doubtful ranks"] += 1
                seen[key] = -1
                continue
            side = _whole(raw, "moe_ep_size")
            if max(tp, dp) == side * side and side > 2:
                tp, dp = min(tp, side), min(dp, side)
                notes["GPU count squared"] += 1
            elif tp == dp and tp in (2, 4, 8):
                tp, dp = (tp, 1) if said and _shares_attention(raw, int(said.group(1))) else (1, dp)
                notes["GPUs counted once"] += 1
            seen[key] = len(rows)
            if said:
                concurrency = int(said.group(1))
        named = next(value for part, value in ARCHITECTURES.items() if part in raw["model_path"].lower())
        precision = "fp8" if "FP8" in raw["model_path"] else PRECISIONS[raw["precision"]]
        deployment = Deployment(
            named,
            raw["system"],
            tensor_parallel=tp,
            pipeline_parallel=_whole(raw, "pp_size"),
            data_parallel=dp,
            expert_parallel=min(_whole(raw, "moe_ep_size"), tp * dp),
            precision=precision,
            kv_precision=_kv_precision(raw, precision),
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
        rows.append(row)
    return rows, notes


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
