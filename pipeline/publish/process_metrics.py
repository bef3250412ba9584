"""What ``/metrics`` says of the process and of what its store has counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pipeline
from pipeline.events.convert import TOKENS
from pipeline.events.request_event import RejectReason
from pipeline.publish.exposition import Sample
from pipeline.publish.health import PipelineHealth
from pipeline.publish.state import LiveState
from pipeline.publish.status import bridged_pools

__all__ = ["process_samples"]

#: Counters whose totals are kept in the store, and outlive the process.
_OF_THE_STORE = {
    *("events_consumed_total", "events_accepted_total", "events_rejected_total", "events_duplicate_total"),
    *("events_ignored_total", "event_parts_ignored_total", "event_parts_rejected_total", "event_ids_reused_total"),
    *("unknown_fields_total", "records_by_codec_total", "events_late_total", "events_lost_total", "deltas_total"),
}


def process_samples(live: LiveState, pools: int, no_rule_errors: Mapping[str, int]) -> Iterator[Sample]:
    """Return the samples of no pool: what may differ from one scrape to the next.

    ``pools`` is how many there are, ``no_rule_errors`` the alert rules in force, each with 0.
    """
    health, now = live.health(), live.now()
    # A 0 before the totals that the store keeps would look like an increase by all that was ever counted.
    yield from (sample for sample in _health(health) if health.ledger_known or sample[0] not in _OF_THE_STORE)
    for rule, count in sorted((dict(no_rule_errors) | dict(health.alert_rule_errors)).items()):
        yield "alert_rule_errors_total", (rule,), count
    yield "clock_timestamp_seconds", (), now
    if health.watermark is not None:
        yield "watermark_lag_seconds", (), max(0.0, now - health.watermark)
    yield "pools", (), pools
    if live.fleet is not None:
        from pipeline.publish.fleet_metrics import fleet_samples

        yield from fleet_samples(live.fleet)
    yield "build_info", (pipeline.__version__,), 1
    yield "config_info", (live.config_hash,), 1


def _notes(health: PipelineHealth) -> Iterator[Sample]:
    """What records held besides their events; counters of a known set of labels begin at 0."""
    notes = health.event_notes
    yield "events_ignored_total", (), health.ignored
    yield "event_parts_ignored_total", (), notes.get("ignored_part", {}).get("", 0)
    for reason in RejectReason:
        yield "event_parts_rejected_total", (reason.value,), notes.get("refused_part", {}).get(reason.value, 0)
    yield "event_ids_reused_total", (), notes.get("reused_id", {}).get("", 0)
    for name, count in sorted((dict.fromkeys(TOKENS, 0) | dict(notes.get("unknown", {}))).items()):
        yield "unknown_fields_total", (name,), count
    for codec, count in sorted(notes.get("codec", {}).items()):
        yield "records_by_codec_total", (codec,), count
    for told in bridged_pools(notes):
        yield "bridge_requests", (told.model, told.pool, "counted"), told.counted
        yield "bridge_requests", (told.model, told.pool, "ignored"), told.ignored


def _health(health: PipelineHealth) -> Iterator[Sample]:
    yield "ready", (), int(health.ready)
    yield "events_consumed_total", (), health.records
    yield "events_accepted_total", (), health.events
    rejected = dict.fromkeys(map(str, RejectReason), 0) | dict(health.dead_letters)
    for reason, count in sorted(rejected.items()):  # from 0, so that rates see the first ones
        yield "events_rejected_total", (reason,), count
    yield "events_duplicate_total", (), health.duplicates
    yield from _notes(health)
    yield "events_late_total", (), health.late
    yield "events_lost_total", (), health.lost
    yield "events_unknown_model_total", (), health.unknown_model_events
    for outcome, count in sorted(health.exogenous_rows.items()):
        yield "exogenous_rows_total", (outcome,), count
    if health.unknown_models is not None:
        yield "unknown_model_requests_ratio", (), health.unknown_models.requests_ratio
        for found in health.unknown_models.models:
            labels = (found.model, found.pool, *(found.similar or ("", "")))
            yield "unknown_model_similar_pool_ratio", labels, found.requests_ratio
    yield "sink_dropped_total", (), health.sink_dropped
    yield "fleet_reports_rejected_total", (), health.fleet_reports_rejected
    yield "deltas_total", ("applied",), health.deltas_applied
    yield "deltas_total", ("dropped",), health.deltas_dropped
    yield "delta_gaps_total", (), health.delta_gaps
    yield "watermark_timestamp_seconds", (), health.watermark
    for server, offset in sorted(health.server_clock_offsets.items()):
        yield "server_clock_offset_seconds", (server,), offset
    for (topic, partition), records in sorted(health.lag_records.items()):
        yield "consumer_lag_records", (topic, str(partition)), records
    yield "store_write_duration_seconds", (), health.store_write_seconds
    for stage, at in sorted(health.last_success.items()):
        yield "stage_last_success_timestamp_seconds", (stage,), at
