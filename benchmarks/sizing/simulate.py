"""The simulator: its speed, and its times against measured timelines and the mean field.

    python benchmarks/sizing/simulate.py [--data FOLDER] [--out FILE.md]

FOLDER holds ``llmservingsim_bench`` and ``inferno_guidellm``. Prints Markdown.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from measurements import DATA, guidellm, uniform_lengths
from numpy.typing import NDArray

from sizing.calibration.calibrator import Calibrator
from sizing.calibration.measurement import ObservedPoint
from sizing.catalog import Catalog, Link
from sizing.replica.memory import resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.replica.step_time import StepCoefficients
from sizing.simulate import Frontend, Requests, generate, simulate
from sizing.types import Deployment, Workload

H100 = resolve(Deployment("llama-3.1-8b", "h100-sxm"))


def timeline_gpus() -> Catalog:
    """The boards of the timelines as their own files describe them, else as the catalogue has them or the L40S.

    RTX 4090: memory as the run's meta.json reports, bandwidth as in its config.json, 165.2 TFLOP/s dense bf16 (NVIDIA
    Ada architecture white paper). Large GEMMs reach 158.5 of them, the median of the square bf16 products of 4,096,
    8,192 and 10,240 as measured with PyTorch 2.7 (zzc0721/torch-performance-test-data issue 78, 2025-10-17): its tensor
    cores run at half rate with 32-bit sums, so power does not hold them back. RTX PRO 6000: the link between the two
    boards as in the run's config.json (16 GB/s, 20 microseconds; the catalogue assumes PCIe gen 5).
    """
    catalog = Catalog()
    return Catalog(
        {
            "rtx4090": replace(
                catalog.gpu("l40s"),
                name="rtx4090",
                memory_bytes=25250627584,
                memory_bandwidth_bytes_per_second=1.008e12,
                flops_per_second={"bf16": 1.652e14},
                compute_efficiency={"bf16": 0.96},
            ),
            "rtx-pro-6000": replace(catalog.gpu("rtx-pro-6000"), links={2: Link(20e-6, 16e9)}),
        }
    )


TIMELINES = {
    "RTX4090_Llama-3.1-8B": Deployment(
        "llama-3.1-8b", "rtx4090", max_num_seqs=256, max_batched_tokens=2048, observed_kv_tokens=41_408
    ),
    "RTXPRO6000_Llama-3.1-8B": Deployment("llama-3.1-8b", "rtx-pro-6000", max_num_seqs=128, max_batched_tokens=2048),
    "RTXPRO6000_Qwen3-30B-A3B-Instruct-2507": Deployment(
        "qwen3-30b-a3b",
        "rtx-pro-6000",
        data_parallel=2,
        expert_parallel=2,
        max_num_seqs=128,
        max_batched_tokens=2048,
    ),
}


def timeline(folder: Path, name: str) -> tuple[Requests, dict[str, NDArray[np.float64]]]:
    """The requests of one run in order of queueing, and their measured times from queueing (one clock, seconds)."""
    with (folder / "llmservingsim_bench" / name / "requests.jsonl").open() as file:
        rows = sorted((json.loads(line) for line in file), key=lambda row: float(row["queued_ts"]))
    queued, scheduled, first, last = (
        np.array([row[key] for row in rows]) for key in ("queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts")
    )
    output = np.array([row["output_toks"] for row in rows])
    measured = {
        "queue": scheduled - queued,
        "ttft": first - queued,
        "tpot": (last - first) / np.maximum(output - 1, 1),
        "e2e": last - queued,
    }
    return Requests.of(queued - queued[0], [row["input_toks"] for row in rows], output), measured


def observed_before(
    requests: Requests, measured: dict[str, NDArray[np.float64]], until_seconds: float
) -> ObservedPoint | None:
    """What an operator sees of the requests finished by ``until_seconds``: one point, for one replica."""
    done = requests.arrival_seconds + measured["e2e"] <= until_seconds
    if done.sum() < 5:
        return None
    started = requests.arrival_seconds + measured["ttft"]
    ended = requests.arrival_seconds + measured["e2e"]
    since = float(started[done].min())
    # Mean decoding sequences while those requests decoded, including the ones not finished yet.
    decoding = np.clip(np.minimum(ended, until_seconds) - np.maximum(started, since), 0.0, None).sum()
    output = float(requests.output_tokens[done].mean())
    tpot = float(measured["tpot"][done].mean())
    return ObservedPoint(
        float(requests.input_tokens[done].mean()),
        output,
        tpot,
        requests_per_second=float(decoding) / (until_seconds - since) / (output * tpot),
    )


def timelines(folder: Path) -> list[str]:
    """Simulated against measured, as predicted and after the first 30 s of the run were observed."""
    lines = [
        "## Measured timelines (casys-kaist/LLMServingSim 5daddb21a5): vLLM 0.19, 300 ShareGPT requests, overloaded",
        "",
        "Means over all requests, simulated (relative to measured). No fit has seen these boards or runs; the second "
        "line of each run is calibrated on the requests that had finished 30 s after the start.",
        "",
        "| run | TTFT s | TPOT ms | E2E s | queue s | preemptions |",
        "|---|---|---|---|---|---|",
    ]
    catalog = timeline_gpus()
    for name, deployment in TIMELINES.items():
        resolved = resolve(deployment, catalog)
        requests, measured = timeline(folder, name)
        learner = Calibrator(resolved, forgetting=1.0)
        point = observed_before(requests, measured, 30.0)
        variants: list[tuple[str, StepCoefficients | None]] = [(name, None)]
        if point is not None:
            learner.update(point)
            learned = learner.calibration
            batch = point.requests_per_second * point.output_tokens * point.tpot_seconds / resolved.lanes  # type: ignore[operator]
            variants.append(("– calibrated", learned.scaled(learned.at(point.workload, batch).step_ratio)))
        for label, coefficients in variants:
            outcome = simulate(resolved, requests, coefficients=coefficients, frontend=Frontend(0.0, 0.0))
            pairs = (
                (outcome.ttft_seconds, measured["ttft"], 1.0),
                (outcome.tpot_seconds, measured["tpot"], 1e3),
                (outcome.e2e_seconds, measured["e2e"], 1.0),
                (outcome.queue_seconds, measured["queue"], 1.0),
            )
            cells = [
                f"{np.nanmean(mine) * unit:.2f} ({np.nanmean(mine) / theirs.mean() - 1:+.1%})"
                for mine, theirs, unit in pairs
            ]
            lines.append(f"| {label} | {' | '.join(cells)} | {outcome.preemptions.sum()} |")
    return lines


def sweeps(folder: Path) -> list[str]:
    """Medians on the Llama-3.1-8B sweeps, simulator and mean field, and the fit behind ``Frontend``."""
    random = np.random.default_rng(0)
    found = []
    for tokens_in, tokens_out, rate, ttft, itl in guidellm(folder):
        count = int(min(max(rate * 360, 50), 4000))
        low, high = 0.5, 1.5
        requests = Requests.of(
            np.arange(count) / rate,
            np.maximum(random.uniform(low * tokens_in, high * tokens_in, count), 1),
            np.maximum(random.uniform(low * tokens_out, high * tokens_out, count), 1),
        )
        outcome = simulate(H100, requests, frontend=Frontend(0.0, 0.0))
        settled = slice(count // 4, count)
        model = ReplicaModel(H100, uniform_lengths(tokens_in, tokens_out), dispersion=0.0)
        batch = model.lane_batch(rate)
        mean_field = model.latency(model.max_lane_batch if batch is None else batch, 0.5)
        found.append(
            (
                tokens_in,
                ttft,
                itl,
                float(np.median(outcome.ttft_seconds[settled])),
                float(np.nanmedian(outcome.tpot_seconds[settled])),
                mean_field.ttft_seconds,
                mean_field.tpot_seconds,
            )
        )
    tokens, ttft, itl, sim_ttft, sim_tpot, field_ttft, field_tpot = np.array(found).T
    design = np.column_stack((np.ones_like(tokens), tokens))
    weights = 1 / ttft
    for _ in range(20):
        fit = np.linalg.lstsq(design * weights[:, None], (ttft - sim_ttft) * weights, rcond=None)[0]
        weights = 1 / ttft / np.sqrt(np.maximum(np.abs(ttft - sim_ttft - design @ fit) / ttft, 0.02))
    frontend = Frontend()
    sim_ttft = sim_ttft + frontend.request_seconds + frontend.prompt_token_seconds * tokens

    def cells(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> str:
        errors = np.abs(predicted / measured - 1)
        return f"{np.median(errors):.1%} | {errors.mean():.1%}"

    return [
        "",
        "## Llama-3.1-8B sweeps (112 points, medians; in sample for the step coefficients and the front end)",
        "",
        "| what | TTFT median error | mean | TPOT median error | mean |",
        "|---|---|---|---|---|",
        f"| simulator | {cells(sim_ttft, ttft)} | {cells(sim_tpot, itl)} |",
        f"| mean field | {cells(field_ttft, ttft)} | {cells(field_tpot, itl)} |",
        "",
        f"Front end fitted anew: {fit[0] * 1e3:.2f} ms per request and {fit[1] * 1e6:.2f} µs per prompt token; in use: "
        f"{frontend.request_seconds * 1e3:g} ms and {frontend.prompt_token_seconds * 1e6:g} µs.",
    ]


def agreement_and_speed() -> list[str]:
    """Means of simulator and mean field below the knee, Poisson arrivals, and simulated requests per second."""
    lines = [
        "",
        "## Speed on one core, and agreement with the mean field (Llama-3.1-8B on H100, Poisson arrivals)",
        "",
        "| in/out tokens | of saturation | replicas | routing | batch | TPOT sim / mean field | TTFT sim / mean field "
        "| requests per CPU second |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for tokens_in, tokens_out, share in ((1000, 200, 0.5), (1000, 200, 0.7), (1000, 200, 0.8), (500, 500, 0.6), (200, 60, 0.7)):  # fmt: skip  # noqa: E501
        model = ReplicaModel(H100, Workload(tokens_in, tokens_out))
        rate = model.saturation_requests_per_second * share
        batch = model.lane_batch(rate)
        assert batch is not None
        mean = model.mean_latency(batch)
        for replicas, routing in ((1, "round_robin"), (4, "least_outstanding")):
            requests = generate(20_000 * replicas, rate * replicas, tokens_in, tokens_out, seed=1)
            began = time.process_time()
            outcome = simulate(H100, requests, replicas=replicas, routing=routing)
            seconds = time.process_time() - began
            lines.append(
                f"| {tokens_in}/{tokens_out} | {share:.0%} | {replicas} | {routing} | {outcome.batch:.0f} | "
                f"{np.nanmean(outcome.tpot_seconds) / mean.tpot_seconds:.3f} | "
                f"{outcome.ttft_seconds.mean() / mean.ttft_seconds:.3f} | {len(requests) / seconds:,.0f} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [
        "# Simulator: measured",
        "",
        f"`python benchmarks/sizing/simulate.py`, {datetime.datetime.now(datetime.UTC).date()}, "
        f"Python {platform.python_version()}, numpy {np.__version__}, {os.cpu_count()} cores (shared).",
        "",
        *timelines(options.data),
        *sweeps(options.data),
        *agreement_and_speed(),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
