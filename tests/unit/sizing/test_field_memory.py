"""Sizing beside start-up lines of real servers that are kept next to the checkout."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from sizing.calibration.table import predict_point

LOGS = Path(__file__).resolve().parents[4] / "shared" / "field" / "sizing" / "kv_logs.csv"


def answered() -> list[tuple[dict[str, str], dict[str, Any]]]:
    if not LOGS.exists():
        pytest.skip(f"{LOGS.name} is not beside this checkout")
    with LOGS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        (
            row,
            predict_point(
                {
                    "model": row["model"],
                    "gpu": row["gpu"],
                    "tp": row["tp"],
                    "kv_precision": row["kv_cache_dtype"],
                    "memory_utilisation": row["gpu_memory_utilization"],
                    "engine_version": row["vllm"],
                    "max_model_len": row["max_model_len"],
                    "isl": 100,
                    "osl": 10,
                    "concurrency": 1,
                }
            ),
        )
        for row in rows
    ]


def test_memory_is_what_engines_print() -> None:
    weights, cache = [], []
    for row, answer in answered():
        assert answer["error"] is None, row
        weights.append(answer["weights_gib_per_gpu"] / float(row["weights_gib_true"]) - 1)
        cache.append(answer["max_sequences"] / float(row["max_concurrency_true"]) - 1)
    assert len(cache) >= 60
    assert median(map(abs, cache)) <= 0.02
    assert np.quantile(np.abs(cache), 0.9) <= 0.08
    assert max(cache) <= 0.10
    assert median(map(abs, weights)) <= 0.015
    assert np.quantile(np.abs(weights), 0.9) <= 0.04
