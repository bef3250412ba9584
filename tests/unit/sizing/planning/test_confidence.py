from __future__ import annotations

import json
import pickle
from dataclasses import replace
from itertools import pairwise

import pytest

from sizing.calibration.global_fit import builtin_learned
from sizing.calibration.table import predict_point
from sizing.catalog.models import USER_SOURCE
from sizing.compare import Option, evaluate
from sizing.explain.question import Question, Worked
from sizing.planning.confidence import deployment_confidence, support
from sizing.planning.known_point import known_point
from sizing.planning.workload_grid import rounded
from sizing.replica.memory import resolve
from sizing.report import size_report
from sizing.scaling.controller import ReplicaController
from sizing.types import Confidence, Demand, Deployment, PolicyConfig, Slo, Workload

#: Measured as it is, another GPU, another precision too, links that are assumed, and far longer than anything measured.
NEAR = (Deployment("llama-3.1-8b", "h100-sxm"), Workload(1024, 256))
ELSEWHERE = (Deployment("qwen3-32b", "a100-sxm-80gb", tensor_parallel=2), Workload(1024, 256))
OTHERWISE = (Deployment("gpt-oss-120b", "h100-sxm"), Workload(1024, 1024))
ASSUMED = (Deployment("llama-3.1-8b", "mi300x"), Workload(1024, 256))
LONG = (Deployment("llama-3.1-8b", "h100-sxm"), Workload(60_000, 4000))
CASES = (NEAR, ELSEWHERE, OTHERWISE, ASSUMED, LONG)
#: Nothing but the utilisation margin binds: capacity is as the inverse of the step time.
ANY = Slo(None, None)
RATE = 1e5
POLICY = PolicyConfig(max_replicas=10_000_000, under_to_over_cost=1.0)


@pytest.mark.parametrize(("deployment", "workload"), CASES)
def test_every_question_about_a_load_has_one_interval_and_one_class(deployment: Deployment, workload: Workload) -> None:
    workload = rounded(workload)
    point, known = known_point(resolve(deployment), workload, ANY)
    row = {
        "model": deployment.model,
        "gpu": deployment.gpu,
        "tp": deployment.tensor_parallel,
        # Else the row has the engine's defaults, whose sampling takes more of the memory.
        "max_num_seqs": deployment.max_num_seqs,
        "max_batched_tokens": deployment.max_batched_tokens,
        "isl": workload.input_tokens,
        "osl": workload.output_tokens,
        "request_rate": point.requests_per_second,
    }
    answer = predict_point(row)
    assert answer["confidence"] == known.confidence.value
    ratios = tuple(answer[f"tpot_ms_{end}"] / answer["tpot_ms_p50"] for end in ("lower", "upper"))
    assert ratios == pytest.approx(known.support.tpot_ratios_90)

    low, high = known.support.step_ratios_80
    need = RATE / point.requests_per_second
    report = size_report(deployment, workload, ANY, RATE, POLICY)
    assert (report.replicas_lower, report.replicas_upper) == pytest.approx((need * low, need * high), abs=1)
    expected = (report.replicas, report.replicas_lower, report.replicas_upper, known.confidence)
    outcome = evaluate(Option("one", deployment, workload, ANY, RATE), POLICY)
    assert (outcome.replicas, outcome.replicas_lower, outcome.replicas_upper, outcome.confidence) == expected
    demand = Demand((0.5,), (RATE,), workload, 120.0)
    worked = Worked(Question(deployment, ANY, demand, POLICY))
    assert (worked.plan.desired, worked.plan.lower, worked.plan.upper, worked.known.confidence) == expected
    controller = ReplicaController("m", "p", deployment, ANY, POLICY, "hash")
    advice = controller.decide(0.0, demand, None, gap=False, warm=True)
    assert (advice.desired, advice.lower, advice.upper, advice.confidence) == expected


def test_farther_is_less_sure() -> None:
    found = [known_point(resolve(deployment), workload, ANY)[1] for deployment, workload in CASES]
    far = sorted(found, key=lambda known: known.support.distance)
    assert found[0].support.distance == 0.0
    for nearer, farther in pairwise(far):
        for name in ("step_ratios_80", "tpot_ratios_90", "ttft_ratios_90"):
            (a, b), (c, d) = getattr(nearer.support, name), getattr(farther.support, name)
            assert c <= a < b <= d
        assert nearer.confidence is Confidence.INTERPOLATED or farther.confidence is Confidence.EXTRAPOLATED
    near, farthest = far[0].support.step_ratios_80, far[-1].support.step_ratios_80
    assert farthest[1] / farthest[0] > 1.2 * near[1] / near[0]


def test_what_is_assumed_or_brought_by_the_user_counts_as_far() -> None:
    learned = builtin_learned()
    known, assumed = (resolve(case[0]) for case in (NEAR, ASSUMED))
    assert deployment_confidence(known, learned) is Confidence.INTERPOLATED
    assert deployment_confidence(assumed, learned) is Confidence.EXTRAPOLATED
    spared = replace(assumed, gpu=replace(assumed.gpu, source="measured"))
    place = (1024.0, 256.0, 20.0)
    assert learned.distance(assumed, *place) == learned.distance(spared, *place) + 1.0
    bare = replace(known, model=replace(known.model, source=USER_SOURCE))
    assert deployment_confidence(bare, learned) is Confidence.EXTRAPOLATED
    assert learned.distance(bare, *place) > learned.near
    # The length of a nominal shape in a decimal thousand is that shape.
    assert learned.distance(known, 1000.0, 250.0, 20.0) == learned.distance(known, 1024.0, 256.0, 20.0) == 0.0


def test_a_restored_state_holds_what_was_learned_and_nothing_remembered() -> None:
    learned = builtin_learned()
    asked = pickle.loads(pickle.dumps(learned))
    assert asked == learned
    fresh = pickle.dumps(asked)
    assert support(resolve(NEAR[0]), NEAR[1], 20.0, asked) == support(resolve(NEAR[0]), NEAR[1], 20.0, learned)
    assert pickle.dumps(asked) == fresh


def test_the_report_says_the_interval_in_words() -> None:
    report = size_report(*NEAR, Slo(1.0, 0.05), 100.0, POLICY)
    text = json.dumps(report.to_dict())
    low, high = builtin_learned().tpot_interval_80.factors(0.0, "dense, vllm")
    assert f"step times {low:.3g} to {high:.3g} times the predicted" in text


def test_an_engine_older_than_all_that_was_measured_is_far_and_said() -> None:
    deployment, workload = NEAR
    oldest = dict(builtin_learned().oldest_releases)["vllm"]
    same = replace(deployment, engine_version=".".join(map(str, oldest)))
    old = replace(deployment, engine_version="0.7.2")
    for served, class_ in ((deployment, "interpolated"), (same, "interpolated"), (old, "extrapolated")):
        report = size_report(served, workload, ANY, 100.0, POLICY)
        assert report.confidence.value == class_
        assert any("is older than all releases" in text for text in report.assumptions) == (served is old)
    near, far = (known_point(resolve(served), workload, ANY)[1].support for served in (same, old))
    assert far.step_ratios_80[1] > 1.4 * near.step_ratios_80[1]
    row = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "isl": 1024, "osl": 256, "request_rate": 5.0}
    assert predict_point({**row, "engine_version": "0.7.2"})["confidence"] == "extrapolated"


@pytest.mark.parametrize("model", ["gpt-oss-120b", "deepseek-v3.2"])
def test_kinds_that_nothing_was_measured_of_are_extrapolated(model: str) -> None:
    """MXFP4 and sparse attention, on a GPU and an engine that others were measured on."""
    resolved = resolve(Deployment(model, "h200-sxm", tensor_parallel=8))
    assert deployment_confidence(resolved, builtin_learned()) is Confidence.EXTRAPOLATED
