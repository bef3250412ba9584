"""What tests of the store are made with: events, deltas, and the balance of the ledger."""

from dataclasses import replace

from pipeline.alerts.types import Alert, AlertKind
from pipeline.events.codecs import native
from pipeline.events.request_event import RequestEvent
from pipeline.events.validation import EventLimits
from pipeline.windows.partition_folder import PartitionAggregator
from sizing.types import Confidence, Constraint, Reason, Recommendation, RecommendationState

NOW = 1_767_225_600
TOPIC = "requests"


def value(event_id, at=NOW, **changes):
    values = {
        "model": "m",
        "input_tokens": 10,
        "output_tokens": 5,
        "status": "ok",
        "arrived_at": float(at),
        "e2e_seconds": 2.0,
    }
    return native.encode(RequestEvent(event_id=event_id, **{**values, **changes}))


def delta(values, first=0, partition=0, **options):
    agg = PartitionAggregator(
        TOPIC, partition, "p", EventLimits(max_age_seconds=1e9), 100, options.pop("dimensions", ())
    )
    offsets = range(first, first + len(values))
    return agg.fold(values, offsets, [-1] * len(values), first, first + len(values), NOW + 1e6, **options)[0]


def balanced(store):
    rows = store.ledger()
    assert all(r["records"] == r["ignored"] + r["event_records"] + r["dead_letters"] for r in rows)
    assert sum(r["events"] for r in rows) == store.totals()["requests"]
    assert sum(r["dead_letters"] for r in rows) == len(store.dead_letters(10_000))


def advice(**changes):
    values = Recommendation(
        recommendation_id="r1", model="m", pool="p", generation=3, issued_at=NOW + 60.0, expires_at=NOW + 360.0,
        horizon_seconds=300.0, accelerator="H100", accelerators_per_replica=1, desired=4, lower=3, upper=5,
        min_replicas=1, max_replicas=8, current=None, direction="up", reason=Reason.FORECAST_UP, message="more",
        constraint=Constraint.KV_MEMORY, clamped_by=(), state=RecommendationState.FRESH,
        confidence=Confidence.CALIBRATED, confidence_ratio=0.9, evidence={"x": 1.5}, config_hash="abc",
    )  # fmt: skip
    return replace(values, **changes)


def alert(**changes):
    values = Alert(
        alert_id="a1", kind=AlertKind.SPIKE_OBSERVED, model="m", pool="p", raised_at=NOW + 60.0, onset_at=NOW + 50.0,
        ended_at=None, severity="warning", ratio=3.0, probability=None, message="up",
    )  # fmt: skip
    return replace(values, **changes)
