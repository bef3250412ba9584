"""LLM-Pilot's decision benchmark: which GPU profile, and how many pods, for an LLM that was never measured.

    python benchmarks/sizing/llm_pilot.py [--data FOLDER]

FOLDER holds ``llm_pilot`` (IBM/LLM-performance-prediction commit 3c66483f55, SC'24; measurements CDLA-Permissive-2.0).
The rule is theirs: 200 users; median TTFT per input token at most 100 ms and median ITL at most 50 ms; a profile takes
ceil(200 / most users within both) pods; the cheapest profile is recommended. Success S: the pods recommended do meet
the objectives as measured. Overspend O: cost over that of the cheapest measured choice, averaged over successes.
S/O = 2·S·(1-O) / (S + 1 - O). Candidates are the profiles that an LLM was measured on. Prints Markdown.

These servers do not chunk prompts and five of the eight LLMs are not of kinds that sizing ships numbers for, so its six
step coefficients are fitted anew on the other seven LLMs, plus a term for what such servers do: padding without flash
attention. They launch every kernel from Python, so what a layer costs is a matter of the host: one coefficient per kind
of machine, and one more for layers that are split, in both times. A layer of an encoder-decoder's decoder launches
three blocks (attention, cross attention, MLP) in the place of two and costs half as much again. Servers with paged
attention read KV as fast as its kernels do, bounded by their timings; those without copy it in every step, a
coefficient of its own. An encoder-decoder is sized as its decoder; its encoder counts in memory and is taken to cost a
prompt as much as the decoder would.

They admit a request only while its longest possible length still fits in memory, and hold the others back: the batch
is at most KV capacity / tokens reserved per sequence. How many tokens that is (a setting of the servers that the data
do not tell) is one number for servers that pad and one for those that do not, the ones of a coarse grid with which the
other seven LLMs' rows are fitted best. What does not fit waits, by Little's law (users / batch - 1) stays in the batch.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import itertools
import math
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import scipy
from measurements import DATA
from numpy.typing import NDArray
from scipy.optimize import least_squares

from sizing.calibration.global_fit import STEP_TERMS, builtin_learned, features
from sizing.calibration.measurement import step_terms
from sizing.catalog import Catalog, GpuSpec, ModelSpec
from sizing.replica.memory import fit, resolve
from sizing.types import Deployment, Workload

USERS, NTTFT_MS, ITL_MS = 200, 100.0, 50.0
RIVALS = ("LLM-Pilot", "PARIS", "Morphling", "Selecta", "RF", "PerfNet", "PerfNetV2")
Profile = tuple[str, str]  # LLM and GPU profile
Loads = Mapping[Profile, Mapping[int, tuple[float, float]]]  # users: TTFT per input token and ITL, ms


@dataclass(frozen=True, slots=True)
class Shape:
    """A published configuration: layers, hidden size, heads · head size, KV width, MLP matrices · width, vocabulary."""

    layers: int
    hidden: int
    attention: int
    kv: int
    mlp: int
    vocabulary: int
    flash: bool
    encoder: bool = False


#: The checkpoints' config.json on Hugging Face; flash attention as in the data set's llm_features.csv.
SHAPES = {
    "EleutherAI/gpt-neox-20b": Shape(44, 6144, 6144, 6144, 2 * 24576, 50432, True),
    "Salesforce/codegen2-16B": Shape(34, 6144, 6144, 6144, 2 * 24576, 51200, False),
    "bigcode/starcoder": Shape(40, 6144, 6144, 128, 2 * 24576, 49152, True),
    "bigscience/mt0-xxl": Shape(24, 4096, 4096, 4096, 3 * 10240, 250112, False, True),
    "google/flan-t5-xl": Shape(24, 2048, 2048, 2048, 3 * 5120, 32128, False, True),
    "google/flan-t5-xxl": Shape(24, 4096, 4096, 4096, 3 * 10240, 32128, False, True),
    "ibm/mpt-7b-instruct2": Shape(32, 4096, 4096, 4096, 2 * 16384, 50432, False),
    "llama-7b": Shape(32, 4096, 4096, 4096, 3 * 11008, 32000, True),
}


def model_spec(name: str) -> ModelSpec:
    """Return the decoder that a step runs."""
    s = SHAPES[name]
    attention = 2 * s.hidden * (s.attention + s.kv)
    layer = attention * (2 if s.encoder else 1) + s.hidden * s.mlp
    encoder = s.layers * (attention + s.hidden * s.mlp) if s.encoder else 0
    return ModelSpec(
        name=name,
        layers=s.layers,
        hidden_size=s.hidden,
        kv_heads=max(s.kv // 128, 1),
        dense_parameters=float(s.layers * layer),
        head_parameters=float(s.hidden * s.vocabulary),
        embedding_parameters=float(encoder),
        expert_parameters=0.0,
        experts=0,
        experts_per_token=0,
        kv_elements_full=float(2 * s.layers * s.kv),
        kv_elements_windowed=0.0,
        window_tokens=0,
        state_elements=0.0,
        attention_width=float(s.layers * s.attention),
    )


def gpu_specs(folder: Path) -> dict[str, GpuSpec]:
    """Return the boards by name; T4 and V100 by the data set's own sheet, the rest of the A10's entry assumed."""
    catalog = Catalog()
    found = {"A10": catalog.gpu("a10"), "A100": catalog.gpu("a100-sxm-40gb"), "H100": catalog.gpu("h100-sxm")}
    with (folder / "gpu_features.csv").open() as file:
        sheet = {row["gpu"]: row for row in csv.DictReader(file)}
    for name in ("T4", "V100"):
        row = sheet[f"1 x {name}"]
        # The sheet has no tensor-core figure for the T4: 65 TFLOP/s in fp16 by NVIDIA's T4 data sheet (2019).
        teraflops = 65.0 if name == "T4" else float(row["gpu_tflops_tc_fp16"])
        found[name] = replace(
            found["A10"],
            name=name,
            memory_bytes=float(row["gpu_memory_capacity_gb"]) * 2**30,
            memory_bandwidth_bytes_per_second=float(row["gpu_memory_bandwidth"]) * 1e9,
            flops_per_second={"bf16": teraflops * 1e12},
        )
    return found


def measured(folder: Path) -> list[dict[str, str]]:
    """Return the measured rows; the two without a model (H100 × 4) are dropped."""
    with (folder / "llmpilot_agg.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["model"]]


def loads(rows: list[dict[str, str]], nttft: str, itl: str) -> dict[Profile, dict[int, tuple[float, float]]]:
    """Return what two columns say of every profile by users."""
    found: defaultdict[Profile, dict[int, tuple[float, float]]] = defaultdict(dict)
    for row in rows:
        gpu = row.get("gpu") or f"{row['n_gpus']} x {row['gpu_type']}"
        found[row["model"], gpu][int(row["num_users"])] = float(row[nttft]), float(row[itl])
    return dict(found)


def most_users(by_users: Mapping[int, tuple[float, float]]) -> int:
    """Return the most users that were within both objectives; 0 when none were."""
    return max((users for users, (nttft, itl) in by_users.items() if nttft <= NTTFT_MS and itl <= ITL_MS), default=0)


def score(predicted: Loads, truth: Loads, prices: Mapping[str, float]) -> tuple[float, float, float]:
    """Return S, O and S/O of what predictions would recommend; O is 0 when nothing succeeds."""
    successes, overspends = [], []
    for llm in sorted({name for name, _ in truth}):
        best, chosen = math.inf, (math.inf, "", 0)
        for (name, gpu), by_users in truth.items():
            if name != llm:
                continue
            if most := most_users(by_users):
                best = min(best, math.ceil(USERS / most) * prices[gpu])
            if most := most_users(predicted[name, gpu]):
                pods = math.ceil(USERS / most)
                chosen = min(chosen, (pods * prices[gpu], gpu, pods))
        cost, gpu, pods = chosen
        success = pods > 0 and pods * most_users(truth[llm, gpu]) >= USERS
        successes.append(success)
        if success:
            overspends.append(cost / best - 1.0)
    share, over = float(np.mean(successes)), float(np.mean(overspends)) if overspends else 0.0
    total = share + 1.0 - over
    return share, over, 2 * share * (1.0 - over) / total if total > 0 else 0.0


#: Tokens reserved per sequence, padded and not: what is chosen among.
RESERVES = tuple(itertools.product((1000.0, 2000.0, 4000.0, 8000.0), (250.0, 500.0, 1000.0, 2000.0)))


#: Paged attention reads KV in 1.29 to 2.16 times the ideal time, in ms per s: 10 % and 90 % points of vLLM's timings on
#: the A100, KV of at least 0.2 GB (ai-dynamo/aiconfigurator 095f58a51c). What else grows with the batch is the host's.
PAGED_KV = (1290.0, 2160.0)


class Terms:
    """Physics of every row: the terms of ITL and of TTFT per input token, ms per unit of each coefficient."""

    def __init__(self, rows: list[dict[str, str]], boards: Mapping[str, GpuSpec]) -> None:
        self.llms = np.array([row["model"] for row in rows])
        self.users = np.array([float(row["num_users"]) for row in rows])
        self.itl = np.array([float(row["itl_ms_p50"]) for row in rows])
        self.nttft = np.array([float(row["nttft_ms_p50"]) for row in rows])
        # The requests are of one production mix: its lengths, not those of single runs, are what a planner knows.
        self.workload = Workload(
            *(float(np.median([float(row[c]) for row in rows])) for c in ("in_tok_mean", "out_tok_mean"))
        )
        self.typical = float(np.median([float(row["in_tok_p50"]) for row in rows]))
        # These servers take all the memory there is.
        self.resolved = [
            resolve(
                Deployment(
                    model_spec(row["model"]),  # type: ignore[arg-type]
                    boards[row["gpu_type"]],  # type: ignore[arg-type]
                    tensor_parallel=int(row["n_gpus"]),
                    memory_utilisation=1.0,
                )
            )
            for row in rows
        ]
        shapes = [SHAPES[row["model"]] for row in rows]
        self.kv_tokens = np.array([fit(resolved).kv_tokens for resolved in self.resolved])
        self.flash = np.array([shape.flash for shape in shapes])
        self.blocks = np.array([3.0 if shape.encoder else 2.0 for shape in shapes])
        kinds = sorted({row["gpu_type"] for row in rows})
        self.hosts = np.array([[float(row["gpu_type"] == kind) for kind in kinds] for row in rows])
        self.split = np.array([float(row["n_gpus"] != "1") for row in rows])
        learned = builtin_learned().step
        kv = STEP_TERMS.index("kv")
        self.kv_factors = np.array([learned.factors(features(resolved))[kv] for resolved in self.resolved])
        alone = replace(self.workload, output_tokens=1.0)
        self.prompt = np.array([step_terms(resolved, alone, 1.0)[4] for resolved in self.resolved])

    def batch(self, reserve: tuple[float, float]) -> NDArray[np.float64]:
        """Sequences in the batch when so many tokens are reserved for each, padded and not."""
        return np.clip(self.kv_tokens / np.where(self.flash, reserve[1], reserve[0]), 1.0, self.users)

    @cache  # noqa: B019  one instance, asked again and again
    def columns(self, reserve: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Terms of ITL, and of TTFT but for the wait."""
        batch = self.batch(reserve)
        parts = np.array(
            [step_terms(resolved, self.workload, size) for resolved, size in zip(self.resolved, batch, strict=True)]
        )
        padding = np.where(self.flash, 0.0, batch)
        layers = parts[:, 0] * self.blocks / 2.0
        launches = np.column_stack([layers[:, None] * self.hosts, layers * self.split])
        kv = parts[:, 3] / self.kv_factors
        paged, copied = np.where(self.flash, kv, 0.0), np.where(self.flash, 0.0, kv)
        step = np.column_stack([paged, copied, launches, parts[:, 1:3], parts[:, 4:], padding])
        ones = np.ones(len(batch))
        first = np.column_stack([ones, launches, parts[:, 1:3], self.prompt, batch * self.prompt, batch, padding])
        return step, first / self.typical

    def predicted(
        self, known: NDArray[np.bool_], weights: tuple[NDArray[np.float64], NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]:
        """TTFT per input token and ITL of every row, fitted on the known ones, with the reserve that fits them best."""
        best: tuple[float, NDArray[np.float64], NDArray[np.float64], tuple[float, float]] | None = None
        for reserve in RESERVES:
            step, first = self.columns(reserve)
            itl = step @ self.fitted(step[known], self.itl[known], weights[0], PAGED_KV)
            stay = self.workload.output_tokens * itl / self.typical
            held = np.column_stack([first, (self.users / self.batch(reserve) - 1.0) * stay])
            nttft = held @ self.fitted(held[known], self.nttft[known], weights[1])
            loss = sum(
                float(weight @ (np.sqrt(1.0 + (np.log(found[known] / times[known]) / 0.2) ** 2) - 1.0))
                for weight, found, times in zip(weights, (itl, nttft), (self.itl, self.nttft), strict=True)
            )
            if best is None or loss < best[0]:
                best = loss, nttft, itl, reserve
        assert best is not None
        return best[1:]

    @staticmethod
    def fitted(
        terms: NDArray[np.float64],
        times: NDArray[np.float64],
        weights: NDArray[np.float64],
        first: tuple[float, float] | None = None,
    ) -> NDArray[np.float64]:
        """Return positive coefficients by robust least squares on log errors, all terms alike to begin with.

        ``first`` bounds the first coefficient.
        """
        scale = np.median(times) / terms.shape[1] / np.maximum(np.abs(terms).mean(axis=0), 1e-12)
        root = np.sqrt(weights / weights.mean())

        def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(root * (np.log(terms @ (scale * np.exp(logs))) - np.log(times)))

        low, high = np.full(terms.shape[1], -12.0), np.full(terms.shape[1], 4.0)
        if first is not None:
            low[0], high[0] = np.log(np.array(first) / scale[0])
        start = np.clip(np.zeros(terms.shape[1]), low, high)
        found = least_squares(residuals, start, bounds=(low, high), loss="soft_l1", f_scale=0.2)
        return np.asarray(scale * np.exp(found.x))


def left_out(
    rows: list[dict[str, str]], terms: Terms, weigh: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Loads:
    """Return predictions for every row with its LLM in no fit; ``weigh`` takes times over their objective."""
    answers: defaultdict[Profile, dict[int, tuple[float, float]]] = defaultdict(dict)
    for llm in SHAPES:
        known = terms.llms != llm
        counts = {name: np.count_nonzero(terms.llms == name) for name in SHAPES}
        equal = np.array([1.0 / counts[str(name)] for name in terms.llms[known]])
        weights = equal * weigh(terms.itl[known] / ITL_MS), equal * weigh(terms.nttft[known] / NTTFT_MS)
        nttft, itl, reserve = terms.predicted(known, weights)
        print(f"without {llm}: {reserve[0]:g} tokens reserved padded, {reserve[1]:g} not", file=sys.stderr)
        for index in np.flatnonzero(~known):
            row = rows[index]
            profile = llm, f"{row['n_gpus']} x {row['gpu_type']}"
            answers[profile][int(row["num_users"])] = float(nttft[index]), float(itl[index])
    return dict(answers)


#: How much a row counts in the fit by its time over the objective. Near: a factor of 2 off counts e^-1/2 as much.
WEIGHTS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "every row alike": np.ones_like,
    "rows near the objective": lambda ratios: np.exp(-0.5 * (np.log2(ratios)) ** 2),
}


def report(data: Path) -> list[str]:
    """Return the table, rivals by their own published predictions."""
    folder = data / "llm_pilot"
    rows = measured(folder)
    truth = loads(rows, "nttft_ms_p50", "itl_ms_p50")
    with (folder / "prices.csv").open() as file:
        prices = {row["GPU"]: float(row["price"]) for row in csv.DictReader(file) if row["GPU"]}
    terms = Terms(rows, gpu_specs(folder))
    encoders = sum(SHAPES[row["model"]].encoder for row in rows)
    lines = [
        "# Sizing: LLM-Pilot's decisions",
        "",
        f"`python benchmarks/sizing/llm_pilot.py`, {datetime.datetime.now(datetime.UTC).date()}, "
        f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, "
        f"{os.cpu_count()} cores.",
        "",
        f"{len(rows)} rows, {len(SHAPES)} LLMs, of them {sum(s.encoder for s in SHAPES.values())} ({encoders} rows) "
        "encoder-decoders. The LLM tested is in no fit. 200 users, median TTFT per input token at most 100 ms, median "
        "ITL at most 50 ms.",
        "",
        "| predictor | success | overspend | S/O | ITL median error |",
        "|---|---|---|---|---|",
    ]
    itl = np.array([float(row["itl_ms_p50"]) for row in rows])
    predictions: dict[str, Loads] = {
        f"sizing, fitted on {name}": left_out(rows, terms, f) for name, f in WEIGHTS.items()
    }
    for rival in RIVALS:
        with (folder / f"expected_predictions_{rival}.csv").open() as file:
            own = [row for row in csv.DictReader(file) if row["model"]]
        predictions[rival] = loads(own, "prediction_median_nttft", "prediction_median_itl")
    for name, predicted in predictions.items():
        share, over, both = score(predicted, truth, prices)
        guess = np.array(
            [predicted[row["model"], f"{row['n_gpus']} x {row['gpu_type']}"][int(row["num_users"])][1] for row in rows]
        )
        error = float(np.median(np.abs(guess / itl - 1.0)))
        lines.append(f"| {name} | {share:.1%} | {over:.1%} | {both:.2f} | {error:.1%} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    print("\n".join(report(parser.parse_args().data)))


if __name__ == "__main__":
    main()
