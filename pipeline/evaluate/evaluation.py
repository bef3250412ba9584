"""One evaluation: every policy on the same trace, in the same world, and what each comes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.config.settings import PoolSettings, Settings
from pipeline.errors import InputError
from pipeline.evaluate.policies.base import Policy, PolicySpec, Setup
from pipeline.evaluate.policies.oracle import SPEC as ORACLE
from pipeline.evaluate.policies.oracle import needed_replicas
from pipeline.evaluate.policies.preload import Preloading
from pipeline.evaluate.preloading import Saved, preloading_dict, saved
from pipeline.evaluate.result import PolicyResult, decision_cost_hours, policy_result
from pipeline.evaluate.run import Run, make_setup, run_policy
from pipeline.evaluate.spot import SpotAdvice, spot_advice
from pipeline.evaluate.trace import RequestTrace
from pipeline.evaluate.verdict import verdict
from pipeline.forecast.calendar.effects import CalendarRecord
from sizing.catalog import Catalog
from sizing.planning.preload import Preload
from sizing.simulate import World
from sizing.start_up import StartUp

__all__ = ["Evaluation", "FrontierPoint", "Question", "evaluate"]

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Question:
    """What is evaluated. ``start_up`` is what a replica really needs, whatever the pool's lead time says.

    Requests that arrive before ``score_from_seconds`` (since the beginning) are served and learned, and not scored.
    ``calendar`` holds announced events, each known from its ``announced_at`` on.
    """

    trace: RequestTrace
    settings: Settings
    pool: PoolSettings
    catalog: Catalog
    start_up: StartUp
    world: World | None = None
    score_from_seconds: float = 0.0
    seed: int = 0
    calendar: tuple[CalendarRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """What a policy comes to with its knob at ``value``."""

    policy: str
    knob: str
    value: float
    replica_hours: float
    slo_attainment: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results in the order of the policies; ``runs`` by policy, for charts. ``oracle_margin`` None: not run.

    ``preloads`` are what was loaded before announced events, ``saved`` what loading ahead came to beside the same rule
    without it, ``spot`` what may be on spot capacity in a world that interrupts it.
    """

    question: Question
    setup: Setup
    results: tuple[PolicyResult, ...]
    runs: dict[str, Run]
    oracle_margin: float | None
    frontier: tuple[FrontierPoint, ...] = ()
    preloads: tuple[Preload, ...] = ()
    saved: tuple[Saved, ...] = ()
    spot: SpotAdvice | None = None

    @property
    def verdict(self) -> str:
        """What the results say, in a sentence or two."""
        return verdict(self.results)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints (schemas/evaluation.v1.schema.json)."""
        question, setup = self.question, self.setup
        requests = setup.requests
        told: dict[str, Any] = {
            "schema": "tokentide.evaluation.v1",
            "trace": {
                "name": question.trace.name,
                "requests": len(requests),
                "seconds": setup.end_seconds,
                "input_tokens_mean": float(requests.input_tokens.mean()),
                "output_tokens_mean": float(requests.output_tokens.mean()),
                "drawn": question.trace.drawn,
            },
            "pool": {
                "model": question.pool.model,
                "pool": question.pool.pool,
                "ttft_seconds": question.pool.ttft_seconds,
                "tpot_seconds": question.pool.tpot_seconds,
                "slo_percentile": question.pool.slo_percentile,
                "min_replicas": question.pool.min_replicas,
                "max_replicas": question.pool.max_replicas,
                "lead_time_seconds": question.pool.lead_time_seconds,
            },
            "start_up_seconds": question.start_up.total_seconds,
            "start_up": asdict(question.start_up),
            "score_from_seconds": question.score_from_seconds,
            "seed": question.seed,
            "world": None if question.world is None else asdict(question.world),
            "load_test": asdict(setup.load_test),
            "oracle_margin": self.oracle_margin,
            "verdict": self.verdict,
            "policies": [asdict(result) for result in self.results],
            "frontier": [asdict(point) for point in self.frontier],
        }
        if self.preloads or self.saved:
            told["preloading"] = preloading_dict(self.preloads, self.saved)
        if self.spot is not None:
            told["spot"] = self.spot.to_dict()
        return told


def evaluate(
    question: Question, specs: Sequence[PolicySpec], *, frontier: bool = False, progress: Progress | None = None
) -> Evaluation:
    """Run the policies one after the other; the same question gives the same evaluation.

    ``frontier``: each policy is run at every value of its knob, too.

    Raises:
        InputError: the trace ends before anything is scored.
        SizingError: the pool cannot be sized.
    """
    setup = make_setup(
        question.trace,
        question.settings,
        question.pool,
        question.catalog,
        start_up=question.start_up,
        world=question.world,
        seed=question.seed,
    )
    setup = replace(setup, calendar=question.calendar)

    if question.score_from_seconds >= max(setup.end_seconds, 1.0):
        raise InputError(
            f"{question.trace.name} ends after {setup.end_seconds:,.0f} s, before anything is scored (--score-from "
            f"{question.score_from_seconds:,.0f} s)"
        )

    def served(spec: PolicySpec, policy: Policy) -> Run:
        told = None if progress is None else _named(progress, spec.name)
        return run_policy(setup, policy, world=question.world, seed=question.seed, progress=told)

    def run(spec: PolicySpec, value: float | None) -> Run:
        return served(spec, spec.policy(setup, value))

    def judged(spec: PolicySpec, found: Run) -> PolicyResult:
        return policy_result(spec.name, found, setup, score_from_seconds=question.score_from_seconds)

    runs: dict[str, Run] = {}
    margin = None
    if any(spec.name == ORACLE.name for spec in specs):
        margin, runs[ORACLE.name] = _least_margin(
            lambda value: run(ORACLE, value), lambda r: judged(ORACLE, r), question.pool.slo_percentile
        )
    preloads: list[Preload] = []
    for spec in specs:
        if spec.name not in runs:
            policy = spec.policy(setup)
            runs[spec.name] = served(spec, policy)
            preloads += policy.plans if isinstance(policy, Preloading) else ()
    start = question.score_from_seconds
    needed = None if margin is None else needed_replicas(setup, margin)
    cost = None if needed is None else decision_cost_hours(runs[ORACLE.name], setup, needed, start)
    results = tuple(
        policy_result(
            spec.name, runs[spec.name], setup, score_from_seconds=start, oracle_cost_hours=cost, needed=needed
        )
        for spec in specs
    )
    points = []
    for spec in specs if frontier else ():
        for value in spec.knob.values:
            found = judged(spec, run(spec, value))
            points.append(FrontierPoint(spec.name, spec.knob.name, value, found.replica_hours, found.slo_attainment))
    world = question.world
    spot = spot_advice(setup, world) if world is not None and world.spot_interrupt else None
    compared = saved(specs, results, runs, setup, start)
    return Evaluation(question, setup, results, runs, margin, tuple(points), tuple(preloads), compared, spot)


def _least_margin(
    run: Callable[[float], Run], judged: Callable[[Run], PolicyResult], attainment: float
) -> tuple[float, Run]:
    """Return the oracle's least margin with that attainment (by bisection), or the greatest one, and its run."""
    values = ORACLE.knob.values
    low, high = 0, len(values) - 1
    found: dict[int, Run] = {}
    while low < high:
        middle = (low + high) // 2
        found[middle] = run(values[middle])
        if (judged(found[middle]).slo_attainment or 0.0) >= attainment:
            high = middle
        else:
            low = middle + 1
    return values[high], found[high] if high in found else run(values[high])


def _named(progress: Progress, name: str) -> Callable[[float], None]:
    return lambda share: progress(name, share)
