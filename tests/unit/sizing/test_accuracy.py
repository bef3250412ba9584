"""Fits the step coefficients on end-to-end measurements and measures how far predictions are off.

This file is the committed fit behind ``StepCoefficients`` and the source of the figures in docs/sizing.md.
"""

from __future__ import annotations

import csv
import re
from dataclasses import astuple, fields
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from sizing.errors import SizingError
from sizing.memory import Resolved, resolve
from sizing.model import Deployment, Workload
from sizing.plan import STEP_TIME_ERROR_RATIO
from sizing.points import TPOT_INTERVAL_RATIOS, TTFT_INTERVAL_RATIOS, predict_point
from sizing.replica import ReplicaModel
from sizing.steptime import StepCoefficients, step_model

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "sizing"
NAMES = [field.name for field in fields(StepCoefficients)]
# Nothing reads faster than 1/1.1 of the data sheet's bandwidth, KV (paged, gathered) not faster than 1/1.2 of it.
LOWER = {"layer_seconds": 0.0, "sequence_seconds": 0.0, "weight_ratio": 1.1, "kv_ratio": 1.2, "compute_ratio": 0.9, "comm_ratio": 0.8}  # fmt: skip  # noqa: E501
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


class Row(NamedTuple):
    model: str
    deployment: Deployment
    isl: float
    osl: float
    concurrency: int
    ttft: float
    tpot: float


@cache
def silicon() -> tuple[Row, ...]:
    """Distinct aggregated measurements with an unambiguous GPU count (traps: SOURCES.md of the data)."""
    path = DATA / "aic_silicon" / "silicon_sample.csv"
    if not path.exists():
        pytest.skip("the measured data sets are not beside this checkout")
    seen: set[tuple[str, ...]] = set()
    rows = []
    for raw in csv.DictReader(path.open()):
        key = tuple(raw[name] for name in ("system", "mode", "isl", "osl", "silicon_ttft_ms", "silicon_tpot_ms"))
        if raw["mode"] != "agg" or raw["system"].startswith("gb") or key in seen:
            continue
        seen.add(key)

        def whole(name: str, raw: dict[str, str] = raw) -> int:
            return int(float(raw[name] or 1) or 1)

        tp, dp = whole("tp_size"), whole("attention_dp_size")
        label = re.search(r"tp(\d+)_", raw["id"])
        if tp >= 16 and label:
            tp = int(label.group(1))
        elif tp == dp and tp in (2, 4, 8):
            tp = 1
        if tp > 8 or (tp == 1 and dp >= 16) or float(raw["silicon_tpot_ms"]) > 400:
            continue
        named = next(value for part, value in ARCHITECTURES.items() if part in raw["model_path"].lower())
        said = re.search(r"silicon_concurrency=(\d+)", raw["silicon_data_source"])
        deployment = Deployment(
            named,
            raw["system"],
            tensor_parallel=tp,
            pipeline_parallel=whole("pp_size"),
            data_parallel=dp,
            precision="fp8" if "FP8" in raw["model_path"] else PRECISIONS[raw["precision"]],
            max_num_seqs=100_000,
            observed_kv_tokens=10**9,
        )
        rows.append(
            Row(
                named,
                deployment,
                float(raw["isl"]),
                float(raw["osl"]),
                int(said.group(1)) if said else whole("batch_size") * dp,
                float(raw["silicon_ttft_ms"]) / 1e3,
                float(raw["silicon_tpot_ms"]) / 1e3,
            )
        )
    return tuple(rows)


@cache
def guidellm() -> tuple[tuple[float, float, float, float, float], ...]:
    """(input, output, requests/s, TTFT s, ITL s) of Llama-3.1-8B, lengths uniform ±50 %, evenly spaced arrivals."""
    path = DATA / "inferno_guidellm" / "measured_vs_inferno_persweep_fit.csv"
    if not path.exists():
        pytest.skip("the measured data sets are not beside this checkout")
    return tuple(
        (
            float(raw["in_tok"]),
            float(raw["out_tok"]),
            float(raw["req_per_s"]),
            float(raw["ttft_ms_measured"]) / 1e3,
            float(raw["itl_ms_measured"]) / 1e3,
        )
        for raw in csv.DictReader(path.open())
    )


def features(resolved: Resolved, batch: float, context: float, prompts: float, before: float) -> list[float]:
    """The step time is linear in the coefficients: one column per coefficient."""
    columns = []
    for name in NAMES:
        one = StepCoefficients(**{other: float(other == name) for other in NAMES})
        columns.append(step_model(resolved, one).step_seconds(batch, context, prompts, before))
    return columns


@cache
def design() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, measured seconds and architecture of all rows, with the batch that the measured times imply."""
    columns, seconds, architectures = [], [], []
    for row in silicon():
        resolved = resolve(row.deployment)
        decode = row.osl * row.tpot
        batch = max(row.concurrency / resolved.lanes * decode / (decode + row.ttft), 1.0)
        columns.append(features(resolved, batch, row.isl + row.osl / 2, batch * row.isl / row.osl, row.isl / 2))
        seconds.append(row.tpot)
        architectures.append(row.model)
    resolved = resolve(Deployment("llama-3.1-8b", "h100-sxm"))
    for tokens_in, tokens_out, rate, _, itl in guidellm():
        batch = max(rate * tokens_out * itl, 1.0)
        context = tokens_in + tokens_out * (1 + 1 / 12) / 2
        columns.append(features(resolved, batch, context, batch * tokens_in / tokens_out, tokens_in / 2 * (1 + 1 / 12)))
        seconds.append(itl)
        architectures.append("llama-3.1-8b")
    return np.array(columns), np.array(seconds), np.array(architectures)


def fit(columns: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Bounded least squares on relative errors, reweighted towards the median."""
    scale = np.maximum(columns.mean(axis=0), 1e-12)
    lower = np.array([LOWER[name] for name in NAMES]) * scale
    weights = 1 / seconds
    for _ in range(15):
        found = lsq_linear(columns / scale * weights[:, None], seconds * weights, (lower, np.inf)).x / scale
        errors = columns @ found / seconds - 1
        weights = 1 / seconds / np.sqrt(np.maximum(np.abs(errors), 0.05))
    return found


def test_the_coefficients_are_those_of_the_fit() -> None:
    columns, seconds, _ = design()
    found = fit(columns, seconds)
    print(dict(zip(NAMES, found, strict=True)))
    assert np.array(astuple(StepCoefficients())) == pytest.approx(found, rel=0.02)


def test_unseen_architectures() -> None:
    columns, seconds, architectures = design()
    size = len(silicon())
    predicted = np.zeros(size)
    for name in set(architectures[:size]):
        inside = architectures == name
        predicted[inside[:size]] = columns[:size][inside[:size]] @ fit(columns[~inside], seconds[~inside])
    ratio = seconds[:size] / predicted
    errors = np.abs(predicted / seconds[:size] - 1)
    ends = np.quantile(ratio, (0.05, 0.1, 0.9, 0.95))
    print(size, np.median(errors), errors.mean(), np.quantile(errors, 0.9), ends)
    assert np.median(errors) <= 0.13
    assert errors.mean() <= 0.22
    assert pytest.approx(ends[1], abs=0.05) == 1 / STEP_TIME_ERROR_RATIO
    assert pytest.approx(ends[2], abs=0.05) == STEP_TIME_ERROR_RATIO


def test_closed_loop_rows_end_to_end() -> None:
    """From concurrency alone, as ``size --points`` predicts; in sample for the coefficients."""
    tpot, ttft = [], []
    for row in silicon():
        deployment = row.deployment
        point = predict_point(
            {
                "model": row.model,
                "gpu": deployment.gpu,
                "tp": deployment.tensor_parallel,
                "dp": deployment.data_parallel,
                "pp": deployment.pipeline_parallel,
                "precision": deployment.precision,
                "isl": row.isl,
                "osl": row.osl,
                "concurrency": row.concurrency,
                "max_num_seqs": 100_000,
            }
        )
        if point["error"] is None:
            tpot.append(row.tpot * 1e3 / point["tpot_ms_p50"])
            ttft.append(row.ttft * 1e3 / point["ttft_ms_p50"])
    ratios, firsts = np.array(tpot), np.array(ttft)
    errors, first_errors = np.abs(1 / ratios - 1), np.abs(1 / firsts - 1)
    print(len(ratios), np.median(errors), errors.mean(), np.quantile(errors, 0.9), np.quantile(ratios, (0.05, 0.95)))
    print(np.median(first_errors), first_errors.mean(), np.quantile(firsts, (0.05, 0.5, 0.95)))
    assert len(ratios) > 1500
    assert np.median(errors) <= 0.16
    assert np.median(first_errors) <= 0.60
    low, high = TPOT_INTERVAL_RATIOS
    assert 0.85 <= np.mean((ratios >= low) & (ratios <= high)) <= 0.95
    low, high = TTFT_INTERVAL_RATIOS
    assert 0.85 <= np.mean((firsts >= low) & (firsts <= high)) <= 0.95


def test_open_loop_rates_of_llama_8b() -> None:
    """From the offered rate alone; in sample for the coefficients and for the TTFT constants."""
    tpot, ttft = [], []
    resolved = resolve(Deployment("llama-3.1-8b", "h100-sxm"))
    for tokens_in, tokens_out, rate, measured_ttft, measured_itl in guidellm():
        workload = Workload(tokens_in, tokens_out, tokens_in**2 * 13 / 12, tokens_out**2 * 13 / 12)
        replica = ReplicaModel(resolved, workload, dispersion=0.0)
        batch = replica.lane_batch(rate)
        if batch is None:
            continue
        latency = replica.latency(batch, 0.5)
        tpot.append(abs(latency.tpot_seconds / measured_itl - 1))
        ttft.append(abs(latency.ttft_seconds / measured_ttft - 1))
    print(len(tpot), np.median(tpot), np.mean(tpot), np.median(ttft), np.mean(ttft))
    assert len(tpot) == 112
    assert np.median(tpot) <= 0.08
    assert np.median(ttft) <= 0.15


def test_a_prompt_that_fills_an_l40s_is_refused() -> None:
    with pytest.raises(SizingError):
        ReplicaModel(resolve(Deployment("llama-3.1-8b", "l40s")), Workload(1e6, 100))


def test_tails_below_the_knee() -> None:
    """p95 and p99 of TTFT and p95 of ITL at constant rates, up to 90 % of saturation."""
    path = DATA / "inferno_guidellm" / "exp1_llama31_8b_tidy.csv"
    if not path.exists():
        pytest.skip("the measured data sets are not beside this checkout")
    resolved = resolve(Deployment("llama-3.1-8b", "h100-sxm"))
    errors: dict[str, list[float]] = {"ttft_p95": [], "ttft_p99": [], "itl_p95": []}
    for raw in csv.DictReader(path.open()):
        tokens_in, tokens_out = float(raw["in_tok_mean"]), float(raw["out_tok_mean"])
        workload = Workload(tokens_in, tokens_out, tokens_in**2 * 13 / 12, tokens_out**2 * 13 / 12)
        replica = ReplicaModel(resolved, workload, dispersion=0.0)
        rate = float(raw["req_per_s_mean"])
        batch = replica.lane_batch(rate)
        if raw["strategy"] != "constant" or batch is None or rate > 0.9 * replica.saturation_requests_per_second:
            continue
        p95, p99 = replica.latency(batch, 0.95), replica.latency(batch, 0.99)
        errors["ttft_p95"].append(abs(p95.ttft_seconds * 1e3 / float(raw["ttft_ms_p95"]) - 1))
        errors["ttft_p99"].append(abs(p99.ttft_seconds * 1e3 / float(raw["ttft_ms_p99"]) - 1))
        errors["itl_p95"].append(abs(p95.tpot_seconds * 1e3 / float(raw["itl_ms_p95"]) - 1))
    medians = {name: float(np.median(values)) for name, values in errors.items()}
    print(len(errors["ttft_p95"]), medians)
    assert medians["ttft_p95"] <= 0.18
    assert medians["ttft_p99"] <= 0.25
    assert medians["itl_p95"] <= 0.12


@pytest.mark.parametrize(
    ("setup", "max_num_seqs", "cached_share"),
    [("vllm", 128, 0.0), ("vllm+batch_size", 192, 0.0), ("vllm+chunking_and_prefix_caching", 256, 128 / 202)],
)
def test_knees_that_no_fit_has_seen(setup: str, max_num_seqs: int, cached_share: float) -> None:
    """Saturation of Llama-3.1-8B on one H100 within 10 %, and never above the truth by more than 5 %."""
    path = DATA / "inference_perf_kubecon" / "tidy.csv"
    if not path.exists():
        pytest.skip("the measured data sets are not beside this checkout")
    rows = [raw for raw in csv.DictReader(path.open()) if raw["config"] == setup]
    knee = max(float(raw["achieved_rate"]) for raw in rows)
    deployment = Deployment("llama-3.1-8b", "h100-sxm", max_num_seqs=max_num_seqs)
    replica = ReplicaModel(resolve(deployment), Workload(202, 62.5, cached_share=cached_share))
    predicted = replica.saturation_requests_per_second
    print(setup, predicted, knee)
    assert 0.90 <= predicted / knee <= 1.05
