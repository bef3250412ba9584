from __future__ import annotations

from dataclasses import replace

import pytest

from sizing.planning.plan import Plan, Planner
from sizing.planning.provisioned_mix import mix_share, provisioned_mix
from sizing.types import Demand, Deployment, PolicyConfig, Provision, Slo, Workload

LARGE = Deployment("llama-3.1-70b", "h100-sxm", tensor_parallel=4)
CHAT = Workload(1000.0, 200.0, 2e6, 8e4, 2.5e5, cached_share=0.2)
WEIGHTS = (("observed_x1.3", 1.0),)


def provision(requests: float, longer_in: float = 1.0, longer_out: float = 1.0) -> Provision:
    """Requests/s to provision for, whose prompts and answers are so many times as long as those of ``CHAT``."""
    return Provision(requests, requests * 800.0 * longer_in, requests * 200.0 * longer_out, 0.0, WEIGHTS)


def planned(provided: Provision, slo: Slo, workload: Workload = CHAT, dispersion: float = 1.0) -> Plan:
    demand = Demand((0.1, 0.5, 0.9), (1.0, 2.0, 3.0), workload, 300.0, dispersion=dispersion, provision=provided)
    return Planner(LARGE, slo).plan(demand, PolicyConfig(max_replicas=1000))


def by_mean_request(plan: Plan, provided: Provision) -> float:
    """Replicas by the greatest ratio to what one carries of the mean request."""
    point = plan.operating_point
    return max(
        provided.requests_per_second / point.requests_per_second,
        provided.prefill_tokens_per_second / point.prefill_tokens_per_second,
        provided.decode_tokens_per_second / point.decode_tokens_per_second,
    )


def test_a_mix_has_the_lengths_of_its_rates_and_varies_as_before() -> None:
    mix = provisioned_mix(CHAT, provision(5.0, longer_in=1.5, longer_out=0.5))
    assert mix is not None
    assert (mix.input_tokens, mix.output_tokens) == pytest.approx((1500.0, 100.0))
    assert (mix.input_tokens_squared, mix.output_tokens_squared) == pytest.approx((2e6 * 2.25, 8e4 * 0.25))
    assert mix.input_output_product == pytest.approx(2.5e5 * 0.75)
    assert mix.cached_share == CHAT.cached_share
    assert mix.input_quantile is None


@pytest.mark.parametrize(
    "told",
    [provision(0.0), provision(5.0, 0.0), provision(5.0, 1.0, 0.0), provision(5.0, 4.1), provision(5.0, 1.0, 0.2)],
)
def test_rates_that_make_up_no_request_have_no_mix(told: Provision) -> None:
    assert provisioned_mix(CHAT, told) is None


@pytest.mark.parametrize("workload", [replace(CHAT, output_tokens=0.0), replace(CHAT, cached_share=1.0)])
def test_a_mean_request_without_such_tokens_has_no_mix(workload: Workload) -> None:
    assert provisioned_mix(workload, provision(5.0)) is None


def test_longer_answers_need_less_than_their_ratio_where_prompts_are_no_longer() -> None:
    slo = Slo(ttft_seconds=None, tpot_seconds=0.05)
    asked = provision(60.0, longer_out=1.5)
    plan = planned(asked, slo)
    most = by_mean_request(plan, asked)
    requests_alone = 60.0 / plan.operating_point.requests_per_second
    assert requests_alone < plan.decisive.exact < 0.9 * most
    # Needs by requests, prompts and answers are those of one and the same request.
    rates = [need.exact for need in plan.needs if need.currency != "kv_tokens"]
    assert rates == pytest.approx([rates[0]] * 3, rel=0.03)
    for need in plan.needs:
        assert need.exact == pytest.approx(need.demand / need.capacity)


def test_a_mix_never_adds_replicas() -> None:
    # A p99 of prompts that are three times as long hardly meets the objective at all.
    slo = Slo(ttft_seconds=0.6, tpot_seconds=None, percentile=0.99)
    asked = provision(60.0, longer_in=3.0)
    plan = planned(asked, slo)
    assert plan.decisive.exact == pytest.approx(by_mean_request(plan, asked))


def test_a_mix_that_no_replica_holds_counts_as_before() -> None:
    slo = Slo(ttft_seconds=None, tpot_seconds=0.03)
    small = replace(LARGE, observed_kv_tokens=1_500)
    asked = provision(60.0, longer_in=2.0)
    demand = Demand((0.1, 0.5, 0.9), (1.0, 2.0, 3.0), replace(CHAT, input_tokens_squared=None), 300.0, provision=asked)
    plan = Planner(small, slo).plan(demand, PolicyConfig(max_replicas=10**6))
    assert plan.decisive.exact == pytest.approx(by_mean_request(plan, asked))


@pytest.mark.parametrize(
    ("dispersion", "share"), [(1.0, 1.0), (2.0, 1.0), (2.5, 0.75), (3.5, 0.25), (4.0, 0.0), (9.0, 0.0)]
)
def test_a_mix_counts_less_the_burstier_arrivals_are(dispersion: float, share: float) -> None:
    assert mix_share(dispersion) == pytest.approx(share)


def test_a_mix_of_a_share_lies_between_the_mean_request_and_the_whole_mix() -> None:
    mixes = [provisioned_mix(CHAT, provision(5.0, 2.0, 0.5), share) for share in (0.0, 0.5, 1.0)]
    assert [None if mix is None else mix.input_tokens for mix in mixes] == pytest.approx(
        [1000.0, 2.0**0.5 * 1000, 2000]
    )
    assert [None if mix is None else mix.output_tokens for mix in mixes] == pytest.approx([200.0, 0.5**0.5 * 200, 100])


def test_bursty_arrivals_are_provisioned_for_by_the_greatest_ratio() -> None:
    asked = provision(60.0, longer_out=1.5)
    slo = Slo(ttft_seconds=None, tpot_seconds=0.05)
    plan = planned(asked, slo, dispersion=5.0)
    assert plan.decisive.exact == pytest.approx(by_mean_request(plan, asked))
    part = planned(asked, slo, dispersion=3.0)
    assert (
        planned(asked, slo, dispersion=2.0).decisive.exact / by_mean_request(planned(asked, slo, dispersion=2.0), asked)
        < (part.decisive.exact / by_mean_request(part, asked))
        < 1.0
    )
