"""The controller: turns plans into safe advice for one pool, one decision at a time.

Up at once; down only after a consistently lower need, by a limited step, and never on missing or young data. It holds
what it needs to know between decisions, can be pickled, and reads no clock: same inputs, same advice.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

from sizing.advice import Advice, AdviceWriter, explain, observed_need
from sizing.calibrate import Calibration, Calibrator
from sizing.catalog import Catalog
from sizing.errors import DoesNotFit, SizingError
from sizing.model import (
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
from sizing.need import Need, demand_quantile, replicas_text, whole
from sizing.observed import ObservedLoad, ObservedPoint, point_of_load
from sizing.plan import Plan, Planner, check_policy, observed_only
from sizing.steptime import StepCoefficients

__all__ = ["ReplicaController"]

#: Moves up (down) within the plan's interval that are smaller than this share of the fleet are not worth a change.
_SMALL_UP = 0.05
_SMALL_DOWN = 0.10
#: Demand level that what remains after a scale-down must carry, whatever the policy's own quantile.
_DOWN_LEVEL = 0.9
#: What remains must carry this much more before anything is taken away, so that a need near a whole number of replicas
#: does not swing (the Kubernetes HPA's default tolerance is 10 %, too). It decides whether to go down, not how far.
_DOWN_MARGIN = 1.1
#: Telemetry is believed from this many loads on that differ by this log ratio (llm-d's throughput analyzer: at least
#: 10 samples, spread 0.30), and taken over every so many loads, so that advice does not tremble.
_TRUSTED_LOADS, _TRUSTED_SPREAD, _TAKE_OVER_EVERY = 10, 0.30, 10
#: A load so many standard deviations from what is predicted is believed when it lasts for so many windows: one odd
#: window (a stalled collector, a clock, a unit) must not move a fleet, a real change is learned within minutes.
_ODD_SDS, _ODD_LOADS = 4.0, 5
#: Calibrated advice knows the step time at its operating point within this log standard deviation.
_CALIBRATED_LOG_SD = 0.25


class ReplicaController:
    """Advice for one pool: call ``decide`` once per step, in event-time order.

    A deployment that cannot be understood does not raise: its advice is to hold, with reason ``no_profile``.

    Raises:
        InvalidInput: the policy's limits cannot be.
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
    ) -> None:
        check_policy(policy)
        self.model = model
        self.pool = pool
        self.deployment = deployment
        self.slo = slo
        self.policy = policy
        self._planner: Planner | None = None
        self._learner: Calibrator | None = None
        self._calibration: Calibration | None = None
        self._catalog = catalog
        self._no_profile = ""
        confidence = Confidence.EXTRAPOLATED
        try:
            self._planner = Planner(deployment, slo, catalog=catalog, coefficients=coefficients)
        except SizingError as error:
            self._no_profile = str(error)
        else:
            self._learner = Calibrator(self._planner.resolved, prior=coefficients)
            if not self._planner.resolved.extrapolated:
                confidence = Confidence.INTERPOLATED
        self._confidence = confidence
        label = accelerator_label or deployment.gpu
        self._writer = AdviceWriter(model, pool, deployment, slo, policy, config_hash, label, confidence)
        self._desired: int | None = None
        # (time, need, need with a margin) of the last stabilisation period: advice never falls below the largest need
        # in it, nor at all while the largest one with the margin is not lower than what there is.
        self._needs: deque[tuple[float, int, int]] = deque()
        self._lower_since: float | None = None
        # How many loads in a row were odd in their time per output token, and to first token.
        self._odd_steps = 0
        self._odd_firsts = 0

    @property
    def planner(self) -> Planner | None:
        """The planner behind the advice; None when the deployment could not be understood."""
        return self._planner

    def observe(self, load: ObservedLoad) -> bool:
        """Learn what one window of telemetry says about a replica; return whether it taught anything.

        After enough loads that differ enough, plans are made with what was learned. Impossible loads teach nothing.
        """
        if self._learner is None:
            return False
        try:
            learned = self._calibration.coefficients if self._calibration else self._learner.prior
            point = point_of_load(self._learner.resolved, load, learned)
            if point is None:
                return False
            believed = self._believed(self._learner, point)
            if believed is None:
                return False
            self._learner.update(believed)
        except SizingError:
            return False
        enough = self._learner.updates >= _TRUSTED_LOADS and self._learner.load_spread >= _TRUSTED_SPREAD
        if enough and self._learner.updates % _TAKE_OVER_EVERY == 0:
            self._calibration = self._learner.calibration
            self._planner = Planner(self.deployment, self.slo, catalog=self._catalog, calibration=self._calibration)
        return True

    def _believed(self, learner: Calibrator, point: ObservedPoint) -> ObservedPoint | None:
        """Return what of a point may be learned: nothing, or no time to first token, while these are odd."""
        step, first = learner.surprise(point)
        self._odd_steps = self._odd_steps + 1 if abs(step) > _ODD_SDS else 0
        if 0 < self._odd_steps < _ODD_LOADS:
            return None
        if first is None:
            return point
        self._odd_firsts = self._odd_firsts + 1 if abs(first) > _ODD_SDS else 0
        return replace(point, ttft_seconds=None) if 0 < self._odd_firsts < _ODD_LOADS else point

    def _confidence_of(self, demand: Demand | None, plan: Plan | None) -> Confidence:
        """Say how sure a plan is: calibrated when its operating point is near enough loads that were observed."""
        if self._calibration is None or demand is None or plan is None:
            return self._confidence
        lanes = self._calibration.resolved.lanes
        known = self._calibration.at(demand.workload, plan.operating_point.batch / lanes)
        sure = known.near and known.step_log_sd <= _CALIBRATED_LOG_SD
        return Confidence.CALIBRATED if sure else self._confidence

    def _calibration_evidence(self) -> dict[str, float]:
        if self._learner is None or not self._learner.updates:
            return {}
        evidence = {"calibration_loads": float(self._learner.updates)}
        if self._learner.coverage_ratio is not None:
            evidence["interval_coverage_ratio"] = self._learner.coverage_ratio
        return evidence

    def decide(
        self, now: float, demand: Demand | None, current: int | None, *, gap: bool, warm: bool
    ) -> Recommendation:
        """Return advice at ``now`` (epoch seconds of event time).

        Args:
            now: end of the newest window.
            demand: what the forecast says at the lead time; None when there is no forecast.
            current: replicas as the fleet reports them; None when unknown.
            gap: telemetry is missing; nothing is learned and nothing goes down.
            warm: the forecaster has seen enough to be trusted; before that only observed demand raises the advice.

        Never raises for odd demand: it holds, and says why.
        """
        current = None if current is None else max(int(current), 0)
        advice = self._advise(now, demand, current, gap=gap, warm=warm)
        if gap or demand is None or advice.state is not RecommendationState.FRESH:
            # What happened meanwhile is unknown: a lower need must prove itself anew.
            self._lower_since = None
            self._needs.clear()
        before = current if current is not None else self._desired
        self._desired = advice.desired
        self._writer.confidence = self._confidence_of(demand, advice.plan)
        written = self._writer.write(now, demand, current, before, advice)
        return replace(written, evidence=written.evidence | self._calibration_evidence())

    # -- deciding ---------------------------------------------------------------------------------------------------

    def _reference(self, current: int | None) -> int | None:
        """What runs or has been asked for already, whichever is more: pending replicas count."""
        known = [value for value in (current, self._desired) if value is not None]
        return max(known) if known else None

    def _advise(self, now: float, demand: Demand | None, current: int | None, *, gap: bool, warm: bool) -> Advice:
        if self._planner is None:
            text = f"cannot size {self.model}: {self._no_profile}"
            return self._hold(current, Reason.NO_PROFILE, RecommendationState.HOLD, text, refused=True)
        if gap:
            return self._hold(
                current, Reason.TELEMETRY_GAP, RecommendationState.DEGRADED, "telemetry is missing: not scaling down"
            )
        if demand is None:
            if not warm:
                return self._hold(current, Reason.COLD_START, RecommendationState.COLD_START, "no forecast yet")
            return self._hold(current, Reason.TELEMETRY_GAP, RecommendationState.HOLD, "no demand forecast")
        try:
            plan = self._planner.plan(demand if warm else observed_only(demand), self.policy)
            observed = self._observed_need(demand, plan)
            down_need = self._down_need(demand, plan)
        except DoesNotFit as error:
            return self._hold(current, Reason.SLO_INFEASIBLE, RecommendationState.HOLD, str(error), refused=True)
        except SizingError as error:
            text = f"the demand cannot be used: {error}"
            return self._hold(current, Reason.TELEMETRY_GAP, RecommendationState.DEGRADED, text)
        if not warm:
            return self._cold(current, plan)
        return self._follow(now, current, plan, observed, down_need)

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

    def _cold(self, current: int | None, plan: Plan) -> Advice:
        reference = self._reference(current)
        base = self.policy.min_replicas if reference is None else reference
        target, clamped = self._limit(max(plan.unclamped, base))
        # Limits bound what is added; they never take away what runs while nothing is known yet.
        desired = max(target, base)
        need = plan.decisive
        rate, capacity = need.figures()
        text = f"cold start: observed {rate} {need.unit} needs {replicas_text(plan.unclamped)} "
        text += f"({capacity} {need.unit} each); advising {replicas_text(desired)}"
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

    def _follow(self, now: float, current: int | None, plan: Plan, observed: Need | None, down_need: float) -> Advice:
        by_observed = observed is not None and observed.replicas > plan.unclamped
        wanted = observed.replicas if observed is not None and by_observed else plan.unclamped
        target, clamped = self._limit(wanted)
        reference = self._reference(current)
        up_reason = Reason.OBSERVED_UP if by_observed else Reason.FORECAST_UP
        self._remember(now, wanted, down_need)

        if reference is None:
            desired, reason = target, up_reason
        elif target > reference:
            self._lower_since = None
            desired, reason, clamped = self._up(target, reference, current, plan, up_reason, clamped)
        elif target < reference:
            desired, reason, clamped = self._down(now, target, reference, current, clamped)
            draining = self._desired is not None and self._desired < reference
            small = not draining and reference - target <= _SMALL_DOWN * reference
            if small and plan.lower <= reference <= plan.upper and reference <= self.policy.max_replicas:
                desired, reason, self._lower_since = reference, Reason.WITHIN_BAND, None
        else:
            self._lower_since = None
            desired = target
            reason = up_reason if current is not None and current < target else Reason.WITHIN_BAND
        if reason in (Reason.FORECAST_UP, Reason.WITHIN_BAND, Reason.OBSERVED_UP):
            if wanted > self.policy.max_replicas and desired == self.policy.max_replicas:
                reason = Reason.MAX_REPLICAS
            elif wanted < self.policy.min_replicas and desired == self.policy.min_replicas:
                reason = Reason.MIN_REPLICAS
        if not plan.operating_point.feasible:
            reason = Reason.SLO_INFEASIBLE
        lower_for = 0.0 if self._lower_since is None else now - self._lower_since
        return Advice(
            desired,
            min(plan.lower, desired),
            max(plan.upper, desired),
            reason,
            RecommendationState.FRESH,
            explain(plan, reason, desired, current, observed if by_observed else None, lower_for, self.policy),
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
    ) -> tuple[int, Reason, tuple[str, ...]]:
        small = target - reference <= _SMALL_UP * reference
        if small and reason is Reason.FORECAST_UP and plan.lower <= reference <= plan.upper:
            return reference, Reason.WITHIN_BAND, clamped
        running = reference if current is None else current
        # From nothing, a first step of the same size as from one replica.
        cap = math.ceil(max(running, 1) * self.policy.max_step_up_ratio)
        if target > max(cap, reference):
            return max(cap, reference), Reason.STEP_LIMIT, (*clamped, "max_step_up_ratio")
        return target, reason, clamped

    def _down(
        self, now: float, target: int, reference: int, current: int | None, clamped: tuple[str, ...]
    ) -> tuple[int, Reason, tuple[str, ...]]:
        if current is not None and self._desired is not None and target <= self._desired < current:
            # Advised before and not yet done: keep saying it.
            reference = self._desired
            if target == reference:
                return reference, Reason.FORECAST_DOWN, clamped
        if self._lower_since is None:
            self._lower_since = now
        lowest = max(target, *(need for _, need, _ in self._needs))
        guarded = max(target, *(need for _, _, need in self._needs))
        running = current is not None and reference < current
        waiting = (Reason.FORECAST_DOWN if running else Reason.STABILISING, clamped)
        if now - self._lower_since < self.policy.scale_down_stabilisation_seconds:
            return reference, *waiting
        if guarded >= reference:  # fewer would do, with too little to spare
            return reference, Reason.FORECAST_DOWN if running else Reason.WITHIN_BAND, clamped
        floor = math.ceil(reference * self.policy.max_step_down_ratio) if reference > 1 else 0
        desired = max(lowest, min(floor, reference - 1))
        self._lower_since = now  # the next step down must prove itself again
        if desired > lowest:
            clamped = (*clamped, "max_step_down_ratio")
        return desired, Reason.FORECAST_DOWN, clamped

    def _remember(self, now: float, wanted: int, down_need: float) -> None:
        """Keep the needs of the stabilisation period."""
        plain, guarded = (self._limit(max(wanted, whole(down_need * by)))[0] for by in (1.0, _DOWN_MARGIN))
        self._needs.append((now, plain, guarded))
        while self._needs[0][0] < now - self.policy.scale_down_stabilisation_seconds:
            self._needs.popleft()

    def _observed_need(self, demand: Demand, plan: Plan) -> Need | None:
        rate = demand.observed_requests_per_second
        # The quantile of one value: refuses what cannot be.
        return None if rate is None else observed_need(demand_quantile((0.5,), (rate,), 0.5), plan)

    def _down_need(self, demand: Demand, plan: Plan) -> float:
        """Return the replicas that must remain after a scale-down: N/(N-1) of today's load must fit them too."""
        assert self._planner is not None
        level = max(_DOWN_LEVEL, self.policy.demand_quantile)
        return max(self._planner.needs(demand, level, plan.operating_point).values())

    def _limit(self, wanted: int) -> tuple[int, tuple[str, ...]]:
        if wanted > self.policy.max_replicas:
            return self.policy.max_replicas, ("max_replicas",)
        if wanted < self.policy.min_replicas:
            return self.policy.min_replicas, ("min_replicas",)
        return wanted, ()
