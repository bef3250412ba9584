from __future__ import annotations

import math

import pytest

from sizing.compare import QUALITY, Option, configurations, evaluate
from sizing.errors import InvalidInput
from sizing.planning.known_point import known_point
from sizing.planning.serving import Apart, apart_plan, break_even_acceptance, speculative_point
from sizing.replica.memory import resolve
from sizing.replica.speculative_step import Drafting
from sizing.types import Confidence, Deployment, PolicyConfig, Slo, Workload

DEPLOYMENT = Deployment("llama-3.1-8b", "h100-sxm", max_num_seqs=1024)
H100 = resolve(DEPLOYMENT)
CHAT, SLO = Workload(2000, 300), Slo(1.0, 0.05)
PLAIN, KNOWN = known_point(H100, CHAT, SLO)
POLICY = PolicyConfig(max_replicas=1_000)


@pytest.mark.parametrize("acceptance", [0.0, 0.5, 0.8])
def test_a_sequence_lives_for_its_output_over_the_tokens_of_a_step(acceptance: float) -> None:
    drafting = Drafting(4, acceptance, 0.05)
    point, known = speculative_point(H100, CHAT, SLO, drafting, KNOWN)
    each = drafting.tokens_per_step
    # Little's law on the mean: sequences = rate · steps · step, and TPOT is the step over the tokens of one.
    mean_step = point.batch / (point.requests_per_second * 300 / each)
    assert point.p50.tpot_seconds * each == pytest.approx(mean_step, rel=0.1)
    assert point.decode_tokens_per_second == pytest.approx(point.requests_per_second * 300)
    assert point.kv_tokens == pytest.approx(point.batch * (2000 + 150))  # contexts are as long as without drafts
    assert known.capacity_ratios[0] >= 1.0 >= known.capacity_ratios[1]


def test_more_accepted_is_never_worse_and_nothing_accepted_only_costs() -> None:
    carried = [
        speculative_point(H100, CHAT, SLO, Drafting(4, a, 0.05), KNOWN)[0].requests_per_second
        for a in (0.0, 0.3, 0.6, 0.9)
    ]
    assert carried == sorted(carried)
    assert carried[0] < PLAIN.requests_per_second < carried[-1]


def test_the_break_even_is_where_a_replica_begins_to_carry_more() -> None:
    least = break_even_acceptance(H100, CHAT, SLO, Drafting(4, 0.5, 0.05), KNOWN, PLAIN)
    assert least is not None
    below, above = (
        speculative_point(H100, CHAT, SLO, Drafting(4, a, 0.05), KNOWN)[0].requests_per_second
        for a in (least - 0.01, least)
    )
    assert below <= PLAIN.requests_per_second < above
    # Drafts as dear as the model itself: five steps' work for at most five tokens.
    assert break_even_acceptance(H100, CHAT, SLO, Drafting(4, 0.5, 1.0), KNOWN, PLAIN) is None


def test_prefill_and_decode_are_whole_replicas_within_their_own_objectives() -> None:
    network = 2000 * 131_072 / 0.25  # a quarter of a second for one request's KV cache
    plan = apart_plan(H100, CHAT, SLO, 60.0, Apart(network), KNOWN, POLICY)
    assert plan.points.transfer_bytes == 2000 * 131_072
    assert plan.points.transfer_seconds == pytest.approx(0.25)
    front, back = plan.points.prefill, plan.points.decode
    assert front.at_slo.ttft_seconds <= 0.75 + 1e-6
    assert plan.at_slo.ttft_seconds == pytest.approx(front.at_slo.ttft_seconds + 0.25)
    assert back.at_slo.tpot_seconds <= 0.05
    assert plan.prefill.desired == math.ceil(60 / front.requests_per_second)
    assert plan.decode.desired == math.ceil(60 / back.requests_per_second)
    carried = (plan.prefill.desired * front.requests_per_second, plan.decode.desired * back.requests_per_second)
    assert plan.requests_per_second == min(carried)
    assert plan.prefill_binds == (carried[0] <= carried[1])
    with pytest.raises(InvalidInput, match="longer than the TTFT objective"):
        apart_plan(H100, CHAT, SLO, 60.0, Apart(1e8), KNOWN, POLICY)
    with pytest.raises(InvalidInput):
        Apart(0.0)


def test_an_outcome_says_what_its_figures_leave_out() -> None:
    base = Option("now", DEPLOYMENT, CHAT, SLO, 60.0)
    plain = evaluate(base)
    assert (plain.caveats, plain.prefill_replicas) == ((), None)
    drafted = evaluate(Option("drafts", DEPLOYMENT, CHAT, SLO, 60.0, serving=Drafting(4, 0.7, 0.05)))
    assert drafted.confidence is Confidence.EXTRAPOLATED
    assert drafted.replicas == math.ceil(60 / (drafted.capacity_requests_per_second or 1))
    assert "given, not measured" in drafted.caveats[0]
    assert "memory" in drafted.caveats[1]
    apart = evaluate(Option("apart", DEPLOYMENT, CHAT, SLO, 60.0, serving=Apart(50e9)))
    assert apart.confidence is Confidence.EXTRAPOLATED
    assert apart.replicas == apart.gpus == 7
    assert apart.prefill_replicas == 3
    assert apart.caveats == (
        "3 for prefill, 4 for decode",
        "262 MB of KV cache per request take 5.24 ms of TTFT at 50 GB/s; transfers that share the link are not counted",
    )
    assert apart.cost is not None
    assert apart.price is not None
    assert apart.cost.dollars_per_hour == pytest.approx(7 * apart.price.dollars_per_gpu_hour)
    assert [option.caveats for option in configurations(base, precisions=("bf16", "fp8"))] == [(QUALITY,)] * 2
    resolved = Option("now", Deployment("llama-3.1-8b", "h100-sxm", precision="bf16"), CHAT, SLO, 60.0)
    assert [o.caveats for o in configurations(resolved, precisions=("bf16", "fp8"), pipeline_parallel=(2,))] == [
        (),
        (QUALITY,),
    ]


def test_an_objective_out_of_reach_is_told_of_either_way() -> None:
    for serving in (Drafting(4, 0.0, 0.5), Apart(50e9)):
        found = evaluate(Option("x", DEPLOYMENT, CHAT, Slo(1.0, 0.001), 60.0, serving=serving))
        assert not found.feasible
        assert found.problem is not None
        assert "no number of replicas meets the SLO" in found.problem
