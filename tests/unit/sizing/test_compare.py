from __future__ import annotations

from dataclasses import replace

import pytest

from sizing.calibration.calibrator import calibrated
from sizing.calibration.measurement import ObservedPoint
from sizing.catalog import Catalog, Price
from sizing.compare import Option, compare, configurations, evaluate, rank
from sizing.errors import InvalidInput
from sizing.replica.memory import resolve
from sizing.report import size_report
from sizing.types import Confidence, Deployment, PolicyConfig, Slo, Workload

BASE = Option(
    "now",
    Deployment("llama-3.3-70b", "h100-sxm", tensor_parallel=4, precision="bf16"),
    Workload(2000, 300),
    Slo(),
    30.0,
)


def test_an_outcome_is_that_of_the_report() -> None:
    outcome = evaluate(BASE)
    report = size_report(BASE.deployment, BASE.workload, BASE.slo, 30.0, PolicyConfig(max_replicas=10**6))
    assert (outcome.replicas, outcome.replicas_lower, outcome.replicas_upper, outcome.gpus, outcome.cost) == (
        report.replicas,
        report.replicas_lower,
        report.replicas_upper,
        report.gpus,
        report.cost,
    )
    assert outcome.price is not None
    assert outcome.price.source.startswith("Lambda")


def test_twice_the_demand_takes_about_twice_the_replicas() -> None:
    now, double = compare([BASE, replace(BASE, name="double", requests_per_second=60.0)])
    assert 2 * now.replicas - 1 <= double.replicas <= 2 * now.replicas


def test_what_cannot_be_had_says_why_and_comes_last() -> None:
    too_small = replace(BASE, name="one", deployment=replace(BASE.deployment, tensor_parallel=1))
    out_of_reach = replace(BASE, name="strict", slo=Slo(1.0, 0.003))
    unknown = replace(BASE, name="odd", deployment=replace(BASE.deployment, gpu="abacus"))
    ranked = rank(compare([too_small, unknown, out_of_reach, BASE]))
    assert [o.option.name for o in ranked] == ["now", "strict", "odd", "one"]
    strict, odd, one = ranked[1:]
    assert strict.fits
    assert "no number of replicas" in strict.problem
    assert not one.fits
    assert "GiB more" in one.problem
    assert "unknown GPU" in odd.problem
    assert one.confidence is Confidence.REFUSED


def test_every_combination_and_what_belongs_to_the_base_alone() -> None:
    resolved = resolve(BASE.deployment)
    learned = calibrated(resolved, [ObservedPoint(2000, 300, 0.04, 0.5, requests_per_second=3.0)])
    base = replace(BASE, price=Price(1.0, "given", "now"), calibration=learned)
    options = configurations(base, gpus=("h100-sxm", "h200-sxm"), precisions=("bf16", "fp8"), tensor_parallel=(4, 8))
    assert len(options) == len({o.name for o in options}) == 8
    same = [o for o in options if o.calibration is not None]
    assert [o.deployment for o in same] == [BASE.deployment]
    assert all((o.price is not None) == (o.deployment.gpu == "h100-sxm") for o in options)
    assert evaluate(same[0]).confidence is Confidence.CALIBRATED


def test_ranking_by_gpus_and_by_cost_per_token() -> None:
    outcomes = compare(configurations(BASE, gpus=("h100-sxm", "b200-sxm", "gb300"), precisions=("fp8",)))
    by_gpus = rank(outcomes, "gpus")
    assert [o.gpus for o in by_gpus] == sorted(o.gpus for o in outcomes)
    # A GPU without a known price comes after those with one.
    assert rank(outcomes, "cost_per_token")[-1].option.deployment.gpu == "gb300"
    assert Catalog().gpu("gb300").price is None
    with pytest.raises(InvalidInput, match="known: cost, gpus, cost_per_token"):
        rank(outcomes, "beauty")


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_demands_that_cannot_be(rate: float) -> None:
    outcome = evaluate(replace(BASE, requests_per_second=rate))
    assert outcome.replicas is None
    assert "requests_per_second" in outcome.problem
