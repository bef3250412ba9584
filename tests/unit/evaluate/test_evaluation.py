from __future__ import annotations

import json
import math

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import resources
from pipeline.evaluate.evaluation import Evaluation, Question, evaluate
from pipeline.evaluate.policies.registry import POLICIES
from pipeline.evaluate.report import render_report
from pipeline.evaluate.result import PolicyResult, policy_result
from pipeline.evaluate.run import Run, replicas_over_time, run_policy
from pipeline.evaluate.verdict import verdict
from sizing.catalog import Catalog
from sizing.simulate import World
from sizing.start_up import StartUp
from tests.unit.evaluate.pools import POOL, SETTINGS, setup, trace

KEYS = [
    "policy",
    "replica_hours",
    "gpu_hours",
    "mean_replicas",
    "max_replicas",
    "slo_attainment",
    "ttft_attainment",
    "tpot_attainment",
    "ttft_p50_seconds",
    "ttft_p99_seconds",
    "tpot_p95_seconds",
    "unserved_requests",
    "scale_events",
    "cost",
    "regret",
    "ttft_p95_seconds",
    "tpot_p50_seconds",
    "tpot_p99_seconds",
    "late_requests",
]
HARD = World(slow=1.3, noise=0.2, stragglers=0.3, start_fail=0.3, crashes=20.0)


ALL = ("tokentide", "oracle", "static-peak", "hpa-concurrency")


def evaluation(world: World | None = None, names: tuple[str, ...] = ALL, *, frontier: bool = False) -> Evaluation:
    question = Question(trace(), SETTINGS, POOL, Catalog(), StartUp(30.0), world=world)
    return evaluate(question, [POLICIES[name] for name in names], frontier=frontier)


@pytest.mark.slow
def test_the_results_are_those_of_the_schema_and_the_same_again() -> None:
    found = evaluation(HARD).to_dict()
    schema = json.loads(resources.find("schemas/evaluation.v1.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(found, schema)
    assert [list(policy) for policy in found["policies"]] == [KEYS] * 4
    again = evaluation(HARD, ("tokentide", "static-peak")).to_dict()
    json.dumps(found, allow_nan=False)
    for place, policy in ((0, 0), (2, 1)):
        assert again["policies"][policy] == found["policies"][place] | {"regret": None}  # no oracle, no regret
    assert again["load_test"] == found["load_test"]


@pytest.mark.slow
def test_the_oracle_has_no_regret_and_the_peak_attains_the_most() -> None:
    found = {result.policy: result for result in evaluation().results}
    assert found["oracle"].regret == 0.0
    assert found["oracle"].slo_attainment is not None
    assert found["oracle"].slo_attainment > 0.97
    assert found["static-peak"].slo_attainment == max(result.slo_attainment or 0.0 for result in found.values())
    hours = 0.1 - trace().requests.arrival_seconds[0] / 3_600.0
    assert found["static-peak"].replica_hours == pytest.approx(found["static-peak"].mean_replicas * hours)
    assert found["static-peak"].mean_replicas == found["static-peak"].max_replicas
    assert found["oracle"].replica_hours < found["static-peak"].replica_hours
    assert found["static-peak"].scale_events == 0


@pytest.mark.slow
def test_the_report_needs_nothing_else_and_says_the_verdict() -> None:
    found = evaluation(names=("static-peak", "static-mean"), frontier=True)
    assert [p.value for p in found.frontier if p.policy == "static-mean"] == list(POLICIES["static-mean"].knob.values)
    hours = [p.replica_hours for p in found.frontier if p.policy == "static-mean"]
    assert hours == sorted(hours)
    page = render_report(found)
    assert page.startswith("<!doctype html>")
    assert "http" not in page
    assert page.count("<svg") == 3
    assert found.verdict == ""


def result(policy: str, attainment: float, hours: float) -> PolicyResult:
    zeros = dict.fromkeys(KEYS[2:], 0)
    return PolicyResult(policy=policy, replica_hours=hours, **zeros | {"slo_attainment": attainment})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rivals", "words"),
    [
        ([("reactive", 0.99, 10.2)], "A simple rule is as good here: reactive 99.00% within the SLO"),
        ([("reactive", 0.995, 9.0)], "A simple rule is better here: reactive 99.50% within the SLO"),
        ([("reactive", 0.999, 12.0), ("kpa", 1.0, 11.0)], "at a higher cost: the cheapest is kpa"),
        ([("reactive", 0.90, 5.0)], "No rule attains as much with as few replica-hours"),
        ([("oracle", 1.0, 5.0)], "Nothing to compare with"),
    ],
)
def test_the_verdict_is_plain(rivals: list[tuple[str, float, float]], words: str) -> None:
    assert words in verdict([result("tokentide", 0.99, 10.0), *(result(*rival) for rival in rivals)])


class Scripted:
    """Asks for the numbers of a list, one after the other."""

    interval_seconds = 60.0

    def __init__(self, wanted: list[int], initial: int) -> None:
        self.initial_replicas: int | None = initial
        self._wanted = iter(wanted)

    def decide(self, metrics: object) -> int:
        return next(self._wanted, 1)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    wanted=st.lists(st.integers(0, 8), min_size=1, max_size=12),
    initial=st.integers(1, 4),
    world=st.sampled_from([None, HARD, World(crashes=60.0), World(start_fail=0.9)]),
    seed=st.integers(0, 5),
)
def test_every_request_is_served_once_or_counted_as_unserved(
    wanted: list[int], initial: int, world: World | None, seed: int
) -> None:
    pool = POOL.model_copy(update={"min_replicas": 0})
    made = setup(pool)
    run = run_policy(made, Scripted(wanted, initial), world=world, seed=seed)
    outcome = run.outcome
    lost = outcome.requests.arrival_seconds.size - int(outcome.finished.sum())
    result = policy_result("scripted", run, made)
    assert result.unserved_requests == lost
    if world is None or not world.crashes:
        assert lost == 0  # the fleet ends with a replica, which serves everybody in the end
    assert np.all(outcome.e2e_seconds[outcome.finished] > 0)
    assert np.all(outcome.ttft_seconds[outcome.finished] <= outcome.e2e_seconds[outcome.finished])
    # What is paid for is what is ordered and not gone, at any time.
    at = np.arange(0.5, made.end_seconds, 1.0)
    paid = replicas_over_time(run, at, ready=False)
    assert result.replica_hours * 3_600 == pytest.approx(paid.sum(), abs=2.0 * len(run.replicas))
    assert np.all(replicas_over_time(run, at, ready=True) <= paid)
    assert (result.slo_attainment or 0.0) <= min(result.ttft_attainment or 0.0, result.tpot_attainment or 0.0)


def test_what_comes_before_the_score_is_served_and_not_scored() -> None:
    made = setup()
    run = run_policy(made, Scripted([3] * 20, 3), world=None, seed=0)
    whole, second = (policy_result("s", run, made, score_from_seconds=at) for at in (0.0, 180.0))
    assert whole.replica_hours == pytest.approx(3 * 360 / 3_600, rel=1e-3)
    assert second.replica_hours == pytest.approx(3 * 180 / 3_600, rel=1e-3)
    assert second.mean_replicas == pytest.approx(3.0, rel=1e-3)


def test_a_failed_replica_loses_its_requests_and_is_replaced() -> None:
    run: Run = run_policy(setup(), Scripted([2] * 20, 2), world=World(crashes=30.0), seed=1)
    failed = [life for life in run.replicas if life.drained_seconds < math.inf]
    assert failed
    assert all(any(other.ordered_seconds == life.drained_seconds for other in run.replicas) for life in failed)
    assert run.outcome.finished.sum() < run.outcome.requests.arrival_seconds.size
