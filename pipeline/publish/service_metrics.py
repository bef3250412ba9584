"""Metrics of how requests are served, and of what a recommendation rests on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pipeline.engine.input_health import CHECKS
from pipeline.engine.slo_record import SPANS
from pipeline.engine.types import Scorecard
from pipeline.publish.exposition import Sample
from pipeline.windows.service import Service
from pipeline.windows.types import ClosedWindow

__all__ = ["evidence_samples", "score_samples", "service_samples"]

#: The labels of latencies, and the fields that hold them.
_LATENCIES = {name.removesuffix("_seconds"): name for name in Service._fields if name.endswith("_seconds")}


def service_samples(window: ClosedWindow, seconds: float) -> Iterator[Sample]:
    """Yield what a window says about its requests, counted over ``seconds``, and about the fleet."""
    fleet = window.fleet if window.current_replicas is not None else None  # else its report is too old
    if fleet is not None:
        yield "queued_requests", (), fleet.queued_requests
        yield "running_requests", (), fleet.running_requests
    yield "reporting_servers", (), window.servers
    if window.service is None:
        return
    for label, name in _LATENCIES.items():
        quantiles = getattr(window.service, name)
        if quantiles is not None:
            for band, value in quantiles._asdict().items():
                yield "observed_latency_seconds", (label, band), value
    if window.service.counts is not None:
        for outcome, count in window.service.counts._asdict().items():
            yield "service_requests_per_second", (outcome,), count / seconds


def score_samples(cards: Iterable[Scorecard]) -> Iterator[Sample]:
    """Yield how good past advice on a pool was: over a day and a month, the API tells more."""
    for card in (card for card in cards if card.span in ("1d", "30d")):
        yield "advice_scored", (card.span,), card.scored
        yield "advice_too_low_ratio", (card.span,), card.too_low_ratio
        yield "advice_too_high_ratio", (card.span,), card.too_high_ratio
        yield "advice_interval_coverage_ratio", (card.span,), card.interval_coverage_ratio
        yield "advice_regret_replica_seconds", (card.span, "under"), 3_600 * card.under_replica_hours
        yield "advice_regret_replica_seconds", (card.span, "over"), 3_600 * card.over_replica_hours
        yield "advice_unserved_requests", (card.span,), card.unserved_requests
        yield "advice_followed_ratio", (card.span,), card.followed_ratio
        yield "advice_lead_time_met_ratio", (card.span,), card.lead_time_met_ratio


def evidence_samples(evidence: Mapping[str, float]) -> Iterator[Sample]:
    """Yield the lead time, the problems of the inputs, and how the objective has been met."""
    yield "lead_time_seconds", (), evidence.get("lead_time_seconds")
    yield "start_up_p90_seconds", (), evidence.get("start_up_p90_seconds")
    for label in ("ttft", "tpot"):
        yield "predicted_latency_seconds", (label,), evidence.get(f"predicted_{label}_seconds")
    objective = evidence.get("slo_percentile")
    yield "slo_objective_ratio", (), objective
    for span in SPANS:
        attained = evidence.get(f"slo_attainment_{span}_ratio")
        yield "slo_attainment_ratio", (span,), attained
        if attained is not None and objective is not None and objective < 1:
            yield "slo_burn_rate_ratio", (span,), (1 - attained) / (1 - objective)
    for check in CHECKS:
        if f"input_problem_{check}" in evidence:
            yield "recommendation_input_problem", (check,), 1
