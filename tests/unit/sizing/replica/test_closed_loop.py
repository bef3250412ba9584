from __future__ import annotations

import pytest

from sizing.calibration.table import predict_point
from sizing.replica.closed_loop import wave_ratio

ROW = {"model": "qwen3-32b", "gpu": "h100-sxm", "tp": 4, "precision": "bf16", "isl": 4096, "osl": 128}


def test_waves_take_half_of_the_prompts_time_out_of_the_time_between_tokens() -> None:
    """128 clients, steps of 20 ms without prompts, and prompts of 10 s in all, for outputs of 100 tokens.

    Mixed: each token waits for a step and 1 % of the prompts. In a wave the first client waits between tokens for all
    other prompts, the last one for none.
    """
    mixed = 0.02 + 10.0 / 100
    wave = 0.02 + 10.0 / 2 / 100
    assert wave_ratio(True, (10.0 / 100) / mixed) == pytest.approx(wave / mixed)
    assert wave_ratio(False, 0.9) == 1.0
    assert wave_ratio(True, 0.0) == 1.0


def test_only_closed_loops_of_an_engine_that_computes_prompts_first_reach_lower() -> None:
    def lower(**more: object) -> float:
        answer = predict_point({**ROW, **more})
        return float(answer["tpot_ms_lower"]) / float(answer["tpot_ms_p50"])

    assert lower(engine="sglang", concurrency=64) < 0.85 * lower(engine="trtllm", concurrency=64)
    assert lower(engine="sglang", request_rate=2.0) == pytest.approx(lower(engine="trtllm", request_rate=2.0))
    # Where hardly any of a step is prompts there is little to wait for.
    few = lower(engine="sglang", concurrency=64, isl=64, osl=1024)
    assert few == pytest.approx(lower(engine="trtllm", concurrency=64, isl=64, osl=1024), rel=0.03)
