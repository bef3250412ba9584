from __future__ import annotations

import math

import numpy as np
import pytest

from sizing.errors import InvalidInput
from sizing.replica.speculative_step import Drafting, SpeculativeStep
from sizing.replica.step_time import StepModel

# Weights are never hidden behind computing (an infinite corner), so that a step is a plain sum.
PLAIN = StepModel(
    fixed_seconds=0.001,
    dense_seconds=0.004,
    dense_corner_tokens=math.inf,
    expert_seconds=0.0,
    expert_corner_tokens=math.inf,
    expert_miss=1.0,
    expert_lanes=1,
    expert_spread=0.0,
    decode_seconds=1e-5,
    kv_seconds=1e-8,
    kv_window_seconds=0.0,
    window_tokens=0,
    prefill_seconds=2e-5,
    attention_seconds=1e-9,
)


def test_tokens_per_step_are_the_geometric_series() -> None:
    assert Drafting(4, 0.0, 0.0).tokens_per_step == 1.0
    assert Drafting(1, 0.7, 0.0).tokens_per_step == pytest.approx(1.7)
    assert Drafting(4, 0.8, 0.0).tokens_per_step == pytest.approx(1 + 0.8 + 0.64 + 0.512 + 0.4096)


def test_a_step_verifies_all_and_reads_a_context_once() -> None:
    step = SpeculativeStep.of(PLAIN, Drafting(4, 0.8, 0.05))
    # Ten sequences of 1,000 tokens: 5 ms + 10 · (10 + 10) µs plain; 40 tokens more at 20 + 1 µs; drafts at 4 · 5 %.
    plain = 0.005 + 10 * 2e-5
    assert PLAIN.mean_step_seconds(10, 1_000, 0, 0, 1) == pytest.approx(plain)
    assert step.mean_step_seconds(10, 1_000, 0, 0, 1) == pytest.approx(plain + 40 * 2.1e-5 + 0.2 * plain)
    # Prompts cost what they cost without drafts.
    more = step.mean_step_seconds(10, 1_000, 500, 300, 500) - step.mean_step_seconds(10, 1_000, 0, 0, 500)
    assert more == pytest.approx(500 * (2e-5 + 300e-9))


def test_many_batches_at_once_are_the_same_and_scaling_scales_all() -> None:
    busy = StepModel(**{name: getattr(PLAIN, name) for name in PLAIN.__slots__} | {"dense_corner_tokens": 200.0})
    step = SpeculativeStep.of(busy, Drafting(3, 0.5, 0.1))
    batches, prompts = np.array([1.0, 40.0, 300.0]), np.array([5.0, 200.0, 900.0])
    each = [step.mean_base_seconds(b, p, 512.0) for b, p in zip(batches, prompts, strict=True)]
    assert step.mean_base_seconds_of(batches, prompts, 512.0).tolist() == pytest.approx(each)
    twice = step.scaled(2.0)
    assert twice.mean_base_seconds(40.0, 200.0, 512.0) == pytest.approx(2 * each[1])
    assert twice.sequence_seconds(700.0) == pytest.approx(2 * step.sequence_seconds(700.0))
    assert twice.verified_tokens == 4


@pytest.mark.parametrize("wrong", [(0, 0.5, 0.1), (65, 0.5, 0.1), (4, 1.0, 0.1), (4, math.nan, 0.1), (4, 0.5, 1.1)])
def test_drafts_that_cannot_be_are_refused(wrong: tuple[int, float, float]) -> None:
    with pytest.raises(InvalidInput):
        Drafting(*wrong)
