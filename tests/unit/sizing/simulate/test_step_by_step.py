from __future__ import annotations

import numpy as np
import pytest

from sizing.replica.memory import resolve
from sizing.simulate import generate, simulate
from sizing.simulate.lane import Lane
from sizing.types import Deployment


@pytest.mark.parametrize(("model", "kv_tokens"), [("llama-3.1-8b", 40_000), ("gpt-oss-20b", None)])
def test_runs_of_steps_in_closed_form_are_the_steps_one_by_one(
    monkeypatch: pytest.MonkeyPatch, model: str, kv_tokens: int | None
) -> None:
    """The simulator approximates nothing: its error against single steps is that of rounding."""
    resolved = resolve(Deployment(model, "h100-sxm", observed_kv_tokens=kv_tokens))
    requests = generate(250, 12.0, 1_500, 120, dispersion=2.0, input_scv=0.5, output_scv=0.5, seed=4)
    runs = simulate(resolved, requests, replicas=2)
    ends = Lane._next_end

    def next_step(lane: Lane) -> int:
        ends(lane)
        return lane.steps + 1

    monkeypatch.setattr(Lane, "_next_end", next_step)
    steps = simulate(resolved, requests, replicas=2)
    for name in ("ttft_seconds", "tpot_seconds", "e2e_seconds", "queue_seconds"):
        np.testing.assert_allclose(getattr(runs, name), getattr(steps, name), rtol=1e-6, atol=1e-9)
    assert runs.replica.tolist() == steps.replica.tolist()
    assert runs.preemptions.tolist() == steps.preemptions.tolist()
