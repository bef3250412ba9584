"""What would change the number of replicas that a pool needs, one setting at a time, for every recommendation.

The changes are those of the tables of ``size --explain``: precisions, objectives, prefix cache, limits of the batch and
tensor parallelism. Each is an operating point of its own, which is too much work for every decision on every pool. What
is remembered of a change is therefore what one replica carries with it over what it carries without it. These ratios
move far more slowly than demand does, and the needs of the newest plan are divided by them. A ratio is worked out again
once what it depends on has moved by ``TOLERANCE``, one change at a time and at most every ``EVERY_DECISIONS``; beyond
``FAR`` it is not told until it has been.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import sub
from typing import Any, NamedTuple

from sizing.errors import SizingError
from sizing.planning.demand_needs import whole
from sizing.planning.operating_point import OperatingPoint, solve_replica
from sizing.planning.plan import Plan, Planner, within
from sizing.planning.serving import apart_points
from sizing.planning.workload_grid import on_grid, rounded
from sizing.replica.replica_model import ReplicaModel
from sizing.scaling.recommendation import PLANNED_STATES, Advice, observed_need
from sizing.scaling.setting_changes import CHANGES, Case
from sizing.types import Constraint, Counterfactual, Demand, PolicyConfig, Workload

__all__ = ["EVERY_DECISIONS", "FAR", "TOLERANCE", "Counterfactuals"]

#: How far (log ratio; share for the prefix cache) the load or what one replica carries may move before a change is
#: worked out again, and from where on what is remembered is not told any more.
TOLERANCE, FAR = 0.05, 0.25
#: At most one change is worked out again in so many decisions.
EVERY_DECISIONS = 20
_SETTINGS = tuple(CHANGES)


@dataclass(frozen=True, slots=True)
class _Solved:
    """What a change was found to do: capacity with it over capacity without it, for rates and for resident tokens.

    ``rate_ratio`` None: it does not fit (``fits``), or misses the objective at any load. ``gpus`` are those of one
    replica with it. ``at`` and ``constraint`` are what it depended on.
    """

    value: str
    label: str
    caveat: str | None
    gpus: int
    fits: bool
    rate_ratio: float | None
    kv_ratio: float
    at: tuple[float, ...]
    constraint: Constraint

    def replicas(self, by_rates: float, by_memory: float) -> int | None:
        """Return the whole replicas with the change, given those without it; None: it does not meet the objective."""
        if self.rate_ratio is None:
            return None
        return whole(max(by_rates / self.rate_ratio, by_memory / self.kv_ratio))


@dataclass(frozen=True, slots=True)
class _SolvedApart(_Solved):
    """With prefill and decode apart: ``rate_ratio`` and ``kv_ratio`` are of a decode replica, each kind is whole."""

    prefill_ratio: float

    def replicas(self, by_rates: float, by_memory: float) -> int | None:
        decode = _Solved.replicas(self, by_rates, by_memory)
        return None if decode is None else decode + whole(by_rates / self.prefill_ratio)


class _Said(NamedTuple):
    """What was told last of a change, and the numbers that it follows from."""

    of: _Solved
    replicas: int | None
    before: int | None
    words: Counterfactual


class Counterfactuals:
    """The counterfactuals of one pool; ``of`` once per decision. Pickles, and continues identically afterwards."""

    def __init__(self, planner: Planner | None, policy: PolicyConfig) -> None:
        self._planner = planner
        self._policy = policy
        # By setting; None: there is nothing to change. What has not been looked at is left out.
        self._solved: dict[str, _Solved | None] = {}
        self._next = 0
        self._wait = 0
        # What was told last, by setting, and of which numbers: they seldom change from one decision to the next.
        self._said: dict[str, _Said] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What was told last is worked out again."""
        return self.__dict__ | {"_said": {}}

    def of(self, demand: Demand | None, advice: Advice) -> tuple[Counterfactual, ...]:
        """Return what would change the need behind ``advice`` on ``demand``; nothing on advice that is held."""
        plan = advice.plan
        if self._planner is None or demand is None or plan is None or advice.state not in PLANNED_STATES:
            return ()
        at = _depends_on(demand.workload, plan.operating_point)
        moved = {name: _moved(solved, at) for name, solved in self._solved.items() if solved is not None}
        self._work_out(self._planner, demand, plan.operating_point, at, moved)
        gpus = self._planner.resolved.deployment.gpus
        by_rates, by_memory = _needs(demand, plan)
        needed = whole(max(by_rates, by_memory))
        told = self._limits(needed, gpus)
        before = max(needed, self._policy.min_replicas) if plan.operating_point.feasible else None
        for name, solved in self._solved.items():
            if solved is None or moved[name] > FAR:
                continue
            replicas = solved.replicas(by_rates, by_memory)
            told.append(self._tell(name, solved, replicas, before, gpus))
        return tuple(told)

    def _tell(self, name: str, solved: _Solved, replicas: int | None, before: int | None, gpus: int) -> Counterfactual:
        said = self._said.get(name)
        if said is not None and said.of is solved and said.replicas == replicas and said.before == before:
            return said.words
        if replicas is None:
            text = f"{solved.label}: {'does not meet the objective' if solved.fits else 'does not fit'}"
            told = Counterfactual(name, solved.value, None, None, None, text, solved.caveat)
        else:
            told = _told(name, solved, replicas, max(replicas, self._policy.min_replicas), before, gpus)
        self._said[name] = _Said(solved, replicas, before, told)
        return told

    def _work_out(
        self,
        planner: Planner,
        demand: Demand,
        point: OperatingPoint,
        at: tuple[float, ...],
        moved: dict[str, float],
    ) -> None:
        """Work out one change that is not known well enough any more, if it is time to.

        ``moved`` is how far what each known change depends on has moved.
        """
        self._wait = max(self._wait - 1, 0)
        for i in range(len(_SETTINGS)):
            number = (self._next + i) % len(_SETTINGS)
            name = _SETTINGS[number]
            if name in self._solved:
                solved = self._solved[name]
                far = moved.get(name, 0.0)
                # Whether there is a change to try follows from the settings, but for the share that is cached already.
                stale = name == "cached_share" if solved is None else far > TOLERANCE
                stale = stale or (solved is not None and solved.constraint is not point.constraint)
                if far <= FAR and (self._wait or not stale):
                    continue
            found = self._solved[name] = _solve(name, planner, demand, point, at)
            if found is not None:
                moved[name] = 0.0
            self._next, self._wait = number + 1, EVERY_DECISIONS
            return

    def _limits(self, needed: int, gpus: int) -> list[Counterfactual]:
        """What the policy's own limits change."""
        clamped = within(needed, self._policy)
        if needed == clamped:
            return []
        name, difference = "max_replicas" if needed > clamped else "min_replicas", needed - clamped
        words = f"{name} {needed}: {_count(difference)}"
        return [Counterfactual(name, str(needed), needed, difference, difference * gpus, words)]


def _told(name: str, solved: _Solved, replicas: int, after: int, before: int | None, gpus: int) -> Counterfactual:
    """Say a change that meets the objective. ``before`` None: what is needed now is for a relaxed objective, and no
    difference from it can be told.
    """
    if before is None:
        words = f"{solved.label}: the objective can be met, with {after}"
        return Counterfactual(name, solved.value, replicas, None, None, words, solved.caveat)
    more_gpus = after * solved.gpus - before * gpus
    words = f"{solved.label}: {_count(after - before)}"
    if solved.gpus != gpus:
        words += f", {_count(more_gpus, 'GPU')}"
    return Counterfactual(name, solved.value, replicas, after - before, more_gpus, words, solved.caveat)


def _needs(demand: Demand, plan: Plan) -> tuple[float, float]:
    """Return the replicas that rates need, by the plan and by the newest window, and those that resident tokens do."""
    rate = demand.observed_requests_per_second
    by_rates = 0.0 if rate is None else observed_need(rate, plan).exact
    by_memory = 0.0
    for need in plan.needs:
        if need.currency == "kv_tokens":
            by_memory = need.exact
        else:
            by_rates = max(by_rates, need.exact)
    return by_rates, by_memory


def _depends_on(workload: Workload, point: OperatingPoint) -> tuple[float, ...]:
    """What ratios depend on, such that differences are compared with ``TOLERANCE``."""
    numbers = (point.requests_per_second, point.kv_capacity_tokens, workload.input_tokens, workload.output_tokens)
    return (*(math.log(max(number, 1e-9)) for number in numbers), workload.cached_share)


def _moved(solved: _Solved, at: tuple[float, ...]) -> float:
    """How far what a change depends on has moved since it was worked out."""
    furthest: float = max(map(abs, map(sub, at, solved.at)))
    return furthest


def _solve(name: str, planner: Planner, demand: Demand, point: OperatingPoint, at: tuple[float, ...]) -> _Solved | None:
    """Work out one change, with the corrections of step times and TTFT that hold for the deployment as it is."""
    case = CHANGES[name](Case(planner.resolved, rounded(demand.workload), planner.slo))
    if case is None:
        return None
    fits, rate, kv, prefill = True, None, 1.0, None
    try:
        _, known = planner.known(demand.workload, demand.dispersion)
        dispersion = on_grid(demand.dispersion, 10)
        if case.apart is not None:
            parts = apart_points(case.resolved, case.workload, case.slo, case.apart, known, dispersion=dispersion)
            changed = parts.decode
            if parts.prefill.feasible:
                prefill = parts.prefill.requests_per_second / point.requests_per_second
        else:
            replica = ReplicaModel(case.resolved, case.workload, dispersion=dispersion, coefficients=known.coefficients)
            near = point.batch / planner.resolved.lanes
            changed = solve_replica(replica, case.slo, ttft_ratio=known.ttft_ratio, near_lane_batch=near)
    except SizingError:
        fits = False
    else:
        met = changed.feasible and (case.apart is None or prefill is not None)
        rate = changed.requests_per_second / point.requests_per_second if met else None
        kv = changed.kv_capacity_tokens / point.kv_capacity_tokens
    gpus = case.resolved.deployment.gpus
    found = (case.value, case.label, case.caveat, gpus, fits, rate, kv, at, point.constraint)
    return _Solved(*found) if prefill is None else _SolvedApart(*found, prefill)


def _count(difference: int, noun: str = "") -> str:
    """Say a difference.

    >>> _count(-2), _count(1, "GPU"), _count(3, "GPU"), _count(0)
    ('2 fewer', '1 GPU more', '3 GPUs more', 'nothing')
    """
    if not difference:
        return "no more GPUs" if noun else "nothing"
    noun = f" {noun}{'' if abs(difference) == 1 else 's'}" if noun else ""
    return f"{abs(difference)}{noun} {'more' if difference > 0 else 'fewer'}"
