"""The controller: turns plans into safe advice for one pool, one decision at a time.

Up at once; down only after a consistently lower need, by a limited step, and never on missing or young data. It holds
what it needs to know between decisions, can be pickled, and reads no clock: same inputs, same advice.
"""

from __future__ import annotations

import math

from sizing.calibration.measurement import ObservedLoad
from sizing.catalog import Catalog
from sizing.errors import DoesNotFit, SizingError
from sizing.planning.confidence import deployment_confidence
from sizing.planning.demand_needs import Need, demand_quantile, replicas_text, whole
from sizing.planning.plan import Plan, Planner, check_policy, observed_only
from sizing.replica.step_time import StepCoefficients
from sizing.scaling.counterfactuals import Counterfactuals
from sizing.scaling.live_queue import ClearingCost, LiveQueue
from sizing.scaling.load_learner import LoadLearner
from sizing.scaling.manual_change import ManualChange
from sizing.scaling.recommendation import Advice, RecommendationBuilder, explain, moved, observed_need, widened
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
#: Before forecasts can be trusted, and where no rule says what to provision for, demand is taken to grow so much.
_COLD_GROWTH = 1.2
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
        self._manual = ManualChange(policy.scale_down_stabilisation_seconds)
        cost = ClearingCost(policy.under_to_over_cost, policy.scale_down_stabilisation_seconds)
        self._queue = LiveQueue(self._planner, slo.ttft_seconds, cost)

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
        self._busy = self._queue.busy_with(now, situation.queued_requests, serving)
        sound = warm and demand is not None and situation.whole and not (gap or situation.problems)
        if self._manual.learn(now, current, believed=sound):
            self._desired = current
            self._stable.forget()
        span = situation.span(now)
        advice = self._advise(span, demand, current, gap=gap, warm=warm, situation=situation)
        advice = self._with_manual_change(advice)
        advice = self._with_queue(advice, demand, current, situation)
        advice = widened(advice, situation.interval_ratio, self.policy)
        if gap or demand is None or advice.state is not RecommendationState.FRESH:
            self._stable.forget()
        if self._desired is not None and advice.desired > self._desired:
            self._stable.raised(span.until)
        before = current if current is not None else self._desired
        self._desired = advice.desired
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

    def _with_manual_change(self, advice: Advice) -> Advice:
        """Leave a fleet alone that was set by hand a moment ago."""
        by_hand = self._manual.replicas
        if by_hand is None or advice.state is not RecommendationState.FRESH:
            return advice
        desired = max(by_hand, self.policy.min_replicas)
        if desired == advice.desired or (self._manual.raised and advice.desired > desired):
            return advice
        text = f"{advice.message}; set to {by_hand} by hand: left alone for the stabilisation period"
        return moved(advice, desired, Reason.MANUAL_CHANGE, text)

    def _with_queue(self, advice: Advice, demand: Demand | None, current: int | None, situation: Situation) -> Advice:
        """Go up at once, whatever the state of the other inputs, when requests wait that what serves will not hold."""
        fleet, rate = situation.fleet(current, self.policy.lead_time_seconds), situation.arrivals_per_second(demand)
        needed = self._queue.need(situation.queued_requests, fleet, rate, advice.plan, demand)
        target, clamped = (0, ()) if fleet is None or needed is None else self._limit(needed)
        if target <= advice.desired:
            return advice
        text = f"{situation.queued_requests:,} requests wait for {fleet}; advising {target}"
        return moved(advice, target, Reason.QUEUE_UP, text, clamped)._replace(refused=False)

    def _advise(
        self, span: Span, demand: Demand | None, current: int | None, *, gap: bool, warm: bool, situation: Situation
    ) -> Advice:
        if self._planner is None:
            text = f"cannot size {self.model}: {self._no_profile}"
            return self._hold(current, Reason.NO_PROFILE, RecommendationState.HOLD, text, refused=True)
        if gap:
            text = "telemetry is missing: not scaling down"
            held = self._hold(current, Reason.TELEMETRY_GAP, RecommendationState.DEGRADED, text)
            return self._at_least(held, None if demand is None else observed_only(demand), Reason.OBSERVED_UP)
        if situation.problems:
            text = f"the inputs cannot be believed ({'; '.join(situation.problems)})"
            held = self._hold(current, Reason.INPUT_UNHEALTHY, RecommendationState.DEGRADED, text)
            return self._at_least(held, None if demand is None else observed_only(demand), Reason.OBSERVED_UP)
        if not situation.whole:
            if warm:
                return self._hold(current, Reason.TELEMETRY_GAP, RecommendationState.DEGRADED, _NOT_WHOLE)
            held = self._hold(current, Reason.COLD_START, RecommendationState.COLD_START, _NOT_WHOLE)
            # What rules provision for by a window that was seen in part is too little, if anything.
            seen = None if demand is None or demand.provision is None else observed_only(demand, _COLD_GROWTH)
            return self._at_least(held, seen, Reason.COLD_START)
        if demand is None:
            if not warm:
                return self._hold(current, Reason.COLD_START, RecommendationState.COLD_START, "no forecast yet")
            return self._hold(current, Reason.TELEMETRY_GAP, RecommendationState.HOLD, "no demand forecast")
        try:
            plan = self._planner.plan(demand if warm else observed_only(demand, _COLD_GROWTH), self.policy)
            observed = self._observed_need(demand, plan)
            down_need = self._down_need(demand, plan)
        except DoesNotFit as error:
            return self._hold(current, Reason.SLO_INFEASIBLE, RecommendationState.HOLD, str(error), refused=True)
        except SizingError as error:
            why = f"the demand cannot be used: {error}"
            return self._hold(current, Reason.TELEMETRY_GAP, RecommendationState.DEGRADED, why)
        if not warm:
            return self._cold(current, plan, None if demand.provision is None else demand.provision.weights[0][0])
        return self._follow(span, current, plan, observed, down_need)

    def _at_least(self, advice: Advice, demand: Demand | None, reason: Reason) -> Advice:
        """Raise held advice to what has been seen, where that is known: whatever is missing comes on top of it."""
        if self._planner is None or demand is None or demand.observed_requests_per_second is None:
            return advice
        try:
            plan = self._planner.plan(demand, self.policy)
        except SizingError:
            return advice
        target, clamped = self._limit(plan.unclamped)
        if target <= advice.desired:
            return advice
        text = f"{advice.message}, but what was counted needs {replicas_text(plan.unclamped)}; advising {target}"
        return moved(advice, target, reason, text, clamped)._replace(plan=plan)

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

    def _cold(self, current: int | None, plan: Plan, rule: str | None) -> Advice:
        reference = self._reference(current)
        base = self.policy.min_replicas if reference is None else reference
        target, clamped = self._limit(max(plan.unclamped, base))
        # Limits bound what is added; they never take away what runs while nothing is known yet.
        desired = max(target, base)
        rate, capacity = (need := plan.decisive).figures()
        basis = f"{_COLD_GROWTH:g} times what was observed" if rule is None else f"mostly by the rule {rule}"
        text = f"cold start: {rate} {need.unit} needs {replicas_text(plan.unclamped)} ({capacity} {need.unit} each), "
        text += f"{basis}; advising {replicas_text(desired)}"
        return Advice(
            desired,
            min(plan.lower, desired),
            max(plan.upper, desired),
            Reason.COLD_START,
            RecommendationState.COLD_START,
            text,
            plan.constraint,
            clamped,
            plan,
        )

    def _follow(self, span: Span, current: int | None, plan: Plan, observed: Need | None, down_need: float) -> Advice:
        by_observed = observed is not None and observed.replicas > plan.unclamped
        wanted = observed.replicas if observed is not None and by_observed else plan.unclamped
        target, clamped = self._limit(wanted)
        reference = self._reference(current)
        up_reason = Reason.OBSERVED_UP if by_observed else Reason.FORECAST_UP
        plain, guarded = (self._limit(max(wanted, whole(down_need * by + self._busy)))[0] for by in (1.0, _DOWN_MARGIN))
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
        running = reference if current is None else current
        # What is surely needed may be had in one step, from nothing too; the cap is for what is only feared.
        cap = math.ceil(max(running, surely, 1) * self.policy.max_step_up_ratio)
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

    def _observed_need(self, demand: Demand, plan: Plan) -> Need | None:
        rate = demand.observed_requests_per_second
        # The quantile of one value: refuses what cannot be.
        return None if rate is None else observed_need(demand_quantile((0.5,), (rate,), 0.5), plan)

    def _down_need(self, demand: Demand, plan: Plan) -> float:
        """Return the replicas that must remain after a scale-down: N/(N-1) of today's load must fit them too."""
        assert self._planner is not None
        if demand.provision is not None:
            return plan.decisive.exact
        level = max(_DOWN_LEVEL, self.policy.demand_quantile)
        return max(self._planner.needs(demand, level, plan.operating_point).values())

    def _limit(self, wanted: int) -> tuple[int, tuple[str, ...]]:
        if wanted > self.policy.max_replicas:
            return self.policy.max_replicas, ("max_replicas",)
        if wanted < self.policy.min_replicas:
            return self.policy.min_replicas, ("min_replicas",)
        return wanted, ()
