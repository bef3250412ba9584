from __future__ import annotations

import math
import pickle
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizing.planning.plan import Planner
from sizing.planning.serving import Apart, apart_points
from sizing.scaling import counterfactuals
from sizing.scaling.controller import ReplicaController
from sizing.scaling.counterfactuals import EVERY_DECISIONS, FAR
from sizing.scaling.setting_changes import CHANGES
from sizing.scaling.situation import Situation
from sizing.types import (
    Counterfactual,
    Demand,
    Deployment,
    PolicyConfig,
    Recommendation,
    Slo,
    Workload,
)

H100 = Deployment("llama-3.1-8b", "h100-sxm")
CHAT = Workload(1000, 200, cached_share=0.1)
POLICY = PolicyConfig(max_replicas=1000)


def controller(policy: PolicyConfig = POLICY, deployment: Deployment = H100, slo: Slo | None = None):
    return ReplicaController("chat", "eu", deployment, slo or Slo(), policy, "0123456789ab", "H100")


def demand(rate: float = 400.0, workload: Workload = CHAT) -> Demand:
    return Demand((0.1, 0.5, 0.9), (0.9 * rate, rate, 1.1 * rate), workload, 600.0, observed_requests_per_second=rate)


def decided(who: ReplicaController, asked: Demand, steps: int = 1, start: int = 0, **how) -> Recommendation:
    for step in range(start, start + steps):
        last = who.decide(60.0 * step, asked, 20, **({"gap": False, "warm": True} | how))
    return last


def by_setting(advice: Recommendation) -> dict[str, Counterfactual]:
    return {one.setting: one for one in advice.counterfactuals}


@pytest.mark.parametrize(
    ("deployment", "workload", "slo"),
    [
        (H100, CHAT, Slo()),
        (Deployment("llama-3.3-70b", "h100-sxm", tensor_parallel=4), Workload(3000, 400), Slo(2.0, 0.03)),
        (Deployment("llama-3.1-8b", "l40s"), Workload(6000, 300), Slo(3.0, None)),
    ],
)
def test_each_change_comes_to_what_a_plan_with_it_says(deployment: Deployment, workload: Workload, slo: Slo) -> None:
    advice = decided(controller(deployment=deployment, slo=slo), demand(100.0, workload), len(CHANGES))
    told = by_setting(advice)
    changed: dict[str, tuple[Deployment, Workload, Slo]] = {
        "kv_precision": (replace(deployment, kv_precision="fp8"), workload, slo),
        "precision": (replace(deployment, precision="fp8"), workload, slo),
        "max_num_seqs": (replace(deployment, max_num_seqs=512), workload, slo),
        "max_batched_tokens": (replace(deployment, max_batched_tokens=16384), workload, slo),
        "cached_share": (deployment, replace(workload, cached_share=0.5), slo),
        "tensor_parallel": (replace(deployment, tensor_parallel=2 * deployment.tensor_parallel), workload, slo),
        "slo_ttft_seconds": (deployment, workload, replace(slo, ttft_seconds=1.5 * (slo.ttft_seconds or 1.0))),
    }
    if slo.tpot_seconds is not None:
        relaxed = replace(slo, tpot_seconds=float(f"{1.2 * slo.tpot_seconds:.2g}"))
        changed["slo_tpot_seconds"] = (deployment, workload, relaxed)
    needed = Planner(deployment, slo).plan(demand(100.0, workload), POLICY).unclamped
    assert [*told] == [name for name in CHANGES if name in changed or name == "serving"]
    for name, (of, load, objective) in changed.items():
        plan = Planner(of, objective).plan(demand(100.0, load), POLICY)
        one = told[name]
        assert one.replicas == plan.unclamped, name
        assert one.difference == plan.unclamped - needed
        assert one.gpus_difference == plan.unclamped * of.gpus - needed * deployment.gpus


def test_prefill_and_decode_apart_are_whole_replicas_of_each() -> None:
    planner = Planner(H100, Slo())
    plan = planner.plan(demand(100.0), POLICY)
    needed = max(need.exact for need in plan.needs)
    _, known = planner.known(CHAT, 1.0)
    parts = apart_points(planner.resolved, CHAT, Slo(), Apart(), known)
    each = plan.operating_point.requests_per_second
    told = by_setting(decided(controller(), demand(100.0), len(CHANGES)))["serving"]
    whole = [math.ceil(needed * each / part.requests_per_second) for part in (parts.prefill, parts.decode)]
    assert (told.value, told.replicas) == ("apart", sum(whole))
    assert told.difference == sum(whole) - plan.unclamped
    assert told.gpus_difference == told.difference
    assert told.text.startswith("prefill and decode apart: ")
    # 1,000 tokens of 131,072 bytes over the network of one GPU.
    assert told.caveat is not None
    assert told.caveat.startswith("131 MB of KV cache per request over 50 GB/s")
    # However little comes, there is one of each.
    few = by_setting(decided(controller(), demand(0.5), len(CHANGES)))["serving"]
    assert (few.replicas, few.difference) == (2, 1)


def test_words_and_caveats() -> None:
    told = by_setting(decided(controller(), demand(), len(CHANGES)))
    assert told["kv_precision"].text == "FP8 KV cache: 2 fewer"
    assert "quality" in (told["kv_precision"].caveat or "")
    assert "quality" in (told["precision"].caveat or "")
    assert told["slo_tpot_seconds"].text == "TPOT 60 ms: nothing"
    assert told["cached_share"].text.startswith("prefix cache share 0.5: ")
    assert told["max_num_seqs"].text == "max_num_seqs 512: nothing"
    assert told["tensor_parallel"].text.endswith("GPUs more")


def test_nothing_is_said_of_advice_that_is_held() -> None:
    who = controller()
    assert decided(who, demand(), 3).counterfactuals
    for how in (
        {"gap": True},
        {"situation": Situation(problems=("counts that cannot be",))},
        {"situation": Situation(whole=False)},
    ):
        assert decided(who, demand(), start=3, **how).counterfactuals == ()
    assert decided(controller(deployment=replace(H100, model="nobody/knows")), demand()).counterfactuals == ()
    assert len(decided(who, demand(), start=4).counterfactuals) == 4


def test_what_the_engine_reported_of_its_cache_goes_on_to_count() -> None:
    told = by_setting(decided(controller(deployment=replace(H100, observed_kv_tokens=60_000)), demand(), len(CHANGES)))
    assert told["kv_precision"].difference is not None
    assert told["kv_precision"].difference < -2  # 120,000 tokens, less than by the formula
    assert "by formula" in (told["precision"].caveat or "")


def test_limits_are_counterfactuals_too() -> None:
    top = by_setting(decided(controller(replace(POLICY, max_replicas=12)), demand(), len(CHANGES)))
    needed = top["max_replicas"].replicas
    assert needed is not None
    assert top["max_replicas"].text == f"max_replicas {needed}: {needed - 12} more"
    assert top["kv_precision"].difference == -2
    low = by_setting(decided(controller(replace(POLICY, min_replicas=30)), demand(), len(CHANGES)))
    assert low["min_replicas"].text == f"min_replicas {needed}: {30 - needed} fewer"
    assert {one.difference for name, one in low.items() if name != "min_replicas"} == {0}


def test_an_objective_out_of_reach_is_not_compared() -> None:
    slow = Slo(1.0, 0.0025)
    told = by_setting(decided(controller(slo=slow), demand(), len(CHANGES)))
    assert {one.difference for one in told.values()} == {None}
    assert told["max_num_seqs"].text == "max_num_seqs 512: does not meet the objective"


def test_work_is_bounded_and_stale_ratios_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[str] = []
    work = counterfactuals._solve
    monkeypatch.setattr(counterfactuals, "_solve", lambda name, *rest: (solved.append(name), work(name, *rest))[1])
    who = controller()
    decided(who, demand(), 500)
    assert solved == [*CHANGES]  # nothing moved
    solved.clear()
    for step in range(500, 1000):  # always on the move
        load = replace(CHAT, input_tokens=1000 * math.exp(0.001 * (step - 500)))
        decided(who, demand(100.0, load), start=step)
    assert len(solved) <= 500 / EVERY_DECISIONS + 1
    assert set(solved) == {*CHANGES}
    solved.clear()
    jumped = demand(100.0, replace(CHAT, input_tokens=1000 * math.exp(0.5 + 2 * FAR)))
    assert [len(decided(who, jumped, start=1000 + i).counterfactuals) for i in range(3)] == [1, 2, 3]
    assert len(solved) == 3


@settings(max_examples=15, deadline=None)
@given(
    loads=st.lists(st.tuples(st.floats(0.7, 1.4), st.floats(0.0, 0.97), st.booleans()), min_size=2, max_size=12),
    data=st.data(),
)
def test_a_restored_controller_says_the_same(loads: list[tuple[float, float, bool]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(loads) - 1))
    whole, parts = controller(), controller()
    for step, (scale, share, gap) in enumerate(loads):
        if step == cut:
            parts = pickle.loads(pickle.dumps(parts))
        asked = demand(200.0 * scale, replace(CHAT, input_tokens=1000 * scale**2, cached_share=share))
        told = [decided(who, asked, start=step, gap=gap) for who in (whole, parts)]
        assert told[0] == told[1]
        assert all(one.replicas is None or one.replicas >= 0 for one in told[0].counterfactuals)
