"""How far sizing is off: unseen architectures against aiconfigurator's own predictions, and after calibration.

    python benchmarks/sizing/run.py [--data FOLDER] [--out FILE.md]

FOLDER holds ``aic_silicon``, ``inferno_guidellm`` and ``inference_perf_kubecon``. Prints Markdown.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import math
import os
import platform
from collections import defaultdict
from pathlib import Path

import numpy as np
import scipy
from coverage import coverage, measured_twice
from fit import Design, leave_one_architecture_out
from held_out import observed_row, predictions, table_row
from measurements import DATA, Row, errors_text, guidellm, silicon, uniform_lengths
from numpy.typing import NDArray
from own_points import table as own_points

from sizing.calibration.calibrator import calibrated
from sizing.calibration.global_fit import Learned, features
from sizing.calibration.measurement import ObservedPoint
from sizing.calibration.table import calibrations, predict_point
from sizing.errors import DoesNotFit
from sizing.replica.memory import resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.replica.step_time import StepCoefficients
from sizing.types import Deployment, Workload

HEAD = "| what | rows | median | mean | p90 |\n|---|---|---|---|---|"


def step_seconds(design: Design, held_out: dict[str, Learned]) -> NDArray[np.float64]:
    """Step time of every row of a design by what was learned without its architecture."""
    return np.array(
        [
            float(columns @ np.array(held_out[row.model].step.factors(features(resolved))))
            for row, resolved, columns in zip(design.rows, design.resolved, design.columns, strict=False)
        ]
    )


def unseen(folder: Path, design: Design, held_out: dict[str, Learned]) -> list[str]:
    """TPOT with the architecture left out of everything learned, the batch from the measured times."""
    rows = design.rows
    measured = np.array([row.tpot_seconds for row in rows])
    predicted = step_seconds(design, held_out)
    both = np.array([row.aic_tpot_seconds is not None for row in rows])
    theirs = np.array([row.aic_tpot_seconds or math.nan for row in rows])
    lines = [
        "## TPOT of unseen architectures",
        "",
        "Whole architecture left out of the fit; batch from the measured times by Little's law, which "
        "aiconfigurator is not given: the fair comparison is the next table.",
        "",
        HEAD,
        f"| all rows | {len(rows)} | {errors_text(predicted, measured)} |",
        f"| rows that aiconfigurator 0.12.0 answered | {both.sum()} | {errors_text(predicted[both], measured[both])} |",
        f"| aiconfigurator 0.12.0 on those rows | {both.sum()} | {errors_text(theirs[both], measured[both])} |",
    ]
    for name in sorted(held_out):
        chosen = np.array([row.model == name for row in rows])
        lines.append(f"| {name} | {chosen.sum()} | {errors_text(predicted[chosen], measured[chosen])} |")
    given, _ = silicon(folder, corrected=False)
    usable = Design([row for row in given if not row.deployment.gpu.startswith("gb")], [])
    known = np.array([row.aic_tpot_seconds is not None for row in usable.rows])
    seconds = np.array([row.tpot_seconds for row in usable.rows])
    as_given = step_seconds(usable, held_out)
    aic = np.array([row.aic_tpot_seconds or math.nan for row in usable.rows])
    lines += [
        f"| as given, without GB200/GB300 | {len(usable.rows)} | {errors_text(as_given, seconds)} |",
        f"| as given, aiconfigurator's rows | {known.sum()} | {errors_text(as_given[known], seconds[known])} |",
        f"| aiconfigurator 0.12.0, as given | {known.sum()} | {errors_text(aic[known], seconds[known])} |",
    ]
    return lines


def kinds_of_weights(design: Design) -> list[str]:
    """TPOT of rows whose kind of weights nothing was fitted on: by kernel timings alone."""
    count = len(design.rows)
    lines = [
        "",
        "## TPOT of kinds of weights left out",
        "",
        "All rows with weights of one precision, of mixtures of experts all, are left out, and so is the feature that "
        "tells it (NVFP4 has none); batch from the measured times. Beyond the other rows, kernel timings alone tell "
        "of it.",
        "",
        HEAD,
    ]
    for precision, own_features in (("int4", ("int4",)), ("nvfp4", ())):
        own = np.array([row.deployment.precision == precision for row in design.rows])
        others = np.concatenate([~own, np.ones(len(design.seconds) - count, dtype=np.bool_)])
        factors = design.step(others, ("sglang", *own_features), 30.0)
        values = [features(resolved) for resolved, chosen in zip(design.resolved, own, strict=False) if chosen]
        predicted = (design.columns[:count][own] * np.array([factors.factors(each) for each in values])).sum(axis=1)
        measured = design.seconds[:count][own]
        lines.append(f"| {precision} | {own.sum()} | {errors_text(predicted, measured)} |")
    return lines


def points_from_concurrency(rows: list[Row], held_out: dict[str, Learned]) -> list[str]:
    """TPOT and TTFT as ``tokentide size --points`` predicts them, with the architecture left out of the fit."""
    kept = predictions(rows, held_out)
    lines = ["", "## From concurrency alone, architecture left out", "", HEAD]
    for name, seconds in (("tpot", "tpot_seconds"), ("ttft", "ttft_seconds")):
        measured = np.array([getattr(row, seconds) for row, _ in kept])
        predicted = np.array([answer[f"{name}_ms_p50"] for _, answer in kept]) / 1e3
        lines.append(f"| {name.upper()} | {len(kept)} | {errors_text(predicted, measured)} |")
        if name == "tpot":
            known = np.array([row.aic_tpot_seconds is not None for row, _ in kept])
            theirs = np.array([row.aic_tpot_seconds or math.nan for row, _ in kept])
            lines.append(
                f"| – on aiconfigurator's rows | {known.sum()} | {errors_text(predicted[known], measured[known])} |"
            )
            lines.append(f"| – aiconfigurator 0.12.0 | {known.sum()} | {errors_text(theirs[known], measured[known])} |")
        if name == "ttft":
            short = measured < 1.0
            lines.append(f"| TTFT below 1 s | {short.sum()} | {errors_text(predicted[short], measured[short])} |")
            known = np.array([row.aic_ttft_seconds is not None for row, _ in kept]) & short
            theirs = np.array([row.aic_ttft_seconds or math.nan for row, _ in kept])
            lines.append(
                f"| – on aiconfigurator's rows | {known.sum()} | {errors_text(predicted[known], measured[known])} |"
            )
            lines.append(f"| – aiconfigurator 0.12.0 | {known.sum()} | {errors_text(theirs[known], measured[known])} |")
    return lines


def spread_out(rows: list[Row], count: int, random: np.random.Generator) -> list[int]:
    """A random row, then the rows farthest from those chosen in log lengths and concurrency."""
    at = np.log(np.array([[row.input_tokens, row.output_tokens, row.concurrency] for row in rows]))
    chosen = [int(random.integers(len(rows)))]
    while len(chosen) < count:
        distance = np.min([((at - at[index]) ** 2).sum(axis=1) for index in chosen], axis=0)
        chosen.append(int(distance.argmax()))
    return chosen


def after_calibration(rows: list[Row], held_out: dict[str, Learned]) -> list[str]:
    """Errors on a set-up's other rows after a few of it were observed; end to end, from concurrency alone."""
    setups: defaultdict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        setups[row.setup].append(row)
    lines = [
        "",
        "## After calibration on a few points of the set-up",
        "",
        "Prior: the fit without the architecture. Every set-up (model as served, engine, GPU, parallel shape, "
        "precision) with at least 8 rows; the other rows of it are predicted from their concurrency alone.",
        "",
        "| observed | rows | TPOT median | mean | p90 | in 90 % | TTFT median | mean | p90 | in 90 % |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    unfit = set()
    for count, choice in ((1, "random"), (3, "random"), (5, "random"), (3, "spread out"), (5, "spread out")):
        random = np.random.default_rng(7)
        tested: list[tuple[Row, dict[str, object]]] = []
        for members in setups.values():
            if len(members) < 8:
                continue
            if choice == "spread out":
                chosen = spread_out(members, count, random)
            else:
                chosen = [int(index) for index in random.choice(len(members), count, replace=False)]
            prior = StepCoefficients(learned=held_out[members[0].model])
            seen = [observed_row(members[index]) for index in chosen]
            try:
                learned = calibrations(seen, coefficients=prior)
            except DoesNotFit:
                unfit.add(members[0].setup)
                continue
            for index, row in enumerate(members):
                if index not in chosen:
                    answer = predict_point(table_row(row), coefficients=prior, calibrations=learned)
                    if answer["error"] is None:
                        tested.append((row, answer))
        cells = []
        for name, seconds in (("tpot", "tpot_seconds"), ("ttft", "ttft_seconds")):
            measured = np.array([getattr(row, seconds) for row, _ in tested]) * 1e3
            predicted, lower, upper = (
                np.array([answer[f"{name}_ms_{key}"] for _, answer in tested], dtype=float)
                for key in ("p50", "lower", "upper")
            )
            inside = np.mean((measured >= lower) & (measured <= upper))
            cells.append(f"{errors_text(predicted, measured)} | {inside:.1%}")
        lines.append(f"| {count} {choice if count else ''} | {len(tested)} | {' | '.join(cells)} |")
    if unfit:
        lines += ["", f"{len(unfit)} set-ups do not fit by what is predicted, and are left out."]
    return lines


def one_shape_is_not_enough(folder: Path, prior: StepCoefficients) -> list[str]:
    """Llama-3.1-8B: calibrate on one traffic shape, or on all but one, and predict the rest."""
    points = guidellm(folder)
    resolved = resolve(Deployment("llama-3.1-8b", "h100-sxm", max_num_seqs=1024))
    # Shapes are nominal 64, 256, 1024 and 4096 tokens.
    shapes = [tuple(round(math.log(value / 64, 4)) for value in point[:2]) for point in points]

    def observed(index: int) -> ObservedPoint:
        tokens_in, tokens_out, rate, ttft, itl = points[index]
        return ObservedPoint(tokens_in, tokens_out, itl, ttft, requests_per_second=rate)

    def errors(train: list[int], test: list[int]) -> tuple[float, float]:
        learned = calibrated(resolved, [observed(index) for index in train], prior=prior)
        found: list[tuple[float, float, float, float]] = []
        for index in test:
            tokens_in, tokens_out, rate, ttft, itl = points[index]
            workload = uniform_lengths(tokens_in, tokens_out)
            replica = ReplicaModel(resolved, workload, dispersion=0.0, coefficients=learned.coefficients)
            batch = replica.lane_batch(rate)
            known = learned.at(workload, batch if batch is not None else replica.max_lane_batch)
            replica = ReplicaModel(resolved, workload, dispersion=0.0, coefficients=learned.scaled(known.step_ratio))
            batch = replica.lane_batch(rate)
            latency = replica.latency(batch if batch is not None else replica.max_lane_batch, 0.5)
            found.append((latency.ttft_seconds * known.ttft_ratio, ttft, latency.tpot_seconds, itl))
        p_ttft, m_ttft, p_tpot, m_tpot = np.array(found).T
        return (
            float(np.abs(p_ttft - m_ttft).mean() / m_ttft.mean()),
            float(np.abs(p_tpot - m_tpot).mean() / m_tpot.mean()),
        )

    every = range(len(points))
    lines = [
        "",
        "## Llama-3.1-8B sweeps (112 points), fitted without any Llama row",
        "",
        "| calibrated on | TTFT error / mean | TPOT error / mean |",
        "|---|---|---|",
    ]
    none = errors([], list(every))
    lines.append(f"| nothing | {none[0]:.3f} | {none[1]:.3f} |")
    for name, shape in (("256 × 256 only, tested elsewhere", (1, 1)), ("1024 × 1024 only, tested elsewhere", (2, 2))):
        own = [index for index in every if shapes[index] == shape]
        ttft, tpot = errors(own, [index for index in every if shapes[index] != shape])
        lines.append(f"| {name} | {ttft:.3f} | {tpot:.3f} |")
    parts = []
    for shape in sorted(set(shapes)):
        test = [index for index in every if shapes[index] == shape]
        train = [index for index in every if shapes[index] != shape]
        parts.append((*errors(train, test), *(float(np.mean([points[i][k] for i in test])) for k in (3, 4)), len(test)))
    found = np.array(parts)
    # Each shape's errors, weighted back to mean error over mean of all points.
    ttft = float((found[:, 0] * found[:, 2] * found[:, 4]).sum() / (found[:, 2] * found[:, 4]).sum())
    tpot = float((found[:, 1] * found[:, 3] * found[:, 4]).sum() / (found[:, 3] * found[:, 4]).sum())
    lines.append(f"| all shapes but the one tested | {ttft:.3f} | {tpot:.3f} |")
    lines.append("| llm-inferno/model-trainer's joint fit (published, in sample, TTFT and ITL) | 0.146 | 0.060 |")
    return lines


def tails(folder: Path, prior: StepCoefficients) -> list[str]:
    """p95 and p99 of TTFT on the Llama-3.1-8B sweeps at constant rates, up to 90 % of saturation."""
    resolved = resolve(Deployment("llama-3.1-8b", "h100-sxm", max_num_seqs=1024))
    with (folder / "inferno_guidellm" / "exp1_llama31_8b_tidy.csv").open() as file:
        rows = [raw for raw in csv.DictReader(file) if raw["strategy"] == "constant"]
    shapes = [(raw["isl_nominal"], raw["osl_nominal"]) for raw in rows]
    taught = {
        shape: calibrated(
            resolved,
            [
                ObservedPoint(
                    float(raw["in_tok_mean"]),
                    float(raw["out_tok_mean"]),
                    float(raw["itl_ms_p50"]) / 1e3,
                    float(raw["ttft_ms_p50"]) / 1e3,
                    requests_per_second=float(raw["req_per_s_mean"]),
                )
                for raw, other in zip(rows, shapes, strict=True)
                if other != shape
            ],
            prior=prior,
        )
        for shape in sorted(set(shapes))
    }
    lines = [
        "",
        "## Tails below the knee, Llama-3.1-8B sweeps (constant rates, up to 90 % of saturation)",
        "",
        "Lengths by their first two moments. The last line knows no Llama row but the sweeps of the other 15 shapes.",
        "",
        "| fit | points | TTFT p50 | TTFT p95 | TTFT p99 | ITL p95 |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("shipped", "without any Llama row", "one shape left out"):
        errors: dict[str, list[float]] = defaultdict(list)
        for raw, shape in zip(rows, shapes, strict=True):
            workload = uniform_lengths(float(raw["in_tok_mean"]), float(raw["out_tok_mean"]))
            rate = float(raw["req_per_s_mean"])
            coefficients, ttft_ratio = (StepCoefficients() if name == "shipped" else prior), 1.0
            if name == "one shape left out":
                first = ReplicaModel(resolved, workload, dispersion=0.0, coefficients=taught[shape].coefficients)
                known = taught[shape].at(workload, first.lane_batch(rate) or first.max_lane_batch)
                coefficients, ttft_ratio = taught[shape].scaled(known.step_ratio), known.ttft_ratio
            replica = ReplicaModel(resolved, workload, dispersion=0.0, coefficients=coefficients)
            batch = replica.lane_batch(rate)
            if batch is None or rate > 0.9 * replica.saturation_requests_per_second:
                continue
            for level in ("50", "95", "99"):
                ttft = ttft_ratio * replica.latency(batch, float(level) / 100).ttft_seconds
                errors[level].append(abs(ttft * 1e3 / float(raw[f"ttft_ms_p{level}"]) - 1))
            itl = replica.latency(batch, 0.95).tpot_seconds
            errors["itl"].append(abs(itl * 1e3 / float(raw["itl_ms_p95"]) - 1))
        cells = " | ".join(f"{np.median(errors[key]):.1%}" for key in ("50", "95", "99", "itl"))
        lines.append(f"| {name} | {len(errors['itl'])} | {cells} |")
    return lines


def knees(folder: Path, prior: StepCoefficients) -> list[str]:
    """Saturation on one H100, three vLLM set-ups, nothing of Llama learned before, and after the two lowest rates."""
    lines = [
        "",
        "## Saturation, Llama-3.1-8B on one H100 (kubernetes-sigs/inference-perf 7de5ef2ed6)",
        "",
        "| set-up | measured req/s | predicted | calibrated on the two lowest rates |",
        "|---|---|---|---|",
    ]
    with (folder / "inference_perf_kubecon" / "tidy.csv").open() as file:
        rows = list(csv.DictReader(file))
    for setup, max_num_seqs, cached in (
        ("vllm", 128, 0.0),
        ("vllm+batch_size", 192, 0.0),
        ("vllm+chunking_and_prefix_caching", 256, 128 / 202),
    ):
        own = sorted((raw for raw in rows if raw["config"] == setup), key=lambda raw: float(raw["requested_rate"]))
        knee = max(float(raw["achieved_rate"]) for raw in own)
        resolved = resolve(Deployment("llama-3.1-8b", "h100-sxm", max_num_seqs=max_num_seqs))
        observed = []
        for raw in own[:2]:
            tokens_in, tokens_out, e2e, ttft, rate = (
                float(raw[name]) for name in ("in_tok_mean", "out_tok_mean", "e2e_s_mean", "ttft_s_mean", "req_per_s")
            )
            tpot = (e2e - ttft) / (tokens_out - 1)
            observed.append(
                ObservedPoint(tokens_in, tokens_out, tpot, ttft, requests_per_second=rate, cached_share=cached)
            )
        workload = Workload(202, 62.5, cached_share=cached)
        before = ReplicaModel(resolved, workload, coefficients=prior).saturation_requests_per_second
        learned = calibrated(resolved, observed, prior=prior)
        after = ReplicaModel(resolved, workload, coefficients=learned.coefficients).saturation_requests_per_second
        lines.append(f"| {setup} | {knee:.1f} | {before:.1f} ({before / knee - 1:+.1%}) | {after:.1f} ({after / knee - 1:+.1%}) |")  # fmt: skip  # noqa: E501
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows, notes = silicon(options.data)
    design = Design(rows, guidellm(options.data))
    held_out = leave_one_architecture_out(design)
    today = datetime.datetime.now(datetime.UTC).date()
    lines = [
        "# Sizing: measured accuracy",
        "",
        f"`python benchmarks/sizing/run.py`, {today}, Python {platform.python_version()}, numpy {np.__version__}, "
        f"scipy {scipy.__version__}, {os.cpu_count()} cores. Errors are |predicted / measured - 1|. End-to-end rows: "
        "ai-dynamo/aiconfigurator commit 095f58a51c; loader and fit: `benchmarks/sizing/measurements.py`.",
        "",
        f"Loader: {len(rows)} rows kept; "
        + ", ".join(f"{name} {count}" for name, count in sorted(notes.items()))
        + ".",
        "",
        *unseen(options.data, design, held_out),
        *kinds_of_weights(design),
        *points_from_concurrency(rows, held_out),
        *coverage(rows, held_out),
        *measured_twice(rows),
        *after_calibration(rows, held_out),
        *own_points(rows, held_out),
        *one_shape_is_not_enough(options.data, StepCoefficients(learned=held_out["llama-3.1-8b"])),
        *tails(options.data, StepCoefficients(learned=held_out["llama-3.1-8b"])),
        *knees(options.data, StepCoefficients(learned=held_out["llama-3.1-8b"])),
    ]
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
