"""What ``/v1/status`` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pipeline
from pipeline.publish.views import Snapshot
from pipeline.windows.types import PoolKey
from pipeline.windows.unknown_models import UnknownDemand

__all__ = ["BridgedPool", "bridged_data", "bridged_keys", "bridged_pools", "status_data", "unknown_models_data"]


class BridgedPool(NamedTuple):
    """Requests of a pool that a bridge told of: those that count, and those ignored because the pool has events."""

    model: str
    pool: str
    counted: int
    ignored: int

    @property
    def key(self) -> PoolKey:
        """The pool."""
        return PoolKey(self.model, self.pool)


def bridged_pools(notes: Mapping[str, Mapping[str, int]]) -> list[BridgedPool]:
    """Return the pools that a bridge told of, by name; ``notes`` are the store's (``StoreReaders.event_notes``)."""
    counted, ignored = notes.get("bridge_counted", {}), notes.get("bridge_ignored", {})
    found = []
    for name in sorted({*counted, *ignored}):
        model, _, pool = name.rpartition("|")
        found.append(BridgedPool(model, pool, max(counted.get(name, 0), 0), ignored.get(name, 0)))
    return found


def bridged_keys(notes: Mapping[str, Mapping[str, int]]) -> set[PoolKey]:
    """Return the pools whose demand comes from a bridge alone: there are no request events of them."""
    return {told.key for told in bridged_pools(notes) if not told.ignored}


def bridged_data(notes: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """Return the pools that a bridge told of; ``ignored_requests`` above 0: the pool has events, they alone count."""
    return [
        {
            "model": told.model,
            "pool": told.pool,
            "counted_requests": told.counted,
            "ignored_requests": told.ignored,
            "has_events": told.ignored > 0,
        }
        for told in bridged_pools(notes)
    ]


def unknown_models_data(demand: UnknownDemand | None) -> dict[str, Any] | None:
    """Return the demand of models without settings, each with the pool that it looks like; None: not known."""
    if demand is None:
        return None
    return {
        "requests_ratio": demand.requests_ratio,
        "models": [
            {
                "model": found.model,
                "pool": found.pool,
                "requests_ratio": found.requests_ratio,
                "similar_pool": found.similar and found.similar._asdict(),
            }
            for found in demand.models
        ],
    }


def status_data(snapshot: Snapshot) -> dict[str, Any]:
    """Return the state of the pipeline as plain data: event time, ledger, lag, stages."""
    health, speed, progress = snapshot.health, snapshot.speed, snapshot.progress
    lag = None if health.watermark is None else max(0.0, snapshot.now - health.watermark)
    return {
        "version": pipeline.__version__,
        "now": snapshot.now,
        "as_of": snapshot.as_of,
        "advised_at": snapshot.advised_at,
        "config_hash": snapshot.config_hash,
        "ready": health.ready,
        "starting": health.starting,
        "detail": health.detail,
        "watermark": health.watermark,
        "watermark_lag_seconds": lag,
        "speed": speed and {"actual": speed.actual, "target": speed.target},
        "progress": progress
        and {"task": progress.task, "share": progress.share, "remaining_seconds": progress.remaining_seconds},
        "ledger": {
            "records": health.records,
            "events": health.events,
            "duplicates": health.duplicates,
            "dead_letters": dict(health.dead_letters),
            "dead_letters_total": health.dead_letters_total,
            "late": health.late,
            "lost": health.lost,
            "ignored": health.ignored,
            "event_records": health.event_records,
            "unknown_fields": dict(health.event_notes.get("unknown", {})),
            "codecs": dict(health.event_notes.get("codec", {})),
            "unknown_model_events": health.unknown_model_events,
        },
        "unknown_models": unknown_models_data(health.unknown_models),
        "bridged_pools": bridged_data(health.event_notes),
        "deltas": {"applied": health.deltas_applied, "dropped": health.deltas_dropped, "gaps": health.delta_gaps},
        "server_clock_offsets": [
            {"server": server, "offset_seconds": ahead} for server, ahead in sorted(health.server_clock_offsets.items())
        ],
        "lag_records": [
            {"topic": topic, "partition": partition, "records": records}
            for (topic, partition), records in sorted(health.lag_records.items())
        ],
        "last_success": dict(health.last_success),
        "store_write_seconds": health.store_write_seconds,
        "pools": snapshot.pool_count,
        "active_alerts": sum(alert.ended_at is None for alert in snapshot.alerts),
        "steps": snapshot.counters.steps,
    }
