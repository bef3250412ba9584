"""Writing advice down: the words, the evidence and the record of one decision.

The decisions are those of ``sizing.scaling.controller``; nothing here changes a number of replicas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sizing.planning.demand_needs import OBSERVED_REQUESTS, Need, demand_quantile, replicas_text, whole
from sizing.planning.interval import scaled_interval
from sizing.planning.plan import Plan, within
from sizing.replica.replica_model import MAX_UTILISATION
from sizing.types import (
    Confidence,
    Constraint,
    Counterfactual,
    Demand,
    Deployment,
    PolicyConfig,
    Reason,
    Recommendation,
    RecommendationState,
    Slo,
)

__all__ = ["PLANNED_STATES", "Advice", "RecommendationBuilder", "explain", "moved", "observed_in", "widened"]

#: States of advice that follows from a plan. All other advice is held.
PLANNED_STATES = (RecommendationState.FRESH, RecommendationState.COLD_START)

_REASON_CLASS = {
    Reason.FORECAST_UP: "up",
    Reason.OBSERVED_UP: "up",
    Reason.FORECAST_DOWN: "down",
    Reason.WITHIN_BAND: "hold",
    Reason.STABILISING: "hold",
}


#: Where the evidence holds the demand of a currency, at the quantile that is planned for.
_DEMAND = {
    "requests": "demand_requests_per_second",
    "prefill_tokens": "demand_prefill_tokens_per_second",
    "decode_tokens": "demand_decode_tokens_per_second",
    "kv_tokens": "demand_kv_tokens",
}
_CAPACITY = {
    "requests": "capacity_requests_per_second_per_replica",
    "prefill_tokens": "capacity_prefill_tokens_per_second_per_replica",
    "decode_tokens": "capacity_decode_tokens_per_second_per_replica",
    "kv_tokens": "usable_kv_tokens_per_replica",
}


class Advice(NamedTuple):
    """What one decision came to, before it is written down."""

    desired: int
    lower: int
    upper: int
    reason: Reason
    state: RecommendationState
    message: str
    constraint: Constraint | None = None
    clamped_by: tuple[str, ...] = ()
    plan: Plan | None = None
    refused: bool = False


def moved(advice: Advice, desired: int, reason: Reason, message: str, clamped_by: tuple[str, ...] = ()) -> Advice:
    """Return advice with other replicas, within its interval, for another reason."""
    return advice._replace(
        desired=desired,
        lower=min(advice.lower, desired),
        upper=max(advice.upper, desired),
        reason=reason,
        message=message,
        clamped_by=clamped_by,
    )


def widened(advice: Advice, ratio: float, policy: PolicyConfig) -> Advice:
    """Return advice with an interval ``ratio`` times as wide as its plan's; advice that is held stays as it is."""
    plan = advice.plan
    if ratio == 1.0 or plan is None or advice.state not in PLANNED_STATES:
        return advice
    lower, upper = (within(whole(bound), policy) for bound in scaled_interval(*plan.interval, ratio))
    lower, upper = min(lower, advice.desired), max(upper, advice.desired)
    if lower == advice.lower and upper == advice.upper:
        return advice
    return advice._replace(lower=lower, upper=upper)


class RecommendationBuilder:
    """Turns decisions on one pool into recommendations; numbers their generations."""

    def __init__(
        self,
        model: str,
        pool: str,
        deployment: Deployment,
        slo: Slo,
        policy: PolicyConfig,
        config_hash: str,
        accelerator_label: str,
        confidence: Confidence,
    ) -> None:
        self.model = model
        self.pool = pool
        self.deployment = deployment
        self.slo = slo
        self.policy = policy
        self.config_hash = config_hash
        self.accelerator_label = accelerator_label
        self.confidence = confidence
        self._generation = 0
        self._signature: tuple[object, ...] | None = None

    def write(
        self,
        now: float,
        demand: Demand | None,
        current: int | None,
        before: int | None,
        advice: Advice,
        counterfactuals: tuple[Counterfactual, ...],
        evidence: Mapping[str, float],
    ) -> Recommendation:
        """Return the recommendation that says ``advice``; ``before`` is what was running or advised before it.

        ``evidence`` comes on top of that of the plan.
        """
        signature = (advice.desired, _REASON_CLASS.get(advice.reason, advice.reason), advice.state)
        if signature != self._signature:
            self._generation += 1
            self._signature = signature
        direction = "hold"
        if before is not None and advice.desired != before:
            direction = "up" if advice.desired > before else "down"
        # How narrow the interval is: 1 when lower and upper agree, 0 when nothing is known.
        ratio = max(advice.lower, 1) / max(advice.upper, 1) if advice.plan is not None else 0.0
        return Recommendation(
            recommendation_id=f"{self.model}|{self.pool}|{self._generation}",
            model=self.model,
            pool=self.pool,
            generation=self._generation,
            issued_at=now,
            expires_at=now + self.policy.ttl_seconds,
            horizon_seconds=demand.horizon_seconds if demand is not None else self.policy.lead_time_seconds,
            accelerator=self.accelerator_label,
            accelerators_per_replica=self.deployment.gpus,
            desired=advice.desired,
            lower=advice.lower,
            upper=advice.upper,
            min_replicas=self.policy.min_replicas,
            max_replicas=self.policy.max_replicas,
            current=current,
            direction=direction,
            reason=advice.reason,
            message=advice.message,
            constraint=advice.constraint,
            clamped_by=advice.clamped_by,
            state=advice.state,
            confidence=Confidence.REFUSED if advice.refused else self.confidence,
            confidence_ratio=ratio,
            evidence=self._evidence(demand, advice.plan) | dict(evidence),
            config_hash=self.config_hash,
            counterfactuals=counterfactuals,
        )

    def _evidence(self, demand: Demand | None, plan: Plan | None) -> dict[str, float]:
        evidence: dict[str, float] = {
            "lead_time_seconds": self.policy.lead_time_seconds,
            "demand_quantile": self.policy.demand_quantile,
            "slo_percentile": self.slo.percentile,
        }
        if self.slo.ttft_seconds is not None:
            evidence["slo_ttft_seconds"] = self.slo.ttft_seconds
        if self.slo.tpot_seconds is not None:
            evidence["slo_tpot_seconds"] = self.slo.tpot_seconds
        if plan is None or demand is None:
            return evidence
        for level in (0.1, 0.5, 0.9):
            value = demand_quantile(demand.levels, demand.requests_per_second, level)
            evidence[f"forecast_p{level * 100:.0f}_requests_per_second"] = value
        point = plan.operating_point
        needs = plan.needs
        if demand.observed_requests_per_second is not None:
            evidence["observed_requests_per_second"] = demand.observed_requests_per_second
            needs = (*needs, observed_need(demand.observed_requests_per_second, plan))
        for need in needs:
            evidence[f"replicas_needed_by_{need.currency}"] = need.exact
        if demand.provision is not None:
            evidence |= {f"rule_weight_{name}": weight for name, weight in demand.provision.weights}
        evidence |= {
            "capacity_requests_per_second_per_replica": point.requests_per_second,
            "capacity_prefill_tokens_per_second_per_replica": point.prefill_tokens_per_second,
            "capacity_decode_tokens_per_second_per_replica": point.decode_tokens_per_second,
            "usable_kv_tokens_per_replica": point.kv_capacity_tokens * MAX_UTILISATION,
        }
        for need in plan.needs:  # of the requests that are provisioned for, whatever the mean request is
            evidence |= {_DEMAND[need.currency]: need.demand, _CAPACITY[need.currency]: need.capacity}
        evidence |= {
            "horizon_seconds": demand.horizon_seconds,
            "capacity_kv_tokens_per_replica": point.kv_capacity_tokens,
            "saturation_requests_per_second_per_replica": point.saturation_requests_per_second,
            "predicted_ttft_seconds": point.at_slo.ttft_seconds,
            "predicted_tpot_seconds": point.at_slo.tpot_seconds,
            "input_tokens": demand.workload.input_tokens,
            "output_tokens": demand.workload.output_tokens,
            "cached_share": demand.workload.cached_share,
            "dispersion": demand.dispersion,
            "replicas_needed": float(plan.unclamped),
        }
        return evidence


def observed_need(rate: float, plan: Plan) -> Need:
    """Return what the observed rate needs, in requests/s, by what a replica of the plan carries of them."""
    return Need(OBSERVED_REQUESTS, rate, plan.needs[0].capacity)


def observed_in(demand: Demand, plan: Plan) -> Need | None:
    """Return what the observed rate of a demand needs; None: it is not known.

    Raises:
        InvalidInput: the rate cannot be.
    """
    rate = demand.observed_requests_per_second
    # The quantile of one value: refuses what cannot be.
    return None if rate is None else observed_need(demand_quantile((0.5,), (rate,), 0.5), plan)


def explain(
    plan: Plan,
    reason: Reason,
    desired: int,
    current: int | None,
    observed: Need | None,
    lower_for_seconds: float,
    policy: PolicyConfig,
) -> str:
    """Return the sentence that goes with a decision: the plan's own words and what the controller made of them.

    ``observed`` is the need by observed demand when that exceeds the forecast's; ``lower_for_seconds`` is how long the
    need has been lower.
    """
    text = plan.message
    if observed is not None:
        rate, capacity = observed.figures()
        text = (
            f"observed {rate} {observed.unit} needs {replicas_text(observed.replicas)} "
            f"({capacity} {observed.unit} each), more than forecast"
        )
    if current is not None:
        text += f"; now {current}"
    if reason is Reason.STABILISING:
        wait = policy.scale_down_stabilisation_seconds
        text += f"; lower need for {lower_for_seconds:.0f} of {wait:.0f} s, holding {desired}"
    elif reason is Reason.STEP_LIMIT:
        text += f"; a step goes to {desired} at most"
    elif reason is Reason.MAX_REPLICAS:
        text += f"; the maximum is {desired}"
    elif desired != plan.unclamped:
        text += f"; advising {desired}"
    return text
