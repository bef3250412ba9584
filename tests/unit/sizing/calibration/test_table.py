"""Rows of tables as people write them: an answer or a reason, never a crash."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sizing.calibration.table import predict_point

ROW: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "gpu": "h100",
    "tp": "1",
    "precision": "bf16",
    "isl": "1024",
    "osl": "128",
    "concurrency": "16",
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"isl": None}, "isl is missing"),
        ({"osl": math.nan}, "osl is missing"),
        ({"concurrency": ""}, "neither concurrency nor request_rate"),
        ({"model": None}, "model is missing"),
        ({"model": "no/such-model-7b"}, "unknown model"),
        ({"gpu": ""}, "unknown GPU"),
        ({"gpu": "warp9"}, "unknown GPU"),
        ({"isl": "1,024"}, "isl must be a number"),
        ({"isl": "-5"}, "isl must be in"),
        ({"isl": "1e8"}, "KV cache"),
        ({"concurrency": "inf"}, "concurrency must be in"),
        ({"concurrency": None, "request_rate": "1e8"}, "saturates"),
        ({"tp": "1.5"}, "tp must be a whole number"),
        ({"tp": "1e30"}, "tp must be in"),
        ({"tp": "-1"}, "tp must be in"),
        ({"gpus_per_node": "0"}, "gpus_per_node must be in"),
        ({"dp": "100000"}, "GPUs per replica is not plausible"),
        ({"precision": "fp3"}, "unknown precision"),
        ({"kv_precision": "int4"}, "not supported"),
        ({"memory_utilisation": "2"}, "memory_utilisation"),
    ],
)
def test_what_cannot_be_answered_says_why(change: dict[str, Any], reason: str) -> None:
    answer = predict_point(ROW | change)
    assert reason in str(answer["error"])
    assert answer["tpot_ms_p50"] is None
    assert answer["confidence"] == "refused"


@pytest.mark.parametrize(
    ("model", "precision", "same"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "bf16", "bf16"),
        ("nvidia/Llama-3.1-8B-Instruct-FP8", None, "fp8"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", None, "fp8"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16", None, "int4"),
        ("someone/Llama-3.1-8B-Instruct-AWQ", "", "int4"),
        # What the row says wins over the name.
        ("nvidia/Llama-3.1-8B-Instruct-FP8", "bf16", "bf16"),
    ],
)
def test_checkpoints_are_known_by_the_model_that_they_are_made_of(model: str, precision: str | None, same: str) -> None:
    answer = predict_point(ROW | {"model": model, "precision": precision})
    assert answer["error"] is None
    plain = predict_point(ROW | {"precision": same})
    assert answer["tpot_ms_p50"] == plain["tpot_ms_p50"]
    # Scales per tensor, channel or block are not the same bytes.
    assert answer["weights_gib_per_gpu"] == pytest.approx(plain["weights_gib_per_gpu"], rel=0.01)


@pytest.mark.parametrize("gpu", ["NVIDIA H100 80GB HBM3", "H100 SXM", "h100_sxm", " H100 "])
def test_gpus_are_known_by_their_product_names(gpu: str) -> None:
    assert predict_point(ROW | {"gpu": gpu}) == predict_point(ROW)
