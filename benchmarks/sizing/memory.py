"""Memory as engines find it: weights, KV cache and concurrency of real start-up lines beside predictions.

    python benchmarks/sizing/memory.py [--logs FILE.csv] [--configs FOLDER …] [--out FILE.md]

FILE.csv has one set-up a row: gpu, model, tp, kv_cache_dtype, max_model_len, gpu_memory_utilization, vllm (the
release), and what the engine printed: weights_gib_true, avail_kv_gib_true, kv_tokens_true, max_concurrency_true.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sizing.catalog import Catalog, from_hf_config
from sizing.catalog.engines import engine_defaults, engine_release
from sizing.errors import SizingError
from sizing.replica.memory import Memory, fit, resolve
from sizing.types import Deployment

SHARED = Path(__file__).resolve().parents[3] / "shared"
LOGS = SHARED / "field" / "sizing" / "kv_logs.csv"
CONFIGS = (SHARED / "data" / "sizing" / "aic_specs" / "model_configs", SHARED / "field" / "sizing" / "configs")
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class SetUp:
    """One server: what it printed at start, and what sizing predicts of it."""

    row: dict[str, str]
    memory: Memory
    hybrid: bool

    def printed(self, column: str) -> float:
        """A figure that the engine printed."""
        return float(self.row[f"{column}_true"])

    @property
    def concurrency(self) -> float:
        """Maximum concurrency at the printed length, as sizing predicts."""
        return self.memory.engine_concurrency(int(float(self.row["max_model_len"])))

    @property
    def weight_ratio(self) -> float:
        """Weights, predicted over printed."""
        return self.memory.weight_bytes / _GIB / self.printed("weights_gib")

    @property
    def cache_ratio(self) -> float:
        """KV tokens, predicted over printed; for models with several kinds of layers maximum concurrency."""
        if self.hybrid:
            return self.concurrency / self.printed("max_concurrency")
        return self.memory.kv_tokens / self.printed("kv_tokens")


def utilisation(row: dict[str, str]) -> float:
    """The share of memory that the server was given.

    vLLM 0.20 made 0.92 the default and stopped printing it; the file has 0.90 for those rows, the default before.
    """
    share, release = float(row["gpu_memory_utilization"]), engine_release(row["vllm"])
    return 0.92 if release is not None and release >= (0, 20) and share == 0.9 else share


def set_ups(path: Path) -> list[SetUp]:
    """Size every set-up of a file."""
    catalog, found = Catalog(), []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            gpu = catalog.gpu(row["gpu"])
            unset = engine_defaults("vllm", gpu, row["vllm"])
            deployment = Deployment(
                model=row["model"],
                gpu=gpu.name,
                tensor_parallel=int(row["tp"]),
                kv_precision=None if row["kv_cache_dtype"] == "auto" else row["kv_cache_dtype"],
                max_num_seqs=unset.max_num_seqs,
                max_batched_tokens=unset.max_batched_tokens,
                memory_utilisation=utilisation(row),
                engine_version=row["vllm"],
                max_model_len=int(float(row["max_model_len"])),
            )
            resolved = resolve(deployment, catalog)
            memory = fit(resolved)
            found.append(SetUp(row, memory, memory.layout.group_count > 1 or bool(resolved.model.window_tokens)))
    return found


def summary(rows: list[SetUp]) -> list[str]:
    """Medians and tails of |predicted / printed - 1|, and the largest excess."""
    lines = ["| what | set-ups | median | p90 | most too much | most too little |", "|---|---|---|---|---|---|"]
    for name, ratios in (
        ("weights", [row.weight_ratio for row in rows]),
        ("KV tokens, or concurrency of hybrid and windowed models", [row.cache_ratio for row in rows]),
        ("KV cache in GiB", [row.memory.kv_budget_bytes / _GIB / row.printed("avail_kv_gib") for row in rows]),
    ):
        errors = np.abs(np.array(ratios) - 1)
        lines.append(
            f"| {name} | {len(rows)} | {np.median(errors):.1%} | {np.quantile(errors, 0.9):.1%} | "
            f"{max(ratios) - 1:+.1%} | {min(ratios) - 1:+.1%} |"
        )
    return lines


def table(rows: list[SetUp]) -> list[str]:
    """Every set-up, predicted over printed."""
    lines = [
        "| GPU | TP | model | KV | length | vLLM | weights GiB | KV GiB | KV tokens | concurrency |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in rows:
        row, memory = each.row, each.memory
        pairs = (
            (memory.weight_bytes / _GIB, each.printed("weights_gib"), ",.1f"),
            (memory.kv_budget_bytes / _GIB, each.printed("avail_kv_gib"), ",.1f"),
            (memory.kv_tokens, each.printed("kv_tokens"), ",.0f"),
            (each.concurrency, each.printed("max_concurrency"), ",.1f"),
        )
        cells = [
            f"{predicted:{form}} / {printed:{form}} ({predicted / printed - 1:+.1%})"
            for predicted, printed, form in pairs
        ]
        lines.append(
            f"| {row['gpu']} | {row['tp']} | {row['model'].rpartition('/')[2]} | {row['kv_cache_dtype']} | "
            f"{int(float(row['max_model_len'])):,} | {row['vllm']} | {' | '.join(cells)} |"
        )
    return lines


def by_model(rows: list[SetUp]) -> list[str]:
    """The set-ups of one model, GPU and group of releases together: the range of predicted over printed."""
    groups: dict[tuple[str, str, str, str], list[SetUp]] = {}
    for each in rows:
        release = ".".join(str(part) for part in (engine_release(each.row["vllm"]) or ())[:2])
        title = each.row["model"].rpartition("/")[2]
        groups.setdefault((title, each.row["gpu"], each.row["tp"], release), []).append(each)
    lines = ["| model | GPUs | vLLM | set-ups | weights | KV cache |", "|---|---|---|---|---|---|"]
    for (title, gpu, size, release), found in sorted(groups.items()):
        cells = []
        for ratios in ([each.weight_ratio for each in found], [each.cache_ratio for each in found]):
            low, high = f"{min(ratios) - 1:+.1%}", f"{max(ratios) - 1:+.1%}"
            cells.append(low if low == high else f"{low} to {high}")
        lines.append(f"| {title} | {size} × {gpu} | {release} | {len(found)} | {' | '.join(cells)} |")
    return lines


def architectures(folders: list[Path]) -> list[str]:
    """Every configuration of the folders: parameters, KV bytes per token and precision, or why it is refused."""
    lines = [
        "| configuration | parameters | active | KV bytes per token: whole context, window | checkpoint |",
        "|---|---|---|---|---|",
    ]
    for path in sorted(path for folder in folders for path in folder.glob("*.json")):
        try:
            model = from_hf_config(json.loads(path.read_text(encoding="utf-8")), path.stem)
        except SizingError as error:
            lines.append(f"| {path.stem} | refused: {str(error).partition(': ')[2]} | | | |")
            continue
        full, windowed = 2 * model.kv_elements_full + model.index_bytes, 2 * model.kv_elements_windowed
        window = f", {windowed:,.0f} of {model.window_tokens:,}" if windowed else ""
        lines.append(
            f"| {path.stem} | {model.total_parameters / 1e9:,.2f} B | {model.active_parameters / 1e9:,.2f} B | "
            f"{full:,.0f}{window} | {model.checkpoint_precision or 'bf16'} |"
        )
    return lines


def main() -> None:
    """Print the report, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=Path, default=LOGS)
    parser.add_argument("--configs", type=Path, nargs="*", default=list(CONFIGS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = set_ups(options.logs)
    lines = [
        "# Memory: predicted and printed",
        "",
        f"`python benchmarks/sizing/memory.py`, {datetime.date.today().isoformat()}, Python "
        f"{platform.python_version()}, numpy {np.__version__}, {os.cpu_count()} cores. Start-up lines of vLLM "
        "collected by ashishkamra/vllm-memory-estimator (8b0e21d1, 2026-05). Each cell is what sizing predicts / "
        "what the engine printed. Servers ran with their defaults of batch size and step.",
        "",
        *summary(rows),
        "",
        *by_model(rows),
        "",
        "## Every set-up",
        "",
        *table(rows),
        "",
        "# Architectures",
        "",
        "Parameters with vision and audio towers; KV in bf16. What may change parameters or the cache and is not known "
        "is refused.",
        "",
        *architectures(options.configs),
    ]
    text = "\n".join(lines)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
