"""The controller: turns plans into safe advice for one pool.

Up at once; down only after a consistently lower need, by a limited step, and never on missing or young data. It holds
what it needs to know between decisions, can be pickled, and reads no clock: same inputs, same advice.
"""

from __future__ import annotations

import math

from sizing.calibration.measurement import ObservedLoad
from sizing.catalog import Catalog
from sizing.errors import DoesNotFit, SizingError
from sizing.planning.confidence import deployment_confidence
from sizing.planning.demand_needs import Need, replicas_text, whole
from sizing.planning.plan import Plan, Planner, check_policy, observed_only
from sizing.replica.step_time import StepCoefficients
from sizing.scaling.cold_start import COLD_GROWTH, cold_advice
from sizing.scaling.counterfactuals import Counterfactuals
from sizing.scaling.limits import limited, step_cap
from sizing.scaling.live_queue import ClearingCost, LiveQueue
from sizing.scaling.load_learner import LoadLearner
from sizing.scaling.manual_change import ManualChange, left_alone
from sizing.scaling.raises import Newer, Saturated, raised_between, raised_by_queue, raised_to_seen
from sizing.scaling.recommendation import Advice, RecommendationBuilder, explain, observed_in, widened
from sizing.scaling.situation import NOTHING_SPECIAL, Situation
from sizing.scaling.stabilisation import Span, Stabilisation
from sizing.types import (
    Confidence,
    Constraint,
    Demand,
    Deployment,
    PolicyConfig,
    Reason,
    Recommendation,
    RecommendationState,
    Slo,
)

__all__ = ["ReplicaController"]

#: Moves up (down) within the plan's interval that are smaller than this share of the fleet are not worth a change.
_SMALL_UP = 0.05
_SMALL_DOWN = 0.10
#: Demand level that what remains after a scale-down must carry, whatever the policy's own quantile.
_DOWN_LEVEL = 0.9
#: What remains must carry this much more before anything is taken away, so that a need near a whole number of replicas
#: does not swing (the Kubernetes HPA's default tolerance is 10 %, too). It decides whether to go down, not how far.
_DOWN_MARGIN = 1.1
#: The share of the stabilisation period from a step down that was cut to the next: two windows of five, by default.
_NEXT_STEP_SHARE = 0.3
#: Operating points that are kept: workloads drift slowly over the grid, and every pool keeps its own.
_REMEMBERED_POINTS = 8
_NOT_WHOLE = "the newest window was not seen whole"


class ReplicaController:
    """Advice for one pool: call ``decide`` once per step, in event-time order.

    A deployment that is invalid or not in the catalogue does not raise: its advice is to hold, with reason
    ``no_profile``. ``initial_replicas`` stands for the advice before the first one, where the fleet does not report.

    Raises:
        InvalidInput: the policy's limits are invalid.
    """

    def __init__(
        self,
        model: str,
        pool: str,
        deployment: Deployment,
        slo: Slo,
        policy: PolicyConfig,
        config_hash: str,
        accelerator_label: str | None = None,
        *,
        catalog: Catalog | None = None,
        coefficients: StepCoefficients | None = None,
        initial_replicas: int | None = None,
    ) -> None:
        check_policy(policy)
        self.model = model
        self.pool = pool
        self.deployment = deployment
        self.slo = slo
        self.policy = policy
        self._planner: Planner | None = None
        self._learner: LoadLearner | None = None
        self._no_profile = ""
        self._confidence = Confidence.EXTRAPOLATED
        try:
            self._planner = Planner(
                deployment, slo, catalog=catalog, coefficients=coefficients, max_entries=_REMEMBERED_POINTS
            )
        except SizingError as error:
            self._no_profile = str(error)
        else:
            self._learner = LoadLearner(self._planner, coefficients)
            self._confidence = deployment_confidence(self._planner.resolved, self._learner.learned_prior)
        label = accelerator_label or deployment.gpu
        self._writer = RecommendationBuilder(model, pool, deployment, slo, policy, config_hash, label, self._confidence)
        self._counterfactuals = Counterfactuals(self._planner, policy)
        self._desired = initial_replicas
        # Advice never falls below the largest need of the period, nor at all while that with the margin is not lower.
        self._stable = Stabilisation(policy.scale_down_stabilisation_seconds)
        self._busy = 0.0  # replicas that work off a queue
        # The last advice, without its plan, and the replicas that ran at the last decision: what revisions start from.
        self._last: Advice | None = None
        self._ran: int | None = None
        self._manual = ManualChange(policy.scale_down_stabilisation_seconds)
        cost = ClearingCost(policy.under_to_over_cost, policy.scale_down_stabilisation_seconds)
        #: What requests that wait need.
        self.queue = LiveQueue(self._planner, slo.ttft_seconds, cost)

    @property
    def planner(self) -> Planner | None:
        """The planner behind the advice; None when the deployment could not be understood."""
        return self._planner

    def observe(self, load: ObservedLoad) -> bool:
        """Learn what one window of telemetry says about a replica; return whether it taught anything.

        After enough loads, plans are made with what was learned. Impossible loads teach nothing.
        """
        return self._learner is not None and self._learner.learn(load)

    def decide(
        self,
        now: float,
        demand: Demand | None,
        current: int | None,
        *,
        gap: bool,
        warm: bool,
        situation: Situation = NOTHING_SPECIAL,
    ) -> Recommendation:
        """Return advice at ``now`` (epoch seconds of event time).

        Args:
            now: end of the newest window.
            demand: what the forecast says at the lead time; None when there is no forecast.
            current: replicas as the fleet reports them; None when unknown.
            gap: telemetry is missing; nothing goes down, ``demand`` is what the fleet itself counts and may only raise.
            warm: the forecaster has seen enough to be trusted; before that only observed demand raises the advice.
            situation: how far the inputs can be believed, and what is live in the fleet.

        Never raises for odd demand: it holds, and says why.
        """
        current = None if current is None else max(int(current), 0)
        serving = situation.fleet(current, self.policy.lead_time_seconds)
        self._busy = self.queue.busy_with(now, situation.queued_requests, serving)
        sound = warm and demand is not None and situation.whole and not (gap or situation.problems)
        if self._manual.learn(now, current, believed=sound):
            self._desired = current
            self._stable.forget()
        span = situation.span(now)
        advice = self._advise(span, demand, current, gap=gap, warm=warm, situation=situation)
        advice = left_alone(advice, self._manual, self.policy)
        advice = self._with_queue(advice, demand, current, situation)
        advice = widened(advice, situation.interval_ratio, self.policy)
        if gap or demand is None or advice.state is not RecommendationState.FRESH:
            self._stable.forget()
        self._ran = advice.desired if current is None else current
        return self._tell(now, demand, current, advice, situation, span.until)

    def revise(
        self,
        now: float,
        demand: Demand | None,
        current: int | None,
        *,
        situation: Situation,
        counted: bool = False,
        saturated: Saturated | None = None,
    ) -> Recommendation | None:
        """Return advice at ``now`` (epoch seconds), between two decisions, if it is more than the last; None: it stays.

        While it stays nothing changes here, nor is anything learned: what is counted since is part of the next window.
        ``demand`` and ``situation`` are those of the last decision with what is live in the fleet now, ``current`` the
        replicas as it reports them; ``counted`` and ``saturated`` are as in ``sizing.scaling.raises.Newer``.
        """
        last = self._last
        if last is None:
            last = self._hold(current, Reason.COLD_START, RecommendationState.COLD_START, "no window has closed yet")
        if last.refused or self._planner is None or self._manual.under_way(now, current):
            return None
        fleet, rate = situation.fleet(current, self.policy.lead_time_seconds), situation.arrivals_per_second(demand)
        queued, needed = situation.queued_requests, None
        if rate is not None:  # else each replica that starts would raise what a gauge that is stuck needs
            needed = self.queue.needed_now(queued, fleet, rate)
        full = saturated if self._last is None else None  # a queue grows until what was ordered serves
        newer = Newer(demand, counted, self._ran, needed, queued, fleet, full)
        advice = raised_between(last, newer, self._planner, self.policy)
        if advice is None:
            return None
        advice = widened(advice, situation.interval_ratio, self.policy)
        return self._tell(now, demand, current, advice, situation, now + situation.known_after_seconds)

    def _tell(
        self,
        now: float,
        demand: Demand | None,
        current: int | None,
        advice: Advice,
        situation: Situation,
        until: float,
    ) -> Recommendation:
        """Write advice down and remember it; ``until`` is up to when what it follows from is known."""
        if self._desired is not None and advice.desired > self._desired:
            self._stable.raised(until)
        before = current if current is not None else self._desired
        self._desired, self._last = advice.desired, advice._replace(plan=None)
        self._manual.told(now, advice.desired)
        self._writer.confidence = self._confidence if advice.plan is None else advice.plan.confidence
        evidence = ({} if self._learner is None else self._learner.evidence()) | dict(situation.evidence)
        changes = self._counterfactuals.of(demand, advice)
        return self._writer.write(now, demand, current, before, advice, changes, evidence)

    def _reference(self, current: int | None) -> int | None:
        """What runs or has been asked for already, whichever is more: pending replicas count."""
        return max((value for value in (current, self._desired) if value is not None), default=None)

    def knows_replicas(self, current: int | None) -> bool:
        """Whether anything is known about the replicas that run, so that there is something to hold."""
        return self._reference(current) is not None

    def _with_queue(self, advice: Advice, demand: Demand | None, current: int | None, situation: Situation) -> Advice:
        """Go up at once, whatever the state of the other inputs, when requests wait that what serves will not hold."""
        fleet, rate = situation.fleet(current, self.policy.lead_time_seconds), situation.arrivals_per_second(demand)
        needed = self.queue.need(situation.queued_requests, fleet, rate, advice.plan, demand)
        return raised_by_queue(advice, needed, situation.queued_requests, fleet, self.policy)

    def _advise(
        self, span: Span, demand: Demand | None, current: int | None, *, gap: bool, warm: bool, situation: Situation
    ) -> Advice:
        if self._planner is None:
            text = f"cannot size {self.model}: {self._no_profile}"
            return self._hold(current, Reason.NO_PROFILE, RecommendationState.HOLD, text, refused=True)
        seen = None if demand is None else observed_only(demand)
        if gap:
            text = "telemetry is missing: not scaling down"
            held = self._hold(current, Reason.TELEMETRY_GAP, RecommendationState.DEGRADED, text)
            return raised_to_seen(held, seen, Reason.OBSERVED_UP, self._planner, self.policy)
        if situation.problems:
            text = f"the inputs cannot be believed ({'; '.join(situation.problems)})"
            held = self._hold(current, Reason.INPUT_UNHEALTHY, RecommendationState.DEGRADED, text)
            return raised_to_seen(held, seen, Reason.OBSERVED_UP, self._planner, self.policy)
        if not situation.whole:
            if warm:
                return self._hold(current, Reason.TELEMETRY_GAP, RecommendationState.DEGRADED, _NOT_WHOLE)
            held = self._hold(current, Reason.COLD_START, RecommendationState.COLD_START, _NOT_WHOLE)
            # What rules provision for by a window that was seen in part is too little, if anything.
            part = None if demand is None or demand.provision is None else observed_only(demand, COLD_GROWTH)
            return raised_to_seen(held, part, Reason.COLD_START, self._planner, self.policy)
        if demand is None:
            if not warm:
                return self._hold(current, Reason.COLD_START, RecommendationState.COLD_START, "no forecast yet")
            return self._hold(current, Reason.TELEMETRY_GAP, RecommendationState.HOLD, "no demand forecast")
        try:
            plan = self._planner.plan(demand if warm else observed_only(demand, COLD_GROWTH), self.policy)
            observed = observed_in(demand, plan)
            down_need = self._down_need(demand, plan)
        except DoesNotFit as error:
            return self._hold(current, Reason.SLO_INFEASIBLE, RecommendationState.HOLD, str(error), refused=True)
        except SizingError as error:
            why = f"the demand cannot be used: {error}"
            return self._hold(current, Reason.TELEMETRY_GAP, RecommendationState.DEGRADED, why)
        if not warm:
            rule = None if demand.provision is None else demand.provision.weights[0][0]
            return cold_advice(self._reference(current), plan, self.policy, rule)
        return self._follow(span, current, plan, observed, down_need)

    def _hold(
        self,
        current: int | None,
        reason: Reason,
        state: RecommendationState,
        why: str,
        *,
        refused: bool = False,
    ) -> Advice:
        reference = self._reference(current)
        desired = self.policy.min_replicas if reference is None else max(reference, self.policy.min_replicas)
        text = f"{why}; holding {replicas_text(desired)}"
        return Advice(desired, desired, desired, reason, state, text, refused=refused)

    def _follow(self, span: Span, current: int | None, plan: Plan, observed: Need | None, down_need: float) -> Advice:
        by_observed = observed is not None and observed.replicas > plan.unclamped
        wanted = observed.replicas if observed is not None and by_observed else plan.unclamped
        target, clamped = limited(wanted, self.policy)
        reference = self._reference(current)
        up_reason = Reason.OBSERVED_UP if by_observed else Reason.FORECAST_UP
        plain, guarded = (
            limited(max(wanted, whole(down_need * by + self._busy)), self.policy)[0] for by in (1.0, _DOWN_MARGIN)
        )
        self._stable.remember(span, plain, guarded)

        if reference is None:
            desired, reason = target, up_reason
        elif target > reference:
            self._stable.not_lower()
            surely = max(plan.lower, 0 if observed is None else observed.replicas)
            desired, reason, clamped = self._up(target, reference, current, plan, up_reason, clamped, surely)
        elif target < reference:
            desired, reason, clamped = self._down(span, target, reference, current, clamped)
            draining = self._desired is not None and self._desired < reference
            small = not draining and reference - target <= _SMALL_DOWN * reference
            if small and plan.lower <= reference <= plan.upper and reference <= self.policy.max_replicas:
                desired, reason = reference, Reason.WITHIN_BAND
                self._stable.not_lower()
        else:
            self._stable.not_lower()
            desired = target
            reason = up_reason if current is not None and current < target else Reason.WITHIN_BAND
        if reason in (Reason.FORECAST_UP, Reason.WITHIN_BAND, Reason.OBSERVED_UP):
            if wanted > self.policy.max_replicas and desired == self.policy.max_replicas:
                reason = Reason.MAX_REPLICAS
            elif wanted < self.policy.min_replicas and desired == self.policy.min_replicas:
                reason = Reason.MIN_REPLICAS
        if not plan.operating_point.feasible:
            reason = Reason.SLO_INFEASIBLE
        return Advice(
            desired,
            min(plan.lower, desired),
            max(plan.upper, desired),
            reason,
            RecommendationState.FRESH,
            explain(
                plan,
                reason,
                desired,
                current,
                observed if by_observed else None,
                self._stable.lower_for(span),
                self.policy,
            ),
            plan.constraint if plan.operating_point.feasible else Constraint.SLO_INFEASIBLE,
            clamped,
            plan,
        )

    def _up(
        self,
        target: int,
        reference: int,
        current: int | None,
        plan: Plan,
        reason: Reason,
        clamped: tuple[str, ...],
        surely: int,
    ) -> tuple[int, Reason, tuple[str, ...]]:
        small = target - reference <= _SMALL_UP * reference
        if small and reason is Reason.FORECAST_UP and plan.lower <= reference <= plan.upper:
            return reference, Reason.WITHIN_BAND, clamped
        cap = step_cap(reference if current is None else current, surely, self.policy)
        if target > max(cap, reference):
            return max(cap, reference), Reason.STEP_LIMIT, (*clamped, "max_step_up_ratio")
        return target, reason, clamped

    def _down(
        self, span: Span, target: int, reference: int, current: int | None, clamped: tuple[str, ...]
    ) -> tuple[int, Reason, tuple[str, ...]]:
        if current is not None and self._desired is not None and target <= self._desired < current:
            # Advised before and not yet done: keep saying it.
            reference = self._desired
            if target == reference:
                return reference, Reason.FORECAST_DOWN, clamped
        long_enough = self._stable.lower(span)
        lowest, guarded = self._stable.most(target)
        running = current is not None and reference < current
        waiting = (Reason.FORECAST_DOWN if running else Reason.STABILISING, clamped)
        if not long_enough:
            return reference, *waiting
        if guarded >= reference:  # fewer would do, with too little to spare
            return reference, Reason.FORECAST_DOWN if running else Reason.WITHIN_BAND, clamped
        floor = math.ceil(reference * self.policy.max_step_down_ratio) if reference > 1 else 0
        desired = max(lowest, min(floor, reference - 1))
        if desired > lowest:
            self._stable.stepped(span, _NEXT_STEP_SHARE)
            clamped = (*clamped, "max_step_down_ratio")
        return desired, Reason.FORECAST_DOWN, clamped

    def _down_need(self, demand: Demand, plan: Plan) -> float:
        """Return the replicas that must remain after a scale-down: N/(N-1) of today's load must fit them too."""
        assert self._planner is not None
        if demand.provision is not None:
            return plan.decisive.exact
        level = max(_DOWN_LEVEL, self.policy.demand_quantile)
        return max(self._planner.needs(demand, level, plan.operating_point).values())
