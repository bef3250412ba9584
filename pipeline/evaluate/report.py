"""An evaluation as one HTML page that needs nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.policies.registry import POLICIES
from pipeline.evaluate.run import replicas_over_time
from sizing.explain.html import render_html
from sizing.explain.model import GIVEN, Chart, Explanation, Fact, Series, Step, Table

__all__ = ["render_report"]

_MEASURED = "measured in this simulation"
_POINTS = 240
#: Lines of one chart.
_LINES = 6


def render_report(evaluation: Evaluation) -> str:
    """Return the page."""
    steps = [_asked(evaluation), _results(evaluation), _fleets(evaluation)]
    if evaluation.frontier:
        steps.append(_frontier(evaluation))
    answer = evaluation.verdict or "Every policy served the same requests with a fleet of its own."
    return render_html(Explanation(f"Evaluation of {evaluation.question.trace.name}", answer, tuple(steps)))


def _asked(evaluation: Evaluation) -> Step:
    question, setup = evaluation.question, evaluation.setup
    requests, pool, world = setup.requests, question.pool, question.world
    inputs = [
        Fact("Trace", question.trace.name, "", GIVEN),
        Fact("Requests", len(requests), "", GIVEN),
        Fact("Length", setup.end_seconds / 3_600, "h", GIVEN),
        Fact("Mean prompt", float(requests.input_tokens.mean()), "tokens", GIVEN),
        Fact("Mean answer", float(requests.output_tokens.mean()), "tokens", GIVEN),
        Fact("TTFT objective", pool.ttft_seconds, "s", GIVEN),
        Fact("TPOT objective", pool.tpot_seconds, "s", GIVEN),
        Fact("Replicas", f"{pool.min_replicas} to {pool.max_replicas}", "", GIVEN),
        Fact("Start-up of a replica", question.start_up.total_seconds, "s", GIVEN),
        Fact("Lead time of the advice", pool.lead_time_seconds, "s", GIVEN),
        Fact("World", "as the model believes" if world is None else str(world), "", GIVEN),
    ]
    test = setup.load_test
    results = (
        Fact("One replica carries", test.requests_per_second, "requests/s", _MEASURED),
        Fact("with in flight", test.concurrency, "requests", _MEASURED),
    )
    conclusion = (
        "Policies that need a number by hand have it from this load test, in the world they run in; "
        "Tokentide has the configuration and the telemetry alone."
    )
    return Step(
        1, "What was asked", "Which requests, which fleet, which objectives?", tuple(inputs), results, conclusion
    )


def _results(evaluation: Evaluation) -> Step:
    rows = tuple(
        (
            r.policy,
            POLICIES[r.policy].title,
            round(r.replica_hours, 3),
            round(r.mean_replicas, 2),
            r.max_replicas,
            None if r.slo_attainment is None else f"{r.slo_attainment:.2%}",
            r.scale_events,
            r.cost,
            r.regret,
        )
        for r in evaluation.results
    )
    columns = (
        "policy",
        "rule",
        "replica-hours",
        "mean",
        "max",
        "within SLO",
        "changes",
        "cost, $",
        "regret, replica-hours",
    )
    table = Table("All policies", columns, rows, _MEASURED, chosen=0)
    latencies = Table(
        "What requests waited for",
        (
            "policy",
            "TTFT within",
            "p50, s",
            "p95, s",
            "p99, s",
            "TPOT within",
            "p50, s",
            "p95, s",
            "p99, s",
            "late",
            "unserved",
        ),
        tuple(
            (
                r.policy,
                None if r.ttft_attainment is None else f"{r.ttft_attainment:.2%}",
                r.ttft_p50_seconds,
                r.ttft_p95_seconds,
                r.ttft_p99_seconds,
                None if r.tpot_attainment is None else f"{r.tpot_attainment:.2%}",
                r.tpot_p50_seconds,
                r.tpot_p95_seconds,
                r.tpot_p99_seconds,
                r.late_requests,
                r.unserved_requests,
            )
            for r in evaluation.results
        ),
        _MEASURED,
        chosen=0,
    )
    names = tuple(r.policy for r in evaluation.results)
    chart = Chart(
        "stacked",
        "Replica-hours",
        "",
        "replica-hours",
        (Series("replica-hours", names, tuple(r.replica_hours for r in evaluation.results)),),
    )
    question = "What does each policy cost, and how many requests are within the SLO?"
    return Step(
        2, "Results", question, (), (), evaluation.verdict, (table, latencies), (chart,) if len(names) <= _LINES else ()
    )


def _fleets(evaluation: Evaluation) -> Step:
    setup = evaluation.setup
    at = np.linspace(0.0, setup.end_seconds, _POINTS, endpoint=False)
    hours = tuple((at / 3_600).tolist())
    names = [result.policy for result in evaluation.results]
    needed = _rate(evaluation, at) / setup.load_test.requests_per_second
    demand = Series("demand", hours, tuple(needed.tolist()))
    charts = []
    for first in range(0, len(names), _LINES - 1):
        series = [demand]
        for name in names[first : first + _LINES - 1]:
            ready = replicas_over_time(evaluation.runs[name], at, ready=True)
            series.append(Series(name, hours, tuple(float(n) for n in ready)))
        charts.append(Chart("line", "Ready replicas", "hours", "replicas", tuple(series)))
    question = "When was how much ready?"
    return Step(
        3,
        "Fleets",
        question,
        (),
        (),
        "Demand is per minute, in replicas by the load test; what is ready too late has waited.",
        (),
        tuple(charts),
    )


def _rate(evaluation: Evaluation, at: NDArray[np.float64]) -> NDArray[np.float64]:
    arrival = evaluation.setup.requests.arrival_seconds
    low, high = (np.searchsorted(arrival, at + offset) for offset in (-30.0, 30.0))
    return (high - low) / 60.0


def _frontier(evaluation: Evaluation) -> Step:
    names = list(dict.fromkeys(point.policy for point in evaluation.frontier))
    charts = []
    for first in range(0, len(names), _LINES):
        series = []
        for name in names[first : first + _LINES]:
            points = sorted(
                (p.replica_hours, 100.0 * (p.slo_attainment or 0.0)) for p in evaluation.frontier if p.policy == name
            )
            series.append(Series(name, tuple(x for x, _ in points), tuple(y for _, y in points)))
        charts.append(Chart("line", "Cost against attainment", "replica-hours", "% within SLO", tuple(series)))
    rows = tuple(
        (p.policy, p.knob, p.value, p.replica_hours, None if p.slo_attainment is None else f"{p.slo_attainment:.2%}")
        for p in evaluation.frontier
    )
    table = Table("Every value", ("policy", "knob", "value", "replica-hours", "within SLO"), rows, _MEASURED)
    return Step(
        4,
        "Frontier",
        "What does each policy reach when its own knob is turned?",
        (),
        (),
        "Compare policies at equal attainment: a policy to the left of another one needs less for the same.",
        (table,),
        tuple(charts),
    )
